//! The memory slots of a virtual machine, and which of their pages the guest has written.
//!
//! 1. A page of a tracked slot is write-protected for the guest, or in one of the vCPUs' rings, or among the slot's
//!    [`unprotected`](Slot::unprotected) pages. So a write to it is either recorded, or the page was reported before and has
//!    not been forgotten since.
//! 2. Entries go back to the kernel only when a ring is full or pages are to be forgotten. Pages that are not to be
//!    forgotten stay writable then, so that each is faulted once, however small the rings are.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use crate::address::{GuestPhys, PAGE_SIZE};
use crate::hypervisor::{HypervisorError, Operation, WriteTracking};
use crate::memory::{Region, RevokeError};
use crate::page_set::PageSet;

use super::dirty_ring::{DirtyRing, Protection, SlotPage};

#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: BTreeMap<u32, Slot>,
    rings: Vec<DirtyRing>,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) at: GuestPhys,
    pub(super) region: Arc<Region>,
    /// Whether the kernel shows the region to the guest: false if it could not be shown again after a flush.
    pub(super) is_shown: bool,
    pub(super) tracking: WriteTracking,
    /// Pages that were read out of a ring and have not been reported.
    unreported: Option<PageSet>,
    /// Pages that the guest can write untracked, because their entries have gone back to the kernel.
    unprotected: Option<PageSet>,
}

impl Slots {
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.slots.contains_key(&slot)
    }

    /// Records that a region was mapped in a free slot.
    pub(super) fn insert(&mut self, slot: u32, at: GuestPhys, region: Arc<Region>, tracking: WriteTracking) {
        self.slots.insert(slot, Slot { at, region, is_shown: true, tracking, unreported: None, unprotected: None });
    }

    pub(super) fn is_shown(&self, slot: u32) -> bool {
        self.slots.get(&slot).is_some_and(|slot| slot.is_shown)
    }

    pub(super) fn in_use(&mut self, number: u32) -> Result<&mut Slot, HypervisorError> {
        self.slots.get_mut(&number).ok_or(HypervisorError::SlotEmpty { slot: number })
    }

    /// Records that the region of a slot was unmapped.
    pub(super) fn remove(&mut self, slot: u32) {
        // What the rings still hold of this slot must not be taken for writes to the next region.
        self.read_rings();
        self.slots.remove(&slot);
    }

    pub(super) fn add_ring(&mut self, ring: DirtyRing) {
        self.rings.push(ring);
    }

    /// See [`Vm::collect_written`](crate::hypervisor::Vm::collect_written).
    pub(super) fn collect_written(&mut self, slot: u32, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.read_rings();
        if let Some(unreported) = self.tracked(slot, pages)?.unreported.take() {
            pages.insert_all(&unreported);
        }
        Ok(())
    }

    /// See [`Vm::forget_written`](crate::hypervisor::Vm::forget_written). `vm` is the virtual machine's descriptor.
    pub(super) fn forget_written(
        &mut self,
        vm: BorrowedFd<'_>,
        slot: u32,
        pages: &PageSet,
    ) -> Result<(), HypervisorError> {
        self.tracked(slot, pages)?;
        self.read_rings();
        let taken = self
            .give_back(vm, |of| of.slot == slot && pages.contains(of.page as usize))
            .map_err(|reason| refused(reason, Operation::ForgetWrittenPages))?;
        let slot = self.tracked(slot, pages)?;
        if taken == Taken::InPieces {
            slot.unprotected.get_or_insert_with(|| PageSet::new(pages.capacity())).insert_all(pages);
        }
        slot.protect(pages).map_err(|error| match error {
            RevokeError::Protect(reason) => refused(reason, Operation::ForgetWrittenPages),
            RevokeError::OutOfRegion(error) => refused(io::Error::other(error), Operation::ForgetWrittenPages),
        })?;
        // Comes last: where a page could not be protected, what was written to it is still to be reported.
        if let Some(unreported) = &mut slot.unreported {
            pages.iter().for_each(|page| unreported.remove(page));
        }
        Ok(())
    }

    /// Makes room in the rings. `vm` is the virtual machine's descriptor.
    pub(super) fn make_room(&mut self, vm: BorrowedFd<'_>) -> Result<(), HypervisorError> {
        self.read_rings();
        self.give_back(vm, |_| false).map(drop).map_err(|reason| refused(reason, Operation::ReadWrittenPages))
    }

    /// A slot whose writes are tracked and whose size is that of `pages`.
    fn tracked(&mut self, number: u32, pages: &PageSet) -> Result<&mut Slot, HypervisorError> {
        let slot = self.in_use(number)?;
        if slot.tracking == WriteTracking::Off {
            return Err(HypervisorError::WritesNotTracked { slot: number });
        }
        let expected = slot.region.len() / PAGE_SIZE;
        if expected != pages.capacity() {
            return Err(HypervisorError::SlotSize { slot: number, pages: expected, given: pages.capacity() });
        }
        Ok(slot)
    }

    fn read_rings(&mut self) {
        for ring in &mut self.rings {
            ring.read_new(|SlotPage { slot, page }| {
                if let Some(slot) = self.slots.get_mut(&slot) {
                    mark(&mut slot.unreported, page, &slot.region);
                }
            });
        }
    }

    /// Gives back all entries that were read. Pages are protected again where `protect` says so, except for the last one of
    /// each ring, and perhaps for others where the kernel took the entries in pieces.
    ///
    /// Since 6.16 Linux stops for a signal, and then forgets to protect the pages of the up to 64 entries that it took last.
    /// If these are the last of all, nothing shows that, so the last entry has to be one whose page the kernel need not
    /// protect.
    fn give_back(&mut self, vm: BorrowedFd<'_>, protect: impl Fn(SlotPage) -> bool) -> io::Result<Taken> {
        for ring in &mut self.rings {
            ring.give_back(|of, is_last| {
                if protect(of) && !is_last {
                    return Protection::Restored;
                }
                if let Some(slot) = self.slots.get_mut(&of.slot) {
                    mark(&mut slot.unprotected, of.page, &slot.region);
                }
                Protection::Lifted
            });
        }
        let mut taken = Taken::AtOnce;
        loop {
            reset_rings(vm)?;
            if self.rings.iter_mut().all(|ring| ring.is_taken()) {
                return Ok(taken);
            }
            taken = Taken::InPieces;
        }
    }
}

