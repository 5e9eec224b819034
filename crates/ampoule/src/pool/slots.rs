//! The slots of a pool: what is in them, and whose turn it is.
//!
//! All of this is under one lock, which is held while a few values are moved, and never while foreign code runs:
//!
//! 1. A slot is idle, vacant, or given away. It is given away to one party at a time, which gives it back exactly once, so
//!    that their number never changes.
//! 2. While somebody waits, no slot is idle or vacant: one that comes back goes to whoever has waited longest, and nobody
//!    overtakes.
//! 3. Whoever waits looks for what was given to them and leaves their waker under the same lock, so that no wake-up is lost.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// See the [module](self).
pub(super) struct Slots<T>(Mutex<State<T>>);

/// What is in a slot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot<T> {
    Idle(T),
    /// Nothing: whoever gets it has to fill it.
    Vacant,
}

/// How many slots there are of each kind, and how many wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) idle: usize,
    pub(super) vacant: usize,
    pub(super) waiting: usize,
}

struct State<T> {
    /// The last one to come back is the first one to go: its memory is still in the processor's caches.
    idle: Vec<T>,
    vacant: usize,
    /// Those who wait, by their numbers, which follow the order in which they came; with a waker if they have slept.
    waiting: BTreeMap<u64, Option<Waker>>,
    /// What was given to those who waited and have not picked it up yet.
    granted: BTreeMap<u64, Slot<T>>,
    next_number: u64,
}

impl<T> Slots<T> {
    /// Slots with these values, and vacant ones.
    pub(super) fn new(idle: Vec<T>, vacant: usize) -> Self {
        Self(Mutex::new(State { idle, vacant, waiting: BTreeMap::new(), granted: BTreeMap::new(), next_number: 0 }))
    }

    /// Takes a slot, if there is one.
    pub(super) fn try_take(&self) -> Option<Slot<T>> {
        self.lock().take()
    }

    /// Takes a slot, or a turn in the queue for one.
    pub(super) fn take_or_queue(&self) -> Result<Slot<T>, Turn<'_, T>> {
        let mut state = self.lock();
        if let Some(slot) = state.take() {
            return Ok(slot);
        }
        let number = state.next_number;
        state.next_number += 1;
        state.waiting.insert(number, None);
        Err(Turn { slots: self, number })
    }

    /// Gives a slot back that was taken.
    pub(super) fn give_back(&self, slot: Slot<T>) {
        let mut state = self.lock();
        if let Some((number, waker)) = state.waiting.pop_first() {
            state.granted.insert(number, slot);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return;
        }
        match slot {
            Slot::Idle(value) => state.idle.push(value),
            Slot::Vacant => state.vacant += 1,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.lock();
        Counts { idle: state.idle.len(), vacant: state.vacant, waiting: state.waiting.len() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<Slot<T>> {
        if let Some(value) = self.idle.pop() {
            return Some(Slot::Idle(value));
        }
        self.vacant = self.vacant.checked_sub(1)?;
        Some(Slot::Vacant)
    }
}

/// A turn in the queue: a future, or something to [wait](Self::wait) for on a thread. Whoever gives it up passes on what was
/// given to them.
pub(super) struct Turn<'slots, T> {
    slots: &'slots Slots<T>,
    number: u64,
}

impl<T> Turn<'_, T> {
    /// Blocks the thread until it has a slot, at most until then.
    pub(super) fn wait(mut self, until: Option<Instant>) -> Option<Slot<T>> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            if let Poll::Ready(slot) = self.look(&waker) {
                return Some(slot);
            }
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return self.leave(),
                Some(left) => thread::park_timeout(left),
            }
        }
    }

    fn look(&mut self, waker: &Waker) -> Poll<Slot<T>> {
        let waker = waker.clone();
        let mut state = self.slots.lock();
        if let Some(slot) = state.granted.remove(&self.number) {
            return Poll::Ready(slot);
        }
        let earlier = state.waiting.insert(self.number, Some(waker));
        // Foreign code may run where a waker is dropped.
        drop(state);
        drop(earlier);
        Poll::Pending
    }

    /// Leaves the queue, perhaps with a slot.
    fn leave(&mut self) -> Option<Slot<T>> {
        let mut state = self.slots.lock();
        let waker = state.waiting.remove(&self.number);
        let slot = state.granted.remove(&self.number);
        drop(state);
        drop(waker);
        slot
    }
}

impl<T> Future for Turn<'_, T> {
    type Output = Slot<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Slot<T>> {
        self.look(context.waker())
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        if let Some(slot) = self.leave() {
            self.slots.give_back(slot);
        }
    }
}

/// Wakes a thread that has parked itself.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
