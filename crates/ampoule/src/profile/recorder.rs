//! Counting the samples of one guest, and the CPU time that each stands for.

use std::time::{Duration, Instant, SystemTime};

use ampoule_symbols::CallStack;

use super::stacks::{Stacks, Whereabouts, Worth};
use super::{Frequency, Part, Profile};
use crate::image::Executable;
use crate::libraries::Libraries;

/// Counts the samples of one guest.
///
/// All CPU times are given by whoever calls it, and are those of the thread that makes the call.
#[derive(Debug)]
pub(crate) struct Recorder {
    stacks: Stacks<Worth>,
    libraries: Libraries,
    frequency: Frequency,
    began: (SystemTime, Instant),
    /// The CPU time at which the call, or the part of it since the last sample, began; none between calls.
    since: Option<Duration>,
    /// CPU time of earlier calls for which no sample stands yet. Most calls that are shorter than a period have none, and what
    /// one of them has stands for the others.
    carried: Duration,
}

impl Recorder {
    pub(crate) fn new(frequency: Frequency) -> Self {
        Self {
            stacks: Stacks::default(),
            libraries: Libraries::new(),
            frequency,
            began: (SystemTime::now(), Instant::now()),
            since: None,
            carried: Duration::ZERO,
        }
    }

    pub(crate) fn call_begins(&mut self, cpu_time: Duration) {
        self.since = Some(cpu_time);
    }

    pub(crate) fn call_ended(&mut self, cpu_time: Duration) {
        if let Some(since) = self.since.take() {
            self.carried += cpu_time.saturating_sub(since);
        }
    }

    /// The libraries that its samples were in.
    pub(crate) fn libraries(&mut self) -> &mut Libraries {
        &mut self.libraries
    }

    /// Counts a sample.
    pub(crate) fn sample(&mut self, stack: &CallStack, whereabouts: Whereabouts, cpu_time: Duration) {
        let since = self.since.replace(cpu_time).unwrap_or(cpu_time);
        let used = std::mem::take(&mut self.carried) + cpu_time.saturating_sub(since);
        self.stacks.add(stack, whereabouts, used);
    }

    #[cfg(test)]
    pub(super) fn total(&self) -> super::Worth {
        self.stacks.total()
    }

    /// What was sampled of guests of this executable.
    pub(crate) fn finish(self, executable: Executable) -> Profile {
        let (at, instant) = self.began;
        let part = Part { executable, libraries: self.libraries, stacks: self.stacks };
        Profile::new(part, (at, instant.elapsed()), self.frequency)
    }
}
