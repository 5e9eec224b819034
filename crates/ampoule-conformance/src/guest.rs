//! A guest small enough to be written in a few lines of assembly.

use std::sync::Arc;

use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::x86_64::paging::{Access, PageTables};
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{self, ExceptionFrame, OWN_TABLES, SYSTEM_BASE, System, Trap};
use ampoule_vmm::{
    Exit, GuestPhys, GuestVirt, Hypervisor, HypervisorError, PAGE_SIZE, PageSet, Region, Vcpu, Vm, WriteTracking,
};

use crate::failure::{Failure, differs, expect};

/// A virtual machine with one page of code, one of stack, and [`DATA_PAGES`] of data that are mapped nowhere at first.
/// Writes to all its memory are tracked.
pub(crate) struct Guest {
    pub(crate) capabilities: Capabilities,
    pub(crate) system: System,
    pub(crate) tables: PageTables,
    pub(crate) ram: Arc<Region>,
    pub(crate) vm: Box<dyn Vm>,
    pub(crate) vcpu: Box<dyn Vcpu>,
    /// The pages of RAM that were reported as written, and not forgotten.
    told: PageSet,
}

impl Guest {
    /// Ready to execute `code` at [`CODE`].
    pub(crate) fn new(hypervisor: &dyn Hypervisor, code: &[u8]) -> Result<Guest, Failure> {
        Guest::with_spare_tables(hypervisor, code, AMPLE_TABLES)
    }

    /// Like [`Guest::new`], with this many page tables in addition to those that it takes at once.
    pub(crate) fn with_spare_tables(hypervisor: &dyn Hypervisor, code: &[u8], spare: usize) -> Result<Guest, Failure> {
        let (system, mut tables) = System::new(OWN_TABLES + CODE_AND_STACK_TABLES + spare)?;
        let ram = Region::anonymous((DATA + DATA_PAGES) * PAGE_SIZE)?;
        tables.map(CODE, RAM, 1, EXECUTE).expect("there are tables for the code");
        tables.map(STACK, page_of_ram(STACK_PAGE), 1, WRITE).expect("there are tables for the stack");
        ram.write_u64(DOORBELL_POINTER.page_offset(), shim::DOORBELL.0)?;

        let mut vm = hypervisor.create_vm()?;
        vm.map(SYSTEM_SLOT, SYSTEM_BASE, system.region().clone(), WriteTracking::On)?;
        vm.map(RAM_SLOT, RAM, ram.clone(), WriteTracking::On)?;
        let vcpu = vm.create_vcpu(&system.syscall_entry())?;
        let (capabilities, told) = (*hypervisor.capabilities(), PageSet::new(RAM_PAGES));
        let mut guest = Guest { capabilities, system, tables, ram, vm, vcpu, told };
        guest.write_code(code)?;
        guest.restart(CODE)?;
        Ok(guest)
    }

    /// Replaces the code, and starts it from [`CODE`] in ring 3 with the registers of [`Guest::start`], whatever the
    /// guest was doing.
    pub(crate) fn load(&mut self, code: &[u8]) -> Result<(), Failure> {
        self.write_code(code)?;
        self.vcpu.abandon()?;
        self.restart(CODE)
    }

    fn write_code(&mut self, code: &[u8]) -> Result<(), Failure> {
        assert!(code.len() < DOORBELL_POINTER.page_offset(), "the code fits its page");
        Ok(self.ram.write(0, code)?)
    }

    /// Continues at `rip` in ring 3, with all other registers as at the start.
    pub(crate) fn restart(&mut self, rip: GuestVirt) -> Result<(), Failure> {
        let special = self.system.initial_special_regs(&self.capabilities, self.tables.root());
        self.vcpu.set_special_regs(&special)?;
        self.go(rip);
        Ok(())
    }

    /// Like [`Guest::restart`], for a guest that is in ring 3 already.
    pub(crate) fn go(&mut self, rip: GuestVirt) {
        let regs = Regs { rip: rip.0, ..self.start() };
        self.vcpu.set_regs(&regs);
    }

