//! Comparing an address space with what it should be.

use std::collections::BTreeMap;

use ampoule_vmm::address_map::{USER_END, USER_START};
use ampoule_vmm::{GuestPhys, GuestVirt, PAGE_SIZE, PageAccess};

use super::file;
use super::{ARENA, FRAMES, GUARD, Model, PAGE, Page, RAM_BASE, STACK, STACK_TOP};
use crate::address_space::{AddressSpace, Location, MappingKind};
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
        let mut used = BTreeMap::new();
        for (index, page) in &self.pages {
            self.compare_page(space, *index, page, &mut used);
        }
        let beside_stack = (GUARD - 1..GUARD + 1).chain(STACK.start - 2..USER_END.0 / PAGE);
        for index in (ARENA.start - 16..ARENA.end + 16).chain(beside_stack) {
            if !self.pages.contains_key(&index) {
                assert_eq!(space.describe(address(index)), Location::Unmapped);
                assert_eq!(space.tables.translate(address(index)), None);
            }
        }
        for frame in (0..FRAMES as u64).map(Frame).filter(|frame| !used.contains_key(&frame.0)) {
            assert!(contents(space, frame) == [0; PAGE_SIZE], "a free frame holds zeros");
        }
        for range in [ARENA, STACK, STACK_TOP - 1..STACK_TOP, USER_START.0 / PAGE..USER_END.0 / PAGE] {
            let len = (range.end - range.start) * PAGE;
            assert_eq!(space.is_mapped(address(range.start), len), Some(self.is_full(&range)));
        }
    }

    fn compare_page(&self, space: &AddressSpace, index: u64, page: &Page, used: &mut BTreeMap<u64, Option<u64>>) {
        let at = address(index);
        let Location::Mapped { kind, protection } = space.describe(at) else { panic!("nothing is mapped at {at}") };
        let inode = |id| space.mapped_file(id).expect("a file that is mapped is known").inode;
        let expected = match page.kind {
            MappingKind::File(of) if page.shared().is_some() && !page.is_shown => MappingKind::BehindFile(of),
            kind => kind,
        };
        assert_eq!(file::comparable(kind, inode), file::comparable(expected, file::number_of));
        assert_eq!(protection, page.protection);
        let number = PageNumber(index);
        let frame = space.layout.backing.get(number).map(|(range, first)| first.0 + (number - range.start));
        let held = self.contents_of(page);
        assert_eq!(frame.is_some(), held.is_some());
        if let (Some(frame), Some(expected)) = (frame, held) {
            // Only pages of a shared file are seen in several places.
            let before = used.insert(frame.0, page.shared());
            assert!(before.is_none_or(|of| of.is_some() && of == page.shared()), "{frame:?} is used twice");
            assert!(contents(space, frame) == *expected, "the page at {at}");
        }
        let access = PageAccess { write: page.protection.is_writable(), execute: page.protection.is_executable() };
        let expected = frame
            .filter(|_| page.protection.is_readable())
            .map(|frame| (GuestPhys(RAM_BASE.0 + frame.0 * PAGE), access));
        assert_eq!(space.tables.translate(at), expected);
        assert_eq!(page.is_accessible(), expected.is_some());
    }
}

fn contents(space: &AddressSpace, frame: Frame) -> [u8; PAGE_SIZE] {
    let mut bytes = [0; PAGE_SIZE];
    space.memory.region().read(space.memory.frame_offset(frame), &mut bytes).expect("the frame is in the region");
    bytes
}

fn address(page: u64) -> GuestVirt {
    GuestVirt(page * PAGE)
}
