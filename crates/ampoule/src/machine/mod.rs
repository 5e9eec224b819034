//! A guest's virtual machine: built from an image, run from one message of the guest to the next.

mod budget;
mod checkpoint;
mod exits;
mod faults;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::x86_64::paging::PageTables;
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{self, System};
use ampoule_vmm::{
    Counters, GuestPhys, GuestVirt, Hypervisor, HypervisorError, PAGE_SIZE, Region, Vcpu, Vm, WriteTracking,
};

use crate::address_space::{AddressSpace, Parts, Window};
use crate::error::BuildError;
use crate::guest_memory::GuestMemory;
use crate::image::Image;
use crate::interrupt::{CallGuard, Interruptor, LimitsUnwatched, TimeLimits};
use crate::limits::Limits;
use crate::loader::{self, Start, StartInfo};
use crate::mailbox::Mailbox;
use crate::personality::linux::{LinuxProcess, ProcessConfig};
pub(crate) use budget::Budget;
pub(crate) use checkpoint::{Checkpoint, CheckpointError, RestoreMachineError};
pub(crate) use streams::GuestStreams;

use checkpoint::Processor;

/// What a virtual machine is made for.
#[derive(Debug)]
pub(crate) struct MachineConfig {
    pub(crate) shape: Shape,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// What decides whether one machine can take over the state of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) memory_limit: usize,
    pub(crate) mailbox_size: usize,
    pub(crate) stack_size: usize,
    pub(crate) executable_memory: bool,
}

/// A virtual machine with a guest in it.
pub(crate) struct Machine {
    pub(crate) mailbox: Mailbox,
    pub(crate) budget: Budget,
    pub(crate) interruptor: Interruptor,
    image: Image,
    shape: Shape,
    vcpu: Box<dyn Vcpu>,
    /// Holds the memory slots; they go with it.
    vm: Box<dyn Vm>,
    capabilities: Capabilities,
    system: System,
    space: AddressSpace,
    process: LinuxProcess,
    streams: GuestStreams,
    /// Whether the guest waits in the doorbell, so that nothing is left over of what it was doing.
    at_rest: bool,
    /// The state from which the vCPU goes on, where it has not run since that was restored.
    resumes: Option<Arc<Processor>>,
    /// The state whose special registers the vCPU has, but for what ring 3 can have changed in them.
    special: Option<Arc<Processor>>,
    restores: u64,
    pages_restored: u64,
}

/// What a guest's memory costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryUse {
    pub(crate) restores: u64,
    pub(crate) pages_restored: u64,
    pub(crate) dirty_pages: usize,
    pub(crate) owned_pages: usize,
    pub(crate) shared_pages: usize,
}

impl Machine {
    /// Loads the image, then creates the virtual machine around it. The guest has not run yet.
    pub(crate) fn new(
        hypervisor: &dyn Hypervisor,
        image: &Image,
        config: &MachineConfig,
        streams: GuestStreams,
    ) -> Result<Self, BuildError> {
        let shape = config.shape;
        let capabilities = *hypervisor.capabilities();
        let region = shape.region()?;
        let table_pages = table_pages(region.len());
        let (system, tables) = allocated("page tables", table_pages * PAGE_SIZE, System::new(table_pages))?;
        let mailbox = Mailbox::new(Arc::clone(&region), shape.mailbox_size);
        let mut space = shape.address_space(region, tables);
        show_mailbox(&mailbox, &mut space);
        let start = loader::load(
            image,
            &mut space,
            &StartInfo {
                arguments: &config.arguments,
                environment: &config.environment,
                random: random_bytes()?,
                info_page: Mailbox::info_page(shim::SHARED_BASE),
                stack_size: shape.stack_size,
                fsgsbase: capabilities.fsgsbase,
            },
        )?;
        mailbox.publish(shim::SHARED_BASE, shim::DOORBELL);

        let (vm, mut vcpu) = create_vm(hypervisor, &system, &space)?;
        start_at(&mut *vcpu, &system, &capabilities, space.root(), start)
            .map_err(|error| BuildError::Hypervisor(Arc::new(error)))?;
        Ok(Self {
            mailbox,
            budget: Budget::default(),
            image: image.clone(),
            interruptor: Interruptor::new(vcpu.interrupter())?,
            shape,
            vcpu,
            vm,
            capabilities,
            system,
            space,
            process: LinuxProcess::new(ProcessConfig { stack_size: shape.stack_size as u64, chance: random_bytes()? }),
            streams,
            at_rest: false,
            resumes: None,
            special: None,
            restores: 0,
            pages_restored: 0,
        })
    }

