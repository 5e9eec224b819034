//! The command line as clap reads it. What stands here is what `--help` shows.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ampoule::{
    Access, Baseline, Builder, CallGroup, Clock, ExecutableMemory, Files, Limits, MemoryMeasure, Policy, Program,
};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::look::Look;
use crate::quantities::{memory, size, time};
#[cfg(feature = "oci")]
use crate::transfer;

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
    /// Runs a program, which has its standard streams and what it is granted
    Run(Box<RunArguments>),
    /// Runs a program until it waits for its input, or a guest until it waits for a call, and stores it as it is then
    Prepare(Box<PrepareArguments>),
    /// Shows what an image or a snapshot is, exports and imports
    Inspect(InspectArguments),
    #[cfg(feature = "oci")]
    #[command(flatten)]
    Transfer(transfer::Command),
    /// Finds out whether this machine can run guests, and if not, why
    Doctor(DoctorArguments),
    /// Measures what calls, restores and new sandboxes cost here, against what the system offers otherwise
    Bench(BenchArguments),
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
    /// The image: the file of a guest, or a snapshot that `ampoule prepare` has stored
    pub(crate) image: PathBuf,
    /// The function
    pub(crate) function: String,
    /// Its arguments, each a JSON value, or @FILE for the JSON in a file (@- for standard input); where the function takes bytes,
    /// @FILE stands for those of the file
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) grants: Grants,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) look: Look,
    /// Notes what the guest allocates from its start on, and writes the profile to this file, in the same forms
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Seeing inside")]
    pub(crate) memory_profile: Option<PathBuf>,
    /// Which memory a flame graph and folded stacks show; pprof's format has all
    #[arg(
        long,
        value_name = "MEASURE",
        default_value = "peak",
        requires = "memory_profile",
        help_heading = "Seeing inside"
    )]
    pub(crate) memory_measure: Measure,
    /// Answers each call of a host function with this JSON value
    #[arg(long, value_name = "NAME=JSON", value_parser = assignment)]
    pub(crate) host_fn: Vec<(String, String)>,
    /// Writes {"result": …} or {"error": …} to standard output, for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes the bytes that the function returns as they are, and not as JSON
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// Reports a guest that has ended in full: with backtrace, registers and what it last printed
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Which of a guest's blocks of memory.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Measure {
    /// What is not freed when the call is over
    Live,
    /// What was not freed when that was most
    Peak,
    /// All that was allocated
    Total,
}

impl From<Measure> for MemoryMeasure {
    fn from(measure: Measure) -> Self {
        match measure {
            Measure::Live => Self::Live,
            Measure::Peak => Self::Peak,
            Measure::Total => Self::Total,
        }
    }
}

/// Runs an executable with this process's standard streams. It finds no files, no network and no variables but those that are
/// given here. What it exits with is the exit code, or 128 and the number of the signal by which it
/// dies.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArguments {
    /// The program: a path, or a name that is looked for in PATH; and its arguments. Or a snapshot that `ampoule prepare` has stored,
    /// which has the arguments, memory, variables and clock that it was prepared with
    // One list, since an option that stands first behind the program would be taken for one of ours otherwise.
    #[arg(value_names = ["PROGRAM", "ARGUMENT"], num_args = 1.., required = true, trailing_var_arg = true)]
    command: Vec<String>,
    #[command(flatten)]
    pub(crate) grants: Grants,
    #[command(flatten)]
    pub(crate) settings: ProgramSettings,
    #[command(flatten)]
    pub(crate) look: Look,
    /// Lends it the terminal that standard input and output are: it reads keys, knows the window's size, gets Ctrl+C as a signal,
    /// and what it prints is obeyed, escape sequences included
    #[arg(short, long)]
    pub(crate) terminal: bool,
    /// Reports a program that has ended by a fault or a limit in full: with backtrace and registers
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

impl RunArguments {
    /// The program, and its arguments.
    pub(crate) fn command(&self) -> (&Path, &[String]) {
        let (program, arguments) = self.command.split_first().expect("clap requires the program");
        (Path::new(program), arguments)
    }
}

