//! A program that serves one tenant after another.

#[cfg(feature = "tokio")]
use std::sync::{Arc, atomic::AtomicBool};

use super::{IdleProgram, ProgramError, ProgramSnapshot, ProgramSpawn, ResetError};

/// A program, and what every tenant finds in it.
#[derive(Debug)]
pub struct RecyclableProgram {
    pub(crate) program: IdleProgram,
    snapshot: ProgramSnapshot,
}

impl RecyclableProgram {
    /// Makes a program with these settings.
    pub(crate) fn spawn(settings: ProgramSpawn) -> Result<Self, ProgramError> {
        let program = settings.build()?;
        Ok(Self { snapshot: program.initial().clone(), program })
    }

    /// Returns the program to its state before its first tenant. Nothing of this tenant stays: no state of the program, no
    /// profile that it has asked for, nothing that was printed, and no handle that reaches later runs.
    pub(crate) fn recycle(&mut self) -> Result<(), ResetError> {
        let runner = &mut self.program.runner;
        drop(runner.machine.take_profile());
        runner.machine.interruptor_mut().renew();
        drop(runner.printed());
        self.program.reset()
    }

    /// Whether the program is of no use to another tenant: its state is unknown, or its outputs' is, or somebody has swapped in a
    /// program of another snapshot.
    pub(crate) fn is_spoiled(&self) -> bool {
        self.program.is_broken() || !self.program.initial().is(&self.snapshot)
    }

    /// Once `cancelled` is set, every run of this tenant ends before the guest is entered. See
    /// [`Interruptor::cancel_by`](crate::interrupt::Interruptor::cancel_by).
    #[cfg(feature = "tokio")]
    pub(crate) fn cancel_by(&mut self, cancelled: Arc<AtomicBool>) {
        self.program.runner.machine.interruptor_mut().cancel_by(cancelled);
    }
}
