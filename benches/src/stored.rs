//! What it costs to save a snapshot, to load it, and to make the first sandbox of it, against a sandbox that is spawned from
//! memory, one that is built, and a plain write of as many bytes.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ampoule::{Executable, Image, Program, Sandbox, SaveOptions, Snapshot, SnapshotFile};

use crate::measure::Bench;
use crate::processes;
use crate::snapshots::{settings, spawn_settings};

pub(crate) fn measure(bench: &mut Bench, image: &Image) -> Result<(), Box<dyn Error>> {
    let directory = Directory::new()?;
    let mut sandbox = built(image)?;
    let write = sandbox.typed_fn::<(u32, u8), u64>("write_pages")?;
    let snapshot = sandbox.snapshot()?;
    let path = directory.0.join("guest.snap");
    let size = snapshot.save(&path)?.file_size;
    let of = format!("of {} KiB", size >> 10);

    bench.times_alone(&format!("save a snapshot {of}"), 4, || timed(|| Ok(snapshot.save(&path).map(|_| ())?)))?;
    let bytes = fs::read(&path)?;
    bench.times_alone(&format!("write and sync a file {of}"), 4, || {
        timed(|| {
            let mut file = File::create(directory.0.join("plain"))?;
            file.write_all(&bytes)?;
            Ok(file.sync_all()?)
        })
    })?;
    bench.times_alone(&format!("load one {of} that nobody has"), 4, || {
        timed(|| first_result(&Snapshot::load(&path)?))
    })?;
    bench.times_alone(&format!("load one {of} that nobody has, mapped"), 4, || {
        timed(|| first_result(&SnapshotFile::new(&path).mapped().snapshot()?))
    })?;
    let kept = Snapshot::load(&path)?;
    bench.times_alone(&format!("load one {of} that somebody has, to the first result"), 4, || {
        timed(|| first_result(&Snapshot::load(&path)?))
    })?;
    bench.times_alone(&format!("spawn {of} from memory, to the first result"), 4, || timed(|| first_result(&kept)))?;
    drop(kept);
    let compressed = directory.0.join("compressed.snap");
    let packed = snapshot.save_with(&compressed, &SaveOptions::new().compressed())?.file_size;
    bench.times_alone(&format!("load one {of} in {} KiB that nobody has", packed >> 10), 4, || {
        timed(|| first_result(&Snapshot::load(&compressed)?))
    })?;
    write.call(&mut sandbox, (100, 0x5a))?;
    let next = sandbox.snapshot()?;
    let options = SaveOptions::new().parent(&path);
    bench.times_alone(&format!("save 100 pages that differ from one {of}"), 4, || {
        timed(|| Ok(next.save_with(directory.0.join("next.snap"), &options).map(|_| ())?))
    })?;
    bench.times_alone("build a sandbox, to the first result", 4, || {
        timed(|| Ok(built(image)?.call::<()>("empty", ())?))
    })?;
    programs(bench, &directory)?;
    processes::measure(&path)
}

fn programs(bench: &mut Bench, directory: &Directory) -> Result<(), Box<dyn Error>> {
    let echo = Executable::from_bytes(include_bytes!(env!("ECHO")).as_slice())?;
    let ready = Program::of(&echo).start()?.run_until_input()?.snapshot()?;
    let path = directory.0.join("echo.snap");
    ready.save(&path)?;
    bench.times_alone("load a waiting program that nobody has, and its first request", 4, || {
        timed(|| Ok(SnapshotFile::new(&path).program()?.spawn()?.input("request").run().map(drop)?))
    })?;
    bench.times_alone("load it mapped, and its first request", 4, || {
        timed(|| Ok(SnapshotFile::new(&path).mapped().program()?.spawn()?.input("request").run().map(drop)?))
    })?;
    bench.times_alone("a copy of it from memory, and its first request", 4, || {
        timed(|| Ok(ready.spawn()?.input("request").run().map(drop)?))
    })
}

fn first_result(snapshot: &Snapshot) -> Result<(), Box<dyn Error>> {
    Ok(spawn_settings(snapshot.builder()).build()?.call("empty", ())?)
}

fn built(image: &Image) -> Result<Sandbox, Box<dyn Error>> {
    Ok(settings(Sandbox::builder(image)).build()?)
}

fn timed(act: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    act()?;
    Ok(start.elapsed())
}

/// A directory that goes when the measurement is over.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self, Box<dyn Error>> {
        let path = std::env::temp_dir().join(format!("ampoule-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left is the system's to remove.
        let _ = fs::remove_dir_all(&self.0);
    }
}
