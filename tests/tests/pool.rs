//! Pools: every tenant finds a sandbox as the snapshot was, and no place is ever lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use ampoule::{
    BuildError, Call, CallError, KillOutcome, Limits, Output, Poison, Pool, PoolBuilder, PoolError, PooledSandbox,
    Sandbox, Snapshot, Spawn, Termination,
};
use ampoule_tests::{calls_functions, calls_sandbox, calls_spawn, hostile_image};
use ampoule_vmm::Hypervisor;
use ampoule_vmm::inject::FailAt;
use ampoule_vmm::kvm::Kvm;

/// A snapshot of the guest `calls`, whose next `increment` gives 101.
fn snapshot() -> Snapshot {
    static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| calls_sandbox().snapshot().unwrap());
    SNAPSHOT.clone()
}

fn builder(size: usize) -> PoolBuilder {
    Pool::builder(&snapshot()).size(size).spawn_with(calls_spawn)
}

fn pool(size: usize) -> Pool {
    builder(size).build().unwrap()
}

fn increment(sandbox: &mut Sandbox) -> u32 {
    sandbox.call("increment", ()).unwrap()
}

/// Settings whose host function `add` panics when it is asked to add something to 2, and ever after.
fn with_a_bug(spawn: Spawn) -> Spawn {
    let mut half_changed = false;
    spawn
        .host_fn("add", move |a: u32, b: u32| {
            assert!(!half_changed, "the host function is in a bad state");
            half_changed = a == 2;
            assert!(!half_changed, "the host function has a bug");
            a + b
        })
        .host_fn("notify", || ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
}

fn meet_the_bug(sandbox: &mut Sandbox) {
    let call = AssertUnwindSafe(|| sandbox.call::<u32>("count_on_host", (3u32,)));
    assert!(catch_unwind(call).is_err());
}

/// Waits until this many are waiting for a sandbox.
fn until_waiting(pool: &Pool, waiting: usize) {
    while pool.stats().waiting != waiting {
        thread::yield_now();
    }
}

/// Takes all sandboxes at once and checks that they are as the snapshot was.
fn assert_whole(pool: &Pool) {
    let mut sandboxes: Vec<_> = (0..pool.stats().size).map(|_| pool.take().unwrap()).collect();
    assert!(matches!(pool.try_take(), Err(PoolError::Exhausted { .. })));
    for sandbox in &mut sandboxes {
        assert_eq!(increment(sandbox), 101);
    }
}

#[test]
fn every_tenant_finds_the_state_of_the_snapshot() {
    let pool = pool(1);
    for round in 0..20u32 {
        let mut sandbox = pool.take().unwrap();
        assert_eq!(increment(&mut sandbox), 101);
        assert_eq!(increment(&mut sandbox), 102);
        assert!(sandbox.call::<bool>("exercise_memory", (round,)).unwrap());
        assert_eq!(sandbox.stats().unwrap().restores, u64::from(round), "it is always the same virtual machine");
    }
    let stats = pool.stats();
    assert_eq!((stats.size, stats.idle, stats.taken, stats.waiting), (1, 1, 0, 0));
    assert_eq!((stats.recycled, stats.replaced), (20, 0));
}

#[test]
fn a_tenant_may_go_to_snapshots_of_its_own() {
    let pool = pool(1);
    let mut sandbox = pool.take().unwrap();
    increment(&mut sandbox);
    let own = sandbox.snapshot().unwrap();
    increment(&mut sandbox);
    sandbox.restore(&own).unwrap();
    assert_eq!(increment(&mut sandbox), 102);
    drop(sandbox);
    assert_whole(&pool);
}

#[test]
fn giving_back_costs_no_call_into_the_kernel_for_the_vcpu() {
    let pool = pool(1);
    let mut sandbox = pool.take().unwrap();
    increment(&mut sandbox);
    let before = sandbox.stats().unwrap();
    drop(sandbox);
    let after = pool.take().unwrap().stats().unwrap();
    assert_eq!((after.exits, after.ioctls), (before.exits, before.ioctls));
}

#[test]
fn an_exhausted_pool_fails_at_once_or_after_a_time_as_is_asked() {
    let pool = pool(2);
    let taken = (pool.try_take().unwrap(), pool.take_timeout(Duration::ZERO).unwrap());
    let error = pool.try_take().unwrap_err();
    assert!(matches!(error, PoolError::Exhausted { size: 2 }), "{error}");
    assert!(error.to_string().contains("all 2 sandboxes of the pool are taken: give one back"), "{error}");
    for timeout in [Duration::ZERO, Duration::from_millis(5)] {
        let error = pool.take_timeout(timeout).unwrap_err();
        assert!(matches!(error, PoolError::TimedOut { size: 2, waited } if waited >= timeout), "{error}");
    }
    assert_eq!(pool.stats().waiting, 0, "who has given up does not wait");
    drop(taken);
    assert_whole(&pool);
}

#[test]
fn those_who_wait_are_served_in_their_order_and_nobody_overtakes() {
    let pool = pool(1);
    let first = pool.take().unwrap();
    let (arrived, order) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let gone = Arc::new(std::sync::Mutex::new(gone));
    let threads: Vec<_> = (0..5)
        .map(|number| {
            let (theirs, arrived, gone) = (pool.clone(), arrived.clone(), Arc::clone(&gone));
            let thread = thread::spawn(move || {
                let sandbox = if number % 2 == 0 { theirs.take() } else { theirs.take_timeout(Duration::MAX) }.unwrap();
                arrived.send(number).unwrap();
                gone.lock().unwrap().recv().unwrap();
                drop(sandbox);
            });
            until_waiting(&pool, number + 1);
            thread
        })
        .collect();
    drop(first);
    for number in 0..5 {
        assert!(matches!(pool.try_take(), Err(PoolError::Exhausted { .. })), "overtook number {number}");
        assert_eq!(order.recv().unwrap(), number);
        go.send(()).unwrap();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_whole(&pool);
}

#[test]
fn a_poisoned_sandbox_is_recycled() {
    let pool = pool(1);
    for _ in 0..10 {
        let mut sandbox = pool.take().unwrap();
        assert_eq!(increment(&mut sandbox), 101);
        assert!(sandbox.call::<()>("fault", ()).unwrap_err().poisons());
        drop(sandbox);
        let mut sandbox = pool.take().unwrap();
        assert_eq!(increment(&mut sandbox), 101);
        let spin = Call::new("spin", ()).deadline(Duration::from_millis(1));
        assert!(sandbox.call_with::<(), _>(spin).unwrap_err().poisons());
    }
    assert_whole(&pool);
    let stats = pool.stats();
    assert_eq!((stats.recycled, stats.replaced), (21, 0));
}

#[test]
fn a_tenant_that_panics_gives_its_sandbox_back() {
    let pool = pool(1);
    let tenant = catch_unwind(AssertUnwindSafe(|| {
        let mut sandbox = pool.take().unwrap();
        increment(&mut sandbox);
        panic!("the tenant has a bug");
    }));
    assert!(tenant.is_err());
    assert_whole(&pool);
    assert_eq!(pool.stats().replaced, 0);
}

#[test]
fn after_a_host_function_has_panicked_the_next_tenant_has_new_ones() {
    let spawned = Arc::new(AtomicU32::new(0));
    let spawns = Arc::clone(&spawned);
    let pool = Pool::builder(&snapshot())
        .size(1)
        .spawn_with(move |spawn| {
            spawns.fetch_add(1, Ordering::Relaxed);
            with_a_bug(spawn)
        })
        .build()
        .unwrap();
    for _ in 0..3 {
        let mut sandbox = pool.take().unwrap();
        assert_eq!(sandbox.call::<u32>("count_on_host", (2u32,)).unwrap(), 2);
        meet_the_bug(&mut sandbox);
        assert!(matches!(sandbox.poisoned(), Some(Poison::HostFunctionPanicked)));
    }
    assert_whole(&pool);
    assert_eq!(spawned.load(Ordering::Relaxed), 4);
    assert_eq!(pool.stats().replaced, 0, "the virtual machine has been kept");
}

#[test]
fn host_functions_that_have_panicked_are_replaced_although_the_tenant_has_reset_its_sandbox() {
    let pool = Pool::builder(&snapshot()).size(1).spawn_with(with_a_bug).build().unwrap();
    let cures: [fn(&mut Sandbox); 2] = [
        |sandbox| sandbox.reset().unwrap(),
        |sandbox| {
            sandbox.reset().unwrap();
            assert!(sandbox.call::<()>("fault", ()).unwrap_err().poisons());
        },
    ];
    for cure in cures {
        let mut sandbox = pool.take().unwrap();
        meet_the_bug(&mut sandbox);
        cure(&mut sandbox);
        drop(sandbox);
        let mut next = pool.take().unwrap();
        assert_eq!(next.call::<u32>("count_on_host", (2u32,)).unwrap(), 2);
    }
    assert_whole(&pool);
    assert_eq!(pool.stats().replaced, 0, "the virtual machine has been kept");
}

#[test]
fn a_sandbox_of_another_image_that_was_swapped_in_is_replaced_although_it_imports_the_same() {
    let pool = pool(1);
    let image = ampoule::Image::embedded(ampoule::include_guest!("calls")).unwrap();
    let other = calls_functions(Sandbox::builder(&image)).build().unwrap().snapshot().unwrap();
    for meets_the_bug in [false, true] {
        let mut own = with_a_bug(other.builder()).build().unwrap();
        if meets_the_bug {
            meet_the_bug(&mut own);
        }
        std::mem::swap(&mut *pool.take().unwrap(), &mut own);
        assert!(pool.take().unwrap().image().is_same(snapshot().image()));
    }
    assert_eq!(pool.stats().replaced, 2);
}

#[test]
fn outputs_of_a_sandbox_that_was_swapped_in_do_not_hear_the_next_tenant() {
    let pool = pool(1);
    let (stdout, heard) = Output::capture(1 << 10);
    let (stderr, heard_too) = Output::capture(1 << 10);
    let mut own = calls_spawn(snapshot().builder()).stdout(stdout).stderr(stderr).build().unwrap();
    let mut taken = pool.take().unwrap();
    std::mem::swap(&mut *taken, &mut own);
    drop(taken);
    let mut next = pool.take().unwrap();
    next.call::<()>("print", ("next\n",)).unwrap();
    next.call::<()>("print_error", ("next\n",)).unwrap();
    assert_eq!((heard.take_string().as_str(), heard_too.take_string().as_str()), ("", ""));
}

#[test]
fn handles_of_an_earlier_tenant_have_no_power_over_a_later_one() {
    let pool = pool(1);
    let mut first = pool.take().unwrap();
    let handle = first.interrupt_handle();
    let killer = handle.clone();
    let caller = thread::spawn(move || {
        let error = first.call::<()>("spin", ()).unwrap_err();
        assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
        first
    });
    let call = loop {
        if let Some(call) = killer.running_call() {
            break call;
        }
    };
    assert_eq!(killer.kill(), KillOutcome::Killed);
    drop(caller.join().unwrap());

    let mut second = pool.take().unwrap();
    let own = second.interrupt_handle();
    let caller = thread::spawn(move || {
        let error = second.call::<()>("spin", ()).unwrap_err();
        assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
        drop(second);
    });
    while !own.is_running() {
        thread::yield_now();
    }
    assert!(!handle.is_running() && handle.running_call().is_none() && !call.is_running());
    assert_eq!((handle.kill(), call.kill()), (KillOutcome::NotRunning, KillOutcome::NotRunning));
    assert!(own.is_running());
    assert_eq!(own.kill(), KillOutcome::Killed);
    caller.join().unwrap();
    assert_whole(&pool);
}

#[test]
fn time_limits_hold_for_later_tenants_too() {
    let pool =
        builder(1).spawn_with(|spawn| calls_spawn(spawn).limits(Limits::new().cpu_time(Duration::from_millis(10))));
    let pool = pool.build().unwrap();
    let mut handles = Vec::new();
    for _ in 0..5 {
        let mut sandbox = pool.take().unwrap();
        handles.push(sandbox.interrupt_handle());
        let error = sandbox.call::<()>("spin", ()).unwrap_err();
        assert!(matches!(error, CallError::Terminated { cause: Termination::LimitExceeded(_), .. }), "{error}");
    }
    assert_whole(&pool);
}

#[test]
fn outputs_of_a_tenant_do_not_hear_the_next_one() {
    let pool = pool(1);
    let (stdout, heard) = Output::capture(1 << 10);
    let (stderr, heard_too) = Output::capture(1 << 10);
    let mut sandbox = pool.take().unwrap();
    sandbox.set_stdout(stdout);
    sandbox.set_stderr(stderr);
    sandbox.call::<()>("print", ("first\nunfinished",)).unwrap();
    sandbox.call::<()>("print_error", ("error",)).unwrap();
    drop(sandbox);
    let mut sandbox = pool.take().unwrap();
    sandbox.call::<()>("print", ("second\n",)).unwrap();
    sandbox.call::<()>("print_error", ("second\n",)).unwrap();
    drop(sandbox);
    let heard = heard.take_string();
    assert!(heard.starts_with("first\n") && !heard.contains("second"), "{heard}");
    assert_eq!(heard_too.take_string(), "error");
}

#[test]
fn outputs_of_the_pool_come_back_after_a_tenant_has_replaced_them() {
    let (send, captured) = mpsc::channel();
    let send = std::sync::Mutex::new(send);
    let pool = builder(1).spawn_with(move |spawn| {
        let (stdout, heard) = Output::capture(1 << 10);
        let (stderr, heard_too) = Output::capture(1 << 10);
        send.lock().unwrap().send((heard, heard_too)).unwrap();
        calls_spawn(spawn).stdout(stdout).stderr(stderr)
    });
    let pool = pool.build().unwrap();
    let (heard, heard_too) = captured.recv().unwrap();
    for own in [false, true, true, false] {
        let mut sandbox = pool.take().unwrap();
        sandbox.call::<()>("print", ("before\n",)).unwrap();
        if own {
            sandbox.set_stdout(Output::discard());
            sandbox.set_stderr(Output::discard());
        }
        sandbox.call::<()>("print", ("after\n",)).unwrap();
        sandbox.call::<()>("print_error", ("error\n",)).unwrap();
        drop(sandbox);
        let expected = if own { ("before\n", "") } else { ("before\nafter\n", "error\n") };
        assert_eq!((heard.take_string().as_str(), heard_too.take_string().as_str()), expected);
    }
}

#[test]
fn an_output_that_panics_when_it_is_flushed_costs_no_place() {
    struct Broken;
    impl std::io::Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            panic!("the writer has a bug")
        }
    }
    let pool = pool(1);
    let mut sandbox = pool.take().unwrap();
    sandbox.set_stdout(Output::writer(Broken));
    drop(sandbox);
    assert_whole(&pool);
    assert_eq!(pool.stats().replaced, 1);
}

