//! What accesses, page faults and moves of the heap's end should lead to.

use std::ops::Range;
use std::rc::Rc;

use ampoule_vmm::address_map::USER_END;
use ampoule_vmm::{FaultAccess, GuestVirt, PAGE_SIZE};

use super::{HEAP, Model, PAGE, Page, STACK, STACK_TOP};
use crate::address_space::{BadAddress, FaultResolution, MappingKind, Protection};

/// How the stack grows for an access.
enum Growth {
    By(Range<u64>),
    OutOfFrames,
    /// It does not.
    No,
}

impl Model {
    /// The heap's end should be moved; it is at `found` then.
    pub(super) fn move_heap_end(&mut self, to: GuestVirt, found: GuestVirt) {
        let [old, new] = [self.heap_end, to.0].map(|end| end.div_ceil(PAGE));
        let growth = old..new.max(old);
        let mut can_move = (HEAP..=USER_END.0).contains(&to.0);
        if can_move && !growth.is_empty() {
            let has_room = self.is_vacant(&growth);
            let has_frames = growth.end - growth.start <= self.free_frames();
            self.ran_out |= has_room && !has_frames;
            can_move = has_room && has_frames;
            if can_move && !self.has_ample_tables() && found.0 == self.heap_end {
                return;
            }
        }
        if can_move {
            self.heap_end = to.0;
            self.pages.retain(|index, _| !(new..old.max(new)).contains(index));
            self.forget_unseen();
            self.insert(growth, &Page::fresh(MappingKind::Heap, Protection::ReadWrite));
        }
        assert_eq!(found.0, self.heap_end);
    }

    /// A page fault has been resolved.
    pub(super) fn fault(&mut self, at: GuestVirt, access: FaultAccess, found: FaultResolution) {
        let growth = match self.pages.get(&(at.0 / PAGE)) {
            Some(page) if page.is_accessible() && page.protection.allows(access) => Growth::By(0..0),
            _ if access == FaultAccess::Execute => Growth::No,
            _ => self.growth(at.0 / PAGE),
        };
        match growth {
            Growth::By(range) if range.is_empty() => assert_eq!(found, FaultResolution::Allowed),
            Growth::By(range) if found == FaultResolution::Grown => self.grow(range),
            Growth::By(_) => {
                assert_eq!(found, FaultResolution::OutOfMemory);
                assert!(!self.has_ample_tables());
            }
            Growth::OutOfFrames => {
                assert_eq!(found, FaultResolution::OutOfMemory);
                self.ran_out = true;
            }
            Growth::No => assert_eq!(found, FaultResolution::Denied),
        }
    }

    /// Bytes have been written for the guest, as far as that is possible.
    pub(super) fn write(&mut self, at: GuestVirt, bytes: &[u8], found: Result<(), BadAddress>) {
        let mut expected = Ok(());
        let mut done = 0;
        while done < bytes.len() {
            let here = GuestVirt(at.0.wrapping_add(done as u64));
            if !self.is_writable(here) {
                match self.growth(here.0 / PAGE) {
                    // The tables may have been too few.
                    Growth::By(_) if !self.has_ample_tables() && found == Err(BadAddress { address: here }) => {}
                    Growth::By(range) => self.grow(range),
                    Growth::OutOfFrames => self.ran_out = true,
                    Growth::No => {}
                }
            }
            if !self.is_writable(here) {
                expected = Err(BadAddress { address: here });
                break;
            }
            let part = (bytes.len() - done).min(PAGE_SIZE - here.page_offset());
            self.store(here, &bytes[done..done + part]);
            done += part;
        }
        assert_eq!(found, expected);
    }

    /// Bytes have been read for the guest, as far as that is possible.
    pub(super) fn read(&self, at: GuestVirt, read: &[u8], found: Result<(), BadAddress>) {
        let mut done = 0;
        while done < read.len() {
            let here = GuestVirt(at.0.wrapping_add(done as u64));
            let page = self.pages.get(&(here.0 / PAGE)).filter(|page| page.protection.is_readable());
            let Some(contents) = page.and_then(|page| self.contents_of(page)) else {
                assert_eq!(found, Err(BadAddress { address: here }));
                return;
            };
            let part = (read.len() - done).min(PAGE_SIZE - here.page_offset());
            assert!(read[done..done + part] == contents[here.page_offset()..here.page_offset() + part]);
            done += part;
        }
        assert_eq!(found, Ok(()));
    }

    pub(super) fn is_writable(&self, at: GuestVirt) -> bool {
        self.pages.get(&(at.0 / PAGE)).is_some_and(|page| page.is_accessible() && page.protection.is_writable())
    }

    /// Changes what a page that has a frame holds.
    pub(super) fn store(&mut self, at: GuestVirt, bytes: &[u8]) {
        let page = self.pages.get_mut(&(at.0 / PAGE)).expect("a page that can be written is mapped");
        let contents = match page.shared() {
            Some(of) => self.shared.frames.get_mut(&of).map(|frame| &mut frame.now),
            None => page.contents.as_mut(),
        };
        let page = Rc::make_mut(contents.expect("a page that can be written has a frame"));
        page[at.page_offset()..at.page_offset() + bytes.len()].copy_from_slice(bytes);
    }

    fn grow(&mut self, range: Range<u64>) {
        self.insert(range, &Page::fresh(MappingKind::Stack, Protection::ReadWrite));
    }

    /// By as many pages as are in use already, and 32 at least, or by those down to the page where there is no memory or room
    /// for more.
    fn growth(&self, page: u64) -> Growth {
        if !STACK.contains(&page) {
            return Growth::No;
        }
        let Some((&used, Page { kind: MappingKind::Stack, .. })) = self.pages.range(page..STACK_TOP).next() else {
            return Growth::No;
        };
        if used == page {
            return Growth::No;
        }
        let ample = used.saturating_sub((STACK_TOP - used).max(32)).max(STACK.start).min(page)..used;
        let least = page..used;
        let can_be = |range: &Range<u64>| self.is_unmapped(range) && range.end - range.start <= self.free_frames();
        [ample, least].into_iter().find(can_be).map_or(Growth::OutOfFrames, Growth::By)
    }
}
