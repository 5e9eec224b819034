//! What `docs/guide/pages/programs.md` shows.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use ampoule::{Executable, Frequency, Input, Limits, Output, Pool, Program, ProgramError, ProgramStatus, Termination};

/// The path of a static executable, compiled as the page says.
fn count_words() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("count_words");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/count_words.rs");
        let compiled = Command::new("rustc")
            .args(["--edition=2024", "-O", "-C", "target-feature=+crt-static", source, "-o"])
            .arg(&path)
            .status();
        assert!(compiled.is_ok_and(|status| status.success()), "rustc could not build {source}");
        path
    });
    &PATH
}

#[test]
fn a_program_is_run_like_a_command() -> Result<(), Box<dyn Error>> {
    let path = count_words();
    let output = Program::new(path)
        .stdin(Input::bytes("a text of six short words"))
        .limits(Limits::new().deadline(Duration::from_secs(5)))
        .run()?;
    assert!(output.status.success());
    assert_eq!(output.stdout, b"6\n");
    Ok(())
}

#[test]
fn a_program_ends_as_it_would_for_its_parent() -> Result<(), Box<dyn Error>> {
    let path = count_words();
    let output = Program::new(path).stdin(Input::bytes([0xff])).run()?;
    match output.status {
        ProgramStatus::Exited(code) => println!("exited with {code}: {}", String::from_utf8_lossy(&output.stderr)),
        ProgramStatus::Signaled { signal, fault } => println!("died by signal {signal}: {fault:#}"),
        _ => {}
    }
    Ok(())
}

#[test]
fn something_else_can_end_it() -> Result<(), Box<dyn Error>> {
    let path = count_words();
    let (silent, _writer) = io::pipe()?;
    let limits = Limits::new().deadline(Duration::from_millis(20));
    match Program::new(path).stdin(Input::file(silent)).limits(limits).run() {
        Err(ProgramError::Terminated { cause: Termination::LimitExceeded(limit), .. }) => {
            println!("cut short: {limit}");
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[test]
fn what_runs_often_is_checked_once() -> Result<(), Box<dyn Error>> {
    let path = count_words();
    let count_words = Executable::from_file(path)?;
    for (text, words) in [("one", "1\n"), ("", "0\n")] {
        let output = Program::of(&count_words).stdin(Input::bytes(text)).run()?;
        assert_eq!(output.stdout, words.as_bytes());
    }
    Ok(())
}

#[test]
fn streams_can_be_pipes() -> Result<(), Box<dyn Error>> {
    let path = count_words();
    let (input, mut text) = io::pipe()?;
    let (count, output) = io::pipe()?;
    let process = Program::new(path).stdin(Input::file(input)).stdout(Output::writer(output)).start()?;
    let handle = process.interrupt_handle(); // ends it from any thread, even while it waits for its input
    let running = std::thread::spawn(move || process.run());

    text.write_all(b"words that come ")?;
    text.write_all(b"one after the other")?;
    drop(text);
    assert!(running.join().expect("it does not panic")?.status.success());
    assert_eq!(io::read_to_string(count)?, "7\n");
    drop(handle);
    Ok(())
}

#[test]
fn a_program_is_ready_for_requests() -> Result<(), Box<dyn Error>> {
    let path = count_words();
    let ready = Program::new(path).start()?.run_until_input()?.snapshot()?;
    let pool = Pool::new(&ready, 2)?;

    let answer = pool.take()?.input("some words").run()?; // is reset then, and ready for somebody else
    assert_eq!(answer.stdout, b"2\n");
    Ok(())
}

#[test]
fn a_program_takes_its_request_in_parts() -> Result<(), Box<dyn Error>> {
    let path = count_words();
    let mut idle = Program::new(path).start()?.run_until_input()?;
    idle.input("the first ").run_until_input()?; // it waits for the rest
    assert_eq!(idle.input("part").run()?.stdout, b"3\n");
    idle.reset()?;
    assert_eq!(idle.input("a new text").run()?.stdout, b"3\n");
    Ok(())
}

#[test]
fn a_program_is_profiled() -> Result<(), Box<dyn Error>> {
    let path = count_words();
    let output = Program::new(path).stdin(Input::bytes("word ".repeat(100_000))).profile(Frequency::default()).run()?;
    let profile = output.profile.expect("it was asked for");
    println!("{} samples of {:?}", profile.samples(), profile.cpu_time());
    Ok(())
}
