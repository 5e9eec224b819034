//! The signal that makes a thread leave its guest.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use thiserror::Error;

use crate::interrupt::state::Sent;

/// The signal by which the library takes a thread out of its guest, for [kills](crate::InterruptHandle) and time
/// limits.
///
/// One signal serves all sandboxes of the process. It is chosen when the first one is built, or before that by
/// [`install`](InterruptSignal::install):
///
/// ```no_run
/// use ampoule::InterruptSignal;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// InterruptSignal::Number(libc::SIGUSR2).install()?;
/// # Ok(()) }
/// ```
///
/// What the library does with it:
///
/// - It installs a handler, unless the application has a handler for this signal or ignores it: that is an error. The
///   handler is never removed, so a shared object that contains the library must stay loaded. It runs on the thread's
///   alternate signal stack if there is one.
/// - It unblocks the signal on every thread that makes a call, at the thread's first call. The application must not
///   block it there again, or change what happens when it comes: a guest that does not leave by itself would never end.
/// - It sends the signal to threads that run a guest, and only to end that guest's call. No host function and nothing
///   else of the application is ever interrupted by it.
/// - Whether it may send it (`tgkill`, which a seccomp filter can forbid) is tried when it is installed, for every sandbox
///   that is built, and before a sandbox's first call with a time limit: an error where it may not. With a filter that comes
///   later, a kill is [`Unreachable`](crate::KillOutcome::Unreachable), and once that has happened to a time limit, no more calls
///   with one are begun.
///
/// A signal of this number from elsewhere has no effect (its handler has `SA_RESTART`). No other signal is touched, and
/// a guest that is interrupted by one of the application's signals continues after the application's handler.
///
/// A process can have several copies of the library, in two shared objects for example, or in two versions. Each has a
/// signal of its own, and ends its own calls only.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InterruptSignal {
    /// The first real-time signal from `SIGRTMIN + 6` on, which is 40 with glibc, that has the default disposition. Those
    /// before it are left to other runtimes.
    #[default]
    Default,
    /// This one, which must have the default disposition. Signals that processors and the C library raise, such as
    /// `SIGSEGV` or `SIGABRT`, are refused.
    Number(i32),
    /// None: nothing is installed. A kill or a time limit ends a call at the guest's next exit, that is when it makes a
    /// system call, calls a host function, or returns. A guest that just computes and prints a little runs for as long
    /// as it likes.
    None,
}

impl InterruptSignal {
    /// Decides for this choice. Later attempts to decide otherwise fail.
    ///
    /// # Errors
    ///
    /// [`InterruptSignalError`]. Nothing is decided or installed then.
    pub fn install(self) -> Result<(), InterruptSignalError> {
        let _alone = DECIDING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Decision(decided)) = DECISION.get() {
            let signal = decided.map(|signal| signal.0);
            return if self.allows(signal) { Ok(()) } else { Err(InterruptSignalError::Decided { signal }) };
        }
        let claimed = match self {
            InterruptSignal::Default => Some(Signal::claim_one_of(default_signals())?),
            InterruptSignal::Number(number) => Some(Signal::claim(number)?),
            InterruptSignal::None => None,
        };
        DECISION.get_or_init(|| Decision(claimed));
        Ok(())
    }

    /// Whether this choice could have led to this decision.
    fn allows(self, decided: Option<i32>) -> bool {
        match self {
            InterruptSignal::Default => decided.is_some_and(|signal| default_signals().contains(&signal)),
            InterruptSignal::Number(number) => decided == Some(number),
            InterruptSignal::None => decided.is_none(),
        }
    }
}

