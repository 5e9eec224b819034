//! What a trace shows of a guest: its requests, with what became of them and how long that took, and its end.

use std::time::Instant;

use ampoule_vmm::SystemCall;

use super::{Machine, Served};
use crate::personality::Personality;
use crate::termination::Termination;

/// A request of the guest that is being served, and is traced.
pub(crate) struct Traced {
    line: String,
    start: Instant,
}

impl Machine {
    /// Serves the system call for which the guest has stopped.
    #[inline]
    pub(crate) fn serve(&mut self, call: &SystemCall) -> Result<Served, Termination> {
        let traced = self.trace_system_call(call);
        let served = self.answer(call);
        let result = match served {
            Ok(Served::Answered { result }) => Some(result),
            Ok(Served::Abort { .. }) | Err(_) => None,
        };
        self.trace_result(traced, call, result);
        served
    }

    /// Begins a line about a system call, if anybody wants it.
    #[inline]
    pub(super) fn trace_system_call(&self, call: &SystemCall) -> Option<Traced> {
        let is_on = self.streams.trace().is_on();
        is_on.then(|| Traced { line: self.process.show_entered(call, &self.space), start: Instant::now() })
    }

    /// Ends the line; without a result where the guest does not go on.
    #[inline]
    pub(super) fn trace_result(&self, traced: Option<Traced>, call: &SystemCall, result: Option<u64>) {
        if let Some(mut traced) = traced {
            let time = traced.start.elapsed();
            self.process.show_left(call, result, &self.space, &mut traced.line);
            self.trace_line(&format!("{} <{:.6}>", traced.line, time.as_secs_f64()));
        }
    }

    /// Begins a line about a host call that is shown like this, if anybody wants it.
    pub(crate) fn trace_host_call(&self, shown: impl FnOnce() -> String) -> Option<Traced> {
        let is_on = self.streams.trace().is_on();
        is_on.then(|| Traced { line: format!("host {}", shown()), start: Instant::now() })
    }

    /// Ends the line with what the function gave.
    pub(crate) fn trace_host_result(&self, traced: Option<Traced>, result: impl FnOnce() -> String) {
        if let Some(Traced { line, start }) = traced {
            let time = start.elapsed();
            self.trace_line(&format!("{line} = {} <{:.6}>", result(), time.as_secs_f64()));
        }
    }

    /// Shows how the guest has ended.
    pub(super) fn trace_end(&self, termination: &Termination) {
        if self.streams.trace().is_on() {
            self.trace_line(&format!("--- {termination} ---"));
        }
    }

    fn trace_line(&self, line: &str) {
        self.streams.trace().line(self.streams.origin(), line);
    }
}
