//! What the library reports of itself in numbers, through the facade `metrics`: counts, durations and levels.
//!
//! This is what the rest of the library calls, a line at each place where something happens. Each of them asks first for the
//! [`Meters`], which are there from the moment at which the application [enables](enable_metrics) metrics. Before that, and
//! always without the feature `metrics`, there are none, and nothing is done: no clock is read, and nothing that threads
//! share is written. `docs/metrics.md` has the names and what they mean.
//!
//! No text of a guest is the value of a label, and each label has a bounded number of values.

#[cfg(not(feature = "metrics"))]
mod absent;
mod call;
#[cfg(feature = "metrics")]
mod facade;
mod kill;
mod labels;
mod pool;
mod run;
mod sandbox;

use std::time::Instant;

#[cfg(not(feature = "metrics"))]
use absent::{Meters, meters};
#[cfg(feature = "metrics")]
use facade::{Meters, meters};

#[cfg(not(feature = "metrics"))]
pub(crate) use absent::{Exits, HostFunctionMeter};
pub(crate) use call::CallMeter;
#[cfg(feature = "metrics")]
pub use facade::enable_metrics;
#[cfg(feature = "metrics")]
pub(crate) use facade::{Exits, HostFunctionMeter};
pub(crate) use kill::killed;
pub(crate) use labels::{Level, Operation};
pub(crate) use pool::{PoolWait, Taken};
pub(crate) use run::RunMeter;
pub(crate) use sandbox::SandboxMeter;

/// The beginning of something that is timed.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Option<(&'static Meters, Instant)>);

impl Stopwatch {
    /// Looks at the clock, where metrics are enabled.
    #[inline]
    pub(crate) fn start() -> Self {
        Self(meters().map(|meters| (meters, Instant::now())))
    }

    /// Counts an operation, which has just ended, and how long it took.
    pub(crate) fn ended<T, E>(self, operation: Operation, result: Result<T, E>) -> Result<T, E> {
        if let Some((meters, start)) = self.0 {
            meters.operation(operation, result.is_ok(), start.elapsed());
        }
        result
    }
}

/// Counts the pages that a restore has written back.
#[inline]
pub(crate) fn pages_restored(pages: usize) {
    if let Some(meters) = meters() {
        meters.pages_restored(pages as u64);
    }
}

/// Counts a sandbox of a pool that was made ready for somebody else.
#[inline]
pub(crate) fn recycled() {
    if let Some(meters) = meters() {
        meters.recycled();
    }
}

/// Counts a sandbox of a pool in whose place another one was made.
pub(crate) fn replaced() {
    if let Some(meters) = meters() {
        meters.replaced();
    }
}

/// A part of a level, which falls again when this is dropped.
pub(crate) struct Share(Option<(&'static Meters, Level, usize)>);

impl Share {
    /// Raises the level by this much, where metrics are enabled.
    #[inline]
    pub(crate) fn of(level: Level, amount: usize) -> Self {
        Self(meters().map(|meters| {
            meters.shift(level, amount as f64);
            (meters, level, amount)
        }))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some((meters, level, amount)) = self.0 {
            meters.shift(level, -(amount as f64));
        }
    }
}
