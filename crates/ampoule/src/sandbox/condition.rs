//! Whether a sandbox can be called, and why not.

use std::fmt;

use ampoule_vmm::HypervisorError;

use super::restore::RestoreError;
use crate::blame::Blame;
use crate::conversation::Imports;
use crate::termination::Termination;

/// Why a sandbox is poisoned: it refuses calls.
///
/// `{}` also says what is left to do with it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Poison {
    /// The guest ended in an earlier call.
    Ended(Termination),
    /// A host function, the application's end of a stream, or the writer of an [`Output`](crate::Output) panicked while the guest
    /// waited for it.
    HostFunctionPanicked,
    /// The sandbox could not be restored to an earlier state.
    RestoreFailed(RestoreError),
}

impl Poison {
    /// Who has caused it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Ended(cause) => cause.blame(),
            Self::HostFunctionPanicked => Blame::Caller,
            Self::RestoreFailed(_) => Blame::Hypervisor,
        }
    }
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // These errors say what is left to do.
            Self::RestoreFailed(error) => error.fmt(f),
            Self::Ended(Termination::Hypervisor(error)) if matches!(**error, HypervisorError::Forked) => error.fmt(f),
            Self::Ended(cause) => write!(f, "restore a snapshot or reset it; in an earlier call the guest ended: {cause}"),
            Self::HostFunctionPanicked => f.write_str(
                "restore a snapshot or reset it; in an earlier call a host function, a stream or the writer of an output \
                 panicked while the guest waited for it",
            ),
        }
    }
}

impl std::error::Error for Poison {}

/// What the guest of a sandbox is doing between calls.
#[derive(Debug)]
pub(super) enum Condition {
    /// It waits for a call.
    Ready,
    /// It does nothing any more.
    Poisoned(Poison),
}

impl Condition {
    /// Why the sandbox refuses calls, if it does.
    pub(super) fn poison(&self) -> Option<&Poison> {
        match self {
            Self::Ready => None,
            Self::Poisoned(poison) => Some(poison),
        }
    }

    /// Lets the guest run. Until the guard is [left](Running::leave), code of the application may run too (a host function, the
    /// writer of an output), and panic.
    pub(super) fn enter<'sandbox>(&'sandbox mut self, imports: &'sandbox mut Imports) -> Running<'sandbox> {
        Running { condition: self, imports, is_over: false }
    }
}

/// A guest is running. Where this is dropped by unwinding, the guest waits for an answer that never comes, and the sandbox is
/// poisoned; and the application's own data may be half changed, whatever state the guest is restored to.
pub(super) struct Running<'sandbox> {
    condition: &'sandbox mut Condition,
    pub(super) imports: &'sandbox mut Imports,
    is_over: bool,
}

impl Running<'_> {
    /// The guest has stopped running.
    pub(super) fn leave(mut self) {
        self.is_over = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            *self.condition = Condition::Poisoned(Poison::HostFunctionPanicked);
            self.imports.mark_panicked();
        }
    }
}
