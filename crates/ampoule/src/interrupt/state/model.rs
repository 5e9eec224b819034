//! The races between a call and its killers, and whoever takes its thread out of the guest, in all interleavings that the C11 memory model allows.
//!
//! The hypervisor, signals and futexes are modelled: a run of the guest looks at the request when it begins and at
//! pending signals from then on, as `KVM_RUN` does. A lost wake-up or a guest that is never left is a deadlock, which
//! loom reports.

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::{CallNumber, CallState, Interruption, Kick, KillOutcome, Phase, Reason, Sent};
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
fn who_awaits_something_is_woken_up_and_sees_it() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let waker = wake_up(&sandbox);
        assert_eq!(sandbox.call(&Guest::Awaits(1)), Ok(()));
        // A waker that comes late does nothing to the next call.
        sandbox.state.begin();
        assert_eq!(sandbox.call(&Guest::Returns), Ok(()));
        waker.join().unwrap();
    });
}

#[test]
fn a_kill_ends_a_wait_for_what_never_comes() {
    check_up_to(2, || {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let waker = wake_up(&sandbox);
        let killer = spawn(&sandbox, FIRST, Interruption::Killed);
        assert_eq!(sandbox.call(&Guest::Awaits(2)), Err(Interruption::Killed));
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
        waker.join().unwrap();
    });
}

#[test]
fn a_sample_that_falls_due_in_a_wait_leaves_no_trace_in_it() {
    check_up_to(2, || {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let (sampler, waker) = (sample(&sandbox, 1), wake_up(&sandbox));
        assert_eq!(sandbox.call(&Guest::Awaits(1)), Ok(()));
        sampler.join().unwrap();
        waker.join().unwrap();
    });
}

#[test]
fn a_guest_that_spins_is_taken_out_for_a_sample_and_the_call_goes_on() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let sampler = sample(&sandbox, 1);
        assert_eq!(sandbox.call(&Guest::SpinsUntilSampled), Ok(()));
        assert_eq!(sandbox.samples.load(Ordering::Acquire), 1);
        sampler.join().unwrap();
    });
}

#[test]
fn of_two_who_take_a_guest_out_at_once_neither_is_lost() {
    check_up_to(2, || {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let (sampler, debugger) = (sample(&sandbox, 1), break_in(&sandbox));
        assert_eq!(sandbox.call(&Guest::SpinsUntilSampledAndBrokenInto), Ok(()));
        assert_eq!(sandbox.samples.load(Ordering::Acquire), 1);
        sampler.join().unwrap();
        debugger.join().unwrap();
    });
}

#[test]
fn two_who_take_a_guest_out_at_once_leave_no_trace_in_a_host_function_or_behind_the_call() {
    check_up_to(2, || {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let (sampler, debugger) = (sample(&sandbox, 1), break_in(&sandbox));
        assert_eq!(sandbox.call(&Guest::CallsHost), Ok(()));
        sampler.join().unwrap();
        debugger.join().unwrap();
        sandbox.state.begin();
        assert_eq!(sandbox.call(&Guest::CallsHost), Ok(()));
    });
}

#[test]
fn a_break_in_ends_a_sleep_and_is_known_of_before_the_guest_runs_again() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let debugger = break_in(&sandbox);
        assert_eq!(sandbox.call(&Guest::SleepsUntilBrokenInto), Ok(()));
        debugger.join().unwrap();
    });
}

