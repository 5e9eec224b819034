//! What the kernel contributes: signals, clocks, and waiting for a word of memory.

pub(super) mod clock;
pub(super) mod futex;
pub(super) mod signal;
