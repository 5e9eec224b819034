//! A guest's virtual machine: built from an image, run from one message of the guest to the next.

mod budget;
mod checkpoint;
mod exits;
mod faults;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{self, System};
use ampoule_vmm::{
    Counters, GuestPhys, GuestVirt, Hypervisor, HypervisorError, PAGE_SIZE, Region, Vcpu, Vm, WriteTracking,
};

use crate::address_space::{AddressSpace, Parts, Window};
use crate::error::BuildError;
use crate::image::Image;
use crate::interrupt::{CallGuard, Interruptor, LimitsUnwatched, TimeLimits};
use crate::limits::Limits;
use crate::loader::{self, Start, StartInfo};
use crate::mailbox::Mailbox;
use crate::output::Output;
use crate::personality::linux::{LinuxProcess, ProcessConfig};
pub(crate) use budget::Budget;
pub(crate) use checkpoint::Checkpoint;
pub use checkpoint::RestoreError;
use streams::GuestStreams;

/// What a virtual machine is made for.
#[derive(Debug)]
pub(crate) struct MachineConfig {
    pub(crate) memory_limit: usize,
    pub(crate) mailbox_size: usize,
    pub(crate) stack_size: usize,
    pub(crate) executable_memory: bool,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

/// A virtual machine with a guest in it.
pub(crate) struct Machine {
    pub(crate) mailbox: Mailbox,
    pub(crate) budget: Budget,
    pub(crate) interruptor: Interruptor,
    image: Image,
    vcpu: Box<dyn Vcpu>,
    /// Holds the memory slots; they go with it.
    _vm: Box<dyn Vm>,
    capabilities: Capabilities,
    system: System,
    space: AddressSpace,
    process: LinuxProcess,
    streams: GuestStreams,
}

impl Machine {
    /// Loads the image, then creates the virtual machine around it. The guest has not run yet.
    pub(crate) fn new(hypervisor: &dyn Hypervisor, image: &Image, config: MachineConfig) -> Result<Self, BuildError> {
        let capabilities = *hypervisor.capabilities();
        let ram_len = config.memory_limit.next_multiple_of(PAGE_SIZE);
        let ram = allocated("guest's memory", ram_len, Region::anonymous(ram_len))?;
        let mailbox = allocated("mailbox", config.mailbox_size, Mailbox::new(config.mailbox_size))?;
        let table_pages = table_pages(ram_len, mailbox.region().len());
        let (system, tables) = allocated("page tables", table_pages * PAGE_SIZE, System::new(table_pages))?;

        let mut space = AddressSpace::new(Parts {
            ram: Arc::clone(&ram),
            ram_base: RAM_PHYS,
            tables,
            allow_executable_memory: config.executable_memory,
        });
        show_mailbox(&mailbox, &mut space);
        let info_page = mailbox.publish(shim::SHARED_BASE, shim::DOORBELL);
        let start = loader::load(
            image,
            &mut space,
            &StartInfo {
                arguments: &config.arguments,
                environment: &config.environment,
                random: random_bytes(),
                info_page,
                stack_size: config.stack_size,
                fsgsbase: capabilities.fsgsbase,
            },
        )?;

        let slots = [
            (shim::SYSTEM_BASE, Arc::clone(system.region())),
            (shim::SHARED_PHYS, Arc::clone(mailbox.region())),
            (RAM_PHYS, ram),
        ];
        let (vm, vcpu) = create_vm(hypervisor, &system, &space, slots, start)
            .map_err(|error| BuildError::Hypervisor(Arc::new(error)))?;
        Ok(Self {
            mailbox,
            budget: Budget::default(),
            image: image.clone(),
            interruptor: Interruptor::new(vcpu.interrupter())?,
            vcpu,
            _vm: vm,
            capabilities,
            system,
            space,
            process: LinuxProcess::new(ProcessConfig { stack_size: config.stack_size as u64 }),
            streams: GuestStreams::new(config.stdout, config.stderr),
        })
    }

    /// Begins a call, which can be interrupted until the guard is finished. What it may use up is counted from here.
    pub(crate) fn begin_call(&mut self, limits: Limits) -> Result<CallGuard, LimitsUnwatched> {
        self.budget = Budget::new(limits);
        self.space.forget_refusals();
        self.interruptor.begin(TimeLimits { deadline: limits.deadline, cpu_time: limits.cpu_time })
    }

    pub(crate) fn counters(&self) -> Counters {
        self.vcpu.counters()
    }
}

type VmAndVcpu = (Box<dyn Vm>, Box<dyn Vcpu>);

/// Creates the virtual machine with its memory, and a vCPU that is about to execute the guest's first instruction.
fn create_vm(
    hypervisor: &dyn Hypervisor,
    system: &System,
    space: &AddressSpace,
    slots: [(GuestPhys, Arc<Region>); 3],
    start: Start,
) -> Result<VmAndVcpu, HypervisorError> {
    let mut vm = hypervisor.create_vm()?;
    for (slot, (at, region)) in (0..).zip(slots) {
        vm.map(slot, at, region, WriteTracking::Off)?;
    }
    let mut vcpu = vm.create_vcpu(&system.syscall_entry())?;
    let capabilities = hypervisor.capabilities();
    vcpu.set_special_regs(&system.initial_special_regs(capabilities, space.root()))?;
    vcpu.set_regs(&Regs {
        rip: start.entry.0,
        rsp: start.stack_pointer.0,
        rflags: shim::initial_flags(capabilities),
        ..Regs::default()
    });
    Ok((vm, vcpu))
}

/// Lets the guest see the mailbox.
fn show_mailbox(mailbox: &Mailbox, space: &mut AddressSpace) {
    for area in mailbox.areas() {
        space
            .add_window(Window {
                at: GuestVirt(shim::SHARED_BASE.0 + area.offset as u64),
                to: GuestPhys(shim::SHARED_PHYS.0 + area.offset as u64),
                region: Arc::clone(mailbox.region()),
                offset: area.offset,
                len: area.len,
                writable: area.writable,
            })
            .expect("the page tables are sized for the mailbox, whose areas lie side by side");
    }
}

/// How many page tables the system needs for the mailbox and this much memory, wherever the guest maps it.
///
/// Each table of the lowest level covers 2 MiB. A guest that spreads its memory over more places than that can run out;
/// its next mapping fails then, as if there were no memory.
fn table_pages(ram_len: usize, mailbox_len: usize) -> usize {
    let lowest = |len: usize| len.div_ceil(LOWEST_TABLE_SPAN) + 1;
    shim::OWN_TABLES + 2 * lowest(ram_len) + lowest(mailbox_len) + SPARE_TABLES
}

fn allocated<T>(what: &'static str, bytes: usize, result: std::io::Result<T>) -> Result<T, BuildError> {
    result.map_err(|source| BuildError::Memory { what, bytes, source })
}

/// Where the guest's processor sees its memory: above everything that belongs to the host, and above 4 GiB, where
/// hypervisors place devices.
const RAM_PHYS: GuestPhys = GuestPhys(0x1_0000_0000);

/// Bytes that one page table of the lowest level covers.
const LOWEST_TABLE_SPAN: usize = 512 * PAGE_SIZE;

/// Page tables beyond those that the memory needs: for the upper levels, and for a guest that maps here and there.
const SPARE_TABLES: usize = 64;

/// Bytes of the host's random source, for the guest's `AT_RANDOM`.
fn random_bytes() -> [u8; 16] {
    crate::personality::linux::random::bytes()
}
