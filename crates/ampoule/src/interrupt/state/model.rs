//! The races between a call and its killers, and whoever samples it, in all interleavings that the C11 memory model allows.
//!
//! The hypervisor, signals and futexes are modelled: a run of the guest looks at the request when it begins and at
//! pending signals from then on, as `KVM_RUN` does. A lost wake-up or a guest that is never left is a deadlock, which
//! loom reports.

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::{CallNumber, CallState, Interruption, Kick, KillOutcome, Phase, Sent};
use crate::interrupt::linux::clock::Moment;
use crate::interrupt::word::model::ModelWord;

#[test]
fn a_kill_ends_a_guest_that_spins() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let killer = spawn(&sandbox, FIRST, Interruption::Killed);
        assert_eq!(sandbox.call(&Guest::Spins), Err(Interruption::Killed));
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
    });
}

#[test]
fn a_kill_hits_the_call_that_it_has_seen_or_none() {
    check(|| {
        let sandbox = Sandbox::new();
        let killer = {
            let sandbox = Arc::clone(&sandbox);
            thread::spawn(move || {
                let (number, _) = sandbox.state.running()?;
                Some((number, sandbox.state.interrupt(number, Interruption::Killed, &*sandbox)))
            })
        };
        let mut killed = Vec::new();
        for number in [1, 2] {
            sandbox.state.begin();
            if sandbox.call(&Guest::Returns).is_err() {
                killed.push(CallNumber(number));
            }
        }
        match killer.join().unwrap() {
            Some((number, KillOutcome::Killed)) => assert_eq!(killed, [number]),
            _ => assert_eq!(killed, []),
        }
    });
}

#[test]
fn of_two_interruptions_one_counts() {
    for interruptions in [[Interruption::Killed; 2], [Interruption::Killed, Interruption::Deadline]] {
        check(move || {
            let sandbox = Sandbox::new();
            sandbox.state.begin();
            let interrupters = interruptions.map(|interruption| spawn(&sandbox, FIRST, interruption));
            let result = sandbox.call(&Guest::Returns);
            let outcomes = interrupters.map(|interrupter| interrupter.join().unwrap());
            let counted = [0, 1].map(|index| outcomes[index] == KillOutcome::Killed);
            match result {
                Ok(()) => assert_eq!(counted, [false; 2]),
                Err(interruption) => {
                    assert_ne!(counted[0], counted[1], "{outcomes:?}");
                    assert_eq!(interruption, interruptions[usize::from(counted[1])]);
                }
            }
        });
    }
}

#[test]
fn a_host_function_gets_no_signal_and_is_the_last_thing_that_a_killed_call_does() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let killer = spawn(&sandbox, FIRST, Interruption::Killed);
        let result = sandbox.call(&Guest::CallsHost);
        let outcome = killer.join().unwrap();
        assert_eq!(outcome == KillOutcome::Killed, result == Err(Interruption::Killed));
    });
}

#[test]
fn a_kill_ends_a_sleep() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let killer = spawn(&sandbox, FIRST, Interruption::Killed);
        assert_eq!(sandbox.call(&Guest::SleepsForEver), Err(Interruption::Killed));
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
    });
}

#[test]
fn a_nudge_takes_a_sample_of_a_guest_that_spins_and_the_call_goes_on() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let sampler = nudge(&sandbox, 1);
        assert_eq!(sandbox.call(&Guest::SpinsUntilSampled), Ok(()));
        assert_eq!(sandbox.samples.load(Ordering::Acquire), 1);
        sampler.join().unwrap();
    });
}

#[test]
fn a_nudge_leaves_no_trace_in_a_host_function_or_behind_the_call_and_what_is_due_is_taken_once() {
    for guest in [Guest::Returns, Guest::CallsHost] {
        check(move || {
            let sandbox = Sandbox::new();
            sandbox.state.begin();
            let sampler = nudge(&sandbox, 2);
            assert_eq!(sandbox.call(&guest), Ok(()));
            sampler.join().unwrap();
            assert!(sandbox.samples.load(Ordering::Acquire) <= 2);
            sandbox.state.begin();
            assert_eq!(sandbox.call(&guest), Ok(()));
        });
    }
}

#[test]
fn a_kill_ends_a_guest_that_is_sampled_at_the_same_moment() {
    check_up_to(2, || {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let sampler = nudge(&sandbox, 1);
        let killer = spawn(&sandbox, FIRST, Interruption::Killed);
        assert_eq!(sandbox.call(&Guest::Spins), Err(Interruption::Killed));
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
        sampler.join().unwrap();
    });
}

