//! A sandbox's side: the calls that can be interrupted.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ampoule_vmm::Interrupt;
use thiserror::Error;

use super::InterruptHandle;
use super::awaiting::Awaiting;
use super::linux::clock::{Clock, Moment};
use super::linux::readable;
use super::linux::signal::{InterruptSignalError, Signal};
use super::shared::Shared;
use super::state::{Interruption, Phase, Reason};
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

/// Calls cannot be sampled.
#[derive(Debug)]
pub(crate) enum Unsampled {
    /// The application does without the signal.
    NoSignal,
    /// There is nobody who could send it.
    Unwatched(LimitsUnwatched),
}

/// CPU time that the calling thread has used since it began.
pub(crate) fn cpu_time() -> Duration {
    Clock::THIS_THREAD.now().since(Moment::from_nanoseconds(0))
}

/// Makes a sandbox's calls interruptible. Calls are begun, checked and finished on the thread that makes them.
pub(crate) struct Interruptor {
    shared: Arc<Shared>,
    vcpu: Arc<dyn Interrupt>,
    /// Set where no call may begin any more.
    cancelled: Option<Arc<AtomicBool>>,
    /// Whether samples of the calls fall due.
    is_sampled: bool,
    /// What takes the thread out of its guest, where there is somebody who may.
    take_out: Option<TakeOut>,
    /// Whether a timer of the guest's was set.
    is_timed: bool,
}

