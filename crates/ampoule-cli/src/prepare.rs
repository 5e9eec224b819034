//! `ampoule prepare`

use std::path::Path;

use ampoule::{Image, Output, Program, ProgramSnapshot, Sandbox, SaveOptions, Snapshot};

use crate::arguments::{PrepareArguments, RunArguments};
use crate::failure::{Failure, Status};
use crate::host_functions;
use crate::run::found;
use crate::text::GuestText;

pub(crate) fn run(arguments: &PrepareArguments) -> Result<Status, Failure> {
    let done = prepare(arguments);
    if arguments.run.verbose { done.map_err(Failure::in_full) } else { done }
}

fn prepare(arguments: &PrepareArguments) -> Result<Status, Failure> {
    let PrepareArguments { output, compress, parent, run } = arguments;
    let mut options = SaveOptions::new();
    if *compress {
        options = options.compressed();
    }
    if let Some(parent) = parent {
        options = options.parent(parent);
    }
    if !run.grants.mapped()?.is_empty() {
        return Err(Failure::usage("a snapshot holds no files that are mapped: leave out `--map`"));
    }
    let path = found(run.command().0);
    match Image::from_file(&path) {
        Ok(image) => guest(run, &image)?.save_with(output, &options)?,
        // What is no guest may be a program.
        Err(_) => program(run, &path)?.save_with(output, &options)?,
    };
    Ok(Status::Done)
}

/// A guest that waits for a call. Its host functions are those of whoever calls it later.
fn guest(arguments: &RunArguments, image: &Image) -> Result<Snapshot, Failure> {
    if let Some(argument) = arguments.command().1.first() {
        return Err(Failure::usage(format!("a guest that waits for a call has no arguments: leave out `{argument}`")));
    }
    let builder = arguments
        .settings
        .apply_to_guest(Sandbox::builder(image).files(arguments.grants.files()))
        .stdout(Output::writer(GuestText::stdout()))
        .stderr(Output::writer(GuestText::stderr()));
    let mut sandbox = host_functions::refuse_all(image, builder, "prepare").build()?;
    sandbox.snapshot().map_err(|error| Failure::new(Status::Host, error))
}

/// A program that waits for its input.
fn program(arguments: &RunArguments, path: &Path) -> Result<ProgramSnapshot, Failure> {
    let program = Program::new(path).args(arguments.command().1);
    let program = arguments
        .settings
        .apply(program.files(arguments.grants.files()), false)
        .stdout(Output::writer(GuestText::stdout()))
        .stderr(Output::writer(GuestText::stderr()));
    Ok(arguments.look.apply(program)?.start()?.run_until_input()?.snapshot()?)
}
