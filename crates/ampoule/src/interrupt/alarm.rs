//! A thread that sleeps until something falls due, and is woken only when something new falls due before that.
//!
//! So whoever adds something pays for a system call only if it is more urgent than what the thread waits for anyway.

use super::linux::clock::Moment;
use super::word::Word;

#[cfg(test)]
mod model;

/// When the sleeper will look again.
#[derive(Debug)]
pub(super) struct Alarm<W> {
    /// In nanoseconds. While the sleeper looks, never: what it may have overlooked wakes it again.
    at: W,
    /// Changes whenever the sleeper has to look again.
    calls: W,
}

impl<W: Word> Alarm<W> {
    /// For a sleeper that has not looked yet. Both words are those of [`Moment::NEVER`] and 0.
    pub(super) const fn new(at: W, calls: W) -> Alarm<W> {
        Alarm { at, calls }
    }

    /// Makes sure that the sleeper looks at the latest at that moment, and then sees what the caller did before.
    pub(super) fn look_by(&self, moment: Moment) {
        W::fence();
        if moment.nanoseconds() < self.at.load() {
            self.calls.update(|calls| calls.wrapping_add(1));
            self.calls.wake();
        }
    }

    /// Looks, then sleeps until the moment that `look` gives, or until there is something new. For one thread only.
    pub(super) fn look_and_sleep(&self, look: impl FnOnce() -> Moment) {
        let calls = self.calls.load();
        self.at.store(Moment::NEVER.nanoseconds());
        W::fence();
        let until = look();
        self.at.store(until.nanoseconds());
        self.calls.wait(calls, until);
    }
}
