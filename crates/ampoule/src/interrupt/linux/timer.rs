//! Timers that send a signal to the thread that made them.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::{Clock, Moment};
use super::signal::Signal;

/// A timer for the calling thread, which exists from its first use until the thread ends.
#[derive(Debug)]
pub(in crate::interrupt) struct ThreadTimer {
    clock: Clock,
    timer: Cell<Option<Timer>>,
}

#[derive(Copy, Clone, Debug)]
struct Timer {
    id: libc::timer_t,
    /// In which process it exists.
    generation: u64,
}

impl ThreadTimer {
    pub(in crate::interrupt) const fn new(clock: Clock) -> ThreadTimer {
        ThreadTimer { clock, timer: Cell::new(None) }
    }

    /// Makes sure that the timer exists. Not to be called while a signal handler may use it.
    pub(in crate::interrupt) fn create(&self, signal: Signal) -> io::Result<()> {
        if self.current().is_some() {
            return Ok(());
        }
        count_forks();
        let mut event = MaybeUninit::<libc::sigevent>::zeroed();
        let mut id = ptr::null_mut();
        // SAFETY: a `sigevent` of zeros is valid; `event` and `id` live during the calls.
        let result = unsafe {
            let event = event.assume_init_mut();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal.number();
            event.sigev_notify_thread_id = libc::gettid();
            libc::timer_create(self.clock.id(), event, &raw mut id)
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.timer.set(Some(Timer { id, generation: FORKS.load(Ordering::Relaxed) }));
        Ok(())
    }

    /// Makes the signal come at that moment, at once if it has passed, or not at all if it is [`Moment::NEVER`]. A signal
    /// that was due before has been handled when this returns. Safe in a signal handler.
    pub(in crate::interrupt) fn set(&self, at: Moment) {
        let Some(timer) = self.current() else {
            return;
        };
        let mut setting = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        };
        if at != Moment::NEVER {
            setting.it_value = at.timespec();
        }
        // SAFETY: the timer exists, since only `drop` deletes it, and `setting` lives during the call. It cannot fail: the
        // time is a valid one.
        unsafe { libc::timer_settime(timer.id, libc::TIMER_ABSTIME, &raw const setting, ptr::null_mut()) };
    }

    /// The timer, unless it was left behind in the parent process.
    fn current(&self) -> Option<Timer> {
        self.timer.get().filter(|timer| timer.generation == FORKS.load(Ordering::Relaxed))
    }
}

impl Drop for ThreadTimer {
    fn drop(&mut self) {
        if let Some(timer) = self.current() {
            // SAFETY: the timer exists, and nobody uses it after this.
            unsafe { libc::timer_delete(timer.id) };
        }
    }
}

/// Sees to it that [`FORKS`] is right in child processes, which have none of their parent's timers.
fn count_forks() {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        // SAFETY: the function only adds to a number. If there is no memory for the registration, timers fail in a child
        // that goes on to make calls, and their owner is none the worse.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// How many `fork`s lie between this process and the one that started timers.
static FORKS: AtomicU64 = AtomicU64::new(0);