    /// A machine that is as another was at a checkpoint, and shares the memory that neither has written since.
    pub(crate) fn of_checkpoint(
        hypervisor: &dyn Hypervisor,
        image: &Image,
        checkpoint: &Checkpoint,
        streams: GuestStreams,
    ) -> Result<Self, BuildError> {
        let shape = checkpoint.shape;
        let capabilities = *hypervisor.capabilities();
        let contents = checkpoint.space.contents();
        let region_len = contents.pages() * PAGE_SIZE;
        let region = allocated("guest's memory", region_len, Region::of_contents(contents))?;
        let system = System::of_checkpoint(&checkpoint.system);
        let (system, tables) = allocated("page tables", table_pages(region_len) * PAGE_SIZE, system)?;
        let mut mailbox = Mailbox::new(Arc::clone(&region), shape.mailbox_size);
        mailbox.restore(checkpoint.progress);
        let reserved = Mailbox::len(shape.mailbox_size) / PAGE_SIZE;
        let memory = GuestMemory::of_contents(Arc::clone(&region), MEMORY_PHYS, reserved, contents);
        let mut space = AddressSpace::of_checkpoint(&checkpoint.space, memory, tables);
        space.adopt_windows(mailbox_windows(&mailbox, &region));
        mailbox.publish(shim::SHARED_BASE, shim::DOORBELL);

        let (vm, vcpu) = create_vm(hypervisor, &system, &space)?;
        let mut machine = Self {
            mailbox,
            budget: Budget::default(),
            image: image.clone(),
            interruptor: Interruptor::new(vcpu.interrupter())?,
            shape,
            vcpu,
            vm,
            capabilities,
            system,
            space,
            process: checkpoint.process.clone(),
            streams,
            at_rest: true,
            resumes: None,
            special: None,
            restores: 0,
            pages_restored: 0,
        };
        machine.restore_processor(&checkpoint.processor).map_err(|error| BuildError::Hypervisor(Arc::new(error)))?;
        Ok(machine)
    }

    /// Begins a call, which can be interrupted until the guard is finished. What it may use up is counted from here.
    pub(crate) fn begin_call(&mut self, limits: Limits) -> Result<CallGuard, LimitsUnwatched> {
        self.budget = Budget::new(limits);
        self.process.resume();
        self.space.forget_refusals();
        self.interruptor.begin(TimeLimits { deadline: limits.deadline, cpu_time: limits.cpu_time })
    }

