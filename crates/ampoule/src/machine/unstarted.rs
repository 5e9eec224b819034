//! What is left of making a checkpoint from a record: all that the first machine of it needs, but the virtual machine.

use std::fmt;
use std::sync::{Arc, Mutex};

use ampoule_vmm::processor::Unstarted;
use ampoule_vmm::{Process, TrackedRegion};

use crate::address_space::AddressSpace;

/// Memory, page tables and a processor as they were at a checkpoint.
pub(super) struct MachineParts {
    pub(super) region: Arc<TrackedRegion>,
    pub(super) space: AddressSpace,
    pub(super) processor: Box<dyn Unstarted>,
}

/// The parts, for whoever comes first.
#[derive(Default)]
pub(super) struct Leftover(Mutex<Option<(Process, MachineParts)>>);

impl Leftover {
    /// Keeps them, where it can be told whose they are.
    pub(super) fn new(parts: MachineParts) -> Self {
        Self(Mutex::new(Process::current().ok().map(|process| (process, parts))))
    }

    /// The parts, if nobody has taken them. In a child that was forked they are the parent's, and whoever held the lock then does
    /// not release it.
    pub(super) fn take(&self) -> Option<MachineParts> {
        let mut kept = self.0.try_lock().ok()?;
        let (_, parts) = kept.take_if(|(process, _)| process.is_current())?;
        Some(parts)
    }
}

impl fmt::Debug for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leftover").finish_non_exhaustive()
    }
}
