//! `ampoule run`

use std::env;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use ampoule::{
    Input, MapAccess, Output, Program, ProgramError, ProgramOutput, ProgramStatus, RefusedCall, SnapshotFile, Terminal,
};

use crate::arguments::RunArguments;
use crate::failure::{Failure, Status};
use crate::signals::HeldSignals;
use crate::text::GuestText;

pub(crate) fn run(arguments: &RunArguments) -> Result<Status, Failure> {
    let done = program(arguments);
    if arguments.verbose { done.map_err(Failure::in_full) } else { done }
}

fn program(arguments: &RunArguments) -> Result<Status, Failure> {
    let (program, own) = arguments.command();
    let path = found(program);
    if SnapshotFile::is_one(&path) {
        return continued(arguments, &path);
    }
    let program = Program::new(path).args(own);
    let mut program = arguments.settings.apply(program.files(arguments.grants.files()), arguments.terminal);
    let mut lent = None;
    if arguments.terminal {
        let (terminal, signals) = terminal()?;
        lent = Some((terminal.handle(), signals));
        program = program.terminal(terminal);
    } else {
        program = program.stdin(stdin()?).stdout(Output::writer(GuestText::stdout()));
    }
    if !arguments.terminal || !io::stderr().is_terminal() {
        program = program.stderr(Output::writer(GuestText::stderr()));
    }
    for (file, name) in arguments.grants.mapped()? {
        program = program.map_file(file, .., name, MapAccess::Read);
    }
    program = arguments.look.apply(program)?;
    if let Some(frequency) = arguments.look.frequency() {
        program = program.profile(frequency);
    }
    let process = program.start()?;
    if let Some((terminal, signals)) = lent {
        let passed_on = signals.pass_on(terminal, process.interrupt_handle());
        passed_on.map_err(|reason| host("the terminal's signals cannot be passed on", &reason))?;
    }
    ended(arguments, process.run())
}

/// Continues the program of a snapshot.
fn continued(arguments: &RunArguments, path: &Path) -> Result<Status, Failure> {
    if let Some(argument) = arguments.command().1.first() {
        return Err(Failure::usage(format!(
            "`{}` is a snapshot, whose program has its arguments already: leave out `{argument}`",
            path.display()
        )));
    }
    if !arguments.grants.mapped()?.is_empty() {
        return Err(Failure::usage("a file cannot be mapped for the program of a snapshot: leave out `--map`"));
    }
    let stored = SnapshotFile::new(path).files(arguments.grants.files()).program()?;
    let mut spawn = stored
        .builder()
        .limits(arguments.settings.limits())
        .stdout(Output::writer(GuestText::stdout()))
        .stderr(Output::writer(GuestText::stderr()));
    if let Some(name) = arguments.settings.name() {
        spawn = spawn.name(name);
    }
    spawn = arguments.look.apply(spawn)?;
    if let Some(frequency) = arguments.look.frequency() {
        spawn = spawn.profile(frequency);
    }
    let mut program = spawn.build()?;
    ended(arguments, program.input(stdin()?).run())
}

fn stdin() -> Result<Input, Failure> {
    Input::inherit().map_err(|reason| host("standard input cannot be used", &reason))
}

/// Reports how it has ended.
fn ended(arguments: &RunArguments, done: Result<ProgramOutput, ProgramError>) -> Result<Status, Failure> {
    let profile = match &done {
        Ok(output) => output.profile.as_ref(),
        Err(ProgramError::Terminated { profile, .. }) => profile.as_deref(),
        Err(_) => None,
    };
    arguments.look.write_profile(profile)?;
    let output = done?;
    let status = output.status;
    let code = status.shell_code() as u8;
    if let Some(missing) = &output.missing_library {
        eprintln!("ampoule: {missing}");
    } else if code != 0 {
        tell_refused(&output.refused);
    }
    match status {
        // Of which shells say nothing, as it is the ordinary end of who writes for `head`.
        ProgramStatus::Signaled { signal: libc::SIGPIPE, .. } => Ok(Status::Program(code)),
        // As a shell does.
        ProgramStatus::Signaled { fault, .. } => {
            let dump = output.core_dump.map_or_else(String::new, |dump| format!("; {dump}"));
            Err(Failure::new(Status::Program(code), format!("{fault}{dump}")).detailed(&format!("{fault:#}{dump}")))
        }
        _ => Ok(Status::Program(code)),
    }
}

/// The terminal that the program is lent, and its signals, which are held from here on.
fn terminal() -> Result<(Terminal, HeldSignals), Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "`--terminal` lends the program a terminal, which standard input and output both have to be",
        ));
    }
    let terminal = Terminal::inherit().map_err(|reason| host("the terminal cannot be used", &reason))?;
    let signals = HeldSignals::new().map_err(|reason| host("the terminal's signals cannot be held", &reason))?;
    Ok((terminal, signals))
}

fn host(what: &str, reason: &io::Error) -> Failure {
    Failure::new(Status::Host, format!("{what}: {reason}"))
}

/// Says what the program has asked for that it does not have, since that may be why it has failed. What C libraries ask for at
/// every start is not worth a word.
fn tell_refused(calls: &[RefusedCall]) {
    let calls: Vec<_> = calls.iter().filter(|call| call.needs.is_some() && call.count > call.harmless).collect();
    if !calls.is_empty() {
        let count: u64 = calls.iter().map(|call| u64::from(call.count - call.harmless)).sum();
        let names: Vec<_> = calls.iter().map(ToString::to_string).collect();
        let made = if count == 1 { "a call that was" } else { "calls that were" };
        eprintln!("ampoule: the program has made {made} refused: {}", names.join(", "));
    }
}

/// Where the program is: a name without a directory is looked for as a shell does.
pub(crate) fn found(program: &Path) -> PathBuf {
    let is_name = program.components().count() == 1 && !program.is_absolute() && !program.starts_with(".");
    let path = env::var_os("PATH").filter(|_| is_name && !program.to_string_lossy().contains('/'));
    let places = path.iter().flat_map(env::split_paths).map(|directory| directory.join(program));
    places.into_iter().find(|place| place.is_file()).unwrap_or_else(|| program.to_owned())
}