#[test]
fn sandboxes_outlive_the_pool() {
    let pool = pool(2);
    let (mut one, two) = (pool.take().unwrap(), pool.take().unwrap());
    drop(pool);
    assert_eq!(increment(&mut one), 101);
    assert!(one.call::<()>("fault", ()).unwrap_err().poisons());
    drop(one);
    drop(two);
}

#[test]
fn a_sandbox_can_be_kept_for_good() {
    let pool = pool(1);
    let mut taken = pool.take().unwrap();
    assert_eq!(increment(&mut taken), 101);
    let mut own = PooledSandbox::detach(taken);
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.taken), (0, 0), "the next one is made when it is needed");
    assert_whole(&pool);
    assert_eq!(increment(&mut own), 102);
    own.reset().unwrap();
    drop(pool);
    assert_eq!(increment(&mut own), 101);
}

#[test]
fn sandboxes_are_made_in_advance_or_when_they_are_needed() {
    assert_eq!(pool(3).stats().idle, 3);
    let pool = builder(3).ready(1).build().unwrap();
    assert_eq!((pool.stats().idle, pool.stats().taken), (1, 0));
    assert_whole(&pool);
    assert_eq!(pool.stats().idle, 3);

    let error = Pool::new(&snapshot(), 1).unwrap_err();
    assert!(matches!(error, PoolError::Spawn(BuildError::MissingHostFunction { .. })), "{error}");
    let lazy = Pool::builder(&snapshot()).size(1).ready(0).build().unwrap();
    for _ in 0..2 {
        let error = lazy.take().unwrap_err();
        assert!(matches!(error, PoolError::Spawn(BuildError::MissingHostFunction { .. })), "{error}");
    }
    assert!(matches!(Pool::new(&snapshot(), 0), Err(PoolError::NoSize)));
}

