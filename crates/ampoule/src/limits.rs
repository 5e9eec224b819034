//! What a call may use up.

use std::fmt;
use std::time::Duration;

/// Limits of a call. Each is independent of the others; what has no limit set is unlimited.
///
/// A sandbox has limits for all of its calls ([`Builder::limits`](crate::Builder::limits)), and a call can have its own
/// ([`Call::limits`](crate::Call::limits)), which take precedence where they are set. A guest that exceeds a limit ends, and
/// its sandbox is poisoned ([`Termination::LimitExceeded`](crate::Termination::LimitExceeded)).
///
/// Time limits are watched by one thread for the whole process, `ampoule-limits`, which is started by the first call that
/// has one. A call with a deadline makes no system call for it, unless its deadline comes before all others that the thread
/// waits for; one with a limit of processor time reads its thread's clock once.
///
/// ```
/// use std::time::Duration;
///
/// use ampoule::Limits;
///
/// let limits = Limits::new().deadline(Duration::from_millis(50)).output(4096);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub(crate) deadline: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) output: Option<u64>,
    pub(crate) host_calls: Option<u64>,
    pub(crate) system_calls: Option<u64>,
}

impl Limits {
    /// No limits.
    pub const fn new() -> Self {
        Self { deadline: None, cpu_time: None, output: None, host_calls: None, system_calls: None }
    }

    /// How much wall-clock time a call may take, its host functions included. A host function is not interrupted: the call
    /// ends when it returns.
    pub const fn deadline(mut self, time: Duration) -> Self {
        self.deadline = Some(time);
        self
    }

    /// How much processor time a call may take, its host functions included.
    pub const fn cpu_time(mut self, time: Duration) -> Self {
        self.cpu_time = Some(time);
        self
    }

    /// How many bytes a call may print and log, to standard output, standard error and as log records together. They are
    /// counted when they arrive ([`Output`](crate::Output)). The limit also bounds how many log events they cause: 1,000 of
    /// each stream, and one more for each 64 bytes ([`Output::log`](crate::Output::log)). A log record counts as 64 bytes at
    /// least ([`Builder::log_level`](crate::Builder::log_level)).
    pub const fn output(mut self, bytes: u64) -> Self {
        self.output = Some(bytes);
        self
    }

    /// How many calls of host functions a call may make. Each piece of a stream ([`Reader`](crate::Reader),
    /// [`Writer`](crate::Writer)) counts as one.
    pub const fn host_calls(mut self, calls: u64) -> Self {
        self.host_calls = Some(calls);
        self
    }

    /// How many system calls a call may make. A well-behaved guest needs a few dozen to start, and few or none in a call.
    /// The log has an event for each at level `TRACE`, and 101 of them in all at level `DEBUG`.
    pub const fn system_calls(mut self, calls: u64) -> Self {
        self.system_calls = Some(calls);
        self
    }

    /// These limits, and those of `others` where these set none.
    #[inline]
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            deadline: self.deadline.or(others.deadline),
            cpu_time: self.cpu_time.or(others.cpu_time),
            output: self.output.or(others.output),
            host_calls: self.host_calls.or(others.host_calls),
            system_calls: self.system_calls.or(others.system_calls),
        }
    }
}

/// A limit of a call that was exceeded, and what was allowed. That a guest needed more memory than it has is a
/// [fault](crate::FaultKind::OutOfMemory).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExceededLimit {
    /// Wall-clock time ([`Limits::deadline`]).
    Deadline(Duration),
    /// Processor time ([`Limits::cpu_time`]).
    CpuTime(Duration),
    /// Printed bytes ([`Limits::output`]).
    Output(u64),
    /// Calls of host functions ([`Limits::host_calls`]).
    HostCalls(u64),
    /// System calls ([`Limits::system_calls`]).
    SystemCalls(u64),
}

impl fmt::Display for ExceededLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline(time) => write!(f, "the call took longer than its deadline of {time:?}"),
            Self::CpuTime(time) => write!(f, "the call took more than {time:?} of processor time"),
            Self::Output(bytes) => write!(f, "the call printed more than {bytes} bytes"),
            Self::HostCalls(calls) => write!(f, "the call made more than {calls} host calls"),
            Self::SystemCalls(calls) => write!(f, "the call made more than {calls} system calls"),
        }
    }
}
