//! Memory of the host's as files of a guest's: it is read and mapped as any file, and what is mapped is the host's pages.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use ampoule::{
    CallError, Executable, ExecutableMemory, HostMemory, MapAccess, MapAt, MapMemoryError, Program, ProgramError,
    ProgramOutput, Sandbox,
};
use ampoule_tests::native::Native;
use ampoule_tests::{memory_builder, memory_sandbox};

/// A program that uses a file.
const PROGRAM: &[u8] = include_bytes!(env!("MAPPED"));

/// The kernel is the oracle: a program finds the same in a file that is mapped for it as natively in an ordinary file.
#[test]
fn a_program_uses_a_named_mapping_as_it_does_a_file_natively() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let program_file = Native::new(PROGRAM);
    for len in [5 * PAGE + 1000, 3 * PAGE, 2 * PAGE + 100] {
        fs::write(&path, pattern(len)).unwrap();
        let native = program_file.command().arg("use").arg(&path).output().unwrap();
        let expected = String::from_utf8(native.stdout).unwrap();
        assert!(expected.lines().count() > 30, "{expected}");
        let memory = HostMemory::copy_of(&pattern(len)).unwrap();
        for access in [MapAccess::Read, MapAccess::ReadExecute, MapAccess::CopyOnWrite] {
            let file = File::open(&path).unwrap();
            let of_file = program(&["use", "/dev/ampoule/input"]).map_file(&file, .., "input", access);
            let of_memory = program(&["use", "/dev/ampoule/input"]).map_memory(&memory, "input", access);
            for program in [of_file, of_memory] {
                let found = text(&program.run().unwrap());
                // What can be written can be made writable, by whichever descriptor it was mapped.
                let is_same = |line: &&str| access != MapAccess::CopyOnWrite || !line.starts_with("make writable");
                let [expected, found] =
                    [&expected, &found].map(|text| text.lines().filter(is_same).collect::<Vec<_>>());
                assert_eq!(found, expected, "{len} {access}");
            }
        }
    }
}

#[test]
fn what_a_program_writes_to_a_named_copy_is_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let contents = vec![b'.'; 2 * PAGE as usize];
    fs::write(&path, &contents).unwrap();
    let shared = File::open(&path).unwrap();
    let found = program(&["write", "/dev/ampoule/input"]).map_file(&shared, .., "input", MapAccess::CopyOnWrite);
    let found = text(&found.run().unwrap());
    assert_eq!(fs::read(&path).unwrap(), contents);
    // The native program writes to the file itself.
    let program_file = Native::new(PROGRAM);
    let native = program_file.command().arg("write").arg(&path).output().unwrap();
    assert_eq!(found, String::from_utf8(native.stdout).unwrap());
    assert_ne!(fs::read(&path).unwrap(), contents);
}

#[test]
fn what_is_written_and_executed_at_once_is_a_copy_or_refused() {
    let run = |access, memory| {
        let program = program(&["everything", "/dev/ampoule/input"]).executable_memory(memory);
        text(&program.map_memory(&memory_of(b"text"), "input", access).run().unwrap())
    };
    for access in [MapAccess::Read, MapAccess::ReadExecute, MapAccess::CopyOnWrite] {
        let refused = run(access, ExecutableMemory::WriteXorExecute);
        assert_eq!(refused, "a copy: -1 EACCES\nshared: -1 EACCES\nread: 1\nt\n", "{access}");
        let permitted = run(access, ExecutableMemory::Unrestricted);
        assert_eq!(permitted, "shared: -1 EACCES\nread: 1\nt\n", "{access}");
    }
}

#[test]
fn a_program_maps_the_hosts_pages_themselves_and_cannot_change_their_file() {
    let memory = HostMemory::new(64 << 20).unwrap();
    let mapping = MapAt::address(0x7ff1_0000_0000).named("zeros");
    let len = (64 << 20).to_string();
    // Less memory than the mapping has.
    let program = program(&["where", "/dev/ampoule/zeros", &len]).memory_limit(8 << 20);
    let found = text(&program.map_memory(&memory, mapping, MapAccess::Read).run().unwrap());
    let (lines, maps): (Vec<_>, Vec<_>) = found.lines().partition(|line| !line.contains("-7f"));
    let expected = "0x7ff100000000\nbehind the end: -1 ENXIO\nopen to write: -1 EACCES\nopen to cut off: -1 EACCES\n\
                    remove: -1 EACCES\nrename: -1 EACCES\ncreate: -1 EACCES";
    assert_eq!(lines.join("\n"), expected);
    let line = maps.iter().find(|line| line.starts_with("7ff1")).unwrap();
    assert_eq!(*line, format!("{:73}/dev/ampoule/zeros", "7ff100000000-7ff104000000 r--s 00000000 00:00 0"));
}

#[test]
fn a_called_guest_finds_a_mapping_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, pattern(3 * PAGE)).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut sandbox = memory_builder().map_file(&file, .., "model.bin", MapAccess::Read).build().unwrap();
    let mapping = sandbox.mappings().next().unwrap().clone();
    assert_eq!(mapping.path(), Some("/dev/ampoule/model.bin"));
    assert_eq!(read(&mut sandbox, "model.bin").unwrap(), pattern(3 * PAGE));
    let at: Result<u64, String> = sandbox.call("map_file", ("/dev/ampoule/model.bin", 3 * PAGE)).unwrap();
    assert_eq!(at, Ok(mapping.address()));
    // Of the file itself, and not of a copy.
    file.write_all_at(&[0xee], PAGE).unwrap();
    assert_eq!(sandbox.call::<u8>("probe_read", (mapping.address() + PAGE,)).unwrap(), 0xee);
    assert_eq!(read(&mut sandbox, "model.bin").unwrap()[PAGE as usize], 0xee);
}

