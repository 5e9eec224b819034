//! Programs: executables that nobody wrote for Ampoule, run once from their start to their end.

mod error;
mod status;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ampoule_vmm::{Backend, Hypervisor, VirtualMachines};
use tracing::level_filters::LevelFilter;

use crate::clock::Clock;
#[cfg(feature = "gdb")]
use crate::debugger::GdbServer;
use crate::guest_log::GuestLog;
use crate::guest_memory::SharedMemory;
use crate::image::Executable;
use crate::input::Input;
use crate::interrupt::InterruptHandle;
use crate::limits::Limits;
use crate::machine::{GuestStreams, Machine, MachineConfig, Served, Shape, Stop, Tracer};
use crate::output::{Captured, Origin, Output};
use crate::termination::Termination;
use crate::trace::Trace;

pub use error::ProgramError;
pub use status::ProgramStatus;

/// Settings of a program to be run in a micro-VM of its own: an ordinary static Linux executable, which need not know of
/// Ampoule. It has its arguments, its environment and its standard streams, and reaches nothing else: no files, no network, no
/// other processes.
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
/// within the process. The handlers of signals are not run, and standard input is read as a pipe.
#[must_use = "a program runs only when `run` or `start` is called"]
pub struct Program {
    source: Source,
    config: MachineConfig,
    hypervisor: Option<Arc<dyn Hypervisor>>,
    stdin: Input,
    /// Captured where it is not set.
    stdout: Option<Output>,
    stderr: Option<Output>,
    trace: Trace,
    limits: Limits,
    name: Option<String>,
    /// What runs the program, unless its machine does.
    tracer: Option<Box<dyn Tracer>>,
}

/// Where the executable is.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    Checked(Executable),
}

