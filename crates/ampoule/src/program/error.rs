//! Why a program could not be run to its own end.

use std::fmt;
use std::io;
use std::sync::Arc;

use ampoule_vmm::{BaselineError, HypervisorError, OpenError, WithAdvice};
use thiserror::Error;

use super::{Printed, ProgramOutput};
use crate::blame::Blame;
use crate::core_dump::CoreDump;
use crate::error::{fmt_core_dump, fmt_details, fmt_position};
use crate::fault::Position;
use crate::files::FilesError;
use crate::host_memory::MapMemoryError;
use crate::image::ImageError;
use crate::interrupt::{InterruptSignalError, LimitsUnwatched, why_unwatched};
use crate::loader::{ExecuteError, LoadError};
use crate::machine::{CheckpointError, MachineError, OutOfRange, RestoreMachineError};
use crate::profile::{Profile, ProfileError};
use crate::termination::Termination;

/// Why a [`Program`](crate::Program) could not be run to its own end.
///
/// `{}` is one line. `{:#}` adds to a fault its backtrace, registers and last words.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The executable cannot be read, or not be run here.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A setting is out of its range.
    #[error("`Program::{}` of {} bytes is out of range: {} to {}", .0.setting, .0.given, .0.least, .0.most)]
    Setting(OutOfRange),
    /// The program cannot be given its files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Memory that was to be mapped for the program cannot be.
    #[error("what is mapped for the program cannot be mapped: {0}")]
    Map(MapMemoryError),
    /// The hypervisor cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The program cannot be limited to the baseline that was asked for.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The hypervisor refused to make the virtual machine.
    #[error("the virtual machine could not be created: {0}")]
    Hypervisor(Arc<HypervisorError>),
    /// The host has no memory for the program.
    #[error("no memory for the {what} of {bytes} bytes: {}", WithAdvice(reason))]
    Memory {
        /// What the memory is for.
        what: &'static str,
        /// How much.
        bytes: usize,
        /// What the operating system said.
        reason: io::Error,
    },
    /// The host gives no random bytes, with which a program starts.
    #[error("the host gives no random bytes for the program: {0}; let the process's seccomp filter allow `getrandom`")]
    Random(io::Error),
    /// What it needs to start is not among its files.
    #[error(transparent)]
    Execute(ExecuteError),
    /// The program could not be put into its memory.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The signal that interrupts guests cannot be used.
    #[error(transparent)]
    Signal(#[from] InterruptSignalError),
    /// The time limits cannot be watched. The program has not run.
    #[error("the program's time limit cannot be watched, since {}", why_unwatched(.0))]
    LimitsUnwatched(io::Error),
    /// Something else than the program itself has ended it: a kill, a limit, or what works on Linux and not here.
    #[error(fmt = fmt_terminated)]
    Terminated {
        /// Name of the program, as messages call it.
        program: String,
        /// How it ended.
        cause: Termination,
        /// Where the program was, if a kill or a limit ended it. A fault has a position of its own.
        position: Option<Position>,
        /// What it had printed, as far as that did not go elsewhere.
        printed: Box<Printed>,
        /// What has become of its core dump, if [one was asked for](crate::Program::core_dumps).
        core_dump: Option<CoreDump>,
        /// What was sampled, if [that was asked for](crate::Program::profile).
        profile: Option<Box<Profile>>,
    },
    /// It was to wait for its standard input, and has ended without.
    #[error(
        "program `{program}` has ended before it waited for its standard input: {}; have it read its input where it is ready \
         for a request",
        output.status
    )]
    EndedBeforeInput {
        /// Name of the program, as messages call it.
        program: String,
        /// How it has ended, and what it has printed.
        output: Box<ProgramOutput>,
    },
    /// It has had its input, and is not at rest any more.
    #[error("program `{program}` {}; `IdleProgram::reset` takes it back to where it waits for input", ended(*by_panic))]
    NotIdle {
        /// Name of the program, as messages call it.
        program: String,
        /// Whether the reader of its input or the writer of an output has panicked while the program ran, which otherwise has
        /// come to its end.
        by_panic: bool,
    },
    /// The host cannot hold a snapshot of it, for lack of memory, files or mappings.
    #[error("the host cannot hold the snapshot of the program: {}", WithAdvice(.0))]
    Snapshot(io::Error),
    /// It cannot go back to where it waits for input.
    #[error(transparent)]
    Reset(#[from] ResetError),
    /// It cannot be profiled. It has not run.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// Why a program could not go back to where it waits for its input. It is no longer usable.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ResetError {
    /// The hypervisor failed.
    #[error("the program's virtual machine could not be restored: {0}; spawn another one from its snapshot")]
    Hypervisor(Arc<HypervisorError>),
    /// Its memory could not be restored.
    #[error("the program's memory could not be restored: {}; spawn another one from its snapshot", WithAdvice(.0))]
    Memory(Arc<io::Error>),
}

fn ended(by_panic: bool) -> &'static str {
    if by_panic { "stopped when the reader of its input or the writer of an output panicked" } else { "has ended" }
}

impl ProgramError {
    /// Who has to do something about it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Image(_) | Self::Load(_) => Blame::Guest,
            Self::Execute(_) => Blame::Caller,
            Self::EndedBeforeInput { .. } => Blame::Guest,
            Self::Setting(_) | Self::Files(_) | Self::LimitsUnwatched(_) | Self::Signal(_) | Self::Random(_) => {
                Blame::Caller
            }
            Self::NotIdle { .. } | Self::Profile(_) | Self::Map(_) | Self::Baseline(_) => Blame::Caller,
            Self::Open(_) | Self::Hypervisor(_) | Self::Memory { .. } => Blame::Hypervisor,
            Self::Snapshot(_) | Self::Reset(_) => Blame::Hypervisor,
            Self::Terminated { cause, .. } => cause.blame(),
        }
    }
}

impl From<ExecuteError> for ProgramError {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Image(error) => Self::Image(error),
            error => Self::Execute(error),
        }
    }
}

impl From<MachineError> for ProgramError {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::Memory { what, bytes, reason } => Self::Memory { what, bytes, reason },
            MachineError::Random(reason) => Self::Random(reason),
            MachineError::Load(error) => Self::Load(error),
            MachineError::Hypervisor(error) => Self::Hypervisor(Arc::new(error)),
            MachineError::Signal(error) => Self::Signal(error),
        }
    }
}

impl From<CheckpointError> for ProgramError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Hypervisor(error) => Self::Hypervisor(Arc::new(error)),
            CheckpointError::Host(error) => Self::Snapshot(error),
        }
    }
}

impl From<RestoreMachineError> for ResetError {
    fn from(error: RestoreMachineError) -> Self {
        match error {
            RestoreMachineError::Hypervisor(error) => Self::Hypervisor(Arc::new(error)),
            RestoreMachineError::Memory(error) => Self::Memory(Arc::new(error)),
        }
    }
}

impl From<LimitsUnwatched> for ProgramError {
    fn from(LimitsUnwatched { reason }: LimitsUnwatched) -> Self {
        Self::LimitsUnwatched(reason)
    }
}

fn fmt_terminated(
    program: &str,
    cause: &Termination,
    position: &Option<Position>,
    _: &Printed,
    core_dump: &Option<CoreDump>,
    _: &Option<Box<Profile>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    match cause {
        Termination::Fault(fault) => write!(f, "program `{program}`: {}", fault.summary())?,
        cause => write!(f, "program `{program}`: {cause}")?,
    }
    fmt_position(position, f)?;
    fmt_core_dump(core_dump, f)?;
    fmt_details(cause, position, f)
}
