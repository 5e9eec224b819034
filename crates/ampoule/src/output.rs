//! Where a guest's standard output and standard error go.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use ampoule_abi::text::printable_line;

/// Where one of a guest's streams goes; set with [`Builder::stdout`](crate::Builder::stdout) and
/// [`Builder::stderr`](crate::Builder::stderr).
///
/// Text arrives on the thread that makes the call: when the guest next calls a host function or makes a system call, and at the
/// latest when the call ends, in whatever way. The two streams keep their order.
///
/// A guest's text is untrusted: the log escapes control characters, and the host bounds how much a call may print
/// ([`Limits::output`](crate::Limits::output)).
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
    /// standard error at `WARN`. The default for both streams.
    pub fn log() -> Self {
        Self(Kind::Log(LineLog::default()))
    }

    /// Nowhere.
    pub fn discard() -> Self {
        Self(Kind::Discard)
    }

    /// To this writer, byte for byte, on the thread that runs the guest. An error of the writer is logged once, and what
    /// follows is dropped: the guest cannot tell.
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
            Kind::Log(log) => log.write(stream, bytes),
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

    /// Passes on what is held back: a line without its end, a buffering writer's buffer.
    pub(crate) fn flush(&mut self, stream: Stream) {
        match &mut self.0 {
            Kind::Log(log) => log.flush(stream),
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

/// An output that several [`Output`]s lead to, one after the other.
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
    line: Vec<u8>,
}

impl LineLog {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(MAX_LINE) {
                if self.line.len() + part.len() > MAX_LINE {
                    self.flush(stream);
                }
                self.line.extend_from_slice(part);
            }
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
                self.emit(stream);
            }
        }
    }

    fn flush(&mut self, stream: Stream) {
        if !self.line.is_empty() {
            self.emit(stream);
        }
    }

    fn emit(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = printable_line(&text);
        match stream {
            Stream::Stdout => tracing::info!(target: "ampoule::guest", stream = "stdout", "{text}"),
            Stream::Stderr => tracing::warn!(target: "ampoule::guest", stream = "stderr", "{text}"),
        }
    }
}

/// Longest line of the log; longer ones are cut into several.
const MAX_LINE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(log.line, b"two");
        log.write(Stream::Stdout, &[b'x'; 3 * MAX_LINE]);
        assert!(log.line.len() <= MAX_LINE);
        log.write(Stream::Stdout, b"\n");
        assert!(log.line.is_empty());
    }
}
