//! Personalities: what a guest's system calls mean.
//!
//! The run loop brings a system call to the guest's [`Personality`] and does what the [`Outcome`] says. A personality sees
//! the guest's memory and its output streams, and nothing else of the host.

pub(crate) mod linux;

use std::time::Duration;

use ampoule_abi::layout::OutputStream;
pub(crate) use ampoule_vmm::SystemCall;
use ampoule_vmm::{GuestVirt, ThreadRegister};

use crate::address_space::AddressSpace;
use crate::fault::EndlessWait;
use crate::output::Stream;

/// An operating system's system calls, with the state of the process that makes them.
pub(crate) trait Personality {
    /// Serves a system call.
    fn system_call(&mut self, call: &SystemCall, space: &mut AddressSpace, streams: &mut dyn Streams) -> Outcome;

    /// The beginning of a line that shows a system call, which has not been served yet.
    fn show_entered(&self, call: &SystemCall, space: &AddressSpace) -> String;

    /// Adds to the line what the call has changed, and its result, if the guest goes on with one.
    fn show_left(&self, call: &SystemCall, result: Option<u64>, space: &AddressSpace, line: &mut String);

    /// The system call that programs make by calling this address as a function, where no memory is.
    fn called_by_address(&self, at: GuestVirt) -> Option<u64>;

    /// Whether the process, which has ended itself by a signal, has done so because it was refused memory.
    fn aborts_for_memory(&self, streams: &dyn Streams) -> bool;

    /// The signal that an exception of the processor would be, given its vector, if the process means to handle it.
    fn handled_signal(&self, vector: u8) -> Option<i32>;

    /// Where text goes that the process prints to its standard output or standard error; `None` once that is closed.
    fn standard_stream(&self, of: OutputStream) -> Option<Stream>;
}

/// What the run loop is to do after a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Continue with this result.
    Return(u64),
    /// Set a register of the thread's, then continue with the result 0.
    SetThreadRegister { register: ThreadRegister, value: u64 },
    /// Wait this long, then continue with this result.
    Sleep { duration: Duration, result: u64 },
    /// The guest has ended with this status.
    Exit { code: i32 },
    /// The guest has ended itself by this signal, for which it had a handler if the signal is `handled`.
    Abort { signal: i32, handled: bool },
    /// The guest waits for something that can never happen.
    Deadlock(EndlessWait),
    /// The guest has printed more than it may.
    OutputLimit,
    /// Wait until there is something to read from standard input, then serve the same call again.
    AwaitInput,
}

/// Where a guest's input comes from, and where its output goes.
pub(crate) trait Streams {
    /// Takes what there is of standard input, as much as fits into `into`, which is not empty.
    fn read(&mut self, into: &mut [u8]) -> Taken;

    /// Passes on what the guest prints.
    ///
    /// # Errors
    ///
    /// [`OutputLimitReached`] when it may print no more; nothing is passed on then.
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), OutputLimitReached>;

    /// How many bytes have been passed on to standard error in the call that is being made.
    fn printed_to_stderr(&self) -> u64;
}

/// What was taken of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// So many bytes; 0 at its end.
    Bytes(usize),
    /// There is nothing at the moment.
    NotYet,
    /// It cannot be read any more.
    Failed,
}

/// A guest may print no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutputLimitReached;
