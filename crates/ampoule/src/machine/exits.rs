//! The run loop: what the guest's exits mean.

use ampoule_vmm::Exit;
use ampoule_vmm::x86_64::registers::SpecialRegs;
use ampoule_vmm::x86_64::shim::{Trap, syscall_return};

use super::{Machine, SYSTEM_SLOT};
use crate::fault::FaultKind;
use crate::mailbox::GuestMessage;
use crate::personality::{Outcome, Personality, Streams, SystemCall};
use crate::termination::Termination;

impl Machine {
    /// Runs the guest until it rings, serving its system calls. What it printed is passed on, however it ends.
    pub(crate) fn resume(&mut self) -> Result<GuestMessage, Termination> {
        self.at_rest = false;
        self.resumes = None;
        self.process.answered();
        let mut outcome = self.run_until_doorbell();
        match &mut outcome {
            Ok(_) => self.at_rest = true,
            Err(termination) => {
                // It ended for another reason, which is the one to tell.
                self.pass_on_output().ok();
                self.streams.flush();
                if let Termination::Fault(fault) = termination {
                    let refused = self.space.ran_out_of_memory().then(|| self.space.memory_total());
                    fault.add_circumstances(self.streams.last_of_stderr(), refused);
                }
            }
        }
        outcome
    }

    fn run_until_doorbell(&mut self) -> Result<GuestMessage, Termination> {
        loop {
            self.interruptor.check().map_err(|interruption| self.budget.interrupted(interruption))?;
            if self.space.needs_flush() {
                self.vm.flush_translations(SYSTEM_SLOT)?;
                self.space.mark_flushed();
            }
            let port = match self.vcpu.run()? {
                Exit::IoOut { port, .. } => port,
                Exit::Interrupted => continue,
                Exit::IoIn { port, .. } => return Err(self.fault(FaultKind::ForgedExit { port })),
                Exit::Shutdown => return Err(self.fault(FaultKind::Shutdown)),
                exit => {
                    let exit = exit_name(&exit);
                    return Err(self.fault(FaultKind::UnexpectedExit { exit }));
                }
            };
            match Trap::identify(port, self.vcpu.regs().rip) {
                Ok(Trap::Doorbell) => {
                    self.pass_on_output()?;
                    return Ok(self.mailbox.receive()?);
                }
                Ok(Trap::SystemCall) => {
                    self.pass_on_output()?;
                    self.system_call()?;
                }
                Ok(Trap::Exception(vector)) => self.exception(vector)?,
                Err(_) => return Err(self.fault(FaultKind::ForgedExit { port })),
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

    fn system_call(&mut self) -> Result<(), Termination> {
        let regs = self.vcpu.regs();
        let call =
            SystemCall { number: regs.rax, arguments: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] };
        self.budget.system_call()?;
        let mut streams = self.streams.within(&mut self.budget);
        let mut space = self.space.watched(self.interruptor.watch());
        let outcome = self.process.system_call(&call, &mut space, &mut streams);
        drop(space);
        let result = match outcome {
            Outcome::Return(result) => result,
            Outcome::SetFsBase { base } => self.set_special_regs(|special| special.fs.base = base)?,
            Outcome::SetGsBase { base } => self.set_special_regs(|special| special.gs.base = base)?,
            Outcome::Sleep { duration, result } => {
                let slept = self.interruptor.sleep(duration);
                slept.map_err(|interruption| self.budget.interrupted(interruption))?;
                result
            }
            Outcome::Exit { code } => return Err(self.fault_in_system_call(FaultKind::Exited { code })),
            Outcome::Abort { signal, handled } => return Err(self.aborted(signal, handled)),
            Outcome::Deadlock(wait) => return Err(self.fault_in_system_call(FaultKind::Deadlocked(wait))),
            Outcome::OutputLimit => return Err(self.budget.output_exceeded().into()),
        };
        let resumed = syscall_return(&self.capabilities, &regs, result)
            .map_err(|bad| self.fault(FaultKind::SystemCallReturn { address: bad.rip }))?;
        self.vcpu.set_regs(&resumed);
        Ok(())
    }

    /// Changes special registers for a system call that gives 0.
    fn set_special_regs(&mut self, change: impl FnOnce(&mut SpecialRegs)) -> Result<u64, Termination> {
        let mut special = self.vcpu.special_regs()?;
        change(&mut special);
        self.vcpu.set_special_regs(&special)?;
        Ok(0)
    }
}

fn exit_name(exit: &Exit<'_>) -> &'static str {
    match exit {
        Exit::MmioRead { .. } => "read of memory that does not exist",
        Exit::MmioWrite { .. } => "write to memory that does not exist",
        Exit::Halt => "halt",
        Exit::FailEntry { .. } => "the processor refused the guest's state",
        Exit::InternalError { .. } => "the hypervisor cannot emulate the guest's instruction",
        _ => "unknown",
    }
}
