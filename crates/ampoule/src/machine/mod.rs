//! A guest's virtual machine: built from an executable, run from one message of the guest to the next.

mod budget;
mod call_by_address;
mod checkpoint;
mod exits;
mod faults;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use ampoule_vmm::address_map::{MEMORY_BASE, SHARED_BASE};
use ampoule_vmm::{
    Backend, Counters, DOORBELL, Entry, GuestPhys, GuestVirt, HypervisorError, PAGE_SIZE, PageMap, PrepareError,
    Prepared, Processor, TrackedRegion,
};

use crate::address_space::{AddressSpace, Parts, Window};
use crate::error::BuildError;
use crate::guest_memory::GuestMemory;
use crate::image::Executable;
use crate::interrupt::{CallGuard, Interruptor, LimitsUnwatched, TimeLimits};
use crate::limits::Limits;
use crate::loader::{self, StartInfo};
use crate::mailbox::Mailbox;
use crate::personality::linux::{LinuxProcess, ProcessConfig};
pub(crate) use budget::Budget;
pub(crate) use checkpoint::{Checkpoint, CheckpointError, RestoreMachineError};
pub(crate) use streams::GuestStreams;

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
    executable: Executable,
    shape: Shape,
    processor: Box<dyn Processor>,
    space: AddressSpace,
    process: LinuxProcess,
    streams: GuestStreams,
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
    /// Loads the executable, then makes the processor for it. The guest has not run yet.
    pub(crate) fn new(
        backend: &dyn Backend,
        executable: &Executable,
        config: &MachineConfig,
        streams: GuestStreams,
    ) -> Result<Self, BuildError> {
        let shape = config.shape;
        let region = shape.region()?;
        let Prepared { pages, processor } = backend.prepare(region.len()).map_err(no_tables)?;
        let mailbox = Mailbox::new(Arc::clone(&region), shape.mailbox_size);
        let mut space = shape.address_space(Arc::clone(&region), pages);
        show_mailbox(&mailbox, &mut space);
        let start = loader::load(
            executable,
            &mut space,
            &StartInfo {
                arguments: &config.arguments,
                environment: &config.environment,
                random: random_bytes()?,
                info_page: Mailbox::info_page(SHARED_BASE),
                stack_size: shape.stack_size,
                hardware: backend.behaviour().hardware_capabilities(),
            },
        )?;
        mailbox.publish(SHARED_BASE, DOORBELL);

        let entry = Entry { instruction: start.entry, stack_pointer: start.stack_pointer };
        let processor = processor.start(&region, entry).map_err(|error| BuildError::Hypervisor(Arc::new(error)))?;
        let process = LinuxProcess::new(ProcessConfig { stack_size: shape.stack_size as u64, chance: random_bytes()? });
        Self::of_parts(executable, shape, mailbox, processor, space, process, streams)
    }

    /// A machine that is as another was at a checkpoint, and shares the memory that neither has written since.
    pub(crate) fn of_checkpoint(
        backend: &dyn Backend,
        executable: &Executable,
        checkpoint: &Checkpoint,
        streams: GuestStreams,
    ) -> Result<Self, BuildError> {
        let shape = checkpoint.shape;
        let contents = checkpoint.space.contents();
        let region_len = contents.pages() * PAGE_SIZE;
        let region = allocated(
            "guest's memory",
            region_len,
            TrackedRegion::of_contents(contents, Mailbox::host_only(shape.mailbox_size)),
        )?;
        let Prepared { pages, processor } = backend.prepare_like(&checkpoint.pages).map_err(no_tables)?;
        let mut mailbox = Mailbox::new(Arc::clone(&region), shape.mailbox_size);
        mailbox.restore(checkpoint.progress);
        let reserved = Mailbox::len(shape.mailbox_size) / PAGE_SIZE;
        let memory = GuestMemory::of_contents(Arc::clone(&region), MEMORY_BASE, reserved, contents);
        let mut space = AddressSpace::of_checkpoint(&checkpoint.space, memory, pages);
        space.adopt_windows(mailbox_windows(&mailbox, &region));
        mailbox.publish(SHARED_BASE, DOORBELL);

        let processor = processor.resume(&region, &checkpoint.waiting);
        let processor = processor.map_err(|error| BuildError::Hypervisor(Arc::new(error)))?;
        Self::of_parts(executable, shape, mailbox, processor, space, checkpoint.process.clone(), streams)
    }

    fn of_parts(
        executable: &Executable,
        shape: Shape,
        mailbox: Mailbox,
        processor: Box<dyn Processor>,
        space: AddressSpace,
        process: LinuxProcess,
        streams: GuestStreams,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            mailbox,
            budget: Budget::default(),
            interruptor: Interruptor::new(processor.interrupter())?,
            executable: executable.clone(),
            shape,
            processor,
            space,
            process,
            streams,
            restores: 0,
            pages_restored: 0,
        })
    }

    /// Begins a call, which can be interrupted until the guard is finished. What it may use up is counted from here.
    pub(crate) fn begin_call(&mut self, limits: Limits) -> Result<CallGuard, LimitsUnwatched> {
        self.budget = Budget::new(limits);
        self.process.resume();
        self.space.forget_refusals();
        self.interruptor.begin(TimeLimits { deadline: limits.deadline, cpu_time: limits.cpu_time })
    }

    pub(crate) fn counters(&self) -> Counters {
        self.processor.counters()
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn streams_mut(&mut self) -> &mut GuestStreams {
        &mut self.streams
    }

    /// What the guest's memory costs.
    pub(crate) fn memory_use(&mut self) -> Result<MemoryUse, HypervisorError> {
        let memory = self.space.memory_mut();
        let dirty_pages = memory.dirty_pages(&mut *self.processor)?;
        Ok(MemoryUse {
            restores: self.restores,
            pages_restored: self.pages_restored,
            dirty_pages,
            owned_pages: memory.owned_pages(),
            shared_pages: memory.shared_pages(),
        })
    }
}

