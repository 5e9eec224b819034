//! The guest calls the host: values, failures, and closures that keep state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ampoule::{BuildError, CallError, Output, Poison, Pool};
use ampoule_tests::{calls_builder, calls_image, calls_sandbox, calls_spawn};

/// Settings for the guest `calls` with another host function `parse`.
fn with_parse(parse: impl FnMut(String) -> Result<u32, String> + Send + 'static) -> ampoule::Sandbox {
    ampoule::Sandbox::builder(&calls_image())
        .host_fn("add", |a: u32, b: u32| a + b)
        .host_fn("notify", || ())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .try_host_fn("parse", parse)
        .build()
        .unwrap()
}

#[test]
fn many_host_calls_in_one_call() {
    assert_eq!(calls_sandbox().call::<u32>("count_on_host", (500u32,)).unwrap(), 500);
}

#[test]
fn closures_borrow_text_and_bytes_where_they_say_so() {
    let mut asked = 0;
    let parse = ampoule::borrowing!(move |text: &str| {
        asked += 1;
        text.parse::<u32>().map(|number| number + asked)
    });
    let mut sandbox = ampoule::Sandbox::builder(&calls_image())
        .host_fn("add", ampoule::borrowing!(|a: u32, b: u32| a + b))
        .host_fn("notify", || ())
        .try_host_fn("parse", parse)
        .try_host_fn("transform", ampoule::borrowing!(|bytes: &[u8]| Ok::<_, String>(bytes.repeat(2))))
        .build()
        .unwrap();
    assert_eq!(sandbox.call::<u32>("parse_or_fail", ("40",)).unwrap(), 41);
    assert_eq!(sandbox.call::<u32>("parse_or_fail", ("40",)).unwrap(), 42);
    let reason: String = sandbox.call("parse_or_reason", ("x",)).unwrap();
    assert!(reason.contains("invalid digit"), "{reason}");
    assert_eq!(sandbox.call::<u64>("transform_on_host", (8000u32,)).unwrap(), 16_000);
    assert_eq!(sandbox.call::<u32>("count_on_host", (10u32,)).unwrap(), 10);
    sandbox.call::<()>("print_and_notify", (2u32,)).unwrap();

    let other = ampoule::Sandbox::builder(&calls_image())
        .host_fn("add", ampoule::borrowing!(|a: u32, b: &str| a + b.len() as u32))
        .build();
    assert!(matches!(other, Err(BuildError::HostFunctionMismatch { .. })), "{other:?}");
}

