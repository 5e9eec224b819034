//! Where a guest's standard output and standard error go.

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use ampoule_abi::text::printable_line;

/// Where one of a guest's streams goes; set with [`Builder::stdout`](crate::Builder::stdout) and
/// [`Builder::stderr`](crate::Builder::stderr).
///
/// Text arrives on the thread that makes the call: when the guest next calls a host function or makes a system call, and at
/// the latest when the call ends, however that happens. The two streams keep their order.
///
/// What the guest's own buffers hold has not been printed yet: standard output holds back the start of a line (`print!`)
/// until the line ends or is flushed (`std::io::stdout().flush()`). Such a start comes before what a later call prints, and
/// a reset or a restore discards it with everything else in the guest's memory.
///
/// A guest's text is untrusted: the log escapes control characters and characters that reverse text or are invisible, and
/// the host bounds how much a call may print ([`Limits::output`](crate::Limits::output)).
pub struct Output(Kind);

enum Kind {
    Log(RefCell<LineLog>),
    Discard,
    Writer(Box<dyn Write + Send>),
    Capture(Arc<Mutex<CaptureBuffer>>),
    Shared(SharedOutput),
}

impl Output {
    /// One event of the `tracing` log per line, with the target `ampoule::guest`: standard output at level `INFO`,
    /// standard error at `WARN`. The default for both streams.
    ///
    /// Empty lines do not flood the log: the first 1,000 lines that a call prints to a stream have an event each, and from
    /// then on an event has at least 64 bytes, so that shorter lines share one, with `\n` between them. A line longer than
    /// 4,096 bytes has several.
    pub fn log() -> Self {
        Self(Kind::Log(RefCell::default()))
    }

    /// Nowhere.
    pub fn discard() -> Self {
        Self(Kind::Discard)
    }

    /// To this writer, byte for byte, on the thread that runs the guest. An error of the writer is logged once, and what
    /// follows is dropped; the guest does not notice.
    pub fn writer(writer: impl Write + Send + 'static) -> Self {
        Self(Kind::Writer(Box::new(writer)))
    }

    /// Into memory, at most `limit` bytes: what comes after them is dropped until the text is taken.
    ///
    /// ```
    /// let (stdout, text) = ampoule::Output::capture(1 << 20);
    /// # drop(stdout);
    /// // ... .stdout(stdout) ... then, after a call:
    /// assert_eq!(text.take(), b"");
    /// ```
    pub fn capture(limit: usize) -> (Self, Captured) {
        let buffer = Arc::new(Mutex::new(CaptureBuffer { bytes: Vec::new(), limit }));
        (Self(Kind::Capture(Arc::clone(&buffer))), Captured(buffer))
    }

    /// To an output that outlives this one.
    pub(crate) fn shared(output: &SharedOutput) -> Self {
        Self(Kind::Shared(output.clone()))
    }

    /// Whether this is that [shared](Self::shared) output.
    pub(crate) fn is(&self, output: &SharedOutput) -> bool {
        matches!(&self.0, Kind::Shared(own) if Arc::ptr_eq(&own.0, &output.0))
    }

    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        match &mut self.0 {
            Kind::Log(log) => log.get_mut().write(stream, bytes),
            Kind::Discard => {}
            Kind::Writer(writer) => {
                if let Err(error) = writer.write_all(bytes) {
                    tracing::warn!(target: "ampoule::guest", %error, %stream, "the writer of a guest's stream failed; the stream is dropped");
                    self.0 = Kind::Discard;
                }
            }
            Kind::Capture(buffer) => buffer.lock().unwrap_or_else(PoisonError::into_inner).write(bytes),
            Kind::Shared(output) => output.with(|output| output.write(stream, bytes)),
        }
    }

    /// Notes that a call has ended: the next one has events of the log of its own.
    #[inline]
    pub(crate) fn call_ended(&self, stream: Stream) {
        match &self.0 {
            Kind::Log(log) => log.borrow_mut().call_ended(stream),
            Kind::Shared(output) => output.with(|output| output.call_ended(stream)),
            Kind::Discard | Kind::Writer(_) | Kind::Capture(_) => {}
        }
    }

    /// Passes on what is held back: a line without its end, a buffering writer's buffer.
    pub(crate) fn flush(&mut self, stream: Stream) {
        match &mut self.0 {
            Kind::Log(log) => log.get_mut().flush(stream),
            Kind::Writer(writer) => drop(writer.flush()),
            Kind::Shared(output) => output.with(|output| output.flush(stream)),
            Kind::Discard | Kind::Capture(_) => {}
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Log(_) => "Output::log",
            Kind::Discard => "Output::discard",
            Kind::Writer(_) => "Output::writer",
            Kind::Capture(_) => "Output::capture",
            Kind::Shared(_) => "Output::shared",
        })
    }
}

/// What a guest printed to an [`Output::capture`]. Clones show the same text.
#[derive(Clone)]
pub struct Captured(Arc<Mutex<CaptureBuffer>>);

impl Captured {
    /// Takes what the guest has printed since the last time.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes)
    }

    /// Like [`take`](Self::take), as text; what is not UTF-8 is replaced by U+FFFD.
    pub fn take_string(&self) -> String {
        String::from_utf8_lossy(&self.take()).into_owned()
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captured").finish_non_exhaustive()
    }
}

/// An output to which several [`Output`]s lead, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct SharedOutput(Arc<Mutex<Output>>);

