//! Allocations of a guest whose memory is profiled.

use ampoule_abi::layout::AllocationRecord;

use super::Machine;
use crate::profile::{Allocations, MemoryProfile};

impl Machine {
    /// Keeps accounts of what the guest allocates from now on. Those that were kept before are dropped.
    pub(crate) fn profile_memory(&mut self) {
        self.allocations = Some(Box::new(Allocations::new()));
    }

    /// What the accounts are now, if there are any.
    pub(crate) fn memory_profile(&self) -> Option<MemoryProfile> {
        self.allocations.as_ref().map(|allocations| allocations.profile(self.executable.clone()))
    }

    /// Keeps no more accounts.
    pub(crate) fn forget_allocations(&mut self) {
        self.allocations = None;
    }

    /// Whether allocations are to be recorded, as the guest is told.
    #[inline]
    pub(crate) fn records_allocations(&self) -> bool {
        self.allocations.is_some()
    }

    /// Takes note of what the guest has recorded, if anybody wants to know.
    pub(crate) fn note_allocation(&mut self, record: &AllocationRecord<'_>) {
        if let Some(allocations) = &mut self.allocations {
            allocations.note(record);
        }
    }
}
