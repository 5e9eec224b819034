//! Which pages a vCPU has written, as the kernel reports them: a ring of entries in memory that it shares
//! (Documentation/virt/kvm/api.rst, "KVM_CAP_DIRTY_LOG_RING").
//!
//! The kernel adds an entry when it makes a page writable for the guest. Looking for new ones takes no system call. An entry
//! stays in the ring until it is given back, and until then the page stays writable: a page that has been reported costs
//! nothing more. When the ring is full, the vCPU stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kvm_bindings::kvm_dirty_gfn;

use super::shared::SharedMemory;

/// One vCPU's ring.
#[derive(Debug)]
pub(super) struct DirtyRing {
    memory: Arc<SharedMemory>,
    /// How many entries have been read, and how many of those have been given back, since the ring was made. Entry number
    /// `n` is at `n % LEN`.
    read: usize,
    given_back: usize,
}

/// A page of a memory slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotPage {
    pub(super) slot: u32,
    pub(super) page: u64,
}

/// What becomes of the protection of a page whose entry is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// The guest's next write to it makes a new entry.
    Restored,
    /// The guest can keep writing it, untracked.
    Lifted,
}

impl DirtyRing {
    /// How many entries there are; a power of two. The kernel reserves up to 576 of them (64, and 512 where the processor
    /// itself collects written pages), and stops the vCPU when only those are left.
    pub(super) const LEN: usize = 1024;

    /// How much memory they take.
    pub(super) const BYTES: usize = DirtyRing::LEN * size_of::<kvm_dirty_gfn>();

    /// The ring in this memory, none of which has been read yet.
    pub(super) fn new(memory: Arc<SharedMemory>) -> DirtyRing {
        DirtyRing { memory, read: 0, given_back: 0 }
    }

    /// Reads the new entries.
    pub(super) fn read_new(&mut self, mut report: impl FnMut(SlotPage)) {
        // The kernel overwrites no entry that has not been given back, so there are never more than this.
        while self.read - self.given_back < DirtyRing::LEN {
            let entry = self.entry(self.read);
            // Acquires what the kernel wrote to the entry before it set the flag.
            if entry.flags().load(Ordering::Acquire) & DIRTY == 0 {
                break;
            }
            report(entry.page());
            self.read += 1;
        }
    }

    /// Marks all entries that were read for the kernel to take back at the next `KVM_RESET_DIRTY_RINGS`. When it takes an
    /// entry back, it protects the page that the entry names, and skips an entry that names none. So an entry whose page is
    /// to stay writable is made to name a slot that cannot exist. `decide` is passed whether an entry is the last.
    pub(super) fn give_back(&mut self, mut decide: impl FnMut(SlotPage, bool) -> Protection) {
        while self.given_back < self.read {
            let is_last = self.given_back + 1 == self.read;
            let entry = self.entry(self.given_back);
            if decide(entry.page(), is_last) == Protection::Lifted {
                entry.set_slot(NO_SLOT);
            }
            // Releases the entry to the kernel.
            entry.flags().store(RESET, Ordering::Release);
            self.given_back += 1;
        }
    }

    /// Whether the kernel has taken all entries that were given back.
    pub(super) fn is_taken(&mut self) -> bool {
        // It takes them in order.
        let last = self.given_back.checked_sub(1);
        last.is_none_or(|last| self.entry(last).flags().load(Ordering::Acquire) & RESET == 0)
    }

    fn entry(&mut self, number: usize) -> Entry<'_> {
        // SAFETY: the ring has this many entries.
        let entry = unsafe { self.memory.ring().add(number % DirtyRing::LEN) };
        Entry { entry, _ring: self }
    }
}

/// An entry. The kernel owns it until `DIRTY` is set, and again once `RESET` is.
struct Entry<'a> {
    entry: *mut kvm_dirty_gfn,
    _ring: &'a mut DirtyRing,
}

impl Entry<'_> {
    fn flags(&self) -> &AtomicU32 {
        // SAFETY: the entry lives as long as the ring's memory; its flags are aligned, and accessed only by the kernel,
        // atomically, and through this function.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.entry).flags) }
    }

    /// To be called while the entry is ours.
    fn page(&self) -> SlotPage {
        // SAFETY: the entry lives as long as the ring's memory, and the kernel does not write to it while it is ours; the
        // fields are plain data.
        let (slot, page) =
            unsafe { ((&raw const (*self.entry).slot).read(), (&raw const (*self.entry).offset).read()) };
        SlotPage { slot, page }
    }

    /// To be called while the entry is ours.
    fn set_slot(&self, slot: u32) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.entry).slot).write(slot) }
    }
}

/// A slot's number is in the lower half; the upper one is the number of an address space, of which there are two at most.
const NO_SLOT: u32 = u32::MAX;

// `KVM_DIRTY_GFN_F_DIRTY` and `KVM_DIRTY_GFN_F_RESET` in `linux/kvm.h`.
const DIRTY: u32 = 1 << 0;
const RESET: u32 = 1 << 1;
