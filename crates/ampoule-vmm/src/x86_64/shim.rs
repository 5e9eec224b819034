//! What the host writes for ring 0: descriptor tables, a task state segment, and stubs that leave by one `out` each.
//!
//! The guest runs in ring 3 and holds no privilege. Whatever would enter a kernel arrives in one of these stubs, which only
//! hand over to the host:
//!
//! - each of the 32 exception gates executes `out` to a port of its own ([`Trap::Exception`]) and, when the host resumes it,
//!   returns to the interrupted code by `iretq`, so that a faulting instruction is simply retried once the host has removed
//!   the cause;
//! - `syscall` arrives at a stub that executes `out` ([`Trap::SystemCall`]), then `sysretq` ([`syscall_return`]);
//! - the guest's own way to call the host is a function in user-executable memory that executes `out` and returns
//!   ([`Trap::Doorbell`]).
//!
//! One stub is a way in: the host resumes a guest there to have it load its floating-point and vector registers, which costs
//! the host nothing ([`System::set_resume_state`]).
//!
//! All exceptions use one stack of the interrupt stack table, so the guest's stack is never touched and its overflow is an
//! exception like any other. No stub enables interrupts, loops, or calls; none needs a second exception's stack frame.
//!
//! The I/O permission bitmap allows ring 3 the two ports [`SYSCALL_PORT`] and [`DOORBELL_PORT`]. There is no 32-bit code
//! segment, hence no compatibility mode.

mod code;
mod descriptors;
mod resume;
mod trap;

use std::io;
use std::sync::Arc;

use crate::address::{GuestPhys, GuestVirt, PAGE_SIZE};
use crate::memory::Region;
use crate::processor::MapCheckpoint;
use crate::x86_64::capabilities::Capabilities;
use crate::x86_64::paging::{Access, PageTables};
use crate::x86_64::registers::{DescriptorTable, FpuState, Regs, SpecialRegs, SyscallEntry};

pub use crate::x86_64::address_map::{HOST_BASE, HOST_END, SHARED_BASE, SYSTEM_BASE, SYSTEM_END};
pub use resume::ResumeError;
pub(super) use resume::{TRAP_FLAG, is_canonical};
pub(super) use trap::GUEST_MAY_SET;
pub use trap::{BadReturn, ExceptionFrame, Forgery, Trap, initial_flags, syscall_return};

/// The memory of a guest that belongs to the host and to ring 0: descriptors, stubs, page tables.
///
/// To be mapped at guest-physical [`SYSTEM_BASE`].
#[derive(Debug)]
pub struct System {
    region: Arc<Region>,
}

impl System {
    /// Writes all of it, with room for `table_pages` page tables, a handful of which are used up at once ([`OWN_TABLES`]).
    /// The upper layer owns the page tables and adds the guest's own mappings to them; it must leave alone what lies between
    /// [`HOST_BASE`] and [`SHARED_BASE`].
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory; `InvalidInput` when `table_pages` is less than [`OWN_TABLES`] or so
    /// large that the system's memory would run into what lies at [`SYSTEM_END`].
    pub fn new(table_pages: usize) -> io::Result<(System, PageTables)> {
        if !(OWN_TABLES..=MAX_TABLES).contains(&table_pages) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let len = TABLES + table_pages * PAGE_SIZE;
        let region = Region::anonymous(len)?;
        write_pages(&region);
        let mut tables =
            PageTables::new(region.clone(), SYSTEM_BASE, TABLES..len).expect("there is a page for the root");
        for (page, access) in PAGES {
            let phys = SYSTEM_BASE.checked_add(page as u64).expect("the system region lies low");
            tables.map(virt(page), phys, 1, access).expect("there are the system's own tables");
        }
        Ok((System { region }, tables))
    }

    /// A system in the state that another had when its page tables were [remembered](crate::PageMap::checkpoint). The two
    /// share the pages that neither has written since.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory or mapping for it.
    pub fn of_checkpoint(MapCheckpoint(checkpoint): &MapCheckpoint) -> io::Result<(System, PageTables)> {
        let region = Region::of_contents(checkpoint.contents())?;
        let tables = PageTables::of_checkpoint(region.clone(), checkpoint);
        Ok((System { region }, tables))
    }

