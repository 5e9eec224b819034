//! What is counted of kills.
//!
//! A signal handler may kill, and what a recorder does is not known to be safe there. So a kill only counts in memory of the
//! library's own, and whoever comes by afterwards passes that on: a call that ends, a sandbox that is dropped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::labels::KillLabel;
use super::{Meters, meters};
use crate::interrupt::KillOutcome;

/// Counts a kill. Async-signal-safe.
pub(crate) fn killed(outcome: KillOutcome) -> KillOutcome {
    if meters().is_some() {
        KILLS[KillLabel::from(outcome) as usize].fetch_add(1, Ordering::Relaxed);
        PENDING.store(true, Ordering::Release);
    }
    outcome
}

/// Passes on what was counted.
#[inline]
pub(super) fn publish(meters: &Meters) {
    if PENDING.load(Ordering::Relaxed) && PENDING.swap(false, Ordering::Acquire) {
        for (label, kills) in KILLS.iter().enumerate() {
            meters.kills(label, kills.swap(0, Ordering::Relaxed));
        }
    }
}

/// By [`KillLabel`]: what has not been passed on.
static KILLS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Whether there may be any.
static PENDING: AtomicBool = AtomicBool::new(false);
