//! Where the lines of a trace go: what a guest asks of its host, one line for each request.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use ampoule_abi::text::printable_line;

use crate::output::Origin;

/// Where the lines go that show each system call, host call and fault, and the end of a guest, in the way of `strace`; set with
/// [`Builder::trace`](crate::Builder::trace), or at any time with [`Sandbox::set_trace`](crate::Sandbox::set_trace).
///
/// ```text
/// openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = -1 ENOENT <0.000011>
/// mmap(NULL, 131072, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, NULL) = 0x3fbfffe0000 <0.000014>
/// host weekday() = "Monday" <0.000002>
/// --- the guest called exit(3) ---
/// ```
///
/// A line is written when the request has been answered, on the thread that makes the call, and has the seconds that this
/// took. What a guest prints is no request, as long as it waits in the mailbox. Of each argument a bounded part is shown,
/// escaped, but every request has its line: a trace that was asked for is whole, however long the guest makes it.
///
/// [`docs/tracing.md`](https://github.com/ampoule-rs/ampoule/blob/main/docs/tracing.md) describes the lines.
///
/// Clones lead to the same place, where lines of several sandboxes stay whole.
#[derive(Clone)]
pub struct Trace {
    kind: Kind,
    has_names: bool,
}

#[derive(Clone)]
enum Kind {
    Log,
    Off,
    /// None once it has failed.
    Writer(Arc<Mutex<Option<Box<dyn Write + Send>>>>),
}

impl Trace {
    /// One event of the `tracing` log per line, at level `TRACE`, with the target `ampoule::trace` and the fields `image`,
    /// `sandbox` and `function`. Nothing is done where the log does not want them. The default.
    pub fn log() -> Self {
        Self { kind: Kind::Log, has_names: false }
    }

    /// Nowhere, even when the log wants them.
    pub fn off() -> Self {
        Self { kind: Kind::Off, has_names: false }
    }

    /// To this writer, a line at a time. An error of the writer is logged once, and what follows is dropped; the guest does
    /// not notice.
    pub fn writer(writer: impl Write + Send + 'static) -> Self {
        Self { kind: Kind::Writer(Arc::new(Mutex::new(Some(Box::new(writer))))), has_names: false }
    }

    /// Begins each line for a writer with the names of the sandbox and of the function that is called: `[shop-1 price] `.
    pub fn with_names(mut self) -> Self {
        self.has_names = true;
        self
    }

    /// Whether this is that trace, or a clone of it.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same = match (&self.kind, &other.kind) {
            (Kind::Log, Kind::Log) | (Kind::Off, Kind::Off) => true,
            (Kind::Writer(ours), Kind::Writer(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        };
        same && self.has_names == other.has_names
    }

    /// Whether anybody wants the lines.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        match &self.kind {
            Kind::Log => tracing::enabled!(target: "ampoule::trace", tracing::Level::TRACE),
            Kind::Off => false,
            Kind::Writer(_) => true,
        }
    }

    /// Writes a line.
    pub(crate) fn line(&self, origin: &Origin, line: &str) {
        // What is of the guest has been escaped, but names of functions in it have not.
        let line = printable_line(line);
        match &self.kind {
            Kind::Log => {
                let (image, sandbox, function) = (origin.image(), origin.sandbox(), origin.function());
                tracing::trace!(target: "ampoule::trace", %image, %sandbox, function, "{line}");
            }
            Kind::Off => {}
            Kind::Writer(writer) => {
                let names = if self.has_names { Names(Some(origin)) } else { Names(None) };
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                let text = format!("{names}{line}\n");
                if let Some(to) = writer.as_mut()
                    && let Err(error) = to.write_all(text.as_bytes()).and_then(|()| to.flush())
                {
                    let (image, sandbox) = (origin.image(), origin.sandbox());
                    tracing::warn!(%error, %image, %sandbox, "the writer of a trace failed; the trace is dropped");
                    *writer = None;
                }
            }
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Log => "Trace::log",
            Kind::Off => "Trace::off",
            Kind::Writer(_) => "Trace::writer",
        })
    }
}

/// The names at the beginning of a line, if it has any.
struct Names<'origin>(Option<&'origin Origin>);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(origin) = self.0 else { return Ok(()) };
        write!(f, "[{}", origin.sandbox())?;
        if let Some(function) = origin.function() {
            write!(f, " {}", printable_line(function))?;
        }
        f.write_str("] ")
    }
}
