//! What programs do, sealed and natively: system calls, computing, reading files. They measure themselves, so that their start
//! does not count.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ampoule::{Access, Executable, Files, Program};

use crate::beside::{Beside, millis, natively, own_times, printed, ratio};
use crate::measure::Bench;
use crate::starts::PYTHON;

/// Each kind of system call, in floors.
pub(crate) fn system_calls(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    let executable = Executable::from_bytes(fs::read(env!("CALLS"))?)?;
    let mut floors = Vec::new();
    let rows = turns(
        CALL_ROUNDS,
        || own_times(&natively(env!("CALLS"), &[CALLS])?.1),
        || {
            floors.extend((0..FLOORS).map(|_| bench.floor()));
            let program = Program::of(&executable).arg(CALLS).files(Files::none().tmp(1 << 20));
            own_times(&printed(program.run()?)?)
        },
    )?;
    floors.sort_unstable();
    let floor = floors[floors.len() / 2];
    println!();
    println!("| a system call | native µs | sealed µs | × floor | × native |");
    println!("|---|---|---|---|---|");
    for (name, times) in rows {
        let [native, sealed] = times.medians();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "| {name} | {:.3} | {:.3} | {:.3} | {:.2} |",
            micros(native),
            micros(sealed),
            ratio([floor, sealed]),
            ratio([native, sealed])
        );
    }
    Ok(())
}

/// Programs that only compute.
pub(crate) fn computing() -> Result<(), Box<dyn Error>> {
    println!();
    println!("| computing in Python | native ms | sealed ms | × native | × native, shortest |");
    println!("|---|---|---|---|---|");
    if !Path::new(PYTHON).exists() {
        println!("| **not measured**, there is no `{PYTHON}` | | | | |");
        return Ok(());
    }
    const SCRIPT: &str = include_str!("../programs/compute.py");
    let rows = turns(
        COMPUTING_ROUNDS,
        || own_times(&natively(PYTHON, &["-I", "-c", SCRIPT])?.1),
        || {
            let program = Program::new(PYTHON).args(["-I", "-c", SCRIPT]).files(Files::libraries());
            own_times(&printed(program.run()?)?)
        },
    )?;
    print_rows(rows);
    Ok(())
}

/// Reading a large file, which the host has in its page cache.
pub(crate) fn reading() -> Result<(), Box<dyn Error>> {
    println!();
    println!("| reading a file of {} MiB | native ms | sealed ms | × native | × native, shortest |", FILE_SIZE >> 20);
    println!("|---|---|---|---|---|");
    let directory = Directory::with_file()?;
    let path = directory.0.join(FILE_NAME);
    let path = path.to_str().ok_or("the directory for temporary files has no name in UTF-8")?;
    let executable = Executable::from_bytes(fs::read(env!("SUM"))?)?;
    for way in ["read", "mmap", "parts"] {
        let rows = turns(
            READING_ROUNDS,
            || own_times(&natively(env!("SUM"), &[way, path])?.1),
            || {
                let files = Files::none().dir(&directory.0, "/data", Access::ReadOnly);
                let program = Program::of(&executable).args([way, FILE_IN_SANDBOX]).files(files);
                own_times(&printed(program.memory_limit(FILE_SIZE + (64 << 20)).run()?)?)
            },
        );
        match rows {
            Ok(rows) => print_rows(rows),
            Err(error) => println!("| {way}: **not measured**: {error} | | | | |"),
        }
    }
    Ok(())
}

/// Lets programs measure themselves in turns: the times by name.
fn turns(
    rounds: usize,
    mut native: impl FnMut() -> Result<Vec<(String, Duration)>, Box<dyn Error>>,
    mut sealed: impl FnMut() -> Result<Vec<(String, Duration)>, Box<dyn Error>>,
) -> Result<Vec<(String, Beside)>, Box<dyn Error>> {
    let mut rows: Vec<(String, Beside)> = native()?.into_iter().map(|(name, _)| (name, Beside::default())).collect();
    for _ in 0..rounds {
        let (native, sealed): (_, BTreeMap<_, _>) = (native()?, sealed()?.into_iter().collect());
        for ((name, times), (_, native)) in rows.iter_mut().zip(native) {
            times.add(native, *sealed.get(name).ok_or_else(|| format!("the sealed program has no time for {name}"))?);
        }
    }
    Ok(rows)
}

fn print_rows(rows: Vec<(String, Beside)>) {
    for (name, times) in rows {
        let [native, sealed] = times.medians();
        let (median, shortest) = (ratio([native, sealed]), ratio(times.shortest()));
        println!("| {name} | {:.2} | {:.2} | {median:.3} | {shortest:.3} |", millis(native), millis(sealed));
    }
}

/// A directory with a file of [`FILE_SIZE`] bytes, which goes when this is dropped.
struct Directory(PathBuf);

impl Directory {
    fn with_file() -> Result<Self, Box<dyn Error>> {
        let directory = Self(std::env::temp_dir().join(format!("ampoule-bench-{}", std::process::id())));
        fs::create_dir(&directory.0)?;
        let mut file = File::create(directory.0.join(FILE_NAME))?;
        let piece: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        for _ in 0..FILE_SIZE / piece.len() {
            file.write_all(&piece)?;
        }
        Ok(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // It is in a directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

const FILE_SIZE: usize = 1 << 30;
const FILE_NAME: &str = "large";
const FILE_IN_SANDBOX: &str = "/data/large";

/// How often a program makes each system call in a batch.
const CALLS: &str = "20";

/// Exits between two turns.
const FLOORS: usize = 40;

const CALL_ROUNDS: usize = 15;
const COMPUTING_ROUNDS: usize = 7;
const READING_ROUNDS: usize = 5;