    pub(crate) fn counters(&self) -> Counters {
        self.vcpu.counters()
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn streams_mut(&mut self) -> &mut GuestStreams {
        &mut self.streams
    }

    /// What the guest's memory costs.
    pub(crate) fn memory_use(&mut self) -> Result<MemoryUse, HypervisorError> {
        let written = self.mailbox.sent();
        let memory = self.space.memory_mut();
        memory.note(written.start, written.len());
        let dirty_pages = memory.dirty_pages(&mut *self.vm, MEMORY_SLOT)?;
        Ok(MemoryUse {
            restores: self.restores,
            pages_restored: self.pages_restored,
            dirty_pages,
            owned_pages: memory.owned_pages(),
            shared_pages: memory.shared_pages(),
        })
    }
}

type VmAndVcpu = (Box<dyn Vm>, Box<dyn Vcpu>);

/// Creates the virtual machine with its memory, and a vCPU.
fn create_vm(hypervisor: &dyn Hypervisor, system: &System, space: &AddressSpace) -> Result<VmAndVcpu, BuildError> {
    let create = || {
        let mut vm = hypervisor.create_vm()?;
        let memory = space.memory();
        vm.map(SYSTEM_SLOT, shim::SYSTEM_BASE, Arc::clone(system.region()), WriteTracking::Off)?;
        vm.map(MEMORY_SLOT, memory.base(), Arc::clone(memory.region()), WriteTracking::On)?;
        let vcpu = vm.create_vcpu(&system.syscall_entry())?;
        Ok((vm, vcpu))
    };
    create().map_err(|error| BuildError::Hypervisor(Arc::new(error)))
}

/// Lets the vCPU begin with the guest's first instruction.
fn start_at(
    vcpu: &mut dyn Vcpu,
    system: &System,
    capabilities: &Capabilities,
    root: GuestPhys,
    start: Start,
) -> Result<(), HypervisorError> {
    vcpu.set_special_regs(&system.initial_special_regs(capabilities, root))?;
    vcpu.set_regs(&Regs {
        rip: start.entry.0,
        rsp: start.stack_pointer.0,
        rflags: shim::initial_flags(capabilities),
        ..Regs::default()
    });
    Ok(())
}

impl Shape {
    /// Memory for the mailbox and, behind it, the guest's own pages.
    fn region(&self) -> Result<Arc<Region>, BuildError> {
        let len = Mailbox::len(self.mailbox_size) + self.memory_limit.next_multiple_of(PAGE_SIZE);
        allocated("guest's memory", len, Region::anonymous(len))
    }

    fn address_space(&self, region: Arc<Region>, tables: PageTables) -> AddressSpace {
        let reserved = Mailbox::len(self.mailbox_size) / PAGE_SIZE;
        AddressSpace::new(Parts {
            memory: GuestMemory::new(region, MEMORY_PHYS, reserved),
            tables,
            allow_executable_memory: self.executable_memory,
        })
    }
}

/// Lets the guest see the mailbox.
fn show_mailbox(mailbox: &Mailbox, space: &mut AddressSpace) {
    let region = Arc::clone(space.memory().region());
    for window in mailbox_windows(mailbox, &region) {
        space.add_window(window).expect("the page tables are sized for the mailbox, whose areas lie side by side");
    }
}

/// How the guest sees the mailbox.
fn mailbox_windows(mailbox: &Mailbox, region: &Arc<Region>) -> [Window; 2] {
    mailbox.areas().map(|area| Window {
        at: GuestVirt(shim::SHARED_BASE.0 + area.offset as u64),
        to: GuestPhys(MEMORY_PHYS.0 + area.offset as u64),
        region: Arc::clone(region),
        offset: area.offset,
        len: area.len,
        writable: area.writable,
    })
}

/// How many page tables the system needs for the mailbox and this much memory, wherever the guest maps it.
///
/// Each table of the lowest level covers 2 MiB. A guest that spreads its memory over more places than that can run out;
/// its next mapping fails then, as if there were no memory.
fn table_pages(memory_len: usize) -> usize {
    let lowest = memory_len.div_ceil(LOWEST_TABLE_SPAN) + 1;
    shim::OWN_TABLES + 2 * lowest + SPARE_TABLES
}

fn allocated<T>(what: &'static str, bytes: usize, result: std::io::Result<T>) -> Result<T, BuildError> {
    result.map_err(|reason| BuildError::Memory { what, bytes, reason })
}

/// Where the guest's processor sees its memory, mailbox included: above everything that belongs to the host, and above 4 GiB,
/// where hypervisors place devices.
const MEMORY_PHYS: GuestPhys = GuestPhys(0x1_0000_0000);

/// The slot of the page tables and all else that is ring 0's.
const SYSTEM_SLOT: u32 = 0;

/// The slot of what the guest can write.
const MEMORY_SLOT: u32 = 1;

/// Bytes that one page table of the lowest level covers.
const LOWEST_TABLE_SPAN: usize = 512 * PAGE_SIZE;

/// Page tables beyond those that the memory needs: for the upper levels, and for a guest that maps here and there.
const SPARE_TABLES: usize = 64;

/// Bytes of the host's random source, for the guest's start.
fn random_bytes<const N: usize>() -> Result<[u8; N], BuildError> {
    crate::personality::linux::random::bytes().map_err(BuildError::Random)
}
