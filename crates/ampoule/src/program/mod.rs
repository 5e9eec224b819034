//! Programs: executables that nobody wrote for Ampoule, run once from their start to their end.

mod error;
mod host_memory;
mod host_side;
mod idle;
mod missing_library;
mod process;
pub(crate) mod recycle;
mod run;
mod snapshot;
mod status;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ampoule_vmm::{Baseline, Hypervisor};

use crate::clock::Clock;
use crate::core_dump::CoreDump;
use crate::executable_memory::ExecutableMemory;
use crate::files::Files;
use crate::guest_memory::SharedMemory;
use crate::image::Executable;
use crate::input::Input;
use crate::limits::Limits;
use crate::loader::Execution;
use crate::machine::{Machine, MachineConfig, Shape, ToMap};
use crate::metrics::{Operation, Stopwatch};
use crate::platform::Platform;
use crate::policy::{Policy, RefusedCall};
use crate::profile::Profile;
use crate::spans;
use crate::terminal::Terminal;
use host_side::{HostSide, host_side_settings};
use process::Runner;

pub use error::{ProgramError, ResetError};
pub use idle::IdleProgram;
pub use missing_library::MissingLibrary;
pub use process::Process;
pub use run::ProgramRun;
pub use snapshot::{ProgramSnapshot, ProgramSpawn};
pub use status::ProgramStatus;

/// Settings of a program to be run in a micro-VM of its own: an ordinary Linux executable, which need not know of Ampoule. It has its arguments, its environment, its standard streams and the [files](Self::files) that it is granted, and
/// reaches nothing else: no network, no other processes.
///
/// ```no_run
/// use std::time::Duration;
///
/// use ampoule::{Input, Limits, Program};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let output = Program::new("/usr/bin/busybox")
///     .args(["sha256sum", "-"])
///     .stdin(Input::bytes("some text"))
///     .limits(Limits::new().deadline(Duration::from_secs(1)))
///     .run()?;
/// assert!(output.status.success());
/// println!("{}", String::from_utf8_lossy(&output.stdout));
/// # Ok(()) }
/// ```
///
/// What it may do is what the guests of a [`Sandbox`](crate::Sandbox) may: one thread, memory, clocks, random numbers, pipes
/// within the process. Standard input is read as a pipe.
#[must_use = "a program runs only when `run` or `start` is called"]
pub struct Program {
    source: Source,
    config: MachineConfig,
    platform: Platform,
    stdin: Input,
    files: Files,
    directory: PathBuf,
    terminal: Option<Terminal>,
    mapped: Vec<ToMap>,
    host: HostSide,
}

/// Where the executable is.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    Checked(Executable),
}

