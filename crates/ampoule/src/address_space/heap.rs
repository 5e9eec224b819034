//! The heap that `brk` grows and shrinks.

use ampoule_vmm::GuestVirt;
use ampoule_vmm::address_map::USER_END;

use crate::page::Page;

use super::mapping::Mapping;
use super::{AddressSpace, MappingKind, Protection};

/// The bytes from the start of the heap to the break. The pages up to the one that holds the last byte are mapped, unless
/// the guest has unmapped them in another way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heap {
    start: u64,
    end: u64,
}

impl Heap {
    pub(super) fn record(&self) -> [u64; 2] {
        [self.start, self.end]
    }

    /// `None` where it is no range of the guest's addresses that begins with a page.
    pub(super) fn of_record([start, end]: [u64; 2]) -> Option<Self> {
        let is_heap = GuestVirt(start).is_page_aligned() && start <= end && end <= USER_END.0;
        is_heap.then_some(Self { start, end })
    }
}

impl AddressSpace {
    /// Says where the heap begins: at the start of a page, behind the image.
    pub(crate) fn place_heap(&mut self, start: GuestVirt) {
        debug_assert!(start.is_page_aligned());
        self.layout_mut().heap = Heap { start: start.0, end: start.0 };
    }

    /// The end of the heap.
    pub(crate) fn heap_end(&self) -> GuestVirt {
        GuestVirt(self.layout.heap.end)
    }

    /// Moves the end of the heap to `end` if that is possible, and returns where the end is then, as `brk` does.
    pub(crate) fn move_heap_end(&mut self, end: GuestVirt) -> GuestVirt {
        let heap = self.layout.heap;
        if (GuestVirt(heap.start)..=USER_END).contains(&end) && self.resize_heap(heap, end.0) {
            self.layout_mut().heap.end = end.0;
        }
        self.heap_end()
    }

    fn resize_heap(&mut self, heap: Heap, end: u64) -> bool {
        let [old, new] = [heap.end, end].map(|end| Page(end.div_ceil(super::PAGE)));
        if new < old {
            return self.unmap_pages(&(new..old)).is_ok();
        }
        if new == old {
            return true;
        }
        let growth = old..new;
        if self.layout.stack.reserves(&growth) {
            return false;
        }
        debug_assert!(growth.start >= Page::of(GuestVirt(heap.start)));
        let mapping = Mapping { kind: MappingKind::Heap, protection: Protection::ReadWrite };
        self.map_vacant(growth, mapping).is_ok()
    }
}
