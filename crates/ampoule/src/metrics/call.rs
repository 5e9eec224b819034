//! What is counted of calls.

use std::time::Instant;

use super::kill;
use super::labels::CallOutcome;
use super::{Meters, meters};
use crate::error::CallError;
use crate::termination::Termination;

/// A call that is being made. Where it is dropped before it has [ended](Self::ended), code of the application has panicked
/// while the guest waited for it.
pub(crate) struct CallMeter {
    running: Option<(&'static Meters, Instant)>,
    failed: bool,
}

impl CallMeter {
    #[inline]
    pub(crate) fn begin() -> Self {
        Self { running: meters().map(|meters| (meters, Instant::now())), failed: false }
    }

    /// Takes note that the function has returned an error of its own, in whatever way the caller gets it.
    #[inline]
    pub(crate) fn function_failed(&mut self) {
        self.failed = true;
    }

    #[inline]
    pub(crate) fn ended<R>(&mut self, result: &Result<R, CallError>) {
        if let Some((meters, start)) = self.running.take() {
            let outcome = match result {
                Ok(_) if self.failed => CallOutcome::FunctionError,
                Ok(_) => CallOutcome::Ok,
                Err(error) => error.into(),
            };
            meters.call(outcome, start.elapsed());
            if let Err(CallError::Terminated { cause: Termination::Fault(fault), .. }) = result {
                meters.fault(fault.kind().into());
            }
            kill::publish(meters);
        }
    }

    /// Counts a call that was refused before anything was done for it.
    pub(crate) fn refused(error: &CallError) {
        if let Some(meters) = meters() {
            meters.refused(error.into());
        }
    }
}

impl Drop for CallMeter {
    fn drop(&mut self) {
        if let Some((meters, start)) = self.running.take() {
            meters.call(CallOutcome::HostPanicked, start.elapsed());
        }
    }
}
