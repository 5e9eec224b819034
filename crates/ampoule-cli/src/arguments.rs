//! The command line as clap reads it. What stands here is what `--help` shows.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ampoule::{Builder, Clock, CoreDumps, DebuggerAddress, GdbServer, Limits, Program, Trace};
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::failure::{Failure, Status};
use crate::quantities::{memory, size, time};
use crate::text::GuestText;

/// Calls functions of guests, and runs programs, that are sealed in a micro-VM
#[derive(Debug, Parser)]
#[command(name = "ampoule", bin_name = "ampoule", version, after_help = EXIT_CODES)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Calls a function of a guest
    Call(Box<CallArguments>),
    /// Runs a static program, which has its standard streams and nothing else
    Run(Box<RunArguments>),
    /// Shows what an image is, exports and imports
    Inspect(InspectArguments),
    /// Finds out whether this machine can run guests, and if not, why
    Doctor(DoctorArguments),
    /// Writes the completion script of a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Starts the guest of an image, calls one function, and writes its result to standard output as JSON, or nothing where the
/// function returns nothing. What the guest prints goes to standard error.
#[derive(Debug, Args)]
#[command(after_help = CALL_EXAMPLES)]
pub(crate) struct CallArguments {
    /// The image: the file of a guest
    pub(crate) image: PathBuf,
    /// The function
    pub(crate) function: String,
    /// Its arguments, each a JSON value, or @FILE for the JSON in a file (@- for standard input)
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) look: Look,
    /// Samples the call, and writes the profile to this file: a flame graph for `.svg`, pprof's format for `.pb`, folded stacks
    /// otherwise
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Seeing inside")]
    pub(crate) profile: Option<PathBuf>,
    /// Answers each call of a host function with this JSON value
    #[arg(long, value_name = "NAME=JSON", value_parser = assignment)]
    pub(crate) host_fn: Vec<(String, String)>,
    /// Writes {"result": …} or {"error": …} to standard output, for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// Reports a guest that has ended in full: with backtrace, registers and what it last printed
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Runs an executable that is linked statically, with this process's standard streams. It finds no files, no network and no
/// variables but those that are given here. What it exits with is the exit code, or 128 and the number of the signal by which it
/// dies.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArguments {
    /// The program: a path, or a name that is looked for in PATH
    pub(crate) program: PathBuf,
    /// Its arguments
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: ProgramSettings,
    #[command(flatten)]
    pub(crate) look: Look,
    /// Reports a program that has ended by a fault or a limit in full: with backtrace and registers
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Settings of a program, those of the library's `Program`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sandbox")]
pub(crate) struct ProgramSettings {
    /// Memory of the program
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "64M")]
    memory: usize,
    /// How far its stack may grow
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "8M")]
    stack: usize,
    /// Wall-clock time that it may take
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline: Option<Duration>,
    /// Processor time that it may take
    #[arg(long, value_name = "TIME", value_parser = time)]
    cpu: Option<Duration>,
    /// How much it may print
    #[arg(long, value_name = "SIZE", value_parser = size)]
    output_limit: Option<u64>,
    /// How many system calls it may make
    #[arg(long, value_name = "NUMBER")]
    system_calls: Option<u64>,
    /// A variable of its environment, which is empty otherwise
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    env: Vec<(String, String)>,
    /// The name by which it knows itself; by default the last part of its path
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    arg0: Option<String>,
    /// The time that it finds; see `ampoule call --help`
    #[arg(long, value_parser = clock, default_value = "real")]
    clock: Clock,
    /// Lets it make memory executable, as just-in-time compilers do
    #[arg(long)]
    executable_memory: bool,
    /// What messages call it
    #[arg(long)]
    name: Option<String>,
}

impl ProgramSettings {
    /// Sets them all.
    pub(crate) fn apply(&self, mut program: Program) -> Program {
        let mut limits = Limits::new().output(self.output_limit.unwrap_or(u64::MAX));
        if let Some(time) = self.deadline {
            limits = limits.deadline(time);
        }
        if let Some(time) = self.cpu {
            limits = limits.cpu_time(time);
        }
        if let Some(calls) = self.system_calls {
            limits = limits.system_calls(calls);
        }
        program = program
            .memory_limit(self.memory)
            .stack_size(self.stack)
            .limits(limits)
            .clock(self.clock)
            .executable_memory(self.executable_memory);
        for (name, value) in &self.env {
            program = program.env(name, value);
        }
        if let Some(name) = &self.arg0 {
            program = program.arg0(name);
        }
        match &self.name {
            Some(name) => program.name(name),
            None => program,
        }
    }
}

