//! Cancellation and time limits: how a call is ended from outside of the guest.
//!
//! The guest runs on the thread of its caller. To take the thread out of the guest, a request is set that makes every
//! run return at once, and then the thread gets a signal, which ends a run in progress. [`state`] sees to it that this
//! hits the right call and leaves no trace in another one. Handles do that for the application, and [`watchdog`] does
//! it when a time limit passes. A guest is taken out in the same way for a [`Reason`] that does not end its call, to be looked at
//! for example, and goes on. [`call`] is what a sandbox uses of all this. The table of moments is at [`InterruptHandle`].

use std::fmt;
use std::sync::Arc;

mod alarm;
mod awaiting;
mod call;
mod linux;
mod shared;
mod state;
#[cfg(test)]
mod tests;
mod watchdog;
mod word;

pub(crate) use awaiting::Awaiting;
pub(crate) use call::{
    CallGuard, Interruptor, LimitsUnwatched, Rest, TakeOut, TimeLimits, Unsampled, cpu_time, why_unwatched,
};
pub(crate) use linux::readable::is_readable;
#[cfg(feature = "gdb")]
pub(crate) use linux::signal::block_all;
pub use linux::signal::{InterruptSignal, InterruptSignalError};
pub use state::KillOutcome;
pub(crate) use state::{Interruption, Phase, Reason};

use crate::metrics::killed;
use shared::Shared;
use state::CallNumber;

/// Ends calls of one sandbox, from any thread.
///
/// A handle can be cloned, sent and kept for as long as one likes: it does not keep the sandbox alive. It stays with
/// its sandbox when that moves to another thread.
///
/// # What a kill does, by the moment at which it comes
///
/// | moment | [`kill`](Self::kill) returns | the call |
/// |---|---|---|
/// | before the call, or between two calls | `NotRunning` | is not affected |
/// | in the call, before the guest is entered | `Killed` | ends; the guest is not entered |
/// | while the guest runs | `Killed` | ends; the guest is left after the time that a signal takes |
/// | while the host serves an exit of the guest | `Killed` | ends; the guest is not entered again |
/// | while the guest sleeps (`nanosleep`) | `Killed` | ends; the sleep is cut short |
/// | inside a host function | `Killed` | ends when the host function returns; what it returned is dropped |
/// | while an asynchronous stream is awaited | `Killed` | ends; what is awaited is given up |
/// | after the guest's last exit, before the host has recorded it | `Killed` | ends; its result is dropped |
/// | after that, while the result is decoded | `NotRunning` | returns its result |
/// | after another kill, a deadline or a CPU time limit has struck | `AlreadyEnding` | ends for the first reason |
/// | after the call | `NotRunning` | is over; later calls are not affected |
/// | while the guest runs, and the kernel refuses to send a signal | `Unreachable` | ends at the guest's next exit |
/// | while the sandbox is dropped, and after that | `NotRunning` | |
/// | in a child that was forked from the sandbox's process, at any moment | `NotRunning` | is not affected |
///
/// A call for which `Killed` was returned has no result. It ends with a cause that says that it was killed, and poisons
/// the sandbox, because the guest stands at an instruction where it may have left its own data half changed. If the
/// guest was just ending for another reason, by a fault, an abort or a limit that is no time limit, that is the cause.
///
/// If a host function of one sandbox calls into a second sandbox, killing the first one's call does not touch the
/// second's. The second one returns, then the host function, then the first call ends.
///
/// Time limits behave like a kill at the moment at which they pass: deadlines are noticed by a thread of the library,
/// which the first call with a time limit starts.
///
/// A call belongs to the process that made the sandbox. To a child that is forked during a call, no call is running: neither a
/// kill nor a time limit of the child's reaches its parent. Handles to sandboxes that the child makes itself work there.
///
/// The signal that this takes, and what happens without it, is described at [`InterruptSignal`].
///
/// # In signal handlers
///
/// All operations but the creation and the drop of a handle are async-signal-safe: a handler of `SIGINT` may kill.
#[derive(Clone)]
pub struct InterruptHandle(Arc<Shared>);

impl InterruptHandle {
    /// Ends the call that is running at this moment, if there is one.
    ///
    /// Does not wait for the call's end. It waits only where the kernel has no room to queue one more signal, until
    /// there is room or the guest has left by itself.
    pub fn kill(&self) -> KillOutcome {
        match self.0.running() {
            Some((call, _)) => killed(self.0.interrupt(call, Interruption::Killed)),
            None => killed(KillOutcome::NotRunning),
        }
    }

    /// The call that is running at this moment, if there is one: to end this one and no later one.
    pub fn running_call(&self) -> Option<RunningCall> {
        let (number, _) = self.0.running()?;
        Some(RunningCall { shared: Arc::clone(&self.0), number })
    }

    /// Whether a call is running.
    pub fn is_running(&self) -> bool {
        self.0.running().is_some()
    }

    /// Whether a call is running and is inside a host function.
    pub fn is_in_host_function(&self) -> bool {
        matches!(self.0.running(), Some((_, Phase::Host)))
    }
}

impl fmt::Debug for InterruptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptHandle").field("is_running", &self.is_running()).finish()
    }
}

/// One call of one sandbox, which was running when [`InterruptHandle::running_call`] was called.
///
/// When the call has ended, this has no effect, even if the sandbox makes another call.
#[derive(Clone)]
pub struct RunningCall {
    shared: Arc<Shared>,
    number: CallNumber,
}

impl RunningCall {
    /// Ends the call, if it is still running. Like [`InterruptHandle::kill`] otherwise.
    pub fn kill(&self) -> KillOutcome {
        killed(self.shared.interrupt(self.number, Interruption::Killed))
    }

    /// Whether the call is still running.
    pub fn is_running(&self) -> bool {
        self.phase().is_some()
    }

    /// Whether the call is running and is inside a host function.
    pub fn is_in_host_function(&self) -> bool {
        self.phase() == Some(Phase::Host)
    }

    fn phase(&self) -> Option<Phase> {
        let (number, phase) = self.shared.running()?;
        (number == self.number).then_some(phase)
    }
}

impl fmt::Debug for RunningCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningCall").field("is_running", &self.is_running()).finish()
    }
}
