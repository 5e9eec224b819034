//! How many sandboxes there are, and what their memory costs.

use std::time::{Duration, Instant};

use ampoule_vmm::PAGE_SIZE;

use super::kill;
use super::labels::Level;
use super::{Meters, meters};

/// What of the levels is one sandbox's. They fall when it is dropped.
pub(crate) struct SandboxMeter(Option<Sample>);

struct Sample {
    meters: &'static Meters,
    at: Instant,
    memory: Pages,
}

/// Pages of a sandbox's memory: those that it owns, and those that it shares.
type Pages = [usize; 2];

impl SandboxMeter {
    /// Of a sandbox that was just made.
    pub(crate) fn of(measure: impl FnOnce() -> Option<Pages>) -> Self {
        let mut meter = Self(None);
        meter.sample(measure);
        meter
    }

    /// Looks at the sandbox's memory, unless that was done within the last second. A sandbox counts from the first time on
    /// that metrics are enabled here.
    #[inline]
    pub(crate) fn sample(&mut self, measure: impl FnOnce() -> Option<Pages>) {
        if let Some(meters) = meters() {
            self.refresh(meters, measure);
        }
    }

    fn refresh(&mut self, meters: &'static Meters, measure: impl FnOnce() -> Option<Pages>) {
        let now = Instant::now();
        if self.0.as_ref().is_some_and(|sample| now.duration_since(sample.at) < INTERVAL) {
            return;
        }
        let sample = self.0.get_or_insert_with(|| {
            meters.shift(Level::Sandboxes, 1.0);
            Sample { meters, at: now, memory: Pages::default() }
        });
        sample.at = now;
        if let Some(memory) = measure() {
            sample.show(memory);
        }
    }
}

impl Sample {
    fn show(&mut self, memory: Pages) {
        let before = std::mem::replace(&mut self.memory, memory);
        for (level, now, before) in [(Level::Owned, memory[0], before[0]), (Level::Shared, memory[1], before[1])] {
            self.meters.shift(level, (now as f64 - before as f64) * PAGE_SIZE as f64);
        }
    }
}

impl Drop for SandboxMeter {
    fn drop(&mut self) {
        if let Some(mut sample) = self.0.take() {
            sample.show(Pages::default());
            sample.meters.shift(Level::Sandboxes, -1.0);
            kill::publish(sample.meters);
        }
    }
}

/// How often a sandbox's memory is looked at, at most: that takes a microsecond or two.
const INTERVAL: Duration = Duration::from_secs(1);
