//! The command line of Ampoule: `ampoule call`, `run`, `prepare`, `inspect`, `push`, `pull`, `doctor`, `bench` and
//! `completions`.
//!
//! [`docs/command-line.md`](https://github.com/ampoule-rs/ampoule/blob/main/docs/command-line.md) describes it for those who use
//! it. This library is its code, so that a program can be the command line with another name; it promises nothing else.

mod arguments;
mod bench;
mod call;
mod doctor;
mod failure;
mod guest;
mod host_functions;
mod inspect;
mod look;
mod prepare;
mod profile;
mod quantities;
mod run;
mod signals;
mod text;
#[cfg(feature = "oci")]
mod transfer;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Command, CommandLine};
use failure::{Failure, Status};

/// Does what the arguments of the process say: the program's exit code, which `ampoule --help` explains.
///
/// Arguments that are none, `--help` and `--version` end the process at once.
#[must_use]
pub fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Command::Call(arguments) => call::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Prepare(arguments) => prepare::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        #[cfg(feature = "oci")]
        Command::Transfer(command) => transfer::run(&command),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Completions { shell } => completions(shell),
    };
    match done {
        Ok(status) => status.into(),
        Err(failure) => {
            failure.print();
            failure.status().into()
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Result<Status, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "ampoule", &mut script);
    print(&script)
}

/// Writes to standard output.
fn print(text: &[u8]) -> Result<Status, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Status::Done),
        Err(reason) => Err(Failure::new(Status::Host, format!("standard output cannot be written: {reason}"))),
    }
}
