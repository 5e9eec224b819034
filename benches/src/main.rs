//! What calls cost, as ratios to the bare exit of the same machine in the same run.
//!
//! ```text
//! cargo run --release -p ampoule-bench [PART ...]
//! ```
//!
//! Parts are `calls`, `faults`, `snapshots`, `stored`, `pool`, `prepared`, `starts`, `system-calls`, `computing`, `reading`, `python`,
//! `python-memory`, `mappings`, `touch`, `payloads`, `share`, `clock`, `memory`, `host-memory`, `streams`, `profile` and
//! `memory-profile`, and `metrics` with `--features metrics`; without any, all are measured. What needs a program that the machine does not have
//! (`/bin/busybox`, `/usr/bin/python3`) is left out, and says so.
//!
//! Every row is measured in short turns that alternate with turns of the floor, so that both see the same machine; the
//! ratio is that of their medians. Exits and vCPU ioctls are counted, and do not depend on the machine.

mod beside;
mod clock;
mod faults;
mod floor;
mod host_memory;
mod mappings;
mod measure;
mod memory;
#[cfg(feature = "metrics")]
mod metrics;
mod payloads;
mod pool;
mod prepared;
mod processes;
mod profile;
mod programs;
mod prompt;
mod python;
mod share;
mod snapshots;
mod starts;
mod stored;
mod streams;
mod timed;
mod touch;

use std::error::Error;
use std::time::Duration;

use ampoule::{Borrowed, Image, Limits, Sandbox};
use floor::Floor;
use measure::Bench;

fn main() -> Result<(), Box<dyn Error>> {
    if processes::is_other()? {
        return Ok(());
    }
    let parts: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = parts.iter().find(|part| PARTS.iter().all(|(known, _)| part != known)) {
        return Err(format!(
            "there is no part `{unknown}`; there are {}",
            PARTS.iter().map(|(part, _)| *part).collect::<Vec<_>>().join(", ")
        )
        .into());
    }
    let image = Image::embedded(ampoule::include_guest!("calls"))?;
    let mut bench = Bench::new(Floor::new()?);
    bench.print_header();
    bench.floor_row();

    for (part, measure) in PARTS {
        if parts.is_empty() || parts.iter().any(|wanted| wanted == part) {
            measure(&mut bench, &image)?;
        }
    }
    Ok(())
}

type Measure = fn(&mut Bench, &Image) -> Result<(), Box<dyn Error>>;

/// What can be measured, in this order.
const PARTS: &[(&str, Measure)] = &[
    ("calls", calls),
    ("faults", faults::measure),
    ("snapshots", snapshots::measure),
    ("stored", stored::measure),
    ("pool", pool::measure),
    ("prepared", |bench, _| prepared::measure(bench)),
    ("starts", |_, _| starts::measure()),
    ("system-calls", |bench, _| programs::system_calls(bench)),
    ("computing", |_, _| programs::computing()),
    ("reading", |_, _| programs::reading()),
    ("python", |bench, _| python::measure(bench)),
    ("python-memory", |_, _| python::memory()),
    ("mappings", |bench, _| mappings::measure(bench)),
    ("touch", |_, _| touch::measure()),
    ("payloads", |_, _| payloads::measure()),
    ("share", |_, image| share::measure(image)),
    ("clock", |_, image| clock::measure(image)),
    ("memory", |_, image| memory::measure(image)),
    ("host-memory", |_, _| host_memory::measure()),
    ("streams", |_, _| streams::measure()),
    ("profile", |_, _| profile::measure()),
    ("memory-profile", |_, _| profile::measure_memory()),
    // The last one, because nothing is without metrics afterwards.
    #[cfg(feature = "metrics")]
    ("metrics", metrics::measure),
];

fn calls(bench: &mut Bench, image: &Image) -> Result<(), Box<dyn Error>> {
    let mut sandbox = build(image)?;
    let empty = sandbox.typed_fn::<(), ()>("empty")?;
    bench.calls("empty call", 40, &mut sandbox, |sandbox| empty.call(sandbox, ()))?;
    bench.calls("empty call with a deadline", 40, &mut sandbox, |sandbox| {
        empty.call_with(sandbox, (), Limits::new().deadline(Duration::from_secs(10)))
    })?;
    bench.calls("empty call, by name", 40, &mut sandbox, |sandbox| sandbox.call::<()>("empty", ()))?;
    let print = sandbox.typed_fn::<(Borrowed<str>,), ()>("print")?;
    bench.calls("call that prints a line", 40, &mut sandbox, |sandbox| print.call(sandbox, ("a line of text\n",)))?;
    let write = sandbox.typed_fn::<(Borrowed<str>, u32), ()>("write_by_system_call")?;
    bench.calls("call that writes a line by a system call", 40, &mut sandbox, |sandbox| {
        write.call(sandbox, ("a line of text\n", 1))
    })?;
    let count = sandbox.typed_fn::<(u32,), u32>("count_on_host")?;
    bench.calls("call with one host function", 40, &mut sandbox, |sandbox| count.call(sandbox, (1,)))?;

    let sum = sandbox.typed_fn::<(Borrowed<[u8]>,), u64>("sum_of_bytes")?;
    let take = sandbox.typed_fn::<(Borrowed<[u8]>,), ()>("take_bytes")?;
    let give = sandbox.typed_fn::<(u32,), Vec<u8>>("give_bytes")?;
    for (size, turn) in [(64 << 10, 20), (1 << 20, 10)] {
        let bytes = vec![7; size];
        let name = |what: &str| format!("{} KiB {what}", size >> 10);
        bench.calls(&name("in"), turn, &mut sandbox, |sandbox| take.call(sandbox, (&bytes,)))?;
        bench.calls(&name("in, read by the guest"), turn, &mut sandbox, |sandbox| sum.call(sandbox, (&bytes,)))?;
        bench.calls(&name("out"), turn, &mut sandbox, |sandbox| give.call(sandbox, (size as u32,)))?;
    }

    bench.creations("creation to first result", 4, || {
        let mut sandbox = build(image)?;
        empty.call(&mut sandbox, ())?;
        Ok(sandbox)
    })
}

fn build(image: &Image) -> Result<Sandbox, Box<dyn Error>> {
    Ok(snapshots::settings(Sandbox::builder(image)).mailbox_size(2 << 20).build()?)
}