    /// The memory, to be mapped at guest-physical [`SYSTEM_BASE`].
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The state in which user code starts: ring 3, 64-bit mode, paging on with the tables whose root is `root`.
    pub fn initial_special_regs(&self, capabilities: &Capabilities, root: GuestPhys) -> SpecialRegs {
        let mut cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
        if capabilities.fsgsbase {
            cr4 |= CR4_FSGSBASE;
        }
        if capabilities.umip {
            cr4 |= CR4_UMIP;
        }
        if capabilities.xcr0 != 0 {
            cr4 |= CR4_OSXSAVE;
        }
        let data = descriptors::user_data();
        SpecialRegs {
            cs: descriptors::user_code(),
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ss: data,
            tr: descriptors::task(virt(TSS).0),
            ldt: descriptors::no_ldt(),
            gdt: DescriptorTable { base: virt(GDT).0, limit: descriptors::GDT_LIMIT },
            idt: DescriptorTable { base: virt(IDT).0, limit: descriptors::IDT_LIMIT },
            cr0: CR0,
            cr2: 0,
            cr3: root.0,
            cr4,
            efer: EFER,
        }
    }

    /// The settings of the `syscall` instruction with which to create vCPUs.
    pub fn syscall_entry(&self) -> SyscallEntry {
        SyscallEntry { star: descriptors::STAR, lstar: SYSCALL_STUB.0, flag_mask: SYSCALL_FLAG_MASK }
    }

    /// Makes this the state to resume with, and returns how to start a vCPU in [user mode](System::initial_special_regs) so
    /// that it does: it begins in a stub in ring 3, which loads `fpu` with `xrstor` and continues with exactly `regs`, and
    /// the bases of FS and GS in `special`. That takes no call into the kernel, and uses nothing at the stack pointer.
    ///
    /// The registers are valid for every system whose memory is a copy of this one's. A new system has no state to resume
    /// with: its guest would jump to address 0.
    ///
    /// State that guests may use is loaded, all other state is initialized: what a guest has in registers that `cpuid` hides
    /// from it is gone. So are selectors that it has loaded into segment registers: all select the user's data segment
    /// again. FS and GS are left alone where there are no [`Capabilities::base_instructions`].
    ///
    /// The guest can enter the stub too, at any time and with any registers, and can read what the stub loads. That gains it
    /// nothing: it is the state in which the host resumes this very guest, or the one that it was made from, and the guest
    /// could have kept a copy. The stub runs in ring 3 with the guest's own rights, and holds no `out`.
    ///
    /// # Errors
    ///
    /// [`ResumeError`] when the stub cannot do it; the hypervisor can. Nothing has changed then.
    pub fn set_resume_state(
        &self,
        capabilities: &Capabilities,
        fpu: &FpuState,
        regs: &Regs,
        special: &SpecialRegs,
    ) -> Result<Resumption, ResumeError> {
        let area = resume::xsave_area(capabilities, fpu)?;
        let words = resume::Words::of(regs, special)?;
        self.region.write(STATE, &area).expect(WITHIN);
        self.region.write(STATE + resume::WORDS, &words.to_bytes()).expect(WITHIN);
        let loads_bases = capabilities.base_instructions;
        let entry = if loads_bases { 0 } else { resume_stub().without_bases };
        Ok(Resumption { regs: Regs { rip: RESUME_STUB.0 + entry, ..*regs }, loads_bases })
    }

    /// Gives the state to resume with another RAX.
    pub(super) fn set_resumed_result(&self, result: u64) {
        self.region.write_u64(STATE + resume::RAX, result).expect(WITHIN);
    }

    /// What the processor pushed when it delivered the exception that has just arrived as [`Trap::Exception`].
    pub fn exception_frame(&self, vector: u8) -> ExceptionFrame {
        ExceptionFrame::read(&self.region, IST + PAGE_SIZE, vector)
    }

    /// Changes the flags with which the guest continues after an exception.
    pub(super) fn set_exception_flags(&self, flags: u64) {
        ExceptionFrame::write_flags(&self.region, IST + PAGE_SIZE, flags);
    }
}

/// How to start a vCPU so that it resumes by itself ([`System::set_resume_state`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// The registers to begin with.
    pub regs: Regs,
    /// Whether the bases of FS and GS are loaded too. If so, everything that ring 3 can change in special registers is
    /// restored.
    pub loads_bases: bool,
}

/// The doorbell: a function without arguments that user code calls to reach the host ([`Trap::Doorbell`]). It changes no
/// register.
pub const DOORBELL: GuestVirt = virt(GATE);

