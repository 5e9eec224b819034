//! The races between a call and its killers, in all interleavings that the C11 memory model allows.
//!
//! The hypervisor, signals and futexes are modelled: a run of the guest looks at the request when it begins and at pending
//! signals from then on, as `KVM_RUN` does. A lost wake-up or a guest that is never left is a deadlock, which loom reports.

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::{CallNumber, CallState, Interruption, Kick, KillOutcome, Phase, Word};
use crate::interrupt::linux::clock::Moment;

#[test]
fn a_kill_ends_a_guest_that_spins() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let killer = spawn_killer(&sandbox, CallNumber(1));
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
                Some((number, sandbox.state.kill(number, &*sandbox)))
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
fn of_two_kills_one_counts() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let killers = [spawn_killer(&sandbox, CallNumber(1)), spawn_killer(&sandbox, CallNumber(1))];
        let result = sandbox.call(&Guest::Returns);
        let outcomes = killers.map(|killer| killer.join().unwrap());
        let killed = outcomes.iter().filter(|outcome| **outcome == KillOutcome::Killed).count();
        assert_eq!(killed, usize::from(result == Err(Interruption::Killed)), "{outcomes:?}");
    });
}

#[test]
fn a_host_function_gets_no_signal_and_is_the_last_thing_that_a_killed_call_does() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let killer = spawn_killer(&sandbox, CallNumber(1));
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
        let killer = spawn_killer(&sandbox, CallNumber(1));
        assert_eq!(sandbox.call(&Guest::SleepsForEver), Err(Interruption::Killed));
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
    });
}

#[test]
fn a_deadline_and_a_kill_do_not_both_count() {
    check(|| {
        let sandbox = Sandbox::new();
        sandbox.state.begin();
        let killer = spawn_killer(&sandbox, CallNumber(1));
        let result = sandbox.call(&Guest::ExceedsDeadline);
        match killer.join().unwrap() {
            KillOutcome::Killed => assert_eq!(result, Err(Interruption::Killed)),
            _ => assert_eq!(result, Err(Interruption::Deadline)),
        }
    });
}

fn check(scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(scenario);
}

fn spawn_killer(sandbox: &Arc<Sandbox>, call: CallNumber) -> thread::JoinHandle<KillOutcome> {
    let sandbox = Arc::clone(sandbox);
    thread::spawn(move || sandbox.state.kill(call, &*sandbox))
}

struct Sandbox {
    state: CallState<ModelWord>,
    request: AtomicBool,
    /// A signal for the calling thread that it has not handled.
    pending: Mutex<bool>,
    sent: Condvar,
}

enum Guest {
    Returns,
    Spins,
    CallsHost,
    SleepsForEver,
    ExceedsDeadline,
}

impl Sandbox {
    fn new() -> Arc<Sandbox> {
        Arc::new(Sandbox {
            state: CallState { word: ModelWord::default() },
            request: AtomicBool::new(false),
            pending: Mutex::new(false),
            sent: Condvar::new(),
        })
    }

    /// Carries a call that has begun to its end, as the run loop does.
    fn call(&self, guest: &Guest) -> Result<(), Interruption> {
        let _ = self.run_guest(guest);
        let result = self.state.finish(self);
        if result == Err(Interruption::Killed) {
            self.handle_pending();
        }
        assert!(!self.request.load(Ordering::Acquire), "the request outlives the call");
        assert!(!self.handle_pending(), "the signal comes after the call");
        result
    }

    fn run_guest(&self, guest: &Guest) -> Result<(), Interruption> {
        while !self.run(guest) {
            self.state.check()?;
        }
        match guest {
            Guest::Returns | Guest::Spins => Ok(()),
            Guest::CallsHost => {
                self.state.enter(Phase::Host)?;
                self.handle_pending();
                assert!(!self.handle_pending(), "a signal in a host function");
                self.state.leave()
            }
            Guest::SleepsForEver => {
                self.state.enter(Phase::Asleep)?;
                while self.state.is_open() {
                    self.state.wait(Moment::NEVER);
                }
                self.state.leave()
            }
            Guest::ExceedsDeadline => {
                // As the signal's handler does.
                if self.state.interrupt(Interruption::Deadline) {
                    self.request();
                }
                self.state.check()
            }
        }
    }

    /// Enters the guest: whether it left by itself.
    fn run(&self, guest: &Guest) -> bool {
        // A signal that comes before the thread is in the kernel is handled there and then, and ends no run.
        self.handle_pending();
        if self.request.load(Ordering::Acquire) {
            return false;
        }
        let mut pending = self.pending.lock().unwrap();
        while matches!(guest, Guest::Spins) && !*pending {
            pending = self.sent.wait(pending).unwrap();
        }
        !std::mem::take(&mut *pending)
    }

    fn handle_pending(&self) -> bool {
        std::mem::take(&mut *self.pending.lock().unwrap())
    }
}

impl Kick for Sandbox {
    fn request(&self) {
        self.request.store(true, Ordering::Release);
    }

    fn clear(&self) {
        self.request.store(false, Ordering::Release);
    }

    fn signal(&self) -> bool {
        *self.pending.lock().unwrap() = true;
        self.sent.notify_all();
        true
    }
}

/// A futex: comparing the word and going to sleep are one step.
#[derive(Debug, Default)]
struct ModelWord {
    word: AtomicU64,
    queue: Mutex<()>,
    woken: Condvar,
}

impl Word for ModelWord {
    fn load(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
        self.word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
    }

    fn wait(&self, seen: u64, _: Moment) {
        let queue = self.queue.lock().unwrap();
        if self.word.load(Ordering::Acquire) as u32 == seen as u32 {
            drop(self.woken.wait(queue).unwrap());
        }
    }

    fn wake(&self) {
        let _queue = self.queue.lock().unwrap();
        self.woken.notify_all();
    }
}
