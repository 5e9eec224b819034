//! What a trace shows of a guest: its requests, with what became of them and how long that took, and its end.

use std::time::Instant;

use ampoule_abi::text::printable_name;
use ampoule_vmm::SystemCall;
use ampoule_vmm::processor::PageFault;

use super::{Machine, Served};
use crate::address_space::FaultResolution;
use crate::fault::FaultKind;
use crate::host_memory::{HostMapping, Mapped};
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
            // The line comes when the call is served again.
            Ok(Served::AwaitsInput) => return served,
            Ok(Served::Abort { .. } | Served::Again) | Err(_) => None,
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

    /// Begins a line about a page fault, if anybody wants it.
    #[inline]
    pub(super) fn trace_page_fault(&self, fault: &PageFault) -> Option<Traced> {
        let PageFault { address, access, .. } = fault;
        let is_on = self.streams.trace().is_on();
        is_on.then(|| Traced { line: format!("page fault: {access} {:#x}", address.0), start: Instant::now() })
    }

    /// Begins a line about pages that the guest has written for the first time, of which the hypervisor's list is full, if
    /// anybody wants it.
    pub(super) fn trace_first_writes(&self) -> Option<Traced> {
        let is_on = self.streams.trace().is_on();
        is_on.then(|| Traced { line: "first writes to many pages".to_owned(), start: Instant::now() })
    }

    /// Ends the line of one after which the guest goes on.
    pub(super) fn trace_resolved(&self, traced: Option<Traced>, resolution: FaultResolution) {
        self.trace_answer(traced, || match (resolution, self.space.stack_start()) {
            (FaultResolution::Grown, Some(start)) => format!("the stack begins at {:#x}", start.0),
            (FaultResolution::PagedIn { pages }, _) => format!("{pages} pages of the file are read"),
            _ => "it is allowed".to_owned(),
        });
    }

    /// Ends a line with what has become of it.
    #[inline]
    pub(crate) fn trace_answer(&self, traced: Option<Traced>, answer: impl FnOnce() -> String) {
        if let Some(Traced { line, start }) = traced {
            let time = start.elapsed();
            self.trace_line(&format!("{line} = {} <{:.6}>", answer(), time.as_secs_f64()));
        }
    }

    /// Shows a fault that the guest has a handler for.
    pub(super) fn trace_handled(&self, kind: &FaultKind, at: u64) {
        if self.streams.trace().is_on() {
            self.trace_line(&format!("--- {} by the instruction at {at:#x}, for its handler ---", kind.what()));
        }
    }

    /// Shows what the application has mapped.
    pub(super) fn trace_mapped(&self, mapping: &HostMapping) {
        if self.streams.trace().is_on() {
            let (name, at, len) = (printable_name(mapping.name()), mapping.address(), mapping.len());
            let path = mapping.path().map_or_else(String::new, |path| format!(" and as {path:?}"));
            self.trace_line(&format!("--- `{name}` is mapped at {at:#x}{path}: {len} bytes, {} ---", mapping.access()));
        }
    }

    /// Shows what it has unmapped.
    pub(super) fn trace_unmapped(&self, mapping: &HostMapping) {
        if self.streams.trace().is_on() {
            self.trace_line(&format!("--- `{}` is unmapped ---", printable_name(mapping.name())));
        }
    }

    /// Shows what it lends.
    pub(super) fn trace_lent(&self, slice: &Mapped<'_>) {
        if let Some(at) = slice.address().filter(|_| self.streams.trace().is_on()) {
            self.trace_line(&format!("--- {} bytes are lent at {at:#x} ---", slice.len()));
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
