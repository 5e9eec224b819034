//! The micro-VM under Ampoule: everything needed to run code in ring 3 of a virtual machine and to see it only at defined
//! exits.
//!
//! Five ideas carry this crate:
//!
//! - **Upward, a processor.** What is above runs user code on a [`Processor`], which stops at an [`Event`], and names no register
//!   and no page table ([`processor`]).
//! - **Downward, one door.** Processors reach virtual machines through the traits [`Hypervisor`], [`Vm`] and [`Vcpu`]. The
//!   backend is [`kvm`]. What stands in between is an [`interpose::Interposer`]: [`inject::FailAt`] lets tests reach every error
//!   path, and [`count::Counting`] counts what is asked of a backend.
//! - **Guest memory is hostile.** It is a [`Region`], which copies in and out within bounds and never lends a reference.
//! - **The host owns the page tables** ([`x86_64::paging::PageTables`]). The guest has no way to change them.
//! - **Ring 0 is a page of stubs** ([`x86_64::shim`]) that hand over to the host by one `out` each.
//!
//! The lower door by itself:
//!
//! ```no_run
//! use ampoule_vmm::kvm::Kvm;
//! use ampoule_vmm::x86_64::paging::Access;
//! use ampoule_vmm::x86_64::registers::Regs;
//! use ampoule_vmm::x86_64::shim::{self, System, Trap};
//! use ampoule_vmm::{Exit, GuestPhys, GuestVirt, Hypervisor, PAGE_SIZE, Region, WriteTracking};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kvm = Kvm::shared()?;
//! let (system, mut tables) = System::new(16)?;
//! let ram = Region::anonymous(PAGE_SIZE)?;
//! ram.write(0, &[0x0f, 0x05])?; // syscall
//!
//! let (at, to) = (GuestVirt(0x1_0000), GuestPhys(0x1_0000_0000));
//! let access = Access { write: false, execute: true, user: true };
//! tables.map(at, to, 1, access)?;
//!
//! let mut vm = kvm.create_vm()?;
//! vm.map(0, shim::SYSTEM_BASE, system.region().clone(), WriteTracking::Off)?;
//! vm.map(1, to, ram, WriteTracking::On)?;
//!
//! let mut vcpu = vm.create_vcpu(&system.syscall_entry())?;
//! vcpu.set_special_regs(&system.initial_special_regs(kvm.capabilities(), tables.root()))?;
//! let rflags = shim::initial_flags(kvm.capabilities());
//! vcpu.set_regs(&Regs { rip: at.0, rflags, ..Regs::default() });
//!
//! let Exit::IoOut { port, .. } = vcpu.run()? else { panic!("not an exit of the shim") };
//! assert_eq!(Trap::identify(port, vcpu.regs().rip)?, Trap::SystemCall);
//! # Ok(())
//! # }
//! ```

pub mod address;
pub mod count;
#[cfg(test)]
mod error_tests;
pub mod hypervisor;
pub mod inject;
pub mod interpose;
pub mod kvm;
mod linux;
pub mod memory;
mod page_set;
mod platform;
pub mod processor;
pub mod x86_64;

// The one place that chooses an architecture.
use x86_64 as arch;

pub use address::{GuestPhys, GuestVirt, PAGE_SIZE};
pub use arch::address_map;
pub use arch::exception;
pub use arch::shim::DOORBELL;
pub use arch::vdso;
pub use hypervisor::{
    BaselineError, Counters, Exit, Hypervisor, HypervisorError, Interrupt, OpenError, Statistics, StatisticsReader,
    Vcpu, Vm, WriteTracking,
};
pub use linux::advice::WithAdvice;
pub use linux::process::Process;
pub use memory::{
    Contents, FileBytes, FrozenFile, HostOnly, MappedMemory, MemoryLost, OutOfRegion, OwnedPages, PageBytes, PagedFile,
    PartReader, PartWriter, Region, RevokeError, StoredPages, TrackedRegion, TrackedWriter, UnsealedPages,
};
pub use page_set::PageSet;
pub use platform::default_hypervisor;
pub use processor::{
    BREAKPOINT_INSTRUCTION, Backend, BadRegister, BadSignalFrame, Baseline, Behaviour, Context, CoreNote,
    CoreRegisters, Entry, Event, FaultAccess, MapCheckpoint, MapExhausted, PageAccess, PageMap, ParseBaselineError,
    PrepareError, Prepared, Processor, Registers, SignalFrame, SignalHandler, SignalReturn, SystemCall, ThreadRegister,
    VirtualMachines, Waiting, WrittenPages,
};
