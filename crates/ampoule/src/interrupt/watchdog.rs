//! The thread that watches the time limits of all calls, and makes samples of those that are profiled due.
//!
//! There is one for the process, started by the first call that has a limit or is profiled. It looks at the sandboxes that
//! have had such calls, interrupts what has passed a limit as a kill would, takes those out of which a sample is due, and sleeps
//! until the next limit or sample. A call with a limit costs no system call, as long as the thread is going to look before the
//! limit anyway.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::thread;

use super::alarm::Alarm;
use super::linux::clock::Moment;
use super::linux::futex::FutexWord;
use super::linux::signal;
use super::shared::Shared;

/// See the [module](self). Lives as long as the process.
#[derive(Debug)]
pub(super) struct Watchdog {
    watched: Mutex<Watched>,
    alarm: Alarm<FutexWord>,
    /// Why its thread was not allowed to take another one out of its guest: an error number, or 0.
    refusal: AtomicI32,
}

#[derive(Debug, Default)]
struct Watched {
    sandboxes: Vec<Weak<Shared>>,
    /// How many there may be before those that are gone are looked for.
    most: usize,
    has_thread: bool,
}

impl Watched {
    /// Adds a sandbox. Of those that are gone, as many as are alive remain at most, and a few: the next look, which removes
    /// them all, can be hours away.
    fn add(&mut self, sandbox: &Arc<Shared>) {
        if self.sandboxes.len() >= self.most {
            self.sandboxes.retain(|sandbox| sandbox.strong_count() > 0);
            self.most = 2 * self.sandboxes.len() + 16;
        }
        self.sandboxes.push(Arc::downgrade(sandbox));
    }
}

impl Watchdog {
    /// The process's watchdog. Its thread may not have been started.
    pub(super) fn of_process() -> &'static Watchdog {
        let current = CURRENT.load(Ordering::Acquire);
        // SAFETY: a pointer in `CURRENT` is null or that of a watchdog which is never freed.
        unsafe { current.as_ref() }.unwrap_or_else(Watchdog::create)
    }

    /// Watches the limits and the samples of all calls of this sandbox from now on.
    pub(super) fn watch(&'static self, sandbox: &Arc<Shared>) -> io::Result<()> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !watched.has_thread {
            thread::Builder::new().name(THREAD_NAME.to_owned()).stack_size(STACK_SIZE).spawn(|| self.run())?;
            watched.has_thread = true;
        }
        watched.add(sandbox);
        Ok(())
    }

    /// Whether calls that have passed a limit can be ended.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.refusal.load(Ordering::Relaxed) {
            0 => Ok(()),
            refusal => Err(io::Error::from_raw_os_error(refusal)),
        }
    }

    /// Notes that a call has passed a limit, and its thread may be in the guest all the same.
    pub(super) fn note_refusal(&self) {
        self.refusal.store(signal::last_refusal(), Ordering::Relaxed);
    }

    /// Announces that a call of a watched sandbox has a limit, which it cannot reach before that moment, or that a sample of it
    /// is due then.
    pub(super) fn look_by(&self, moment: Moment) {
        self.alarm.look_by(moment);
    }

    fn run(&self) -> ! {
        signal::block_all();
        loop {
            self.alarm.look_and_sleep(|| self.look());
        }
    }

    /// Interrupts the calls that have passed a limit, and takes those out of their guests that are to be sampled. Returns when to look again.
    fn look(&self) -> Moment {
        let mut next = Moment::NEVER;
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.sandboxes.retain(|sandbox| {
            let sandbox = sandbox.upgrade();
            if let Some(sandbox) = &sandbox {
                next = next.min(sandbox.enforce_limits(self)).min(sandbox.sample()).min(sandbox.expire_timer());
            }
            sandbox.is_some()
        });
        next
    }

    fn create() -> &'static Watchdog {
        /// A child process has no thread but the one that forked it, and nobody unlocks what the others held.
        extern "C" fn forget_in_child() {
            CURRENT.store(ptr::null_mut(), Ordering::Release);
        }
        static AT_FORK: Once = Once::new();
        AT_FORK.call_once(|| {
            // SAFETY: the function only stores to an atomic. If there is no memory to register it, calls in child
            // processes go without their limits; there is no other harm.
            unsafe { libc::pthread_atfork(None, None, Some(forget_in_child)) };
        });

        let alarm = Alarm::new(FutexWord::new(Moment::NEVER.nanoseconds()), FutexWord::new(0));
        let created =
            Box::into_raw(Box::new(Watchdog { watched: Mutex::default(), alarm, refusal: AtomicI32::new(0) }));
        match CURRENT.compare_exchange(ptr::null_mut(), created, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: `created` comes from a box, and is never freed from now on.
            Ok(_) => unsafe { &*created },
            Err(other) => {
                // SAFETY: `created` comes from a box, and nobody else has seen it.
                drop(unsafe { Box::from_raw(created) });
                // SAFETY: as in `of_process`; it is not null, or the exchange had succeeded.
                unsafe { &*other }
            }
        }
    }
}

static CURRENT: AtomicPtr<Watchdog> = AtomicPtr::new(ptr::null_mut());

/// At most 15 bytes, or the kernel shortens it.
const THREAD_NAME: &str = "ampoule-limits";

const STACK_SIZE: usize = 64 << 10;

#[cfg(test)]
mod tests;
