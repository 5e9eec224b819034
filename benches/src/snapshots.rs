//! What it costs to go back to a snapshot, and to make sandboxes from one.

use std::error::Error;
use std::time::Instant;

use ampoule::{Image, Output, Sandbox, Snapshot, Spawn};

use crate::measure::Bench;

pub(crate) fn measure(bench: &mut Bench, image: &Image) -> Result<(), Box<dyn Error>> {
    for megabytes in [16, 64, 512] {
        for pages in [1, 10, 100, 1000] {
            for content in [0, 0xa5] {
                restores(bench, image, Written { megabytes, pages, content })?;
            }
        }
    }
    spawns(bench, image)
}

/// What a guest of so much memory writes between two restores: so many pages, which are full of this byte in the snapshot.
struct Written {
    megabytes: usize,
    pages: u32,
    content: u8,
}

/// A restore alone, and a call with a restore.
fn restores(bench: &mut Bench, image: &Image, written: Written) -> Result<(), Box<dyn Error>> {
    let Written { megabytes, pages, content } = written;
    let mut sandbox = settings(Sandbox::builder(image).memory_limit(megabytes << 20)).build()?;
    sandbox.call::<()>("prepare_pages", (pages, content))?;
    let write = sandbox.typed_fn::<(u32, u8), u64>("write_pages")?;
    let snapshot = sandbox.snapshot()?;
    for _ in 0..10 {
        write.call(&mut sandbox, (pages, 1))?;
        sandbox.restore(&snapshot)?;
    }
    let name = |what: &str| {
        let full_of = if content == 0 { "zeros" } else { "data" };
        format!("{what}, {pages} pages of {full_of}, {megabytes} MiB")
    };
    bench.times(&name("restore"), 20, &mut sandbox, |sandbox| {
        write.call(sandbox, (pages, 1))?;
        let start = Instant::now();
        sandbox.restore(&snapshot)?;
        Ok(start.elapsed())
    })?;
    bench.times(&name("call"), 20, &mut sandbox, |sandbox| {
        let start = Instant::now();
        write.call(sandbox, (pages, 1))?;
        let time = start.elapsed();
        sandbox.restore(&snapshot)?;
        Ok(time)
    })?;
    bench.times(&name("call and restore"), 20, &mut sandbox, |sandbox| {
        let start = Instant::now();
        write.call(sandbox, (pages, 1))?;
        sandbox.restore(&snapshot)?;
        Ok(start.elapsed())
    })?;
    println!("  ({} pages written back at each restore)", per_restore(&mut sandbox)?);
    Ok(())
}

fn per_restore(sandbox: &mut Sandbox) -> Result<u64, Box<dyn Error>> {
    let stats = sandbox.stats()?;
    Ok(stats.pages_restored / stats.restores)
}

fn spawns(bench: &mut Bench, image: &Image) -> Result<(), Box<dyn Error>> {
    let mut sandbox = settings(Sandbox::builder(image)).build()?;
    let empty = sandbox.typed_fn::<(), ()>("empty")?;
    empty.call(&mut sandbox, ())?;
    bench.times("snapshot", 4, &mut sandbox, |sandbox| {
        sandbox.call::<u32>("increment", ())?;
        let start = Instant::now();
        let snapshot = sandbox.snapshot()?;
        let time = start.elapsed();
        drop(snapshot);
        Ok(time)
    })?;
    let snapshot = sandbox.snapshot()?;
    bench.creations("spawn", 4, || spawn(&snapshot))?;
    bench.creations("spawn to first result", 4, || {
        let mut sandbox = spawn(&snapshot)?;
        empty.call(&mut sandbox, ())?;
        Ok(sandbox)
    })
}

pub(crate) fn spawn(snapshot: &Snapshot) -> Result<Sandbox, Box<dyn Error>> {
    Ok(spawn_settings(snapshot.builder()).build()?)
}

pub(crate) fn spawn_settings(spawn: Spawn) -> Spawn {
    spawn
        .stdout(Output::discard())
        .host_fn("add", |a: u32, b: u32| a + b)
        .host_fn("notify", || ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", |bytes: Vec<u8>| Ok::<_, String>(bytes))
}

pub(crate) fn settings(builder: ampoule::Builder) -> ampoule::Builder {
    builder
        .stdout(Output::discard())
        .host_fn("add", |a: u32, b: u32| a + b)
        .host_fn("notify", || ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", |bytes: Vec<u8>| Ok::<_, String>(bytes))
}
