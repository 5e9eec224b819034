//! Any bytes as a snapshot file, and any state in a file whose digests are right: each, read or mapped, is an error or a guest,
//! which then runs for a moment without harm to its host.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use ampoule::SnapshotFile;
use ampoule::fuzzing::assembled_snapshot;
use ampoule_fuzz::guest::tiny_program;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let file = match kind % 4 {
        0 => rest.to_vec(),
        _ => assembled_snapshot(rest, &TINY, &rest[rest.len() / 2..]),
    };
    fs::write(&*FILE, file).expect("there is room for a small file");
    let snapshot = || {
        let file = SnapshotFile::new(&*FILE).size_limit(64 << 20);
        if kind & 4 == 0 { file } else { file.mapped() }
    };
    let _ = snapshot().verify();
    if let Ok(loaded) = snapshot().snapshot() {
        drop(loaded.spawn());
    }
    if let Ok(loaded) = snapshot().program()
        && let Ok(mut program) = loaded.spawn()
    {
        let _ = program.input("x").deadline(Duration::from_millis(20)).run();
    }
});

/// The image in each file.
static TINY: LazyLock<Vec<u8>> = LazyLock::new(|| tiny_program().expect("the C compiler works"));

/// The file, which is one for each process.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("ampoule-fuzz-{}.snap", std::process::id())));
