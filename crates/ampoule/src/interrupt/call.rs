//! A sandbox's side: the calls that can be interrupted.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use ampoule_vmm::Interrupt;
use thiserror::Error;

use super::InterruptHandle;
use super::linux::clock::Clock;
use super::linux::readable;
use super::linux::signal::{InterruptSignalError, Signal, handle_pending};
use super::nudge::Nudge;
use super::shared::Shared;
use super::state::{Interruption, Phase};
use crate::address_space::Watch;

/// How long a call may take.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeLimits {
    /// Wall-clock time from the beginning of the call.
    pub(crate) deadline: Option<Duration>,
    /// CPU time of the calling thread from the beginning of the call, host functions included. Noticed with a delay of
    /// up to a millisecond, plus the time that a signal takes.
    pub(crate) cpu_time: Option<Duration>,
}

/// The time limits of the call could not be watched. The guest has not run.
#[derive(Debug, Error)]
#[error("the time limits of calls cannot be watched, since {}", why_unwatched(reason))]
pub(crate) struct LimitsUnwatched {
    pub(crate) reason: io::Error,
}

/// Why time limits cannot be watched, and what to do about it: the rest of a sentence.
pub(crate) fn why_unwatched(reason: &io::Error) -> String {
    match reason.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => format!(
            "the kernel refuses to start a thread for it, or to send the signal that ends a call: {reason}; let the process's \
             seccomp filter allow `clone`, `clone3` and `tgkill`"
        ),
        _ => format!("no thread could be started for it: {reason}; free some of the process's threads or memory"),
    }
}

/// Makes a sandbox's calls interruptible. Calls are begun, checked and finished on the thread that makes them.
pub(crate) struct Interruptor {
    shared: Arc<Shared>,
    vcpu: Arc<dyn Interrupt>,
    /// Set where no call may begin any more.
    cancelled: Option<Arc<AtomicBool>>,
}

impl Interruptor {
    /// For calls that run on this vCPU. Installs the interrupt signal if that has not happened.
    pub(crate) fn new(vcpu: Arc<dyn Interrupt>) -> Result<Interruptor, InterruptSignalError> {
        let shared = Arc::new(Shared::new(Arc::clone(&vcpu), Signal::in_use()?));
        Ok(Interruptor { shared, vcpu, cancelled: None })
    }

    pub(crate) fn handle(&self) -> InterruptHandle {
        InterruptHandle(Arc::clone(&self.shared))
    }

    /// Makes all [handles](Self::handle) of before lose their calls, as if the sandbox were gone, and forgets by what calls
    /// are cancelled. No call may be running.
    pub(crate) fn renew(&mut self) {
        self.cancelled = None;
        // The watchdog may hold it for the moment, which makes no difference but the cost.
        if Arc::strong_count(&self.shared) > 1 {
            self.shared = Arc::new(Shared::new(Arc::clone(&self.vcpu), self.shared.signal));
        }
    }

    /// Ends every call at once that begins after `cancelled` was set, as a kill would. To end the one that is running, too,
    /// whoever sets it follows with a sequentially consistent fence and then kills by a [`handle`](Self::handle): the call
    /// that this finds running is killed, and a call that it does not find began after the fence and sees what was set.
    #[cfg(feature = "tokio")]
    pub(crate) fn cancel_by(&mut self, cancelled: Arc<AtomicBool>) {
        self.cancelled = Some(cancelled);
    }

    /// Begins a call, which lasts until the guard is finished or dropped. There is one call at a time.
    ///
    /// Makes no system call but on a thread's first call, on a sandbox's first call with a limit, and where a limit is
    /// reached earlier than all others. Reading the clock for a limit of CPU time is one, too.
    #[inline]
    pub(crate) fn begin(&self, limits: TimeLimits) -> Result<CallGuard, LimitsUnwatched> {
        let watchdog = if limits == TimeLimits::default() {
            None
        } else {
            Some(self.shared.be_watched().map_err(|reason| LimitsUnwatched { reason })?)
        };
        if let Some(signal) = self.shared.signal {
            signal.unblock();
        }
        let call = self.shared.begin();
        if let Some(cancelled) = &self.cancelled {
            fence(Ordering::SeqCst);
            if cancelled.load(Ordering::Relaxed) {
                self.shared.interrupt(call, Interruption::Killed);
            }
        }
        if let Some(watchdog) = watchdog {
            self.shared.limit(call, limits, watchdog);
        }
        Ok(CallGuard {
            shared: Arc::clone(&self.shared),
            is_running: true,
            is_limited: watchdog.is_some(),
            _on_this_thread: PhantomData,
        })
    }

