//! What programs store in files that they map is the file's, as it is outside.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ampoule::{
    Access, CoreDumps, Executable, ExecutableMemory, Files, Frequency, IdleProgram, Input, KillOutcome, Limits,
    Printed, Program, ProgramError, ProgramOutput, ProgramSnapshot, ProgramStatus, SaveSnapshotError,
};
use ampoule_tests::native::Native;
use ampoule_tests::places::{assert_same_lines, places};
use tempfile::{TempDir, tempdir};

/// A program that maps files.
const PROGRAM: &[u8] = include_bytes!(env!("SHARED"));

/// The kernel is the oracle: mappings, stores, and calls on the files, in any order, give the same in memory, in a host
/// directory, and in one that lies under memory, and leave the same on the host.
#[test]
fn mappings_and_files_agree_as_they_do_natively() {
    for seed in 0..3 {
        let arguments = ["random", &seed.to_string(), "150"];
        let native = tempdir().unwrap();
        let expected = natively(native.path(), &arguments);
        let (granted, under_memory) = (tempdir().unwrap(), tempdir().unwrap());
        for (place, files) in places(granted.path(), under_memory.path()) {
            let found = text(&program(&arguments, files, place).run().unwrap());
            assert_same_lines(&found, &expected, &format!("seed {seed} in {place}"));
        }
        for name in ["a", "b"] {
            let read = |directory: &TempDir| fs::read(directory.path().join(name)).unwrap();
            assert!(read(&native) == read(&granted), "seed {seed} leaves another `{name}`");
        }
    }
}

/// The same in parts. Between them the program is copied, and each copy's next part is broken off, by the number of its system
/// calls, a deadline or a kill, and made again from where the copy was: nothing of what was broken off is left.
#[test]
fn what_was_broken_off_leaves_mappings_and_files_as_if_it_had_never_been() {
    const PARTS: usize = 10;
    for (seed, place, files) in
        [(20, "/tmp", Files::none().tmp(64 << 20)), (21, "/", Files::none().root(tempdir().unwrap().path()))]
    {
        let arguments = ["random", &seed.to_string(), "200", &PARTS.to_string()];
        let expected = natively_with(tempdir().unwrap().path(), &arguments, &"\n".repeat(PARTS));
        let mut idle = program(&arguments, files, place).start().unwrap().run_until_input().unwrap();
        let mut found = String::new();
        for part in 1..PARTS {
            let mut copy = idle.snapshot().unwrap().spawn().unwrap();
            for broken in 0..3 {
                break_off(&mut copy, Limits::new().system_calls(1 + (7 * part + 13 * broken) as u64 % 40));
                break_off(&mut copy, Limits::new().deadline(Duration::from_micros(300 * broken as u64)));
                let (handle, is_over) = (copy.interrupt_handle(), AtomicBool::new(false));
                thread::scope(|scope| {
                    scope.spawn(|| {
                        while !is_over.load(Ordering::Relaxed) && handle.kill() == KillOutcome::NotRunning {
                            thread::yield_now();
                        }
                    });
                    break_off(&mut copy, Limits::new());
                    is_over.store(true, Ordering::Relaxed);
                });
            }
            found += &next(&mut copy, "\n");
            idle = copy;
        }
        found += &text(&idle.input("\n").run().unwrap());
        assert_same_lines(&found, &expected, &format!("seed {seed} in {place}"));
    }
}

#[test]
fn permissions_seals_copies_mappings_in_the_heap_and_many_are_as_they_are_natively() {
    for arguments in [&["permissions"][..], &["seals"], &["copies"], &["heap"], &["many", "3000"]] {
        let expected = natively(tempdir().unwrap().path(), arguments);
        for files in [Files::none().tmp(1 << 20), Files::none().root(tempdir().unwrap().path()).tmp(1 << 20)] {
            assert_eq!(text(&program(arguments, files, "/tmp").run().unwrap()), expected, "{arguments:?}");
        }
    }
}

#[test]
fn code_that_a_program_writes_in_one_place_runs_in_another_as_it_does_natively() {
    let expected = natively(tempdir().unwrap().path(), &["code"]);
    let (granted, under_memory) = (tempdir().unwrap(), tempdir().unwrap());
    for (place, files) in places(granted.path(), under_memory.path()) {
        assert_eq!(text(&program(&["code"], files, place).run().unwrap()), expected, "{place}");
    }
}