/// The port on which system calls leave.
pub const SYSCALL_PORT: u16 = 0x10;

/// The port on which the doorbell leaves.
pub const DOORBELL_PORT: u16 = 0x11;

/// Exception `n` leaves on the port `n` above this one.
pub const EXCEPTION_PORT: u16 = 0x20;

/// How many page tables a new [`System`] takes for itself: one of each level.
pub const OWN_TABLES: usize = 4;

/// Fills the system's pages. Page tables are not among them.
fn write_pages(region: &Region) {
    let contents: [(usize, &[u8]); 7] = [
        (GDT, &descriptors::gdt(virt(TSS).0)),
        (IDT, &descriptors::idt(virt(STUBS).0)),
        (TSS, &descriptors::tss(virt(IST + PAGE_SIZE).0, &[SYSCALL_PORT, DOORBELL_PORT])),
        (STUBS, &code::exception_stubs()),
        (LSTAR, &code::page_of(&code::SYSCALL_STUB)),
        (GATE, &code::page_of(&code::DOORBELL)),
        (RESUME, &resume_stub().code),
    ];
    for (offset, bytes) in contents {
        region.write(offset, bytes).expect(WITHIN);
    }
}

/// Whether a vCPU is in the stub that loads the state to resume with.
pub(super) fn is_in_resume_stub(rip: u64) -> bool {
    (RESUME_STUB.0..virt(GATE + PAGE_SIZE).0).contains(&rip)
}

fn resume_stub() -> code::ResumeStub {
    code::resume_stub(RESUME_STUB.0, virt(STATE).0)
}

/// The virtual address of a system page.
const fn virt(page: usize) -> GuestVirt {
    GuestVirt(HOST_BASE.0 + page as u64)
}

/// The stub that `syscall` enters.
const SYSCALL_STUB: GuestVirt = virt(LSTAR);

/// The stub that loads the state to resume with.
const RESUME_STUB: GuestVirt = virt(RESUME);

/// Why what is written lies within the region.
const WITHIN: &str = "the system's pages lie within its region";

// Where the pages lie in the region, and from `HOST_BASE` on.
const GDT: usize = 0x0000;
const IDT: usize = 0x1000;
const TSS: usize = 0x2000;
const STUBS: usize = 0x3000;
const IST: usize = 0x4000;
const LSTAR: usize = 0x5000;
const GATE: usize = 0x6000;
const STATE: usize = 0x7000;
const TABLES: usize = STATE + resume::STATE_SIZE;

/// Where the resume stub lies: behind the doorbell, in cache lines of its own.
const RESUME: usize = GATE + 0x80;

/// The pages that are mapped. The stub that `syscall` enters is executable for ring 3 because there are hypervisors on
/// which the instruction does not change rings.
const PAGES: [(usize, Access); 10] = [
    (GDT, SUPERVISOR_READ),
    (IDT, SUPERVISOR_READ),
    (TSS, SUPERVISOR_READ),
    (STUBS, Access { execute: true, ..SUPERVISOR_READ }),
    (IST, Access { write: true, ..SUPERVISOR_READ }),
    (LSTAR, USER_EXECUTE),
    (GATE, USER_EXECUTE),
    (STATE, USER_READ),
    (STATE + PAGE_SIZE, USER_READ),
    (STATE + 2 * PAGE_SIZE, USER_READ),
];

const SUPERVISOR_READ: Access = Access { write: false, execute: false, user: false };

const USER_EXECUTE: Access = Access { write: false, execute: true, user: true };

const USER_READ: Access = Access { execute: false, ..USER_EXECUTE };

const MAX_TABLES: usize = (SYSTEM_END.0 as usize - TABLES) / PAGE_SIZE;

/// PG, AM, WP, NE, ET, MP, PE (AMD64 Architecture Programmer's Manual, volume 2, section 3.1.1).
const CR0: u64 = 0x8005_0033;

// Bits of CR4 (the same, section 3.1.3).
const CR4_PAE: u64 = 1 << 5;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;

/// SCE, LME, LMA, NXE (the same, section 3.1.7).
const EFER: u64 = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11;

/// `syscall` clears AC, NT, IOPL, DF, IF and TF.
const SYSCALL_FLAG_MASK: u64 = 0x4_7700;

#[cfg(test)]
mod tests;
