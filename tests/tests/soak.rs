//! Sandboxes on several threads go at random through calls, kills, deadlines, faults, resets and drops, and move between the
//! threads; every one of them ends as it must. The only test of its process, whose resources it counts.
//!
//! It runs for ten seconds, or for `AMPOULE_SOAK_SECONDS`; `just soak` runs it for five minutes. The seed is printed, and
//! `AMPOULE_SOAK_SEED` repeats it (the threads' timing is not repeated).

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use ampoule::{Call, CallError, ExceededLimit, InterruptHandle, KillOutcome, Limits, Sandbox, Termination};
use ampoule_tests::{calls_builder, hostile_sandbox};

#[test]
fn every_sandbox_ends_as_it_must() {
    let seconds = variable("AMPOULE_SOAK_SECONDS").unwrap_or(10);
    let seed = variable("AMPOULE_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}, {seconds} seconds");
    start_the_watchdog();
    run(Duration::from_secs(1), seed);
    let before = Resources::once_threads_are_gone();
    let counts = run(Duration::from_secs(seconds), seed);
    let after = Resources::once_threads_are_gone();
    println!("{counts:?}\nbefore {before:?}\nafter  {after:?}");
    assert_eq!(counts.built.into_inner(), counts.dropped.into_inner(), "sandboxes that were never accounted for");
    assert_eq!((before.descriptors, before.threads), (after.descriptors, after.threads));
    assert!(after.mappings <= before.mappings + 16, "mappings leak");
    assert!(after.memory <= before.memory + (64 << 20), "memory leaks");
}

/// The thread that watches time limits starts with the first of them and stays. On a slow machine the workers may not set
/// one within the first second.
fn start_the_watchdog() {
    let mut sandbox = calls_builder().build().expect("these tests need KVM");
    let limits = Limits::new().deadline(Duration::from_secs(60));
    sandbox.call_with::<(), _>(Call::new("empty", ()).limits(limits)).unwrap();
}

/// Runs workers and a killer for this long.
fn run(time: Duration, seed: u64) -> Counts {
    let counts = Counts::default();
    let shelf = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let (kills, victims) = channel();
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let worker = Worker { counts: &counts, shelf: &shelf, kills: kills.clone(), random: Random(seed + worker) };
            let stop = &stop;
            scope.spawn(move || worker.work(stop));
        }
        drop(kills);
        scope.spawn(move || kill_all(&victims, Random(seed ^ u64::MAX)));
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    let rest = shelf.into_inner().unwrap();
    counts.dropped.fetch_add(rest.len() as u64, Ordering::Relaxed);
    drop(rest);
    counts
}

