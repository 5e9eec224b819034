//! What it costs a guest to read the clock, beside what it costs this process.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use ampoule::{Clock, Image, Sandbox};

use crate::measure::median;
use crate::snapshots::settings;

pub(crate) fn measure(image: &Image) -> Result<(), Box<dyn Error>> {
    println!();
    println!("| a reading of the clock | median ns | × native |");
    println!("|---|---|---|");
    let mut native = median_of(|| {
        let start = Instant::now();
        for _ in 0..READINGS {
            black_box(Instant::now());
        }
        Ok(start.elapsed())
    })?;
    print_row("native, `Instant::now()`", native, native);
    for (name, clock) in [
        ("guest, `Instant::now()`", Clock::Real),
        ("guest, `Instant::now()`, virtual clock", Clock::Virtual(SystemTime::UNIX_EPOCH)),
    ] {
        let mut sandbox = settings(Sandbox::builder(image)).clock(clock).build()?;
        let read = sandbox.typed_fn::<(u32,), (u32, u64)>("read_clock")?;
        let guest = median_of(|| {
            let start = Instant::now();
            read.call(&mut sandbox, (READINGS,))?;
            let all = start.elapsed();
            let start = Instant::now();
            read.call(&mut sandbox, (0,))?;
            Ok(all.saturating_sub(start.elapsed()))
        })?;
        print_row(name, guest, native);
    }
    let mut sandbox = settings(Sandbox::builder(image)).build()?;
    let ask = sandbox.typed_fn::<(i32, u32), (u32, u64)>("clock_in_both_ways")?;
    native = native.mul_f64(f64::from(CALLS) / f64::from(READINGS));
    let asked = median_of(|| {
        let start = Instant::now();
        ask.call(&mut sandbox, (1, CALLS))?;
        Ok(start.elapsed())
    })?;
    println!(
        "| guest, by a system call | {:.0} | {:.0} |",
        asked.as_secs_f64() * 1e9 / f64::from(CALLS),
        asked.as_secs_f64() / native.as_secs_f64()
    );
    Ok(())
}

fn print_row(name: &str, time: Duration, native: Duration) {
    let nanoseconds = time.as_secs_f64() * 1e9 / f64::from(READINGS);
    println!("| {name} | {nanoseconds:.1} | {:.2} |", time.as_secs_f64() / native.as_secs_f64());
}

fn median_of(mut operation: impl FnMut() -> Result<Duration, Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let mut times = (0..ROUNDS).map(|_| operation()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(median(&times))
}

const READINGS: u32 = 100_000;
const CALLS: u32 = 100;
const ROUNDS: usize = 31;
