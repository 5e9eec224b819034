//! Core dumps and profiles of programs.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ampoule::{CoreDumps, Executable, Frequency, IdleProgram, Limits, Profile, Program, ProgramError};
use tempfile::tempdir;

const PROGRAM: &str = env!("PROGRAM");
const PREPARED: &str = env!("PREPARED");

fn program(path: &str, mode: &str) -> Program {
    Program::of(&Executable::from_file(path).unwrap()).arg(mode)
}

fn idle() -> IdleProgram {
    program(PREPARED, "read").start().unwrap().run_until_input().unwrap()
}

/// What gdb says of a core dump.
fn gdb(executable: &str, core: &Path, commands: &[&str]) -> String {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"]).arg(executable).arg(core);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    String::from_utf8_lossy(&gdb.output().unwrap().stdout).into_owned()
}

#[test]
fn a_program_that_dies_or_is_ended_has_a_core_dump_and_one_that_exits_has_none() {
    let directory = tempdir().unwrap();
    let dumped = |path, mode| program(path, mode).core_dumps(CoreDumps::to_dir(directory.path()));
    let output = dumped(PROGRAM, "null").name("null").run().unwrap();
    let core = output.core_dump.expect("it has died").path().unwrap().to_owned();
    let said = gdb(PROGRAM, &core, &["backtrace"]);
    assert!(said.contains("SIGSEGV") && said.contains("main ("), "{said}");

    let output = dumped(PROGRAM, "abort").run().unwrap();
    let core = output.core_dump.expect("it has died").path().unwrap().to_owned();
    assert!(gdb(PROGRAM, &core, &[]).contains("SIGABRT"));

    let limits = Limits::new().deadline(Duration::from_millis(30));
    let error = dumped(PROGRAM, "spin").limits(limits).run().unwrap_err();
    assert!(error.to_string().contains("; core dump: "), "{error}");
    let ProgramError::Terminated { core_dump: Some(dump), .. } = error else { panic!("{error}") };
    assert!(dump.path().unwrap().exists());

    assert!(dumped(PROGRAM, "exit").run().unwrap().core_dump.is_none());
    assert!(program(PROGRAM, "null").run().unwrap().core_dump.is_none());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
}

#[test]
fn a_waiting_program_and_its_snapshot_can_be_dumped_where_they_wait() {
    let directory = tempdir().unwrap();
    let (own, of_snapshot, of_copy, started) = (
        directory.path().join("own"),
        directory.path().join("snapshot"),
        directory.path().join("copy"),
        directory.path().join("started"),
    );
    let mut idle = idle();
    idle.core_dump(File::create(&own).unwrap()).unwrap();
    let ready = idle.snapshot().unwrap();
    idle.input("fill 9\n").run().unwrap();
    ready.core_dump(File::create(&of_snapshot).unwrap()).unwrap();
    let mut copy = ready.spawn().unwrap();
    copy.core_dump(File::create(&of_copy).unwrap()).unwrap();
    for core in [&own, &of_snapshot, &of_copy] {
        let said = gdb(PREPARED, core, &["backtrace", "print/d ((unsigned char *)table)[5]", "print/d $orig_rax"]);
        assert!(said.contains("read (") && said.contains("main ("), "{said}");
        assert!(said.contains("$2 = 0"), "the number of the system call in which it waits is that of `read`: {said}");
    }
    assert_eq!(copy.input("show\n").run().unwrap().status.code(), Some(0));

    let mut process = program(PREPARED, "read").start().unwrap();
    process.core_dump(File::create(&started).unwrap()).unwrap();
    assert!(gdb(PREPARED, &started, &["info registers rip", "info symbol $rip"]).contains("_start"));
    process.run().unwrap();
}

#[test]
fn a_run_of_a_copy_has_a_core_dump_where_its_settings_say() {
    let directory = tempdir().unwrap();
    let ready = idle().snapshot().unwrap();
    let mut copy = ready.builder().core_dumps(CoreDumps::to_dir(directory.path())).build().unwrap();
    for _ in 0..2 {
        let output = copy.input("null\n").run().unwrap();
        let said = gdb(PREPARED, output.core_dump.unwrap().path().unwrap(), &["backtrace"]);
        assert!(said.contains("SIGSEGV") && said.contains("main ("), "{said}");
        copy.reset().unwrap();
    }
}

/// The functions that a profile names.
fn folded(profile: &Profile) -> String {
    let mut text = Vec::new();
    profile.folded(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_program_is_profiled_from_its_start_to_its_end_however_that_comes() {
    let frequency = Frequency::default();
    let limits = Limits::new().deadline(Duration::from_millis(200));
    let error = program(PROGRAM, "spin").profile(frequency).limits(limits).run().unwrap_err();
    let ProgramError::Terminated { profile: Some(profile), .. } = error else { panic!("{error}") };
    assert!(folded(&profile).contains(";main"), "{}", folded(&profile));
    assert!(program(PROGRAM, "exit").profile(frequency).run().unwrap().profile.is_some());
    assert!(program(PROGRAM, "exit").run().unwrap().profile.is_none());
}

#[test]
fn a_run_is_profiled_where_that_is_asked_for_and_the_next_one_is_not() {
    let mut idle = idle();
    idle.profile(Frequency::default()).unwrap();
    let request = format!("{}exit 3\n", "fill 1\nfill 2\n".repeat(20_000));
    let output = idle.input(request.clone()).run().unwrap();
    let profile = output.profile.expect("it was asked for");
    assert!(folded(&profile).contains("main"), "{}", folded(&profile));
    idle.reset().unwrap();
    assert!(idle.input(request).run().unwrap().profile.is_none());
}
