//! Programs that nobody wrote for Ampoule do in a sandbox what they do outside.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use std::{fs, thread};

use ampoule::{
    Blame, CallGroup, Clock, ExceededLimit, Executable, Input, KillOutcome, Limits, Output, Policy, Program,
    ProgramError, ProgramStatus, Termination, Trace,
};
use ampoule_tests::native::Native;

/// What the host runs natively, and the sandbox.
const PROGRAM: &[u8] = include_bytes!(env!("PROGRAM"));

fn executable() -> Executable {
    Executable::from_bytes(PROGRAM).unwrap()
}

fn program(arguments: &[&str]) -> Program {
    Program::of(&executable()).args(arguments.iter().copied())
}

/// Runs it natively: its output, its errors, and its code or its signal.
fn natively(arguments: &[&str], input: &[u8]) -> (Vec<u8>, Vec<u8>, Option<i32>, Option<i32>) {
    let program = Native::new(PROGRAM);
    let mut child = program
        .command()
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    (output.stdout, output.stderr, output.status.code(), output.status.signal())
}

fn sealed(arguments: &[&str], input: Input) -> (Vec<u8>, Vec<u8>, Option<i32>, Option<i32>) {
    let output = program(arguments).stdin(input).run().unwrap();
    (output.stdout, output.stderr, output.status.code(), output.status.signal())
}

#[test]
fn it_does_what_it_does_natively() {
    let text: Vec<u8> =
        (0..150_000u32).map(|index| b"abc\nxyz \n"[((index % 1009) * (index % 13) % 9) as usize]).collect();
    for arguments in [
        &["cat"] as &[&str],
        &["cat", "1"],
        &["cat", "100000"],
        &["upper"],
        &["scattered"],
        &["bad-address"],
        &["both"],
        &["list", "one", "", "two words", "ümlaut"],
        &["float", "3"],
        &["clocks"],
        &["exit", "0"],
        &["exit", "7"],
        &["exit", "-1"],
        &["abort"],
        &["null"],
        &["divide"],
        &["illegal"],
        &["breakpoint"],
        &["raise", "15"],
        &["raise", "9"],
        &["raise", "13"],
        &["raise", "17"],
    ] {
        let text = if arguments == ["cat", "1"] { &text[..300] } else { &text[..] };
        let expected = natively(arguments, text);
        assert_eq!(sealed(arguments, Input::bytes(text)), expected, "{arguments:?}");
        assert_eq!(sealed(arguments, Input::reader(io::Cursor::new(text.to_vec()))), expected, "{arguments:?}");
    }
    assert_eq!(sealed(&["cat"], Input::empty()), natively(&["cat"], b""));
}

#[test]
fn nothing_of_the_host_is_there() {
    let output = program(&["refused"]).run().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "open 1\nsocket 1\nfork 1\n");
    // What its C library does without is beside the point.
    let refused: Vec<_> = output.refused.iter().filter(|call| call.needs.is_some()).map(ToString::to_string).collect();
    assert_eq!(refused, ["socket (network)", "clone (threads or processes)"]);
    let output = program(&["list"]).env("ONLY", "this").run().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\nONLY=this\n"), "{output:?}");
}

#[test]
fn a_group_of_system_calls_can_be_withheld() {
    let output = program(&["refused"]).policy(Policy::all().without(CallGroup::Files)).run().unwrap();
    assert!(output.status.success());
    let files: Vec<_> = output.refused.iter().filter(|call| call.needs == Some("files")).collect();
    assert!(files.iter().any(|call| call.name == Some("openat") && call.count == 1), "{files:?}");
    // The time is not told by memory that the program can read, either.
    let output = program(&["clocks"]).policy(Policy::all().without(CallGroup::Time)).run().unwrap();
    assert!(output.refused.iter().any(|call| call.name == Some("clock_gettime")), "{:?}", output.refused);
}

