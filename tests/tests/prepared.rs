//! Programs that wait for their input are snapshotted there, copied, and taken back.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ampoule::{
    ExceededLimit, Executable, IdleProgram, Input, KillOutcome, Limits, Output, Printed, Program, ProgramError,
    ProgramOutput, ProgramSnapshot, ProgramStatus, Termination,
};

fn program(how: &str) -> Program {
    let executable = Executable::from_bytes(include_bytes!(env!("PREPARED")).as_slice()).unwrap();
    Program::of(&executable).arg(how)
}

fn idle(how: &str) -> IdleProgram {
    program(how).start().unwrap().run_until_input().unwrap()
}

fn ready() -> ProgramSnapshot {
    idle("read").snapshot().unwrap()
}

fn text(output: &ProgramOutput) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What `show` says where no request has changed anything.
const UNCHANGED: &str = "sum 0, table 4096, in /, mask 22, next 3, variable none\n";

/// Everything that a request can change.
const CHANGES: &str = "add 5\nfill 9\ndirectory\nmask 0\nvariable\npipe\nallocate 1000000\nclose 2\n";

#[test]
fn however_it_waits_it_gets_its_request_and_that_ends() {
    for how in ["read", "readv", "poll", "hour", "select", "epoll", "edge"] {
        let mut idle = idle(how);
        assert!(idle.is_idle());
        assert_eq!(
            text(&idle.input("add 2\nadd 3\nshow\n").run().unwrap()),
            format!("2\n5\n{}", UNCHANGED.replace("sum 0", "sum 5"))
        );
        assert!(!idle.is_idle());
    }
}

#[test]
fn nothing_of_a_request_is_there_for_the_next_one() {
    let mut idle = idle("read");
    for _ in 0..3 {
        let changed = text(&idle.input(format!("{CHANGES}show\n")).run().unwrap());
        assert!(changed.ends_with("sum 5, table 36864, in /dev, mask 0, next 2, variable yes\n"), "{changed}");
        idle.reset().unwrap();
        assert_eq!(text(&idle.input("show\n").run().unwrap()), UNCHANGED);
        idle.reset().unwrap();
    }
}

#[test]
fn a_copy_is_as_the_program_was_and_neither_changes_the_other() {
    let mut first = idle("read");
    let ready = first.snapshot().unwrap();
    assert!(ready.stored_bytes() > 256 << 10, "{ready:?}");
    let mut second = ready.spawn().unwrap();
    text(&first.input(CHANGES).run().unwrap());
    drop(first);
    assert_eq!(text(&second.input("show\n").run().unwrap()), UNCHANGED);
    second.reset().unwrap();
    text(&second.input(CHANGES).run().unwrap());
    assert_eq!(text(&ready.spawn().unwrap().input("show\n").run().unwrap()), UNCHANGED);
}

#[test]
fn it_can_take_its_input_in_parts_and_be_copied_in_between() {
    let mut idle = idle("read");
    let Printed { stdout, .. } = idle.input("add 2\n").run_until_input().unwrap();
    assert!(stdout.is_empty(), "a request is read to its end before it is served");
    let between = idle.snapshot().unwrap();
    assert_eq!(text(&idle.input("add 3\n").run().unwrap()), "2\n5\n");
    assert_eq!(text(&between.spawn().unwrap().input("add 4\n").run().unwrap()), "2\n6\n");
    idle.reset().unwrap();
    assert_eq!(text(&idle.input("add 1\n").run().unwrap()), "1\n");
}

#[test]
fn what_comes_before_the_first_request_is_read_and_has_no_end() {
    let start = |input: Input| program("read").stdin(input).start().unwrap().run_until_input().unwrap();
    for input in [Input::bytes("add 7\n"), Input::reader(io::Cursor::new("add 7\n"))] {
        assert_eq!(text(&start(input).input("add 1\n").run().unwrap()), "7\n8\n");
    }
    let (reader, mut writer) = io::pipe().unwrap();
    io::Write::write_all(&mut writer, b"add 7\n").unwrap();
    drop(writer);
    assert_eq!(text(&start(Input::file(reader)).input("add 1\n").run().unwrap()), "7\n8\n");
}

#[test]
fn a_request_comes_from_wherever_input_does() {
    let mut idle = idle("read");
    let mut answer = |input: Input| {
        let answer = text(&idle.input(input).run().unwrap());
        idle.reset().unwrap();
        answer
    };
    assert_eq!(answer(Input::empty()), "");
    assert_eq!(answer(Input::reader(io::Cursor::new("add 1\n"))), "1\n");
    let (reader, mut writer) = io::pipe().unwrap();
    let later = std::thread::spawn(move || {
        for _ in 0..10 {
            io::Write::write_all(&mut writer, b"add 1\n").unwrap();
        }
    });
    assert!(answer(Input::file(reader)).ends_with("\n10\n"));
    later.join().unwrap();
    let long = "add 1\n".repeat(100_000);
    assert!(answer(long.into()).ends_with("\n100000\n"));
}

#[test]
fn who_ends_before_the_request_is_an_error_with_all_that_is_known() {
    let error = program("early").start().unwrap().run_until_input().unwrap_err();
    assert!(
        error.to_string().contains("has ended before it waited for its standard input: exit with status 3"),
        "{error}"
    );
    let ProgramError::EndedBeforeInput { output, .. } = error else { panic!("{error}") };
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"too early\n".as_slice()));

    let limits = Limits::new().deadline(Duration::from_millis(50));
    let error = program("never").limits(limits).start().unwrap().run_until_input().unwrap_err();
    assert!(
        matches!(error, ProgramError::Terminated { cause: Termination::LimitExceeded(ExceededLimit::Deadline(_)), .. }),
        "{error}"
    );
}

