//! Exceptions and other ends of the guest: what is reported of them.

use ampoule_vmm::GuestVirt;
use ampoule_vmm::x86_64::registers::Regs;

use super::Machine;
use crate::address_space::{FaultResolution, Location};
use crate::fault::{Fault, FaultAccess, FaultKind, FaultTarget, GuestPanic};
use crate::image::{USER_END, USER_START};
use crate::loader;
use crate::personality::Personality;
use crate::symbols::Symbols;
use crate::termination::Termination;

impl Machine {
    /// Turns an exception into the guest's end, unless it only makes the stack grow, or came because the processor had an
    /// older idea of the page tables.
    pub(super) fn exception(&mut self, vector: u8) -> Result<(), Termination> {
        let frame = self.system.exception_frame(vector);
        let registers = Regs { rip: frame.rip, rsp: frame.rsp, rflags: frame.rflags, ..self.vcpu.regs() };
        let kind = if vector == PAGE_FAULT {
            let address = self.vcpu.special_regs()?.cr2;
            let error_code = frame.error_code.unwrap_or(0);
            let access = fault_access(error_code);
            match self.space.resolve_fault(GuestVirt(address), access) {
                // To try again would not help: the guest itself has denied the access, which its page tables allow.
                FaultResolution::Resume if error_code & PROTECTION_KEY != 0 => self.page_fault(address, access),
                FaultResolution::Resume => return Ok(()),
                FaultResolution::OutOfMemory => {
                    FaultKind::OutOfMemory { limit: self.space.memory_total(), panic: None }
                }
                FaultResolution::Denied => self.page_fault(address, access),
            }
        } else {
            FaultKind::Exception { vector, error_code: frame.error_code }
        };
        Err(self.fault_at(kind, registers))
    }

    /// An abort, with the panic or the shortage of memory that led to it.
    pub(super) fn aborted(&mut self, signal: i32, handled: bool) -> Termination {
        let panic = match self.mailbox.staged_panic().map(GuestPanic::read).transpose() {
            Ok(panic) => panic,
            Err(violation) => return violation.into(),
        };
        let kind = match panic {
            panic if self.process.aborts_for_memory(&self.streams.within(&mut self.budget)) => {
                FaultKind::OutOfMemory { limit: self.space.memory_total(), panic }
            }
            Some(panic) => FaultKind::Panicked(panic),
            None if handled => FaultKind::HandlerNotRun { signal },
            None => FaultKind::Aborted { signal },
        };
        self.fault_in_system_call(kind)
    }

    /// A fault of the code that made the last exit itself, not through a stub.
    pub(super) fn fault(&self, kind: FaultKind) -> Termination {
        self.fault_at(kind, self.vcpu.regs())
    }

    /// A fault of the code that made the system call being served.
    pub(super) fn fault_in_system_call(&self, kind: FaultKind) -> Termination {
        let regs = self.vcpu.regs();
        self.fault_at(kind, Regs { rip: regs.rcx, rflags: regs.r11, ..regs })
    }

    fn fault_at(&self, kind: FaultKind, registers: Regs) -> Termination {
        let symbols = Symbols::new(self.image.file(), loader::bias(&self.image));
        let mut memory = |at: GuestVirt, into: &mut [u8]| self.space.read(at, into).is_ok();
        let stack = symbols.walk(&registers, &mut memory, MAX_CALLS);
        Fault::new(kind, registers, stack, self.image.clone()).into()
    }

    fn page_fault(&self, address: u64, access: FaultAccess) -> FaultKind {
        let target = match self.space.describe(GuestVirt(address)) {
            Location::StackGuard => return FaultKind::StackOverflow { address },
            Location::Mapped { protection, .. } => FaultTarget::Protected {
                readable: protection.is_readable(),
                writable: protection.is_writable(),
                executable: protection.is_executable(),
            },
            Location::Window { .. } => FaultTarget::Host,
            Location::Unmapped if address >= USER_END => FaultTarget::Host,
            Location::Unmapped if address < USER_START => FaultTarget::Null,
            Location::Unmapped => FaultTarget::Unmapped,
        };
        FaultKind::PageFault { address, access, target }
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

/// The most calls of a backtrace, before inlined ones are told apart.
const MAX_CALLS: usize = 64;

const PAGE_FAULT: u8 = 14;
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;
const PROTECTION_KEY: u64 = 1 << 5;