    /// The registers with which the code starts.
    pub(crate) fn start(&self) -> Regs {
        Regs { rip: CODE.0, rsp: STACK_TOP.0, rflags: shim::initial_flags(&self.capabilities), ..Regs::default() }
    }

    /// Changes some registers.
    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Regs)) {
        let mut regs = self.vcpu.regs();
        change(&mut regs);
        self.vcpu.set_regs(&regs);
    }

    /// Maps pages of data from number `page` on.
    pub(crate) fn map_pages(&mut self, at: GuestVirt, page: usize, pages: usize, access: Access) {
        self.map_physical(at, data(page), pages, access);
    }

    pub(crate) fn map(&mut self, at: GuestVirt, page: usize, access: Access) {
        self.map_pages(at, page, 1, access);
    }

    pub(crate) fn map_physical(&mut self, at: GuestVirt, to: GuestPhys, pages: usize, access: Access) {
        self.tables.map(at, to, pages, access).expect("there are tables for a few mappings");
    }

    pub(crate) fn unmap(&mut self, at: GuestVirt) {
        self.tables.unmap(at, 1);
    }

    /// Flushes all edits of the page tables.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.vm.flush_translations(SYSTEM_SLOT)?;
        self.tables.mark_flushed();
        Ok(())
    }

    /// Runs until a stub leaves the guest.
    #[track_caller]
    pub(crate) fn trap(&mut self) -> Result<Trap, Failure> {
        let port = loop {
            match self.vcpu.run()? {
                Exit::IoOut { port, .. } => break port,
                Exit::ManyWritten => {}
                other => return Err(differs("the exit", "one of the shim's".to_owned(), format!("{other:x?}"))),
            }
        };
        let rip = self.vcpu.regs().rip;
        Trap::identify(port, rip)
            .map_err(|forgery| differs("the exit", "one of the shim's".to_owned(), forgery.to_string()))
    }

    /// Runs until the doorbell is rung; the registers at that moment.
    #[track_caller]
    pub(crate) fn ring(&mut self) -> Result<Regs, Failure> {
        let trap = self.trap()?;
        self.expect_trap(trap, Trap::Doorbell)?;
        Ok(self.vcpu.regs())
    }

    /// Runs until a system call arrives; the registers at that moment.
    #[track_caller]
    pub(crate) fn system_call(&mut self) -> Result<Regs, Failure> {
        let trap = self.trap()?;
        self.expect_trap(trap, Trap::SystemCall)?;
        Ok(self.vcpu.regs())
    }

    /// Runs until an exception with this vector arrives from ring 3.
    #[track_caller]
    pub(crate) fn exception(&mut self, vector: u8) -> Result<ExceptionFrame, Failure> {
        let trap = self.trap()?;
        self.expect_trap(trap, Trap::Exception(vector))?;
        let frame = self.system.exception_frame(vector);
        expect("whether the exception came from ring 3", frame.from_user(), true)?;
        Ok(frame)
    }

    /// Runs until `ud2` (or another invalid opcode): the registers of the interrupted code.
    #[track_caller]
    pub(crate) fn registers_at_ud2(&mut self) -> Result<Regs, Failure> {
        let frame = self.exception(6)?;
        let regs = self.vcpu.regs();
        Ok(Regs { rip: frame.rip, rsp: frame.rsp, rflags: frame.rflags & !RESUME, ..regs })
    }

    /// Runs until a page fault arrives: its address and error code.
    #[track_caller]
    pub(crate) fn page_fault(&mut self) -> Result<(u64, u64), Failure> {
        let frame = self.exception(14)?;
        let address = self.vcpu.special_regs()?.cr2;
        Ok((address, frame.error_code.expect("page faults have an error code")))
    }

    /// Runs until an exit other than an `out`.
    #[track_caller]
    pub(crate) fn expect_exit(&mut self, expected: &Exit<'_>) -> Result<(), Failure> {
        expect("the exit", self.vcpu.run()?, Expected(expected))
    }

    /// The pages of data that the guest has written.
    pub(crate) fn written(&mut self) -> Result<Vec<usize>, Failure> {
        Ok(self.written_ram()?.iter().filter_map(|page| page.checked_sub(DATA)).collect())
    }

    pub(crate) fn written_ram(&mut self) -> Result<PageSet, HypervisorError> {
        self.vm.collect_written(RAM_SLOT, &mut self.told)?;
        Ok(self.told.clone())
    }

    /// Marks pages of RAM as unwritten.
    pub(crate) fn forget_written(&mut self, pages: &PageSet) -> Result<(), HypervisorError> {
        self.vm.forget_written(RAM_SLOT, pages)?;
        pages.iter().for_each(|page| self.told.remove(page));
        Ok(())
    }

    #[track_caller]
    fn expect_trap(&mut self, found: Trap, expected: Trap) -> Result<(), Failure> {
        if found == expected {
            return Ok(());
        }
        let details = match found {
            Trap::Exception(vector) => format!(", {:x?}", self.system.exception_frame(vector)),
            _ => String::new(),
        };
        Err(differs("the trap", format!("{expected:?}"), format!("{found:?}{details}")))
    }
}

