//! Why a program could not be run to its own end.

use std::fmt;
use std::io;
use std::sync::Arc;

use ampoule_vmm::{HypervisorError, OpenError, WithAdvice};
use thiserror::Error;

use super::Printed;
use crate::blame::Blame;
use crate::error::{fmt_details, fmt_position};
use crate::fault::Position;
use crate::image::ImageError;
use crate::interrupt::{InterruptSignalError, LimitsUnwatched, why_unwatched};
use crate::loader::LoadError;
use crate::machine::{MachineError, OutOfRange};
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
    /// The hypervisor cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
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
        printed: Printed,
    },
}

impl ProgramError {
    /// Who has to do something about it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Image(_) | Self::Load(_) => Blame::Guest,
            Self::Setting(_) | Self::LimitsUnwatched(_) | Self::Signal(_) | Self::Random(_) => Blame::Caller,
            Self::Open(_) | Self::Hypervisor(_) | Self::Memory { .. } => Blame::Hypervisor,
            Self::Terminated { cause, .. } => cause.blame(),
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
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    match cause {
        Termination::Fault(fault) => write!(f, "program `{program}`: {}", fault.summary())?,
        cause => write!(f, "program `{program}`: {cause}")?,
    }
    fmt_position(position, f)?;
    fmt_details(cause, position, f)
}
