//! Turns, medians, and the table.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use ampoule::{CallError, Sandbox};
use ampoule_vmm::{Counters, HypervisorError};

use crate::floor::Floor;

/// Measures rows against one floor and prints each as it is done.
pub(crate) struct Bench {
    floor: Floor,
}

impl Bench {
    pub(crate) fn new(floor: Floor) -> Self {
        Self { floor }
    }

    pub(crate) fn print_header(&self) {
        println!("| | median µs | p99 µs | exits | other vCPU ioctls | × floor |");
        println!("|---|---|---|---|---|---|");
    }

    /// One exit.
    pub(crate) fn floor(&mut self) -> Duration {
        self.floor.exit()
    }

    /// The floor itself.
    pub(crate) fn floor_row(&mut self) {
        let mut times: Vec<Duration> = (0..ROUNDS * 40).map(|_| self.floor.exit()).collect();
        times.sort_unstable();
        print_row("bare ring-3 exit through raw ioctls (floor)", &times, (1.0, 0.0), 1.0);
    }

    /// A row of calls into one sandbox.
    pub(crate) fn calls<R>(
        &mut self,
        name: &str,
        turn: u32,
        sandbox: &mut Sandbox,
        mut call: impl FnMut(&mut Sandbox) -> Result<R, CallError>,
    ) -> Result<(), Box<dyn Error>> {
        for _ in 0..turn {
            call(sandbox)?;
        }
        let before = counters(sandbox)?;
        let (times, ratio) = self.rounds(turn, || {
            let start = Instant::now();
            let result = call(sandbox);
            let time = start.elapsed();
            result?;
            Ok(time)
        })?;
        let after = counters(sandbox)?;
        print_row(name, &times, per_operation(before, after, times.len()), ratio);
        Ok(())
    }

    /// A row of times that an operation measures itself.
    pub(crate) fn times(
        &mut self,
        name: &str,
        turn: u32,
        sandbox: &mut Sandbox,
        mut operation: impl FnMut(&mut Sandbox) -> Result<Duration, Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let before = counters(sandbox)?;
        let (times, ratio) = self.rounds(turn, || operation(sandbox))?;
        print_row(name, &times, per_operation(before, counters(sandbox)?, times.len()), ratio);
        Ok(())
    }

    /// A row of times that an operation measures itself, without counts.
    pub(crate) fn times_alone(
        &mut self,
        name: &str,
        turn: u32,
        mut operation: impl FnMut() -> Result<Duration, Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        operation()?;
        let (times, ratio) = self.rounds(turn, operation)?;
        let p99 = times[times.len() * 99 / 100];
        println!("| {name} | {:.1} | {:.1} | | | {ratio:.3} |", micros(median(&times)), micros(p99));
        Ok(())
    }

    /// A row of new sandboxes. Dropping them is not part of the time.
    pub(crate) fn creations(
        &mut self,
        name: &str,
        turn: u32,
        mut create: impl FnMut() -> Result<Sandbox, Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let mut spent = Counters::default();
        create()?;
        let (times, ratio) = self.rounds(turn, || {
            let start = Instant::now();
            let mut sandbox = create()?;
            let time = start.elapsed();
            let each = counters(&mut sandbox)?;
            spent.runs += each.runs;
            spent.ioctls += each.ioctls;
            Ok(time)
        })?;
        print_row(name, &times, per_operation(Counters::default(), spent, times.len()), ratio);
        Ok(())
    }

    /// Times of all operations in ascending order, and the ratio of their median to the floor's.
    fn rounds(
        &mut self,
        turn: u32,
        mut operation: impl FnMut() -> Result<Duration, Box<dyn Error>>,
    ) -> Result<(Vec<Duration>, f64), Box<dyn Error>> {
        let (mut times, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            floor.extend((0..40).map(|_| self.floor.exit()));
            for _ in 0..turn {
                times.push(operation()?);
            }
        }
        times.sort_unstable();
        floor.sort_unstable();
        let ratio = median(&times).as_secs_f64() / median(&floor).as_secs_f64();
        Ok((times, ratio))
    }
}

fn counters(sandbox: &mut Sandbox) -> Result<Counters, HypervisorError> {
    let stats = sandbox.stats()?;
    Ok(Counters { runs: stats.exits, ioctls: stats.ioctls })
}

fn per_operation(before: Counters, after: Counters, operations: usize) -> (f64, f64) {
    let each = |before: u64, after: u64| (after - before) as f64 / operations as f64;
    (each(before.runs, after.runs), each(before.ioctls, after.ioctls))
}

fn print_row(name: &str, sorted: &[Duration], (exits, ioctls): (f64, f64), ratio: f64) {
    let p99 = sorted[sorted.len() * 99 / 100];
    println!("| {name} | {:.1} | {:.1} | {exits:.2} | {ioctls:.2} | {ratio:.3} |", micros(median(sorted)), micros(p99));
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub(crate) fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

/// What this thread has had of the processor, the guests included that it has run. Unlike a clock it does not see that other
/// programs got in between, as they do in as many faults as these.
pub(crate) fn processor_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to `time`.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// How often a row and the floor take turns.
const ROUNDS: usize = 40;