impl SharedOutput {
    pub(crate) fn new(output: Output) -> Self {
        Self(Arc::new(Mutex::new(output)))
    }

    fn with(&self, action: impl FnOnce(&mut Output)) {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// One of a guest's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

struct CaptureBuffer {
    bytes: Vec<u8>,
    limit: usize,
}

impl CaptureBuffer {
    fn write(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Cuts a stream into lines for the log. Holds at most [`MAX_LINE`] bytes.
#[derive(Default)]
struct LineLog {
    /// The text of the next event: the start of a line and, once the call has had its [`MAX_LINES`], the short lines before
    /// it.
    text: Vec<u8>,
    /// Events so far in the call that is being made.
    events: u64,
}

impl LineLog {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(MAX_LINE) {
                if self.text.len() + part.len() > MAX_LINE {
                    self.flush(stream);
                }
                self.text.extend_from_slice(part);
            }
            let line_ends = self.text.last() == Some(&b'\n');
            if line_ends && (self.events < MAX_LINES || self.text.len() >= SHARED_EVENT) {
                self.flush(stream);
            }
        }
    }

    fn call_ended(&mut self, stream: Stream) {
        if self.events >= MAX_LINES
            && let Some(end) = self.text.iter().rposition(|byte| *byte == b'\n')
        {
            let unfinished = self.text.split_off(end + 1);
            self.flush(stream);
            self.text = unfinished;
        }
        self.events = 0;
    }

    fn flush(&mut self, stream: Stream) {
        if !self.text.is_empty() {
            log(stream, self.text.strip_suffix(b"\n").unwrap_or(&self.text));
            self.text.clear();
            self.events += 1;
        }
    }
}

/// The line ends between lines that share an event are escaped, like everything that could forge lines in the log.
fn log(stream: Stream, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let text = printable_line(&text);
    match stream {
        Stream::Stdout => tracing::info!(target: "ampoule::guest", stream = "stdout", "{text}"),
        Stream::Stderr => tracing::warn!(target: "ampoule::guest", stream = "stderr", "{text}"),
    }
}

/// Longest line of the log; longer ones are cut into several.
const MAX_LINE: usize = 4096;

/// How many lines of a call have an event each, however short they are.
const MAX_LINES: u64 = 1000;

/// The least that an event holds after that, in bytes. Shorter lines share one.
const SHARED_EVENT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_log::events_of;

    #[test]
    fn a_capture_keeps_the_first_bytes_up_to_its_limit() {
        let (mut output, captured) = Output::capture(5);
        output.write(Stream::Stdout, b"abc");
        output.write(Stream::Stdout, b"defg");
        assert_eq!(captured.take(), b"abcde");
        output.write(Stream::Stdout, b"hi");
        assert_eq!(captured.take_string(), "hi");
    }

    #[test]
    fn a_failing_writer_is_dropped_and_the_guest_does_not_notice() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut output = Output::writer(Full);
        output.write(Stream::Stderr, b"x");
        assert_eq!(format!("{output:?}"), "Output::discard");
    }

    #[test]
    fn the_log_cuts_lines_and_never_holds_more_than_one() {
        let mut log = LineLog::default();
        log.write(Stream::Stdout, b"one\ntwo");
        assert_eq!(log.text, b"two");
        log.write(Stream::Stdout, &[b'x'; 3 * MAX_LINE]);
        assert!(log.text.len() <= MAX_LINE);
        log.write(Stream::Stdout, b"\n");
        assert!(log.text.is_empty());
    }

    #[test]
    fn the_log_has_an_event_for_each_line() {
        let mut output = Output::log();
        let events = events_of(|| output.write(Stream::Stdout, b"one\n\ntwo\x1b\nthree"));
        assert_eq!(events.iter().map(|event| message(event)).collect::<Vec<_>>(), ["one", "", "two\\u{1b}"]);
        let events = events_of(|| output.flush(Stream::Stdout));
        assert_eq!(events.iter().map(|event| message(event)).collect::<Vec<_>>(), ["three"]);
    }

    #[test]
    fn short_lines_share_log_events_after_a_bounded_number() {
        for line in ["\n", "a\n"] {
            let mut output = Output::log();
            let text = line.repeat(100_000);
            let events = events_of(|| {
                for part in text.as_bytes().chunks(7) {
                    output.write(Stream::Stdout, part);
                }
                output.call_ended(Stream::Stdout);
            });
            assert!(events.len() as u64 <= MAX_LINES + text.len() as u64 / SHARED_EVENT as u64 + 1, "{}", events.len());
            let logged: String = events.iter().map(|event| message(event).replace("\\n", "\n") + "\n").collect();
            assert_eq!(logged, text);
        }
    }

    #[test]
    fn each_call_has_events_of_the_log_for_its_lines() {
        let mut output = Output::log();
        for _ in 0..2 {
            let events = events_of(|| {
                output.write(Stream::Stdout, "a\n".repeat(MAX_LINES as usize + 2).as_bytes());
                output.write(Stream::Stdout, b"begun");
                output.call_ended(Stream::Stdout);
                output.write(Stream::Stdout, b" and ended\n");
            });
            let last: Vec<_> = events[MAX_LINES as usize - 1..].iter().map(|event| message(event)).collect();
            assert_eq!(last, ["a", "a\\na", "begun and ended"]);
            output.call_ended(Stream::Stdout);
        }
    }

    /// The message of an event of a guest's standard output.
    fn message(event: &str) -> &str {
        event.strip_suffix(" stream=\"stdout\"").expect(event)
    }
}
