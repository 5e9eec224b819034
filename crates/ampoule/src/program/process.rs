//! Programs that are loaded, and how they are run until they end or wait for their input.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use ampoule_vmm::Backend;

use super::host_side::Attached;
use super::missing_library::LOADER_FAILED;
use super::{IdleProgram, MissingLibrary, Printed, ProgramError, ProgramOutput, ProgramStatus};
use crate::core_dump::{CoreDump, CoreDumpError, CoreDumps};
use crate::fault::FaultKind;
use crate::image::Executable;
use crate::interrupt::{InterruptHandle, LimitsUnwatched};
use crate::limits::Limits;
use crate::machine::{Machine, Served, Stop};
use crate::metrics::{RunMeter, SandboxMeter};
use crate::output::Captured;
use crate::profile::{Profile, ProfileError};
use crate::spans;
use crate::termination::Termination;

/// A program that is loaded and about to run; made by [`Program::start`](crate::Program::start).
pub struct Process(pub(super) Runner);

impl Process {
    /// A handle with which any thread can end the program while it runs.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.0.machine.interrupt_handle()
    }

    /// What messages and the log call it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Runs the program to its end, on the calling thread.
    ///
    /// # Errors
    /// As for [`Program::run`](crate::Program::run).
    pub fn run(mut self) -> Result<ProgramOutput, ProgramError> {
        match self.0.run(Limits::new())? {
            Pause::Ended(cause) => self.0.report(cause),
            Pause::AwaitsInput => unreachable!("its input has an end"),
        }
    }

    /// Runs the program, on the calling thread, until it waits to read its standard input: by `read` or `readv`, to which a
    /// program comes that waits by `poll` and its kin too, since these find the input readable. What
    /// [`Program::stdin`](crate::Program::stdin) gives comes before that, and has no end.
    /// What the program prints until then is dropped, unless it goes [elsewhere](crate::Program::stdout).
    ///
    /// # Errors
    /// [`ProgramError::EndedBeforeInput`] where the program ends without having waited, and [`ProgramError::Terminated`] where
    /// something else ends it: a [deadline](Limits::deadline) ends one that never waits.
    pub fn run_until_input(mut self) -> Result<IdleProgram, ProgramError> {
        self.0.machine.streams_mut().stdin_mut().comes_later();
        match self.0.run(Limits::new())? {
            Pause::AwaitsInput => {
                self.0.printed();
                IdleProgram::at_rest(self.0)
            }
            Pause::Ended(cause) => Err(self.0.ended_before_input(cause)),
        }
    }

    /// Writes a core dump of the program as it is now, about to execute its first instruction; see
    /// [`Sandbox::core_dump`](crate::Sandbox::core_dump).
    ///
    /// # Errors
    /// [`CoreDumpError::Write`], [`CoreDumpError::Hypervisor`].
    pub fn core_dump(&mut self, mut sink: impl Write) -> Result<(), CoreDumpError> {
        self.0.machine.core_dump(None, u64::MAX, &mut sink).map(drop)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// A program in its machine, with the host's side of it.
pub(super) struct Runner {
    pub(super) machine: Machine,
    pub(super) executable: Executable,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) limits: Limits,
    /// Standard output and standard error.
    captured: [Option<Captured>; 2],
    core_dumps: Option<CoreDumps>,
    meter: SandboxMeter,
}

/// Why a program does not run.
pub(super) enum Pause {
    /// It waits for its input, of which there is nothing yet.
    AwaitsInput,
    /// It has ended.
    Ended(Termination),
}

impl Pause {
    /// Why it has ended, if it has.
    fn cause(&self) -> Option<&Termination> {
        match self {
            Self::AwaitsInput => None,
            Self::Ended(cause) => Some(cause),
        }
    }
}

impl Runner {
    pub(super) fn new(
        mut machine: Machine,
        executable: Executable,
        backend: Arc<dyn Backend>,
        host: Attached,
    ) -> Result<Self, ProfileError> {
        let Attached { captured, limits, core_dumps, profile, tracer } = host;
        if let Some(tracer) = tracer {
            machine.trace(tracer, backend.behaviour());
        }
        if let Some(frequency) = profile {
            machine.profile(frequency)?;
        }
        let meter = SandboxMeter::of(|| machine.memory_pages());
        Ok(Self { machine, executable, backend, limits, captured, core_dumps, meter })
    }

