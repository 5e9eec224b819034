//! What a sandbox has cost.

use ampoule_vmm::{HypervisorError, PAGE_SIZE};

use super::Sandbox;

/// What a sandbox has cost so far; see [`Sandbox::stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Times that a vCPU was run until an exit.
    pub exits: u64,
    /// Other calls into the kernel that concern the vCPU, including those of its creation.
    pub ioctls: u64,
    /// Times that the sandbox went back to a snapshot, resets included.
    pub restores: u64,
    /// Pages of 4 KiB that were written back in all restores together.
    pub pages_restored: u64,
    /// Pages of 4 KiB that the next restore would have to write back: those that the guest has ever written, unless they
    /// have stayed unchanged for a long time, and those that the host has written since the last restore.
    pub dirty_pages: u64,
    /// Bytes of guest memory that belong to this sandbox alone.
    pub owned_bytes: u64,
    /// Bytes of guest memory that the sandbox has in common with its snapshot or its image, unless it has written them.
    pub shared_bytes: u64,
}

impl Sandbox {
    /// What the sandbox has cost so far.
    ///
    /// # Errors
    /// Where the hypervisor cannot report which pages the guest has written.
    pub fn stats(&mut self) -> Result<Stats, HypervisorError> {
        let counters = self.conversation.machine().counters();
        let memory = self.conversation.machine_mut().memory_use()?;
        Ok(Stats {
            exits: counters.runs,
            ioctls: counters.ioctls,
            restores: memory.restores,
            pages_restored: memory.pages_restored,
            dirty_pages: memory.dirty_pages as u64,
            owned_bytes: (memory.owned_pages * PAGE_SIZE) as u64,
            shared_bytes: (memory.shared_pages * PAGE_SIZE) as u64,
        })
    }
}
