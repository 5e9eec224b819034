//! Comparing an address space with what it should be.

use std::collections::BTreeSet;

use ampoule_vmm::address_map::{USER_END, USER_START};
use ampoule_vmm::{GuestPhys, GuestVirt, PAGE_SIZE, PageAccess};

use super::{ARENA, FRAMES, GUARD, Model, PAGE, Page, RAM_BASE, STACK, STACK_TOP};
use crate::address_space::{AddressSpace, Location};
use crate::page::{Frame, Page as PageNumber};

impl Model {
    /// Compares all that there is, and what the page tables and the free frames should hold.
    pub(super) fn compare(&self, space: &mut AddressSpace) {
        let mapped = space.mappings().flat_map(|(range, ..)| range.start.0 / PAGE..range.end.0 / PAGE);
        assert!(mapped.eq(self.pages.keys().copied()));
        assert_eq!(space.memory_total(), FRAMES as u64 * PAGE);
        assert_eq!(space.memory_free(), self.free_frames() * PAGE);
        assert_eq!(space.heap_end(), GuestVirt(self.heap_end));
        assert_eq!(space.ran_out_of_memory(), self.ran_out);
        let mut used = BTreeSet::new();
        for (index, page) in &self.pages {
            compare_page(space, *index, page, &mut used);
        }
        let beside_stack = (GUARD - 1..GUARD + 1).chain(STACK.start - 2..USER_END.0 / PAGE);
        for index in (ARENA.start - 16..ARENA.end + 16).chain(beside_stack) {
            if !self.pages.contains_key(&index) {
                assert_eq!(space.describe(address(index)), Location::Unmapped);
                assert_eq!(space.tables.translate(address(index)), None);
            }
        }
        for frame in (0..FRAMES as u64).map(Frame).filter(|frame| !used.contains(&frame.0)) {
            assert!(contents(space, frame) == [0; PAGE_SIZE], "a free frame holds zeros");
        }
        for range in [ARENA, STACK, STACK_TOP - 1..STACK_TOP, USER_START.0 / PAGE..USER_END.0 / PAGE] {
            let len = (range.end - range.start) * PAGE;
            assert_eq!(space.is_mapped(address(range.start), len), Some(self.is_full(&range)));
        }
    }
}

fn compare_page(space: &AddressSpace, index: u64, page: &Page, used: &mut BTreeSet<u64>) {
    let at = address(index);
    assert_eq!(space.describe(at), Location::Mapped { kind: page.kind, protection: page.protection });
    let number = PageNumber(index);
    let frame = space.layout.backing.get(number).map(|(range, first)| first.0 + (number - range.start));
    assert_eq!(frame.is_some(), page.contents.is_some());
    if let (Some(frame), Some(expected)) = (frame, &page.contents) {
        assert!(used.insert(frame.0), "{frame:?} is used twice");
        assert!(contents(space, frame) == **expected, "the page at {at}");
    }
    let access = PageAccess { write: page.protection.is_writable(), execute: page.protection.is_executable() };
    let expected =
        frame.filter(|_| page.protection.is_readable()).map(|frame| (GuestPhys(RAM_BASE.0 + frame.0 * PAGE), access));
    assert_eq!(space.tables.translate(at), expected);
    assert_eq!(page.protection.is_readable(), expected.is_some());
}

fn contents(space: &AddressSpace, frame: Frame) -> [u8; PAGE_SIZE] {
    let mut bytes = [0; PAGE_SIZE];
    space.memory.region().read(space.memory.frame_offset(frame), &mut bytes).expect("the frame is in the region");
    bytes
}

fn address(page: u64) -> GuestVirt {
    GuestVirt(page * PAGE)
}