    pub(super) fn name(&self) -> &str {
        self.machine.origin().name()
    }

    /// Runs the program until it ends or waits for its input, within its limits, where these set none.
    pub(super) fn run(&mut self, limits: Limits) -> Result<Pause, LimitsUnwatched> {
        let span = spans::run(self.machine.origin()).entered();
        let meter = RunMeter::begin();
        let paused = self.run_within(limits);
        let result = paused.as_ref().map(Pause::cause);
        meter.ended(&result);
        match result {
            Ok(None) => {}
            Ok(Some(cause)) => spans::ended(&span, cause),
            Err(error) => spans::failed::<(), _>(&span, &Err(error)),
        }
        let Self { machine, meter, .. } = self;
        meter.sample(|| machine.memory_pages());
        paused
    }

    fn run_within(&mut self, limits: Limits) -> Result<Pause, LimitsUnwatched> {
        let guard = self.machine.begin_call(limits.or(self.limits))?;
        let paused = self.run_to_pause();
        // A program that has ended is not ended by a limit that it would have reached later.
        Ok(match self.machine.end_call(guard, paused) {
            Ok(()) => Pause::AwaitsInput,
            Err(cause) => Pause::Ended(cause),
        })
    }

    /// Runs the program until it waits for its input.
    fn run_to_pause(&mut self) -> Result<(), Termination> {
        self.machine.answered();
        let ended = loop {
            match self.machine.run() {
                // The doorbell has no meaning for a program, and returns.
                Ok(Stop::Doorbell) => {}
                Ok(Stop::SystemCall(call)) => match self.machine.serve(&call) {
                    Ok(Served::Answered { .. } | Served::Again) => {}
                    Ok(Served::AwaitsInput) => return Ok(()),
                    Ok(Served::Abort { signal }) => break self.machine.aborted(signal, None),
                    Err(ended) => break ended,
                },
                Err(ended) => break ended,
            }
        };
        Err(self.machine.ended(ended))
    }

    /// What it has printed since this was last asked.
    pub(super) fn printed(&self) -> Printed {
        let [stdout, stderr] = self.captured.each_ref().map(|text| text.as_ref().map_or_else(Vec::new, Captured::take));
        Printed { stdout, stderr }
    }

    /// What it has done, which has ended.
    pub(super) fn report(&mut self, cause: Termination) -> Result<ProgramOutput, ProgramError> {
        let (core_dump, profile) = (self.core_dump(&cause), self.machine.take_profile());
        let printed = self.printed();
        match ProgramStatus::of(cause) {
            Ok(status) => {
                let Printed { stdout, stderr } = printed;
                let refused = self.machine.refused();
                let is_failed_start = self.executable.interpreter().is_some() && status.code() == Some(LOADER_FAILED);
                let last_words = is_failed_start.then(|| self.machine.streams().last_of_stderr().0);
                let missing_library = last_words.and_then(MissingLibrary::reported_in);
                Ok(ProgramOutput { status, stdout, stderr, core_dump, profile, refused, missing_library })
            }
            Err(cause) => Err(self.terminated(cause, printed, core_dump, profile)),
        }
    }

    /// Why it does not wait for its input, but has ended.
    pub(super) fn ended_before_input(&mut self, cause: Termination) -> ProgramError {
        match self.report(cause) {
            Ok(output) => ProgramError::EndedBeforeInput { program: self.name().to_owned(), output: Box::new(output) },
            Err(error) => error,
        }
    }

    fn terminated(
        &self,
        cause: Termination,
        printed: Printed,
        core_dump: Option<CoreDump>,
        profile: Option<Profile>,
    ) -> ProgramError {
        ProgramError::Terminated {
            program: self.name().to_owned(),
            cause,
            position: self.machine.ended_at(),
            printed: Box::new(printed),
            core_dump,
            profile: profile.map(Box::new),
        }
    }

    /// A core dump of a program that has ended for this reason, if one is wanted: not of one that has exited.
    fn core_dump(&mut self, cause: &Termination) -> Option<CoreDump> {
        let has_exited = matches!(cause, Termination::Fault(fault) if matches!(fault.kind(), FaultKind::Exited { .. }));
        let dumps = self.core_dumps.as_ref().filter(|_| !has_exited);
        self.machine.dump_ended(dumps, cause)
    }
}