#[test]
fn a_program_that_changes_code_of_a_file_runs_the_new_one_where_it_shares_the_file() {
    // `mov eax, 99; ret`
    let mut code = vec![0xb8, 99, 0, 0, 0, 0xc3];
    code.resize(4096, 0);
    let directory = || {
        let directory = tempdir().unwrap();
        fs::write(directory.path().join("x"), &code).unwrap();
        directory
    };
    let expected = natively(directory().path(), &["change-code"]);
    let (granted, below) = (directory(), directory());
    for (place, files) in [
        ("/granted", Files::none().dir(granted.path(), "/granted", Access::ReadWrite)),
        ("/", Files::none().root(below.path())),
    ] {
        assert_eq!(text(&program(&["change-code"], files, place).run().unwrap()), expected, "{place}");
    }
    assert_eq!(fs::read(below.path().join("x")).unwrap(), code);
}

#[test]
fn a_mapping_is_writable_and_executable_at_once_where_that_is_granted() {
    let expected = natively(tempdir().unwrap().path(), &["ask-for-code"]);
    assert_eq!(expected.matches(" = 0").count(), 15, "{expected}");
    let program = program(&["ask-for-code"], Files::none(), "/");
    assert_eq!(text(&program.executable_memory(ExecutableMemory::Unrestricted).run().unwrap()), expected);
}

#[test]
fn code_that_changes_itself_goes_back_with_its_snapshot() {
    let limits = Limits::new().deadline(Duration::from_secs(60));
    let program = program(&["count-in-itself"], Files::none(), "/").limits(limits);
    let program = program.executable_memory(ExecutableMemory::Unrestricted);
    let mut first = program.start().unwrap().run_until_input().unwrap();
    let snapshot = first.snapshot().unwrap();
    assert_eq!(next(&mut first, "on\non\n"), "1\n2\n");
    let mut second = snapshot.spawn().unwrap();
    assert_eq!(next(&mut second, "on\n"), "1\n");
    let later = first.snapshot().unwrap();
    let mut third = later.spawn().unwrap();
    assert_eq!(next(&mut third, "on\non\n"), "3\n4\n");
    assert_eq!(next(&mut first, "on\n"), "3\n");
    third.reset().unwrap();
    assert_eq!(next(&mut third, "on\n"), "3\n");

    let killed = first.input("spin\n").deadline(Duration::from_millis(300)).run();
    assert!(matches!(killed, Err(ProgramError::Terminated { .. })), "{killed:?}");
    first.reset().unwrap();
    assert_eq!(next(&mut first, "on\n"), "1\n");
    let output = first.input("fault\n").run().unwrap();
    assert_eq!((output.status.signal(), output.stdout.as_slice()), (Some(4), b"2\n".as_slice()));
    first.reset().unwrap();
    assert_eq!(next(&mut first, "on\n"), "1\n");

    let directory = tempdir().unwrap();
    let file = directory.path().join("snapshot");
    later.save(&file).unwrap();
    let mut loaded = ProgramSnapshot::load(&file).unwrap().spawn().unwrap();
    assert_eq!(next(&mut loaded, "on\non\n"), "3\n4\n");
    loaded.reset().unwrap();
    assert_eq!(next(&mut loaded, "on\n"), "3\n");
}

#[test]
fn no_mapping_is_writable_and_executable_at_once_unless_that_is_granted() {
    let output = program(&["ask-for-code"], Files::none(), "/").run().unwrap();
    let refused = "-1 EACCES";
    let expected: String = (0..3)
        .map(|way| {
            format!(
                "0 map both {way} 0 0 = {refused}\n0 execute, too {way} 0 0 = {refused}\n\
                 0 map executable {way} 0 0 = 0\n0 execute {way} 0 0 = 0\n0 write, too {way} 0 0 = {refused}\n8\n"
            )
        })
        .collect();
    assert_eq!(text(&output), expected);
}

#[test]
fn a_program_that_may_not_make_code_cannot_by_any_mapping() {
    let output =
        program(&["ask-for-code"], Files::none(), "/").executable_memory(ExecutableMemory::Refused).run().unwrap();
    let found = text(&output);
    assert_eq!(found.lines().count(), 15);
    assert!(found.lines().all(|line| line.ends_with("= -1 EACCES")), "{found}");
}

#[test]
fn code_in_two_mappings_is_part_of_a_snapshot_and_dies_where_it_faults() {
    let limits = Limits::new().deadline(Duration::from_secs(60));
    let program = program(&["count-in-code"], Files::none(), "/").limits(limits);
    let mut first = program.start().unwrap().run_until_input().unwrap();
    let snapshot = first.snapshot().unwrap();
    assert_eq!(next(&mut first, "on\non\n"), "1\n2\n");
    let mut second = snapshot.spawn().unwrap();
    assert_eq!(next(&mut second, "on\n"), "1\n");
    let mut third = first.snapshot().unwrap().spawn().unwrap();
    assert_eq!(next(&mut third, "on\n"), "3\n");
    first.reset().unwrap();
    assert_eq!(next(&mut first, "on\n"), "1\n");
    let output = first.input("fault\n").run().unwrap();
    assert_eq!((output.status.signal(), output.stdout.as_slice()), (Some(4), b"2\n".as_slice()));
}

