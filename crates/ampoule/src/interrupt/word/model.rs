//! A word for loom.

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex};

use super::Word;
use crate::interrupt::linux::clock::Moment;

/// A futex: comparing the word and going to sleep are one step. Time passes at once: only a wait without end ever blocks.
#[derive(Debug)]
pub(in crate::interrupt) struct ModelWord {
    word: AtomicU64,
    queue: Mutex<()>,
    woken: Condvar,
}

impl ModelWord {
    pub(in crate::interrupt) fn new(value: u64) -> ModelWord {
        ModelWord { word: AtomicU64::new(value), queue: Mutex::new(()), woken: Condvar::new() }
    }
}

impl Word for ModelWord {
    fn load(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    fn store(&self, value: u64) {
        self.word.store(value, Ordering::Release);
    }

    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
        self.word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
    }

    fn wait(&self, seen: u64, until: Moment) {
        let queue = self.queue.lock().unwrap();
        if self.word.load(Ordering::Acquire) as u32 == seen as u32 && until == Moment::NEVER {
            drop(self.woken.wait(queue).unwrap());
        }
    }

    fn wake(&self) {
        let _queue = self.queue.lock().unwrap();
        self.woken.notify_all();
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}
