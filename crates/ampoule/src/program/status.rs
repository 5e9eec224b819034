//! How programs end.

use std::fmt;

use linux_raw_sys::general::{SIGABRT, SIGBUS, SIGSEGV};

use crate::fault::{Fault, FaultKind, FaultTarget};
use crate::personality::linux::signal_of;
use crate::termination::Termination;

/// How a program has ended by itself, in terms of its parent process, which would get this from `wait`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProgramStatus {
    /// It has exited with this code, from 0 to 255.
    Exited(i32),
    /// It has died by a signal, its own or one for a fault.
    Signaled {
        /// The Linux number of the signal.
        signal: i32,
        /// What has happened, and where.
        fault: Box<Fault>,
    },
}

impl ProgramStatus {
    /// Whether it has exited with code 0.
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// The code with which it has exited.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(*code),
            Self::Signaled { .. } => None,
        }
    }

    /// The signal by which it has died.
    pub fn signal(&self) -> Option<i32> {
        match self {
            Self::Exited(_) => None,
            Self::Signaled { signal, .. } => Some(*signal),
        }
    }

    /// What a shell would make of it: the code, or 128 and the number of the signal.
    pub fn shell_code(&self) -> i32 {
        match self {
            Self::Exited(code) => *code,
            Self::Signaled { signal, .. } => 128 + signal,
        }
    }

    /// The status of a program that has ended by itself, or else what has ended it.
    pub(super) fn of(cause: Termination) -> Result<Self, Termination> {
        let Termination::Fault(fault) = cause else { return Err(cause) };
        if let FaultKind::Exited { code } = *fault.kind() {
            return Ok(Self::Exited(code));
        }
        match fault.ending_signal().or_else(|| signal(fault.kind())) {
            Some(signal) => Ok(Self::Signaled { signal, fault: Box::new(fault) }),
            None => Err(Termination::Fault(fault)),
        }
    }
}

/// The signal by which a program of Linux would have died; none where it would have gone on, or no program can get there.
fn signal(kind: &FaultKind) -> Option<i32> {
    let signal = match kind {
        FaultKind::Aborted { signal } => return Some(*signal),
        FaultKind::OutOfMemory { .. } | FaultKind::Panicked(_) => SIGABRT,
        FaultKind::PageFault { target: FaultTarget::BehindFile, .. }
        | FaultKind::LostMemory { .. }
        | FaultKind::LostSnapshot => SIGBUS,
        FaultKind::SystemCallReturn { .. }
        | FaultKind::ForgedExit { .. }
        | FaultKind::SignalStack { .. }
        | FaultKind::SignalReturn { .. } => SIGSEGV,
        kind => signal_of(kind.vector()?)?,
    };
    Some(signal as i32)
}

impl fmt::Display for ProgramStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit with status {code}"),
            Self::Signaled { fault, .. } => fault.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{EndlessWait, FaultAccess};

    #[test]
    fn a_program_dies_by_the_signal_that_linux_would_send() {
        let exception = |vector| FaultKind::Exception { vector, error_code: None };
        let read = |target| FaultKind::PageFault { address: 0, access: FaultAccess::Read, target };
        for (kind, expected) in [
            (read(FaultTarget::Null), Some(libc::SIGSEGV)),
            (read(FaultTarget::BehindFile), Some(libc::SIGBUS)),
            (FaultKind::StackOverflow { address: 8 }, Some(libc::SIGSEGV)),
            (exception(0), Some(libc::SIGFPE)),
            (exception(3), Some(libc::SIGTRAP)),
            (exception(6), Some(libc::SIGILL)),
            (exception(13), Some(libc::SIGSEGV)),
            (exception(17), Some(libc::SIGBUS)),
            (FaultKind::ForgedExit { port: 1 }, Some(libc::SIGSEGV)),
            (FaultKind::Aborted { signal: libc::SIGTERM }, Some(libc::SIGTERM)),
            (FaultKind::OutOfMemory { limit: 1, panic: None }, Some(libc::SIGABRT)),
            (FaultKind::SignalStack { signal: libc::SIGUSR1, address: 8 }, Some(libc::SIGSEGV)),
            (FaultKind::SignalReturn { address: 8 }, Some(libc::SIGSEGV)),
            (FaultKind::Deadlocked(EndlessWait::Lock), None),
            (FaultKind::Shutdown, None),
        ] {
            assert_eq!(signal(&kind), expected, "{kind}");
        }
    }
}
