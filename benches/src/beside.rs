//! The same work natively and sealed, in turns.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use ampoule::ProgramOutput;

use crate::measure::median;

/// Times of one piece of work, natively and sealed. The two take turns, so that both see the same machine.
#[derive(Default)]
pub(crate) struct Beside {
    native: Vec<Duration>,
    sealed: Vec<Duration>,
}

impl Beside {
    /// Does the work so often in each way, after a time that does not count.
    pub(crate) fn measure(
        rounds: usize,
        mut native: impl FnMut() -> Result<Duration, Box<dyn Error>>,
        mut sealed: impl FnMut() -> Result<Duration, Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        native()?;
        sealed()?;
        let mut times = Self::default();
        for _ in 0..rounds {
            times.add(native()?, sealed()?);
        }
        Ok(times)
    }

    /// Adds a turn of each.
    pub(crate) fn add(&mut self, native: Duration, sealed: Duration) {
        self.native.push(native);
        self.sealed.push(sealed);
    }

    /// The medians.
    pub(crate) fn medians(&self) -> [Duration; 2] {
        [&self.native, &self.sealed].map(|times| {
            let mut sorted = times.clone();
            sorted.sort_unstable();
            median(&sorted)
        })
    }

    /// The shortest times: what is left of the work on a machine that does other things.
    pub(crate) fn shortest(&self) -> [Duration; 2] {
        [&self.native, &self.sealed].map(|times| times.iter().copied().min().unwrap_or_default())
    }
}

/// Sealed time by native time.
pub(crate) fn ratio([native, sealed]: [Duration; 2]) -> f64 {
    sealed.as_secs_f64() / native.as_secs_f64()
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How long a native program takes from `fork` to its end, and what it prints.
pub(crate) fn natively(program: &str, arguments: &[&str]) -> Result<(Duration, Vec<u8>), Box<dyn Error>> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    let start = Instant::now();
    let output = command.output()?;
    let time = start.elapsed();
    if !output.status.success() {
        return Err(format!("{command:?}: {output:?}").into());
    }
    Ok((time, output.stdout))
}

/// What a sealed program has printed, if it has succeeded.
pub(crate) fn printed(output: ProgramOutput) -> Result<Vec<u8>, Box<dyn Error>> {
    if !output.status.success() {
        return Err(format!("{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(output.stdout)
}

/// The lines that a program prints of what it has measured itself: a name, and nanoseconds.
pub(crate) fn own_times(printed: &[u8]) -> Result<Vec<(String, Duration)>, Box<dyn Error>> {
    let text = std::str::from_utf8(printed)?;
    let line = |line: &str| -> Result<_, Box<dyn Error>> {
        let (name, nanoseconds) = line.rsplit_once(' ').ok_or_else(|| format!("no time in {line:?}"))?;
        Ok((name.to_owned(), Duration::from_nanos(nanoseconds.parse()?)))
    };
    text.lines().map(line).collect()
}