#[test]
fn names_come_and_go_with_their_mappings() {
    let mut sandbox = memory_sandbox();
    let names =
        |sandbox: &mut Sandbox| sandbox.call::<Result<Vec<String>, String>>("names_in", ("/dev/ampoule",)).unwrap();
    assert!(names(&mut sandbox).is_err());
    let one = sandbox.map_memory(&memory_of(b"one"), "one", MapAccess::Read).unwrap();
    let unnamed = sandbox.map_memory(&memory_of(b"none"), None, MapAccess::Read).unwrap();
    assert_eq!((unnamed.path(), names(&mut sandbox)), (None, Ok(vec!["one".to_owned()])));
    let snapshot = sandbox.snapshot().unwrap();

    let two = sandbox.map_memory(&memory_of(b"two"), MapAt::from("two".to_owned()), MapAccess::CopyOnWrite).unwrap();
    assert_eq!(names(&mut sandbox).unwrap(), ["one", "two"]);
    assert_eq!(read(&mut sandbox, "two").unwrap(), b"two");
    let _at: Result<u64, String> = sandbox.call("map_file", ("/dev/ampoule/one", 3_u64)).unwrap();
    assert_eq!(sandbox.call::<Vec<u8>>("reread_file", ()).unwrap(), b"one");
    sandbox.unmap(&one).unwrap();
    assert_eq!(names(&mut sandbox).unwrap(), ["two"]);
    assert!(read(&mut sandbox, "one").is_err());
    // Who has it open finds nothing, even when something else lies at its addresses and has its name.
    let other = sandbox.map_memory(&memory_of(b"new"), "one", MapAccess::Read).unwrap();
    assert_eq!(other.address(), one.address());
    assert_eq!(sandbox.call::<Vec<u8>>("reread_file", ()).unwrap(), b"");
    assert_eq!(read(&mut sandbox, "one").unwrap(), b"new");

    sandbox.restore(&snapshot).unwrap();
    assert_eq!(names(&mut sandbox).unwrap(), ["one"]);
    assert_eq!(read(&mut sandbox, "one").unwrap(), b"one");
    let mut spawned = snapshot.spawn().unwrap();
    assert_eq!(read(&mut spawned, "one").unwrap(), b"one");
    assert!(matches!(spawned.unmap(&two), Err(MapMemoryError::NotMapped)));
    spawned.unmap(&one).unwrap();
    assert!(names(&mut spawned).is_err());
    assert_eq!(read(&mut sandbox, "one").unwrap(), b"one");
    sandbox.reset().unwrap();
    assert!(names(&mut sandbox).is_err());
}

#[test]
fn a_name_that_no_file_can_have_or_that_is_taken_is_refused() {
    let mut sandbox = memory_sandbox();
    let memory = memory_of(b"text");
    for name in ["", ".", "..", "a/b", "/a", "a\0b", &"n".repeat(256)] {
        let refused = sandbox.map_memory(&memory, name, MapAccess::Read).unwrap_err();
        assert!(matches!(&refused, MapMemoryError::InvalidName { name: refused } if refused == name), "{refused}");
    }
    sandbox.map_memory(&memory, "a", MapAccess::Read).unwrap();
    let refused = sandbox.map_memory(&memory, "a", MapAccess::Read).unwrap_err();
    assert!(matches!(refused, MapMemoryError::NameTaken { .. }), "{refused}");
    // A mapping that fails for another reason leaves no name.
    let refused = sandbox.map_memory(&memory, MapAt::address(1).named("b"), MapAccess::Read).unwrap_err();
    assert!(matches!(refused, MapMemoryError::Unaligned { .. }), "{refused}");
    assert_eq!(sandbox.mappings().count(), 1);
    sandbox.map_memory(&memory, "b", MapAccess::Read).unwrap();
    sandbox.map_memory(&memory, "n".repeat(255), MapAccess::Read).unwrap();

    let refused = program(&["use", "a"]).map_memory(&memory, "a/b", MapAccess::Read).run().unwrap_err();
    assert!(matches!(refused, ProgramError::Map(MapMemoryError::InvalidName { .. })), "{refused}");
}

#[test]
fn a_named_file_that_was_cut_short_is_an_error_for_who_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, [1; 3 * PAGE as usize]).unwrap();
    let mut sandbox = memory_sandbox();
    sandbox.map_file(File::open(&path).unwrap(), .., "file", MapAccess::Read).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(PAGE).unwrap();
    let error = read(&mut sandbox, "file").unwrap_err();
    assert!(error.contains("os error 5"), "{error}");
}

fn program(arguments: &[&str]) -> Program {
    Program::of(&Executable::from_bytes(PROGRAM).unwrap()).args(arguments.iter().copied())
}

fn text(output: &ProgramOutput) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn read(sandbox: &mut Sandbox, name: &str) -> Result<Vec<u8>, String> {
    let read: Result<Result<_, String>, CallError> = sandbox.call("read_file", (format!("/dev/ampoule/{name}"),));
    read.unwrap()
}

fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn memory_of(bytes: &[u8]) -> HostMemory {
    HostMemory::copy_of(bytes).unwrap()
}

const PAGE: u64 = 4096;
