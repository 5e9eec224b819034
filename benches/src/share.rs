//! The host's share of a call: what it takes beside running the guest.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ampoule::{Image, Sandbox};
use ampoule_vmm::kvm::Kvm;

use crate::measure::median;
use crate::prompt::Prompt;
use crate::snapshots::settings;
use crate::timed::Runs;

pub(crate) fn measure(image: &Image) -> Result<(), Box<dyn Error>> {
    let runs = Arc::new(Runs::default());
    let builder = settings(Sandbox::builder(image));
    let mut sandbox = builder.hypervisor(runs.on(Kvm::shared()?)).build()?;
    println!();
    println!("| outside of the guest's runs | median µs |");
    println!("|---|---|");
    let empty = sandbox.typed_fn::<(), ()>("empty")?;
    let snapshot = sandbox.snapshot()?;
    let clock = median_of(CALLS, || Ok(runs.share(|| Instant::now().elapsed()).1))?;
    println!("| reading the clock, once for each run, which is part of what follows | {:.2} |", micros(clock));
    let call = median_of(CALLS, || Ok(runs.share(|| empty.call(&mut sandbox, ())).1))?;
    println!("| empty call | {:.2} |", micros(call));
    let both = median_of(CALLS, || {
        let (result, time) = runs.share(|| empty.call(&mut sandbox, ()).map(|()| sandbox.restore(&snapshot)));
        result??;
        Ok(time)
    })?;
    println!("| empty call and restore | {:.2} |", micros(both));
    measure_answered_at_once(image)
}

/// The same without a run, so that nothing is evicted from the caches.
fn measure_answered_at_once(image: &Image) -> Result<(), Box<dyn Error>> {
    let hypervisor = Prompt::new(Kvm::shared()?);
    let builder = settings(Sandbox::builder(image));
    let mut sandbox = builder.hypervisor(hypervisor.clone()).build()?;
    let empty = sandbox.typed_fn::<(), ()>("empty")?;
    let snapshot = sandbox.snapshot()?;
    empty.call(&mut sandbox, ())?;
    hypervisor.answer_at_once();
    let call = best_average(|| empty.call(&mut sandbox, ()))?;
    println!("| empty call that is answered without a run | {:.2} |", micros(call));
    let both = best_average(|| -> Result<(), Box<dyn Error>> {
        empty.call(&mut sandbox, ())?;
        Ok(sandbox.restore(&snapshot)?)
    })?;
    println!("| empty call that is answered without a run, and restore | {:.2} |", micros(both));
    Ok(())
}

/// How long one operation takes of many in a row, in the best of some rounds.
fn best_average<E>(mut operation: impl FnMut() -> Result<(), E>) -> Result<Duration, E> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..ROUND {
            operation()?;
        }
        best = best.min(start.elapsed() / ROUND);
    }
    Ok(best)
}

fn median_of(
    count: usize,
    mut operation: impl FnMut() -> Result<Duration, Box<dyn Error>>,
) -> Result<Duration, Box<dyn Error>> {
    let mut times = (0..count).map(|_| operation()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(median(&times))
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

const CALLS: usize = 2000;

const ROUNDS: usize = 20;

/// Operations in a round.
const ROUND: u32 = 10_000;
