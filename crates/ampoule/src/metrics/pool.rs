//! What is counted of pools.

use std::time::Instant;

use super::labels::{Level, TakeOutcome};
use super::{Meters, Share, meters};

/// Counts the sandboxes of pools that were taken.
pub(crate) struct Taken;

impl Taken {
    /// One was taken, without waiting for it.
    #[inline]
    pub(crate) fn at_once() {
        count(TakeOutcome::AtOnce);
    }

    /// None was there for somebody who does not wait.
    pub(crate) fn exhausted() {
        count(TakeOutcome::Exhausted);
    }
}

/// Somebody who waits for a sandbox. Where this is dropped before it has [ended](Self::ended), they have given up.
pub(crate) struct PoolWait {
    running: Option<(&'static Meters, Instant)>,
    _share: Share,
}

impl PoolWait {
    pub(crate) fn begin() -> Self {
        Self { running: meters().map(|meters| (meters, Instant::now())), _share: Share::of(Level::PoolWaiting, 1) }
    }

    /// The wait is over, with a slot or without one.
    pub(crate) fn ended(mut self, has_slot: bool) {
        let outcome = if has_slot { TakeOutcome::Waited } else { TakeOutcome::TimedOut };
        self.count(outcome);
    }

    fn count(&mut self, outcome: TakeOutcome) {
        if let Some((meters, start)) = self.running.take() {
            meters.taken(outcome);
            meters.pool_wait(start.elapsed());
        }
    }
}

impl Drop for PoolWait {
    fn drop(&mut self) {
        self.count(TakeOutcome::GivenUp);
    }
}

#[inline]
fn count(outcome: TakeOutcome) {
    if let Some(meters) = meters() {
        meters.taken(outcome);
    }
}