/// Runs a program with the options of `ampoule run` until it waits for its standard input, or starts a guest, and stores its
/// state in a file, from which `ampoule run` or `ampoule call` continues. What it prints before that goes to standard output.
#[derive(Debug, Args)]
#[command(after_help = PREPARE_EXAMPLES)]
pub(crate) struct PrepareArguments {
    /// The file to store it in, which is replaced
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// Compresses it, for transport
    #[arg(long)]
    pub(crate) compress: bool,
    /// Stores only what differs from the snapshot in this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) parent: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

/// The files that a guest or a program sees, those of the library's `Files`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct Grants {
    /// Makes this directory what the program sees as `/`; what it changes there is kept in memory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    root: Option<PathBuf>,
    /// Shows it the host's libraries, as dynamically linked programs and interpreters need them, and the program itself
    #[arg(long)]
    libs: bool,
    /// Shows it a directory of the host at a place of its own, read-only unless `:rw` follows
    #[arg(long, value_name = "HOST:PLACE[:ro|rw]", value_parser = granted)]
    dir: Vec<(PathBuf, PathBuf, Access)>,
    /// Gives it a `/tmp` in memory that holds so much
    #[arg(long, value_name = "SIZE", value_parser = size)]
    tmp: Option<u64>,
    /// How much it may keep in memory of what it changes elsewhere; 64M by default
    #[arg(long, value_name = "SIZE", value_parser = size)]
    file_memory: Option<u64>,
    /// Shows it a file of the host as `/dev/ampoule/NAME`, by default the file's own name: where it maps that, it sees the pages
    /// themselves
    #[arg(long, value_name = "FILE[:NAME]", value_parser = mapped)]
    map: Vec<(PathBuf, String)>,
    /// How many files it may have open at once; 1024 by default, which is the most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(3..=1024))]
    open_files: Option<u32>,
}

impl Grants {
    /// The files that are mapped for it, with their names.
    pub(crate) fn mapped(&self) -> Result<Vec<(File, &str)>, Failure> {
        let mut files = Vec::new();
        for (path, name) in &self.map {
            let cannot_open = |reason| Failure::usage(format!("`{}` cannot be mapped: {reason}", path.display()));
            files.push((File::open(path).map_err(cannot_open)?, name.as_str()));
        }
        Ok(files)
    }

    /// What they grant.
    pub(crate) fn files(&self) -> Files {
        let mut files = if self.libs { Files::libraries() } else { Files::none() };
        if let Some(root) = &self.root {
            files = files.root(root);
        }
        for (host, at, access) in &self.dir {
            files = files.dir(host, at, *access);
        }
        if let Some(bytes) = self.tmp {
            files = files.tmp(bytes);
        }
        if let Some(bytes) = self.file_memory {
            files = files.memory_limit(bytes);
        }
        if let Some(count) = self.open_files {
            files = files.open_files(count);
        }
        files
    }
}

/// Settings of a program, those of the library's `Program`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sandbox")]
pub(crate) struct ProgramSettings {
    /// Memory of the program
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "256M")]
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
    /// Its working directory; `/` by default
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    cwd: Option<PathBuf>,
    /// A variable of its environment, which is empty otherwise
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    env: Vec<(String, String)>,
    /// The name by which it knows itself; by default the last part of its path
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    arg0: Option<String>,
    /// The time that it finds; see `ampoule call --help`
    #[arg(long, value_parser = clock, default_value = "real")]
    clock: Clock,
    /// Whether it may make code at run time, as just-in-time compilers do: `refused`, which is the default for a guest that waits
    /// for a call; `write-xor-execute`, the default for a program; or `unrestricted`, with memory that is writable and executable
    /// at once
    #[arg(long, value_name = "KIND")]
    executable_memory: Option<ExecutableMemory>,
    /// The most that the program finds of the processor, so that a snapshot of it can continue on every machine that has as much:
    /// `x86-64-v1` to `x86-64-v3`, and features beyond that, as in `x86-64-v2+aes`
    #[arg(long, value_name = "LEVEL")]
    baseline: Option<Baseline>,
    /// Does without these groups of system calls, of which it otherwise has all: `memory`, `files`, `time`, `random`, `signals`,
    /// `pipes`
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    without: Vec<CallGroup>,
    /// What messages call it
    #[arg(long)]
    name: Option<String>,
}

impl ProgramSettings {
    /// What the program may use up.
    pub(crate) fn limits(&self) -> Limits {
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
        limits
    }

