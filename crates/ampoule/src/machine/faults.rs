//! Exceptions and other ends of the guest: what is reported of them.

use ampoule_symbols::Symbols;
use ampoule_vmm::address_map::{USER_END, USER_START};
use ampoule_vmm::processor::PageFault;
use ampoule_vmm::{FaultAccess, GuestVirt};

use super::Machine;
use crate::address_space::{FaultResolution, Location};
use crate::fault::{Fault, FaultKind, FaultTarget, GuestPanic, Position};
use crate::personality::Personality;
use crate::termination::Termination;

impl Machine {
    /// Turns a page fault into the guest's end, unless it only makes the stack grow, is a system call, or came because the
    /// processor had kept an older translation of the page.
    pub(super) fn page_fault(&mut self, fault: PageFault) -> Result<(), Termination> {
        let PageFault { address, access, by_own_denial } = fault;
        if access == FaultAccess::Execute && self.call_by_address(address)? {
            return Ok(());
        }
        let kind = match self.space.resolve_fault(address, access) {
            // A retry would not help: the guest has denied itself the access, which its pages allow.
            FaultResolution::Resume if by_own_denial => self.denied(address, access),
            FaultResolution::Resume => return Ok(()),
            FaultResolution::OutOfMemory => FaultKind::OutOfMemory { limit: self.space.memory_total(), panic: None },
            FaultResolution::Denied => self.denied(address, access),
        };
        Err(self.fault(kind))
    }

    /// An abort, with the panic or the shortage of memory that led to it.
    pub(crate) fn aborted(&mut self, signal: i32, handled: bool, panic: Option<GuestPanic>) -> Termination {
        let kind = match panic {
            panic if self.process.aborts_for_memory(&self.streams.within(&mut self.budget)) => {
                FaultKind::OutOfMemory { limit: self.space.memory_total(), panic }
            }
            Some(panic) => FaultKind::Panicked(panic),
            None if handled => FaultKind::HandlerNotRun { signal },
            None => FaultKind::Aborted { signal },
        };
        let aborted = self.fault(kind);
        self.ends(aborted.clone()).err().unwrap_or(aborted)
    }

    /// A fault of the code that made the last event.
    pub(super) fn fault(&self, kind: FaultKind) -> Termination {
        Fault::new(kind, self.position()).into()
    }

    /// Where the guest is.
    pub(super) fn position(&self) -> Position {
        let registers = self.processor.registers();
        let symbols = Symbols::new(self.executable.file(), self.executable.bias());
        let mut memory = |at, into: &mut [u8]| self.space.read(GuestVirt(at), into).is_ok();
        let stack =
            symbols.walk(&ampoule_symbols::Registers::named(|name| registers.get(name)), &mut memory, MAX_CALLS);
        Position::new(registers, stack, self.executable.clone())
    }

    fn denied(&self, address: GuestVirt, access: FaultAccess) -> FaultKind {
        let stack_pointer = GuestVirt(self.processor.registers().stack_pointer());
        if self.space.is_stack_overflow(address, stack_pointer) {
            return FaultKind::StackOverflow { address: address.0 };
        }
        let target = match self.space.describe(address) {
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
        FaultKind::PageFault { address: address.0, access, target }
    }
}

/// The most calls of a backtrace, before inlined ones are told apart.
const MAX_CALLS: usize = 64;
