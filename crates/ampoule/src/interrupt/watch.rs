//! The time limits of the calls on one thread.
//!
//! A host function may call into another sandbox, so a thread can have several calls, each with limits of its own. Those
//! that have any form a list, and the thread has one timer for each clock, set to the earliest limit of a call that is
//! still open. When the signal comes, its handler interrupts the calls that have passed a limit, and no others, and sets
//! the timers anew. So a signal that comes late, or for another reason, does nothing.

use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::linux::clock::{Clock, Moment};
use super::linux::signal::Signal;
use super::linux::timer::ThreadTimer;
use super::shared::Shared;

/// Makes sure that this thread has a timer for the clock.
pub(super) fn prepare(clock: Clock, signal: Signal) -> io::Result<()> {
    TIMERS
        .try_with(|timers| timers[clock as usize].create(signal))
        .unwrap_or_else(|_| Err(io::Error::other("the thread is ending, and its timers are gone")))
}

/// Watches the limits of a call on this thread. Its timers are prepared.
///
/// # Safety
///
/// `call` must be [`unwatch`]ed on the same thread before it is dropped.
pub(super) unsafe fn watch(call: &Arc<Shared>) {
    INNERMOST.with(|innermost| {
        // The call is complete before a signal handler can see it.
        call.link.0.store(innermost.load(Ordering::Relaxed), Ordering::Relaxed);
        innermost.store(Arc::as_ptr(call).cast_mut(), Ordering::Release);
    });
    set_timers(call);
    call.expire();
}

/// Ends what [`watch`] began. No signal of the call's limits comes after this.
pub(super) fn unwatch(call: &Arc<Shared>) {
    let this = Arc::as_ptr(call).cast_mut();
    let enclosing = call.link.0.load(Ordering::Relaxed);
    INNERMOST.with(|innermost| {
        // As a rule the call is the innermost one; where an application switches stacks it may be another.
        if innermost.load(Ordering::Relaxed) == this {
            innermost.store(enclosing, Ordering::Release);
        } else if let Some(inner) = calls(innermost).find(|inner| inner.link.0.load(Ordering::Relaxed) == this) {
            inner.link.0.store(enclosing, Ordering::Release);
        }
    });
    set_timers(call);
}

/// The handler of the interrupt signal.
pub(super) extern "C" fn on_signal(_: libc::c_int) {
    // SAFETY: every thread has an `errno`, at an address that stays.
    let errno = unsafe { &mut *libc::__errno_location() };
    let interrupted = *errno;
    INNERMOST.with(|innermost| {
        for call in calls(innermost) {
            call.expire();
        }
        for call in calls(innermost) {
            set_timers(call);
        }
    });
    *errno = interrupted;
}

/// A place in a thread's list of limited calls: the next one outwards. Changed by its thread only.
#[derive(Debug, Default)]
pub(super) struct Link(AtomicPtr<Shared>);

/// Sets the timers of those clocks by which `call` is limited to the earliest limit of all open calls of this thread.
///
/// Where a signal arrives in between and its handler sets them later, they are set to a moment that has passed, and the
/// handler corrects that at once.
fn set_timers(call: &Shared) {
    // Without timers no limited call has begun on this thread.
    let _ = TIMERS.try_with(|timers| {
        for clock in Clock::ALL.into_iter().filter(|clock| call.limit(*clock) != Moment::NEVER) {
            timers[clock as usize].set(earliest(clock));
        }
    });
}

fn earliest(clock: Clock) -> Moment {
    INNERMOST.with(|innermost| {
        let open = calls(innermost).filter(|call| call.state.is_open());
        open.map(|call| call.limit(clock)).min().unwrap_or(Moment::NEVER)
    })
}

/// This thread's calls with limits, from the innermost outwards.
fn calls(innermost: &AtomicPtr<Shared>) -> impl Iterator<Item = &Shared> {
    // SAFETY: the pointers are of calls that are being watched, hence alive until `unwatch` takes them out of the list.
    let deref = |call: *mut Shared| unsafe { call.as_ref() };
    std::iter::successors(deref(innermost.load(Ordering::Acquire)), move |call| {
        deref(call.link.0.load(Ordering::Acquire))
    })
}

thread_local! {
    /// Needs no initialization and no destructor, so that a signal handler may use it on any thread at any time.
    static INNERMOST: AtomicPtr<Shared> = const { AtomicPtr::new(ptr::null_mut()) };
    /// By [`Clock`]. A signal handler uses it only where a call is being watched, after [`prepare`] has used it.
    static TIMERS: [ThreadTimer; 2] =
        const { [ThreadTimer::new(Clock::Monotonic), ThreadTimer::new(Clock::ThreadCpu)] };
}