impl Program {
    /// The executable in this file, which is read when the program starts. Its first argument is the last part of the path.
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
                shape: Shape {
                    memory_limit: 64 << 20,
                    stack_size: 8 << 20,
                    executable_memory: false,
                    shared: Some(SharedMemory::of_clocks()),
                },
                arguments: vec![name],
                environment: Default::default(),
                clock: Clock::Real,
            },
            hypervisor: None,
            stdin: Input::empty(),
            stdout: None,
            stderr: None,
            trace: Trace::log(),
            limits: Limits::new().output(16 << 20),
            name: None,
            tracer: None,
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

    /// Where standard input comes from. Default: it is empty.
    pub fn stdin(mut self, input: Input) -> Self {
        self.stdin = input;
        self
    }

    /// Where standard output goes. Default: into [`ProgramOutput::stdout`].
    pub fn stdout(mut self, output: Output) -> Self {
        self.stdout = Some(output);
        self
    }

    /// Where standard error goes. Default: into [`ProgramOutput::stderr`].
    pub fn stderr(mut self, output: Output) -> Self {
        self.stderr = Some(output);
        self
    }

    /// Where lines go that show its system calls, from its first instruction on. Default: [`Trace::log`].
    pub fn trace(mut self, trace: Trace) -> Self {
        self.trace = trace;
        self
    }

    /// What the program may use up. Default: only output is limited, to 16 MiB, and stays so unless these limits set another
    /// value.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.or(self.limits);
        self
    }

    /// How much memory the program can have, in bytes; see [`Builder::memory_limit`](crate::Builder::memory_limit).
    ///
    /// Default: 64 MiB. Range: 1 MiB to 32 GiB.
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

    /// Lets the program make memory executable; see [`Builder::executable_memory`](crate::Builder::executable_memory).
    ///
    /// Default: not allowed.
    pub fn executable_memory(mut self, allowed: bool) -> Self {
        self.config.shape.executable_memory = allowed;
        self
    }

    /// Which time the program finds. Default: [`Clock::Real`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.config.clock = clock;
        self
    }

    /// What messages and the log call it. Default: the last part of its path, and a number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Uses this hypervisor instead of the platform's.
    pub fn hypervisor(mut self, hypervisor: Arc<dyn Hypervisor>) -> Self {
        self.hypervisor = Some(hypervisor);
        self
    }

    /// Lets a debugger attach to the program, which waits for it before its first instruction; see
    /// [`Builder::gdb`](crate::Builder::gdb).
    #[cfg(feature = "gdb")]
    pub fn gdb(mut self, server: GdbServer) -> Self {
        self.tracer = Some(server.into_tracer());
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
        self.config.shape.check().map_err(ProgramError::Setting)?;
        let executable = match self.source {
            Source::File(path) => Executable::from_file(path)?,
            Source::Checked(executable) => executable,
        };
        let hypervisor = match self.hypervisor {
            Some(hypervisor) => hypervisor,
            None => ampoule_vmm::default_hypervisor()?,
        };
        let captured = |output: Option<Output>| match output {
            Some(output) => (output, None),
            None => {
                // What may be printed is limited otherwise.
                let (output, captured) = Output::capture(usize::MAX);
                (output, Some(captured))
            }
        };
        let ((stdout, out), (stderr, err)) = (captured(self.stdout), captured(self.stderr));
        let origin = Origin::new(&executable, self.name);
        let mut streams =
            GuestStreams::new(stdout, stderr, GuestLog::new(LevelFilter::OFF), origin).with_stdin(self.stdin);
        streams.set_trace(self.trace);
        let backend = VirtualMachines::new(hypervisor);
        let mut machine = Machine::new(&backend, &executable, &self.config, streams)?;
        if let Some(tracer) = self.tracer {
            machine.trace(tracer, backend.behaviour());
        }
        Ok(Process { machine, limits: self.limits, captured: [out, err] })
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("source", &self.source).field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a program has done.
#[derive(Clone, Debug)]
pub struct ProgramOutput {
    /// How it has ended.
    pub status: ProgramStatus,
    /// What it has printed to standard output, unless that went [elsewhere](Program::stdout).
    pub stdout: Vec<u8>,
    /// What it has printed to standard error, unless that went [elsewhere](Program::stderr).
    pub stderr: Vec<u8>,
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

/// A program that is loaded and about to run; made by [`Program::start`].
pub struct Process {
    machine: Machine,
    limits: Limits,
    /// Standard output and standard error.
    captured: [Option<Captured>; 2],
}

impl Process {
    /// A handle with which any thread can end the program while it runs.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.machine.interrupt_handle()
    }

    /// What messages and the log call it.
    pub fn name(&self) -> &str {
        self.machine.origin().name()
    }

    /// Runs the program to its end, on the calling thread.
    ///
    /// # Errors
    /// As for [`Program::run`].
    pub fn run(mut self) -> Result<ProgramOutput, ProgramError> {
        let guard = self.machine.begin_call(self.limits)?;
        let ended = self.run_to_end();
        // A program that has ended is not ended by a limit that it would have reached later.
        let cause = match self.machine.end_call(guard, Err::<(), _>(ended)) {
            Err(cause) => cause,
            Ok(()) => unreachable!("it has ended"),
        };
        let [stdout, stderr] = self.captured.each_ref().map(|text| text.as_ref().map_or_else(Vec::new, Captured::take));
        match ProgramStatus::of(cause) {
            Ok(status) => Ok(ProgramOutput { status, stdout, stderr }),
            Err(cause) => Err(ProgramError::Terminated {
                program: self.name().to_owned(),
                cause,
                position: self.machine.ended_at(),
                printed: Printed { stdout, stderr },
            }),
        }
    }

    /// Why it has ended.
    fn run_to_end(&mut self) -> Termination {
        self.machine.answered();
        let ended = loop {
            match self.machine.run() {
                // The doorbell has no meaning for a program, and returns.
                Ok(Stop::Doorbell) => {}
                Ok(Stop::SystemCall(call)) => match self.machine.serve(&call) {
                    Ok(Served::Answered { .. }) => {}
                    Ok(Served::Abort { signal, handled }) => break self.machine.aborted(signal, handled, None),
                    Err(ended) => break ended,
                },
                Err(ended) => break ended,
            }
        };
        self.machine.ended(ended)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.name()).finish_non_exhaustive()
    }
}
