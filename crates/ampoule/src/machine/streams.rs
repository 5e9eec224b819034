//! The guest's standard streams, its log and its trace.

use ampoule_abi::layout::{LogLevel, LogRecord, SpanRecord};

use super::budget::Budget;
use crate::guest_log::{GuestLog, Moment};
use crate::input::Input;
use crate::output::{Origin, Output, Stream};
use crate::personality::{Held, Streams, Taken, Unprinted};
use crate::terminal::Terminal;
use crate::trace::Trace;

/// Where input comes from, and where the two output streams, the log records and the trace go.
#[derive(Debug)]
pub(crate) struct GuestStreams {
    stdin: Input,
    stdout: Output,
    stderr: Output,
    log: GuestLog,
    trace: Trace,
    origin: Origin,
    stderr_of_call: Tail,
    /// Whether the guest finds an error where one of its outputs has one, as a process does.
    finds_errors: bool,
}

/// The end of a text.
#[derive(Debug, Default)]
struct Tail {
    /// At most [`TAIL_LEN`] bytes.
    bytes: Vec<u8>,
    /// Bytes of the whole text.
    len: u64,
}

/// The streams within what a call may print.
pub(super) struct BudgetedStreams<'machine> {
    streams: &'machine mut GuestStreams,
    budget: &'machine mut Budget,
}

impl GuestStreams {
    pub(crate) fn new(stdout: Output, stderr: Output, log: GuestLog, origin: Origin) -> Self {
        let (stdin, trace) = (Input::empty(), Trace::log());
        Self { stdin, stdout, stderr, log, trace, origin, stderr_of_call: Tail::default(), finds_errors: false }
    }

    /// The same for a program: with standard input, which is empty otherwise, and with the errors of its outputs, of which
    /// guests know nothing otherwise.
    pub(crate) fn of_program(self, stdin: Input) -> Self {
        Self { stdin, finds_errors: true, ..self }
    }

    pub(crate) fn stdin_mut(&mut self) -> &mut Input {
        &mut self.stdin
    }

    /// The terminal that the guest reads from, if that is what it does.
    #[inline]
    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        self.stdin.terminal()
    }

    /// Where lines go about what the guest asks for.
    #[inline]
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    pub(crate) fn set_trace(&mut self, trace: Trace) {
        self.trace = trace;
    }

    /// What the log calls the guest.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn origin_mut(&mut self) -> &mut Origin {
        &mut self.origin
    }

    pub(crate) fn stdout(&self) -> &Output {
        &self.stdout
    }

    pub(crate) fn stderr(&self) -> &Output {
        &self.stderr
    }

    pub(crate) fn set_stdout(&mut self, output: Output) {
        self.stdout.flush(&self.origin, Stream::Stdout);
        self.stdout = output;
    }

    pub(crate) fn set_stderr(&mut self, output: Output) {
        self.stderr.flush(&self.origin, Stream::Stderr);
        self.stderr = output;
    }

    pub(crate) fn log_mut(&mut self) -> &mut GuestLog {
        &mut self.log
    }

    /// The greatest level of log records that are wanted at present, as the guest is told.
    #[inline]
    pub(super) fn log_level(&self) -> u32 {
        self.log.level()
    }

    /// Passes on a log record.
    pub(super) fn log(&mut self, level: LogLevel, record: &LogRecord<'_>) {
        self.log.pass_on(&self.origin, level, record);
    }

    /// Does in the log what a span record says.
    pub(super) fn log_step(&mut self, level: Option<LogLevel>, record: &SpanRecord<'_>, taken: (Moment, usize)) {
        self.log.pass_on_step(&self.origin, level, record, taken);
    }

    /// Begins a call, or the guest's start.
    #[inline]
    pub(crate) fn call_begins(&mut self) {
        self.stderr_of_call.clear();
        self.log.call_begins();
    }

    /// The log has had all of the call, with which the guest may have ended.
    #[inline]
    pub(super) fn log_call_ended(&mut self, is_end: bool) {
        self.log.call_ended(&self.origin, is_end);
    }

    /// Ends it: what the log holds back is passed on.
    #[inline]
    pub(crate) fn call_ended(&mut self) {
        self.stdout.call_ended(&self.origin, Stream::Stdout);
        self.stderr.call_ended(&self.origin, Stream::Stderr);
    }

    /// The last bytes that the call has printed to standard error, and whether more came before them.
    pub(crate) fn last_of_stderr(&self) -> (&[u8], bool) {
        let Tail { bytes, len } = &self.stderr_of_call;
        (bytes, *len > bytes.len() as u64)
    }

    pub(super) fn within<'machine>(&'machine mut self, budget: &'machine mut Budget) -> BudgetedStreams<'machine> {
        BudgetedStreams { streams: self, budget }
    }

    /// Passes on what the streams hold back.
    #[inline]
    pub(super) fn flush(&mut self) {
        self.stdout.flush(&self.origin, Stream::Stdout);
        self.stderr.flush(&self.origin, Stream::Stderr);
    }
}

impl Streams for BudgetedStreams<'_> {
    fn read(&mut self, into: &mut [u8]) -> Taken {
        self.streams.stdin.take(into)
    }

    fn look(&mut self) -> Held {
        self.streams.stdin.look()
    }

    fn terminal(&self) -> Option<&Terminal> {
        self.streams.terminal()
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Unprinted> {
        self.budget.print(bytes.len()).map_err(|_| Unprinted::LimitReached)?;
        let GuestStreams { stdout, stderr, origin, stderr_of_call, finds_errors, .. } = &mut *self.streams;
        let output = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => {
                stderr_of_call.append(bytes);
                stderr
            }
        };
        match output.write(origin, stream, bytes) {
            Err(error) if *finds_errors => Err(Unprinted::Failed(error.kind())),
            Err(error) => {
                output.drop_after(origin, stream, &error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn printed_to_stderr(&self) -> u64 {
        self.streams.stderr_of_call.len
    }
}

impl Tail {
    fn clear(&mut self) {
        self.bytes.clear();
        self.len = 0;
    }

    fn append(&mut self, text: &[u8]) {
        self.len += text.len() as u64;
        let text = &text[text.len().saturating_sub(TAIL_LEN)..];
        let excess = (self.bytes.len() + text.len()).saturating_sub(TAIL_LEN);
        self.bytes.drain(..excess);
        // All at once, since the buffer is kept for later calls.
        self.bytes.reserve_exact(TAIL_LEN - self.bytes.len());
        self.bytes.extend_from_slice(text);
    }
}

/// How much of standard error is kept for the report of a guest's end, in bytes.
const TAIL_LEN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_end_of_its_text_however_that_came() {
        let text: Vec<u8> = (0..3 * TAIL_LEN).map(|index| (index % 251) as u8).collect();
        for piece in [1, 7, 1000, TAIL_LEN, TAIL_LEN + 1, text.len()] {
            let mut tail = Tail::default();
            text.chunks(piece).for_each(|piece| tail.append(piece));
            assert_eq!(tail.bytes, text[text.len() - TAIL_LEN..], "pieces of {piece} bytes");
            assert_eq!((tail.len, tail.bytes.capacity()), (text.len() as u64, TAIL_LEN));
            tail.clear();
            tail.append(b"short");
            assert_eq!((tail.bytes.as_slice(), tail.len), (b"short".as_slice(), 5));
        }
    }
}