#[test]
fn a_closure_keeps_its_state() {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let mut last = 0;
    let mut sandbox = with_parse(move |text| {
        counter.fetch_add(1, Ordering::Relaxed);
        last += text.len() as u32;
        Ok(last)
    });
    assert_eq!(sandbox.call::<u32>("parse_or_fail", ("abc",)).unwrap(), 3);
    assert_eq!(sandbox.call::<u32>("parse_or_fail", ("de",)).unwrap(), 5);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[test]
fn the_guest_can_handle_a_failure_of_the_host_or_pass_it_on() {
    let mut sandbox = calls_sandbox();
    assert_eq!(sandbox.call::<String>("parse_or_reason", ("12",)).unwrap(), "number 12");
    let reason: String = sandbox.call("parse_or_reason", ("x",)).unwrap();
    assert!(reason.starts_with("error: ") && reason.contains("invalid digit"), "{reason}");
    let error = sandbox.call::<u32>("parse_or_fail", ("x",)).unwrap_err();
    assert!(matches!(&error, CallError::Function { message, .. } if message.contains("invalid digit")), "{error}");
    assert_eq!(sandbox.call::<u32>("parse_or_fail", ("7",)).unwrap(), 7);
}

#[test]
fn a_failure_that_the_guest_does_not_expect_is_a_panic_of_the_guest() {
    let mut sandbox = ampoule::Sandbox::builder(&calls_image())
        .try_host_fn("add", |_: u32, _: u32| Err::<u32, _>("the adder is broken"))
        .host_fn("notify", || ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap();
    let error = sandbox.call::<u32>("add_or_panic", ()).unwrap_err();
    let CallError::Panicked { panic, .. } = &error else { panic!("not a panic: {error}") };
    assert!(panic.message.contains("the adder is broken"), "{panic}");
    sandbox.call::<()>("empty", ()).unwrap();
}

#[test]
fn payloads_of_host_calls_that_do_not_fit_are_errors_in_the_guest() {
    let mut sandbox = calls_builder().mailbox_size(8192).build().unwrap();
    assert_eq!(sandbox.call::<u64>("transform_on_host", (8000u32,)).unwrap(), 8000);
    let error = sandbox.call::<u64>("transform_on_host", (9000u32,)).unwrap_err();
    assert!(error.to_string().contains("9004") && error.to_string().contains("8192"), "{error}");

    let mut sandbox = ampoule::Sandbox::builder(&calls_image())
        .mailbox_size(8192)
        .host_fn("add", |a: u32, b: u32| a + b)
        .host_fn("notify", || ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", |_: Vec<u8>| Ok::<_, String>(vec![0u8; 10_000]))
        .build()
        .unwrap();
    let error = sandbox.call::<u64>("transform_on_host", (1u32,)).unwrap_err();
    assert!(error.to_string().contains("10004") && error.to_string().contains("8192"), "{error}");
    sandbox.call::<()>("empty", ()).unwrap();
}

#[test]
fn a_host_function_that_panics_poisons_the_sandbox() {
    let mut sandbox = with_parse(|_| panic!("the host function has a bug"));
    let call = std::panic::AssertUnwindSafe(|| sandbox.call::<u32>("parse_or_fail", ("x",)));
    assert!(std::panic::catch_unwind(call).is_err());
    let error = sandbox.call::<()>("empty", ()).unwrap_err();
    assert!(matches!(error, CallError::Poisoned { cause: Poison::HostFunctionPanicked }), "{error}");
}

#[test]
fn a_writer_that_panics_poisons_the_sandbox_and_not_the_guest_is_blamed() {
    struct Broken;
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            panic!("the writer has a bug")
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut sandbox = calls_builder().stdout(Output::writer(Broken)).build().unwrap();
    let call = std::panic::AssertUnwindSafe(|| sandbox.call::<()>("print", ("text\n",)));
    assert!(std::panic::catch_unwind(call).is_err());
    let error = sandbox.call::<()>("empty", ()).unwrap_err();
    assert!(matches!(error, CallError::Poisoned { cause: Poison::HostFunctionPanicked }), "{error}");
    sandbox.reset().unwrap();
    sandbox.call::<()>("empty", ()).unwrap();
}

#[test]
fn a_sandbox_runs_on_whichever_thread_calls_it() {
    let mut sandbox = calls_sandbox();
    for expected in 101..105 {
        sandbox = std::thread::spawn(move || {
            assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), expected);
            sandbox
        })
        .join()
        .unwrap();
    }
}

#[test]
fn host_functions_that_the_guest_does_not_import_bind_no_sandbox_of_a_snapshot() {
    let mut rich = calls_builder().host_fn("extra", |_: u64| ()).build().unwrap();
    let snapshot = rich.snapshot().unwrap();
    let error = snapshot.builder().host_fn("extra", |_: u64| ()).build().unwrap_err();
    assert!(matches!(error, BuildError::MissingHostFunction { .. }), "{error}");

    let mut spawned = calls_spawn(snapshot.builder()).build().unwrap();
    assert_eq!(spawned.call::<u32>("count_on_host", (3u32,)).unwrap(), 3);
    let mut other = calls_builder().host_fn("extra", |text: String| text).build().unwrap();
    other.restore(&snapshot).unwrap();
    assert_eq!(other.call::<u32>("count_on_host", (3u32,)).unwrap(), 3);
    let pool = Pool::builder(&snapshot).size(1).spawn_with(calls_spawn).build().unwrap();
    assert_eq!(pool.take().unwrap().call::<u32>("count_on_host", (3u32,)).unwrap(), 3);
}