#[test]
fn a_sample_leaves_no_trace_in_a_host_function_or_behind_the_call_and_is_taken_once() {
    for guest in [Guest::Returns, Guest::CallsHost] {
        check(move || {
            let sandbox = Sandbox::new();
            sandbox.state.begin();
            let sampler = sample(&sandbox, 2);
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
        let sampler = sample(&sandbox, 1);
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

fn sample(sandbox: &Arc<Sandbox>, times: usize) -> thread::JoinHandle<()> {
    let sandbox = Arc::clone(sandbox);
    thread::spawn(move || (0..times).for_each(|_| sandbox.state.take_out(Reason::Sample, &*sandbox)))
}

fn break_in(sandbox: &Arc<Sandbox>) -> thread::JoinHandle<()> {
    let sandbox = Arc::clone(sandbox);
    thread::spawn(move || {
        *sandbox.wish.lock().unwrap() = true;
        sandbox.state.take_out(Reason::BreakIn, &*sandbox);
    })
}

/// Makes one of the things ready that a function awaits.
fn wake_up(sandbox: &Arc<Sandbox>) -> thread::JoinHandle<()> {
    let sandbox = Arc::clone(sandbox);
    thread::spawn(move || {
        sandbox.ready.fetch_add(1, Ordering::Relaxed);
        sandbox.state.wake_up(FIRST);
    })
}

struct Sandbox {
    state: CallState<ModelWord>,
    request: AtomicBool,
    /// A signal for the calling thread that it has not handled.
    pending: Mutex<bool>,
    sent: Condvar,
    /// How many the calling thread has taken.
    samples: AtomicUsize,
    /// What a debugger wants, which the calling thread looks at before each run.
    wish: Mutex<bool>,
    is_broken_into: AtomicBool,
    /// How many things are ready that a function of the application may await.
    ready: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Guest {
    Returns,
    Spins,
    SpinsUntilSampled,
    SpinsUntilSampledAndBrokenInto,
    CallsHost,
    SleepsForEver,
    SleepsUntilBrokenInto,
    /// It calls a function that awaits so many things.
    Awaits(usize),
}

impl Sandbox {
    fn new() -> Arc<Sandbox> {
        Arc::new(Sandbox {
            state: CallState { word: ModelWord::new(0) },
            request: AtomicBool::new(false),
            pending: Mutex::new(false),
            sent: Condvar::new(),
            samples: AtomicUsize::new(0),
            wish: Mutex::new(false),
            is_broken_into: AtomicBool::new(false),
            ready: AtomicUsize::new(0),
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
            Guest::Returns | Guest::Spins | Guest::SpinsUntilSampled | Guest::SpinsUntilSampledAndBrokenInto => Ok(()),
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
            Guest::Awaits(things) => {
                self.state.enter(Phase::Host, self)?;
                loop {
                    self.state.forget_wake();
                    assert!(!self.take_pending(), "a signal in a function that awaits");
                    if self.ready.load(Ordering::Relaxed) == *things {
                        break;
                    }
                    self.state.enter(Phase::Asleep, self)?;
                    self.state.wait_for_wake();
                    self.state.enter(Phase::Host, self)?;
                }
                self.state.leave(self)?;
                self.run_to_exit(&Guest::Returns)
            }
            Guest::SleepsUntilBrokenInto => {
                while !self.is_broken_into.load(Ordering::Acquire) {
                    self.state.enter(Phase::Asleep, self)?;
                    while self.state.check().is_ok() && !self.state.is_roused() {
                        self.state.wait(Moment::NEVER);
                    }
                    self.state.leave(self)?;
                    self.run_to_exit(&Guest::Returns)?;
                }
                Ok(())
            }
        }
    }

    fn run_to_exit(&self, guest: &Guest) -> Result<(), Interruption> {
        loop {
            if std::mem::take(&mut *self.wish.lock().unwrap()) {
                self.is_broken_into.store(true, Ordering::Release);
            }
            if self.run(guest) {
                return Ok(());
            }
            self.state.take_due(self, |_| {
                self.samples.fetch_add(1, Ordering::AcqRel);
            });
            self.state.check()?;
        }
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
            Guest::SpinsUntilSampledAndBrokenInto => {
                sandbox.samples.load(Ordering::Acquire) == 0 || !sandbox.is_broken_into.load(Ordering::Acquire)
            }
            Guest::Returns
            | Guest::CallsHost
            | Guest::SleepsForEver
            | Guest::SleepsUntilBrokenInto
            | Guest::Awaits(_) => false,
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
