//! How a guest can end for good.

use std::fmt;
use std::sync::Arc;

use ampoule_abi::layout::PanicRecord;
use ampoule_vmm::HypervisorError;
use thiserror::Error;

use crate::fault::Fault;
use crate::limits::ExceededLimit;
use crate::machine::RestoreError;
use crate::mailbox::{PayloadSource, ProtocolViolation};

/// Why a guest has ended before its time. The sandbox is poisoned: it refuses calls.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Termination {
    /// The guest did what the processor does not let it do.
    #[error(transparent)]
    Fault(Fault),
    /// The guest panicked and could not unwind.
    #[error("the guest panicked and aborted: {0}")]
    Panicked(GuestPanic),
    /// The guest ended itself with a signal, as `abort` does.
    #[error("the guest aborted ({})", SignalName(*.signal))]
    Aborted {
        /// The Linux signal number.
        signal: i32,
    },
    /// The guest called `exit`.
    #[error("the guest exited with status {code}; a guest waits for calls and does not exit")]
    Exited {
        /// The exit status.
        code: i32,
    },
    /// The guest waits for another thread, and it has none.
    #[error("the guest waits on a lock that no other thread can release: a guest has one thread")]
    Deadlocked,
    /// The guest broke the rules of the mailbox.
    #[error("the guest broke the protocol: {0}")]
    Protocol(ProtocolViolation),
    /// The call was killed ([`InterruptHandle::kill`](crate::InterruptHandle::kill)).
    #[error("the call was killed")]
    Killed,
    /// The guest exceeded a limit.
    #[error("{0}")]
    LimitExceeded(ExceededLimit),
    /// A host function panicked while the guest waited for it.
    #[error("a host function panicked while the guest waited for its result")]
    HostFunctionPanicked,
    /// The sandbox could not be reset.
    #[error("the sandbox could not be reset: {0}")]
    ResetFailed(#[source] RestoreError),
    /// The hypervisor failed.
    #[error("the hypervisor failed: {0}")]
    Hypervisor(#[source] Arc<HypervisorError>),
}

impl From<HypervisorError> for Termination {
    fn from(error: HypervisorError) -> Self {
        Self::Hypervisor(Arc::new(error))
    }
}

impl From<ExceededLimit> for Termination {
    fn from(limit: ExceededLimit) -> Self {
        Self::LimitExceeded(limit)
    }
}

impl From<ProtocolViolation> for Termination {
    fn from(violation: ProtocolViolation) -> Self {
        Self::Protocol(violation)
    }
}

/// What a panicking guest said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestPanic {
    /// The panic's message.
    pub message: String,
    /// Source file, as the guest's compiler named it.
    pub file: String,
    /// Line, counted from 1.
    pub line: u32,
    /// Column, counted from 1.
    pub column: u32,
}

impl GuestPanic {
    /// Reads the record that a guest has left.
    pub(crate) fn read(record: PayloadSource<'_>) -> Result<Self, ProtocolViolation> {
        let PanicRecord { message, file, line, column } = record.whole::<PanicRecord<String>>()?;
        Ok(Self { message, file, line, column })
    }
}

impl fmt::Display for GuestPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}:{}", self.message, self.file, self.line, self.column)
    }
}

struct SignalName(i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            libc::SIGABRT => f.write_str("SIGABRT"),
            libc::SIGSEGV => f.write_str("SIGSEGV"),
            libc::SIGKILL => f.write_str("SIGKILL"),
            libc::SIGTERM => f.write_str("SIGTERM"),
            libc::SIGILL => f.write_str("SIGILL"),
            libc::SIGTRAP => f.write_str("SIGTRAP"),
            signal => write!(f, "signal {signal}"),
        }
    }
}
