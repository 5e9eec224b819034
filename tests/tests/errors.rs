//! Mistakes and failures on both sides give precise errors, and only the end of the guest poisons the sandbox.

use ampoule::{Blame, BuildError, CallError, FaultKind, Pool, Termination};
use ampoule_tests::{calls_builder, calls_image, calls_sandbox, hostile_image, hostile_sandbox};

/// What the guest did to end itself.
fn fault_kind(error: &CallError) -> FaultKind {
    match error {
        CallError::Terminated { cause: Termination::Fault(fault), .. } => fault.kind().clone(),
        error => panic!("not reported as a fault: {error}"),
    }
}

#[test]
fn an_unknown_function_is_named_with_those_that_exist() {
    let error = hostile_sandbox().call::<()>("no_such_function", ()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`no_such_function`") && text.contains("alive"), "{text}");
    assert!(!error.poisons());
}

#[test]
fn a_name_that_is_nearly_right_is_answered_with_the_one_that_was_meant() {
    let text = calls_sandbox().call::<u32>("devide", (1u32, 1u32)).unwrap_err().to_string();
    assert!(text.contains("`devide`; did you mean `divide`? it exports"), "{text}");
    let text = calls_sandbox().typed_fn::<(), ()>("devide").unwrap_err().to_string();
    assert!(text.contains("did you mean `divide`?"), "{text}");
    assert!(text.len() < 2000 && text.ends_with(" more"), "a long list is cut: {text}");
}

#[test]
fn wrong_arguments_are_named_with_what_was_expected() {
    let mut sandbox = calls_sandbox();
    let error = sandbox.call::<u32>("divide", (1u32,)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest function `divide` expects (u32, u32) -> Result<u32, String>, called with (u32)"
    );
    let error = sandbox.call::<String>("echo_text", (7u32,)).unwrap_err();
    assert_eq!(error.to_string(), "guest function `echo_text` expects (&str) -> String, called with (u32)");
    let error = sandbox.typed_fn::<(&str, &str), u32>("divide").unwrap_err();
    assert!(matches!(error, CallError::WrongArguments { .. }), "{error}");
    assert_eq!(sandbox.call::<u32>("divide", (6u32, 3u32)).unwrap(), 2);
}

#[test]
fn a_wrong_result_type_is_named() {
    let mut sandbox = calls_sandbox();
    let error = sandbox.call::<String>("divide", (1u32, 1u32)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest function `divide` is (u32, u32) -> Result<u32, String>, its result was asked for as String"
    );
}

/// Definitions that differ from the guest's, under the same names.
mod other {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct Picture {
        pub(crate) name: u8,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) enum Shape {
        Nothing,
        Circle(String),
    }
}

#[test]
fn types_that_differ_behind_the_same_name_are_refused_before_the_guest_runs() {
    let mut sandbox = calls_sandbox();
    let error = sandbox.call::<other::Picture>("invert_picture", (other::Picture { name: 1 },)).unwrap_err();
    assert!(matches!(error, CallError::DifferentTypes { .. }), "{error}");
    assert_eq!((error.blame(), error.poisons()), (Blame::Caller, false));

    let error = sandbox.call::<other::Shape>("wrap_shape", (other::Shape::Circle("c".into()),)).unwrap_err();
    assert!(matches!(error, CallError::DifferentTypes { .. }), "{error}");
    assert_eq!(sandbox.call::<u32>("divide", (6u32, 3u32)).unwrap(), 2);
}

#[test]
fn an_error_of_the_function_reaches_the_caller() {
    let mut sandbox = calls_sandbox();
    let error = sandbox.call::<u32>("divide", (1u32, 0u32)).unwrap_err();
    assert_eq!(error.to_string(), "guest function `divide` failed: 1 cannot be divided by zero");
    assert!(!error.poisons() && sandbox.poisoned().is_none());
    assert_eq!(sandbox.call::<u32>("divide", (1u32, 1u32)).unwrap(), 1);
}

#[test]
fn a_panic_reaches_the_caller_with_message_and_place_and_the_guest_goes_on() {
    let mut sandbox = calls_sandbox();
    let message = "something is wrong: ".repeat(1000);
    let CallError::Panicked { function, panic } = sandbox.call::<()>("panics", (&message,)).unwrap_err() else {
        panic!("not reported as a panic");
    };
    assert_eq!((function.as_str(), panic.message.as_str()), ("panics", message.as_str()));
    assert!(panic.file.ends_with("calls/src/main.rs") && panic.line > 0 && panic.column > 0, "{panic}");
    assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), 101);

    let error = sandbox.call::<()>("panics_with_a_value", ()).unwrap_err();
    assert!(matches!(error, CallError::Panicked { .. }) && !error.poisons(), "{error}");
}

