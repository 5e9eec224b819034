//! System calls that a guest makes by calling a function which is not there.

use ampoule_vmm::address_map::is_user_code;
use ampoule_vmm::{GuestVirt, SystemCall};

use super::Machine;
use crate::fault::FaultKind;
use crate::personality::{Outcome, Personality};
use crate::termination::Termination;

impl Machine {
    /// Serves the call, as if the function at this address had made the system call and returned its result. Returns whether
    /// there is such a function. The guest has just called it: its return address is on top of the stack.
    pub(super) fn call_by_address(&mut self, at: GuestVirt) -> Result<bool, Termination> {
        let Some(number) = self.process.called_by_address(at) else {
            return Ok(false);
        };
        self.budget.system_call()?;
        let registers = self.processor.registers();
        let stack_pointer = GuestVirt(registers.stack_pointer());
        let Ok(return_address) = self.space.read_u64(stack_pointer).map(GuestVirt) else {
            return Ok(false);
        };
        if !is_user_code(return_address.0) {
            return Err(self.fault(FaultKind::SystemCallReturn { address: return_address.0 }));
        }
        let call = SystemCall { number, arguments: registers.arguments() };
        let traced = self.trace_system_call(&call);
        let mut streams = self.streams.within(&mut self.budget);
        let Outcome::Return(result) = self.process.system_call(&call, &mut self.space, &mut streams) else {
            return Ok(false);
        };
        self.trace_result(traced, &call, Some(result));
        let mut context = self.processor.save()?;
        context.set_result(result);
        context.set_stack_pointer(GuestVirt(stack_pointer.0.wrapping_add(size_of::<u64>() as u64)));
        context.set_instruction_pointer(return_address);
        self.processor.load(&context)?;
        Ok(true)
    }
}
