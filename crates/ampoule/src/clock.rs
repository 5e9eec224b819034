//! Which time a guest finds.

use std::time::SystemTime;

/// Which time a guest finds on its clocks, however it reads them.
///
/// The clocks are those that Linux has: the time of day, the time since the machine's start, and what is made from these.
/// They are part of what a [`Snapshot`](crate::Snapshot) holds. The processor's own counter (`rdtsc`) is none of them: it
/// always counts as the host's does.
///
/// A guest's timers (`alarm`, `setitimer`, `timer_create`, `timerfd`) go by its clocks, but for the time that it spends in a
/// snapshot or between a restore and its next call: they have as much time left then as before. With [`Real`](Self::Real) time
/// they interrupt a guest that computes. Otherwise time passes only where the guest waits, and so they expire only there, or by
/// [`Sandbox::advance_clock`](crate::Sandbox::advance_clock): at the moment at which they would have, and at once, even where the
/// clock shows no time passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Clock {
    /// The host's time. A guest that goes back to a snapshot finds that time has gone on.
    #[default]
    Real,
    /// This time of day, at every reading. Nothing makes it pass but
    /// [`Sandbox::advance_clock`](crate::Sandbox::advance_clock).
    ///
    /// What a guest does with a time limit, such as sleeping, is over at once. So one that looks at the clock until it shows
    /// a later time does so for ever: set a deadline.
    Frozen(SystemTime),
    /// The host's time when the call began, at every reading in that call. Waiting is as with [`Frozen`](Self::Frozen).
    FrozenInCalls,
    /// From this time of day on, a time that passes only where the guest waits, or by
    /// [`Sandbox::advance_clock`](crate::Sandbox::advance_clock).
    ///
    /// What a guest does with a time limit, such as sleeping, is over at once, and the clocks show that it has taken all of
    /// the time. So what a guest does does not depend on how fast it is.
    Virtual(SystemTime),
}
