//! Programs wait for their standard input in a sandbox as they do outside.

use std::io::{self, PipeWriter, Read, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ampoule::{Executable, Input, KillOutcome, Limits, Output, Program, ProgramError, Termination};
use ampoule_tests::native::Native;

/// What the host runs natively, and the sandbox.
const PROGRAM: &[u8] = include_bytes!(env!("WAITS"));

/// All the ways in which the program waits.
const WAYS: [&str; 7] = ["poll", "ppoll", "select", "pselect", "epoll", "edge", "nested"];

fn program(arguments: &[&str]) -> Program {
    let limits = Limits::new().deadline(Duration::from_secs(60));
    Program::of(&Executable::from_bytes(PROGRAM).unwrap()).args(arguments.iter().copied()).limits(limits)
}

/// What it prints where `feed` gives it its input.
fn natively(arguments: &[&str], feed: impl FnOnce(PipeWriter)) -> String {
    let program = Native::new(PROGRAM);
    let (reader, writer) = io::pipe().unwrap();
    let child = program.command().args(arguments).stdin(reader).stdout(Stdio::piped()).spawn().unwrap();
    feed(writer);
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// The same in a sandbox, of which it is the only difference.
fn sealed(arguments: &[&str], feed: impl FnOnce(PipeWriter)) -> String {
    let (reader, writer) = io::pipe().unwrap();
    let process = program(arguments).stdin(Input::file(reader)).start().unwrap();
    let running = thread::spawn(move || process.run().unwrap());
    feed(writer);
    let output = running.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Gives it all at once, and then the end.
fn all(text: &[u8]) -> impl FnOnce(PipeWriter) {
    move |mut writer| writer.write_all(text).unwrap()
}

#[test]
fn it_finds_what_it_finds_natively() {
    let (sent, received) = mpsc::channel();
    // Nothing comes until the program has ended.
    let nothing = |writer| sent.send(writer).unwrap();
    for case in ["timeouts", "together"] {
        let expected = natively(&[case], nothing);
        assert_eq!(sealed(&[case], nothing), expected, "{case}");
    }
    drop(received);
    let text = [b'x'; 300];
    let expected = natively(&["complete"], all(&text));
    assert_eq!(sealed(&["complete"], all(&text)), expected);
    assert_eq!(program(&["complete"]).stdin(Input::bytes(text)).run().unwrap().stdout, expected.as_bytes());
}

#[test]
fn however_it_waits_it_gets_everything_when_it_comes() {
    let text: Vec<u8> = (0..100_000u32).map(|index| (index % 251) as u8).collect();
    for way in WAYS {
        let (reader, mut writer) = io::pipe().unwrap();
        let (mut answers, stdout) = io::pipe().unwrap();
        let process =
            program(&["echo", way]).stdin(Input::file(reader)).stdout(Output::writer(stdout)).start().unwrap();
        let running = thread::spawn(move || process.run().unwrap());
        for piece in [&text[..5], &text[..1], &text[..4096]] {
            writer.write_all(piece).unwrap();
            let mut answer = vec![0; piece.len()];
            answers.read_exact(&mut answer).unwrap();
            assert!(answer == piece, "{way}");
        }
        drop(writer);
        assert_eq!(running.join().unwrap().status.code(), Some(0), "{way}");

        let inputs =
            [Input::bytes(text.clone()), Input::reader(io::Cursor::new(text.clone())), Input::reader(Slow(300))];
        for (input, expected) in inputs.into_iter().zip([&text[..], &text[..], &[b's'; 300]]) {
            let kind = format!("{way} {input:?}");
            let output = program(&["echo", way]).stdin(input).run().unwrap();
            assert!(output.status.success() && output.stdout == expected, "{kind}: {output:?}");
        }
    }
}

/// Gives a byte every second time that it is asked.
struct Slow(usize);

impl Read for Slow {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_sub(1);
        match self.0 {
            0 => Ok(0),
            left if left.is_multiple_of(2) => Err(io::ErrorKind::WouldBlock.into()),
            _ => {
                into[..2].fill(b's');
                Ok(2)
            }
        }
    }
}

#[test]
fn who_waits_is_ended_by_a_deadline_and_by_a_kill() {
    for way in WAYS {
        let (reader, _writer) = io::pipe().unwrap();
        let limits = Limits::new().deadline(Duration::from_millis(30));
        let error = program(&["echo", way]).stdin(Input::file(reader)).limits(limits).run().unwrap_err();
        assert!(error.to_string().contains("deadline"), "{way}: {error}");
    }
    for case in [&["echo", "poll"] as &[&str], &["echo", "edge"], &["patient"]] {
        let (reader, _writer) = io::pipe().unwrap();
        let process = program(case).stdin(Input::file(reader)).start().unwrap();
        let handle = process.interrupt_handle();
        let running = thread::spawn(move || process.run().unwrap_err());
        while handle.kill() != KillOutcome::Killed {
            thread::yield_now();
        }
        let error = running.join().unwrap();
        assert!(matches!(error, ProgramError::Terminated { cause: Termination::Killed, .. }), "{case:?}: {error}");
    }
}

#[test]
fn who_waits_is_at_rest_and_goes_on_with_its_input() {
    for way in WAYS {
        let mut idle = program(&["echo", way]).start().unwrap().run_until_input().unwrap();
        for text in ["one", "two"] {
            assert_eq!(idle.input(text).run_until_input().unwrap().stdout, text.as_bytes(), "{way}");
        }
        let mut another = idle.snapshot().unwrap().spawn().unwrap();
        assert_eq!(another.input("three").run().unwrap().stdout, b"three", "{way}");
        idle.reset().unwrap();
        assert_eq!(idle.input("four").run().unwrap().stdout, b"four", "{way}");
    }
    // Its time is not over while it is at rest.
    let mut patient = program(&["patient"]).start().unwrap().run_until_input().unwrap();
    assert_eq!(patient.input("at last").run().unwrap().stdout, b"at last");
}
