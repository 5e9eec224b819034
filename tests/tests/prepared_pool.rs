//! Pools of programs that wait for their input: whoever takes one finds nothing of anyone before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;
use std::{io, mem, thread};

use ampoule::{
    Executable, Input, KillOutcome, Limits, Output, Pool, PoolError, PooledProgram, Program, ProgramError,
    ProgramOutput, ProgramSnapshot, Termination,
};
use ampoule_tests::child::in_child;
use proptest::prelude::*;
use proptest::test_runner::Config;

fn ready(how: &str) -> ProgramSnapshot {
    let executable = Executable::from_bytes(include_bytes!(env!("PREPARED")).as_slice()).unwrap();
    Program::of(&executable).arg(how).start().unwrap().run_until_input().unwrap().snapshot().unwrap()
}

fn text(output: &ProgramOutput) -> &str {
    assert!(output.status.success(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

/// What `show` says where no request has changed anything.
const UNCHANGED: &str = "sum 0, table 4096, in /, mask 22, next 3, variable none\n";

/// Everything that a request can change.
const CHANGES: &str = "add 5\nfill 9\ndirectory\nmask 0\nvariable\npipe\nallocate 1000000\nclose 2\n";

#[test]
fn a_pool_serves_a_thousand_requests_and_forgets_each() {
    let pool = Pool::new(&ready("read"), 2).unwrap();
    for number in 0..1000 {
        let answer = pool.take().unwrap().input(format!("show\nadd {number}\nfill {number}\npipe\n")).run().unwrap();
        assert_eq!(text(&answer), format!("{UNCHANGED}{number}\n0 3\n"));
    }
    let stats = pool.stats();
    assert_eq!((stats.size, stats.idle, stats.recycled, stats.replaced), (2, 2, 1000, 0));
}

#[test]
fn threads_share_a_pool() {
    let pool = Pool::new(&ready("read"), 2).unwrap();
    thread::scope(|scope| {
        for tenant in 0..4 {
            let pool = pool.clone();
            scope.spawn(move || {
                for _ in 0..25 {
                    let answer = pool.take().unwrap().input(format!("{CHANGES}add {tenant}\n")).run().unwrap();
                    assert_eq!(text(&answer), format!("5\n0\n0 3\n1\n0\n{}\n", tenant + 5));
                    assert_eq!(text(&pool.take().unwrap().input("show\n").run().unwrap()), UNCHANGED);
                }
            });
        }
    });
}

#[test]
fn two_pools_of_one_snapshot_or_of_two_keep_apart() {
    let (one, other) = (ready("read"), ready("readv"));
    let pools = [Pool::new(&one, 1).unwrap(), Pool::new(&one, 1).unwrap(), Pool::new(&other, 1).unwrap()];
    for _ in 0..3 {
        let mut taken: Vec<_> = pools.iter().map(|pool| pool.take().unwrap()).collect();
        for (index, program) in taken.iter_mut().enumerate() {
            assert_eq!(
                text(&program.input(format!("show\nadd {index}\n")).run().unwrap()),
                format!("{UNCHANGED}{index}\n")
            );
        }
    }
}

#[test]
fn a_program_that_was_swapped_for_one_of_another_snapshot_stays_out() {
    let (one, other) = (ready("read"), ready("readv"));
    let pool = Pool::new(&one, 1).unwrap();
    let mut taken = pool.take().unwrap();
    let mut foreign = other.spawn().unwrap();
    mem::swap(&mut *taken, &mut foreign);
    drop(taken);
    assert_eq!(text(&pool.take().unwrap().input("show\n").run().unwrap()), UNCHANGED);
    let stats = pool.stats();
    assert_eq!(stats.replaced, 1, "{stats:?}");
    assert_eq!(text(&foreign.input("show\n").run().unwrap()), UNCHANGED);
}

#[test]
fn a_program_is_given_back_unused_half_used_and_kept_for_good() {
    let pool = Pool::new(&ready("read"), 1).unwrap();
    drop(pool.take().unwrap());
    pool.take().unwrap().input("add 3\n").run_until_input().unwrap();
    let kept = pool.take().unwrap();
    assert!(kept.is_idle());
    let mut kept = kept.detach();
    assert_eq!(text(&pool.take().unwrap().input("add 1\n").run().unwrap()), "1\n");
    assert_eq!(text(&kept.input("add 2\n").run().unwrap()), "2\n");
    assert!(matches!(Pool::new(&ready("read"), 0).unwrap_err(), PoolError::NoSize));
}

#[test]
fn handles_of_one_tenant_do_not_reach_the_next() {
    let pool = Pool::new(&ready("read"), 1).unwrap();
    let mut tenant = pool.take().unwrap();
    let handle = tenant.interrupt_handle();
    text(&tenant.input("add 1\n").run().unwrap());
    drop(tenant);
    let next = pool.clone();
    let running = thread::spawn(move || {
        let limits = Limits::new().deadline(Duration::from_millis(100));
        next.take().unwrap().input("spin\n").limits(limits).run().unwrap_err()
    });
    while !running.is_finished() {
        assert_eq!(handle.kill(), KillOutcome::NotRunning);
    }
    let error = running.join().unwrap();
    assert!(matches!(error, ProgramError::Terminated { cause: Termination::LimitExceeded(_), .. }), "{error}");
}

#[test]
fn settings_make_each_program_and_warm_it_up() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let pool = Pool::builder(&ready("read"))
        .size(2)
        .ready(1)
        .spawn_with(move |spawn| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            spawn.name(format!("filter-{number}")).stderr(Output::discard()).limits(Limits::new().output(100))
        })
        .warm_up(|program| program.input("fill 4\n").run().map(drop))
        .build()
        .unwrap();
    let (mut one, mut other) = (pool.take().unwrap(), pool.take().unwrap());
    assert_eq!([one.name(), other.name()], ["filter-0", "filter-1"]);
    for program in [&mut one, &mut other] {
        let output = program.input("show\ncomplain 1\n").run().unwrap();
        assert_eq!((text(&output), output.stderr.as_slice()), (UNCHANGED, b"".as_slice()));
    }
    let error = Pool::builder(&ready("read"))
        .warm_up(|program| program.input("spin\n").deadline(Duration::from_millis(20)).run().map(drop))
        .build()
        .unwrap_err();
    assert!(matches!(error, PoolError::WarmUpProgram(_)), "{error}");
}

#[test]
fn a_program_whose_output_has_panicked_is_replaced() {
    struct Panics;
    impl io::Write for Panics {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("the disk is on fire");
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let pool =
        Pool::builder(&ready("read")).size(1).spawn_with(|spawn| spawn.stderr(Output::writer(Panics))).build().unwrap();
    let run = std::panic::AssertUnwindSafe(|| pool.take().unwrap().input("complain 1\n").run());
    assert!(std::panic::catch_unwind(run).is_err());
    assert_eq!(text(&pool.take().unwrap().input("show\n").run().unwrap()), UNCHANGED);
    let stats = pool.stats();
    assert_eq!((stats.recycled, stats.replaced), (1, 1), "{stats:?}");
}

#[test]
fn a_forked_child_makes_a_pool_of_its_own() {
    let ready = ready("read");
    let pool = Pool::new(&ready, 1).unwrap();
    let mut taken = pool.take().unwrap();
    let child = in_child(|| {
        assert!(matches!(pool.take().unwrap_err(), PoolError::Forked));
        taken.input("show\n").run().unwrap_err();
        let own = Pool::new(&ready, 1).unwrap();
        assert_eq!(text(&own.take().unwrap().input("show\n").run().unwrap()), UNCHANGED);
    });
    assert_eq!(child, 0);
    assert_eq!(text(&taken.input("add 1\n").run().unwrap()), "1\n");
    drop(taken);
    assert_eq!(text(&pool.take().unwrap().input("show\n").run().unwrap()), UNCHANGED);
}

#[test]
fn tasks_share_a_pool_and_a_dropped_one_ends_its_run() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let pool = Pool::new(&ready("read"), 1).unwrap();
        let answer = pool.run(|program| program.input("add 4\n").run()).await.unwrap().unwrap();
        assert_eq!(text(&answer), "4\n");

        let (begun, has_begun) = mpsc::channel();
        let (ended, has_ended) = mpsc::channel();
        let mut endless = Box::pin(pool.run(move |program| {
            begun.send(()).unwrap();
            ended.send(program.input("spin\n").run().unwrap_err()).unwrap();
        }));
        assert!(endless.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        has_begun.recv().unwrap();
        drop(endless);
        let error = has_ended.recv().unwrap();
        assert!(matches!(error, ProgramError::Terminated { cause: Termination::Killed, .. }), "{error}");
        let mut next = pool.take_async().await.unwrap();
        assert_eq!(text(&next.input("show\n").run().unwrap()), UNCHANGED);
    });
}

