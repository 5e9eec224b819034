//! What it costs a guest to map memory and give it back, and to go back to a snapshot after that.

use std::error::Error;
use std::time::Instant;

use ampoule::{Image, Sandbox};

use crate::measure::Bench;
use crate::snapshots::settings;

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("memory"))?;
    let mut sandbox = settings(Sandbox::builder(&image).memory_limit(128 << 20)).build()?;
    for megabytes in [1_u64, 64] {
        let name = |what: &str| format!("{what} that maps {megabytes} MiB and unmaps it, untouched");
        call_and_reset(bench, &mut sandbox, &name, 20, |sandbox| {
            sandbox.call("map_and_unmap", (megabytes << 20,)).map(|()| 0)
        })?;
    }
    let name = |what: &str| format!("{what} that maps 1 MiB, fills it and leaves it");
    call_and_reset(bench, &mut sandbox, &name, 4, |sandbox| sandbox.call("fill", (FAR, 256_u64, 1_u8)))?;
    for largest in [256_u64, 1024, 4096] {
        let name = |what: &str| format!("{what} of a program that allocates 60 blocks of up to {largest} KiB");
        call_and_reset(bench, &mut sandbox, &name, 2, |sandbox| {
            sandbox.call("use_the_heap", (7_u64, 120_u64, largest))
        })?;
    }
    places(bench, &image)
}

/// The same call where its page table has its place, and where all have one and change it each time.
fn places(bench: &mut Bench, image: &Image) -> Result<(), Box<dyn Error>> {
    let mut sandbox = settings(Sandbox::builder(image).memory_limit(16 << 20)).build()?;
    let place = |number: u64| FAR + number * (2 << 20);
    let full = (0..).find(|number| sandbox.call::<()>("map", (place(*number), 1_u64, READ_WRITE)).is_err());
    // One table is spare. An upper table has room for more places than these.
    let last = full.ok_or("page tables never ran out")? - 1;
    let others = (last + 1..last + 200).cycle();
    sandbox.call::<()>("unmap", (place(last), 1_u64))?;
    let mut wander = |name: &str, numbers: &mut dyn Iterator<Item = u64>| {
        bench.times(name, 20, &mut sandbox, |sandbox| {
            let at = place(numbers.next().expect("there are always more"));
            let start = Instant::now();
            sandbox.call::<()>("wander", (at, 1_u64))?;
            Ok(start.elapsed())
        })
    };
    wander("call that maps a page, writes to it and unmaps it", &mut std::iter::repeat(last))?;
    wander("the same, with page tables that change their places", &mut { others })
}

fn call_and_reset(
    bench: &mut Bench,
    sandbox: &mut Sandbox,
    name: &dyn Fn(&str) -> String,
    turn: u32,
    call: impl Fn(&mut Sandbox) -> Result<u64, ampoule::CallError>,
) -> Result<(), Box<dyn Error>> {
    bench.times(&name("call"), turn, sandbox, |sandbox| {
        let start = Instant::now();
        let wrong = call(sandbox)?;
        let time = start.elapsed();
        sandbox.reset()?;
        if wrong == 0 { Ok(time) } else { Err("the guest's memory does not hold what was written".into()) }
    })?;
    bench.times(&name("reset after a call"), turn, sandbox, |sandbox| {
        call(sandbox)?;
        let start = Instant::now();
        sandbox.reset()?;
        Ok(start.elapsed())
    })
}

/// For `mmap`.
const READ_WRITE: i32 = 3;

/// Where nothing else is mapped.
const FAR: u64 = 0x10_0000_0000;
