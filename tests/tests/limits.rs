//! Limits of calls: exceeding one ends the guest, with an error that says which limit and how much; the next call, and the
//! call after a reset, have their own.

use std::time::Duration;

use ampoule::{BuildError, Call, CallError, ExceededLimit, FaultKind, Limits, Sandbox, Termination};
use ampoule_tests::{calls_builder, calls_sandbox, hostile_image, tenant_builder};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(600);

/// The limit that ended the guest.
fn exceeded<R>(result: Result<R, CallError>) -> ExceededLimit {
    match result.err().expect("the limit is exceeded") {
        CallError::Terminated { cause: Termination::LimitExceeded(limit), .. } => limit,
        error => panic!("not reported as an exceeded limit: {error}"),
    }
}

#[test]
fn a_deadline_ends_a_spinning_guest() {
    let mut sandbox = calls_builder().name("spinner").build().unwrap();
    for _ in 0..3 {
        let error = sandbox.call_with::<(), _>(Call::new("spin", ()).deadline(SHORT)).unwrap_err();
        let text = error.to_string();
        let start = "in guest function `spin` of sandbox `spinner`: the call took longer than its deadline of 20ms";
        assert!(text.starts_with(start), "{text}");
        assert!(text.ends_with("; the sandbox is poisoned: restore a snapshot or reset it"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        sandbox.reset().unwrap();
        sandbox.call_with::<(), _>(Call::new("empty", ()).deadline(LONG)).unwrap();
    }
}

#[test]
fn a_deadline_says_where_the_guest_was() {
    let mut sandbox = calls_sandbox();
    // On a busy machine it may pass before the guest is entered.
    let texts = [1, 10, 100].map(|times| {
        let text = sandbox.call_with::<(), _>(Call::new("spin", ()).deadline(times * SHORT)).unwrap_err().to_string();
        sandbox.reset().unwrap();
        text
    });
    assert!(texts.iter().any(|text| text.contains(", while the guest was in `spin` at ")), "{texts:?}");
}

#[test]
fn a_deadline_ends_a_sleeping_guest() {
    let mut sandbox = calls_sandbox();
    let call = Call::new("sleep", (600_000u64,)).deadline(SHORT);
    assert_eq!(exceeded(sandbox.call_with::<(), _>(call)), ExceededLimit::Deadline(SHORT));
}

#[test]
fn a_deadline_that_passes_in_a_host_function_ends_the_call_when_it_returns() {
    let mut sandbox = Sandbox::builder(&ampoule_tests::calls_image())
        .host_fn("notify", || std::thread::sleep(3 * SHORT))
        .host_fn("add", |a: u32, b: u32| a + b)
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap();
    let call = Call::new("notify_host", (1u32,)).deadline(SHORT);
    assert_eq!(exceeded(sandbox.call_with::<(), _>(call)), ExceededLimit::Deadline(SHORT));
}

#[test]
fn a_deadline_that_does_not_pass_leaves_no_trace() {
    // Far more than a call takes, even on a machine that is busy with something else.
    let ample = 50 * SHORT;
    let mut sandbox = calls_sandbox();
    for _ in 0..50 {
        sandbox.call_with::<(), _>(Call::new("empty", ()).deadline(ample)).unwrap();
    }
    sandbox.call::<()>("sleep", ((ample + SHORT).as_millis() as u64,)).unwrap();
    sandbox.call::<()>("empty", ()).unwrap();
}

#[test]
fn processor_time_is_limited_and_sleep_takes_none() {
    let mut sandbox = calls_sandbox();
    let limits = Limits::new().cpu_time(SHORT);
    let sleep = Call::new("sleep", (3 * SHORT.as_millis() as u64,)).limits(limits);
    sandbox.call_with::<(), _>(sleep).unwrap();
    let spin = Call::new("spin", ()).limits(limits);
    assert_eq!(exceeded(sandbox.call_with::<(), _>(spin)), ExceededLimit::CpuTime(SHORT));
}

#[test]
fn host_calls_are_counted() {
    let mut sandbox = calls_builder().limits(Limits::new().host_calls(10)).build().unwrap();
    assert_eq!(sandbox.call::<u32>("count_on_host", (10u32,)).unwrap(), 10);
    assert_eq!(sandbox.call::<u32>("count_on_host", (10u32,)).unwrap(), 10);
    assert_eq!(exceeded(sandbox.call::<()>("notify_for_ever", ())), ExceededLimit::HostCalls(10));
}

#[test]
fn system_calls_are_counted() {
    let mut sandbox = calls_sandbox();
    let call = Call::new("read_the_clock_for_ever", ()).limits(Limits::new().system_calls(25));
    assert_eq!(exceeded(sandbox.call_with::<(), _>(call)), ExceededLimit::SystemCalls(25));
}

#[test]
fn a_call_can_have_other_limits_than_its_sandbox() {
    let mut sandbox = calls_builder().limits(Limits::new().host_calls(3)).build().unwrap();
    let call = Call::new("count_on_host", (5u32,)).limits(Limits::new().host_calls(5));
    assert_eq!(sandbox.call_with::<u32, _>(call).unwrap(), 5);
    let count = sandbox.typed_fn::<(u32,), u32>("count_on_host").unwrap();
    assert_eq!(count.call_with(&mut sandbox, (4,), Limits::new().host_calls(4)).unwrap(), 4);
    assert_eq!(exceeded(count.call(&mut sandbox, (4,))), ExceededLimit::HostCalls(3));
}

#[test]
fn memory_is_limited() {
    let mut sandbox = Sandbox::builder(&hostile_image()).memory_limit(16 << 20).build().unwrap();
    for _ in 0..2 {
        let error = sandbox.call::<usize>("allocate_for_ever", ()).unwrap_err();
        assert!(error.to_string().contains("more than its 16 MiB: "), "{error}");
        sandbox.reset().unwrap();
    }
    let mut sandbox = Sandbox::builder(&hostile_image()).memory_limit(8 << 20).stack_size(1 << 30).build().unwrap();
    let error = sandbox.call::<u64>("overflow_the_stack", (0u64,)).unwrap_err();
    let CallError::Terminated { cause: Termination::Fault(fault), .. } = &error else { panic!("{error}") };
    assert_eq!(*fault.kind(), FaultKind::OutOfMemory { limit: 8 << 20, panic: None });
}

#[test]
fn memory_that_an_earlier_call_was_refused_is_not_why_a_later_one_ends() {
    let mut tenant = tenant_builder().memory_limit(8 << 20).build().unwrap();
    assert!(tenant.call::<u64>("take_all_memory", ()).unwrap() > 0);
    let error = tenant.call::<()>("abort", ()).unwrap_err();
    let CallError::Terminated { cause: Termination::Fault(fault), .. } = &error else { panic!("{error}") };
    assert!(matches!(fault.kind(), FaultKind::Aborted { .. }), "{error}");
}

#[test]
fn an_image_that_does_not_fit_the_limit_says_how_much_it_needs() {
    let error = Sandbox::builder(&hostile_image()).memory_limit(1 << 20).build().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BuildError::Load(_)) && text.contains("memory_limit"), "{text}");
}

#[test]
fn the_guests_start_is_limited_too() {
    // On a busy machine a short deadline may pass before the guest is entered.
    let mut texts = [5, 50, 500].into_iter().map(|times| {
        let limits = Limits::new().deadline(times * SHORT);
        let error = calls_builder().env("SPIN_AT_START", "1").limits(limits).build().unwrap_err();
        let BuildError::Start(Termination::LimitExceeded(ExceededLimit::Deadline(_)), ..) = &error else {
            panic!("not reported as a deadline: {error}");
        };
        error.to_string()
    });
    assert!(texts.any(|text| text.contains(", while the guest was in `spin` at ")));
}
