//! What a sandbox's calls share with their interrupters.

use std::fmt;
use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
use std::time::Duration;

use ampoule_vmm::Interrupt;

use super::call::TimeLimits;
use super::linux::clock::{AtomicClock, Clock, Moment};
use super::linux::futex::FutexWord;
use super::linux::signal::{self, Signal, this_thread};
use super::state::{CallNumber, CallState, Interruption, Kick, KillOutcome, Phase, Reason, Sent};
use super::watchdog::Watchdog;
use crate::address_space::Watch;

pub(super) struct Shared {
    pub(super) state: CallState<FutexWord>,
    /// None where the application does without signals.
    pub(super) signal: Option<Signal>,
    vcpu: Arc<dyn Interrupt>,
    /// The `pthread_t` of the calling thread. Changes only while no call is running.
    thread: AtomicU64,
    limits: Limits,
    samples: Samples,
    /// When a timer of the guest's expires that its thread is to be taken out for: on the monotonic clock, in nanoseconds;
    /// [`Moment::NEVER`] for none.
    timer: AtomicU64,
    /// Who watches the limits, and makes samples due.
    watchdog: AtomicPtr<Watchdog>,
}

/// When samples of the calls fall due. All calls of a process that are sampled with the same period are so at the same moments,
/// wherever they begin: if the period began with the call, the short ones would never be seen.
struct Samples {
    /// In nanoseconds; 0 where none are taken. Changes only while no call is running.
    period: AtomicU64,
    /// The next one, on the monotonic clock, in nanoseconds.
    at: AtomicU64,
}

/// The limits of the call that is running. Outside of a call there are none, so whoever first sees that a call is
/// running and then its limits does not see those of an earlier one.
struct Limits {
    /// On the monotonic clock, in nanoseconds; [`Moment::NEVER`] for none.
    deadline: AtomicU64,
    /// On `cpu_clock`, in nanoseconds; [`Moment::NEVER`] for none.
    cpu_time: AtomicU64,
    /// The calling thread's, set before `cpu_time`.
    cpu_clock: AtomicClock,
}

/// A deadline that does not come nearer.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoppedDeadline {
    deadline: Moment,
    since: Moment,
}

