//! What an ordinary Rust program finds inside: `std` works, and nothing of the host is reachable.

use std::time::{SystemTime, UNIX_EPOCH};

use ampoule::{
    CallError, EmbeddedImage, ExceededLimit, FaultKind, FaultTarget, Image, Limits, Output, Sandbox, Termination,
};
use ampoule_tests::{calls_builder, calls_functions, calls_sandbox, calls_spawn, hostile_image};

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
fn a_guest_is_called_as_its_file_is_and_does_not_learn_where_that_lies() {
    let directory = std::env::temp_dir().join(format!("ampoule-name-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("calls.elf");
    std::fs::write(&path, ampoule::include_guest!("calls").bytes()).unwrap();
    let image = Image::from_file(&path).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let mut sandbox = calls_functions(Sandbox::builder(&image)).build().unwrap();
    assert_eq!(sandbox.call::<Vec<String>>("arguments", ()).unwrap(), ["calls.elf"]);
    assert_eq!(sandbox.call::<String>("executed_file", ()).unwrap(), "calls.elf");
}

#[test]
fn an_embedded_guest_is_called_as_its_binary_is() {
    let mut sandbox = calls_sandbox();
    assert_eq!(sandbox.call::<Vec<String>>("arguments", ()).unwrap(), ["calls"]);
    assert_eq!(sandbox.call::<String>("executed_file", ()).unwrap(), "calls");
    let error = sandbox.call::<()>("no_such_function", ()).unwrap_err().to_string();
    assert!(error.contains("`calls`"), "{error}");
    let missing = Sandbox::builder(&ampoule_tests::calls_image()).build().unwrap_err().to_string();
    assert!(missing.contains("`calls`"), "{missing}");
}

#[test]
fn embedded_guests_of_all_kinds_fit_into_one_array() {
    const GUESTS: [EmbeddedImage; 2] = [ampoule::include_guest!("calls"), ampoule::include_guest!("c-pie")];
    for guest in GUESTS {
        assert_eq!(Image::embedded(guest).unwrap().name(), guest.name());
    }
}

#[test]
fn nothing_of_the_host_is_reachable() {
    let mut sandbox = calls_sandbox();
    for (function, argument) in [
        ("open_file", "/etc/passwd"),
        ("open_file", "/dev/kvm"),
        ("open_file", "/proc/self/mem"),
        ("open_file", "/dev/../etc/passwd"),
        ("open_file", "/dev/null/../kvm"),
        ("create_file", "/dev/escaped"),
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

/// What programs open that have no other source of random bytes: `getrandom` and everything on top of it in a static
/// program.
#[test]
fn random_devices_give_fresh_bytes() {
    let mut sandbox = calls_sandbox();
    for device in ["/dev/urandom", "/dev/random"] {
        let mut read = |len: u32| sandbox.call::<Vec<u8>>("read_file", (device, len)).unwrap();
        assert_ne!(read(16), read(16));
        let many = read(300_000);
        assert!(many.chunks(1000).all(|part| part.iter().any(|byte| *byte != part[0])), "{device}");
    }
}

#[test]
fn the_other_devices_are_linuxs() {
    let mut sandbox = calls_sandbox();
    for device in ["/dev/zero", "/dev/full"] {
        assert_eq!(sandbox.call::<Vec<u8>>("read_file", (device, 5000u32)).unwrap(), [0; 5000]);
    }
    let error = sandbox.call::<Vec<u8>>("read_file", ("/dev/null", 1u32)).unwrap_err();
    assert!(matches!(error, CallError::Function { .. }), "{error}");
    for device in ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"] {
        sandbox.call::<()>("write_file", (device, "text")).unwrap();
        assert_eq!(sandbox.call::<String>("kind_of", (device,)).unwrap(), "character device");
    }
    let error = sandbox.call::<()>("write_file", ("/dev/full", "text")).unwrap_err();
    assert!(error.to_string().contains("No space left on device"), "{error}");
}

#[test]
fn a_guest_that_keeps_everything_open_is_refused_more() {
    let mut sandbox = calls_sandbox();
    let error = loop {
        match sandbox.call::<usize>("keep_open", ("/dev/null",)) {
            Ok(open) => assert!(open <= 1024),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("Too many open files"), "{error}");
    sandbox.reset().unwrap();
    assert_eq!(sandbox.call::<usize>("keep_open", ("/dev/null",)).unwrap(), 1);
}

#[test]
fn open_files_are_part_of_a_snapshot() {
    let mut sandbox = calls_sandbox();
    assert_eq!(sandbox.call::<usize>("keep_open", ("/dev/urandom",)).unwrap(), 1);
    let snapshot = sandbox.snapshot().unwrap();
    let first = sandbox.call::<[u8; 8]>("read_kept", ()).unwrap();
    let mut spawned = calls_spawn(snapshot.builder()).build().unwrap();
    assert_ne!(spawned.call::<[u8; 8]>("read_kept", ()).unwrap(), first);
    sandbox.restore(&snapshot).unwrap();
    assert_ne!(sandbox.call::<[u8; 8]>("read_kept", ()).unwrap(), first);
}

#[test]
fn the_working_directory_can_be_looked_at_and_entered() {
    let mut sandbox = calls_sandbox();
    assert_eq!(sandbox.call::<String>("kind_of", ("/",)).unwrap(), "directory");
    assert_eq!(sandbox.call::<String>("kind_of", (".",)).unwrap(), "directory");
    assert_eq!(sandbox.call::<String>("enter", ("/",)).unwrap(), "/");
    assert_eq!(sandbox.call::<String>("enter", ("dev",)).unwrap(), "/dev");
    sandbox.call::<()>("open_file", ("null",)).unwrap();
    assert!(sandbox.call::<String>("enter", ("/tmp",)).is_err());
}

/// A program that derives its seed from the second and its process number gets a different one in each sandbox. Everything
/// that comes from one snapshot has the same number, because C libraries remember it.
#[test]
fn sandboxes_are_different_processes_and_stay_who_they_are() {
    let mut sandbox = calls_sandbox();
    let id: u32 = sandbox.call("process_id", ()).unwrap();
    let others: Vec<u32> = (0..3).map(|_| calls_sandbox().call("process_id", ()).unwrap()).collect();
    assert!(others.iter().any(|other| *other != id), "{id} {others:?}");
    let snapshot = sandbox.snapshot().unwrap();
    sandbox.reset().unwrap();
    assert_eq!(sandbox.call::<u32>("process_id", ()).unwrap(), id);
    let mut spawned = calls_spawn(snapshot.builder()).build().unwrap();
    assert_eq!(spawned.call::<u32>("process_id", ()).unwrap(), id);
}

#[test]
fn the_vsyscalls_of_old_programs_work() {
    let mut sandbox = calls_sandbox();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    for _ in 0..2 {
        let before = now();
        let (time, of_day, cpu): (i64, i64, u32) = sandbox.call("vsyscalls", ()).unwrap();
        let after = now();
        assert!((before - 1..=after).contains(&time) && (before - 1..=after).contains(&of_day), "{time} {of_day}");
        assert_ne!(cpu, u32::MAX);
        sandbox.reset().unwrap();
    }
}

#[test]
fn the_c_library_knows_where_the_stack_is() {
    let mut sandbox = calls_builder().stack_size(1 << 20).build().unwrap();
    let (start, size, on_it): (u64, u64, u64) = sandbox.call("stack_bounds", ()).unwrap();
    assert!((start..start + size).contains(&on_it), "{start:#x} {size:#x} {on_it:#x}");
    assert!(size > (1 << 20) - (64 << 10) && size <= 1 << 20, "{size:#x}");
}

#[test]
fn select_sleeps() {
    let mut sandbox = calls_sandbox();
    let (results, slept): ([i32; 2], [bool; 2]) = sandbox.call("select_as_sleep", (5u64,)).unwrap();
    assert_eq!((results, slept), ([0, 0], [true, true]));
}

#[test]
fn a_handler_runs_in_every_call_and_is_part_of_a_snapshot() {
    let mut sandbox = calls_sandbox();
    for count in 1..4 {
        assert_eq!(sandbox.call::<i32>("raise_handled", (libc::SIGUSR1,)).unwrap(), count);
    }
    let snapshot = sandbox.snapshot().unwrap();
    assert_eq!(sandbox.call::<i32>("raise_handled", (libc::SIGUSR2,)).unwrap(), 4);
    sandbox.restore(&snapshot).unwrap();
    assert_eq!(sandbox.call::<i32>("raise_handled", (libc::SIGUSR2,)).unwrap(), 4);
}

#[test]
fn a_blocked_signal_waits_until_it_is_waited_for() {
    let mut sandbox = calls_sandbox();
    let found: (i32, i32) = sandbox.call("raise_blocked", (libc::SIGUSR1,)).unwrap();
    assert_eq!(found, (1, libc::SIGUSR1));
}

#[test]
fn a_fault_that_the_guest_handles_does_not_end_it() {
    let mut sandbox = calls_sandbox();
    for (by_instruction, signal) in [(1, libc::SIGILL), (0, libc::SIGSEGV), (1, libc::SIGILL)] {
        assert_eq!(sandbox.call::<i32>("fault_with_handlers", (by_instruction,)).unwrap(), signal);
    }
}

#[test]
fn a_fault_whose_handler_aborts_is_reported_as_what_it_was() {
    let error = calls_sandbox().call::<i32>("fault_and_abort", ()).unwrap_err();
    let CallError::Terminated { cause: Termination::Fault(fault), .. } = &error else { panic!("{error}") };
    assert!(matches!(fault.kind(), FaultKind::PageFault { target: FaultTarget::Null, .. }), "{fault}");
    assert_eq!(fault.ending_signal(), Some(libc::SIGABRT));
    assert!(fault.to_string().contains("in `fault_and_abort`"), "{fault}");
    assert!(fault.to_string().contains("; its handler of that ended it with SIGABRT"), "{fault}");
    assert_eq!(fault.stderr(), "the guest gives up\n");

    // The handlers of the standard library, which are for stack overflows, let every other fault happen again.
    let error = calls_sandbox().call::<i32>("fault_without_handlers", ()).unwrap_err();
    let CallError::Terminated { cause: Termination::Fault(fault), .. } = &error else { panic!("{error}") };
    assert_eq!(fault.ending_signal(), None);
    assert!(fault.to_string().contains("in `fault_without_handlers`"), "{fault}");
}

#[test]
fn a_guest_that_computes_is_interrupted_by_its_timers() {
    let mut sandbox = calls_sandbox();
    assert!(sandbox.call::<i32>("compute_for_ticks", (5,)).unwrap() >= 5);
    // Beside the samples of a profile.
    sandbox.profile(ampoule::Frequency::default()).unwrap();
    assert!(sandbox.call::<i32>("compute_for_ticks", (20,)).unwrap() >= 20);
    drop(sandbox.take_profile());
}

#[test]
fn a_timer_has_as_much_time_left_after_a_restore_as_before() {
    let mut sandbox = calls_sandbox();
    sandbox.call::<()>("set_timer", (50,)).unwrap();
    let snapshot = sandbox.snapshot().unwrap();
    let wait = |sandbox: &mut Sandbox| {
        while sandbox.call::<i32>("handled", ()).unwrap() == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    wait(&mut sandbox);
    for _ in 0..2 {
        sandbox.restore(&snapshot).unwrap();
        assert_eq!(sandbox.call::<i32>("handled", ()).unwrap(), 0, "time in a snapshot is no time");
        wait(&mut sandbox);
    }
}

#[test]
fn an_alarm_that_nobody_handles_ends_the_guest() {
    let (stdout, out) = Output::capture(1 << 10);
    let fault = ending(calls_builder().stdout(stdout).build().unwrap(), "alarm_and_pause", 1);
    assert_eq!(fault, "death by SIGALRM");
    assert_eq!(out.take_string(), "alarm returned 0\n");
    let fault = ending(calls_sandbox(), "alarm_and_pause", 0);
    assert_eq!(
        fault,
        "wait for a signal that never comes; a guest gets no signals but its own and those of its timers, and none of these \
         is to expire"
    );
}

#[test]
fn small_wishes_are_answered() {
    let mut sandbox = calls_sandbox();
    assert!(sandbox.call::<bool>("stays_non_blocking", ()).unwrap());
    assert_eq!(sandbox.call::<(i32, i32)>("nice", (3,)).unwrap(), (3, 3));
    assert_eq!(sandbox.call::<u64>("discard_static", ()).unwrap(), 0);
}

/// What a guest did to end itself in the call of a function.
#[track_caller]
fn ending(mut sandbox: Sandbox, function: &str, argument: i32) -> String {
    match sandbox.call::<i32>(function, (argument,)).unwrap_err() {
        CallError::Terminated { cause: Termination::Fault(fault), .. } => fault.kind().to_string(),
        error => panic!("{error}"),
    }
}
