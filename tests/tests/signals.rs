//! Signals do to a program in a sandbox what they do to it outside.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, SystemTime};

use ampoule::{Clock, Executable, FaultKind, Input, Limits, Program, ProgramError, ProgramStatus};
use ampoule_tests::native::Native;

/// What the host runs natively, and the sandbox.
const PROGRAM: &[u8] = include_bytes!(env!("SIGNALS"));

/// What it prints, and its code or its signal.
type Ending = (String, Option<i32>, Option<i32>);

fn natively(native: &Native, arguments: &[&str]) -> Ending {
    let output = native.command().args(arguments).env_clear().output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code(), output.status.signal())
}

fn program(arguments: &[&str]) -> Program {
    let limits = Limits::new().deadline(Duration::from_secs(60));
    Program::of(&Executable::from_bytes(PROGRAM).unwrap()).args(arguments.iter().copied()).limits(limits)
}

fn sealed(arguments: &[&str]) -> Ending {
    let output = program(arguments).run().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code(), output.status.signal())
}

#[test]
fn a_program_finds_in_its_handlers_what_it_finds_natively() {
    let native = Native::new(PROGRAM);
    for case in [
        "sent",
        "nesting",
        "alternate",
        "flags",
        "changed",
        "faults",
        "vectors",
        "queue",
        "broken-pipe",
        "overflow",
        "unhandled",
        "twice",
        "blocked-fault",
        "ignored-fault",
        "abort-handled",
        "once",
    ] {
        assert_eq!(sealed(&[case]), natively(&native, &[case]), "{case}");
    }
}

#[test]
fn timers_go_off_where_they_do_natively() {
    let native = Native::new(PROGRAM);
    for case in ["waits", "restarts", "timers", "created", "overrun", "alarm-ends", "timer-files", "signal-files"] {
        assert_eq!(sealed(&[case]), natively(&native, &[case]), "{case}");
    }
}

/// Nothing in it takes any time, and what it finds is the same every time.
#[test]
fn timers_go_off_in_a_time_that_is_not_the_hosts() {
    let native = Native::new(PROGRAM);
    for case in ["waits", "restarts", "overrun", "timer-files", "signal-files"] {
        let output = program(&[case]).clock(Clock::Virtual(SystemTime::UNIX_EPOCH)).run().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), natively(&native, &[case]).0, "{case}");
    }
}

/// Both were once waits that neither time nor a deadline ended.
#[test]
fn every_wait_on_a_clock_that_stands_ends() {
    for clock in [Clock::Virtual(SystemTime::UNIX_EPOCH), Clock::Frozen(SystemTime::UNIX_EPOCH), Clock::FrozenInCalls] {
        for (case, expected) in [("coalesced", "0\n"), ("latest", "-1\n")] {
            let output = program(&[case]).clock(clock).run().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{case}, {clock:?}");
        }
    }
}

#[test]
fn a_timer_interrupts_a_wait_for_input() {
    let (reader, writer) = std::io::pipe().unwrap();
    let output = program(&["input"]).stdin(Input::file(reader)).run().unwrap();
    drop(writer);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "-1 1 1\n");
}

#[test]
fn calls_by_chance_have_the_results_that_they_have_natively() {
    let native = Native::new(PROGRAM);
    for seed in 0..60 {
        let seed = seed.to_string();
        assert_eq!(sealed(&["random", &seed]), natively(&native, &["random", &seed]), "seed {seed}");
    }
}

#[test]
fn no_frame_of_a_handler_harms_the_host() {
    for (case, seed) in ["hostile", "made-up"].into_iter().flat_map(|case| (0..60).map(move |seed| (case, seed))) {
        let seed = seed.to_string();
        match program(&[case, &seed]).limits(Limits::new().deadline(Duration::from_millis(500))).run() {
            Ok(output) => assert!(output.status.signal() != Some(libc::SIGKILL), "{case} {seed}: {output:?}"),
            Err(ProgramError::Terminated { cause, .. }) => {
                assert!(!cause.to_string().contains("hypervisor"), "{case} {seed}: {cause}");
            }
            Err(error) => panic!("{case} {seed}: {error}"),
        }
    }
    let output = program(&["made-up", "1"]).run().unwrap();
    let ProgramStatus::Signaled { signal: libc::SIGSEGV, fault } = &output.status else { panic!("{output:?}") };
    assert!(matches!(fault.kind(), FaultKind::SignalReturn { .. }), "{fault}");
}
