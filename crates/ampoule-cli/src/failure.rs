//! How a command ends, and what it says where it fails.

use std::fmt::Display;
use std::process::ExitCode;

use ampoule::{
    BuildError, CallError, ExceededLimit, FaultKind, ImageError, LoadSnapshotError, ProgramError, SaveSnapshotError,
    Termination, image::ImageProblem,
};
use ampoule_abi::text::{printable_line, printable_lines};
use serde::Serialize;

/// What an exit code stands for. Where a guest ends as a process can end, the code is the one that a shell, `timeout` or a Rust
/// program would have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Everything is as it should be.
    Done,
    /// The function returned an error, or `doctor` found a failure.
    Failed,
    /// The command line is wrong, or the arguments are not those of the function.
    Usage,
    /// The guest ended otherwise: it exited, broke the protocol, or exceeded a limit that is not one of time.
    Ended,
    /// The guest panicked: what Rust programs exit with.
    Panicked,
    /// A limit of time was exceeded: as with `timeout`.
    TimedOut,
    /// The host could not do it: as with `timeout` and `env`.
    Host,
    /// The file is not an image that this host runs: as with `env`.
    NotAnImage,
    /// There is no such file, or no such function: as with `env`.
    NotFound,
    /// The guest aborted: 128 and the number of the signal.
    Aborted,
    /// The guest faulted: 128 and the number of the signal that a process would have got.
    Faulted,
    /// A program that was run has ended by itself: its own exit code.
    Program(u8),
}

impl Status {
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Ended => 3,
            Self::Panicked => 101,
            Self::TimedOut => 124,
            Self::Host => 125,
            Self::NotAnImage => 126,
            Self::NotFound => 127,
            Self::Aborted => 128 + libc::SIGABRT as u8,
            Self::Faulted => 128 + libc::SIGSEGV as u8,
            Self::Program(code) => code,
        }
    }

    /// What programs call it.
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "function",
            Self::Usage => "usage",
            Self::Ended => "ended",
            Self::Panicked => "panic",
            Self::TimedOut => "time limit",
            Self::Host => "host",
            Self::NotAnImage => "not an image",
            Self::NotFound => "not found",
            Self::Aborted => "abort",
            Self::Faulted => "fault",
            Self::Program(_) => "program",
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        status.code().into()
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    message: String,
    /// Everything that is known, in several lines.
    details: Option<String>,
    is_in_full: bool,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl Display) -> Self {
        Self { status, message: in_terms_of_options(message.to_string()), details: None, is_in_full: false }
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Status::Usage, message)
    }

    /// With what an error says in its alternate form.
    pub(crate) fn detailed(mut self, error: &impl Display) -> Self {
        self.details = Some(in_terms_of_options(format!("{error:#}")));
        self
    }

    /// Is to say everything that is known, even where that is more than a line.
    pub(crate) fn in_full(self) -> Self {
        Self { is_in_full: true, ..self }
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Writes it to standard error: as one line, or in full where that was asked for.
    pub(crate) fn print(&self) {
        match &self.details {
            Some(details) if self.is_in_full => eprintln!("ampoule: {}", printable_lines(details.trim_end())),
            _ => eprintln!("ampoule: {}", printable_line(self.message.trim_end())),
        }
    }

    /// What a program reads of it.
    pub(crate) fn report(&self) -> Report<'_> {
        Report { kind: self.status.name(), message: &self.message }
    }
}

