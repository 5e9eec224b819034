//! Pools in Tokio tasks: whenever a future is dropped, the pool is complete afterwards, and nobody else notices.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use ampoule::{CallError, KillOutcome, Pool, PoolBuilder, PoolError, Sandbox, Snapshot, Termination};
use ampoule_tests::{calls_sandbox, calls_spawn};
use tokio::runtime::{Builder, Runtime};

fn builder(size: usize) -> PoolBuilder {
    static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| calls_sandbox().snapshot().unwrap());
    Pool::builder(&*SNAPSHOT).size(size).spawn_with(calls_spawn)
}

fn pool(size: usize) -> Pool {
    builder(size).build().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

fn increment(sandbox: &mut Sandbox) -> u32 {
    sandbox.call("increment", ()).unwrap()
}

fn is_killed<R>(result: &Result<R, CallError>) -> bool {
    matches!(result, Err(CallError::Terminated { cause: Termination::Killed, .. }))
}

/// Takes all sandboxes at once and checks that they are as the snapshot was.
fn assert_whole(pool: &Pool) {
    let mut sandboxes: Vec<_> = (0..pool.stats().size).map(|_| pool.take().unwrap()).collect();
    for sandbox in &mut sandboxes {
        assert_eq!(increment(sandbox), 101);
    }
    drop(sandboxes);
    assert_eq!(pool.stats().waiting, 0);
}

fn until_waiting(pool: &Pool, waiting: usize) {
    while pool.stats().waiting != waiting {
        thread::yield_now();
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn work_runs_on_either_kind_of_runtime() {
    let pool = pool(2);
    for runtime in [runtime(), Builder::new_current_thread().build().unwrap()] {
        runtime.block_on(async {
            for _ in 0..3 {
                let word = "owned".to_owned();
                let result = pool.run(move |sandbox| (word, increment(sandbox))).await.unwrap();
                assert_eq!(result, ("owned".to_owned(), 101));
                let error = pool.run(|sandbox| sandbox.call::<()>("fault", ())).await.unwrap().unwrap_err();
                assert!(error.poisons());
                let mut sandbox = pool.take_async().await.unwrap();
                assert_eq!(increment(&mut sandbox), 101);
            }
        });
        assert_whole(&pool);
    }
}

#[test]
fn many_tasks_share_few_sandboxes() {
    let pool = pool(2);
    let runtime = runtime();
    let tasks: Vec<_> = (0..40)
        .map(|_| {
            let pool = pool.clone();
            runtime.spawn(async move { pool.run(increment).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(runtime.block_on(task).unwrap(), 101);
    }
    assert_whole(&pool);
}

#[test]
fn sandboxes_are_made_where_there_are_none() {
    let lazy = builder(2).ready(0).build().unwrap();
    runtime().block_on(async {
        let mut sandbox = lazy.take_async().await.unwrap();
        assert_eq!(increment(&mut sandbox), 101);
        assert_eq!(lazy.run(increment).await.unwrap(), 101);
    });
    let broken = builder(1).ready(0).warm_up(|sandbox| sandbox.call("fault", ())).build().unwrap();
    runtime().block_on(async {
        assert!(matches!(broken.take_async().await, Err(PoolError::WarmUp(_))));
        assert!(matches!(broken.run(increment).await, Err(PoolError::WarmUp(_))));
    });
    assert_whole(&lazy);
    assert_eq!(broken.stats().taken, 0);
}

#[test]
fn tasks_and_threads_wait_in_one_queue() {
    let pool = pool(1);
    let first = pool.take().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let runtime = runtime();
    let (mut tasks, mut threads) = (Vec::new(), Vec::new());
    for number in 0..6 {
        let (theirs, order) = (pool.clone(), Arc::clone(&order));
        if number % 2 == 0 {
            let work = move |_: &mut Sandbox| order.lock().unwrap().push(number);
            tasks.push(runtime.spawn(async move { theirs.run(work).await.unwrap() }));
        } else {
            threads.push(thread::spawn(move || {
                let _sandbox = theirs.take().unwrap();
                order.lock().unwrap().push(number);
            }));
        }
        until_waiting(&pool, number + 1);
    }
    drop(first);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_whole(&pool);
}

#[test]
fn a_future_that_is_dropped_while_it_waits_leaves_the_queue() {
    let pool = pool(1);
    let runtime = runtime();
    let _context = runtime.enter();
    let taken = pool.take().unwrap();
    {
        let mut never = pin!(pool.run(|_: &mut Sandbox| unreachable!("the future was dropped")));
        let mut nor = pin!(pool.take_async());
        assert!(poll_once(never.as_mut()).is_pending() && poll_once(nor.as_mut()).is_pending());
        assert_eq!(pool.stats().waiting, 2);
    }
    assert_eq!(pool.stats().waiting, 0);
    {
        let mut given = pin!(pool.run(|_: &mut Sandbox| unreachable!("the future was dropped")));
        assert!(poll_once(given.as_mut()).is_pending());
        drop(taken);
        assert_eq!(pool.stats().idle, 0, "it has been given to the one who waits");
    }
    assert_eq!(pool.stats().idle, 1);
    assert_whole(&pool);
}

#[test]
fn work_that_has_not_begun_when_its_future_is_dropped_never_does() {
    let pool = pool(1);
    let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let (release, released) = mpsc::channel::<()>();
    let busy = runtime.spawn_blocking(move || released.recv().unwrap());
    let (begin, begun) = mpsc::channel();
    {
        let _context = runtime.enter();
        let mut queued = pin!(pool.run(move |_| begin.send(()).unwrap()));
        assert!(poll_once(queued.as_mut()).is_pending());
        assert!(matches!(pool.try_take(), Err(PoolError::Exhausted { .. })));
    }
    release.send(()).unwrap();
    runtime.block_on(busy).unwrap();
    assert!(begun.recv().is_err(), "the work was dropped");
    assert_whole(&pool);
}

#[test]
fn work_does_not_begin_when_its_future_is_dropped_while_its_sandbox_is_made() {
    let (reached, at_warm_up) = mpsc::channel();
    let (go_on, dropped) = mpsc::channel::<()>();
    let dropped = Mutex::new(dropped);
    let lazy = builder(1).ready(0).warm_up(move |_| {
        reached.send(()).unwrap();
        dropped.lock().unwrap().recv().unwrap();
        Ok(())
    });
    let pool = lazy.build().unwrap();
    let runtime = runtime();
    let (begin, begun) = mpsc::channel();
    {
        let _context = runtime.enter();
        let mut work = pin!(pool.run(move |_| begin.send(()).unwrap()));
        assert!(poll_once(work.as_mut()).is_pending());
        at_warm_up.recv().unwrap();
    }
    go_on.send(()).unwrap();
    assert!(begun.recv().is_err(), "the work was dropped");
    assert_whole(&pool);
    assert_eq!(pool.stats().idle, 1, "the sandbox that was made for it is there for others");
}

#[test]
fn a_future_that_is_dropped_during_a_call_interrupts_the_guest() {
    let pool = pool(1);
    let runtime = runtime();
    let _context = runtime.enter();
    for (function, sleep_ms) in
        [("spin", 0), ("notify_for_ever", 0), ("read_the_clock_for_ever", 0), ("sleep", 600_000u64)]
    {
        let (send, handle) = mpsc::channel();
        let (end, result) = mpsc::channel();
        let mut work = Box::pin(pool.run(move |sandbox| {
            increment(sandbox);
            send.send(sandbox.interrupt_handle()).unwrap();
            let result = match sleep_ms {
                0 => sandbox.call::<()>(function, ()),
                _ => sandbox.call(function, (sleep_ms,)),
            };
            end.send(result).unwrap();
        }));
        assert!(poll_once(work.as_mut()).is_pending());
        let handle = handle.recv().unwrap();
        while !handle.is_running() {
            thread::yield_now();
        }
        drop(work);
        assert!(is_killed(&result.recv().unwrap()), "{function}");
        assert_whole(&pool);
    }
    assert_eq!(pool.stats().replaced, 0);
}

#[test]
fn a_future_that_is_dropped_between_calls_ends_all_that_follow() {
    let pool = pool(1);
    let runtime = runtime();
    let (reached, at_work) = mpsc::channel();
    let (go_on, dropped) = mpsc::channel::<()>();
    let (send, results) = mpsc::channel();
    {
        let _context = runtime.enter();
        let mut work = pin!(pool.run(move |sandbox| {
            assert_eq!(increment(sandbox), 101);
            reached.send(sandbox.interrupt_handle()).unwrap();
            dropped.recv().unwrap();
            for _ in 0..3 {
                let result = sandbox.call::<u32>("increment", ());
                sandbox.reset().unwrap();
                send.send(result).unwrap();
            }
        }));
        assert!(poll_once(work.as_mut()).is_pending());
        assert_eq!(at_work.recv().unwrap().kill(), KillOutcome::NotRunning);
    }
    go_on.send(()).unwrap();
    for result in results.iter().take(3) {
        assert!(is_killed(&result), "{result:?}");
    }
    assert_whole(&pool);
}

#[test]
fn a_future_that_is_dropped_at_any_moment_ends_its_calls_and_no_others() {
    let pool = pool(2);
    let runtime = runtime();
    let bystander_stops = AtomicBool::new(false);
    thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            while !bystander_stops.load(Ordering::Relaxed) {
                let mut sandbox = pool.take().unwrap();
                assert_eq!(increment(&mut sandbox), 101);
                assert_eq!(sandbox.call::<u32>("count_on_host", (2u32,)).unwrap(), 2);
            }
        });
        for round in 0..300u64 {
            let (send, last) = mpsc::channel();
            let theirs = pool.clone();
            let task = runtime.spawn(async move {
                let work = move |sandbox: &mut Sandbox| {
                    let mut expected = 101..;
                    let first = loop {
                        match sandbox.call::<u32>("increment", ()) {
                            Ok(number) => assert_eq!(Some(number), expected.next()),
                            error => break error,
                        }
                    };
                    sandbox.reset().unwrap();
                    send.send((first, sandbox.call::<u32>("increment", ()))).unwrap();
                };
                theirs.run(work).await.unwrap();
            });
            // Moments from before the work begins until well into its calls.
            thread::sleep(Duration::from_micros(round * 7 % 1500));
            task.abort();
            if let Ok((first, second)) = last.recv() {
                assert!(is_killed(&first) && is_killed(&second), "{first:?} {second:?}");
            }
        }
        bystander_stops.store(true, Ordering::Relaxed);
        bystander.join().unwrap();
    });
    assert_whole(&pool);
    assert_eq!(pool.stats().replaced, 0);
}

#[test]
fn a_future_that_is_dropped_after_its_work_changes_nothing() {
    let pool = pool(1);
    let runtime = runtime();
    let _context = runtime.enter();
    let (go_on, polled) = mpsc::channel::<()>();
    let mut work = Box::pin(pool.run(move |sandbox| {
        polled.recv().unwrap();
        increment(sandbox)
    }));
    assert!(poll_once(work.as_mut()).is_pending());
    go_on.send(()).unwrap();
    let mut next = pool.take().unwrap();
    assert_eq!(increment(&mut next), 101);
    drop(work);
    assert_eq!(increment(&mut next), 102);
    drop(next);
    assert_whole(&pool);
}

#[test]
fn a_runtime_that_goes_away_takes_no_sandbox_with_it() {
    let pool = pool(2);
    let runtime = runtime();
    for function in ["spin", "read_the_clock_for_ever"] {
        let theirs = pool.clone();
        runtime.spawn(async move { theirs.run(move |sandbox| sandbox.call::<()>(function, ())).await });
    }
    while pool.stats().taken != 2 {
        thread::yield_now();
    }
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    assert_whole(&pool);

    let _context = handle.enter();
    let Poll::Ready(result) = poll_once(pin!(pool.run(increment))) else { panic!("nobody will do the work") };
    assert!(matches!(result, Err(PoolError::RuntimeStopped)), "{result:?}");
    assert_whole(&pool);
}

#[test]
fn work_that_panics_goes_on_panicking_in_the_task() {
    let pool = pool(1);
    let runtime = runtime();
    let task = || runtime.block_on(pool.run(|sandbox| panic!("the work has a bug after {}", increment(sandbox))));
    let panic: Result<Result<(), _>, _> = std::panic::catch_unwind(AssertUnwindSafe(task));
    assert_eq!(panic.unwrap_err().downcast_ref::<String>().unwrap(), "the work has a bug after 101");
    assert_whole(&pool);
    assert_eq!(pool.stats().replaced, 0);
}
