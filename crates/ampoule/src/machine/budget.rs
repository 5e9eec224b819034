//! What the call being made may still use up.

use std::time::Duration;

use crate::interrupt::Interruption;
use crate::limits::{ExceededLimit, Limits};
use crate::termination::Termination;

/// Counts down what a call is allowed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    limits: Limits,
    output: u64,
    host_calls: u64,
    system_calls: u64,
}

impl Budget {
    /// Everything that the limits allow.
    #[inline]
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, output: 0, host_calls: 0, system_calls: 0 }
    }

    /// Counts a host call.
    pub(crate) fn host_call(&mut self) -> Result<(), ExceededLimit> {
        self.host_calls += 1;
        within(self.host_calls, self.limits.host_calls, ExceededLimit::HostCalls)
    }

    /// Counts a system call.
    pub(crate) fn system_call(&mut self) -> Result<(), ExceededLimit> {
        self.system_calls += 1;
        within(self.system_calls, self.limits.system_calls, ExceededLimit::SystemCalls)
    }

    /// Counts printed bytes, unless they are too many.
    pub(super) fn print(&mut self, bytes: usize) -> Result<(), ExceededLimit> {
        let output = self.output.saturating_add(bytes as u64);
        within(output, self.limits.output, ExceededLimit::Output)?;
        self.output = output;
        Ok(())
    }

    /// Counts a log record of so many bytes as printed, unless that is too much. A short one counts as more than it has, so that
    /// the limit bounds the number of events that records cause too.
    pub(super) fn log(&mut self, bytes: usize, events: usize) -> Result<(), ExceededLimit> {
        self.print(bytes.max(events * LOG_EVENT_LEAST))
    }

    /// What an interruption of the call means.
    pub(crate) fn interrupted(&self, interruption: Interruption) -> Termination {
        let allowed = |limit: Option<Duration>| limit.unwrap_or(Duration::MAX);
        match interruption {
            Interruption::Killed => Termination::Killed,
            Interruption::Deadline => ExceededLimit::Deadline(allowed(self.limits.deadline)).into(),
            Interruption::CpuTime => ExceededLimit::CpuTime(allowed(self.limits.cpu_time)).into(),
        }
    }

    /// The limit that [`print`](Self::print) has found exceeded.
    pub(super) fn output_exceeded(&self) -> ExceededLimit {
        ExceededLimit::Output(self.limits.output.unwrap_or(u64::MAX))
    }
}

fn within(used: u64, allowed: Option<u64>, exceeded: fn(u64) -> ExceededLimit) -> Result<(), ExceededLimit> {
    match allowed {
        Some(allowed) if used > allowed => Err(exceeded(allowed)),
        _ => Ok(()),
    }
}

/// What an event counts at least, in bytes.
const LOG_EVENT_LEAST: usize = 64;