    /// For what serves an exit of the guest, for long perhaps: says whether it is to continue.
    pub(crate) fn watch(&self) -> Arc<dyn Watch> {
        Arc::clone(&self.shared) as Arc<dyn Watch>
    }

    /// Whether the call may continue. To be asked before every run of the guest.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Interruption> {
        self.shared.state.check()
    }

    /// Runs a function of the application, unless the call is to end, and gives its result, if the call may still continue
    /// then. A call must be running.
    pub(crate) fn in_host_function<R>(&self, function: impl FnOnce() -> R) -> Result<R, Interruption> {
        self.shared.state.enter(Phase::Host)?;
        let result = function();
        self.shared.state.leave()?;
        Ok(result)
    }

    /// Takes the thread out of the guest without ending the call.
    pub(crate) fn nudge(&self) -> Nudge {
        Nudge::new(Arc::clone(&self.vcpu), self.shared.signal)
    }

    /// Waits by `wait`, for which time the deadline of the call that is running stands still.
    pub(crate) fn without_deadline<R>(&self, wait: impl FnOnce() -> R) -> R {
        let deadline = self.shared.stop_deadline();
        let result = wait();
        self.shared.continue_deadline(deadline);
        result
    }

    /// Waits until this file is readable, or until the call is to end. A call must be running.
    pub(crate) fn await_readable(&self, file: BorrowedFd<'_>) -> Result<(), Interruption> {
        match self.shared.signal {
            // To whoever ends the call, the thread is in the guest. The signal is let through only within the wait, so it
            // cannot come between the look at the call and the wait.
            Some(signal) => signal.while_blocked(|mask| {
                while self.check().is_ok() && !readable::is_readable(file) {
                    readable::wait(file, mask);
                }
                self.check()
            }),
            None => {
                self.shared.state.enter(Phase::Asleep)?;
                while self.shared.state.check().is_ok() && !readable::is_readable(file) {
                    self.shared.state.wait(Clock::MONOTONIC.now().after(BETWEEN_LOOKS));
                }
                self.shared.state.leave()
            }
        }
    }

    /// Sleeps for this long, or until the call is to end. A call must be running.
    pub(crate) fn sleep(&self, duration: Duration) -> Result<(), Interruption> {
        let end = Clock::MONOTONIC.now().after(duration);
        self.shared.state.enter(Phase::Asleep)?;
        while self.shared.state.check().is_ok() && Clock::MONOTONIC.now() < end {
            self.shared.state.wait(end);
        }
        self.shared.state.leave()
    }
}

impl fmt::Debug for Interruptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interruptor")
            .field("shared", &self.shared)
            .field("cancelled", &self.cancelled)
            .finish_non_exhaustive()
    }
}

/// A call that is running. It ends on the thread on which it began.
#[derive(Debug)]
#[must_use = "the call ends when this is dropped"]
pub(crate) struct CallGuard {
    shared: Arc<Shared>,
    is_running: bool,
    is_limited: bool,
    _on_this_thread: PhantomData<*const ()>,
}

impl CallGuard {
    /// Ends the call. From here on it cannot be interrupted; if it was, its result does not count.
    #[inline]
    pub(crate) fn finish(mut self) -> Result<(), Interruption> {
        self.end()
    }

    #[inline]
    fn end(&mut self) -> Result<(), Interruption> {
        if !std::mem::take(&mut self.is_running) {
            return Ok(());
        }
        if self.is_limited {
            self.shared.lift_limits();
        }
        let finished = self.shared.finish();
        if finished.is_err() {
            // The interrupter's signal must not hit what the application does next.
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

/// How often a file is looked at where no signal ends the wait for it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