    /// What messages call it, if that was said.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Sets those that a guest has, too, which waits for a call.
    pub(crate) fn apply_to_guest(&self, builder: Builder) -> Builder {
        let builder = builder
            .memory_limit(self.memory)
            .stack_size(self.stack)
            .limits(self.limits())
            .clock(self.clock)
            .policy(policy(&self.without));
        let builder = self.executable_memory.into_iter().fold(builder, Builder::executable_memory);
        let builder = self.baseline.into_iter().fold(builder, Builder::baseline);
        let builder = self.env.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        self.name.iter().fold(builder, |builder, name| builder.name(name))
    }

    /// Sets them all.
    pub(crate) fn apply(&self, mut program: Program, has_terminal: bool) -> Program {
        program = program
            .memory_limit(self.memory)
            .stack_size(self.stack)
            .limits(self.limits())
            .clock(self.clock)
            .policy(policy(&self.without));
        program = self.executable_memory.into_iter().fold(program, Program::executable_memory);
        program = self.baseline.into_iter().fold(program, Program::baseline);
        // A program that has a terminal has to know its kind.
        if let Some(kind) = env::var("TERM").ok().filter(|_| has_terminal) {
            program = program.env("TERM", kind);
        }
        for (name, value) in &self.env {
            program = program.env(name, value);
        }
        if let Some(name) = &self.arg0 {
            program = program.arg0(name);
        }
        if let Some(directory) = &self.cwd {
            program = program.current_dir(directory);
        }
        match &self.name {
            Some(name) => program.name(name),
            None => program,
        }
    }
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
    /// Whether the guest may make code at run time, as just-in-time compilers do: `refused`, `write-xor-execute`, or
    /// `unrestricted`, with memory that is writable and executable at once
    #[arg(long, value_name = "KIND", default_value_t = ExecutableMemory::Refused)]
    executable_memory: ExecutableMemory,
    /// The most that the guest finds of the processor; see `ampoule prepare --help`
    #[arg(long, value_name = "LEVEL")]
    baseline: Option<Baseline>,
    /// Does without these groups of system calls, of which the guest otherwise has all: `memory`, `files`, `time`, `random`, `signals`,
    /// `pipes`
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    without: Vec<CallGroup>,
    /// What messages call the sandbox
    #[arg(long)]
    name: Option<String>,
}

impl Settings {
    /// Bytes that a result may have in its binary form.
    pub(crate) fn mailbox(&self) -> usize {
        self.mailbox
    }

    /// What a call may use up.
    pub(crate) fn limits(&self) -> Limits {
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
        limits
    }