#[test]
fn a_warm_up_leaves_nothing_but_written_pages() {
    const PAGES: u32 = 40;
    let touch = |sandbox: &mut Sandbox| {
        sandbox.call::<()>("prepare_pages", (PAGES, 0u8))?;
        sandbox.call::<u64>("write_pages", (PAGES, 1u8)).map(drop)
    };
    let dirty_pages = |pool: &Pool| {
        let mut sandbox = pool.take().unwrap();
        let dirty = sandbox.stats().unwrap().dirty_pages;
        assert_eq!(increment(&mut sandbox), 101);
        dirty
    };
    let warm = builder(1).warm_up(touch).build().unwrap();
    assert!(dirty_pages(&warm) >= u64::from(PAGES));
    assert!(dirty_pages(&pool(1)) < u64::from(PAGES));

    let cold = builder(1).warm_up(|sandbox| sandbox.call("fault", ())).build();
    assert!(matches!(cold, Err(PoolError::WarmUp(CallError::Terminated { .. }))));
    let careless = builder(1).warm_up(|sandbox| {
        let _ = sandbox.call::<()>("fault", ());
        Ok(())
    });
    assert_whole(&careless.build().unwrap());
}

#[test]
fn settings_that_panic_cost_no_place() {
    let spawned = AtomicU32::new(0);
    let pool = builder(1).spawn_with(move |spawn| {
        let number = spawned.fetch_add(1, Ordering::Relaxed);
        assert!(number.is_multiple_of(3), "the settings have a bug");
        calls_spawn(spawn)
    });
    let pool = pool.build().unwrap();
    // The first one that panics is for a sandbox whose output panics, on the pool's thread; the second one is here.
    for _ in 0..3 {
        let mut sandbox = pool.take().unwrap();
        struct Broken;
        impl std::io::Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                panic!("the writer has a bug")
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        sandbox.set_stdout(Output::writer(Broken));
        let print = AssertUnwindSafe(|| sandbox.call::<()>("print", ("text\n",)));
        assert!(catch_unwind(print).is_err());
        drop(sandbox);
        assert!(catch_unwind(AssertUnwindSafe(|| pool.take())).is_err());
    }
    assert_whole(&pool);
}

