//! A prepared Python: what a request costs, beside the bare work in a native interpreter that is as warm, and beside a child of
//! such an interpreter.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ampoule::{Files, IdleProgram, Pool, Program, ProgramSnapshot};

use crate::measure::{Bench, median, micros};
use crate::memory::Memory;
use crate::starts::PYTHON;

/// A request from the pool, in turns with the native ways.
pub(crate) fn measure(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    println!();
    println!(
        "| request to a warm Python, median µs | bare | `fork` | sealed | sealed × `fork` | floors | × bare beyond {FLOORS} floors | the same, shortest |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    if !Path::new(PYTHON).exists() {
        println!("| **not measured**, there is no `{PYTHON}` | | | | | | | |");
        return Ok(());
    }
    let ready = prepare()?;
    let pool = Pool::builder(&ready).size(1).warm_up(|python| python.input("print(1)").run().map(drop)).build()?;
    let (mut bare, mut fork) = (Native::start("bare")?, Native::start("fork")?);
    for (name, request) in REQUESTS {
        let mut times: [Vec<Duration>; 4] = Default::default();
        let expected = bare.answer(request)?.printed;
        for _ in 0..ROUNDS {
            for _ in 0..TURN {
                times[0].push(bare.answer(request)?.checked(&expected)?.work);
            }
            for _ in 0..TURN {
                times[1].push(fork.answer(request)?.checked(&expected)?.time);
            }
            for _ in 0..TURN {
                times[2].push(sealed(&pool, request)?.checked(&expected)?.time);
            }
            times[3].extend((0..TURN).map(|_| bench.floor()));
        }
        times.iter_mut().for_each(|times| times.sort_unstable());
        let [bare, fork, sealed, floor] = times.each_ref().map(|sorted| micros(median(sorted)));
        let beyond = |sealed: f64, floor: f64, bare: f64| (sealed - FLOORS * floor) / bare;
        let [least_bare, _, least_sealed, least_floor] = times.each_ref().map(|sorted| micros(sorted[0]));
        println!(
            "| {name} | {bare:.0} | {fork:.0} | {sealed:.0} | {:.2} | {:.1} | {:.2} | {:.2} |",
            sealed / fork,
            sealed / floor,
            beyond(sealed, floor, bare),
            beyond(least_sealed, least_floor, least_bare),
        );
    }
    Ok(())
}

/// What prepared Pythons take of memory when there are many.
pub(crate) fn memory() -> Result<(), Box<dyn Error>> {
    println!();
    println!("| {ALIVE} prepared Pythons alive | KiB each, user (PSS) | KiB each, all of the machine's |");
    println!("|---|---|---|");
    if !Path::new(PYTHON).exists() {
        println!("| **not measured**, there is no `{PYTHON}` | | |");
        return Ok(());
    }
    let ready = prepare()?;
    println!("| the snapshot that they share, once | {} | |", ready.stored_bytes() >> 10);
    drop(ready.spawn()?);
    row("spawned", || Ok(ready.spawn()?))?;
    row("after their first request, and put back", || {
        let mut python = ready.spawn()?;
        python.input(REQUESTS[0].1).run()?;
        python.reset()?;
        Ok(python)
    })
}

fn row(name: &str, mut make: impl FnMut() -> Result<IdleProgram, Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let before = Memory::settled()?;
    let made = (0..ALIVE).map(|_| make()).collect::<Result<Vec<_>, _>>()?;
    let [user, all] = Memory::settled()?.each_since(&before, ALIVE);
    drop(made);
    println!("| {name} | {user:.0} | {all:.0} |");
    Ok(())
}

fn prepare() -> Result<ProgramSnapshot, Box<dyn Error>> {
    let python = Program::new(PYTHON).args(["-I", "-c", DRIVER]).files(Files::libraries());
    Ok(python.start()?.run_until_input()?.snapshot()?)
}

/// One from the pool, and back.
fn sealed(pool: &Pool<ProgramSnapshot>, request: &str) -> Result<Answer, Box<dyn Error>> {
    let start = Instant::now();
    let output = pool.take()?.input(request).run()?;
    let time = start.elapsed();
    if !output.status.success() {
        return Err(format!("{request}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(Answer { time, work: time, printed: literal(&String::from_utf8(output.stdout)?) })
}

/// What a request has come to.
struct Answer {
    /// Until it was there.
    time: Duration,
    /// What the interpreter says that the work took.
    work: Duration,
    /// A literal of what it has printed.
    printed: String,
}

impl Answer {
    fn checked(self, expected: &str) -> Result<Self, Box<dyn Error>> {
        if self.printed == expected { Ok(self) } else { Err(format!("{} instead of {expected}", self.printed).into()) }
    }
}

/// A native interpreter that has done the same imports, and answers one request after the other.
struct Native {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Native {
    fn start(way: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(PYTHON);
        command.args(["-I", "-c", include_str!("../programs/warm.py"), way]).env_clear();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let (requests, answers) = requests.zip(answers).ok_or("pipes were asked for")?;
        Ok(Self { child, requests, answers: BufReader::new(answers) })
    }

    fn answer(&mut self, request: &str) -> Result<Answer, Box<dyn Error>> {
        let start = Instant::now();
        writeln!(self.requests, "{}", literal(request))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let time = start.elapsed();
        let (own, printed) = answer.trim_end().split_once(' ').ok_or_else(|| format!("{request}: {answer}"))?;
        Ok(Answer { time, work: Duration::from_nanos(own.parse()?), printed: printed.into() })
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // It is not waited for if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A text as Python's `repr` writes it, if it has no apostrophe in it and no character that is not ASCII.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\n', "\\n"))
}

/// What the sealed interpreter does: what `warm.py` does to imports, and the example `python`.
const DRIVER: &str = "
import ast, base64, collections, datetime, functools, hashlib, io, itertools, json, math, os, re, statistics, sys, time
exec(compile(sys.stdin.read(), 'request', 'exec'))
sys.stdout.flush()
os._exit(0)
";

/// Pieces of Python. What they print has no apostrophes.
const REQUESTS: &[(&str, &str)] = &[
    ("`print(6 * 7)`", "print(6 * 7)"),
    (
        "JSON of 200 records, there and back",
        "records = [{\"id\": i, \"name\": f\"record {i}\", \"values\": [i, i * i]} for i in range(200)]\n\
         print(len(json.loads(json.dumps(records))))",
    ),
    (
        "statistics and a regular expression",
        "values = [math.sin(i) for i in range(3000)]\n\
         words = collections.Counter(re.findall(\"[a-z]+\", \"the quick brown fox jumps over the lazy dog \" * 400))\n\
         print(round(statistics.stdev(values), 6), words[\"the\"])",
    ),
    (
        "a loop of 500,000 steps",
        "total = 0\nfor i in range(500_000):\n    total = (total * 31 + i) % 1_000_003\nprint(total)",
    ),
];

/// What a request may cost beyond its work.
const FLOORS: f64 = 3.0;

const ALIVE: usize = 200;
/// How often the ways take turns, and how often each answers in a turn. The first answer of a turn finds cold caches, wherever it
/// comes from.
const ROUNDS: usize = 12;
const TURN: usize = 8;
