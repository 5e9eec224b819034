//! What is counted of runs of programs.

use std::time::Instant;

use super::kill;
use super::labels::RunOutcome;
use super::{Meters, meters};
use crate::interrupt::LimitsUnwatched;
use crate::termination::Termination;

/// A run of a program. Where it is dropped before it has [ended](Self::ended), code of the application has panicked while the
/// program waited for it.
pub(crate) struct RunMeter(Option<(&'static Meters, Instant)>);

impl RunMeter {
    #[inline]
    pub(crate) fn begin() -> Self {
        Self(meters().map(|meters| (meters, Instant::now())))
    }

    /// The program has ended, or waits for its input where it has not.
    #[inline]
    pub(crate) fn ended(mut self, result: &Result<Option<&Termination>, &LimitsUnwatched>) {
        if let Some((meters, start)) = self.0.take() {
            let outcome = match result {
                Ok(None) => RunOutcome::AwaitsInput,
                Ok(Some(cause)) => (*cause).into(),
                Err(_) => RunOutcome::Unwatched,
            };
            meters.run(outcome, start.elapsed());
            if let (RunOutcome::Fault, Ok(Some(Termination::Fault(fault)))) = (outcome, result) {
                meters.fault(fault.kind().into());
            }
            kill::publish(meters);
        }
    }
}

impl Drop for RunMeter {
    fn drop(&mut self) {
        if let Some((meters, start)) = self.0.take() {
            meters.run(RunOutcome::HostPanicked, start.elapsed());
        }
    }
}
