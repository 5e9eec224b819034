//! The run loop: what the processor's events mean.

use ampoule_vmm::processor::{BadReturn, End};
use ampoule_vmm::{Event, SystemCall};

use super::Machine;
use crate::fault::FaultKind;
use crate::mailbox::GuestMessage;
use crate::personality::{Outcome, Personality, Streams};
use crate::termination::Termination;

impl Machine {
    /// Runs the guest until it rings, serving its system calls. What it printed is passed on, however it ends.
    pub(crate) fn resume(&mut self) -> Result<GuestMessage, Termination> {
        self.process.answered();
        let mut outcome = self.run_until_doorbell();
        if let Err(termination) = &mut outcome {
            // It ended for another reason, which is the one to report.
            self.pass_on_output().ok();
            self.streams.flush();
            if let Termination::Fault(fault) = termination {
                let refused = self.space.ran_out_of_memory().then(|| self.space.memory_total());
                fault.add_circumstances(self.streams.last_of_stderr(), refused);
            }
        }
        outcome
    }

    fn run_until_doorbell(&mut self) -> Result<GuestMessage, Termination> {
        loop {
            self.interruptor.check().map_err(|interruption| self.budget.interrupted(interruption))?;
            if self.space.needs_flush() {
                self.processor.flush_translations()?;
                self.space.mark_flushed();
            }
            match self.processor.run()? {
                Event::Doorbell => {
                    self.pass_on_output()?;
                    return Ok(self.mailbox.receive()?);
                }
                Event::SystemCall(call) => {
                    self.pass_on_output()?;
                    self.system_call(&call)?;
                }
                Event::Interrupted => {}
                Event::PageFault(fault) => self.page_fault(fault)?,
                event => return Err(self.fault(fault_kind(event))),
            }
        }
    }

    /// Passes on what the guest has printed since this was last done. A guest that goes on waits in the doorbell or in a system
    /// call: where it is interrupted or faults it may be about to print, and not expect that something changes.
    fn pass_on_output(&mut self) -> Result<(), Termination> {
        let mut streams = self.streams.within(&mut self.budget);
        for record in self.mailbox.take_printed()? {
            let (to, text) = record?;
            if let Some(stream) = self.process.standard_stream(to)
                && streams.write(stream, text).is_err()
            {
                return Err(self.budget.output_exceeded().into());
            }
        }
        Ok(())
    }

    fn system_call(&mut self, call: &SystemCall) -> Result<(), Termination> {
        self.budget.system_call()?;
        let mut streams = self.streams.within(&mut self.budget);
        let mut space = self.space.watched(self.interruptor.watch());
        let outcome = self.process.system_call(call, &mut space, &mut streams);
        drop(space);
        let result = match outcome {
            Outcome::Return(result) => result,
            Outcome::SetThreadRegister { register, value } => {
                self.processor.set_thread_register(register, value)?;
                0
            }
            Outcome::Sleep { duration, result } => {
                let slept = self.interruptor.sleep(duration);
                slept.map_err(|interruption| self.budget.interrupted(interruption))?;
                result
            }
            Outcome::Exit { code } => return Err(self.fault(FaultKind::Exited { code })),
            Outcome::Abort { signal, handled } => return Err(self.aborted(signal, handled)),
            Outcome::Deadlock(wait) => return Err(self.fault(FaultKind::Deadlocked(wait))),
            Outcome::OutputLimit => return Err(self.budget.output_exceeded().into()),
        };
        self.processor
            .finish_system_call(result)
            .map_err(|BadReturn { address }| self.fault(FaultKind::SystemCallReturn { address: address.0 }))
    }
}

/// How the guest has ended by an event after which it does not go on.
fn fault_kind(event: Event) -> FaultKind {
    match event {
        Event::Exception(exception) => {
            FaultKind::Exception { vector: exception.vector, error_code: exception.error_code }
        }
        Event::Forged { port } => FaultKind::ForgedExit { port },
        Event::Ended(End::Shutdown) => FaultKind::Shutdown,
        Event::Ended(End::Unexpected(exit)) => FaultKind::UnexpectedExit { exit },
        _ => FaultKind::UnexpectedExit { exit: "an event that was not asked for" },
    }
}
