//! Where a guest's standard output and standard error go.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ampoule_abi::text::{printable_line, printable_name};

use crate::image::Executable;

/// Where one of a guest's streams goes; set with [`Builder::stdout`](crate::Builder::stdout) and
/// [`Builder::stderr`](crate::Builder::stderr).
///
/// Text arrives on the thread that makes the call: when the guest next calls a host function or makes a system call, and at
/// the latest when the call ends, however that happens. The two streams keep their order.
///
/// Standard output holds back the start of a line (`print!`) in the guest's memory, until the line ends or is flushed
/// (`std::io::stdout().flush()`). Guests that use `ampoule-guest` flush it when a call returns; a call that ends in another way
/// (a fault, a kill, a limit) loses it, as a program does.
///
/// A guest's text is untrusted: the log escapes control characters and characters that reverse text or are invisible, and
/// the host bounds how much a call may print ([`Limits::output`](crate::Limits::output)).
pub struct Output(Kind);

enum Kind {
    Log(LineLog),
    Discard,
    Writer(Box<dyn Write + Send>),
    Capture(Arc<Mutex<CaptureBuffer>>),
    Shared(SharedOutput),
}

impl Output {
    /// One event of the `tracing` log per line, with the target `ampoule::guest`: standard output at level `INFO`,
    /// standard error at `WARN`. The default for both streams. The fields are `stream`, `image` and `sandbox` with their names,
    /// and `function`, the one that was called; a guest's start has none.
    ///
    /// Empty lines do not flood the log: the first 1,000 lines that a call prints to a stream have an event each, and from
    /// then on an event has at least 64 bytes, so that shorter lines share one, with `\n` between them. A line longer than
    /// 4,096 bytes has several. A line that has not ended when the call does has an event of its own.
    pub fn log() -> Self {
        Self(Kind::Log(LineLog::default()))
    }

    /// Nowhere.
    pub fn discard() -> Self {
        Self(Kind::Discard)
    }

    /// To this writer, byte for byte, on the thread that runs the guest. An error of the writer is logged once, and what
    /// follows is dropped; the guest does not notice. A program finds the error instead, as a process does: one whose
    /// output nobody reads any more (`BrokenPipe`) gets the signal `SIGPIPE`.
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

    /// # Errors
    ///
    /// That of a writer, which has part of the bytes at most.
    pub(crate) fn write(&mut self, origin: &Origin, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Kind::Log(log) => log.write(origin, stream, bytes),
            Kind::Discard => {}
            Kind::Writer(writer) => return writer.write_all(bytes),
            Kind::Capture(buffer) => buffer.lock().unwrap_or_else(PoisonError::into_inner).write(bytes),
            Kind::Shared(output) => return output.with(|output| output.write(origin, stream, bytes)),
        }
        Ok(())
    }

    /// Logs that the writer has failed, and drops what follows.
    #[cold]
    pub(crate) fn drop_after(&mut self, origin: &Origin, stream: Stream, error: &io::Error) {
        if let Kind::Shared(output) = &self.0 {
            return output.with(|output| output.drop_after(origin, stream, error));
        }
        tracing::warn!(
            target: "ampoule::guest",
            %error,
            %stream,
            image = %origin.image(),
            sandbox = %origin.sandbox(),
            function = origin.function(),
            "the writer of a guest's stream failed; the stream is dropped"
        );
        self.0 = Kind::Discard;
    }

    /// Notes that a call has ended: a line without its end is logged, and the next call has events of its own. A writer keeps
    /// its buffer.
    #[inline]
    pub(crate) fn call_ended(&mut self, origin: &Origin, stream: Stream) {
        match &mut self.0 {
            Kind::Log(log) => log.call_ended(origin, stream),
            Kind::Shared(output) => output.with(|output| output.call_ended(origin, stream)),
            Kind::Discard | Kind::Writer(_) | Kind::Capture(_) => {}
        }
    }

    /// Passes on what is held back: a line without its end, a buffering writer's buffer.
    pub(crate) fn flush(&mut self, origin: &Origin, stream: Stream) {
        match &mut self.0 {
            Kind::Log(log) => log.flush(origin, stream),
            Kind::Writer(writer) => drop(writer.flush()),
            Kind::Shared(output) => output.with(|output| output.flush(origin, stream)),
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
        let length = self.0.try_lock().map_or(None, |buffer| Some(buffer.bytes.len()));
        let waiting = fmt::from_fn(|f| match length {
            Some(length) => write!(f, "{length} bytes, which `take` returns"),
            None => f.write_str("in use"),
        });
        f.debug_tuple("Captured").field(&waiting).finish()
    }
}

