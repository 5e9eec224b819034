//! Whether a sandbox can be called.

use super::imports::Imports;
use crate::termination::Termination;

/// What the guest of a sandbox is doing between calls.
#[derive(Debug)]
pub(super) enum Condition {
    /// It waits for a call.
    Ready,
    /// It does nothing any more: the sandbox is poisoned.
    Ended(Termination),
}

impl Condition {
    /// How the guest has ended, if it has.
    pub(super) fn cause(&self) -> Option<&Termination> {
        match self {
            Self::Ready => None,
            Self::Ended(cause) => Some(cause),
        }
    }

    /// Lets the guest run. Until the guard is [left](Running::leave), code of the application may run too (a host function, the
    /// writer of an output), and panic.
    pub(super) fn enter<'sandbox>(&'sandbox mut self, imports: &'sandbox mut Imports) -> Running<'sandbox> {
        Running { condition: self, imports, is_over: false }
    }
}

/// A guest is running. Where this is dropped by unwinding, the guest waits for an answer that never comes, and the sandbox is
/// poisoned; and the application's own data may be half changed, whatever the guest is put back to.
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
            *self.condition = Condition::Ended(Termination::HostFunctionPanicked);
            self.imports.has_panicked = true;
        }
    }
}