#[test]
fn however_a_run_ends_the_next_one_after_a_reset_knows_nothing_of_it() {
    let mut idle = idle("read");
    for (request, signal) in [("exit 7", None), ("abort", Some(6)), ("null", Some(11))] {
        let output = idle.input(format!("{CHANGES}complain 3\n{request}\n")).run().unwrap();
        assert_eq!(output.status.signal(), signal, "{request}: {output:?}");
        if signal.is_none() {
            assert_eq!(output.status.code(), Some(7));
        }
        idle.reset().unwrap();
        assert_eq!(text(&idle.input("show\n").run().unwrap()), UNCHANGED, "{request}");
        idle.reset().unwrap();
    }
    let limits = [
        Limits::new().deadline(Duration::from_millis(30)),
        Limits::new().cpu_time(Duration::from_millis(10)),
        Limits::new().output(100),
        Limits::new().system_calls(3),
    ];
    for limits in limits {
        let request = format!("{CHANGES}print 10000\nflush\nspin\n");
        let error = idle.input(request).limits(limits).run().unwrap_err();
        assert!(
            matches!(error, ProgramError::Terminated { cause: Termination::LimitExceeded(_), .. }),
            "{limits:?}: {error}"
        );
        idle.reset().unwrap();
        assert_eq!(text(&idle.input("show\n").run().unwrap()), UNCHANGED, "{limits:?}");
        idle.reset().unwrap();
    }
}

#[test]
fn a_program_that_has_had_its_input_says_what_to_do() {
    let mut idle = idle("read");
    text(&idle.input("show\n").run().unwrap());
    for error in [idle.input("show\n").run().unwrap_err(), idle.snapshot().unwrap_err()] {
        assert!(error.to_string().contains("has ended; `IdleProgram::reset` takes it back"), "{error}");
    }
    idle.reset().unwrap();
    idle.snapshot().unwrap();
    assert_eq!(text(&idle.input("show\n").run().unwrap()), UNCHANGED);
}

#[test]
fn a_writer_or_a_reader_that_panics_leaves_a_program_that_can_be_reset() {
    struct Panics;
    impl io::Write for Panics {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("the disk is on fire");
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("the cable is on fire");
        }
    }
    let mut idle = ready().builder().stderr(Output::writer(Panics)).build().unwrap();
    for input in [Input::bytes("add 1\nflush\ncomplain 1\n"), Input::reader(Panics)] {
        let run = std::panic::AssertUnwindSafe(|| idle.input(input).run());
        assert!(std::panic::catch_unwind(run).is_err());
        let error = idle.input("show\n").run().unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        idle.reset().unwrap();
        assert_eq!(text(&idle.input("show\n").run().unwrap()), UNCHANGED);
        idle.reset().unwrap();
    }
}

#[test]
fn a_kill_ends_the_run_that_it_hits_and_no_other() {
    let mut idle = idle("read");
    let handle = idle.interrupt_handle();
    assert_eq!(handle.kill(), KillOutcome::NotRunning);
    for _ in 0..20 {
        let done = Arc::new(AtomicBool::new(false));
        let (killer, is_done) = (handle.clone(), Arc::clone(&done));
        let killing = std::thread::spawn(move || {
            while !is_done.load(Ordering::Relaxed) && killer.kill() != KillOutcome::Killed {
                std::thread::yield_now();
            }
        });
        let error = idle.input("fill 5\nspin\n").run().unwrap_err();
        done.store(true, Ordering::Relaxed);
        killing.join().unwrap();
        assert!(matches!(error, ProgramError::Terminated { cause: Termination::Killed, .. }), "{error}");
        idle.reset().unwrap();
        assert_eq!(text(&idle.input("show\n").run().unwrap()), UNCHANGED);
        idle.reset().unwrap();
    }
}

#[test]
fn random_numbers_are_new_and_clocks_go_on() {
    let ready = ready();
    let mut idle = ready.spawn().unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        for program in [&mut idle, &mut ready.spawn().unwrap()] {
            let answer = text(&program.input("random\nclock\n").run().unwrap());
            let (random, clock) = answer.trim_end().split_once('\n').unwrap();
            seen.push((random.to_owned(), clock.parse::<u64>().unwrap()));
            program.reset().unwrap();
        }
    }
    assert!(seen.is_sorted_by_key(|(_, clock)| *clock), "{seen:?}");
    seen.sort();
    seen.dedup_by_key(|(random, _)| random.clone());
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[test]
fn what_it_prints_goes_where_its_settings_say() {
    let (stdout, printed) = Output::capture(1000);
    let mut idle = ready().builder().stdout(stdout).name("filter").build().unwrap();
    assert_eq!(idle.name(), "filter");
    let output = idle.input("add 1\ncomplain 4\n").run().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (b"".as_slice(), b"4 is wrong\n".as_slice()));
    assert_eq!(printed.take(), b"1\n");
}

#[test]
fn a_thousand_requests_are_served_by_one_program() {
    let mut idle = idle("read");
    for number in 0..1000 {
        let answer = text(&idle.input(format!("add {number}\nfill {number}\npipe\n")).run().unwrap());
        assert_eq!(answer, format!("{number}\n0 3\n"));
        idle.reset().unwrap();
    }
    let stats = idle.stats().unwrap();
    assert_eq!(stats.restores, 1000, "{stats:?}");
}

#[test]
fn its_end_by_a_signal_is_seen_with_its_place() {
    let output = idle("read").input("null\n").run().unwrap();
    let ProgramStatus::Signaled { signal: 11, fault } = &output.status else { panic!("{output:?}") };
    assert!(fault.to_string().contains("null pointer"), "{fault}");
}