/// Why a signal cannot be the one that ends calls.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InterruptSignalError {
    /// The application, or a library in it, has a handler for the signal, or ignores it.
    #[error(
        "signal {signal} is in use by the application or one of its libraries; before the first sandbox is built, choose \
         another one with `InterruptSignal::Number(..).install()`, or do without by `InterruptSignal::None.install()`"
    )]
    InUse {
        /// The signal's number.
        signal: i32,
    },
    /// So it is with each signal that could be the [default](InterruptSignal::Default).
    #[error(
        "signals {first} to {last} are all in use by the application or its libraries; before the first sandbox is built, \
         choose another one with `InterruptSignal::Number(..).install()`, or do without by `InterruptSignal::None.install()`"
    )]
    AllInUse {
        /// The lowest number.
        first: i32,
        /// The highest number.
        last: i32,
    },
    /// The signal is raised by faults of a program itself, and a handler that returns would repeat the fault.
    #[error("signal {signal} reports faults and cannot be used to end calls; choose `SIGUSR1` or a real-time signal")]
    ReportsFaults {
        /// The signal's number.
        signal: i32,
    },
    /// There is no such signal, or the kernel or the C library lets nobody handle it.
    #[error("signal {signal} cannot be handled: {reason}; choose `SIGUSR1` or a real-time signal")]
    Unusable {
        /// The signal's number.
        signal: i32,
        /// The system's answer.
        reason: io::Error,
    },
    /// The kernel refuses to send the signal, so that no call could be taken out of its guest.
    #[error(
        "signal {signal} cannot be sent to the process's own threads: {reason}; let its seccomp filter allow `tgkill`, or, before \
         the first sandbox is built, do without the signal by `InterruptSignal::None.install()`"
    )]
    Refused {
        /// The signal's number.
        signal: i32,
        /// The system's answer.
        reason: io::Error,
    },
    /// The process has decided before.
    #[error(
        "the signal that ends calls was chosen before ({}); choose it once, before the first sandbox is built",
        .signal.map_or("none".to_owned(), |signal| signal.to_string())
    )]
    Decided {
        /// The signal in use, if any.
        signal: Option<i32>,
    },
}

/// A signal whose handler is ours.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::interrupt) struct Signal(i32);

impl Signal {
    /// The signal in use, which this thread may send; decides for the default if nothing was decided.
    pub(in crate::interrupt) fn in_use() -> Result<Option<Signal>, InterruptSignalError> {
        if let Some(Decision(decided)) = DECISION.get() {
            if let Some(signal) = decided {
                signal.check().map_err(|reason| InterruptSignalError::Refused { signal: signal.0, reason })?;
            }
            return Ok(*decided);
        }
        match InterruptSignal::Default.install() {
            Ok(()) | Err(InterruptSignalError::Decided { .. }) => Signal::in_use(),
            Err(error) => Err(error),
        }
    }

    fn claim_one_of(signals: RangeInclusive<i32>) -> Result<Signal, InterruptSignalError> {
        for signal in signals.clone() {
            match Signal::claim(signal) {
                Err(InterruptSignalError::InUse { .. }) => {}
                claimed => return claimed,
            }
        }
        Err(InterruptSignalError::AllInUse { first: *signals.start(), last: *signals.end() })
    }

    /// Installs the handler. Another copy of the library may do so at the same moment, or the application: whoever finds that
    /// it has replaced another's handler puts that back, and has not got the signal. A signal in between is handled here; for
    /// one that is another copy's that makes no difference, since no copy's handler does anything.
    fn claim(signal: i32) -> Result<Signal, InterruptSignalError> {
        if FAULTS.contains(&signal) {
            return Err(InterruptSignalError::ReportsFaults { signal });
        }
        let unusable = |reason| InterruptSignalError::Unusable { signal, reason };
        let in_use = || InterruptSignalError::InUse { signal };
        // SAFETY: nothing is changed.
        let now = unsafe { exchange_action(signal, None) }.map_err(unusable)?;
        if now.sa_sigaction != libc::SIG_DFL {
            return Err(in_use());
        }
        Signal(signal).check().map_err(|reason| InterruptSignalError::Refused { signal, reason })?;
        let handler: extern "C" fn(libc::c_int) = on_signal;
        // SAFETY: a `sigaction` of zeros is valid: an empty mask, no flags, the default disposition.
        let mut ours: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        ours.sa_sigaction = handler as libc::sighandler_t;
        ours.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: the handler is of the kind that the flags say, does nothing, and lives as long as the process.
        let before = unsafe { exchange_action(signal, Some(&ours)) }.map_err(unusable)?;
        if before.sa_sigaction == libc::SIG_DFL {
            return Ok(Signal(signal));
        }
        // SAFETY: the action is the one that was there.
        unsafe { exchange_action(signal, Some(&before)) }.map_err(unusable)?;
        Err(in_use())
    }

    /// Makes sure that the calling thread can get the signal. Costs nothing but on a thread's first call.
    #[inline]
    pub(in crate::interrupt) fn unblock(self) {
        UNBLOCKED.with(|unblocked| {
            if !unblocked.replace(true) {
                self.unblock_now();
            }
        });
    }