/// Pages of a file that are shared are in no file of a snapshot, executable or not. The program is none the worse for it.
#[test]
fn code_in_two_mappings_cannot_be_stored_and_goes_on() {
    let program = program(&["count-in-code"], Files::none(), "/");
    let mut idle = program.start().unwrap().run_until_input().unwrap();
    assert_eq!(next(&mut idle, "on\n"), "1\n");
    let directory = tempdir().unwrap();
    let refused = idle.snapshot().unwrap().save(directory.path().join("snapshot")).unwrap_err();
    let SaveSnapshotError::Unstorable { .. } = refused else { panic!("{refused}") };
    assert!(refused.to_string().contains("shares its pages"), "{refused}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    assert_eq!(next(&mut idle, "on\n"), "2\n");
}

/// Only what is frozen has names: a file that the program can change may hold anything by then.
#[test]
fn a_fault_in_code_that_a_program_has_made_has_a_report_and_a_core_dump() {
    let directory = tempdir().unwrap();
    let program = program(&["count-in-code"], Files::none(), "/").stdin(Input::bytes("fault\n"));
    let program = program.profile(Frequency::default()).core_dumps(CoreDumps::to_dir(directory.path()));
    let output = program.run().unwrap();
    let ProgramStatus::Signaled { signal: 4, fault } = &output.status else { panic!("{:?}", output.status) };
    let frames = fault.backtrace().frames();
    assert_eq!(frames[0].function, None, "{:#}", fault.backtrace());
    let core = fs::read(output.core_dump.unwrap().path().unwrap()).unwrap();
    let code = [&[0x0f, 0x0b], &1i32.to_le_bytes()[1..], &[0xc3]].concat();
    assert!(core.windows(code.len()).any(|window| window == code), "the core dump has the code");
}

#[test]
fn a_mapping_is_part_of_a_snapshot_and_copies_do_not_share_it() {
    let mut first = idle(Files::none().tmp(1 << 20), "/tmp");
    let snapshot = first.snapshot().unwrap();
    assert_eq!(next(&mut first, "count\n"), "1 1\n");
    assert_eq!(next(&mut first, "count\n"), "2 2\n");
    let later = first.snapshot().unwrap();
    let mut second = snapshot.spawn().unwrap();
    assert_eq!(next(&mut second, "count\n"), "1 1\n");
    assert_eq!(next(&mut later.spawn().unwrap(), "count\n"), "3 3\n");
    first.reset().unwrap();
    assert_eq!(next(&mut first, "count\ncount\n"), "1 1\n2 2\n");
}

#[test]
fn what_is_stored_in_a_granted_file_is_there_however_the_call_ends() {
    let granted = tempdir().unwrap();
    let file = granted.path().join("file");
    let stored = || fs::read(&file).unwrap()[0];
    let files = || Files::none().dir(granted.path(), "/granted", Access::ReadWrite);
    let mut idle = idle(files(), "/granted");
    assert_eq!(next(&mut idle, "count\n"), "1 1\n");
    assert_eq!(stored(), 1, "it waits");
    assert_eq!(text(&idle.input("count\n").run().unwrap()), "2 2\n");
    assert_eq!(stored(), 2, "it has exited");

    // No restore takes back what is on the host, and the mapping shows it.
    idle.reset().unwrap();
    let output = idle.input("fault\n").run().unwrap();
    assert_eq!((output.status.signal(), output.stdout.as_slice()), (Some(11), b"3 3\n".as_slice()));
    assert_eq!(stored(), 3, "it has faulted");
    idle.reset().unwrap();
    let killed = idle.input("spin\n").deadline(Duration::from_millis(300)).run();
    assert!(matches!(killed, Err(ProgramError::Terminated { .. })), "{killed:?}");
    assert_eq!(stored(), 4, "it was killed");

    // What others have written in between is kept.
    idle.reset().unwrap();
    assert_eq!(next(&mut idle, "count\n"), "5 5\n");
    let mut written = fs::read(&file).unwrap();
    written[..3].copy_from_slice(&[60, 61, 62]);
    fs::write(&file, &written).unwrap();
    let mut other = idle.snapshot().unwrap().spawn().unwrap();
    assert_eq!(next(&mut other, "count\n"), "61 61\n");
    assert_eq!(&fs::read(&file).unwrap()[..3], [61, 61, 62]);
}

#[test]
fn what_has_no_room_cannot_be_mapped_to_be_written() {
    let output = python(
        "
import mmap, os
f = os.open('f', os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 1 << 21)
try:
    mmap.mmap(f, 1 << 21)
except OSError as error:
    print(error.strerror)
mmap.mmap(f, 1 << 21, prot=mmap.PROT_READ)
m = mmap.mmap(f, 1 << 16)
m[100] = 7
print(os.pread(f, 1, 100), os.statvfs('.').f_bfree == 240)
",
        Files::libraries().tmp(1 << 20),
        "/tmp",
    );
    assert_eq!(text(&output), "Cannot allocate memory\nb'\\x07' True\n");
}

/// Python's default is to share, and SQLite's write-ahead log has an index that is shared.
#[test]
fn python_and_sqlite_map_files_to_write_them() {
    let native = tempdir().unwrap();
    let run = Command::new(PYTHON).args(["-I", "-c", SCRIPT]).current_dir(native.path()).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let expected = String::from_utf8(run.stdout).unwrap();
    let granted = tempdir().unwrap();
    for (files, place) in [
        (Files::libraries().tmp(16 << 20), "/tmp"),
        (Files::libraries().dir(granted.path(), "/granted", Access::ReadWrite), "/granted"),
    ] {
        assert_eq!(text(&python(SCRIPT, files, place)), expected, "{place}");
    }
    let left = |directory: &TempDir| fs::read(directory.path().join("file")).unwrap();
    assert_eq!(left(&granted), left(&native));
}

fn python(script: &str, files: Files, place: &str) -> ProgramOutput {
    let python = Program::new(PYTHON).files(files).args(["-I", "-c", script]).current_dir(place);
    python.memory_limit(256 << 20).run().unwrap()
}

const PYTHON: &str = "/usr/bin/python3";

const SCRIPT: &str = "
import mmap, os, sqlite3
with open('file', 'w+b') as f:
    f.write(b'0123456789' * 1000)
    f.flush()
    with mmap.mmap(f.fileno(), 0) as m:
        m[3:6] = b'abc'
        print(os.pread(f.fileno(), 10, 0), len(m), m.find(b'abc'))
        os.pwrite(f.fileno(), b'XY', 8)
        print(m[:12])
        m.resize(20000)
        m[19990:20000] = b'z' * 10
        m.flush()
        print(os.fstat(f.fileno()).st_size)
    print(open('file', 'rb').read()[19985:])
    with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY) as m:
        m[0:1] = b'!'
        print(m[:3], open('file', 'rb').read(3))
