//! How often samples are taken.

use std::fmt;
use std::time::Duration;

/// How often a guest is sampled.
///
/// Default: 997 Hz. Since that is no round number, a guest that does something every few milliseconds is not sampled in step
/// with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frequency(u32);

impl Frequency {
    /// 10,000 Hz. Above that a profile is mostly one of what the samples cost.
    pub const MAX: Frequency = Frequency(10_000);

    /// So many samples in a second.
    ///
    /// # Panics
    /// When it is 0, or more than [`MAX`](Self::MAX).
    pub const fn hz(samples: u32) -> Self {
        assert!(samples > 0 && samples <= Self::MAX.0, "a guest is sampled at 1 to 10,000 Hz");
        Self(samples)
    }

    /// How many samples in a second.
    pub const fn as_hz(self) -> u32 {
        self.0
    }

    /// The time between two samples.
    pub const fn period(self) -> Duration {
        Duration::from_nanos(1_000_000_000 / self.0 as u64)
    }
}

impl Default for Frequency {
    fn default() -> Self {
        Self::hz(997)
    }
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}
