//! What a profile costs the guest that is profiled.

use std::error::Error;
use std::time::{Duration, Instant};

use ampoule::{Frequency, Image, Output, Sandbox};

use crate::measure::median;
use crate::share::micros;

pub(crate) fn measure() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("profiled"))?;
    let mut sandbox = Sandbox::builder(&image).host_fn("work", || ()).stdout(Output::discard()).build()?;
    println!();
    println!("| a guest that computes, so many calls deep | sampled | × without | samples a second | µs each |");
    println!("|---|---|---|---|---|");
    for depth in [5, 50] {
        for frequency in [100, 1000, 10_000].map(Frequency::hz) {
            let Cost { times, samples, each } = cost(&mut sandbox, depth, frequency)?;
            println!("| {depth} | {frequency} | {times:.3} | {samples:.0} | {:.1} |", micros(each));
        }
    }
    Ok(())
}

struct Cost {
    /// How many times as long the guest takes.
    times: f64,
    /// In a second.
    samples: f64,
    /// What a sample takes.
    each: Duration,
}

/// The same work in turns, with samples and without.
fn cost(sandbox: &mut Sandbox, depth: u32, frequency: Frequency) -> Result<Cost, Box<dyn Error>> {
    let work = |sandbox: &mut Sandbox| -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        sandbox.call::<u64>("recurse", (depth, WORK))?;
        Ok(start.elapsed())
    };
    let (mut with, mut without, mut samples) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TURNS {
        without.push(work(sandbox)?);
        sandbox.profile(frequency)?;
        with.push(work(sandbox)?);
        samples += sandbox.take_profile().map_or(0, |profile| profile.samples());
    }
    let sampled: Duration = with.iter().sum();
    with.sort_unstable();
    without.sort_unstable();
    let (with, without) = (median(&with), median(&without));
    let each = with.saturating_sub(without).as_secs_f64() * f64::from(TURNS) / (samples.max(1) as f64);
    Ok(Cost {
        times: with.as_secs_f64() / without.as_secs_f64(),
        samples: samples as f64 / sampled.as_secs_f64(),
        each: Duration::from_secs_f64(each),
    })
}

const TURNS: u32 = 41;

/// Rounds of the guest's: some tens of milliseconds.
const WORK: u32 = 1000;