impl Interruptor {
    /// For calls that run on this vCPU. Installs the interrupt signal if that has not happened.
    pub(crate) fn new(vcpu: Arc<dyn Interrupt>) -> Result<Interruptor, InterruptSignalError> {
        let shared = Arc::new(Shared::new(Arc::clone(&vcpu), Signal::in_use()?));
        Ok(Interruptor { shared, vcpu, cancelled: None, is_sampled: false, take_out: None, is_timed: false })
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
            if let Some(take_out) = &self.take_out {
                take_out.be_about(&self.shared);
            }
        }
    }

    /// Makes a sample of each later call fall due in every period, until [`stop_samples`](Self::stop_samples). No call may be
    /// running.
    pub(crate) fn sample_every(&mut self, period: Duration) -> Result<(), Unsampled> {
        if self.shared.signal.is_none() {
            return Err(Unsampled::NoSignal);
        }
        self.shared.be_watched().map_err(|reason| Unsampled::Unwatched(LimitsUnwatched { reason }))?;
        self.shared.sample_every(Some(period));
        self.is_sampled = true;
        Ok(())
    }

    /// Makes no more samples fall due. No call may be running.
    pub(crate) fn stop_samples(&mut self) {
        self.shared.sample_every(None);
        self.is_sampled = false;
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
        if self.is_sampled {
            self.await_sample();
        }
        Ok(CallGuard {
            shared: Arc::clone(&self.shared),
            is_running: true,
            is_limited: watchdog.is_some(),
            _on_this_thread: PhantomData,
        })
    }

    /// Where nobody can be found any more who makes samples due, a call goes without; it does not fail.
    #[cold]
    fn await_sample(&self) {
        if let Ok(watchdog) = self.shared.be_watched() {
            self.shared.await_sample(watchdog);
        }
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
        self.shared.enter(Phase::Host)?;
        let result = function();
        self.shared.leave()?;
        Ok(result)
    }

    /// Like [`in_host_function`](Self::in_host_function), with a function that may await something.
    pub(crate) fn in_awaiting_function<R>(
        &self,
        function: impl FnOnce(&mut Awaiting<'_>) -> R,
    ) -> Result<R, Interruption> {
        self.in_host_function(|| function(&mut Awaiting::new(&self.shared)))
    }

    /// What takes the thread out of its guest in all later calls.
    pub(crate) fn take_out(&mut self) -> TakeOut {
        self.take_out.get_or_insert_with(|| TakeOut::new(&self.shared)).clone()
    }

    /// Waits by `wait`, for which time the deadline of the call that is running stands still.
    pub(crate) fn without_deadline<R>(&self, wait: impl FnOnce() -> R) -> R {
        let deadline = self.shared.stop_deadline();
        let result = wait();
        self.shared.continue_deadline(deadline);
        result
    }

    /// Serves an exit of the guest, whether or not the call is to end. Where the thread may be taken out of its guest, no signal
    /// for that interrupts this, and what falls due meanwhile is known to have done so. A call must be running.
    #[inline]
    pub(crate) fn serving<R>(&self, serve: impl FnOnce() -> R) -> R {
        let may_be_taken_out = self.is_sampled || self.is_timed || self.take_out.is_some();
        if !may_be_taken_out || self.shared.enter(Phase::Serving).is_err() {
            return serve();
        }
        let result = serve();
        // If the call is to end, the next check says so.
        let _ = self.shared.leave();
        result
    }

    /// Whether something is due, so that the guest is not to be run before it is taken.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.shared.state.is_due()
    }

    /// Takes what is due; a sample from what the thread was doing when it fell due. To be called after each run that was
    /// interrupted, and before each other one if something is due; [`check`](Self::check) comes after it.
    pub(crate) fn take_due(&self, sample: impl FnOnce(Phase)) {
        self.shared.take_due(sample);
    }

    /// Takes the thread out of its guest after so much time, for a timer of the guest's. Where nobody can be found who does, the
    /// guest is not interrupted for it. A call must be running.
    #[cold]
    pub(crate) fn set_timer(&mut self, left: Duration) {
        if let Ok(watchdog) = self.shared.be_watched() {
            self.is_timed = true;
            self.shared.set_timer(left, watchdog);
        }
    }

    /// Forgets the timer. No call may be running.
    #[inline]
    pub(crate) fn stop_timer(&mut self) {
        if self.is_timed {
            self.is_timed = false;
            self.shared.stop_timer();
        }
    }

    /// Waits until this file is readable, for so much time at most, or until the thread has something else to do. A call must be
    /// running.
    pub(crate) fn await_readable(&self, file: BorrowedFd<'_>, limit: Option<Duration>) -> Result<Rest, Interruption> {
        let end = limit.map_or(Moment::NEVER, |limit| Clock::MONOTONIC.now().after(limit));
        let left = || (end != Moment::NEVER).then(|| end.since(Clock::MONOTONIC.now()));
        let is_over = || left().is_some_and(|left| left.is_zero());
        match self.shared.signal {
            // To whoever ends the call, the thread is in the guest. The signal is let through only within the wait, so it
            // cannot come between the look at the call and the wait.
            Some(signal) => signal.while_blocked(|mask| {
                while self.is_at_rest() && !is_over() && !readable::is_readable(file) {
                    readable::wait(file, mask, left());
                }
                self.check().map(|()| self.rest())
            }),
            None => {
                self.shared.enter(Phase::Asleep)?;
                while self.is_at_rest() && !is_over() && !readable::is_readable(file) {
                    self.shared.state.wait(Clock::MONOTONIC.now().after(BETWEEN_LOOKS));
                }
                let rest = self.rest();
                self.shared.leave().map(|()| rest)
            }
        }
    }

    /// Sleeps for this long, or until the thread has something else to do. A call must be running.
    pub(crate) fn sleep(&self, duration: Duration) -> Result<Rest, Interruption> {
        let end = Clock::MONOTONIC.now().after(duration);
        self.shared.enter(Phase::Asleep)?;
        while self.is_at_rest() && Clock::MONOTONIC.now() < end {
            self.shared.state.wait(end);
        }
        let rest = self.rest();
        self.shared.leave().map(|()| rest)
    }

    fn is_at_rest(&self) -> bool {
        self.check().is_ok() && self.rest() == Rest::Over
    }

    /// Whether a wait is to end for what is due.
    pub(crate) fn rest(&self) -> Rest {
        if self.shared.state.is_roused() { Rest::Broken } else { Rest::Over }
    }
}

/// How a sleep or a wait has ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[must_use = "what has not come to its end is to go on later"]
pub(crate) enum Rest {
    /// The time has come, or what was waited for.
    Over,
    /// The thread was taken out of the guest: what is due is taken when the guest is run again.
    Broken,
}

/// Takes the thread of a sandbox out of its guest without ending its call, from any thread. A thread that sleeps for the guest or
/// waits for input is roused. In a function of the application and between two calls nothing is interrupted: what fell due in the
/// function is taken behind it, and between two calls nothing falls due.
#[derive(Clone, Debug)]
pub(crate) struct TakeOut(Arc<Mutex<Arc<Shared>>>);

impl TakeOut {
    fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::new(Mutex::new(Arc::clone(shared))))
    }

    fn be_about(&self, shared: &Arc<Shared>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(shared);
    }

    /// Makes the run of the guest that is in progress end, or the next one.
    pub(crate) fn now(&self, reason: Reason) {
        let shared = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        shared.take_out(reason);
    }
}

impl fmt::Debug for Interruptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interruptor")
            .field("shared", &self.shared)
            .field("cancelled", &self.cancelled)
            .field("is_sampled", &self.is_sampled)
            .field("take_out", &self.take_out)
            .field("is_timed", &self.is_timed)
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
        self.shared.finish()
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
