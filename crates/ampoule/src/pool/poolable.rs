//! What pools can hold: sandboxes and programs, each made from its kind of snapshot.

#[cfg(feature = "tokio")]
use std::sync::{Arc, atomic::AtomicBool};
use std::{error, fmt};

use super::PoolError;
use crate::error::CallError;
#[cfg(feature = "tokio")]
use crate::interrupt::InterruptHandle;
use crate::program::recycle::RecyclableProgram;
use crate::program::{IdleProgram, ProgramError, ProgramSnapshot, ProgramSpawn, ResetError};
use crate::sandbox::recycle::RecyclableSandbox;
use crate::sandbox::{RestoreError, Sandbox, Snapshot, Spawn};

/// A snapshot that a [`Pool`](crate::Pool) can keep copies of: a [`Snapshot`] of a sandbox, or a [`ProgramSnapshot`]. It is
/// implemented for these only.
pub trait Poolable: Clone + fmt::Debug + Send + Sync + Sized + 'static {
    /// What whoever takes from the pool has.
    type Member: fmt::Debug + Send + 'static;
    /// Settings of a new one.
    type Spawn;
    /// Why one could not do its work.
    type Error: error::Error;
    #[doc(hidden)]
    type Recyclable: Recyclable<Self>;
    #[doc(hidden)]
    fn executable_name(&self) -> &str;
    #[doc(hidden)]
    fn settings(&self) -> Self::Spawn;
    #[doc(hidden)]
    fn not_warmed_up(error: Self::Error) -> PoolError;
}

/// A copy of a snapshot that serves one tenant after another.
pub trait Recyclable<S: Poolable>: Send + Sized + 'static {
    /// Why it could not be made ready for the next tenant.
    type Failure: fmt::Display + Into<PoolError>;

    fn spawn(settings: S::Spawn) -> Result<Self, PoolError>;

    fn member(&self) -> &S::Member;

    fn member_mut(&mut self) -> &mut S::Member;

    fn into_member(self) -> S::Member;

    /// What messages call it.
    fn name(&self) -> &str;

    /// Returns it to its state before its first tenant. Nothing of this tenant stays: no state of the guest, nothing that was
    /// set, and no handle that reaches later calls.
    fn recycle(&mut self) -> Result<(), Self::Failure>;

    /// Whether to [recycle](Self::recycle) it is a matter of microseconds, and enough.
    fn is_sound(&self) -> bool;

    /// Whether it cannot be mended.
    fn is_spoiled(&self) -> bool;

    /// Gives it a new host's side where the old one may be half changed, and says whether it has a sound one.
    fn renew_host_side(&mut self, settings: impl FnOnce() -> S::Spawn) -> bool;

    /// A handle to end what it does.
    #[cfg(feature = "tokio")]
    fn interrupt_handle(&self) -> InterruptHandle;

    /// Once `cancelled` is set, whatever this tenant has it do ends before the guest is entered. See
    /// [`Interruptor::cancel_by`](crate::interrupt::Interruptor::cancel_by).
    #[cfg(feature = "tokio")]
    fn cancel_by(&mut self, cancelled: Arc<AtomicBool>);
}

impl Poolable for Snapshot {
    type Member = Sandbox;
    type Spawn = Spawn;
    type Error = CallError;
    type Recyclable = RecyclableSandbox;

    fn executable_name(&self) -> &str {
        self.image().name()
    }

    fn settings(&self) -> Spawn {
        self.builder().of_pool()
    }

    fn not_warmed_up(error: CallError) -> PoolError {
        PoolError::WarmUp(error)
    }
}

impl Recyclable<Snapshot> for RecyclableSandbox {
    type Failure = RestoreError;

    fn spawn(settings: Spawn) -> Result<Self, PoolError> {
        Self::spawn(settings).map_err(PoolError::Spawn)
    }

    fn member(&self) -> &Sandbox {
        &self.sandbox
    }

    fn member_mut(&mut self) -> &mut Sandbox {
        &mut self.sandbox
    }

    fn into_member(self) -> Sandbox {
        self.sandbox
    }

    fn name(&self) -> &str {
        self.sandbox.name()
    }

    fn recycle(&mut self) -> Result<(), RestoreError> {
        self.recycle()
    }

    fn is_sound(&self) -> bool {
        self.sandbox.poisoned().is_none() && !self.needs_new_host_side()
    }

    fn is_spoiled(&self) -> bool {
        self.is_spoiled()
    }

    fn renew_host_side(&mut self, settings: impl FnOnce() -> Spawn) -> bool {
        !self.needs_new_host_side() || self.renew_host_side(settings()).is_ok()
    }

    #[cfg(feature = "tokio")]
    fn interrupt_handle(&self) -> InterruptHandle {
        self.sandbox.interrupt_handle()
    }

    #[cfg(feature = "tokio")]
    fn cancel_by(&mut self, cancelled: Arc<AtomicBool>) {
        self.cancel_by(cancelled);
    }
}

impl Poolable for ProgramSnapshot {
    type Member = IdleProgram;
    type Spawn = ProgramSpawn;
    type Error = ProgramError;
    type Recyclable = RecyclableProgram;

    fn executable_name(&self) -> &str {
        self.executable_name()
    }

    fn settings(&self) -> ProgramSpawn {
        self.builder()
    }

    fn not_warmed_up(error: ProgramError) -> PoolError {
        PoolError::WarmUpProgram(error)
    }
}

impl Recyclable<ProgramSnapshot> for RecyclableProgram {
    type Failure = ResetError;

    fn spawn(settings: ProgramSpawn) -> Result<Self, PoolError> {
        Self::spawn(settings).map_err(PoolError::SpawnProgram)
    }

    fn member(&self) -> &IdleProgram {
        &self.program
    }

    fn member_mut(&mut self) -> &mut IdleProgram {
        &mut self.program
    }

    fn into_member(self) -> IdleProgram {
        self.program
    }

    fn name(&self) -> &str {
        self.program.name()
    }

    fn recycle(&mut self) -> Result<(), ResetError> {
        self.recycle()
    }

    fn is_sound(&self) -> bool {
        !self.is_spoiled()
    }

    fn is_spoiled(&self) -> bool {
        self.is_spoiled()
    }

    /// What has panicked is [spoiled](Self::is_spoiled).
    fn renew_host_side(&mut self, _: impl FnOnce() -> ProgramSpawn) -> bool {
        true
    }

    #[cfg(feature = "tokio")]
    fn interrupt_handle(&self) -> InterruptHandle {
        self.program.interrupt_handle()
    }

    #[cfg(feature = "tokio")]
    fn cancel_by(&mut self, cancelled: Arc<AtomicBool>) {
        self.cancel_by(cancelled);
    }
}
