//! Random numbers, and clocks.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use ampoule::{Sandbox, Snapshot};
use ampoule_tests::tenant_sandbox;

use crate::{end, spawn};

#[test]
fn no_two_lives_draw_the_same_number() {
    for function in ["random_number", "hasher_keys", "own_number", "generation"] {
        let mut tenant = tenant_sandbox();
        let snapshot = tenant.snapshot().unwrap();
        let mut drawn = HashSet::new();
        let mut lives = 0;
        each_life(&mut tenant, &snapshot, |life| {
            lives += 1;
            drawn.insert(life.call::<u64>(function, ()).unwrap());
        });
        assert_eq!(drawn.len(), lives, "{function}");
    }
}

#[test]
fn a_guest_is_told_once_that_it_was_put_back() {
    let mut tenant = tenant_sandbox();
    assert_eq!(hook_runs(&mut tenant), 0);
    let snapshot = tenant.snapshot().unwrap();
    assert_eq!(hook_runs(&mut tenant), 0);
    let mut first = true;
    each_life(&mut tenant, &snapshot, |life| {
        let expected = u32::from(!std::mem::take(&mut first));
        assert_eq!((hook_runs(life), hook_runs(life)), (expected, expected));
    });
    // A state in which the hook had not run yet, and one in which it had.
    tenant.restore(&snapshot).unwrap();
    let not_yet = tenant.snapshot().unwrap();
    assert_eq!(hook_runs(&mut tenant), 1);
    let already = tenant.snapshot().unwrap();
    assert_eq!(hook_runs(&mut tenant), 1);
    for _ in 0..2 {
        tenant.restore(&not_yet).unwrap();
        assert_eq!(hook_runs(&mut tenant), 1);
        tenant.restore(&already).unwrap();
        assert_eq!(hook_runs(&mut tenant), 2);
    }
    assert_eq!((hook_runs(&mut spawn(&not_yet)), hook_runs(&mut spawn(&already))), (1, 2));
}

#[test]
fn clocks_of_the_host_go_on() {
    let mut tenant = tenant_sandbox();
    let snapshot = tenant.snapshot().unwrap();
    let (mut last, mut last_count) = (0, 0);
    each_life(&mut tenant, &snapshot, |life| {
        let count = life.call::<u64>("time_stamp", ()).unwrap();
        assert!(count > last_count, "{count} after {last_count}");
        last_count = count;
        let monotonic = clock(life, libc::CLOCK_MONOTONIC);
        assert!(monotonic >= last);
        last = monotonic;
        let since_1970 = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let before = since_1970();
        let realtime = clock(life, libc::CLOCK_REALTIME);
        assert!((before..=since_1970()).contains(&realtime));
    });
}

#[test]
fn time_in_a_snapshot_is_no_processor_time() {
    let mut tenant = tenant_sandbox();
    let start = Instant::now();
    let used = clock(&mut tenant, libc::CLOCK_PROCESS_CPUTIME_ID);
    let snapshot = tenant.snapshot().unwrap();
    let before = start.elapsed();
    std::thread::sleep(Duration::from_millis(300));
    let put_back: [fn(&mut Sandbox, &Snapshot); 2] =
        [|tenant, snapshot| tenant.restore(snapshot).unwrap(), |tenant, snapshot| *tenant = spawn(snapshot)];
    for put_back in put_back {
        put_back(&mut tenant, &snapshot);
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        let more = clock(&mut tenant, libc::CLOCK_PROCESS_CPUTIME_ID) - used;
        assert!(Duration::from_nanos(more) <= before + start.elapsed());
    }
}

/// Calls `live` in a guest that was not restored, and in many that were, in every way there is.
fn each_life(tenant: &mut Sandbox, snapshot: &Snapshot, mut live: impl FnMut(&mut Sandbox)) {
    live(tenant);
    for _ in 0..2 {
        tenant.restore(snapshot).unwrap();
        live(tenant);
        tenant.reset().unwrap();
        live(tenant);
        end(tenant.call::<()>("fault", ()));
        tenant.restore(snapshot).unwrap();
        tenant.restore(snapshot).unwrap();
        live(tenant);
        let mut sibling = spawn(snapshot);
        live(&mut sibling);
        sibling.reset().unwrap();
        live(&mut sibling);
    }
}

fn hook_runs(tenant: &mut Sandbox) -> u32 {
    tenant.call("hook_runs", ()).unwrap()
}

fn clock(tenant: &mut Sandbox, clock: libc::clockid_t) -> u64 {
    tenant.call("clock", (clock,)).unwrap()
}
