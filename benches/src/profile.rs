//! What profiles cost the guest that is profiled.

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

pub(crate) fn measure_memory() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("profiled"))?;
    let mut sandbox = Sandbox::builder(&image).host_fn("work", || ()).stdout(Output::discard()).build()?;
    println!();
    println!(
        "| a guest that allocates and frees, so many calls deep | not profiled | profiled | exits for 1,000 blocks |"
    );
    println!("|---|---|---|---|");
    for depth in [1u32, 20, 100] {
        let (mut bare, mut off, mut on, mut exits) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for _ in 0..TURNS {
            bare.push(blocks(&mut sandbox, (depth, MANY_BLOCKS, BLOCK, false))?);
            off.push(blocks(&mut sandbox, (depth, MANY_BLOCKS, BLOCK, true))?);
            sandbox.profile_memory();
            let before = sandbox.stats()?.exits;
            on.push(blocks(&mut sandbox, (depth, BLOCKS, BLOCK, true))? / BLOCKS);
            exits += sandbox.stats()?.exits - before;
            drop(sandbox.take_memory_profile());
        }
        [&mut bare, &mut off, &mut on].into_iter().for_each(|times| times.sort_unstable());
        let [bare, off, on] = [&bare, &off, &on].map(|times| median(times));
        let more = off.as_secs_f64() / bare.as_secs_f64();
        let exits = exits as f64 * 1000.0 / f64::from(TURNS * BLOCKS);
        let off = off.as_secs_f64() * 1e9 / f64::from(MANY_BLOCKS);
        println!(
            "| {depth} | {off:.1} ns, × {more:.2} of the system's allocator | {:.2} µs | {exits:.1} |",
            micros(on)
        );
    }
    Ok(())
}

/// How long the guest takes to allocate and free: from how deep, how many blocks, of which size, and whether they are reported.
fn blocks(sandbox: &mut Sandbox, arguments: (u32, u32, u64, bool)) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    sandbox.call::<()>("churn_below", arguments)?;
    Ok(start.elapsed())
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

/// Blocks that are allocated and freed in a call that is profiled, and in one that is not.
const BLOCKS: u32 = 2000;
const MANY_BLOCKS: u32 = 200_000;

/// Bytes of a block.
const BLOCK: u64 = 64;

const TURNS: u32 = 41;

/// Rounds of the guest's: some tens of milliseconds.
const WORK: u32 = 1000;