/// An output to which several [`Output`]s lead, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct SharedOutput(Arc<Mutex<Output>>);

impl SharedOutput {
    pub(crate) fn new(output: Output) -> Self {
        Self(Arc::new(Mutex::new(output)))
    }

    fn with<T>(&self, action: impl FnOnce(&mut Output) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where a text comes from: what the log and messages call a guest, and the function that was called.
#[derive(Debug)]
pub(crate) struct Origin {
    executable: Executable,
    sandbox: Box<str>,
    /// Empty during the guest's start.
    function: String,
}

impl Origin {
    /// Of a sandbox with this executable, and this name or one that no other in this process has.
    pub(crate) fn new(executable: &Executable, sandbox: Option<String>) -> Self {
        let sandbox = sandbox.unwrap_or_else(|| default_name(executable.name()));
        Self { executable: executable.clone(), sandbox: sandbox.into(), function: String::new() }
    }

    /// The image's name, to be shown.
    pub(crate) fn image(&self) -> impl fmt::Display {
        printable_name(self.executable.name())
    }

    /// The sandbox's name, to be shown.
    pub(crate) fn sandbox(&self) -> impl fmt::Display {
        printable_name(&self.sandbox)
    }

    /// The sandbox's name.
    pub(crate) fn name(&self) -> &str {
        &self.sandbox
    }

    /// The name of the function that was called last.
    pub(crate) fn function(&self) -> Option<&str> {
        (!self.function.is_empty()).then_some(&self.function)
    }

    /// A function is called. That allocates only where its name is longer than all before.
    pub(crate) fn calls(&mut self, function: &str) {
        self.function.clear();
        self.function.push_str(function);
    }

    #[cfg(test)]
    pub(crate) fn of_a_test() -> Self {
        Self::new(crate::image::tests::image().executable(), Some("tested".to_owned()))
    }
}

/// The last part of the image's name, and a number.
fn default_name(image: &str) -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed) + 1;
    let file_name = Path::new(image).file_name().map_or(image.into(), |name| name.to_string_lossy());
    format!("{}-{number}", file_name.replace(' ', "-"))
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
    fn write(&mut self, origin: &Origin, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(MAX_LINE) {
                if self.text.len() + part.len() > MAX_LINE {
                    self.flush(origin, stream);
                }
                self.text.extend_from_slice(part);
            }
            let line_ends = self.text.last() == Some(&b'\n');
            if line_ends && (self.events < MAX_LINES || self.text.len() >= SHARED_EVENT) {
                self.flush(origin, stream);
            }
        }
    }

    fn call_ended(&mut self, origin: &Origin, stream: Stream) {
        self.flush(origin, stream);
        self.events = 0;
    }

    fn flush(&mut self, origin: &Origin, stream: Stream) {
        if !self.text.is_empty() {
            log(origin, stream, self.text.strip_suffix(b"\n").unwrap_or(&self.text));
            self.text.clear();
            self.events += 1;
        }
    }
}