#[test]
fn a_panic_that_cannot_unwind_poisons() {
    let mut sandbox = calls_sandbox();
    let error = sandbox.call::<()>("panics_twice", ()).unwrap_err();
    let FaultKind::Panicked(panic) = fault_kind(&error) else {
        panic!("not reported as a panic: {error}");
    };
    assert!(panic.file.contains(".rs"), "{panic}");
    assert!(error.poisons());
    let error = sandbox.call::<()>("empty", ()).unwrap_err();
    assert!(matches!(error, CallError::Poisoned { .. }), "{error}");
}

#[test]
fn a_panic_that_the_guest_has_caught_is_not_what_it_ended_of() {
    let mut sandbox = calls_sandbox();
    let mut kind = |end: &str| {
        let error = sandbox.call::<()>("catches_a_panic_and_ends", (end,)).unwrap_err();
        sandbox.reset().unwrap();
        fault_kind(&error)
    };
    assert_eq!(kind("abort"), FaultKind::Aborted { signal: libc::SIGABRT });
    assert!(matches!(kind("memory"), FaultKind::OutOfMemory { .. }), "{}", kind("memory"));
    assert!(matches!(kind("panic"), FaultKind::Panicked(panic) if panic.message == "not caught"));
}

#[test]
fn a_panic_without_memory_has_its_message_and_place_and_the_shortage_beside_it() {
    let assert_both = |error: CallError| {
        let text = error.to_string();
        let FaultKind::OutOfMemory { limit, panic: Some(panic) } = fault_kind(&error) else {
            panic!("not reported as a panic without memory: {text}");
        };
        assert_eq!((limit, panic.message.as_str()), (MEMORY as u64, "a plain panic"));
        assert!(panic.file.ends_with("calls/src/environment.rs") && panic.line > 0 && panic.column > 0, "{panic}");
        assert!(text.contains("a plain panic") && text.contains("Builder::memory_limit"), "{text}");
    };
    let mut sandbox = calls_builder().memory_limit(MEMORY).build().unwrap();
    assert_both(sandbox.call::<()>("panic_without_memory", ()).unwrap_err());
    sandbox.reset().unwrap();
    let CallError::Panicked { panic, .. } = sandbox.call::<()>("panic_plainly", ()).unwrap_err() else {
        panic!("not reported as a panic");
    };
    assert_eq!(panic.message, "a plain panic");
    sandbox.call::<()>("take_all_memory", ()).unwrap();
    assert_both(sandbox.call::<()>("panic_plainly", ()).unwrap_err());
}

#[test]
fn memory_that_was_refused_is_why_a_guest_aborts_only_where_it_has_not_gone_on() {
    let mut sandbox = calls_sandbox();
    let mut fault = |function: &str, going_on: &str| {
        let error = sandbox.call::<()>(function, (going_on,)).unwrap_err();
        sandbox.reset().unwrap();
        match error {
            CallError::Terminated { cause: Termination::Fault(fault), .. } => fault,
            error => panic!("not reported as a fault: {error}"),
        }
    };
    for going_on in ["system call", "memory", "host call", "silence"] {
        let fault = fault("abort_after_a_refusal", going_on);
        assert_eq!(*fault.kind(), FaultKind::Aborted { signal: libc::SIGABRT }, "{going_on}: {fault}");
        assert!(fault.refused_memory().is_some(), "{going_on}");
        assert!(fault.to_string().contains("it was refused more memory"), "{going_on}: {fault}");
    }
    let unhandled = fault("catches_a_panic_and_ends", "memory");
    let FaultKind::OutOfMemory { limit, panic: None } = *unhandled.kind() else { panic!("{unhandled}") };
    assert_eq!(unhandled.refused_memory(), Some(limit));
    assert!(unhandled.stderr().contains("memory allocation of 1099511627776 bytes failed"), "{unhandled}");
    assert_eq!(fault("catches_a_panic_and_ends", "abort").refused_memory(), None);
}

