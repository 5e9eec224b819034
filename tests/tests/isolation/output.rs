//! Printed text.

use ampoule::{Call, Output, Sandbox};
use ampoule_tests::{log, tenant_builder, tenant_image, tenant_spawn};

use crate::{WAYS_TO_THE_NEXT, end, run_for_a_while};

#[test]
fn text_comes_once_and_in_order() {
    let (stdout, out) = Output::capture(1 << 20);
    let (stderr, err) = Output::capture(1 << 20);
    let mut tenant = tenant_builder().stdout(stdout).stderr(stderr).build().unwrap();
    let snapshot = tenant.snapshot().unwrap();
    tenant.call::<()>("print", ("one",)).unwrap();
    tenant.restore(&snapshot).unwrap();
    assert_eq!(out.take_string(), "one");
    tenant.call::<()>("print", ("two\n",)).unwrap();
    tenant.reset().unwrap();
    let after = tenant.snapshot().unwrap();
    assert_eq!(out.take_string(), "two\n");
    tenant.call::<()>("print", ("three",)).unwrap();
    end(tenant.call::<()>("fault", ()));
    tenant.restore(&after).unwrap();
    tenant.call::<()>("fault", ()).unwrap_err();
    assert_eq!((out.take_string(), err.take_string()), ("three".into(), "onetwo\nthree".into()));
}

#[test]
fn text_goes_to_the_sink_that_was_there_when_it_was_printed() {
    let sinks = [(); 3].map(|()| Output::capture(1 << 20));
    let [(first, one), (second, two), (third, three)] = sinks;
    let mut tenant = tenant_builder().stdout(first).build().unwrap();
    tenant.call::<()>("print", ("before",)).unwrap();
    let snapshot = tenant.snapshot().unwrap();
    let mut sibling = tenant_spawn(&snapshot).stdout(second).build().unwrap();
    tenant.set_stdout(third);
    tenant.restore(&snapshot).unwrap();
    tenant.call::<()>("print", ("after",)).unwrap();
    sibling.call::<()>("print", ("sibling",)).unwrap();
    assert_eq!(
        (one.take_string(), two.take_string(), three.take_string()),
        ("before".into(), "sibling".into(), "after".into())
    );
}

#[test]
fn text_that_was_not_finished_is_never_told_and_leaves_no_trace() {
    let snapshot = tenant_builder().build().unwrap().snapshot().unwrap();
    for claim in [false, true] {
        for way_to_next in WAYS_TO_THE_NEXT {
            let (stdout, out) = Output::capture(1 << 20);
            let mut tenant = tenant_spawn(&snapshot).stdout(stdout).build().unwrap();
            run_for_a_while(&mut tenant, Call::new("begin_to_print_and_spin", (SECRET, claim)));
            let told = if claim { SECRET.to_le_bytes().repeat(2) } else { Vec::new() };
            assert_eq!(out.take(), told);
            way_to_next(&mut tenant, &snapshot);
            let found: Vec<u64> = tenant.call("find", (!SECRET, Vec::<(u64, u64)>::new())).unwrap();
            assert_eq!(found, []);
            assert_eq!(out.take(), []);
        }
    }
}

#[test]
fn text_that_was_printed_before_a_snapshot_is_not_in_the_mailbox_after_it() {
    let printed = u64::from_le_bytes(*b"texttext");
    let in_mailbox = |tenant: &mut Sandbox| {
        let found: Vec<u64> = tenant.call("find", (!printed, Vec::<(u64, u64)>::new())).unwrap();
        found.into_iter().any(|at| at >= MAILBOX)
    };
    let mut tenant = tenant_builder().build().unwrap();
    tenant.call::<()>("print", ("text".repeat(2000),)).unwrap();
    assert!(in_mailbox(&mut tenant), "it stays where it was until something else is printed");
    let snapshot = tenant.snapshot().unwrap();
    assert!(!in_mailbox(&mut tenant));
    for way_to_next in WAYS_TO_THE_NEXT {
        way_to_next(&mut tenant, &snapshot);
        assert!(!in_mailbox(&mut tenant));
    }
}

#[test]
fn text_is_whole_and_comes_once_where_the_stack_grows_while_it_is_printed() {
    let (stdout, out) = Output::capture(1 << 20);
    let mut tenant = tenant_builder().stdout(stdout).build().unwrap();
    let before = tenant.stats().unwrap().exits;
    tenant.call::<()>("print_while_the_stack_grows", ()).unwrap();
    assert_eq!(tenant.stats().unwrap().exits - before, 2, "the stack grows by one exit, and the call is one");
    assert!(out.take() == [b"before\n", &[0; 4096][..], b"after\n"].concat());
}

#[test]
fn lines_of_the_log_belong_to_one_tenant() {
    let lines = log::record();
    let quiet = || Sandbox::builder(&tenant_image()).host_fn("tick", |step: u64| step);
    let mut tenant = quiet().host_fn("words_of_host", |_: u32, _: u64| Vec::<u64>::new()).build().unwrap();
    let snapshot = tenant.snapshot().unwrap();
    tenant.call::<()>("print", ("first tenant, no end",)).unwrap();
    tenant.restore(&snapshot).unwrap();
    tenant.call::<()>("print", ("second tenant\n",)).unwrap();
    tenant.call::<()>("print", ("and no end",)).unwrap();
    let taken = tenant.snapshot().unwrap();
    for _ in 0..2 {
        tenant.restore(&taken).unwrap();
        tenant.call::<()>("print", ("third tenant\n",)).unwrap();
    }
    let expected = ["first tenant, no end", "second tenant", "and no end", "third tenant", "third tenant"];
    let both: Vec<_> = expected.iter().flat_map(|line| [line.to_string(), line.to_string()]).collect();
    let mut seen: Vec<_> = lines.take().into_iter().map(|(_, line)| line).collect();
    seen.retain(|line| line.contains("tenant") || line.contains("no end")); // other tests of this process print, too
    assert_eq!(seen, both);
}

/// Its halves are equal, so that two copies in a row are found at every address that is a multiple of four.
const SECRET: u64 = 0x5eed_0f5e_5eed_0f5e;

/// Where the guest sees the mailbox.
const MAILBOX: u64 = 0x7f80_4000_0000;
