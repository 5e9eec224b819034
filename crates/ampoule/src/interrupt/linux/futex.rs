//! A word of memory that threads can wait for.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::clock::Moment;
use crate::interrupt::word::Word;

/// An atomic word whose low half is a futex.
#[derive(Debug, Default)]
pub(in crate::interrupt) struct FutexWord(AtomicU64);

impl Word for FutexWord {
    #[inline]
    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    #[inline]
    fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    #[inline]
    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
        self.0.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
    }

    fn wait(&self, seen: u64, until: Moment) {
        let timeout = until.timespec();
        // SAFETY: the futex, the low half of a little-endian word, and the timeout live during the call. Every outcome,
        // failure included, is a return that `wait` allows.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.futex(),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                seen as u32,
                &raw const timeout,
                ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
    }

    fn wake(&self) {
        // SAFETY: the futex lives during the call. Nobody may be waiting, which is fine.
        unsafe { libc::syscall(libc::SYS_futex, self.futex(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, i32::MAX) };
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

impl FutexWord {
    pub(in crate::interrupt) const fn new(value: u64) -> FutexWord {
        FutexWord(AtomicU64::new(value))
    }

    fn futex(&self) -> *const u32 {
        self.0.as_ptr().cast_const().cast()
    }
}