/// A failure as `--json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    kind: &'static str,
    message: &'a str,
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let status = match error.problem() {
            ImageProblem::Read { reason } if reason.kind() == std::io::ErrorKind::NotFound => Status::NotFound,
            _ => Status::NotAnImage,
        };
        Self::new(status, error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let status = match &error {
            BuildError::Setting { .. } | BuildError::Files(_) | BuildError::Load(_) => Status::Usage,
            BuildError::Start(cause, ..) => status_of(cause),
            _ => Status::Host,
        };
        let text = error.to_string();
        // A hypervisor that cannot be used is described in several lines.
        let message = match text.split_once('\n') {
            Some((first, _)) => format!("{first} (`ampoule doctor` has more)"),
            None => text,
        };
        Self::new(status, message).detailed(&error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let status = match &error {
            CallError::UnknownFunction { .. } => Status::NotFound,
            CallError::Function { .. } => Status::Failed,
            CallError::Panicked { .. } => Status::Panicked,
            CallError::Terminated { cause, .. } => status_of(cause),
            CallError::Decode { .. } | CallError::ArgumentsRefused { .. } => Status::Ended,
            CallError::LimitsUnwatched { .. } => Status::Host,
            _ => Status::Usage,
        };
        Self::new(status, &error).detailed(&error)
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        let status = match error {
            ProgramError::Image(error) => return error.into(),
            ProgramError::Setting(_) | ProgramError::Files(_) | ProgramError::Load(_) => Status::Usage,
            ProgramError::Execute(_) => Status::NotAnImage,
            ProgramError::Terminated { ref cause, .. } => status_of(cause),
            _ => Status::Host,
        };
        Self::new(status, &error).detailed(&error)
    }
}

impl From<LoadSnapshotError> for Failure {
    fn from(error: LoadSnapshotError) -> Self {
        let status = match &error {
            LoadSnapshotError::Image(_) => Status::NotAnImage,
            LoadSnapshotError::Read { reason, .. } if reason.kind() == std::io::ErrorKind::NotFound => Status::NotFound,
            LoadSnapshotError::Read { .. }
            | LoadSnapshotError::Memory { .. }
            | LoadSnapshotError::Open(_)
            | LoadSnapshotError::Baseline(_) => Status::Host,
            LoadSnapshotError::Files(_)
            | LoadSnapshotError::File { .. }
            | LoadSnapshotError::Room { .. }
            | LoadSnapshotError::Kind { .. } => Status::Usage,
            _ => Status::NotAnImage,
        };
        Self::new(status, error)
    }
}

impl From<SaveSnapshotError> for Failure {
    fn from(error: SaveSnapshotError) -> Self {
        Self::new(Status::Host, error)
    }
}

fn status_of(cause: &Termination) -> Status {
    match cause {
        Termination::Fault(fault) => match fault.kind() {
            FaultKind::Panicked(_) => Status::Panicked,
            FaultKind::Aborted { .. } | FaultKind::OutOfMemory { .. } => Status::Aborted,
            FaultKind::Exited { .. } | FaultKind::Deadlocked(_) => Status::Ended,
            _ => Status::Faulted,
        },
        Termination::LimitExceeded(ExceededLimit::Deadline(_) | ExceededLimit::CpuTime(_)) => Status::TimedOut,
        Termination::Hypervisor(_) => Status::Host,
        _ => Status::Ended,
    }
}

/// What the library's errors say of the builder and of the sandbox, for those who have neither.
fn in_terms_of_options(text: String) -> String {
    let terms = TERMS.iter().filter(|(library, _)| text.contains(library));
    terms.fold(text.clone(), |text, (library, option)| text.replace(library, option))
}

const TERMS: [(&str, &str); 11] = [
    ("`Program::memory_limit`", "`--memory`"),
    ("`Program::stack_size`", "`--stack`"),
    ("`Builder::memory_limit`", "`--memory`"),
    ("`Builder::stack_size`", "`--stack`"),
    ("`Builder::mailbox_size`", "`--mailbox`"),
    ("`Options::plain_http`", "`--plain-http`"),
    ("`Options::size_limit`", "`--size-limit`"),
    ("load it with `ProgramSnapshot::load`", "`ampoule run` continues it"),
    ("load it with `Snapshot::load`", "`ampoule call` continues it"),
    (" with `SnapshotFile::files`", " by `--libs`, `--root`, `--dir` and `--tmp`"),
    ("; the sandbox is poisoned: restore a snapshot or reset it", ""),
];
