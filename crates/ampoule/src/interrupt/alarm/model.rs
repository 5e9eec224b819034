//! The race between the sleeper and something new, in all interleavings that the C11 memory model allows. A sleeper
//! that never wakes up is a deadlock, which loom reports.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::Alarm;
use crate::interrupt::linux::clock::Moment;
use crate::interrupt::word::model::ModelWord;

#[test]
fn what_falls_due_before_the_sleeper_looks_again_wakes_it() {
    scenario([]);
}

#[test]
fn what_falls_due_later_is_seen_when_the_sleeper_looks() {
    scenario([EARLIER]);
}

#[test]
fn of_two_new_things_the_earlier_one_is_not_missed() {
    check(|| {
        let sleeper = Sleeper::new();
        let adders = [LATER, DUE].map(|moment| {
            let sleeper = Arc::clone(&sleeper);
            let slot = usize::from(moment == DUE);
            thread::spawn(move || sleeper.add(slot, moment))
        });
        sleeper.sleep_until_seen(DUE);
        adders.into_iter().for_each(|adder| adder.join().unwrap());
    });
}

/// The sleeper has known of `before`, then gets to know of `DUE`.
fn scenario<const N: usize>(before: [Moment; N]) {
    check(move || {
        let sleeper = Sleeper::new();
        for moment in before {
            sleeper.slots[1].store(moment.nanoseconds(), Ordering::Relaxed);
            assert_eq!(sleeper.look_once(), moment);
            sleeper.slots[1].store(Moment::NEVER.nanoseconds(), Ordering::Relaxed);
        }
        let adder = {
            let sleeper = Arc::clone(&sleeper);
            thread::spawn(move || sleeper.add(0, DUE))
        };
        sleeper.sleep_until_seen(DUE);
        adder.join().unwrap();
    });
}

fn check(scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(scenario);
}

struct Sleeper {
    alarm: Alarm<ModelWord>,
    slots: [AtomicU64; 2],
}

impl Sleeper {
    fn new() -> Arc<Sleeper> {
        let never = Moment::NEVER.nanoseconds();
        Arc::new(Sleeper {
            alarm: Alarm::new(ModelWord::new(never), ModelWord::new(0)),
            slots: [AtomicU64::new(never), AtomicU64::new(never)],
        })
    }

    fn add(&self, slot: usize, moment: Moment) {
        self.slots[slot].store(moment.nanoseconds(), Ordering::Relaxed);
        self.alarm.look_by(moment);
    }

    fn sleep_until_seen(&self, moment: Moment) {
        while self.look_once() != moment {}
    }

    /// What the sleeper has seen before it slept.
    fn look_once(&self) -> Moment {
        let mut seen = Moment::NEVER;
        self.alarm.look_and_sleep(|| {
            let slots = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
            seen = slots.min().map_or(Moment::NEVER, Moment::from_nanoseconds);
            // Later things are long over when the sleeper wakes up: in the model it sleeps without end or not at all.
            if seen == LATER { Moment::NEVER } else { seen }
        });
        seen
    }
}

const EARLIER: Moment = Moment::from_nanoseconds(1);
const DUE: Moment = Moment::from_nanoseconds(2);
const LATER: Moment = Moment::from_nanoseconds(3);
