//! `ampoule run`

use std::env;
use std::path::{Path, PathBuf};

use ampoule::{Input, Output, Program, ProgramStatus};

use crate::arguments::RunArguments;
use crate::failure::{Failure, Status};
use crate::text::GuestText;

pub(crate) fn run(arguments: &RunArguments) -> Result<Status, Failure> {
    let done = program(arguments);
    if arguments.verbose { done.map_err(Failure::in_full) } else { done }
}

fn program(arguments: &RunArguments) -> Result<Status, Failure> {
    let stdin = Input::inherit()
        .map_err(|reason| Failure::new(Status::Host, format!("standard input cannot be used: {reason}")))?;
    let mut program = arguments
        .settings
        .apply(Program::new(found(&arguments.program)).args(&arguments.arguments))
        .stdin(stdin)
        .stdout(Output::writer(GuestText::stdout()))
        .stderr(Output::writer(GuestText::stderr()));
    if let Some(trace) = arguments.look.trace()? {
        program = program.trace(trace);
    }
    if let Some(server) = arguments.look.gdb()? {
        program = program.gdb(server);
    }
    let status = program.run()?.status;
    let code = status.shell_code() as u8;
    match status {
        // As a shell does.
        ProgramStatus::Signaled { fault, .. } => Err(Failure::new(Status::Program(code), &fault).detailed(&fault)),
        _ => Ok(Status::Program(code)),
    }
}

/// Where the program is: a name without a directory is looked for as a shell does.
fn found(program: &Path) -> PathBuf {
    let is_name = program.components().count() == 1 && !program.is_absolute() && !program.starts_with(".");
    let path = env::var_os("PATH").filter(|_| is_name && !program.to_string_lossy().contains('/'));
    let places = path.iter().flat_map(env::split_paths).map(|directory| directory.join(program));
    places.into_iter().find(|place| place.is_file()).unwrap_or_else(|| program.to_owned())
}