/// Kills what it is told to, after a while. A kill that comes before the call is tried again.
fn kill_all(victims: &Receiver<InterruptHandle>, mut random: Random) {
    while let Ok(victim) = victims.recv() {
        thread::sleep(Duration::from_micros(random.below(300)));
        let mut tries = 0;
        while victim.kill() == KillOutcome::NotRunning {
            tries += 1;
            assert!(tries < 100_000, "the call to kill never came: its worker has failed");
            thread::sleep(Duration::from_micros(random.below(100)));
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    built: AtomicU64,
    dropped: AtomicU64,
    calls: AtomicU64,
    killed: AtomicU64,
    limited: AtomicU64,
    faulted: AtomicU64,
    resets: AtomicU64,
}

struct Worker<'run> {
    counts: &'run Counts,
    /// Sandboxes that any worker may take.
    shelf: &'run Mutex<Vec<Kind>>,
    kills: Sender<InterruptHandle>,
    random: Random,
}

/// A sandbox, by its guest.
enum Kind {
    Calls(Sandbox),
    Hostile(Sandbox),
}

impl Worker<'_> {
    fn work(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let mut kind = self.take();
            for _ in 0..self.random.below(10) {
                match &mut kind {
                    Kind::Calls(sandbox) => self.use_calls(sandbox),
                    Kind::Hostile(sandbox) => self.use_hostile(sandbox),
                }
            }
            if self.random.below(3) == 0 {
                drop(kind);
                self.count(&self.counts.dropped);
            } else {
                self.shelf.lock().unwrap().push(kind);
            }
        }
    }

    fn take(&mut self) -> Kind {
        let mut shelf = self.shelf.lock().unwrap();
        if shelf.len() >= SHELF || (!shelf.is_empty() && self.random.below(2) == 0) {
            let index = self.random.below(shelf.len() as u64) as usize;
            return shelf.swap_remove(index);
        }
        drop(shelf);
        self.count(&self.counts.built);
        match self.random.below(2) {
            0 => Kind::Calls(calls_builder().build().unwrap()),
            _ => Kind::Hostile(hostile_sandbox()),
        }
    }

    /// Good calls succeed, spinning ones are killed or reach their limit.
    fn use_calls(&mut self, sandbox: &mut Sandbox) {
        self.count(&self.counts.calls);
        match self.random.below(7) {
            0 => assert_eq!(sandbox.call::<u32>("count_on_host", (7u32,)).unwrap(), 7),
            1 => assert_eq!(sandbox.call::<String>("echo_text", ("text",)).unwrap(), "text"),
            2 => {
                let relaxed = Call::new("empty", ()).deadline(Duration::from_secs(600));
                sandbox.call_with::<(), _>(relaxed).unwrap();
            }
            3 | 4 => {
                self.kills.send(sandbox.interrupt_handle()).unwrap();
                let function = ["spin", "notify_for_ever", "read_the_clock_for_ever"][self.random.below(3) as usize];
                self.expect_end(sandbox.call::<()>(function, ()), &self.counts.killed, |cause| {
                    matches!(cause, Termination::Killed)
                });
                self.reset(sandbox);
            }
            5 => {
                let deadline = Duration::from_micros(self.random.below(2000));
                let call = Call::new("spin", ()).deadline(deadline);
                self.expect_end(sandbox.call_with::<(), _>(call), &self.counts.limited, |cause| {
                    matches!(cause, Termination::LimitExceeded(ExceededLimit::Deadline(_)))
                });
                self.reset(sandbox);
            }
            _ => {
                let call = Call::new("notify_for_ever", ()).limits(Limits::new().host_calls(20));
                self.expect_end(sandbox.call_with::<(), _>(call), &self.counts.limited, |cause| {
                    matches!(cause, Termination::LimitExceeded(ExceededLimit::HostCalls(20)))
                });
                self.reset(sandbox);
            }
        }
    }

    /// Faults are faults, however they come.
    fn use_hostile(&mut self, sandbox: &mut Sandbox) {
        self.count(&self.counts.calls);
        let instruction = ["ud2", "hlt", "divide", "non-canonical"][self.random.below(4) as usize];
        let result = match self.random.below(5) {
            0 => return assert!(sandbox.call::<bool>("alive", ()).unwrap()),
            1 => sandbox.call::<u8>("read", (0u64,)).map(drop),
            2 => sandbox.call::<bool>("privileged", (instruction,)).map(drop),
            3 => sandbox.call::<u64>("overflow_the_stack", (0u64,)).map(drop),
            _ => sandbox.call::<bool>("forge", (0u64, 1u32, 0u32, 0u32, 0u32)).map(drop),
        };
        self.expect_end(result, &self.counts.faulted, |cause| {
            matches!(cause, Termination::Fault(_) | Termination::Protocol(_))
        });
        self.reset(sandbox);
    }

    fn expect_end(&self, result: Result<(), CallError>, counter: &AtomicU64, right: fn(&Termination) -> bool) {
        match result {
            Err(CallError::Terminated { cause, .. }) if right(&cause) => self.count(counter),
            other => panic!("a call ended in another way than it must: {other:?}"),
        }
    }

    fn reset(&self, sandbox: &mut Sandbox) {
        sandbox.reset().unwrap();
        self.count(&self.counts.resets);
    }

    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the process holds.
#[derive(Debug)]
struct Resources {
    descriptors: usize,
    mappings: usize,
    threads: usize,
    /// Resident bytes.
    memory: usize,
}

impl Resources {
    /// A thread that has been joined may still be on its way out of the process.
    fn once_threads_are_gone() -> Self {
        let mut last = Self::now();
        for _ in 0..100 {
            thread::sleep(Duration::from_millis(100));
            let now = Self::now();
            if now.threads == last.threads {
                return now;
            }
            last = now;
        }
        last
    }

    fn now() -> Self {
        let entries = |path: &str| fs::read_dir(path).unwrap().count();
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        let resident: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            descriptors: entries("/proc/self/fd"),
            mappings: fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
            threads: entries("/proc/self/task"),
            memory: resident * 4096,
        }
    }
}

/// Marsaglia's xorshift, 64 bits.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// More than there are processors, so that they get in each other's way.
const WORKERS: u64 = 4;

/// The most sandboxes that wait to be taken.
const SHELF: usize = 32;