/// Where the `page`th page of data lies in [`Guest::ram`].
pub(crate) fn offset(page: usize) -> usize {
    (DATA + page) * PAGE_SIZE
}

/// The guest-physical address of the `page`th page of data.
pub(crate) fn data(page: usize) -> GuestPhys {
    page_of_ram(DATA + page)
}

/// The address `pages` pages behind another.
pub(crate) fn pages_on(at: GuestVirt, pages: usize) -> GuestVirt {
    GuestVirt(at.0 + (pages * PAGE_SIZE) as u64)
}

/// An [`Exit`] whose lifetime differs from that of the one it is compared with.
#[derive(Debug)]
struct Expected<'a>(&'a Exit<'a>);

impl PartialEq<Expected<'_>> for Exit<'_> {
    fn eq(&self, other: &Expected<'_>) -> bool {
        self == other.0
    }
}

fn page_of_ram(page: usize) -> GuestPhys {
    GuestPhys(RAM.0 + (page * PAGE_SIZE) as u64)
}

/// RF in the flags. Whether a fault sets it in its frame is up to the hypervisor.
pub(crate) const RESUME: u64 = 1 << 16;

pub(crate) const READ: Access = Access { write: false, execute: false, user: true };
pub(crate) const WRITE: Access = Access { write: true, ..READ };
pub(crate) const EXECUTE: Access = Access { execute: true, ..READ };
pub(crate) const SUPERVISOR: Access = Access { write: true, execute: true, user: false };

/// Where the code begins. It rings with `call qword ptr [0x400ff8]`, which changes no register.
pub(crate) const CODE: GuestVirt = GuestVirt(0x40_0000);

/// Holds the address of the doorbell.
pub(crate) const DOORBELL_POINTER: GuestVirt = GuestVirt(0x40_0ff8);

/// The end of the page of stack.
pub(crate) const STACK_TOP: GuestVirt = GuestVirt(0x7f7f_ffff_f000);

/// An address where nothing is mapped at first.
pub(crate) const SOMEWHERE: GuestVirt = GuestVirt(0x1234_5000);

/// More than two words of a set of pages.
pub(crate) const DATA_PAGES: usize = 200;

// Slots, and where the memory in them is.
pub(crate) const SYSTEM_SLOT: u32 = 0;
pub(crate) const RAM_SLOT: u32 = 1;
pub(crate) const FREE_SLOT: u32 = 2;
pub(crate) const RAM: GuestPhys = GuestPhys(0x1_0000_0000);
pub(crate) const FREE_RAM: GuestPhys = GuestPhys(0x2_0000_0000);
pub(crate) const RAM_PAGES: usize = DATA + DATA_PAGES;
const STACK: GuestVirt = GuestVirt(STACK_TOP.0 - PAGE_SIZE as u64);
const STACK_PAGE: usize = 1;
const DATA: usize = 2;
const AMPLE_TABLES: usize = 256;

/// One of each level below the root, for the code and for the stack.
const CODE_AND_STACK_TABLES: usize = 6;

// Error code of a page fault (AMD64 Architecture Programmer's Manual, volume 2, section 8.4.2).
pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITING: u64 = 2;
pub(crate) const USER: u64 = 4;
pub(crate) const FETCH: u64 = 16;
