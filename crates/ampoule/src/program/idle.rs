//! Programs that wait for their input.

use std::fmt;
use std::io::Write;

use ampoule_vmm::HypervisorError;

use super::process::Runner;
use super::{ProgramError, ProgramRun, ProgramSnapshot, ResetError};
use crate::core_dump::CoreDumpError;
use crate::input::Input;
use crate::interrupt::InterruptHandle;
use crate::machine::Stats;
use crate::metrics::{Operation, Stopwatch};
use crate::profile::{Frequency, ProfileError};
use crate::spans;
use crate::termination::Termination;

/// A program at rest: it has done everything that it does before its first request, and waits to read its standard input. Made
/// by [`Process::run_until_input`](crate::Process::run_until_input) or from a [`ProgramSnapshot`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ampoule::Program;
///
/// let mut idle = Program::new("./filter").arg("--rules=big.txt").start()?.run_until_input()?;
/// for request in ["one", "two"] {
///     let answer = idle.input(request).run()?;
///     println!("{}: {}", answer.status, String::from_utf8_lossy(&answer.stdout));
///     idle.reset()?; // to where it waits, with its rules read: the next request finds nothing of this one
/// }
/// # Ok(()) }
/// ```
///
/// A [`Pool`](crate::Pool) keeps such programs ready, and resets them.
pub struct IdleProgram {
    pub(super) runner: Runner,
    /// The state that a reset leads to.
    initial: ProgramSnapshot,
    pub(super) condition: Condition,
}

/// What an idle program is doing.
#[derive(Debug)]
pub(super) enum Condition {
    /// It waits for its input, and has had none since it was reset.
    Idle,
    /// The same after a part of its input.
    IdleAgain,
    /// It has ended, for this reason unless it has exited.
    Ended(Option<Termination>),
    /// It is between two instructions, because code of the application panicked.
    Panicked,
    /// Its state is unknown.
    Lost(ResetError),
}

impl IdleProgram {
    /// A program that has just come to rest.
    pub(super) fn at_rest(mut runner: Runner) -> Result<Self, ProgramError> {
        let initial = ProgramSnapshot::take(&mut runner)?;
        Ok(Self::of_snapshot(runner, initial))
    }

    /// A program that was made of this snapshot.
    pub(super) fn of_snapshot(runner: Runner, initial: ProgramSnapshot) -> Self {
        Self { runner, initial, condition: Condition::Idle }
    }

    /// Gives the program its input, with whose end its standard input ends. It does not run before [`ProgramRun::run`].
    pub fn input(&mut self, input: impl Into<Input>) -> ProgramRun<'_> {
        ProgramRun::new(self, input.into())
    }

    /// Remembers what the program is now: its memory, its registers, and what system calls have changed, in the middle of the
    /// one with which it waits.
    ///
    /// # Errors
    /// [`ProgramError::NotIdle`] or [`ProgramError::Reset`] where it does not wait for its input;
    /// [`ProgramError::Snapshot`], [`ProgramError::Hypervisor`].
    pub fn snapshot(&mut self) -> Result<ProgramSnapshot, ProgramError> {
        self.check()?;
        match self.condition {
            Condition::Idle => Ok(self.initial.clone()),
            _ => ProgramSnapshot::take(&mut self.runner),
        }
    }

    /// Goes back to where the program waited when this was made: when it first came to rest, or as the snapshot is from which
    /// it was spawned. Memory, registers and everything that system calls have changed are as they were then.
    ///
    /// The cost follows the pages that were written since, not the size of the program. Outputs keep their state.
    ///
    /// # Errors
    /// A [`ResetError`]; the program is then no longer usable.
    pub fn reset(&mut self) -> Result<(), ResetError> {
        let machine = &mut self.runner.machine;
        let span = spans::restore(machine.origin()).entered();
        let restore = Stopwatch::start();
        let restored = restore.ended(Operation::Restore, machine.restore(self.initial.checkpoint()));
        *machine.streams_mut().stdin_mut() = Input::later();
        let result = restored.map_err(ResetError::from);
        spans::failed(&span, &result);
        match result {
            Ok(pages) => {
                span.record("pages", pages);
                self.condition = Condition::Idle;
                Ok(())
            }
            Err(error) => {
                self.condition = Condition::Lost(error.clone());
                Err(error)
            }
        }
    }

    /// Whether it waits for its input. Otherwise it has to be [reset](Self::reset) before it can have another one.
    pub fn is_idle(&self) -> bool {
        matches!(self.condition, Condition::Idle | Condition::IdleAgain)
    }

    /// What messages and the log call it.
    pub fn name(&self) -> &str {
        self.runner.name()
    }

    /// A handle with which any thread can end the program while it runs. Handles can be made at any time and cloned.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.runner.machine.interrupt_handle()
    }

    /// Samples the program so often in its next runs, until one of them ends it: [`ProgramOutput::profile`] is where it was.
    /// What was sampled since an earlier call of this is dropped. See [`Sandbox::profile`](crate::Sandbox::profile).
    ///
    /// # Errors
    /// A [`ProfileError`]. The program is not sampled then, unless it was before.
    ///
    /// [`ProgramOutput::profile`]: crate::ProgramOutput::profile
    pub fn profile(&mut self, frequency: Frequency) -> Result<(), ProfileError> {
        Ok(self.runner.machine.profile(frequency)?)
    }

    /// Writes a core dump of the program as it is now, waiting for its input, or as it was when it ended; see
    /// [`Sandbox::core_dump`](crate::Sandbox::core_dump).
    ///
    /// # Errors
    /// [`CoreDumpError::Write`], [`CoreDumpError::Hypervisor`], and [`CoreDumpError::UnknownState`] after a reset that has
    /// failed. The program is as it was.
    pub fn core_dump(&mut self, mut sink: impl Write) -> Result<(), CoreDumpError> {
        let ended = match &self.condition {
            Condition::Lost(_) => return Err(CoreDumpError::UnknownState),
            Condition::Ended(cause) => cause.as_ref(),
            Condition::Idle | Condition::IdleAgain | Condition::Panicked => None,
        };
        self.runner.machine.core_dump(ended, u64::MAX, &mut sink).map(drop)
    }

    /// What the program has cost so far.
    ///
    /// # Errors
    /// Where the hypervisor cannot report which pages the program has written.
    pub fn stats(&mut self) -> Result<Stats, HypervisorError> {
        self.runner.machine.stats()
    }

    /// The snapshot that a reset leads to.
    pub(super) fn initial(&self) -> &ProgramSnapshot {
        &self.initial
    }

    /// Whether its state is unknown, or that of the application's code that it has run.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.condition, Condition::Panicked | Condition::Lost(_))
    }

    /// Refuses what takes a program that waits.
    pub(super) fn check(&mut self) -> Result<&mut Self, ProgramError> {
        let by_panic = match &self.condition {
            Condition::Idle | Condition::IdleAgain => return Ok(self),
            Condition::Ended(_) => false,
            Condition::Panicked => true,
            Condition::Lost(error) => return Err(error.clone().into()),
        };
        Err(ProgramError::NotIdle { program: self.name().to_owned(), by_panic })
    }
}

impl fmt::Debug for IdleProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleProgram")
            .field("name", &self.name())
            .field("condition", &self.condition)
            .finish_non_exhaustive()
    }
}
