//! What it costs to go back to a snapshot, and to make sandboxes from one.

use std::error::Error;
use std::time::Instant;

use ampoule::{Image, Output, Sandbox, Snapshot, Spawn};

use crate::measure::Bench;

pub(crate) fn measure(bench: &mut Bench, image: &Image) -> Result<(), Box<dyn Error>> {
    for megabytes in [16, 64, 512] {
        for dirty in [1, 10, 100, 1000] {
            for content in [0, 0xa5] {
                restores(bench, image, Written { megabytes, dirty, content })?;
            }
        }
    }
    spawns(bench, image)
}

/// What a guest of this much memory writes between two restores: this many pages in all, its stack and its part of the
/// mailbox included, or as few as it can. Those of its data are full of `content` in the snapshot.
struct Written {
    megabytes: usize,
    dirty: u64,
    content: u8,
}

/// A restore alone, and a call with a restore.
fn restores(bench: &mut Bench, image: &Image, written: Written) -> Result<(), Box<dyn Error>> {
    let (_, _, fewest) = prepared(image, &written, 1)?;
    let data = written.dirty.saturating_sub(fewest) + 1;
    let (mut sandbox, snapshot, dirty) = prepared(image, &written, data as u32)?;
    let write = sandbox.typed_fn::<(u32, u8), u64>("write_pages")?;
    let Written { megabytes, content, .. } = written;
    let name = |what: &str| {
        let full_of = if content == 0 { "zeros" } else { "data" };
        format!("{what}, {dirty} dirty pages, {data} of {full_of}, of {megabytes} MiB")
    };
    let pages = data as u32;
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
    })
}

/// A sandbox whose guest has written this many pages of data and was restored a few times, the snapshot, and how many pages
/// each restore writes back.
fn prepared(image: &Image, written: &Written, data: u32) -> Result<(Sandbox, Snapshot, u64), Box<dyn Error>> {
    let mut sandbox = settings(Sandbox::builder(image).memory_limit(written.megabytes << 20)).build()?;
    sandbox.call::<()>("prepare_pages", (data, written.content))?;
    let snapshot = sandbox.snapshot()?;
    let write = |sandbox: &mut Sandbox| sandbox.call::<u64>("write_pages", (data, 1u8));
    for _ in 0..10 {
        write(&mut sandbox)?;
        sandbox.restore(&snapshot)?;
    }
    let before = sandbox.stats()?.pages_restored;
    write(&mut sandbox)?;
    sandbox.restore(&snapshot)?;
    let dirty = sandbox.stats()?.pages_restored - before;
    Ok((sandbox, snapshot, dirty))
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
