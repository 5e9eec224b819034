//! `ampoule bench`

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ampoule::{Image, Pool, Sandbox};
use serde::Serialize;

use crate::arguments::BenchArguments;
use crate::failure::{Failure, Status};
use crate::{guest, print};

pub(crate) fn run(arguments: &BenchArguments) -> Result<Status, Failure> {
    let report = Report::measure()?;
    let text = if arguments.json { report.json() } else { report.text() };
    print(text.as_bytes())
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    /// The median, in microseconds.
    microseconds: f64,
    /// How many calls of a guest's function take as long.
    ratio: f64,
    /// How often the guest leaves its processor, each time, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    exits: Option<f64>,
}

/// One thing that is measured.
struct Subject<'a> {
    name: &'static str,
    /// How often in a turn.
    repeat: u32,
    operation: Box<dyn FnMut() -> Result<Sample, Failure> + 'a>,
    samples: Vec<Sample>,
}

/// One time that it was done.
#[derive(Clone, Copy, Debug)]
struct Sample {
    time: Duration,
    exits: Option<u64>,
}

impl Report {
    /// Measures everything in turns. The first row is what the others are compared with.
    fn measure() -> Result<Self, Failure> {
        let image = Image::from_bytes(guest::image())?;
        let build = || Ok::<_, Failure>(Sandbox::builder(&image).name("bench").build()?);
        let (mut called, mut restored) = (build()?, build()?);
        let add = called.typed_fn::<(u32, u32), u32>("add")?;
        let snapshot = restored.snapshot().map_err(host)?;
        let pool = Pool::new(&snapshot, 1).map_err(host)?;
        let mut echo = Echo::start()?;

        let mut subjects = [
            Subject::new("call of a function", 50, || {
                counted(&mut called, |sandbox| Ok(add.call(sandbox, (2, 3)).map(drop)?))
            }),
            Subject::new("call, and back to a snapshot", 50, || {
                counted(&mut restored, |sandbox| {
                    add.call(sandbox, (2, 3))?;
                    sandbox.restore(&snapshot).map_err(host)
                })
            }),
            Subject::new("sandbox of a pool: take, call, give back", 50, || {
                timed(|| {
                    let mut sandbox = pool.take().map_err(host)?;
                    add.call(&mut sandbox, (2, 3))?;
                    drop(sandbox);
                    Ok(())
                })
            }),
            Subject::new("new sandbox of a snapshot, and a call", 4, || {
                timed(|| {
                    let mut sandbox = snapshot.spawn()?;
                    add.call(&mut sandbox, (2, 3))?;
                    Ok(sandbox)
                })
            }),
            Subject::new("new sandbox of an image, and a call", 4, || {
                timed(|| {
                    let mut sandbox = build()?;
                    add.call(&mut sandbox, (2, 3))?;
                    Ok(sandbox)
                })
            }),
            Subject::new("for comparison: to a process and back", 50, || timed(|| echo.once())),
            Subject::new("for comparison: a new process, to its end", 4, || timed(new_process)),
        ];
        for turn in 0..=TURNS {
            for subject in &mut subjects {
                subject.turn()?;
                if turn == 0 {
                    // To warm up.
                    subject.samples.clear();
                }
            }
        }
        let unit = subjects[0].median();
        Ok(Self { rows: subjects.iter().map(|subject| subject.row(unit)).collect() })
    }

    fn text(&self) -> String {
        let mut text = format!("{:<42} {:>9} {:>8} {:>6}\n", "", "median µs", "× call", "exits");
        for Row { name, microseconds, ratio, exits } in &self.rows {
            let exits = exits.map_or(String::new(), |exits| format!("{exits:.2}"));
            let line = format!("{name:<42} {microseconds:>9.1} {ratio:>8.2} {exits:>6}");
            text.extend([line.trim_end(), "\n"]);
        }
        text
    }

    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is text") + "\n"
    }
}

impl<'a> Subject<'a> {
    fn new(name: &'static str, repeat: u32, operation: impl FnMut() -> Result<Sample, Failure> + 'a) -> Self {
        Self { name, repeat, operation: Box::new(operation), samples: Vec::new() }
    }

    fn turn(&mut self) -> Result<(), Failure> {
        for _ in 0..self.repeat {
            self.samples.push((self.operation)()?);
        }
        Ok(())
    }

    fn median(&self) -> Duration {
        let mut times: Vec<_> = self.samples.iter().map(|sample| sample.time).collect();
        times.sort_unstable();
        times[times.len() / 2]
    }

    fn row(&self, unit: Duration) -> Row {
        let median = self.median().as_secs_f64();
        let exits: Option<u64> = self.samples.iter().map(|sample| sample.exits).sum();
        Row {
            name: self.name,
            microseconds: median * 1e6,
            ratio: median / unit.as_secs_f64(),
            exits: exits.map(|exits| exits as f64 / self.samples.len() as f64),
        }
    }
}

/// How long something takes. To drop what it leaves is not part of that.
fn timed<T>(operation: impl FnOnce() -> Result<T, Failure>) -> Result<Sample, Failure> {
    let start = Instant::now();
    let left = operation()?;
    let time = start.elapsed();
    drop(left);
    Ok(Sample { time, exits: None })
}

/// The same, with the exits of a sandbox.
fn counted(
    sandbox: &mut Sandbox,
    operation: impl FnOnce(&mut Sandbox) -> Result<(), Failure>,
) -> Result<Sample, Failure> {
    let before = sandbox.stats().map_err(host)?.exits;
    let Sample { time, .. } = timed(|| operation(sandbox))?;
    Ok(Sample { time, exits: Some(sandbox.stats().map_err(host)?.exits - before) })
}

/// What one does without a sandbox: ask another process through a pipe.
struct Echo {
    process: Child,
    requests: ChildStdin,
    answers: ChildStdout,
}

impl Echo {
    fn start() -> Result<Self, Failure> {
        let started = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.map_err(|reason| cannot("`cat` could not be started", &reason))?;
        let streams = process.stdin.take().zip(process.stdout.take());
        let (requests, answers) = streams.expect("both were asked for");
        Ok(Self { process, requests, answers })
    }

    fn once(&mut self) -> Result<(), Failure> {
        let mut answer = [0; 8];
        let done = self.requests.write_all(&answer).and_then(|()| self.answers.read_exact(&mut answer));
        done.map_err(|reason| cannot("`cat` could not be asked", &reason))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn new_process() -> Result<(), Failure> {
    let status = Command::new("true").status();
    status.map(drop).map_err(|reason| cannot("`true` could not be run", &reason))
}

fn host(error: impl Display) -> Failure {
    Failure::new(Status::Host, error)
}

fn cannot(what: &str, reason: &io::Error) -> Failure {
    Failure::new(Status::Host, format!("{what}: {reason}"))
}

const TURNS: usize = 20;