#[test]
fn its_system_calls_are_traced_to_its_end() {
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);
    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let trace = Memory::default();
    program(&["exit", "7"]).trace(Trace::writer(trace.clone())).run().unwrap();
    let text = String::from_utf8(std::mem::take(&mut *trace.0.lock().unwrap())).unwrap();
    assert!(text.lines().any(|line| line.starts_with("arch_prctl(ARCH_SET_FS, 0x")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("exit_group(7) = ? <")), "{text}");
    program(&["cat"]).stdin(Input::bytes("input\n")).trace(Trace::writer(trace.clone())).run().unwrap();
    let text = String::from_utf8(std::mem::take(&mut *trace.0.lock().unwrap())).unwrap();
    assert!(text.lines().any(|line| line.starts_with(r#"read(0, "input\n", "#) && line.contains(") = 6 <")), "{text}");
    assert!(text.lines().any(|line| line.starts_with(r#"write(1, "input\n", 6) = 6 <"#)), "{text}");
}

#[test]
fn a_fault_is_a_signal_and_says_where_it_was() {
    let output = program(&["null"]).run().unwrap();
    let ProgramStatus::Signaled { signal: 11, fault } = &output.status else { panic!("{output:?}") };
    assert!(fault.to_string().contains("null pointer"), "{fault}");
    assert_eq!((output.status.shell_code(), output.status.success()), (139, false));
}

#[test]
fn limits_end_it() {
    let deadline = Limits::new().deadline(Duration::from_millis(500));
    let error = program(&["spin"]).limits(deadline).run().unwrap_err();
    let ProgramError::Terminated { cause: Termination::LimitExceeded(ExceededLimit::Deadline(_)), .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(error.blame(), Blame::Guest);
    assert!(error.to_string().contains("deadline of 500ms") && error.to_string().contains("main"), "{error}");

    let cpu = Limits::new().cpu_time(Duration::from_millis(20));
    let error = program(&["spin"]).limits(cpu).run().unwrap_err();
    assert!(error.to_string().contains("processor time"), "{error}");

    let endless = Input::reader(io::repeat(b'x'));
    let error = program(&["cat"]).stdin(endless).limits(Limits::new().output(100_000)).run().unwrap_err();
    assert!(error.to_string().contains("printed more than 100000 bytes"), "{error}");
    let ProgramError::Terminated { printed, .. } = error else { panic!("{error}") };
    assert!(printed.stdout.len() > 30_000 && printed.stdout.iter().all(|byte| *byte == b'x'), "{printed:?}");

    let output = program(&["memory"]).memory_limit(16 << 20).run().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"none\n".as_slice()));
    let output = program(&["memory"]).memory_limit(80 << 20).run().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"all\n".as_slice()));
}

#[test]
fn who_waits_for_a_pipe_gets_what_comes_when_it_comes() {
    let (reader, mut writer) = io::pipe().unwrap();
    let (mut answers, stdout) = io::pipe().unwrap();
    let process = program(&["cat"]).stdin(Input::file(reader)).stdout(Output::writer(stdout)).start().unwrap();
    let running = thread::spawn(move || process.run().unwrap());
    let mut answer = [0; 5];
    for word in [b"first", b"later"] {
        writer.write_all(word).unwrap();
        answers.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, word);
    }
    drop(writer);
    assert!(running.join().unwrap().status.success());
}

#[test]
fn who_prints_where_nobody_reads_dies_of_it_as_it_does_natively() {
    let limits = Limits::new().deadline(Duration::from_secs(20));
    for (mode, signal) in [("yes", Some(libc::SIGPIPE)), ("yes-ignoring", None)] {
        let (answers, stdout) = io::pipe().unwrap();
        let process = program(&[mode]).stdout(Output::writer(stdout)).limits(limits).start().unwrap();
        let running = thread::spawn(move || process.run().unwrap());
        (&answers).read_exact(&mut [0; 100]).unwrap();
        drop(answers);
        let output = running.join().unwrap();
        assert_eq!((output.status.signal(), output.stdout.len()), (signal, 0), "{mode}");
        assert_eq!(output.status.code(), if signal.is_none() { Some(libc::EPIPE) } else { None }, "{mode}");
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = program(&["yes-ignoring"]).stdout(Output::writer(full)).limits(limits).run().unwrap();
    assert_eq!(output.status.code(), Some(libc::ENOSPC));
}

#[test]
fn who_waits_for_a_pipe_is_ended_by_a_deadline_and_by_a_kill() {
    let (reader, _writer) = io::pipe().unwrap();
    let limits = Limits::new().deadline(Duration::from_millis(30));
    let error = program(&["cat"]).stdin(Input::file(reader)).limits(limits).run().unwrap_err();
    assert!(error.to_string().contains("deadline"), "{error}");

    for _ in 0..20 {
        let (reader, _writer) = io::pipe().unwrap();
        let process = program(&["cat"]).stdin(Input::file(reader)).start().unwrap();
        let handle = process.interrupt_handle();
        let (ended, end) = mpsc::channel();
        let running = thread::spawn(move || {
            ended.send(process.run().unwrap_err()).unwrap();
        });
        while handle.kill() != KillOutcome::Killed {
            thread::yield_now();
        }
        let error = end.recv().unwrap();
        assert!(matches!(error, ProgramError::Terminated { cause: Termination::Killed, .. }), "{error}");
        running.join().unwrap();
    }
}

#[test]
fn a_reader_that_fails_is_an_error_of_the_program_and_not_of_the_host() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the cable is out"))
        }
    }
    let output = program(&["cat"]).stdin(Input::reader(Broken)).run().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "read: Input/output error\n");
}

#[test]
fn what_cannot_be_run_is_refused_with_the_reason() {
    let error = Program::new("/nonexistent/program").run().unwrap_err();
    assert!(error.to_string().contains("/nonexistent/program"), "{error}");
    let error = Program::of(&executable()).memory_limit(5).run().unwrap_err();
    assert!(error.to_string().contains("`Program::memory_limit` of 5 bytes is out of range"), "{error}");
    let error = Executable::from_bytes(b"#!/bin/sh\n".as_slice()).unwrap_err();
    assert!(error.to_string().contains("ELF"), "{error}");
    let error = program(&["nul\0"]).run().unwrap_err();
    assert!(matches!(error, ProgramError::Load(_)), "{error}");
}

#[test]
fn its_clock_can_stand() {
    let frozen = Clock::Frozen(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let output = program(&["clocks"]).clock(frozen).run().unwrap();
    assert!(output.status.success());
}