#[test]
fn exit_and_abort_poison() {
    let mut sandbox = calls_sandbox();
    let error = sandbox.call::<()>("exit", (3i32,)).unwrap_err();
    assert_eq!(fault_kind(&error), FaultKind::Exited { code: 3 });
    assert_eq!(error.blame(), Blame::Guest);
    assert!(sandbox.poisoned().is_some());

    let mut sandbox = calls_sandbox();
    let error = sandbox.call::<()>("abort", ()).unwrap_err();
    assert_eq!(fault_kind(&error), FaultKind::Aborted { signal: 6 });
    assert!(error.to_string().contains("SIGABRT"), "{error}");
}

#[test]
fn host_functions_are_checked_before_the_guest_runs() {
    let error = ampoule::Sandbox::builder(&calls_image()).build().unwrap_err();
    let BuildError::MissingHostFunction { function, .. } = &error else {
        panic!("not reported as missing: {error}");
    };
    assert!(error.to_string().contains(&format!("`Builder::host_fn(\"{function}\", …)`")), "{error}");

    let error = ampoule::Sandbox::builder(&calls_image())
        .host_fn("add", |a: u32, _: String| a)
        .host_fn("notify", || ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "host function `add` is (u32, String) -> u32, but the guest imports it as (u32, u32) -> u32"
    );

    let error = calls_builder().host_fn("add", |a: u32, b: u32| a + b).build().unwrap_err();
    assert!(matches!(error, BuildError::DuplicateHostFunction { .. }), "{error}");
}

#[test]
fn the_hint_for_a_missing_host_function_names_the_builder_in_use() {
    let snapshot = calls_sandbox().snapshot().unwrap();
    let text = snapshot.spawn().unwrap_err().to_string();
    assert!(text.contains("`Spawn::host_fn(\"add\", …)`, which `Snapshot::builder` has"), "{text}");
    let text = Pool::builder(&snapshot).build().unwrap_err().to_string();
    assert!(text.contains("`PoolBuilder::spawn_with(|spawn| spawn.host_fn(\"add\", …))`"), "{text}");

    let builder = ampoule::Sandbox::builder(&calls_image()).host_fn("add", |a: u32, b: u32| a + b);
    let builder = builder.host_fn("notifiy", || ());
    let builder = builder.try_host_fn("parse", |text: String| text.parse::<u32>());
    let builder = builder.try_host_fn("transform", Ok::<Vec<u8>, String>);
    let text = builder.build().unwrap_err().to_string();
    assert!(
        text.contains("`notify`") && text.ends_with("; `notifiy`, which you provide, it does not import"),
        "{text}"
    );
    let builder = ampoule::Sandbox::builder(&calls_image()).host_fn("add", |a: u32, b: u32| a + b);
    let text = builder.host_fn("notify", || ()).build().unwrap_err().to_string();
    assert!(text.contains("`Builder::try_host_fn(\"parse\", …)`"), "{text}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let build = |builder: ampoule::Builder| builder.build().unwrap_err().to_string();
    let builder = || ampoule::Sandbox::builder(&hostile_image());
    assert!(build(builder().memory_limit(1000)).contains("memory_limit"));
    assert!(build(builder().mailbox_size(0)).contains("mailbox_size"));
    assert!(build(builder().mailbox_size(usize::MAX)).contains("mailbox_size"));
    assert!(build(builder().stack_size(usize::MAX)).contains("stack_size"));
    let text = build(builder().memory_limit(1 << 20).stack_size(1 << 20));
    assert!(text.contains("memory_limit"), "{text}");
}

const MEMORY: usize = 16 << 20;