impl Shared {
    pub(super) fn new(vcpu: Arc<dyn Interrupt>, signal: Option<Signal>) -> Shared {
        Shared {
            state: CallState::default(),
            signal,
            vcpu,
            thread: AtomicU64::new(0),
            limits: Limits {
                deadline: AtomicU64::new(Moment::NEVER.nanoseconds()),
                cpu_time: AtomicU64::new(Moment::NEVER.nanoseconds()),
                cpu_clock: AtomicClock::new(Clock::MONOTONIC),
            },
            samples: Samples { period: AtomicU64::new(0), at: AtomicU64::new(0) },
            timer: AtomicU64::new(Moment::NEVER.nanoseconds()),
            watchdog: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// The number of the call that is running in this process, and what its thread is doing. That of a process from which this
    /// one was forked is none of ours: what is known of it here stays what it was at the fork.
    pub(super) fn running(&self) -> Option<(CallNumber, Phase)> {
        if self.vcpu.is_inherited() { None } else { self.state.running() }
    }

    /// Begins a call on the calling thread, without limits.
    #[inline]
    pub(super) fn begin(&self) -> CallNumber {
        self.thread.store(this_thread(), Ordering::Relaxed);
        self.state.begin()
    }

    /// Sees to it that the limits of calls are watched.
    pub(super) fn be_watched(self: &Arc<Shared>) -> io::Result<&'static Watchdog> {
        let watchdog = Watchdog::of_process();
        watchdog.check()?;
        let pointer = ptr::from_ref(watchdog).cast_mut();
        // Changed by the one thread that is about to make a call.
        if self.watchdog.load(Ordering::Relaxed) != pointer {
            if let Some(signal) = self.signal {
                // What this thread may send, the watchdog's may send too, as a rule: its filter is that of its starter.
                signal.check()?;
            }
            watchdog.watch(self)?;
            self.watchdog.store(pointer, Ordering::Relaxed);
        }
        Ok(watchdog)
    }

    /// Sets the limits of the call that has just begun.
    pub(super) fn limit(&self, call: CallNumber, limits: TimeLimits, watchdog: &Watchdog) {
        let now = Clock::MONOTONIC.now();
        let mut reached_by = Moment::NEVER;
        if let Some(deadline) = limits.deadline {
            reached_by = now.after(deadline);
            self.limits.deadline.store(reached_by.nanoseconds(), Ordering::Release);
        }
        if let Some(cpu_time) = limits.cpu_time {
            let clock = Clock::of_this_thread();
            self.limits.cpu_clock.store(clock);
            self.limits.cpu_time.store(clock.now().after(cpu_time).nanoseconds(), Ordering::Release);
            reached_by = reached_by.min(now.after(cpu_time));
        }
        if reached_by > now {
            watchdog.look_by(reached_by);
        } else if limits.deadline == Some(Duration::ZERO) {
            self.interrupt(call, Interruption::Deadline);
        } else {
            self.interrupt(call, Interruption::CpuTime);
        }
    }

    /// Lifts the limits of the call that is about to end.
    pub(super) fn lift_limits(&self) {
        self.limits.deadline.store(Moment::NEVER.nanoseconds(), Ordering::Release);
        self.limits.cpu_time.store(Moment::NEVER.nanoseconds(), Ordering::Release);
    }

    /// Lets the deadline of the call that is running stand still, until it is [set again](Self::continue_deadline) with what
    /// this returns. On the calling thread.
    pub(super) fn stop_deadline(&self) -> StoppedDeadline {
        let deadline = self.limits.deadline.swap(Moment::NEVER.nanoseconds(), Ordering::AcqRel);
        StoppedDeadline { deadline: Moment::from_nanoseconds(deadline), since: Clock::MONOTONIC.now() }
    }

    /// Sets the deadline again, later by the time for which it stood still.
    pub(super) fn continue_deadline(&self, StoppedDeadline { deadline, since }: StoppedDeadline) {
        if deadline != Moment::NEVER {
            let later = deadline.after(Clock::MONOTONIC.now().since(since));
            self.limits.deadline.store(later.nanoseconds(), Ordering::Release);
            Watchdog::of_process().look_by(later);
        }
    }

    /// Interrupts the call that is running if it has passed a limit. Returns when it may pass one, if nothing new
    /// happens.
    ///
    /// Everything that is read here may be out of date, up to the clock of a thread that has ended; but then the call
    /// is over, and its number does not match any more.
    pub(super) fn enforce_limits(&self, watchdog: &Watchdog) -> Moment {
        let strike = |call, limit| {
            if self.interrupt(call, limit) == KillOutcome::Unreachable {
                watchdog.note_refusal();
            }
            Moment::NEVER
        };
        let Some(call) = self.state.open() else {
            return Moment::NEVER;
        };
        let deadline = Moment::from_nanoseconds(self.limits.deadline.load(Ordering::Acquire));
        let cpu_time = Moment::from_nanoseconds(self.limits.cpu_time.load(Ordering::Acquire));
        let mut next = deadline;
        let now = Clock::MONOTONIC.now();
        if now >= deadline {
            return strike(call, Interruption::Deadline);
        }
        if cpu_time != Moment::NEVER {
            let used = self.limits.cpu_clock.load().now();
            if used >= cpu_time {
                return strike(call, Interruption::CpuTime);
            }
            next = next.min(now.after(cpu_time.since(used).max(CPU_TIME_GRANULARITY)));
        }
        next
    }

    /// Sees to it that a sample of each later call falls due in every period, or none does.
    pub(super) fn sample_every(&self, period: Option<Duration>) {
        let period = period.map_or(0, |period| u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.samples.at.store(0, Ordering::Release);
        self.samples.period.store(period, Ordering::Release);
    }

    /// Announces that a call which is sampled has just begun.
    pub(super) fn await_sample(&self, watchdog: &Watchdog) {
        let now = Clock::MONOTONIC.now();
        let mut at = Moment::from_nanoseconds(self.samples.at.load(Ordering::Relaxed));
        if at <= now {
            at = self.sample_after(now);
        }
        watchdog.look_by(at);
    }

    /// Makes a sample of the call that is running due, if it is time. Returns when the next one is, if nothing new happens.
    pub(super) fn sample(&self) -> Moment {
        if self.samples.period.load(Ordering::Acquire) == 0 || self.running().is_none() {
            return Moment::NEVER;
        }
        let at = Moment::from_nanoseconds(self.samples.at.load(Ordering::Acquire));
        let now = Clock::MONOTONIC.now();
        if now < at {
            return at;
        }
        self.state.take_out(Reason::Sample, self);
        self.sample_after(now)
    }

    /// Sees to it that the thread is taken out of its guest after so much time. It is not so exact that it matters what else takes
    /// time.
    pub(super) fn set_timer(&self, left: Duration, watchdog: &Watchdog) {
        let at = Clock::MONOTONIC.now().after(left);
        let before = Moment::from_nanoseconds(self.timer.load(Ordering::Relaxed));
        if at.after(TIMER_TOLERANCE) < before {
            self.timer.store(at.nanoseconds(), Ordering::Release);
            watchdog.look_by(at);
        }
    }

    pub(super) fn stop_timer(&self) {
        self.timer.store(Moment::NEVER.nanoseconds(), Ordering::Release);
    }

    /// Takes the thread out of its guest, if a timer has expired. Returns when it does, if nothing new happens.
    pub(super) fn expire_timer(&self) -> Moment {
        let at = self.timer.load(Ordering::Acquire);
        if at == Moment::NEVER.nanoseconds() || self.running().is_none() {
            return Moment::NEVER;
        }
        let moment = Moment::from_nanoseconds(at);
        if Clock::MONOTONIC.now() < moment {
            return moment;
        }
        let never = Moment::NEVER.nanoseconds();
        if self.timer.compare_exchange(at, never, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.take_out(Reason::Timer);
        }
        Moment::NEVER
    }

    /// Takes the thread of the call that is running out of its guest; see [`CallState::take_out`].
    pub(super) fn take_out(&self, reason: Reason) {
        if !self.vcpu.is_inherited() {
            self.state.take_out(reason, self);
        }
    }

    /// Takes what is due; see [`CallState::take_due`]. When the next sample falls due, the guest has had as much time as this one
    /// took: stacks can be so deep that it would get nowhere otherwise.
    pub(super) fn take_due(&self, sample: impl FnOnce(Phase)) {
        self.state.take_due(self, |phase| {
            let began = Clock::MONOTONIC.now();
            sample(phase);
            let now = Clock::MONOTONIC.now();
            self.sample_after(now.after(now.since(began)));
        });
    }

    /// Sees to it that the next sample does not fall due before that moment, and returns when it does. Calls must be sampled.
    fn sample_after(&self, moment: Moment) -> Moment {
        let period = self.samples.period.load(Ordering::Relaxed).max(1);
        let next = moment.next_multiple_of(period).nanoseconds();
        Moment::from_nanoseconds(self.samples.at.fetch_max(next, Ordering::AcqRel).max(next))
    }

    pub(super) fn interrupt(&self, call: CallNumber, interruption: Interruption) -> KillOutcome {
        if self.vcpu.is_inherited() {
            // The thread is another process's. To signal it could hang, or hit another thread instead.
            return KillOutcome::NotRunning;
        }
        self.state.interrupt(call, interruption, self)
    }

    /// See [`CallState::enter`].
    pub(super) fn enter(&self, phase: Phase) -> Result<(), Interruption> {
        self.forget_inherited_kick();
        self.state.enter(phase, self)
    }

    /// See [`CallState::leave`].
    pub(super) fn leave(&self) -> Result<(), Interruption> {
        self.state.leave(self)
    }

    /// Ends the call; see [`CallState::finish`].
    #[inline]
    pub(super) fn finish(&self) -> Result<(), Interruption> {
        self.forget_inherited_kick();
        self.state.finish(self)
    }

    /// In a forked child nobody is left who could end a kick that was on its way.
    #[inline]
    fn forget_inherited_kick(&self) {
        // As a rule there is no kick, and nothing has to be known of the process.
        if self.state.is_kicked() && self.vcpu.is_inherited() {
            self.state.forget_kick();
        }
    }
}

impl Watch for Shared {
    fn is_interrupted(&self) -> bool {
        self.state.check().is_err()
    }
}

impl Kick for Shared {
    fn request(&self) {
        // For who has been taken out, and takes the request back.
        fence(Ordering::SeqCst);
        self.vcpu.request();
    }

    fn clear(&self) {
        self.vcpu.clear();
    }

    fn signal(&self) -> Sent {
        let Some(signal) = self.signal else {
            return Sent::Yes;
        };
        let thread = self.thread.load(Ordering::Relaxed);
        // SAFETY: has no preconditions.
        if thread == unsafe { libc::pthread_self() } {
            // The calling thread is here, not in the guest; if this is a signal handler, its signal has ended the run.
            return Sent::Yes;
        }
        // SAFETY: a kick happens while the call is running, so its thread has not ended.
        unsafe { signal.send(thread) }
    }

    fn handle_pending(&self) {
        signal::handle_pending();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("running", &self.running()).field("signal", &self.signal).finish_non_exhaustive()
    }
}

/// How much earlier a timer has to expire than it was to for that to be worth a look.
const TIMER_TOLERANCE: Duration = Duration::from_micros(100);

/// How often a call that has nearly used up its CPU time is looked at: while it waits, the clock stands still.
const CPU_TIME_GRANULARITY: Duration = Duration::from_millis(1);
