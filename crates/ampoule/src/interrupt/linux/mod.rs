//! What the kernel contributes: signals, timers, clocks, and waiting for a word of memory.

pub(super) mod clock;
pub(super) mod futex;
pub(super) mod signal;
pub(super) mod timer;
