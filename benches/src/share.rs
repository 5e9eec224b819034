//! The host's share of a call: what it takes beside running the guest.

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ampoule::{Borrowed, Image, Sandbox};
use ampoule_abi::codec::{Encoder, decode};
use ampoule_vmm::kvm::Kvm;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::measure::median;
use crate::snapshots::settings;
use crate::timed::Timed;

/// Has the name and the fields that the guest's type has.
#[derive(Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
    label: u32,
    visible: bool,
}

pub(crate) fn measure(image: &Image) -> Result<(), Box<dyn Error>> {
    let hypervisor = Timed::new(Kvm::shared()?);
    let builder = settings(Sandbox::builder(image)).mailbox_size(16 << 20).memory_limit(256 << 20);
    let mut sandbox = builder.hypervisor(hypervisor.clone()).build()?;
    println!();
    println!("| outside of the guest's runs | median µs |");
    println!("|---|---|");
    let empty = sandbox.typed_fn::<(), ()>("empty")?;
    let snapshot = sandbox.snapshot()?;
    let clock = median_of(CALLS, || Ok(hypervisor.share(|| Instant::now().elapsed()).1))?;
    println!("| reading the clock, once for each run, which is part of what follows | {:.2} |", micros(clock));
    let call = median_of(CALLS, || Ok(hypervisor.share(|| empty.call(&mut sandbox, ())).1))?;
    println!("| empty call | {:.2} |", micros(call));
    let both = median_of(CALLS, || {
        let (result, time) = hypervisor.share(|| empty.call(&mut sandbox, ()).map(|()| sandbox.restore(&snapshot)));
        result??;
        Ok(time)
    })?;
    println!("| empty call and restore | {:.2} |", micros(both));

    println!();
    println!(
        "| encoding arguments and decoding the result, the same values | by a call, ms | by a slice, ms | × slice |"
    );
    println!("|---|---|---|---|");
    let numbers: Vec<u32> = (0..1_000_000).collect();
    shape(&hypervisor, &mut sandbox, "1,000,000 × u32", "echo_numbers", &numbers)?;
    let point = |label| Point { x: f64::from(label), y: 0.5, label, visible: true };
    let points: Vec<Point> = (0..100_000).map(point).collect();
    shape(&hypervisor, &mut sandbox, "100,000 × struct of four fields", "echo_points", &points)?;
    let texts: Vec<String> = (0..100_000).map(|number| format!("text number {number}")).collect();
    shape(&hypervisor, &mut sandbox, "100,000 × String", "echo_texts", &texts)?;
    let inner = |of: u32| (0..100).map(|key| (format!("key {key}"), u64::from(of * key))).collect();
    let maps: BTreeMap<String, BTreeMap<String, u64>> = (0..200).map(|of| (format!("map {of}"), inner(of))).collect();
    shape(&hypervisor, &mut sandbox, "200 × map of 100 entries", "echo_maps", &maps)
}

fn shape<T: Serialize + DeserializeOwned + 'static>(
    hypervisor: &Timed,
    sandbox: &mut Sandbox,
    name: &str,
    function: &str,
    value: &T,
) -> Result<(), Box<dyn Error>> {
    let echo = sandbox.typed_fn::<(Borrowed<T>,), T>(function)?;
    let mut slice = vec![0; 16 << 20];
    let (mut by_call, mut by_slice) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (result, time) = hypervisor.share(|| echo.call(sandbox, (value,)));
        drop(black_box(result?));
        by_call.push(time);
        let start = Instant::now();
        let mut encoder = Encoder::new(&mut slice[..]);
        encoder.value(value)?;
        let length = encoder.finish()?;
        let decoded: T = decode(&slice[..length])?;
        by_slice.push(start.elapsed());
        drop(black_box(decoded));
    }
    by_call.sort_unstable();
    by_slice.sort_unstable();
    let [by_call, by_slice] = [by_call, by_slice].map(|times| micros(median(&times)) / 1e3);
    println!("| {name} | {by_call:.2} | {by_slice:.2} | {:.2} |", by_call / by_slice);
    Ok(())
}

fn median_of(
    count: usize,
    mut operation: impl FnMut() -> Result<Duration, Box<dyn Error>>,
) -> Result<Duration, Box<dyn Error>> {
    let mut times = (0..count).map(|_| operation()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(median(&times))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

const CALLS: usize = 2000;
const ROUNDS: usize = 15;