/// What somebody does with a pool of three.
#[derive(Clone, Debug)]
enum Step {
    Take,
    Run { taken: usize, request: Request },
    Part { taken: usize, number: u8 },
    GiveBack { taken: usize },
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Show,
    Change,
    Exit,
    Abort,
    Fault,
    Deadline,
    Kill,
    NoInput,
}

fn step() -> impl Strategy<Value = Step> {
    let request = prop::sample::select(vec![
        Request::Show,
        Request::Show,
        Request::Change,
        Request::Exit,
        Request::Abort,
        Request::Fault,
        Request::Deadline,
        Request::Kill,
        Request::NoInput,
    ]);
    prop_oneof![
        3 => Just(Step::Take),
        4 => (0..3usize, request).prop_map(|(taken, request)| Step::Run { taken, request }),
        2 => (0..3usize, any::<u8>()).prop_map(|(taken, number)| Step::Part { taken, number }),
        3 => (0..3usize).prop_map(|taken| Step::GiveBack { taken }),
    ]
}

/// A program that was taken, and what is known of it.
struct Taken {
    program: PooledProgram,
    /// What it answers when its input ends; nothing once it has ended.
    begun: Option<String>,
    sum: u64,
}

impl Taken {
    fn run(&mut self, request: Request) {
        let Some(begun) = self.begun.take() else {
            let error = self.program.input("show\n").run().unwrap_err();
            assert!(matches!(error, ProgramError::NotIdle { by_panic: false, .. }), "{error}");
            return;
        };
        let shown = format!("{begun}{}", UNCHANGED.replace("sum 0", &format!("sum {}", self.sum)));
        match request {
            Request::Show => assert_eq!(text(&self.program.input("show\n").run().unwrap()), shown),
            Request::NoInput => assert_eq!(text(&self.program.input(Input::empty()).run().unwrap()), begun),
            Request::Change => {
                text(&self.program.input(CHANGES).run().unwrap());
            }
            Request::Exit => {
                let output = self.program.input(format!("{CHANGES}exit 9\n")).run().unwrap();
                assert_eq!(output.status.code(), Some(9));
            }
            Request::Abort | Request::Fault => {
                let (word, signal) = if matches!(request, Request::Abort) { ("abort", 6) } else { ("null", 11) };
                let output = self.program.input(format!("show\nflush\n{CHANGES}{word}\n")).run().unwrap();
                assert_eq!((output.status.signal(), output.stdout.as_slice()), (Some(signal), shown.as_bytes()));
            }
            Request::Deadline => {
                let limited = self.program.input(format!("{CHANGES}spin\n")).deadline(Duration::from_millis(10));
                let error = limited.run().unwrap_err();
                let ProgramError::Terminated { cause: Termination::LimitExceeded(_), .. } = error else {
                    panic!("{error}")
                };
            }
            Request::Kill => {
                let handle = self.program.interrupt_handle();
                let error = thread::scope(|scope| {
                    scope.spawn(|| {
                        while handle.kill() != KillOutcome::Killed {
                            thread::yield_now();
                        }
                    });
                    self.program.input(format!("{CHANGES}spin\n")).run().unwrap_err()
                });
                assert!(matches!(error, ProgramError::Terminated { cause: Termination::Killed, .. }), "{error}");
            }
        }
    }