#[test]
fn a_sandbox_that_cannot_be_reset_is_replaced() {
    let kvm: Arc<dyn Hypervisor> = Kvm::shared().unwrap();
    let one_tenant = |failing| {
        let hypervisor = Arc::new(FailAt::new(Arc::clone(&kvm), failing));
        let builder = Sandbox::builder(&hostile_image()).hypervisor(Arc::<FailAt<_>>::clone(&hypervisor));
        let pool = Pool::new(&builder.build().unwrap().snapshot().unwrap(), 1).unwrap();
        let mut sandbox = pool.take().unwrap();
        assert!(sandbox.call::<bool>("alive", ()).unwrap());
        let before_reset = hypervisor.operations();
        drop(sandbox);
        assert!(pool.take().unwrap().call::<bool>("alive", ()).unwrap());
        (before_reset, pool.stats().replaced)
    };
    let (first_of_reset, replaced) = one_tenant(u64::MAX);
    assert_eq!(replaced, 0);
    assert_eq!(one_tenant(first_of_reset), (first_of_reset, 1));
}

#[test]
fn whatever_the_hypervisor_refuses_the_pool_stays_whole() {
    let kvm: Arc<dyn Hypervisor> = Kvm::shared().unwrap();
    let mut failing = 0;
    let mut replaced = 0;
    loop {
        let hypervisor = Arc::new(FailAt::new(Arc::clone(&kvm), failing));
        let built = Sandbox::builder(&hostile_image()).hypervisor(Arc::<FailAt<_>>::clone(&hypervisor)).build();
        let snapshot = built.map_err(drop).and_then(|mut sandbox| sandbox.snapshot().map_err(drop));
        let pool = snapshot.and_then(|snapshot| Pool::new(&snapshot, 1).map_err(drop));
        if let Ok(pool) = pool {
            for _ in 0..2 {
                if let Ok(mut sandbox) = pool.take() {
                    let _ = sandbox.call::<bool>("alive", ());
                }
                if let Ok(mut sandbox) = pool.take() {
                    let _ = sandbox.call::<()>("write", (0u64, 1u8));
                }
            }
            // One operation fails; whoever meets it gets an error, or the pool has made up for it.
            let alive = |pool: &Pool| pool.take().is_ok_and(|mut sandbox| sandbox.call("alive", ()).unwrap_or(false));
            assert!(alive(&pool) || alive(&pool), "operation {failing}");
            replaced += pool.stats().replaced;
            if hypervisor.operations() <= failing {
                break;
            }
        }
        failing += 1;
    }
    assert!(failing > 20 && replaced > 0, "{failing} operations, {replaced} sandboxes replaced");
}

