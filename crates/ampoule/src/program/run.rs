//! One run of a program that waits for its input.

use std::mem;
use std::time::Duration;

use super::idle::Condition;
use super::process::Pause;
use super::{IdleProgram, Printed, ProgramError, ProgramOutput};
use crate::fault::FaultKind;
use crate::input::Input;
use crate::limits::Limits;
use crate::termination::Termination;

/// A run of a program that waits for its input; made by [`IdleProgram::input`].
#[must_use = "a program has its input when it runs"]
pub struct ProgramRun<'program> {
    program: &'program mut IdleProgram,
    input: Input,
    limits: Limits,
}

impl<'program> ProgramRun<'program> {
    pub(super) fn new(program: &'program mut IdleProgram, input: Input) -> Self {
        Self { program, input, limits: Limits::new() }
    }

    /// Limits of this run; where these set none, the program's apply.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How much wall-clock time this run may take; see [`Limits::deadline`].
    pub fn deadline(mut self, time: Duration) -> Self {
        self.limits = self.limits.deadline(time);
        self
    }

    /// Runs the program to its end, on the calling thread.
    ///
    /// # Errors
    /// [`ProgramError::Terminated`] where something else than itself has ended it; [`ProgramError::NotIdle`] and
    /// [`ProgramError::Reset`] where it does not wait for its input; [`ProgramError::LimitsUnwatched`].
    pub fn run(mut self) -> Result<ProgramOutput, ProgramError> {
        match self.turn()? {
            Pause::Ended(cause) => self.program.runner.report(cause),
            Pause::AwaitsInput => unreachable!("its input has an end"),
        }
    }

    /// Runs the program until it has taken all of its input, which has no end, and waits for more of it: what it has printed.
    ///
    /// # Errors
    /// As for [`run`](Self::run), and [`ProgramError::EndedBeforeInput`] where the program ends.
    pub fn run_until_input(mut self) -> Result<Printed, ProgramError> {
        self.input.comes_later();
        match self.turn()? {
            Pause::AwaitsInput => Ok(self.program.runner.printed()),
            Pause::Ended(cause) => Err(self.program.runner.ended_before_input(cause)),
        }
    }

    fn turn(&mut self) -> Result<Pause, ProgramError> {
        let IdleProgram { runner, condition, .. } = &mut *self.program.check()?;
        // Where a run has panicked, nobody has taken it.
        runner.printed();
        *runner.machine.streams_mut().stdin_mut() = mem::take(&mut self.input);
        let before = mem::replace(condition, Condition::Panicked);
        let paused = runner.run(self.limits);
        *condition = match &paused {
            Ok(Pause::AwaitsInput) => Condition::IdleAgain,
            Ok(Pause::Ended(Termination::Fault(fault))) if matches!(fault.kind(), FaultKind::Exited { .. }) => {
                Condition::Ended(None)
            }
            Ok(Pause::Ended(cause)) => Condition::Ended(Some(cause.clone())),
            // It has not run.
            Err(_) => before,
        };
        Ok(paused?)
    }
}
