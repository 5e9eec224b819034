//! Why a machine could not be made.

use std::io;

use ampoule_vmm::{HypervisorError, PrepareError};

use crate::interrupt::InterruptSignalError;
use crate::loader::LoadError;

/// Why a machine could not be made. How it is reported is up to the caller.
#[derive(Debug)]
pub(crate) enum MachineError {
    /// The host has no memory for it.
    Memory { what: &'static str, bytes: usize, reason: io::Error },
    /// The host has no random bytes for the guest's start.
    Random(io::Error),
    /// The executable could not be put into the guest's memory.
    Load(LoadError),
    /// The hypervisor refused.
    Hypervisor(HypervisorError),
    /// The signal that interrupts guests cannot be used.
    Signal(InterruptSignalError),
}

impl MachineError {
    pub(super) fn guest_memory(bytes: usize, reason: io::Error) -> Self {
        Self::Memory { what: "guest's memory", bytes, reason }
    }
}

impl From<PrepareError> for MachineError {
    fn from(PrepareError { bytes, reason }: PrepareError) -> Self {
        Self::Memory { what: "page tables", bytes, reason }
    }
}

impl From<LoadError> for MachineError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<HypervisorError> for MachineError {
    fn from(error: HypervisorError) -> Self {
        Self::Hypervisor(error)
    }
}

impl From<InterruptSignalError> for MachineError {
    fn from(error: InterruptSignalError) -> Self {
        Self::Signal(error)
    }
}
