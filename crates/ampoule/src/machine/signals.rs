//! Signals of the guest: it continues in its handlers, comes back from them, or ends.

use ampoule_vmm::{GuestVirt, Registers};

use super::Machine;
use crate::fault::{EndlessWait, Fault, FaultKind};
use crate::personality::{Personality, SignalEnd};
use crate::termination::Termination;

/// What the signals come to that are delivered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Delivered {
    /// None has an effect.
    Nothing,
    /// The guest continues in a handler.
    Handler,
    /// One of them ends the guest.
    End { signal: i32 },
}

/// A fault that the guest has been left to handle.
#[derive(Debug)]
pub(super) struct HandledFault {
    kind: FaultKind,
    /// Those of the code that has faulted. The stack is as it was while the handler runs.
    registers: Registers,
    /// Where the handler's frame is.
    frame: GuestVirt,
}

impl Machine {
    /// Delivers the signals that are to be before the guest goes on, where it stands: behind a system call with this result.
    #[cold]
    pub(super) fn deliver_signals(&mut self, result: Option<u64>) -> Result<Delivered, Termination> {
        let mut context = self.processor.save()?;
        if let Some(result) = result {
            context.set_result(result);
        }
        match self.process.deliver_signals(&mut context, &mut self.space) {
            Ok(false) => Ok(Delivered::Nothing),
            Ok(true) => {
                self.processor.load(&context)?;
                Ok(Delivered::Handler)
            }
            Err(SignalEnd::Ends { signal }) => Ok(Delivered::End { signal }),
            Err(end) => Err(self.ends_by(end)),
        }
    }

    /// Lets the guest go on with what a handler has interrupted.
    pub(super) fn return_from_signal(&mut self) -> Result<(), Termination> {
        let mut context = self.processor.save()?;
        let returned = self.process.return_from_signal(&mut context, &mut self.space);
        let frame = returned.map_err(|end| self.ends_by(end))?;
        if self.handled.as_ref().is_some_and(|handled| handled.frame <= frame) {
            self.handled = None;
        }
        self.processor.load(&context)?;
        Ok(())
    }

    /// Ends the guest by a fault, unless whoever traces it has it run again, or it has a handler for such faults. What led to a
    /// fault that is handled is not looked up: a runtime may make thousands of them.
    pub(super) fn faulted(&mut self, kind: FaultKind) -> Result<(), Termination> {
        if self.tracer.is_some() {
            match self.ends(self.fault(kind.clone())) {
                Err(Termination::Fault(_)) => {}
                resumed => return resumed,
            }
        }
        if !self.process.handles_fault(&kind) {
            return Err(self.fault(kind));
        }
        let registers = self.processor.registers();
        let mut context = self.processor.save()?;
        let Some(frame) = self.process.raise_fault(&kind, &mut context, &mut self.space) else {
            return Err(self.fault(kind));
        };
        self.trace_handled(&kind, registers.instruction_pointer());
        self.processor.load(&context)?;
        self.handled = Some(HandledFault { kind, registers, frame });
        Ok(())
    }

    /// The fault in whose handler the guest is.
    pub(super) fn fault_in_progress(&self) -> Option<Fault> {
        let HandledFault { kind, registers, frame } = self.handled.as_ref()?;
        let stack_pointer = self.processor.registers().stack_pointer();
        // Who has left the handler by a jump has another stack, or an older part of it.
        let depth = frame.0.checked_sub(stack_pointer)?;
        (depth <= MOST_OF_HANDLER).then(|| Fault::new(kind.clone(), self.position_at(*registers)))
    }

    /// What a guest has ended by that has faulted, if it has, and whose handler has shown that it was to end for this.
    pub(crate) fn fault_before(&self, end: Termination) -> Termination {
        self.fault_in_progress().map_or(end, Termination::from)
    }

    fn ends_by(&self, end: SignalEnd) -> Termination {
        self.fault(match end {
            SignalEnd::Ends { signal } => FaultKind::Aborted { signal },
            SignalEnd::Stops => FaultKind::Deadlocked(EndlessWait::Stopped),
            SignalEnd::NoRoom { signal, at } => FaultKind::SignalStack { signal, address: at.0 },
            SignalEnd::BadFrame { at } => FaultKind::SignalReturn { address: at.0 },
        })
    }
}

/// How much stack a handler uses that reports a fault and ends the guest, at most, in bytes.
const MOST_OF_HANDLER: u64 = 1 << 20;
