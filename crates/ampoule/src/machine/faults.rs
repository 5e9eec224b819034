//! Exceptions and other ends of the guest: what is reported of them.

use std::ops::Range;

use ampoule_symbols::{CallStack, Symbols, walk};
use ampoule_vmm::address_map::{USER_END, USER_START};
use ampoule_vmm::processor::PageFault;
use ampoule_vmm::{FaultAccess, GuestVirt, Registers};

use super::Machine;
use crate::address_space::{FaultResolution, FileCode, Location, MappingKind};
use crate::fault::{Fault, FaultKind, FaultTarget, GuestPanic, Position};
use crate::libraries::{self, Libraries, MAX_READ};
use crate::personality::Personality;
use crate::termination::Termination;

impl Machine {
    /// What a page fault is of the guest's; nothing where it only makes the stack grow or a page of a file be read, is a system
    /// call, or came because the processor had kept an older translation of the page.
    pub(super) fn page_fault(&mut self, fault: PageFault) -> Result<Option<FaultKind>, Termination> {
        let PageFault { address, access, by_own_denial } = fault;
        if access == FaultAccess::Execute && self.call_by_address(address)? {
            return Ok(None);
        }
        let traced = self.trace_page_fault(&fault);
        Ok(Some(match self.space.resolve_fault(address, access) {
            // A retry would not help: the guest has denied itself the access, which its pages allow.
            FaultResolution::Allowed if by_own_denial => self.denied(address, access),
            resolution @ (FaultResolution::Allowed | FaultResolution::Grown | FaultResolution::PagedIn { .. }) => {
                self.trace_resolved(traced, resolution);
                return Ok(None);
            }
            FaultResolution::OutOfMemory => FaultKind::OutOfMemory { limit: self.space.memory_total(), panic: None },
            FaultResolution::Denied => self.denied(address, access),
            FaultResolution::Lost => {
                FaultKind::PageFault { address: address.0, access, target: FaultTarget::BehindFile }
            }
        }))
    }

    /// An abort, with the panic, the shortage of memory or the fault that led to it.
    pub(crate) fn aborted(&mut self, signal: i32, panic: Option<GuestPanic>) -> Termination {
        let kind = match panic {
            panic if self.process.aborts_for_memory(&self.streams.within(&mut self.budget)) => {
                FaultKind::OutOfMemory { limit: self.space.memory_total(), panic }
            }
            Some(panic) => FaultKind::Panicked(panic),
            None => FaultKind::Aborted { signal },
        };
        let aborted = match self.fault_in_progress() {
            // Who reports a fault that way has learned of it by a signal.
            Some(fault) if matches!(kind, FaultKind::Aborted { .. }) => fault.ended_by(signal).into(),
            _ => self.fault(kind),
        };
        self.ends(aborted.clone()).err().unwrap_or(aborted)
    }

    /// A fault of the code that made the last event.
    pub(super) fn fault(&self, kind: FaultKind) -> Termination {
        Fault::new(kind, self.position()).into()
    }

    /// The end of a guest that has exited. A program may do so, and nobody asks for the calls that led there.
    pub(super) fn exited(&self, code: i32) -> Termination {
        let is_program = self.shape.shared.is_none_or(|shared| shared.description.is_none());
        let calls = if is_program { 0 } else { MAX_CALLS };
        Fault::new(FaultKind::Exited { code }, self.position_behind(self.processor.registers(), calls)).into()
    }

    /// Where the guest is.
    pub(super) fn position(&self) -> Position {
        self.position_at(self.processor.registers())
    }

    /// Where code with these registers is, whose stack is as it was.
    pub(super) fn position_at(&self, registers: Registers) -> Position {
        self.position_behind(registers, MAX_CALLS)
    }

    /// The calls that led to where the guest is, at most so many.
    pub(super) fn call_stack(&self, limit: usize) -> CallStack {
        self.calls_before(&self.processor.registers(), limit)
    }

    fn position_behind(&self, registers: Registers, calls: usize) -> Position {
        let stack = self.calls_before(&registers, calls);
        let mut libraries = Libraries::new();
        libraries.note(&self.space, stack.instructions());
        Position::new(registers, stack, (self.executable.clone(), libraries))
    }

    fn calls_before(&self, registers: &Registers, limit: usize) -> CallStack {
        let mut memory = |at, into: &mut [u8]| self.space.read(GuestVirt(at), into).is_ok();
        let mut left = MAX_READ;
        let mut images = |at| self.image_at(at, &mut left);
        walk(&mut images, &ampoule_symbols::Registers::named(|name| registers.get(name)), &mut memory, limit)
    }

    /// The image at an address, and where it is, unless it is a library of more bytes than are `left` to be read.
    fn image_at(&self, at: u64, left: &mut u64) -> Option<(Range<u64>, Symbols<'_>)> {
        let executable = self.executable.extent().filter(|(start, end)| (*start..*end).contains(&at));
        if let Some((start, end)) = executable {
            return Some((start..end, Symbols::new(self.executable.file(), self.executable.bias())));
        }
        let FileCode { file, addresses, offset } = self.space.file_code(GuestVirt(at))?;
        *left = left.checked_sub(file.size)?;
        let symbols = libraries::symbols_of(file, addresses.start.0, offset)?;
        Some((addresses.start.0..addresses.end.0, symbols))
    }

    /// The fault in the place of this end, where the guest could not be run because it has touched what a file no longer has.
    pub(super) fn or_lost_memory(&self, ended: Termination) -> Termination {
        let Termination::Hypervisor(error) = &ended else { return ended };
        if !error.is_lost_memory() {
            return ended;
        }
        match self.lost_mapping() {
            Some(mapping) => {
                self.fault(FaultKind::LostMemory { mapping: mapping.name().to_owned(), start: mapping.address() })
            }
            None if self.space.memory_can_be_lost() => self.fault(FaultKind::LostSnapshot),
            None => ended,
        }
    }

    fn denied(&self, address: GuestVirt, access: FaultAccess) -> FaultKind {
        if let Some(mapping) = self.host_mapping_at(address) {
            return FaultKind::MappedMemory {
                address: address.0,
                access,
                mapping: mapping.name().to_owned(),
                start: mapping.address(),
                permitted: mapping.access(),
            };
        }
        let stack_pointer = GuestVirt(self.processor.registers().stack_pointer());
        if self.space.is_stack_overflow(address, stack_pointer) {
            return FaultKind::StackOverflow { address: address.0 };
        }
        let target = match self.space.describe(address) {
            Location::Mapped { kind: MappingKind::BehindFile(_), protection } if protection.allows(access) => {
                FaultTarget::BehindFile
            }
            Location::Mapped { protection, .. } => FaultTarget::Protected {
                readable: protection.is_readable(),
                writable: protection.is_writable(),
                executable: protection.is_executable(),
            },
            Location::Window { .. } | Location::Host { .. } => FaultTarget::Host,
            Location::Unmapped if address >= USER_END => FaultTarget::Host,
            Location::Unmapped if address < USER_START => FaultTarget::Null,
            Location::Unmapped => FaultTarget::Unmapped,
        };
        FaultKind::PageFault { address: address.0, access, target }
    }
}

/// The most calls of a backtrace, before inlined ones are told apart.
const MAX_CALLS: usize = 64;
