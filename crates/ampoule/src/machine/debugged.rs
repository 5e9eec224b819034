//! The seam for what follows a guest from event to event, and may hold it in between: a debugger.
//!
//! A machine has no tracer as a rule, which costs it one branch for each run.

use ampoule_vmm::{Behaviour, Event, HypervisorError, Processor};

use super::Machine;
use super::budget::Budget;
use crate::address_space::AddressSpace;
use crate::fault::FaultKind;
use crate::image::Executable;
use crate::interrupt::{Interruptor, TakeOut};
use crate::metrics;
use crate::termination::Termination;

/// Runs a guest in place of its machine.
pub(crate) trait Tracer: Send {
    /// Learns which guest it is about, before that runs.
    fn begin(&mut self, subject: Subject);

    /// Runs the guest until something happens, as [`Processor::run`] does. [`Event::Interrupted`] means that it is to be run
    /// again, and is returned after each context that was loaded: whether the call is to end is looked at then.
    ///
    /// # Errors
    ///
    /// Why the guest does not continue.
    fn run(&mut self, guest: &mut Tracee<'_>) -> Result<Event, Termination>;

    /// Learns that the guest comes to an end in this way, where the last event has left it. Returns whether it is to be run
    /// again all the same, which it can be where the processor raised an exception.
    ///
    /// # Errors
    ///
    /// Why the guest does not continue, where that is something else by now.
    fn fault(&mut self, guest: &mut Tracee<'_>, kind: &FaultKind) -> Result<bool, Termination>;

    /// Learns that the guest has ended. It may be restored and run again.
    fn ended(&mut self, termination: &Termination);
}

/// What a tracer may know of its guest at any time.
#[derive(Debug)]
#[cfg_attr(not(feature = "gdb"), expect(dead_code, reason = "only a debugger reads it"))]
pub(crate) struct Subject {
    pub(crate) executable: Executable,
    pub(crate) behaviour: Behaviour,
    pub(crate) take_out: TakeOut,
}

/// A guest that its tracer runs.
#[cfg_attr(not(feature = "gdb"), expect(dead_code, reason = "only a debugger reads it"))]
pub(crate) struct Tracee<'machine> {
    pub(crate) processor: &'machine mut dyn Processor,
    pub(crate) space: &'machine mut AddressSpace,
    interruptor: &'machine Interruptor,
    budget: &'machine Budget,
    exits: &'machine mut metrics::Exits,
}

#[cfg_attr(not(feature = "gdb"), expect(dead_code, reason = "only a debugger uses it"))]
impl Tracee<'_> {
    /// Runs the guest until it has left the processor, and counts that it has.
    pub(crate) fn run(&mut self) -> Result<Event, HypervisorError> {
        let event = self.processor.run()?;
        self.exits.count(&event);
        Ok(event)
    }

    /// Whether the call may continue.
    pub(crate) fn check(&self) -> Result<(), Termination> {
        self.interruptor.check().map_err(|interruption| self.budget.interrupted(interruption))
    }

    /// Waits by `wait`, for which time the call's deadline stands still.
    pub(crate) fn without_deadline<R>(&mut self, wait: impl FnOnce(&mut Self) -> R) -> R {
        let interruptor = self.interruptor;
        interruptor.without_deadline(|| wait(self))
    }
}

impl Machine {
    /// Lets a tracer run the guest from now on.
    pub(crate) fn trace(&mut self, mut tracer: Box<dyn Tracer>, behaviour: Behaviour) {
        let take_out = self.interruptor.take_out();
        tracer.begin(Subject { executable: self.executable.clone(), behaviour, take_out });
        self.tracer = Some(tracer);
    }

    /// Runs the guest until it has left the processor.
    #[inline]
    pub(super) fn run_untraced(&mut self) -> Result<Event, Termination> {
        let event = self.processor.run()?;
        self.exits.count(&event);
        Ok(event)
    }

    /// Runs the guest as the tracer does, which counts how often it has left the processor.
    #[cold]
    pub(super) fn run_traced(&mut self) -> Result<Event, Termination> {
        match self.traced() {
            Some((tracer, mut guest)) => tracer.run(&mut guest),
            None => self.run_untraced(),
        }
    }

    /// Ends the guest in this way, unless its tracer has it run again.
    pub(super) fn ends(&mut self, termination: Termination) -> Result<(), Termination> {
        if let Termination::Fault(fault) = &termination
            && let Some((tracer, mut guest)) = self.traced()
            && tracer.fault(&mut guest, fault.kind())?
        {
            return Ok(());
        }
        Err(termination)
    }

    fn traced(&mut self) -> Option<(&mut dyn Tracer, Tracee<'_>)> {
        let Self { tracer, processor, space, interruptor, budget, exits, .. } = self;
        Some((&mut **tracer.as_mut()?, Tracee { processor: &mut **processor, space, interruptor, budget, exits }))
    }
}
