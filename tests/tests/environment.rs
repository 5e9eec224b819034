//! What an ordinary Rust program finds inside: `std` works, and nothing of the host is reachable.

use ampoule::{CallError, ExceededLimit, Limits, Output, Termination};
use ampoule_tests::{calls_builder, calls_sandbox, hostile_image};

#[test]
fn printed_text_goes_where_the_builder_says() {
    let (stdout, out) = Output::capture(1 << 20);
    let (stderr, err) = Output::capture(1 << 20);
    let mut sandbox = calls_builder().stdout(stdout).stderr(stderr).build().unwrap();
    sandbox.call::<()>("print", ("to stdout\n",)).unwrap();
    sandbox.call::<()>("print_error", ("to stderr",)).unwrap();
    assert_eq!(out.take_string(), "to stdout\n");
    assert_eq!(err.take_string(), "to stderr");
}

#[test]
fn a_capture_is_bounded() {
    let (stdout, out) = Output::capture(10);
    let mut sandbox = calls_builder().stdout(stdout).build().unwrap();
    sandbox.call::<()>("print", ("0123456789abc\n",)).unwrap();
    assert_eq!(out.take_string(), "0123456789");
}

#[test]
fn printing_more_than_a_call_may_ends_the_guest() {
    let (stdout, out) = Output::capture(usize::MAX);
    let mut sandbox = ampoule::Sandbox::builder(&hostile_image())
        .stdout(stdout)
        .limits(Limits::new().output(100_000))
        .build()
        .unwrap();
    let error = sandbox.call::<()>("print_for_ever", ()).unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Terminated { cause: Termination::LimitExceeded(ExceededLimit::Output(100_000)), .. }
        ),
        "{error}"
    );
    let printed = out.take().len();
    assert!(printed > 90_000 && printed <= 100_000, "{printed}");
}

#[test]
fn arguments_and_variables_are_those_of_the_builder_and_no_others() {
    let mut sandbox = calls_builder().arg("--level").arg("3").env("MODE", "fast").build().unwrap();
    let arguments: Vec<String> = sandbox.call("arguments", ()).unwrap();
    assert_eq!(arguments[1..], ["--level", "3"]);
    let variables: Vec<(String, String)> = sandbox.call("variables", ()).unwrap();
    assert_eq!(variables, [("MODE".to_string(), "fast".to_string())]);
}

#[test]
fn nothing_of_the_host_is_reachable() {
    let mut sandbox = calls_sandbox();
    for (function, argument) in [
        ("open_file", "/etc/passwd"),
        ("open_file", "/dev/kvm"),
        ("open_file", "/proc/self/mem"),
        ("create_file", "/tmp/escaped"),
        ("connect", "127.0.0.1:80"),
        ("start_process", "/bin/true"),
    ] {
        let error = sandbox.call::<()>(function, (argument,)).unwrap_err();
        assert!(matches!(error, CallError::Function { .. }), "{function} {argument}: {error}");
    }
    assert!(matches!(sandbox.call::<()>("start_thread", ()), Err(CallError::Function { .. })));
    assert_eq!(sandbox.call::<usize>("read_stdin", ()).unwrap(), 0);
    assert!(!std::path::Path::new("/tmp/escaped").exists());
}

#[test]
fn clocks_and_sleep_work() {
    let mut sandbox = calls_sandbox();
    let (seconds, advanced): (u64, bool) = sandbox.call("clocks", (5u64,)).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(seconds) < 60 && advanced);
}

#[test]
fn memory_can_be_used_up_to_the_limit_and_running_out_is_an_error_in_the_guest() {
    let mut sandbox = calls_sandbox();
    assert!(sandbox.call::<bool>("exercise_memory", (20u32,)).unwrap());
    assert!(sandbox.call::<bool>("allocate_too_much", ()).unwrap());
    assert!(sandbox.call::<bool>("exercise_memory", (5u32,)).unwrap());
}

#[test]
fn random_numbers_differ_between_sandboxes() {
    let seed = || calls_sandbox().call::<u64>("hasher_seed", ()).unwrap();
    assert_ne!(seed(), seed());
}