one, other = sqlite3.connect('base'), sqlite3.connect('base')
print(one.execute('pragma journal_mode=wal').fetchall())
one.execute('create table t (n)')
for i in range(3):
    with one:
        one.executemany('insert into t values (?)', [(n,) for n in range(500)])
    print(other.execute('select count(*), sum(n) from t').fetchall())
print(sorted(os.listdir()))
one.execute('pragma wal_checkpoint(truncate)')
one.close(), other.close()
print(sorted(os.listdir()), sqlite3.connect('base').execute('pragma integrity_check').fetchall())
";

/// The program that counts in a file, waiting for its next line.
fn idle(files: Files, place: &str) -> IdleProgram {
    let limits = Limits::new().deadline(Duration::from_secs(60));
    program(&["count", "file"], files, place).limits(limits).start().unwrap().run_until_input().unwrap()
}

/// What it prints until it waits again.
fn next(idle: &mut IdleProgram, lines: &str) -> String {
    let Printed { stdout, .. } = idle.input(lines).run_until_input().unwrap();
    String::from_utf8(stdout).unwrap()
}

fn program(arguments: &[&str], files: Files, place: &str) -> Program {
    Program::of(&Executable::from_bytes(PROGRAM).unwrap())
        .args(arguments.iter().copied())
        .files(files)
        .current_dir(place)
}

/// Lets the program go on as far as these limits let it, and goes back.
fn break_off(idle: &mut IdleProgram, limits: Limits) {
    let ended = idle.input("\n").limits(limits).run_until_input();
    assert!(matches!(ended, Ok(_) | Err(ProgramError::Terminated { .. })), "{ended:?}");
    idle.reset().unwrap();
}

/// What the program prints natively.
fn natively(directory: &Path, arguments: &[&str]) -> String {
    natively_with(directory, arguments, "")
}

/// The same, where this is its input.
fn natively_with(directory: &Path, arguments: &[&str], input: &str) -> String {
    let stdin = tempdir().unwrap();
    let stdin = stdin.path().join("stdin");
    fs::write(&stdin, input).unwrap();
    let file = Native::new(PROGRAM);
    let mut command = file.command();
    command.args(arguments).current_dir(directory).stdin(File::open(&stdin).unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn text(output: &ProgramOutput) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}
