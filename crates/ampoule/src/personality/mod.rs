//! Personalities: what a guest's system calls mean.
//!
//! The run loop brings a system call to the guest's [`Personality`] and does what the [`Outcome`] says. A personality sees
//! the guest's memory and its output streams, and nothing else of the host.

pub(crate) mod linux;

use std::io::ErrorKind;
use std::time::Duration;

use ampoule_abi::layout::OutputStream;
pub(crate) use ampoule_vmm::SystemCall;
use ampoule_vmm::{Context, GuestVirt, ThreadRegister};

use crate::address_space::AddressSpace;
use crate::fault::{EndlessWait, FaultKind};
use crate::output::Stream;
use crate::terminal::Terminal;

/// An operating system's system calls, with the state of the process that makes them.
pub(crate) trait Personality {
    /// Serves a system call: again, where the outcome before was to wait.
    fn system_call(&mut self, call: &SystemCall, space: &mut AddressSpace, streams: &mut dyn Streams) -> Outcome;

    /// The beginning of a line that shows a system call, which has not been served yet.
    fn show_entered(&self, call: &SystemCall, space: &AddressSpace) -> String;

    /// Adds to the line what the call has changed, and its result, if the guest goes on with one.
    fn show_left(&self, call: &SystemCall, result: Option<u64>, space: &AddressSpace, line: &mut String);

    /// The system call that programs make by calling this address as a function, where no memory is.
    fn called_by_address(&self, at: GuestVirt) -> Option<u64>;

    /// Whether the process, which has ended itself by a signal, has done so because it was refused memory.
    fn aborts_for_memory(&self, streams: &dyn Streams) -> bool;

    /// Serves a system call that needs to know where the stack of the code ends that makes it.
    fn system_call_on_stack(&mut self, call: &SystemCall, stack_pointer: u64, space: &mut AddressSpace) -> u64;

    /// How long the process is to wait at most for its input, for which it has been told to wait.
    fn wait_limit(&self) -> Option<Duration>;

    /// How long it takes, while the process runs, until a timer of its own has a signal delivered to it. `None` also where its
    /// time stands meanwhile.
    fn time_to_signal(&self) -> Option<Duration>;

    /// Sends the signals of a terminal, as a set of bits by their numbers minus one.
    fn send_of_terminal(&mut self, signals: u32);

    /// Sends the signals of timers that have expired.
    fn expire_timers(&mut self);

    /// Whether a signal is to be delivered before the process goes on.
    fn has_signal(&self) -> bool;

    /// Delivers the signals that are to be: lets the process continue in their handlers. Returns whether there is any handler;
    /// otherwise the context is as before.
    ///
    /// # Errors
    ///
    /// Why the process does not continue.
    fn deliver_signals(&mut self, context: &mut Context, space: &mut AddressSpace) -> Result<bool, SignalEnd>;

    /// Goes back from the handler of a signal. Returns where the handler's frame was, or that of the handler in which the
    /// process continues because it was no frame.
    ///
    /// # Errors
    ///
    /// Why the process does not continue.
    fn return_from_signal(&mut self, context: &mut Context, space: &mut AddressSpace) -> Result<GuestVirt, SignalEnd>;

    /// Whether the process handles faults of this kind at present.
    fn handles_fault(&self, kind: &FaultKind) -> bool;

    /// Lets the process, whose last event was this fault, continue in its handler. Returns where the handler's frame is; `None`
    /// where the process cannot handle it.
    fn raise_fault(&mut self, kind: &FaultKind, context: &mut Context, space: &mut AddressSpace) -> Option<GuestVirt>;

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
    /// Wait this long, then serve the same call again.
    Pause { duration: Duration },
    /// Serve the call with [`Personality::system_call_on_stack`].
    NeedsStackPointer,
    /// The process returns from the handler of a signal: continue as [`Personality::return_from_signal`] says.
    SignalReturn,
    /// The guest has ended itself by this signal.
    Abort { signal: i32 },
    /// The guest waits for something that can never happen.
    Deadlock(EndlessWait),
    /// The guest has printed more than it may.
    OutputLimit,
    /// Wait until there is something to read from standard input, then serve the same call again.
    AwaitInput,
}

/// Why a process does not continue when signals are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalEnd {
    /// This signal ends it.
    Ends { signal: i32 },
    /// A signal stops it.
    Stops,
    /// The frame of a signal's handler would be here, where the process cannot write; or the handler is no address of its own.
    NoRoom { signal: i32, at: GuestVirt },
    /// It returns from a handler with a frame that it cannot continue from.
    BadFrame { at: GuestVirt },
}

/// Where a guest's input comes from, and where its output goes.
pub(crate) trait Streams {
    /// Takes what there is of standard input, as much as fits into `into`, which is not empty.
    fn read(&mut self, into: &mut [u8]) -> Taken;

    /// What standard input has at present. Nothing of it is taken.
    fn look(&mut self) -> Held;

    /// The terminal that the guest has been lent, to which its standard input and output lead then.
    fn terminal(&self) -> Option<&Terminal>;

    /// Passes on what the guest prints.
    ///
    /// # Errors
    ///
    /// Why it was not passed on.
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Unprinted>;

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

/// What standard input has at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Held {
    /// How many bytes can be read at once.
    pub(crate) bytes: usize,
    /// What follows them.
    pub(crate) behind: Behind,
}

/// What follows what can be read of standard input at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Behind {
    /// More of it, or its end, at another time.
    #[default]
    Later,
    /// Only asking the application finds out.
    Unknown,
    /// Nothing before some of it is read.
    Full,
    End,
    /// It cannot be read any more.
    Failure,
}

/// Why what a guest prints goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unprinted {
    /// It may print no more. Nothing was passed on.
    LimitReached,
    /// The output takes no more at present, for this reason. A part may have been passed on.
    Failed(ErrorKind),
}
