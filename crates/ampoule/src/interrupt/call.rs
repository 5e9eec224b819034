//! A sandbox's side: the calls that can be interrupted.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ampoule_vmm::Interrupt;
use thiserror::Error;

use super::InterruptHandle;
use super::linux::clock::{Clock, Moment};
use super::linux::signal::{InterruptSignalError, Signal, handle_pending};
use super::shared::Shared;
use super::state::{Interruption, Phase};
use super::watch;

/// How long a call may take.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeLimits {
    /// Wall-clock time from the beginning of the call.
    pub(crate) deadline: Option<Duration>,
    /// CPU time of the calling thread from the beginning of the call, host functions included.
    pub(crate) cpu_time: Option<Duration>,
}

/// The time limit of a call cannot be watched. The guest has not run.
#[derive(Debug, Error)]
#[error(
    "the call's time limit cannot be watched, because the system gives this thread no timer; timers count against the \
     limit of pending signals (`ulimit -i`)"
)]
pub(crate) struct NoTimer {
    #[source]
    pub(crate) source: io::Error,
}

/// Makes a sandbox's calls interruptible. Calls are begun, checked and finished on the thread that makes them.
#[derive(Debug)]
pub(crate) struct Interruptor {
    shared: Arc<Shared>,
}

impl Interruptor {
    /// For calls that run on this vCPU. Installs the interrupt signal if that has not happened.
    pub(crate) fn new(vcpu: Arc<dyn Interrupt>) -> Result<Interruptor, InterruptSignalError> {
        Ok(Interruptor { shared: Arc::new(Shared::new(vcpu, Signal::in_use()?)) })
    }

    pub(crate) fn handle(&self) -> InterruptHandle {
        InterruptHandle(Arc::clone(&self.shared))
    }

    /// Begins a call, which lasts until the guard is finished or dropped. There is one call at a time.
    ///
    /// Without limits this is free of system calls but for a thread's first call, and never allocates.
    pub(crate) fn begin(&self, limits: TimeLimits) -> Result<CallGuard, NoTimer> {
        let limits = [(Clock::Monotonic, limits.deadline), (Clock::ThreadCpu, limits.cpu_time)];
        let is_limited = limits.iter().any(|(_, limit)| limit.is_some());
        let watching_signal = self.shared.signal.filter(|_| is_limited);
        for (clock, limit) in limits {
            if let (Some(signal), Some(_)) = (watching_signal, limit) {
                watch::prepare(clock, signal).map_err(|source| NoTimer { source })?;
            }
            self.shared.set_limit(clock, limit.map_or(Moment::NEVER, |limit| clock.now().after(limit)));
        }
        if let Some(signal) = self.shared.signal {
            signal.unblock();
        }
        self.shared.begin();
        let guard = CallGuard {
            shared: Arc::clone(&self.shared),
            is_running: true,
            is_watched: watching_signal.is_some(),
            _on_this_thread: PhantomData,
        };
        if guard.is_watched {
            // SAFETY: the guard holds the call, stays on this thread, and stops the watching before it goes.
            unsafe { watch::watch(&guard.shared) };
        }
        Ok(guard)
    }

    /// Whether the call may go on. To be asked before every run of the guest.
    pub(crate) fn check(&self) -> Result<(), Interruption> {
        self.poll();
        self.shared.state.check()
    }

    /// Runs a function of the application, unless the call may not go on, and gives its result, if the call may go on then.
    pub(crate) fn in_host_function<R>(&self, function: impl FnOnce() -> R) -> Result<R, Interruption> {
        self.poll();
        self.shared.state.enter(Phase::Host)?;
        let result = function();
        self.poll();
        self.shared.state.leave()?;
        Ok(result)
    }

    /// Sleeps for so long, or until the call may not go on.
    pub(crate) fn sleep(&self, duration: Duration) -> Result<(), Interruption> {
        let end = Clock::Monotonic.now().after(duration);
        self.shared.state.enter(Phase::Asleep)?;
        while self.shared.state.is_open() && Clock::Monotonic.now() < end {
            self.shared.state.wait(end.min(self.shared.limit(Clock::Monotonic)));
            self.shared.expire();
        }
        self.shared.state.leave()
    }

    /// Does what the signal's handler would do, where there is none.
    fn poll(&self) {
        if self.shared.signal.is_none() {
            self.shared.expire();
        }
    }
}

/// A call that is running. It ends on the thread on which it began.
#[derive(Debug)]
#[must_use = "the call ends when this is dropped"]
pub(crate) struct CallGuard {
    shared: Arc<Shared>,
    is_running: bool,
    is_watched: bool,
    _on_this_thread: PhantomData<*const ()>,
}

impl CallGuard {
    /// Ends the call. From here on it cannot be interrupted; if it was, its result does not count.
    pub(crate) fn finish(mut self) -> Result<(), Interruption> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Interruption> {
        if !std::mem::take(&mut self.is_running) {
            return Ok(());
        }
        let finished = self.shared.state.finish(&*self.shared);
        if self.is_watched {
            watch::unwatch(&self.shared);
        }
        if finished == Err(Interruption::Killed) {
            // The killer's signal must not interrupt what the application does next.
            handle_pending();
        }
        finished
    }
}

impl Drop for CallGuard {
    /// Ends the call where its caller unwinds; whether it was interrupted makes no difference then.
    fn drop(&mut self) {
        let _ = self.end();
    }
}