impl Shape {
    /// Memory for the mailbox and, behind it, the guest's own pages.
    fn region(&self) -> Result<Arc<TrackedRegion>, BuildError> {
        let len = Mailbox::len(self.mailbox_size) + self.memory_limit.next_multiple_of(PAGE_SIZE);
        allocated("guest's memory", len, TrackedRegion::anonymous(len, Mailbox::host_only(self.mailbox_size)))
    }

    fn address_space(&self, region: Arc<TrackedRegion>, tables: Box<dyn PageMap>) -> AddressSpace {
        let reserved = Mailbox::len(self.mailbox_size) / PAGE_SIZE;
        AddressSpace::new(Parts {
            memory: GuestMemory::new(region, MEMORY_BASE, reserved),
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
fn mailbox_windows(mailbox: &Mailbox, region: &Arc<TrackedRegion>) -> [Window; 2] {
    mailbox.areas().map(|area| Window {
        at: GuestVirt(SHARED_BASE.0 + area.offset as u64),
        to: GuestPhys(MEMORY_BASE.0 + area.offset as u64),
        region: Arc::clone(region),
        offset: area.offset,
        len: area.len,
        writable: area.writable,
    })
}

fn allocated<T>(what: &'static str, bytes: usize, result: std::io::Result<T>) -> Result<T, BuildError> {
    result.map_err(|reason| BuildError::Memory { what, bytes, reason })
}

fn no_tables(PrepareError { bytes, reason }: PrepareError) -> BuildError {
    BuildError::Memory { what: "page tables", bytes, reason }
}

/// Bytes of the host's random source, for the guest's start.
fn random_bytes<const N: usize>() -> Result<[u8; N], BuildError> {
    crate::personality::linux::random::bytes().map_err(BuildError::Random)
}