#[test]
fn tenants_of_many_kinds_on_many_threads_lose_no_place_and_see_nothing_of_each_other() {
    const SIZE: usize = 3;
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 150;
    let pool = pool(SIZE);
    let taken = AtomicU32::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (pool, taken) = (&pool, &taken);
            scope.spawn(move || {
                let mut handles = Vec::new();
                for round in 0..ROUNDS {
                    let kind = (thread * 7 + round * 5) % 11;
                    let got = match round % 3 {
                        0 => pool.take(),
                        1 => pool.take_timeout(Duration::from_millis(5)),
                        _ => pool.try_take(),
                    };
                    let mut sandbox = match got {
                        Ok(sandbox) => sandbox,
                        Err(PoolError::Exhausted { .. } | PoolError::TimedOut { .. }) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    assert!(taken.fetch_add(1, Ordering::SeqCst) < SIZE as u32, "more sandboxes than places");
                    assert_eq!(increment(&mut sandbox), 101, "the one before has left something behind");
                    assert_eq!(sandbox.call::<u64>("write_pages", (0u32, 0u8)).unwrap(), 0);
                    match kind {
                        0 => assert!(sandbox.call::<()>("fault", ()).unwrap_err().poisons()),
                        1 => assert!(sandbox.call::<()>("abort", ()).unwrap_err().poisons()),
                        2 => {
                            let spin = Call::new("spin", ()).deadline(Duration::from_millis(1));
                            assert!(sandbox.call_with::<(), _>(spin).unwrap_err().poisons());
                        }
                        3 => handles.push(sandbox.interrupt_handle()),
                        4 => handles.iter().for_each(|handle| assert_eq!(handle.kill(), KillOutcome::NotRunning)),
                        5 => assert!(sandbox.call::<bool>("exercise_memory", (2u32,)).unwrap()),
                        6 => sandbox.call::<()>("prepare_pages", (20u32, 0u8)).unwrap(),
                        7 => {
                            sandbox.set_stdout(Output::log());
                            sandbox.call::<()>("print", ("text",)).unwrap();
                        }
                        _ => assert_eq!(increment(&mut sandbox), 102),
                    }
                    taken.fetch_sub(1, Ordering::SeqCst);
                    if kind == 8 && round % 16 == 0 {
                        drop(sandbox.detach());
                    }
                }
            });
        }
    });
    assert_whole(&pool);
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.taken, stats.waiting, stats.replaced), (SIZE, 0, 0, 0));
}
