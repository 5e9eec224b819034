//! Signal handlers, which find on their stack what Linux puts there, and return through it.

use crate::address::GuestVirt;

/// A signal handler of Linux that user code is about to enter.
#[derive(Clone, Debug)]
pub struct SignalHandler {
    /// Its first instruction, which is an address of user code.
    pub handler: GuestVirt,
    /// Where it returns to.
    pub restorer: GuestVirt,
    /// The signal.
    pub signal: i32,
    /// `siginfo_t`.
    pub info: [u8; 128],
    /// The signals that are blocked when it has returned, as a set of bits.
    pub mask: u64,
    /// Where the stack ends on which it runs, unless that is the one that the code is on.
    pub stack_end: Option<GuestVirt>,
    /// `stack_t`: the alternate stack, for the handler to see.
    pub alternate_stack: [u8; 24],
}

/// What the handler of a signal finds on its stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalFrame {
    /// Where it begins, which is the stack pointer.
    pub at: GuestVirt,
    /// What is to be written there.
    pub bytes: Vec<u8>,
}

/// What goes back to what it was before a signal handler, beside the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalReturn {
    /// Where the handler's frame was.
    pub frame: GuestVirt,
    /// The signals that are blocked.
    pub mask: u64,
    /// `stack_t`: the alternate stack.
    pub alternate_stack: [u8; 24],
}

/// The frame from which a signal handler returns is not readable, or holds registers that no user code can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame at {at}, from which a signal handler returns, holds registers that no program can have")]
pub struct BadSignalFrame {
    /// Where it is.
    pub at: GuestVirt,
}
