//! Slots against a model that keeps lists, and from many threads.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    TryTake,
    /// Takes a slot or queues.
    Queue,
    /// Gives back one of the slots that are held, vacant or not.
    GiveBack {
        which: usize,
        is_vacant: bool,
    },
    /// One of those who wait looks.
    Look {
        which: usize,
    },
    /// One of those who wait gives up.
    GiveUp {
        which: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::TryTake),
        4 => Just(Step::Queue),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, is_vacant)| Step::GiveBack { which, is_vacant }),
        4 => any::<usize>().prop_map(|which| Step::Look { which }),
        2 => any::<usize>().prop_map(|which| Step::GiveUp { which }),
    ]
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Somebody in the queue.
struct Waiting<'slots> {
    turn: Turn<'slots, u32>,
    /// What they were given, by the model.
    given: Option<Slot<u32>>,
    has_looked: bool,
    wakes: Arc<Wakes>,
}

/// What the slots should be.
struct Model<'slots> {
    idle: Vec<u32>,
    vacant: usize,
    queue: VecDeque<Waiting<'slots>>,
    held: Vec<Slot<u32>>,
    made: u32,
}

impl<'slots> Model<'slots> {
    fn available(&mut self) -> Option<Slot<u32>> {
        if let Some(value) = self.idle.pop() {
            return Some(Slot::Idle(value));
        }
        self.vacant = self.vacant.checked_sub(1)?;
        Some(Slot::Vacant)
    }

    fn came_back(&mut self, slot: Slot<u32>) {
        match (self.queue.iter_mut().find(|waiting| waiting.given.is_none()), slot) {
            (Some(first), slot) => first.given = Some(slot),
            (None, Slot::Idle(value)) => self.idle.push(value),
            (None, Slot::Vacant) => self.vacant += 1,
        }
    }

    fn apply(&mut self, slots: &'slots Slots<u32>, step: Step) {
        match step {
            Step::TryTake => {
                let taken = slots.try_take();
                assert_eq!(taken, self.available());
                self.held.extend(taken);
            }
            Step::Queue => match slots.take_or_queue() {
                Ok(slot) => {
                    assert_eq!(Some(&slot), self.available().as_ref());
                    self.held.push(slot);
                }
                Err(turn) => {
                    assert_eq!(self.available(), None);
                    self.queue.push_back(Waiting { turn, given: None, has_looked: false, wakes: Arc::default() });
                }
            },
            Step::GiveBack { which, is_vacant } if !self.held.is_empty() => {
                self.held.swap_remove(which % self.held.len());
                self.made += 1;
                let give = || if is_vacant { Slot::Vacant } else { Slot::Idle(self.made) };
                slots.give_back(give());
                let slot = give();
                self.came_back(slot);
            }
            Step::Look { which } if !self.queue.is_empty() => {
                let which = which % self.queue.len();
                let waiting = &mut self.queue[which];
                let waker = Waker::from(Arc::clone(&waiting.wakes));
                let seen = pin!(&mut waiting.turn).poll(&mut Context::from_waker(&waker));
                assert_eq!(seen, waiting.given.take().map_or(Poll::Pending, Poll::Ready));
                match seen {
                    Poll::Ready(slot) => {
                        self.queue.remove(which);
                        self.held.push(slot);
                    }
                    Poll::Pending => waiting.has_looked = true,
                }
            }
            Step::GiveUp { which } if !self.queue.is_empty() => {
                let waiting = self.queue.remove(which % self.queue.len()).expect("the index is in range");
                drop(waiting.turn);
                if let Some(slot) = waiting.given {
                    self.came_back(slot);
                }
            }
            Step::GiveBack { .. } | Step::Look { .. } | Step::GiveUp { .. } => {}
        }
    }

    fn check(&self, slots: &Slots<u32>, size: usize) {
        let waiting = self.queue.iter().filter(|waiting| waiting.given.is_none()).count();
        assert_eq!(slots.counts(), Counts { idle: self.idle.len(), vacant: self.vacant, waiting });
        let granted = self.queue.len() - waiting;
        assert_eq!(self.idle.len() + self.vacant + self.held.len() + granted, size, "a slot was lost or made");
        assert!(waiting == 0 || self.idle.len() + self.vacant == 0, "somebody waits although there is a slot");
        for waiting in &self.queue {
            let expected = usize::from(waiting.has_looked && waiting.given.is_some());
            assert_eq!(waiting.wakes.0.load(Ordering::Relaxed), expected, "wake-ups of one who has slept");
        }
    }
}

proptest! {
    #[test]
    fn slots_go_round_as_in_the_model(size in 1usize..4, steps in prop::collection::vec(step(), 0..200)) {
        let slots = Slots::new(Vec::new(), size);
        let mut model =
            Model { idle: Vec::new(), vacant: size, queue: VecDeque::new(), held: Vec::new(), made: 0 };
        for step in steps {
            model.apply(&slots, step);
            model.check(&slots, size);
        }
    }
}

#[test]
fn threads_that_wait_and_give_up_lose_nothing() {
    const THREADS: u32 = 4;
    let slots = Slots::new(Vec::new(), 2);
    let held = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (slots, held) = (&slots, &held);
            scope.spawn(move || {
                for round in 0..2000 {
                    let until = match (thread + round) % 3 {
                        0 => None,
                        1 => Some(Instant::now()),
                        _ => Some(Instant::now() + Duration::from_micros(50)),
                    };
                    let slot = match slots.take_or_queue() {
                        Ok(slot) => Some(slot),
                        Err(turn) => turn.wait(until),
                    };
                    let Some(slot) = slot else { continue };
                    assert!(held.fetch_add(1, Ordering::SeqCst) < 2, "a slot was given to two");
                    thread::yield_now();
                    held.fetch_sub(1, Ordering::SeqCst);
                    slots.give_back(match slot {
                        Slot::Vacant => Slot::Idle(round),
                        Slot::Idle(_) => Slot::Vacant,
                    });
                }
            });
        }
    });
    let Counts { idle, vacant, waiting } = slots.counts();
    assert_eq!((idle + vacant, waiting), (2, 0));
}
