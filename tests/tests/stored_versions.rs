//! Snapshot files that were saved when their version of the format was new: they continue for ever, or are refused for their
//! version.
//!
//! They are made by `cargo test -p ampoule-tests --test stored_versions -- --ignored`: those of a new version in a directory of its
//! own, and those of the current one again as long as no release has written files of it.

use std::path::{Path, PathBuf};

use ampoule::{
    Executable, Files, Image, LoadSnapshotError, Program, ProgramSnapshot, Sandbox, SaveOptions, SnapshotFile,
};

#[test]
fn a_guest_of_each_version_continues_where_it_was() {
    for (version, directory) in directories() {
        for (name, expected) in GUESTS {
            let path = directory.join(name);
            for file in [SnapshotFile::new(&path), SnapshotFile::new(&path).mapped()] {
                let file = file.any_processor();
                let Some(loaded) = continued(version, file.snapshot()) else { continue };
                let mut sandbox = loaded.spawn().unwrap();
                for count in [expected + 1, expected + 2] {
                    assert_eq!(sandbox.call::<u32>("count", ()).unwrap(), count, "{}", path.display());
                }
            }
            let _ = continued(version, SnapshotFile::new(&path).verify());
        }
    }
}

#[test]
fn a_program_of_each_version_answers() {
    for (version, directory) in directories() {
        for name in PROGRAMS {
            let path = directory.join(name);
            for file in [SnapshotFile::new(&path), SnapshotFile::new(&path).mapped()] {
                let Some(loaded) = continued(version, file.any_processor().program()) else { continue };
                let output = loaded.spawn().unwrap().input("a").run().unwrap();
                assert_eq!(output.stdout, b"d", "{}", path.display());
            }
        }
    }
}

#[test]
#[ignore = "it makes the files of the current version again, which are to stay as they are"]
fn make_the_files_of_this_version() {
    let directory = root().join(CURRENT.to_string());
    std::fs::create_dir_all(&directory).unwrap();
    let [whole, compressed, difference] = GUESTS.map(|(name, _)| directory.join(name));
    let image = Image::from_bytes(include_bytes!(env!("COUNTER")).as_slice()).unwrap();
    let mut sandbox = Sandbox::builder(&image).memory_limit(1 << 20).mailbox_size(64 << 10).build().unwrap();
    let first = sandbox.snapshot().unwrap();
    first.save(&whole).unwrap();
    first.save_with(&compressed, &SaveOptions::new().compressed()).unwrap();
    for _ in 0..2 {
        sandbox.call::<u32>("count", ()).unwrap();
    }
    sandbox.snapshot().unwrap().save_with(&difference, &SaveOptions::new().parent(&whole)).unwrap();

    let executable = Executable::from_bytes(include_bytes!(env!("TINY")).as_slice()).unwrap();
    let program = Program::of(&executable).files(Files::none()).memory_limit(1 << 20);
    let ready: ProgramSnapshot = program.start().unwrap().run_until_input().unwrap().snapshot().unwrap();
    let [whole, compressed] = PROGRAMS.map(|name| directory.join(name));
    ready.save(&whole).unwrap();
    ready.save_with(&compressed, &SaveOptions::new().compressed()).unwrap();
}

/// What was loaded, unless the version is one that is no longer read.
fn continued<T>(version: u32, loaded: Result<T, LoadSnapshotError>) -> Option<T> {
    match loaded {
        Ok(loaded) => Some(loaded),
        Err(LoadSnapshotError::Version { found, .. }) if found == version && version != CURRENT => None,
        Err(error) => panic!("version {version}: {error}"),
    }
}

/// Each version that there was, and where its files are.
fn directories() -> impl Iterator<Item = (u32, PathBuf)> {
    (1..=CURRENT).map(|version| (version, root().join(version.to_string())))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"))
}

/// The version of the format that is written now.
const CURRENT: u32 = 1;

/// A guest that counts its calls, and how many there have been.
const GUESTS: [(&str, u32); 3] = [("guest.snap", 1000), ("guest-compressed.snap", 1000), ("guest-later.snap", 1002)];

/// A program that answers with the first byte of its input plus three.
const PROGRAMS: [&str; 2] = ["program.snap", "program-compressed.snap"];