    /// Sets them all.
    pub(crate) fn apply(&self, mut builder: Builder) -> Builder {
        builder = builder
            .memory_limit(self.memory)
            .stack_size(self.stack)
            .mailbox_size(self.mailbox)
            .limits(self.limits())
            .clock(self.clock)
            .policy(policy(&self.without))
            .executable_memory(self.executable_memory);
        builder = self.baseline.into_iter().fold(builder, Builder::baseline);
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
    /// The image, which is the file of a guest, or a snapshot
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

/// Takes a few seconds. Figures are medians of turns that alternate, so that every row sees the same machine; what counts are the
/// ratios, since machines differ and are seldom quiet.
#[derive(Debug, Args)]
#[command(after_help = BENCH_EXAMPLES)]
pub(crate) struct BenchArguments {
    /// Writes JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

fn policy(without: &[CallGroup]) -> Policy {
    without.iter().fold(Policy::all(), |policy, group| policy.without(*group))
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a name, `=` and a value are expected".to_owned()),
    }
}

/// A file of the host, and the name that the program sees it by. A colon in the file's path is no trouble where the name follows,
/// since that has no slash.
fn mapped(text: &str) -> Result<(PathBuf, String), String> {
    let (path, name) = match text.rsplit_once(':') {
        Some((path, name)) if !name.contains('/') => (path, Some(name)),
        _ => (text, None),
    };
    let name = name.or_else(|| Path::new(path).file_name()?.to_str()).filter(|name| !name.is_empty());
    match name {
        Some(name) if !path.is_empty() => Ok((path.into(), name.to_owned())),
        _ => Err("a file is expected, and perhaps `:` and a name: `./model-7.bin:model.bin`".to_owned()),
    }
}

/// A directory of the host, where the program sees it, and what it may do there. A colon in the host's path is no trouble,
/// since the place begins with a slash.
fn granted(text: &str) -> Result<(PathBuf, PathBuf, Access), String> {
    let (rest, access) = match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, Access::ReadOnly),
        Some((rest, "rw")) => (rest, Access::ReadWrite),
        _ => (text, Access::ReadOnly),
    };
    match rest.rsplit_once(":/") {
        Some((host, place)) if !host.is_empty() && !place.contains(':') => {
            Ok((host.into(), format!("/{place}").into(), access))
        }
        _ => Err("a directory, `:` and an absolute path are expected, and perhaps `:ro` or `:rw`: `./data:/data:rw`"
            .to_owned()),
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
  ampoule call guest search '\"needle\"' --dir ./texts:/texts --tmp 16M
  ampoule call guest thumbnail @picture.png 160 --raw > small.png
  ampoule call guest price '\"lamp\"' --json | jq .result
  ampoule call guest render 7 --profile render.svg
  ampoule call guest render 7 --memory-profile memory.svg --memory-measure live

Text is JSON, too: it has its own quotes within those of the shell. Exit codes are in `ampoule --help`.";

const RUN_EXAMPLES: &str = "\
Examples:
  ampoule run busybox sha256sum < file
  ampoule run --libs python3 -c 'print(6*7)'
  ampoule run --dir ./data:/data --dir out:/out:rw --tmp 64M --cwd /data ./convert picture.png /out/picture.jpg
  ampoule run --deadline 2s --memory 256M ./filter --fast < input > output
  ampoule run -t --libs --tmp 16M python3       # the prompt of an interpreter
  ampoule run --trace=calls.txt ./program
  ampoule run --gdb unix:/tmp/gdb ./program      # and in another terminal: gdb -ex 'target remote /tmp/gdb'

Options of the program stand behind it. Without `-t`, what a program prints to a terminal has its control
characters shown, not obeyed.";

const PREPARE_EXAMPLES: &str = "\
Examples:
  ampoule prepare -o python.snap --libs --dir .:/work --cwd /work python3 worker.py
  ampoule run --libs --dir .:/work python.snap < request
  ampoule prepare -o guest.snap ./guest
  ampoule call guest.snap greet '\"World\"'

Options of the program stand behind it. Whoever can read the file can read the memory of the program.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  ampoule inspect guest
  ampoule inspect guest --types
  ampoule inspect python.snap
  ampoule inspect guest --json | jq -r '.exports[].name'";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  ampoule doctor
  ampoule doctor --json | jq '.checks[] | select(.state == \"failed\")'";

const BENCH_EXAMPLES: &str = "\
Examples:
  ampoule bench
  ampoule bench --json | jq '.rows[] | {name, ratio}'";

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
    fn a_granted_directory_has_a_place_and_is_read_only_unless_it_says_otherwise() {
        let granted_as = |text, host: &str, at: &str, access| {
            assert_eq!(granted(text), Ok((PathBuf::from(host), PathBuf::from(at), access)), "{text}");
        };
        granted_as("./data:/data", "./data", "/data", Access::ReadOnly);
        granted_as("data:/data:ro", "data", "/data", Access::ReadOnly);
        granted_as("/srv/a:b:/:rw", "/srv/a:b", "/", Access::ReadWrite);
        for text in ["", "data", "data:", ":/data", "data:place", "data:/place:wo", "data:rw"] {
            granted(text).expect_err(text);
        }
    }

    #[test]
    fn a_mapped_file_is_seen_by_its_own_name_unless_another_follows() {
        let mapped_as = |text, path: &str, name: &str| {
            assert_eq!(mapped(text), Ok((PathBuf::from(path), name.to_owned())), "{text}");
        };
        mapped_as("model.bin", "model.bin", "model.bin");
        mapped_as("/srv/a:b/model.bin", "/srv/a:b/model.bin", "model.bin");
        mapped_as("/srv/model-7.bin:model.bin", "/srv/model-7.bin", "model.bin");
        for text in ["", ":", ":name", "file:", "/", "a/.."] {
            mapped(text).expect_err(text);
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