impl Program {
    /// The executable in this file, which is read when the program starts. Its first argument is the last part of the path.
    ///
    /// It is that of the [files](Self::files) that the program sees, if it is there, and else that of the host. Either way it may
    /// be linked dynamically, or be a script: what links or interprets it has to be among the program's files, as it is among
    /// [`Files::libraries`].
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Self::from_source(Source::File(path.to_owned()), path)
    }

    /// An executable that was checked before. What starts from one shares its pages.
    pub fn of(executable: &Executable) -> Self {
        Self::from_source(Source::Checked(executable.clone()), Path::new(executable.name()))
    }

    fn from_source(source: Source, path: &Path) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self {
            source,
            config: MachineConfig {
                program: None,
                interpreter: None,
                shape: Shape {
                    memory_limit: 256 << 20,
                    stack_size: 8 << 20,
                    executable_memory: ExecutableMemory::WriteXorExecute,
                    mapped_limit: 0,
                    shared: Some(SharedMemory::of_clocks()),
                },
                arguments: vec![name],
                environment: Default::default(),
                clock: Clock::Real,
                policy: Policy::all(),
                profile_memory: false,
                files: Files::of_none(),
            },
            platform: Platform::default(),
            stdin: Input::empty(),
            files: Files::none(),
            directory: "/".into(),
            terminal: None,
            mapped: Vec::new(),
            host: HostSide::new(Limits::new().output(16 << 20)),
        }
    }

    /// Sets the program's first argument, by which it knows itself.
    pub fn arg0(mut self, name: impl Into<String>) -> Self {
        self.config.arguments[0] = name.into();
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.config.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment, which is empty otherwise: nothing of the host's is passed on.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.environment.insert(name.into(), value.into());
        self
    }

    /// Which files the program sees. Default: [`Files::none`].
    pub fn files(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// The program's working directory, as it is called in the sandbox. Default: `/`.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Where standard input comes from. Default: it is empty.
    pub fn stdin(mut self, input: Input) -> Self {
        self.stdin = input;
        self
    }

    /// How much memory the program can have, in bytes; see [`Builder::memory_limit`](crate::Builder::memory_limit). The libraries
    /// and files that it maps count, whoever else maps them; what it does not touch takes nothing of the host.
    ///
    /// Default: 256 MiB. Range: 1 MiB to 32 GiB.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.config.shape.memory_limit = bytes;
        self
    }

    /// How far its stack may grow, in bytes; see [`Builder::stack_size`](crate::Builder::stack_size).
    ///
    /// Default: 8 MiB. Range: 64 KiB to 1 GiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.config.shape.stack_size = bytes;
        self
    }

    /// Whether the program may make code at run time, as just-in-time compilers and Python's `ctypes` do.
    ///
    /// Default: [`ExecutableMemory::WriteXorExecute`], unlike that of
    /// [`Builder::executable_memory`](crate::Builder::executable_memory).
    pub fn executable_memory(mut self, kind: ExecutableMemory) -> Self {
        self.config.shape.executable_memory = kind;
        self
    }

    /// Which time the program finds. Default: [`Clock::Real`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.config.clock = clock;
        self
    }

    /// Which groups of system calls the program has. Default: [`Policy::all`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.config.policy = policy;
        self
    }

    /// Lends the program a terminal: it is its standard input and output, its standard error unless [`stderr`](Self::stderr) is
    /// set, and `/dev/tty`. Otherwise the program has no terminal, and its standard streams are pipes, whatever the application
    /// reads and writes. [`Terminal`] says what that grants.
    ///
    /// A program with a terminal is one for its user, and does not come to rest
    /// ([`run_until_input`](Process::run_until_input)).
    ///
    /// ```no_run
    /// use ampoule::{Files, Program, Terminal};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let terminal = Terminal::inherit()?;
    /// Program::new("/usr/bin/python3").files(Files::libraries()).env("TERM", "xterm").terminal(terminal).run()?;
    /// # Ok(()) }
    /// ```
    pub fn terminal(mut self, terminal: Terminal) -> Self {
        self.terminal = Some(terminal);
        self
    }

    host_side_settings! {
        /// What the program may use up. Default: only output is limited, to 16 MiB, and stays so unless these limits set another
        /// value.
        limits,
        /// Samples the program so often, from its first instruction on: [`ProgramOutput::profile`] is where it was.
        ///
        /// A program that is run [until it waits for its input](Process::run_until_input) is sampled to the end of its first
        /// request.
        profile,
    }

    /// Uses this hypervisor instead of the platform's.
    pub fn hypervisor(mut self, hypervisor: Arc<dyn Hypervisor>) -> Self {
        self.platform.hypervisor = Some(hypervisor);
        self
    }

    /// Lets the program find no more of the processor than this; see [`Builder::baseline`](crate::Builder::baseline).
    pub fn baseline(mut self, baseline: Baseline) -> Self {
        self.platform.baseline = Some(baseline);
        self
    }

    /// Runs the program to its end, on the calling thread.
    ///
    /// # Errors
    /// A [`ProgramError`], where it could not be started, or where something else than itself has ended it.
    pub fn run(self) -> Result<ProgramOutput, ProgramError> {
        self.start()?.run()
    }

    /// Loads the program. It has not run yet.
    ///
    /// # Errors
    /// A [`ProgramError`]. Settings are checked before a virtual machine is created.
    pub fn start(self) -> Result<Process, ProgramError> {
        let image = match &self.source {
            Source::File(path) => path.to_string_lossy(),
            Source::Checked(executable) => executable.name().into(),
        };
        let span = spans::create(&image, self.config.shape.memory_limit).entered();
        let create = Stopwatch::start();
        let loaded = create.ended(Operation::Create, self.load());
        spans::failed(&span, &loaded);
        loaded
    }

    fn load(mut self) -> Result<Process, ProgramError> {
        self.config.shape.mapped_limit = self.mapped_limit();
        self.config.shape.check().map_err(ProgramError::Setting)?;
        let path = match &self.source {
            Source::File(path) => Some(path.as_path()),
            Source::Checked(_) => None,
        };
        self.config.files = self.files.mount(path, &self.directory)?;
        if let Some(terminal) = &self.terminal {
            self.config.files.terminal = self.host.lend(terminal);
            self.stdin = Input::of_terminal(terminal.shared());
        }
        let arguments = std::mem::take(&mut self.config.arguments);
        let execution = match &self.source {
            Source::File(path) => Execution::of_program(path, arguments, &mut self.config.files)?,
            Source::Checked(executable) => Execution::of_checked(executable, arguments),
        };
        let Execution { executable, path, interpreter, arguments } = execution;
        self.config.program = path;
        (self.config.interpreter, self.config.arguments) = (interpreter, arguments);
        let backend = self.platform.backend::<ProgramError>()?;
        let (streams, host) = self.host.open(&executable, self.stdin);
        let mut machine = Machine::new(&*backend, &executable, &self.config, streams)?;
        for to_map in self.mapped {
            to_map.map(&mut machine).map_err(ProgramError::Map)?;
        }
        if let Some(terminal) = self.terminal {
            terminal.used_by(machine.interruptor_mut().take_out());
        }
        Ok(Process(Runner::new(machine, executable, backend, host)?))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("source", &self.source).field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a program has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProgramOutput {
    /// How it has ended.
    pub status: ProgramStatus,
    /// What it has printed to standard output, unless that went [elsewhere](Program::stdout).
    pub stdout: Vec<u8>,
    /// What it has printed to standard error, unless that went [elsewhere](Program::stderr).
    pub stderr: Vec<u8>,
    /// What has become of its core dump, where it has died by a signal and [one was asked for](Program::core_dumps).
    pub core_dump: Option<CoreDump>,
    /// What was sampled, if [that was asked for](Program::profile).
    pub profile: Option<Profile>,
    /// The system calls that it has made and does not have. Most programs do without some: the C library asks at its start for
    /// what newer versions of Linux have.
    pub refused: Vec<RefusedCall>,
    /// The library without which its dynamic loader could not start it, where that is how it has ended.
    pub missing_library: Option<MissingLibrary>,
}

/// What a program had printed when it was ended. `{:?}` shows how much it is.
#[derive(Clone, Default)]
pub struct Printed {
    /// To standard output, unless that went [elsewhere](Program::stdout).
    pub stdout: Vec<u8>,
    /// To standard error, unless that went [elsewhere](Program::stderr).
    pub stderr: Vec<u8>,
}

impl fmt::Debug for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stdout, stderr } = self;
        write!(f, "Printed {{ stdout: {} bytes, stderr: {} bytes }}", stdout.len(), stderr.len())
    }
}
