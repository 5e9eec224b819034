//! The host's side of a program, however the program is made: outputs, limits, and what looks at it.

use tracing::level_filters::LevelFilter;

use crate::core_dump::CoreDumps;
use crate::guest_log::GuestLog;
use crate::image::Executable;
use crate::input::Input;
use crate::limits::Limits;
use crate::machine::{GuestStreams, Tracer};
use crate::output::{Captured, Origin, Output};
use crate::personality::linux::TerminalStreams;
use crate::profile::Frequency;
use crate::terminal::Terminal;
use crate::trace::Trace;

/// Settings of the host's side of a new program.
pub(super) struct HostSide {
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    pub(super) trace: Trace,
    pub(super) name: Option<String>,
    pub(super) core_dumps: Option<CoreDumps>,
    pub(super) profile: Option<Frequency>,
    /// What runs the program, unless its machine does.
    pub(super) tracer: Option<Box<dyn Tracer>>,
    limits: Limits,
}

/// The methods by which a builder sets its `host`. Those whose meaning depends on the builder have their documentation from it.
macro_rules! host_side_settings {
    ($(#[$limits:meta])* limits, $(#[$profile:meta])* profile,) => {
        /// Where standard output goes. Default: into [`ProgramOutput::stdout`](crate::ProgramOutput::stdout).
        pub fn stdout(mut self, output: $crate::Output) -> Self {
            self.host.stdout = Some(output);
            self
        }

        /// Where standard error goes. Default: into [`ProgramOutput::stderr`](crate::ProgramOutput::stderr).
        pub fn stderr(mut self, output: $crate::Output) -> Self {
            self.host.stderr = Some(output);
            self
        }

        /// Where lines go that show its system calls, from its first instruction on. Default: [`Trace::log`](crate::Trace::log).
        pub fn trace(mut self, trace: $crate::Trace) -> Self {
            self.host.trace = trace;
            self
        }

        $(#[$limits])*
        pub fn limits(mut self, limits: $crate::Limits) -> Self {
            self.host.set_limits(limits);
            self
        }

        /// Where core dumps go of a program that dies by a signal, or is ended by a limit or a kill. Default: there are none.
        pub fn core_dumps(mut self, dumps: $crate::CoreDumps) -> Self {
            self.host.core_dumps = Some(dumps);
            self
        }

        $(#[$profile])*
        pub fn profile(mut self, frequency: $crate::Frequency) -> Self {
            self.host.profile = Some(frequency);
            self
        }

        /// What messages and the log call it. Default: the last part of its path, and a number.
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.host.name = Some(name.into());
            self
        }

        /// Lets a debugger attach to the program, which waits for it before its first instruction, or in a copy before it goes on;
        /// see [`Builder::gdb`](crate::Builder::gdb).
        #[cfg(feature = "gdb")]
        pub fn gdb(mut self, server: $crate::GdbServer) -> Self {
            self.host.tracer = Some(server.into_tracer());
            self
        }
    };
}

pub(super) use host_side_settings;

/// What of them stays, beside the streams of the machine.
pub(super) struct Attached {
    /// Standard output and standard error.
    pub(super) captured: [Option<Captured>; 2],
    pub(super) limits: Limits,
    pub(super) core_dumps: Option<CoreDumps>,
    pub(super) profile: Option<Frequency>,
    pub(super) tracer: Option<Box<dyn Tracer>>,
}

impl HostSide {
    /// These limits, outputs that are captured, and nobody who looks.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            stdout: None,
            stderr: None,
            trace: Trace::log(),
            name: None,
            core_dumps: None,
            profile: None,
            tracer: None,
            limits,
        }
    }

    /// Sets limits; those that are not set here stay as they are.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits.or(self.limits);
    }

    /// Has what is printed go to a terminal, but for standard error where that is set, and says what that comes to.
    pub(super) fn lend(&mut self, terminal: &Terminal) -> TerminalStreams {
        self.stdout = Some(Output::writer(terminal.shared()));
        if self.stderr.is_some() {
            return TerminalStreams::InputAndOutput;
        }
        self.stderr = Some(Output::writer(terminal.shared()));
        TerminalStreams::All
    }

    /// What a program of this executable is made with, which reads this input.
    pub(super) fn open(self, executable: &Executable, stdin: Input) -> (GuestStreams, Attached) {
        let Self { stdout, stderr, trace, name, core_dumps, profile, tracer, limits } = self;
        let ((stdout, out), (stderr, err)) = (captured(stdout), captured(stderr));
        let origin = Origin::new(executable, name);
        let mut streams = GuestStreams::new(stdout, stderr, GuestLog::new(LevelFilter::OFF), origin).of_program(stdin);
        streams.set_trace(trace);
        (streams, Attached { captured: [out, err], limits, core_dumps, profile, tracer })
    }
}

/// An output, and what was printed where it goes nowhere else.
fn captured(output: Option<Output>) -> (Output, Option<Captured>) {
    match output {
        Some(output) => (output, None),
        None => {
            // What may be printed is limited otherwise.
            let (output, captured) = Output::capture(usize::MAX);
            (output, Some(captured))
        }
    }
}
