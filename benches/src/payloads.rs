//! What it costs the host to encode and decode values in a guest's mailbox, against the same in a slice of its own.

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ampoule::{Borrowed, Image, Sandbox};
use ampoule_abi::codec::{decode, encode};
use ampoule_vmm::kvm::Kvm;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::measure::median;
use crate::share::micros;
use crate::timed::Runs;

/// Has the name and the fields that the guest's type has.
#[derive(Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
    label: u32,
    visible: bool,
}

pub(crate) fn measure() -> Result<(), Box<dyn Error>> {
    let numbers = Shape::new("1,000,000 × u32", "numbers", (0..1_000_000).collect::<Vec<u32>>());
    let point = |label| Point { x: f64::from(label), y: 0.5, label, visible: true };
    let points: Vec<Point> = (0..100_000).map(point).collect();
    let points = Shape::new("100,000 × struct of four fields", "points", points);
    let texts: Vec<String> = (0..100_000).map(|number| format!("text number {number}")).collect();
    let texts = Shape::new("100,000 × String", "texts", texts);
    let inner = |of: u32| (0..100).map(|key| (format!("key {key}"), u64::from(of * key))).collect();
    let maps: BTreeMap<String, BTreeMap<String, u64>> = (0..200).map(|of| (format!("map {of}"), inner(of))).collect();
    let maps = Shape::new("200 × map of 100 entries", "maps", maps);

    let runs = Arc::new(Runs::default());
    let image = Image::embedded(ampoule::include_guest!("payloads"))?;
    let mut sandbox = Sandbox::builder(&image)
        .mailbox_size(MAILBOX)
        .memory_limit(256 << 20)
        .host_fn("swap_numbers", numbers.swap(&runs))
        .host_fn("swap_points", points.swap(&runs))
        .host_fn("swap_texts", texts.swap(&runs))
        .host_fn("swap_maps", maps.swap(&runs))
        .hypervisor(runs.on(Kvm::shared()?))
        .build()?;
    println!();
    println!("| values, ms (× slice) | arguments | result | host function's arguments | host function's result |");
    println!("|---|---|---|---|---|");
    numbers.measure(&mut sandbox, &runs)?;
    points.measure(&mut sandbox, &runs)?;
    texts.measure(&mut sandbox, &runs)?;
    maps.measure(&mut sandbox, &runs)
}

/// A value that is sent to a function of the guest, which calls the host with it, takes what that returns, and returns it.
struct Shape<T: 'static> {
    name: &'static str,
    function: &'static str,
    /// A host function owns what it returns, and dropping that is not to be measured.
    value: &'static T,
    times: Arc<Mutex<Times>>,
}

impl<T: Serialize + DeserializeOwned + Sync> Shape<T> {
    fn new(name: &'static str, function: &'static str, value: T) -> Self {
        Self { name, function, value: Box::leak(Box::new(value)), times: Arc::default() }
    }

    /// The host function.
    fn swap(&self, runs: &Arc<Runs>) -> impl FnMut(T) -> &'static T + Send + use<T> {
        let (runs, times, value) = (runs.clone(), self.times.clone(), self.value);
        move |received| {
            let decoded = runs.since_left();
            drop(black_box(received));
            let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
            times.host_arguments.extend(decoded);
            times.arguments.extend(runs.entered_after_mark());
            drop(times);
            runs.mark();
            value
        }
    }

    fn measure(&self, sandbox: &mut Sandbox, runs: &Runs) -> Result<(), Box<dyn Error>> {
        let call = sandbox.typed_fn::<(Borrowed<T>,), T>(self.function)?;
        let leave_traces = sandbox.typed_fn::<(), ()>("leave_traces")?;
        let mut slice = vec![0; MAILBOX];
        let (mut encoding, mut decoding) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // Each finds the processor's caches as a guest leaves them.
            leave_traces.call(sandbox, ())?;
            runs.mark();
            let received = call.call(sandbox, (self.value,))?;
            let decoded = runs.since_left();
            drop(black_box(received));
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            times.result.extend(decoded);
            times.host_result.extend(runs.entered_after_mark());
            drop(times);

            leave_traces.call(sandbox, ())?;
            let start = Instant::now();
            let length = encode(self.value, &mut slice[..])?;
            encoding.push(start.elapsed());
            leave_traces.call(sandbox, ())?;
            let start = Instant::now();
            let decoded: T = decode(&slice[..length])?;
            decoding.push(start.elapsed());
            drop(black_box(decoded));
        }
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let Times { arguments, result, host_arguments, host_result } = &mut *times;
        let cells = [
            cell(arguments, &mut encoding),
            cell(result, &mut decoding),
            cell(host_arguments, &mut decoding),
            cell(host_result, &mut encoding),
        ];
        println!("| {} | {} |", self.name, cells.join(" | "));
        Ok(())
    }
}

/// How long each way took, in each round.
#[derive(Default)]
struct Times {
    arguments: Vec<Duration>,
    result: Vec<Duration>,
    host_arguments: Vec<Duration>,
    host_result: Vec<Duration>,
}

fn cell(by_call: &mut [Duration], by_slice: &mut [Duration]) -> String {
    by_call.sort_unstable();
    by_slice.sort_unstable();
    let [by_call, by_slice] = [by_call, by_slice].map(|times| micros(median(times)) / 1e3);
    format!("{by_call:.2} ({:.2})", by_call / by_slice)
}

const MAILBOX: usize = 16 << 20;
const ROUNDS: usize = 31;
