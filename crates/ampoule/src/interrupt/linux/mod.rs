//! What the kernel contributes: signals, clocks, and waiting for a word of memory or a file.

pub(super) mod clock;
pub(super) mod futex;
pub(super) mod readable;
pub(super) mod signal;
