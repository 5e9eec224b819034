//! Guests read and write the files that they are granted, and what they keep in memory is part of their state.

use std::fs;

use ampoule::{Access, BuildError, Files, FilesError, Pool, Sandbox};
use ampoule_tests::{calls_builder, calls_spawn};
use tempfile::TempDir;

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("text"), "of the host").unwrap();
    directory
}

fn read(sandbox: &mut Sandbox, path: &str) -> Option<String> {
    sandbox.call::<String>("read_text_file", (path,)).ok()
}

fn write(sandbox: &mut Sandbox, path: &str, text: &str) -> bool {
    sandbox.call::<()>("create_file", (path,)).and_then(|()| sandbox.call::<()>("write_file", (path, text))).is_ok()
}

#[test]
fn a_guest_finds_what_it_is_granted_and_nothing_else() {
    let (given, kept) = (directory(), directory());
    let files = Files::none()
        .dir(given.path(), "/given", Access::ReadOnly)
        .dir(kept.path(), "/kept", Access::ReadWrite)
        .tmp(1 << 20);
    let mut sandbox = calls_builder().files(files).build().unwrap();
    let names = sandbox.call::<Vec<String>>("list_directory", ("/",)).unwrap();
    assert_eq!(names, ["dev", "given", "kept", "proc", "tmp"]);
    assert_eq!(sandbox.call::<Vec<String>>("list_directory", ("/given",)).unwrap(), ["text"]);
    assert_eq!(read(&mut sandbox, "/given/text").unwrap(), "of the host");
    assert!(!write(&mut sandbox, "/given/text", "changed") && !write(&mut sandbox, "/new", "nowhere"));
    assert!(write(&mut sandbox, "/kept/result", "42") && write(&mut sandbox, "/tmp/note", "mine"));
    assert_eq!(fs::read_to_string(kept.path().join("result")).unwrap(), "42");
    assert_eq!(read(&mut sandbox, "/tmp/note").unwrap(), "mine");
    let outside = kept.path().join("result");
    assert_eq!(read(&mut sandbox, outside.to_str().unwrap()), None);

    let mut without = calls_builder().build().unwrap();
    assert_eq!(read(&mut without, "/given/text"), None);
}

#[test]
fn files_in_memory_go_back_with_the_sandbox_and_along_with_its_copies() {
    let kept = directory();
    let files = Files::none().dir(kept.path(), "/kept", Access::ReadWrite).tmp(1 << 20);
    let mut sandbox = calls_builder().files(files).build().unwrap();
    sandbox.call::<()>("keep_file_open", ("/tmp/open",)).unwrap();
    assert_eq!(sandbox.call::<u64>("write_to_kept_file", ("abc",)).unwrap(), 3);
    let before = sandbox.snapshot().unwrap();
    assert_eq!(sandbox.call::<u64>("write_to_kept_file", ("defg",)).unwrap(), 7);
    assert!(write(&mut sandbox, "/tmp/later", "x") && write(&mut sandbox, "/kept/later", "x"));

    let mut copy = calls_spawn(before.builder()).build().unwrap();
    for sandbox in [&mut sandbox, &mut copy] {
        sandbox.restore(&before).unwrap();
        assert_eq!(read(sandbox, "/tmp/open").unwrap(), "abc");
        assert_eq!(read(sandbox, "/tmp/later"), None);
        // What is outside stays.
        assert_eq!(read(sandbox, "/kept/later").unwrap(), "x");
    }
    // Neither sees what the other writes.
    assert_eq!(sandbox.call::<u64>("write_to_kept_file", ("one",)).unwrap(), 6);
    assert_eq!(copy.call::<u64>("write_to_kept_file", ("another",)).unwrap(), 10);
    assert_eq!(read(&mut sandbox, "/tmp/open").unwrap(), "abcone");
    assert_eq!(read(&mut copy, "/tmp/open").unwrap(), "abcanother");

    sandbox.reset().unwrap();
    assert_eq!(read(&mut sandbox, "/tmp/open"), None);

    let pool = Pool::builder(&before).size(1).spawn_with(calls_spawn).build().unwrap();
    for _ in 0..3 {
        let mut taken = pool.take().unwrap();
        assert_eq!(read(&mut taken, "/tmp/open").unwrap(), "abc");
        assert!(write(&mut taken, "/tmp/open", "of one request"));
    }
}

#[test]
fn what_cannot_be_granted_is_refused_before_there_is_a_machine() {
    let files = Files::none().dir("/nonexistent/directory", "/data", Access::ReadOnly);
    let error = calls_builder().files(files).build().unwrap_err();
    assert!(matches!(error, BuildError::Files(FilesError::Grant(_))), "{error}");
    assert!(error.to_string().contains("/nonexistent/directory"), "{error}");
}