fn check(scenario: impl Fn() + Sync + Send + 'static) {
    check_up_to(3, scenario);
}

/// In all interleavings in which threads are preempted at most so often.
fn check_up_to(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

fn spawn(sandbox: &Arc<Sandbox>, call: CallNumber, interruption: Interruption) -> thread::JoinHandle<KillOutcome> {
    let sandbox = Arc::clone(sandbox);
    thread::spawn(move || sandbox.state.interrupt(call, interruption, &*sandbox))
}

fn nudge(sandbox: &Arc<Sandbox>, times: usize) -> thread::JoinHandle<()> {
    let sandbox = Arc::clone(sandbox);
    thread::spawn(move || (0..times).for_each(|_| sandbox.state.nudge(&*sandbox)))
}

struct Sandbox {
    state: CallState<ModelWord>,
    request: AtomicBool,
    /// A signal for the calling thread that it has not handled.
    pending: Mutex<bool>,
    sent: Condvar,
    /// How many the calling thread has taken.
    samples: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Guest {
    Returns,
    Spins,
    SpinsUntilSampled,
    CallsHost,
    SleepsForEver,
}

impl Sandbox {
    fn new() -> Arc<Sandbox> {
        Arc::new(Sandbox {
            state: CallState { word: ModelWord::new(0) },
            request: AtomicBool::new(false),
            pending: Mutex::new(false),
            sent: Condvar::new(),
            samples: AtomicUsize::new(0),
        })
    }

    /// Carries a call that has begun to its end, as the run loop does.
    fn call(&self, guest: &Guest) -> Result<(), Interruption> {
        let _ = self.run_guest(guest);
        let result = self.state.finish(self);
        assert!(!self.request.load(Ordering::Acquire), "the request outlives the call");
        assert!(!self.take_pending(), "the signal comes after the call");
        result
    }

    fn run_guest(&self, guest: &Guest) -> Result<(), Interruption> {
        self.run_to_exit(guest)?;
        match guest {
            Guest::Returns | Guest::Spins | Guest::SpinsUntilSampled => Ok(()),
            Guest::CallsHost => {
                self.state.enter(Phase::Host, self)?;
                for _ in 0..2 {
                    assert!(!self.take_pending(), "a signal in a host function");
                }
                self.state.leave(self)?;
                self.run_to_exit(&Guest::Returns)
            }
            Guest::SleepsForEver => {
                self.state.enter(Phase::Asleep, self)?;
                while self.state.check().is_ok() {
                    self.state.wait(Moment::NEVER);
                }
                self.state.leave(self)
            }
        }
    }

    fn run_to_exit(&self, guest: &Guest) -> Result<(), Interruption> {
        while !self.run(guest) {
            self.state.take_sample(self, |_| {
                self.samples.fetch_add(1, Ordering::AcqRel);
            });
            self.state.check()?;
        }
        Ok(())
    }

    /// Enters the guest: whether it left by itself.
    fn run(&self, guest: &Guest) -> bool {
        // A signal that comes before the thread is in the kernel is handled there and then, and ends no run.
        self.take_pending();
        if self.request.load(Ordering::Acquire) {
            return false;
        }
        let mut pending = self.pending.lock().unwrap();
        while guest.spins(self) && !*pending {
            pending = self.sent.wait(pending).unwrap();
        }
        !std::mem::take(&mut *pending)
    }

    fn take_pending(&self) -> bool {
        std::mem::take(&mut *self.pending.lock().unwrap())
    }
}

impl Guest {
    fn spins(&self, sandbox: &Sandbox) -> bool {
        match self {
            Guest::Spins => true,
            Guest::SpinsUntilSampled => sandbox.samples.load(Ordering::Acquire) == 0,
            Guest::Returns | Guest::CallsHost | Guest::SleepsForEver => false,
        }
    }
}

impl Kick for Sandbox {
    fn request(&self) {
        self.request.store(true, Ordering::Release);
    }

    fn clear(&self) {
        self.request.store(false, Ordering::Release);
    }

    fn signal(&self) -> Sent {
        *self.pending.lock().unwrap() = true;
        self.sent.notify_all();
        Sent::Yes
    }

    fn handle_pending(&self) {
        self.take_pending();
    }
}

const FIRST: CallNumber = CallNumber(1);
