//! Taking a thread out of its guest without ending the call, for a debugger that breaks in.
//!
//! A nudge makes the run in progress return, or the next one not begin. Whoever runs the guest then finds out what it was
//! about, and runs it again. It is a [kick](super::state) of its own, beside those that end calls: it asks the vCPU to leave,
//! and sends a signal. Both are withdrawn or over before [`run`](Nudge::run) returns, since the thread announces under a lock
//! where it is, and the lock is held while the signal is sent.
//!
//! A kill uses the same request, and to withdraw a nudge's may take it back. So the word of the call is to be looked at again
//! before the next run: a kill whose request was taken back had changed it by then.

use std::fmt;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ampoule_vmm::Interrupt;

use super::linux::signal::{Signal, handle_pending, this_thread};
use super::state::Sent;

/// See the [module](self).
pub(crate) struct Nudge {
    vcpu: Arc<dyn Interrupt>,
    /// None where the application does without signals: then the guest is left at its next exit.
    signal: Option<Signal>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether no run is to begin.
    is_wanted: bool,
    /// The thread that runs the guest, while it does.
    runs_on: Option<libc::pthread_t>,
    /// Whether the vCPU was asked to leave.
    has_requested: bool,
}

impl Nudge {
    pub(super) fn new(vcpu: Arc<dyn Interrupt>, signal: Option<Signal>) -> Self {
        Self { vcpu, signal, state: Mutex::default() }
    }

    /// Runs the guest by `run`, unless somebody has nudged since this was last called: then that is over.
    pub(crate) fn run<R>(&self, run: impl FnOnce() -> R) -> Option<R> {
        if self.is_inherited() {
            // Nobody is there to nudge, and nobody to unlock what another thread held at the fork.
            return Some(run());
        }
        let mut state = self.state();
        if std::mem::take(&mut state.is_wanted) {
            return None;
        }
        state.runs_on = Some(this_thread());
        drop(state);
        let left = Left(self);
        let result = run();
        drop(left);
        Some(result)
    }

    /// Makes the run that is in progress end, or the next one not begin.
    pub(crate) fn nudge(&self) {
        if self.is_inherited() {
            return;
        }
        let mut state = self.state();
        state.is_wanted = true;
        while let Some(thread) = state.runs_on {
            // As for a kick: a run that begins after the request ends because of it, one before it because of the signal.
            state.has_requested = true;
            self.vcpu.request();
            let Some(signal) = self.signal else { return };
            // SAFETY: the thread is in `run`, and does not leave it while the lock is held.
            if unsafe { signal.send(thread) } != Sent::NotYet {
                return;
            }
            // It may leave by itself.
            drop(state);
            state = self.state();
        }
    }

    /// Whether this is a process that was forked from the guest's.
    pub(crate) fn is_inherited(&self) -> bool {
        self.vcpu.is_inherited()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Announces when it is dropped that the guest has been left.
struct Left<'a>(&'a Nudge);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.runs_on = None;
        state.is_wanted = false;
        if std::mem::take(&mut state.has_requested) {
            self.0.vcpu.clear();
            // Whoever kills changes the word of the call, fences, and then requests. A kill whose request came before `clear`
            // shows in the word from here on.
            fence(Ordering::SeqCst);
            handle_pending();
        }
    }
}

impl fmt::Debug for Nudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nudge").field("signal", &self.signal).finish_non_exhaustive()
    }
}
