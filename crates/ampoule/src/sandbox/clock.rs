//! Time that the application lets pass.

use std::time::Duration;

use thiserror::Error;

use super::Sandbox;

/// Why the application cannot let time pass for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClockError {
    /// The guest has the host's time.
    #[error(
        "the guest finds the host's time, which passes by itself; build the sandbox with `Builder::clock` and \
         `Clock::Virtual` or `Clock::Frozen` to let time pass by `Sandbox::advance_clock`"
    )]
    HostTime,
}

impl Sandbox {
    /// Lets so much time pass on all of the guest's clocks, between two calls. Going back to a snapshot takes it back. No
    /// clock comes to a time later than the year 2262.
    ///
    /// # Errors
    /// [`ClockError::HostTime`] unless the sandbox was built with [`Clock::Virtual`](crate::Clock::Virtual) or
    /// [`Clock::Frozen`](crate::Clock::Frozen).
    pub fn advance_clock(&mut self, by: Duration) -> Result<(), ClockError> {
        if self.conversation.machine_mut().advance_clock(by) { Ok(()) } else { Err(ClockError::HostTime) }
    }
}