    fn unblock_now(self) {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `set` is initialized by `sigemptyset` before it is used. None of the calls can fail: the set is
        // writable, and the signal exists, since it has a handler.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), self.0);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
        }
    }

    /// Runs `work` while the signal is kept from the calling thread, and gives it the mask of before, which lets it through.
    pub(in crate::interrupt) fn while_blocked<T>(self, work: impl FnOnce(&libc::sigset_t) -> T) -> T {
        /// Also where the work panics.
        struct Restored(libc::sigset_t);
        impl Drop for Restored {
            fn drop(&mut self) {
                // SAFETY: the mask was the thread's.
                unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
            }
        }
        let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both sets are initialized before they are used: `set` by `sigemptyset`, `before` by `pthread_sigmask`. None
        // of the calls can fail: the sets are writable, and the signal exists, since it has a handler.
        let before = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), self.0);
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        let restored = Restored(before);
        work(&restored.0)
    }

    /// Whether this thread may send signals to threads of the process. A filter looks at the number of the call, or at all of
    /// it, as for a signal that arrives; this one does not.
    pub(in crate::interrupt) fn check(self) -> io::Result<()> {
        // SAFETY: this thread has not ended, and a signal of number 0 is none.
        match unsafe { libc::pthread_kill(libc::pthread_self(), 0) } {
            0 => Ok(()),
            refusal => Err(io::Error::from_raw_os_error(refusal)),
        }
    }

    /// Sends the signal to a thread. Pauses if the kernel has no room to queue it.
    ///
    /// # Safety
    ///
    /// The thread must not have ended.
    pub(in crate::interrupt) unsafe fn send(self, thread: libc::pthread_t) -> Sent {
        // SAFETY: the caller answers for the thread.
        match unsafe { libc::pthread_kill(thread, self.0) } {
            0 => Sent::Yes,
            libc::EAGAIN => {
                std::thread::sleep(PAUSE);
                Sent::NotYet
            }
            refusal => {
                LAST_REFUSAL.store(refusal, Ordering::Relaxed);
                Sent::Refused
            }
        }
    }
}

/// That a signal came is all that matters: it has ended the run of a guest.
extern "C" fn on_signal(_: libc::c_int) {}

/// The kernel's last reason to refuse a signal: an error number, or 0 as long as there was none.
pub(in crate::interrupt) fn last_refusal() -> i32 {
    LAST_REFUSAL.load(Ordering::Relaxed)
}

/// The calling thread. A forked child's is its parent's that called `fork`.
#[inline]
pub(in crate::interrupt) fn this_thread() -> libc::pthread_t {
    // Where calls begin, all of the C library may have left the caches.
    THIS_THREAD.with(|thread| {
        thread.get().unwrap_or_else(|| {
            // SAFETY: has no preconditions.
            let this = unsafe { libc::pthread_self() };
            thread.set(Some(this));
            this
        })
    })
}

/// Keeps all signals from the calling thread.
pub(crate) fn block_all() {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` is initialized by `sigfillset`. Neither call can fail.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
    }
}

/// Returns when all signals that were sent to this thread before have been handled.
pub(in crate::interrupt) fn handle_pending() {
    // SAFETY: no preconditions. Signals are handled before a system call returns; which one does not matter.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

/// What happened so far when the signal came; from now on `new` does, if it is given.
///
/// # Safety
///
/// A handler in `new` must be of the kind that the flags say, and be safe to call at any moment.
unsafe fn exchange_action(signal: i32, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `before` is writable, `new` is null or lives during the call, and the caller answers for its handler.
    match unsafe { libc::sigaction(signal, new, before.as_mut_ptr()) } {
        // SAFETY: valid from the start, whatever the call has filled in.
        0 => Ok(unsafe { before.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the process has decided for.
#[derive(Copy, Clone)]
struct Decision(Option<Signal>);

/// Read without a lock, which a child that was forked could find held.
static DECISION: OnceLock<Decision> = OnceLock::new();

/// Held while a decision is made.
static DECIDING: Mutex<()> = Mutex::new(());

static LAST_REFUSAL: AtomicI32 = AtomicI32::new(0);

thread_local! {
    static UNBLOCKED: Cell<bool> = const { Cell::new(false) };
    static THIS_THREAD: Cell<Option<libc::pthread_t>> = const { Cell::new(None) };
}

/// In the order of preference.
fn default_signals() -> RangeInclusive<i32> {
    libc::SIGRTMIN() + DEFAULT_OFFSET..=libc::SIGRTMAX()
}

/// From `SIGRTMIN`.
const DEFAULT_OFFSET: i32 = 6;

const FAULTS: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// Between attempts to send a signal.
const PAUSE: Duration = Duration::from_millis(1);
