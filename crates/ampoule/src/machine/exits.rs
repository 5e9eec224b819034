//! The run loop: what the guest's exits mean.

use ampoule_vmm::x86_64::shim::{Trap, syscall_return};
use ampoule_vmm::{Exit, GuestVirt};

use super::Machine;
use crate::address_space::{FaultResolution, Location};
use crate::fault::{Fault, FaultAccess, FaultKind, FaultTarget};
use crate::image::{USER_END, USER_START};
use crate::limits::ExceededLimit;
use crate::mailbox::GuestMessage;
use crate::personality::{Outcome, Personality, SystemCall};
use crate::termination::{GuestPanic, Termination};

impl Machine {
    /// Runs the guest until it rings, serving its system calls.
    pub(crate) fn resume(&mut self) -> Result<GuestMessage, Termination> {
        let outcome = self.run_until_doorbell();
        if outcome.is_err() {
            self.streams.flush();
        }
        outcome
    }

    fn run_until_doorbell(&mut self) -> Result<GuestMessage, Termination> {
        loop {
            self.interruptor.check().map_err(|interruption| self.budget.interrupted(interruption))?;
            let port = match self.vcpu.run()? {
                Exit::IoOut { port, .. } => port,
                Exit::Interrupted => continue,
                Exit::IoIn { port, .. } => return Err(self.fault_here(FaultKind::ForgedExit { port })),
                Exit::Shutdown => return Err(self.fault_here(FaultKind::Shutdown)),
                exit => {
                    let exit = exit_name(&exit);
                    return Err(self.fault_here(FaultKind::UnexpectedExit { exit }));
                }
            };
            match Trap::identify(port, self.vcpu.regs().rip) {
                Ok(Trap::Doorbell) => return Ok(self.mailbox.receive()?),
                Ok(Trap::SystemCall) => self.system_call()?,
                Ok(Trap::Exception(vector)) => self.exception(vector)?,
                Err(_) => return Err(self.fault_here(FaultKind::ForgedExit { port })),
            }
        }
    }

    fn system_call(&mut self) -> Result<(), Termination> {
        let regs = self.vcpu.regs();
        let call =
            SystemCall { number: regs.rax, arguments: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] };
        self.budget.system_call()?;
        let mut streams = self.streams.within(&mut self.budget);
        let result = match self.process.system_call(&call, &mut self.space, &mut streams) {
            Outcome::Return(result) => result,
            Outcome::SetFsBase { base } => {
                let mut special = self.vcpu.special_regs()?;
                special.fs.base = base;
                self.vcpu.set_special_regs(&special)?;
                0
            }
            Outcome::SetGsBase { base } => {
                let mut special = self.vcpu.special_regs()?;
                special.gs.base = base;
                self.vcpu.set_special_regs(&special)?;
                0
            }
            Outcome::Sleep { duration, result } => {
                let slept = self.interruptor.sleep(duration);
                slept.map_err(|interruption| self.budget.interrupted(interruption))?;
                result
            }
            Outcome::Exit { code } => return Err(Termination::Exited { code }),
            Outcome::Abort { signal } => return Err(self.aborted(signal)),
            Outcome::Deadlock => return Err(Termination::Deadlocked),
            Outcome::OutputLimit => return Err(self.budget.output_exceeded().into()),
        };
        let resumed = syscall_return(&self.capabilities, &regs, result)
            .map_err(|bad| self.fault_here(FaultKind::SystemCallReturn { address: bad.rip }))?;
        self.vcpu.set_regs(&resumed);
        Ok(())
    }

    /// An abort, with the panic that led to it where the guest has left one.
    fn aborted(&self, signal: i32) -> Termination {
        match self.mailbox.staged_panic().map(GuestPanic::read) {
            Some(Ok(panic)) => Termination::Panicked(panic),
            Some(Err(violation)) => violation.into(),
            // An allocator that is refused memory aborts, as a rule.
            None if self.space.ran_out_of_memory() => ExceededLimit::Memory(self.space.memory_total()).into(),
            None => Termination::Aborted { signal },
        }
    }

    /// Turns an exception into the guest's end, unless it only makes the stack grow, or came because the processor had an
    /// older idea of the page tables.
    fn exception(&mut self, vector: u8) -> Result<(), Termination> {
        let frame = self.system.exception_frame(vector);
        let kind = if vector == PAGE_FAULT {
            let address = self.vcpu.special_regs()?.cr2;
            let access = fault_access(frame.error_code.unwrap_or(0));
            match self.space.resolve_fault(GuestVirt(address), access) {
                FaultResolution::Resume => return Ok(()),
                FaultResolution::OutOfMemory => return Err(ExceededLimit::Memory(self.space.memory_total()).into()),
                FaultResolution::Denied => {}
            }
            FaultKind::PageFault { address, access, target: self.fault_target(address) }
        } else {
            FaultKind::Exception { vector, error_code: frame.error_code }
        };
        Err(Termination::Fault(Fault { kind, instruction_pointer: frame.rip, stack_pointer: frame.rsp }))
    }

    /// A fault of the code that is running now, as opposed to one that an exception stub reports.
    fn fault_here(&self, kind: FaultKind) -> Termination {
        let regs = self.vcpu.regs();
        Termination::Fault(Fault { kind, instruction_pointer: regs.rip, stack_pointer: regs.rsp })
    }

    fn fault_target(&self, address: u64) -> FaultTarget {
        match self.space.describe(GuestVirt(address)) {
            Location::Mapped { protection, .. } => FaultTarget::Protected {
                readable: protection.is_readable(),
                writable: protection.is_writable(),
                executable: protection.is_executable(),
            },
            Location::StackGuard => FaultTarget::StackGuard,
            Location::Window { .. } => FaultTarget::Host,
            Location::Unmapped if address >= USER_END => FaultTarget::Host,
            Location::Unmapped if address < USER_START => FaultTarget::Null,
            Location::Unmapped => FaultTarget::Unmapped,
        }
    }
}

/// What a page fault's error code says of the access (AMD64 Architecture Programmer's Manual, volume 2, section 8.4.2).
fn fault_access(error_code: u64) -> FaultAccess {
    if error_code & FETCH != 0 {
        FaultAccess::Execute
    } else if error_code & WRITE != 0 {
        FaultAccess::Write
    } else {
        FaultAccess::Read
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

const PAGE_FAULT: u8 = 14;
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;