/// How the kernel took the entries that were given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    AtOnce,
    /// Something stopped it, perhaps repeatedly.
    InPieces,
}

impl Slot {
    /// Protects pages again that the kernel no longer has entries for.
    fn protect(&mut self, pages: &PageSet) -> Result<(), RevokeError> {
        let Some(unprotected) = &mut self.unprotected else { return Ok(()) };
        let mut rest = pages.iter().filter(|page| unprotected.contains(*page)).peekable();
        let mut protected = Vec::new();
        while let Some(first) = rest.next() {
            let mut end = first + 1;
            while rest.next_if_eq(&end).is_some() {
                end += 1;
            }
            self.region.revoke(first * PAGE_SIZE, (end - first) * PAGE_SIZE)?;
            protected.push(first..end);
        }
        protected.into_iter().flatten().for_each(|page| unprotected.remove(page));
        Ok(())
    }
}

/// Adds a page to a set of a region's pages. An entry can be older than the region that is in the slot: its page is skipped
/// where the region has none of that number, and otherwise reported needlessly.
fn mark(set: &mut Option<PageSet>, page: u64, region: &Region) {
    let pages = region.len() / PAGE_SIZE;
    if page < pages as u64 {
        set.get_or_insert_with(|| PageSet::new(pages)).insert(page as usize);
    }
}

/// Lets the kernel take entries. For a signal it may stop before it has taken all of them.
fn reset_rings(vm: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the kernel takes no argument; it reads and writes the rings' entries that were given back to it.
    if unsafe { libc::ioctl(vm.as_raw_fd(), KVM_RESET_DIRTY_RINGS, 0) } >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

fn refused(reason: io::Error, operation: Operation) -> HypervisorError {
    HypervisorError::Refused { operation, reason }
}

/// `_IO(KVMIO, 0xc7)` in `linux/kvm.h`.
const KVM_RESET_DIRTY_RINGS: libc::c_ulong = 0xaec7;