    fn part(&mut self, number: u8) {
        if let Some(begun) = &mut self.begun {
            let printed = self.program.input(format!("add {number}\n")).run_until_input().unwrap();
            assert!(printed.stdout.is_empty() && printed.stderr.is_empty());
            self.sum += u64::from(number);
            begun.push_str(&format!("{}\n", self.sum));
        }
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(40) })]

    #[test]
    fn whatever_tenants_do_the_next_one_finds_a_program_as_new(steps in prop::collection::vec(step(), 1..40)) {
        let pool = Pool::builder(&ready("read")).size(3).ready(0).build().unwrap();
        let mut held: Vec<Taken> = Vec::new();
        for step in steps {
            match step {
                Step::Take => match pool.try_take() {
                    Ok(program) => held.push(Taken { program, begun: Some(String::new()), sum: 0 }),
                    Err(error) => assert!(held.len() == 3 && matches!(error, PoolError::Exhausted { .. }), "{error}"),
                },
                Step::Run { taken, request } => {
                    if let Some(taken) = held.get_mut(taken) {
                        taken.run(request);
                    }
                }
                Step::Part { taken, number } => {
                    if let Some(taken) = held.get_mut(taken) {
                        taken.part(number);
                    }
                }
                Step::GiveBack { taken } => {
                    if taken < held.len() {
                        drop(held.swap_remove(taken));
                    }
                }
            }
        }
        drop(held);
        prop_assert_eq!(pool.stats().replaced, 0);
        let mut all: Vec<_> = (0..3).map(|_| pool.take().unwrap()).collect();
        for program in &mut all {
            let output = program.input("show\n").run().unwrap();
            prop_assert_eq!(text(&output), UNCHANGED);
        }
    }
}