/// The line ends between lines that share an event are escaped, like everything that could forge lines in the log.
fn log(origin: &Origin, stream: Stream, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let text = printable_line(&text);
    let (image, sandbox, function) = (origin.image(), origin.sandbox(), origin.function());
    match stream {
        Stream::Stdout => {
            tracing::info!(target: "ampoule::guest", stream = "stdout", %image, %sandbox, function, "{text}");
        }
        Stream::Stderr => {
            tracing::warn!(target: "ampoule::guest", stream = "stderr", %image, %sandbox, function, "{text}");
        }
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
        let origin = Origin::of_a_test();
        let (mut output, captured) = Output::capture(5);
        output.write(&origin, Stream::Stdout, b"abc").unwrap();
        output.write(&origin, Stream::Stdout, b"defg").unwrap();
        assert_eq!(captured.take(), b"abcde");
        output.write(&origin, Stream::Stdout, b"hi").unwrap();
        assert_eq!(captured.take_string(), "hi");
    }

    #[test]
    fn a_failing_writer_can_be_dropped() {
        let origin = Origin::of_a_test();
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
        let error = output.write(&origin, Stream::Stderr, b"x").unwrap_err();
        output.drop_after(&origin, Stream::Stderr, &error);
        assert_eq!(format!("{output:?}"), "Output::discard");
    }

    #[test]
    fn the_log_cuts_lines_and_never_holds_more_than_one() {
        let origin = Origin::of_a_test();
        let mut log = LineLog::default();
        log.write(&origin, Stream::Stdout, b"one\ntwo");
        assert_eq!(log.text, b"two");
        log.write(&origin, Stream::Stdout, &[b'x'; 3 * MAX_LINE]);
        assert!(log.text.len() <= MAX_LINE);
        log.write(&origin, Stream::Stdout, b"\n");
        assert!(log.text.is_empty());
    }

    #[test]
    fn the_log_has_an_event_for_each_line() {
        let origin = Origin::of_a_test();
        let mut output = Output::log();
        let events = events_of(|| output.write(&origin, Stream::Stdout, b"one\n\ntwo\x1b\nthree").unwrap());
        assert_eq!(events.iter().map(|event| message(event)).collect::<Vec<_>>(), ["one", "", "two\\u{1b}"]);
        let events = events_of(|| output.flush(&origin, Stream::Stdout));
        assert_eq!(events.iter().map(|event| message(event)).collect::<Vec<_>>(), ["three"]);
    }

    #[test]
    fn an_event_names_image_sandbox_and_function() {
        let mut output = Output::log();
        let mut origin = Origin::of_a_test();
        let image = origin.image().to_string();
        let events = events_of(|| {
            output.write(&origin, Stream::Stdout, b"started\n").unwrap();
            origin.calls("greet");
            output.write(&origin, Stream::Stderr, b"called\n").unwrap();
        });
        assert_eq!(
            events,
            [
                format!("started stream=\"stdout\" image={image} sandbox=tested"),
                format!("called stream=\"stderr\" image={image} sandbox=tested function=\"greet\""),
            ]
        );
    }

    #[test]
    fn sandboxes_without_a_name_are_told_apart_by_a_number() {
        let [one, another] = [default_name("guests/decode.elf"), default_name("in memory")];
        let number = |name: &str, start| name.strip_prefix(start).and_then(|number| number.parse::<u64>().ok());
        assert_ne!(number(&one, "decode.elf-").unwrap(), number(&another, "in-memory-").unwrap());
    }

    #[test]
    fn short_lines_share_log_events_after_a_bounded_number() {
        let origin = Origin::of_a_test();
        for line in ["\n", "a\n"] {
            let mut output = Output::log();
            let text = line.repeat(100_000);
            let events = events_of(|| {
                for part in text.as_bytes().chunks(7) {
                    output.write(&origin, Stream::Stdout, part).unwrap();
                }
                output.call_ended(&origin, Stream::Stdout);
            });
            assert!(events.len() as u64 <= MAX_LINES + text.len() as u64 / SHARED_EVENT as u64 + 1, "{}", events.len());
            let logged: String = events.iter().map(|event| message(event).replace("\\n", "\n") + "\n").collect();
            assert_eq!(logged, text);
        }
    }

    #[test]
    fn each_call_has_events_of_the_log_for_its_lines() {
        let origin = Origin::of_a_test();
        let mut output = Output::log();
        for _ in 0..2 {
            let events = events_of(|| {
                output.write(&origin, Stream::Stdout, "a\n".repeat(MAX_LINES as usize + 2).as_bytes()).unwrap();
                output.write(&origin, Stream::Stdout, b"begun").unwrap();
                output.call_ended(&origin, Stream::Stdout);
                output.write(&origin, Stream::Stdout, b"another call's\n").unwrap();
            });
            let last: Vec<_> = events[MAX_LINES as usize - 1..].iter().map(|event| message(event)).collect();
            assert_eq!(last, ["a", "a\\na\\nbegun", "another call's"]);
            output.call_ended(&origin, Stream::Stdout);
        }
    }

    /// The message of an event of a guest's standard output.
    fn message(event: &str) -> &str {
        event.split_once(" stream=\"stdout\"").expect(event).0
    }
}