/// What shows what a guest does.
#[derive(Debug, Args)]
#[command(next_help_heading = "Seeing inside")]
pub(crate) struct Look {
    /// Holds the guest before its first instruction until gdb attaches here: `unix:PATH`, `tcp:PORT` or `tcp:ADDRESS:PORT`
    #[arg(long, value_name = "ADDRESS")]
    gdb: Option<DebuggerAddress>,
    /// Writes each system call, host call and end of the guest as `strace` would, to standard error or to this file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, value_hint = ValueHint::FilePath)]
    trace: Option<Option<PathBuf>>,
}

impl Look {
    /// Listens for gdb, if it is to attach, and says so.
    pub(crate) fn gdb(&self) -> Result<Option<GdbServer>, Failure> {
        let Some(address) = &self.gdb else { return Ok(None) };
        let server = GdbServer::listen(address).map_err(|error| Failure::new(Status::Host, error))?;
        eprintln!("ampoule: waiting for gdb, `target remote {}`", target_remote(server.address()));
        Ok(Some(server))
    }

    /// Where the trace goes, if there is to be one.
    pub(crate) fn trace(&self) -> Result<Option<Trace>, Failure> {
        match &self.trace {
            None => Ok(None),
            Some(None) => Ok(Some(Trace::writer(GuestText::stderr()))),
            Some(Some(path)) => match File::create(path) {
                Ok(file) => Ok(Some(Trace::writer(file))),
                Err(reason) => Err(Failure::new(Status::Host, format!("{}: {reason}", path.display()))),
            },
        }
    }
}

/// How gdb writes an address.
fn target_remote(address: &DebuggerAddress) -> String {
    let text = address.to_string();
    text.strip_prefix("unix:").or(text.strip_prefix("tcp:")).unwrap_or(&text).to_owned()
}

/// Settings of the sandbox, those of the library's `Builder`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sandbox")]
pub(crate) struct Settings {
    /// Memory of the guest
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "64M")]
    memory: usize,
    /// How far its stack may grow
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "8M")]
    stack: usize,
    /// The largest arguments or result, in their binary form
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "1M")]
    mailbox: usize,
    /// Wall-clock time that the start and the call may each take
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline: Option<Duration>,
    /// Processor time that the start and the call may each take
    #[arg(long, value_name = "TIME", value_parser = time)]
    cpu: Option<Duration>,
    /// How much the start and the call may each print
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16M")]
    output_limit: u64,
    /// How many system calls the start and the call may each make
    #[arg(long, value_name = "NUMBER")]
    system_calls: Option<u64>,
    /// How many calls of host functions the start and the call may each make
    #[arg(long, value_name = "NUMBER")]
    host_calls: Option<u64>,
    /// A variable of the guest's environment, which is empty otherwise
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    env: Vec<(String, String)>,
    /// An argument of the guest's command line, behind the name of the program
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    arg: Vec<String>,
    /// The time that the guest finds: `real`, `frozen-in-calls`, `frozen` or `virtual`; the last two begin now, or at
    /// `=SECONDS` since 1970
    #[arg(long, value_parser = clock, default_value = "real")]
    clock: Clock,
    /// Lets the guest make memory executable, as just-in-time compilers do
    #[arg(long)]
    executable_memory: bool,
    /// What messages call the sandbox
    #[arg(long)]
    name: Option<String>,
    /// Writes a core dump to this directory when the guest ends by a fault or a limit
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    core_dir: Option<PathBuf>,
}

impl Settings {
    /// Bytes that a result may have in its binary form.
    pub(crate) fn mailbox(&self) -> usize {
        self.mailbox
    }

    /// Sets them all.
    pub(crate) fn apply(&self, mut builder: Builder) -> Builder {
        let mut limits = Limits::new().output(self.output_limit);
        if let Some(time) = self.deadline {
            limits = limits.deadline(time);
        }
        if let Some(time) = self.cpu {
            limits = limits.cpu_time(time);
        }
        if let Some(calls) = self.system_calls {
            limits = limits.system_calls(calls);
        }
        if let Some(calls) = self.host_calls {
            limits = limits.host_calls(calls);
        }
        builder = builder
            .memory_limit(self.memory)
            .stack_size(self.stack)
            .mailbox_size(self.mailbox)
            .limits(limits)
            .clock(self.clock)
            .executable_memory(self.executable_memory);
        if let Some(directory) = &self.core_dir {
            builder = builder.core_dumps(CoreDumps::to_dir(directory));
        }
        for (name, value) in &self.env {
            builder = builder.env(name, value);
        }
        for argument in &self.arg {
            builder = builder.arg(argument);
        }
        match &self.name {
            Some(name) => builder.name(name),
            None => builder,
        }
    }
}

