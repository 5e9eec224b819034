//! Signals that wait until they are delivered, or taken by whoever waits for them.

use super::info::Info;
use super::{bit, lowest};
use crate::personality::linux::timers::TimerId;

/// The signals that wait: for the thread, and for the process. The thread's come first.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    queues: [Vec<Queued>; 2],
}

/// Whom a signal is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::personality::linux) enum Target {
    Thread = 0,
    Process = 1,
}

/// A signal that waits, and the timer that has sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) info: Info,
    pub(super) timer: Option<TimerId>,
}

impl Pending {
    /// Those for the thread, and those for the process.
    pub(super) fn queues(&self) -> &[Vec<Queued>; 2] {
        &self.queues
    }

    pub(super) fn of_queues(queues: [Vec<Queued>; 2]) -> Self {
        Self { queues }
    }

    /// Adds a signal: a real-time signal, and any of a timer's, as often as it is sent, any other once. Returns whether there was
    /// room for it.
    pub(super) fn add(&mut self, target: Target, queued: Queued) -> bool {
        let [first, second] = &self.queues;
        let is_full = first.len() + second.len() >= MOST_QUEUED;
        let queue = &mut self.queues[target as usize];
        let waits = queue.iter().any(|other| other.info.signal() == queued.info.signal());
        let is_counted = queued.info.signal() >= FIRST_REAL_TIME || matches!(queued.timer, Some(TimerId::Created(_)));
        if waits && !is_counted {
            return true;
        }
        if is_full && waits {
            return false;
        }
        queue.push(queued);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(Vec::is_empty)
    }

    /// The signals that wait, as a set.
    pub(super) fn set(&self) -> u64 {
        self.queues.iter().flatten().fold(0, |set, queued| set | bit(queued.info.signal()))
    }

    /// The signal among these that comes first.
    pub(super) fn first(&self, among: u64) -> Option<i32> {
        self.queues.iter().find_map(|queue| first_of(queue, among))
    }

    /// Takes it.
    pub(super) fn take(&mut self, among: u64) -> Option<Queued> {
        self.queues.iter_mut().find_map(|queue| {
            let signal = first_of(queue, among)?;
            let at = queue.iter().position(|queued| queued.info.signal() == signal)?;
            Some(queue.remove(at))
        })
    }

    /// Forgets these signals.
    pub(super) fn forget(&mut self, set: u64) {
        for queue in &mut self.queues {
            queue.retain(|queued| bit(queued.info.signal()) & set == 0);
        }
    }

    /// Whether a signal of this timer waits.
    pub(super) fn has_of(&self, timer: TimerId) -> bool {
        self.queues.iter().flatten().any(|queued| queued.timer == Some(timer))
    }
}

/// Of the signals in a queue, those of faults come first (Linux's `next_signal`).
fn first_of(queue: &[Queued], among: u64) -> Option<i32> {
    let set = queue.iter().fold(0, |set, queued| set | bit(queued.info.signal())) & among;
    lowest(if set & SYNCHRONOUS != 0 { set & SYNCHRONOUS } else { set })
}

/// How many signals may wait. One of each kind may wait in addition.
pub(super) const MOST_QUEUED: usize = 128;

/// Linux's `SIGRTMIN`: from here on every signal that is sent arrives.
const FIRST_REAL_TIME: i32 = 32;

/// Linux's `SYNCHRONOUS_MASK`: `SIGILL`, `SIGTRAP`, `SIGBUS`, `SIGFPE`, `SIGSEGV` and `SIGSYS`.
const SYNCHRONOUS: u64 = 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 30;
