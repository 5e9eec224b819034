//! What a guest has cost.

use ampoule_vmm::{HypervisorError, PAGE_SIZE};

use super::Machine;

/// What a guest has cost so far; see [`Sandbox::stats`](crate::Sandbox::stats) and
/// [`IdleProgram::stats`](crate::IdleProgram::stats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Times that a vCPU was run until an exit.
    pub exits: u64,
    /// Other calls into the kernel that concern the vCPU, including those of its creation.
    pub ioctls: u64,
    /// Times that the guest went back to a snapshot, resets included.
    pub restores: u64,
    /// Pages of 4 KiB that were written back in all restores together.
    pub pages_restored: u64,
    /// Pages of 4 KiB that the next restore would have to write back: those that the guest has ever written, unless they
    /// have stayed unchanged for a long time, and those that the host has written since the last restore.
    pub dirty_pages: u64,
    /// Bytes of guest memory that belong to this guest alone.
    pub owned_bytes: u64,
    /// Bytes of guest memory that the guest has in common with its snapshot or its executable, unless it has written them.
    pub shared_bytes: u64,
}

impl Machine {
    /// What the guest has cost so far.
    pub(crate) fn stats(&mut self) -> Result<Stats, HypervisorError> {
        let counters = self.processor.counters();
        let memory = self.space.memory_mut();
        let dirty_pages = memory.dirty_pages(&mut *self.processor)?;
        let [owned_bytes, shared_bytes] =
            [memory.owned_pages(), memory.shared_pages()].map(|pages| (pages * PAGE_SIZE) as u64);
        Ok(Stats {
            exits: counters.runs,
            ioctls: counters.ioctls,
            restores: self.restores,
            pages_restored: self.pages_restored,
            dirty_pages: dirty_pages as u64,
            owned_bytes,
            shared_bytes,
        })
    }

    /// Pages that the guest owns and that it shares, for whoever does without them where the hypervisor fails.
    pub(crate) fn memory_pages(&mut self) -> Option<[usize; 2]> {
        let memory = self.space.memory_mut();
        memory.dirty_pages(&mut *self.processor).ok()?;
        Some([memory.owned_pages(), memory.shared_pages()])
    }
}