/// Reads the file, and does not run the guest unless asked for the types.
#[derive(Debug, Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub(crate) struct InspectArguments {
    /// The image: the file of a guest
    pub(crate) image: PathBuf,
    /// Starts the guest, for ten seconds at most, to show what it says of its types
    #[arg(long)]
    pub(crate) types: bool,
    /// Writes JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Checks one thing after another, in the order in which they fail, and says what to do about those that do. The exit code is 1
/// where guests cannot run.
#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(crate) struct DoctorArguments {
    /// Writes JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes everything that was found out about the hypervisor
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// The device of the hypervisor
    #[arg(long, value_name = "PATH", default_value = ampoule_vmm::kvm::Kvm::DEVICE, hide = true)]
    pub(crate) device: PathBuf,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a name, `=` and a value are expected".to_owned()),
    }
}

fn clock(text: &str) -> Result<Clock, String> {
    let (name, from) = match text.split_once('=') {
        Some((name, seconds)) => (name, Some(since_1970(seconds)?)),
        None => (text, None),
    };
    match (name, from) {
        ("real", None) => Ok(Clock::Real),
        ("frozen-in-calls", None) => Ok(Clock::FrozenInCalls),
        ("frozen", from) => Ok(Clock::Frozen(from.unwrap_or_else(SystemTime::now))),
        ("virtual", from) => Ok(Clock::Virtual(from.unwrap_or_else(SystemTime::now))),
        _ => Err("the clocks are `real`, `frozen-in-calls`, `frozen[=SECONDS]` and `virtual[=SECONDS]`".to_owned()),
    }
}

fn since_1970(seconds: &str) -> Result<SystemTime, String> {
    let seconds = seconds.parse().map_err(|_| "seconds since 1970 are a whole number".to_owned())?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or_else(|| "that is too late".to_owned())
}

const EXIT_CODES: &str = "\
`ampoule run` exits as the program does, or with 128 and the number of the signal by which the program dies.

Exit codes:
  0    done
  1    the function returned an error, or doctor found a failure
  2    the command line is wrong, or the arguments are not those of the function
  3    the guest ended otherwise: it exited, broke the protocol, or exceeded a limit that is not one of time
  101  the guest panicked
  124  a limit of time was exceeded
  125  the host could not do it
  126  the file is not an image that this host runs
  127  there is no such file, or no such function
  134  the guest aborted
  139  the guest faulted";

const CALL_EXAMPLES: &str = "\
Examples:
  ampoule call guest add 2 3
  ampoule call guest greet '\"World\"' --host-fn weekday='\"Monday\"'
  ampoule call guest total '[{\"quantity\": 2, \"price\": 30}]'
  ampoule call guest decode @picture.json --memory 256M --deadline 2s
  ampoule call guest price '\"lamp\"' --json | jq .result
  ampoule call guest render 7 --profile render.svg

Text is JSON, too: it has its own quotes within those of the shell. Exit codes are in `ampoule --help`.";

const RUN_EXAMPLES: &str = "\
Examples:
  ampoule run busybox sha256sum < file
  ampoule run --deadline 2s --memory 256M ./filter --fast < input > output
  ampoule run --trace=calls.txt ./program
  ampoule run --gdb unix:/tmp/gdb ./program      # and in another terminal: gdb -ex 'target remote /tmp/gdb'

Options of the program stand behind it. What a program prints to a terminal has its control characters shown, not obeyed.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  ampoule inspect guest
  ampoule inspect guest --types
  ampoule inspect guest --json | jq -r '.exports[].name'";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  ampoule doctor
  ampoule doctor --json | jq '.checks[] | select(.state == \"failed\")'";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  ampoule completions bash > ~/.local/share/bash-completion/completions/ampoule
  ampoule completions zsh > \"${fpath[1]}/_ampoule\"
  ampoule completions fish > ~/.config/fish/completions/ampoule.fish";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_clock_has_a_name_and_may_have_a_beginning() {
        assert_eq!(clock("real"), Ok(Clock::Real));
        assert_eq!(clock("frozen-in-calls"), Ok(Clock::FrozenInCalls));
        assert_eq!(clock("frozen=3"), Ok(Clock::Frozen(UNIX_EPOCH + Duration::from_secs(3))));
        assert_eq!(clock("virtual=0"), Ok(Clock::Virtual(UNIX_EPOCH)));
        assert!(matches!(clock("virtual"), Ok(Clock::Virtual(from)) if from > UNIX_EPOCH));
        for text in ["", "real=1", "frozen=", "frozen=x", "frozen=-1", "sundial", "frozen=18446744073709551615"] {
            clock(text).expect_err(text);
        }
    }

    #[test]
    fn an_assignment_has_a_name() {
        assert_eq!(assignment("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(assignment("A="), Ok(("A".to_owned(), String::new())));
        for text in ["", "A", "=b"] {
            assignment(text).expect_err(text);
        }
    }
}
