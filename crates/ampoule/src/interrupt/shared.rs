//! What a sandbox's calls share with the handles and the signal handler.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ampoule_vmm::Interrupt;

use super::linux::clock::{AtomicMoment, Clock, Moment};
use super::linux::futex::FutexWord;
use super::linux::signal::Signal;
use super::state::{CallNumber, CallState, Interruption, Kick, KillOutcome};
use super::watch::Link;

pub(super) struct Shared {
    pub(super) state: CallState<FutexWord>,
    /// None where the application does without signals.
    pub(super) signal: Option<Signal>,
    /// Where the call is in its thread's list of limited calls.
    pub(super) link: Link,
    vcpu: Arc<dyn Interrupt>,
    /// The `pthread_t` of the calling thread. Changes only while no call is running.
    thread: AtomicU64,
    /// When the call has to end, by [`Clock`].
    limits: [AtomicMoment; 2],
}

impl Shared {
    pub(super) fn new(vcpu: Arc<dyn Interrupt>, signal: Option<Signal>) -> Shared {
        Shared {
            state: CallState::default(),
            signal,
            link: Link::default(),
            vcpu,
            thread: AtomicU64::new(0),
            limits: [const { AtomicMoment::new(Moment::NEVER) }; 2],
        }
    }

    /// Begins a call on the calling thread.
    pub(super) fn begin(&self) {
        // SAFETY: has no preconditions.
        self.thread.store(unsafe { libc::pthread_self() }, Ordering::Relaxed);
        self.state.begin();
    }

    pub(super) fn limit(&self, clock: Clock) -> Moment {
        self.limits[clock as usize].load()
    }

    pub(super) fn set_limit(&self, clock: Clock, limit: Moment) {
        self.limits[clock as usize].store(limit);
    }

    /// Interrupts the call if it has passed a limit. To be called on the calling thread; safe in a signal handler.
    pub(super) fn expire(&self) {
        for (clock, interruption) in
            [(Clock::Monotonic, Interruption::Deadline), (Clock::ThreadCpu, Interruption::CpuTime)]
        {
            let limit = self.limit(clock);
            if limit != Moment::NEVER && clock.now() >= limit && self.state.interrupt(interruption) {
                self.vcpu.request();
            }
        }
    }

    pub(super) fn kill(&self, call: CallNumber) -> KillOutcome {
        self.state.kill(call, self)
    }
}

impl Kick for Shared {
    fn request(&self) {
        self.vcpu.request();
    }

    fn clear(&self) {
        self.vcpu.clear();
    }

    fn signal(&self) -> bool {
        let Some(signal) = self.signal else {
            return true;
        };
        let thread = self.thread.load(Ordering::Relaxed);
        // SAFETY: has no preconditions.
        if thread == unsafe { libc::pthread_self() } {
            // We are in a signal handler on the calling thread: its run, if one is in progress, ends by this signal.
            return true;
        }
        // SAFETY: a kick happens while the call is running, so its thread has not ended.
        unsafe { signal.send(thread) }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("running", &self.state.running())
            .field("signal", &self.signal)
            .finish_non_exhaustive()
    }
}
