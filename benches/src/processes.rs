//! What sandboxes of one snapshot file cost in memory when several processes have some: what these have mapped (PSS), and what
//! they have in files without names, most of which nobody maps.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, fs};

use ampoule::{Sandbox, SnapshotFile};

use crate::snapshots::spawn_settings;

/// Measures sandboxes of this file, which have answered one call each.
pub(crate) fn measure(path: &Path) -> Result<(), Box<dyn Error>> {
    println!();
    println!(
        "| {SANDBOXES} sandboxes of one file in {PROCESSES} processes | KiB each, user (PSS) | KiB each, unnamed files |"
    );
    println!("|---|---|---|");
    for (name, how) in [("the file is read", "read"), ("the file is mapped", "mapped")] {
        let mut others = (0..PROCESSES).map(|_| Other::start(path, how)).collect::<Result<Vec<_>, _>>()?;
        let mut sum =
            || others.iter_mut().try_for_each(Other::wait).and_then(|()| others.iter_mut().map(Other::pss).sum());
        let [before, after]: [u64; 2] = [sum()?, sum()?];
        let unnamed = others.iter().map(Other::unnamed).sum::<io::Result<u64>>()?;
        let each = (after as f64 - before as f64) / SANDBOXES as f64;
        println!("| {name} | {each:.1} | {:.1} |", unnamed as f64 / SANDBOXES as f64);
        others.into_iter().try_for_each(Other::end)?;
    }
    Ok(())
}

/// Whether this process is one of those; then it does what these do.
pub(crate) fn is_other() -> Result<bool, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, OTHER, path, how] = &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] else { return Ok(false) };
    report()?;
    let file = SnapshotFile::new(path);
    let loaded = if *how == "mapped" { file.mapped() } else { file }.snapshot()?;
    let one = || -> Result<Sandbox, Box<dyn Error>> {
        let mut sandbox = spawn_settings(loaded.builder()).build()?;
        sandbox.call::<()>("empty", ())?;
        Ok(sandbox)
    };
    let _alive = (0..SANDBOXES / PROCESSES).map(|_| one()).collect::<Result<Vec<_>, _>>()?;
    report()?;
    // Until the one that measures has no more questions.
    io::stdin().read_line(&mut String::new())?;
    Ok(true)
}

/// Says that it has come so far, and how much memory it has when it is asked.
fn report() -> Result<(), Box<dyn Error>> {
    println!();
    io::stdin().read_line(&mut String::new())?;
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).ok_or("the kernel reports no PSS")?;
    println!("{}", line.split_whitespace().nth(1).unwrap_or_default());
    Ok(())
}

struct Other {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn start(path: &Path, how: &str) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        let command = command.arg(OTHER).arg(path).arg(how).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let questions = child.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Self { child, questions, answers })
    }

    fn wait(&mut self) -> io::Result<()> {
        self.answers.read_line(&mut String::new()).map(drop)
    }

    /// In KiB.
    fn pss(&mut self) -> io::Result<u64> {
        self.questions.write_all(b"\n")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().map_err(io::Error::other)
    }

    /// In KiB.
    fn unnamed(&self) -> io::Result<u64> {
        let mut blocks = 0;
        for open in fs::read_dir(format!("/proc/{}/fd", self.child.id()))? {
            let open = open?.path();
            if fs::read_link(&open).is_ok_and(|of| of.starts_with("/memfd:ampoule-snapshot (deleted)")) {
                blocks += fs::metadata(&open)?.blocks();
            }
        }
        Ok(blocks / 2)
    }

    fn end(self) -> io::Result<()> {
        let Self { mut child, questions, answers } = self;
        drop((questions, answers));
        child.wait().map(drop)
    }
}

/// The argument that makes a process one of those that are measured.
const OTHER: &str = "process-of-stored";

const PROCESSES: usize = 10;

const SANDBOXES: usize = 1000;
