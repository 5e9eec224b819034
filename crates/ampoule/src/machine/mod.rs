//! A guest's process on a processor of its own: loaded from an executable, and run from one stop to the next.

mod budget;
mod call_by_address;
mod checkpoint;
mod core_dump;
mod error;
mod faults;
mod run;
mod streams;
#[cfg(test)]
mod tests;
mod trace;
mod tracer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ampoule_vmm::address_map::{MEMORY_BASE, SHARED_BASE};
use ampoule_vmm::{
    Backend, Counters, Entry, GuestPhys, GuestVirt, HostOnly, HypervisorError, PAGE_SIZE, PageMap, Prepared, Processor,
    TrackedRegion,
};

use crate::address_space::{AddressSpace, Parts, Window};
use crate::clock::Clock;
use crate::fault::Position;
use crate::guest_memory::{GuestMemory, SharedArea, SharedMemory};
use crate::image::Executable;
use crate::interrupt::{InterruptHandle, Interruptor};
use crate::loader::{self, StartInfo, StartRecord};
use crate::metrics;
use crate::output::Origin;
use crate::personality::linux::{ClockConfig, LinuxProcess, ProcessConfig};
use budget::Budget;

pub(crate) use checkpoint::{Checkpoint, CheckpointError, RestoreMachineError};
pub(crate) use error::MachineError;
pub(crate) use run::{Served, Stop};
pub(crate) use streams::GuestStreams;
pub(crate) use tracer::Tracer;
#[cfg(feature = "gdb")]
pub(crate) use tracer::{Subject, Tracee};

/// What a machine is made for.
#[derive(Debug)]
pub(crate) struct MachineConfig {
    pub(crate) shape: Shape,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) clock: Clock,
}

/// What decides whether one machine can take over the state of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) memory_limit: usize,
    pub(crate) stack_size: usize,
    pub(crate) executable_memory: bool,
    /// Memory that the guest shares with the host, where it has any.
    pub(crate) shared: Option<SharedMemory>,
}

/// A size that a guest cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The builder's method that sets it.
    pub setting: &'static str,
    /// What was asked for, in bytes.
    pub given: usize,
    /// The least that works.
    pub least: usize,
    /// The most that works.
    pub most: usize,
}

/// A processor with a guest on it.
pub(crate) struct Machine {
    budget: Budget,
    interruptor: Interruptor,
    executable: Executable,
    shape: Shape,
    processor: Box<dyn Processor>,
    space: AddressSpace,
    process: LinuxProcess,
    started: Arc<StartRecord>,
    streams: GuestStreams,
    /// What runs the guest, unless the machine does.
    tracer: Option<Box<dyn Tracer>>,
    /// Where the guest was when the last call was ended.
    ended_at: Option<Position>,
    exits: metrics::Exits,
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
    ) -> Result<Self, MachineError> {
        let shape = config.shape;
        let time_page = shape.shared.map(|shared| GuestVirt(SHARED_BASE.0 + shared.time_page as u64));
        let process = LinuxProcess::new(ProcessConfig {
            stack_size: shape.stack_size as u64,
            chance: random_bytes()?,
            clock: ClockConfig {
                clock: config.clock,
                page: time_page,
                shares_counter: backend.behaviour().shares_counter(),
            },
        });
        let region = shape.region()?;
        let Prepared { pages, processor } = backend.prepare(region.len())?;
        let mut space = shape.address_space(Arc::clone(&region), pages);
        for window in shape.windows(&region) {
            space
                .add_window(window)
                .expect("the page tables are sized for shared memory, whose areas lie side by side");
        }
        let start = loader::load(
            executable,
            &mut space,
            &StartInfo {
                arguments: &config.arguments,
                environment: &config.environment,
                random: random_bytes()?,
                info_page: shape
                    .shared
                    .and_then(|shared| shared.description)
                    .map(|at| GuestVirt(SHARED_BASE.0 + at as u64)),
                time_page,
                stack_size: shape.stack_size,
                hardware: backend.behaviour().hardware_capabilities(),
            },
        )?;

        let entry = Entry { instruction: start.entry, stack_pointer: start.stack_pointer };
        let processor = processor.start(&region, entry)?;
        Self::of_parts(executable, shape, processor, space, (process, Arc::new(start.record)), streams)
    }

    /// A machine in the state that another had at a checkpoint. The two share the memory that neither has written since.
    pub(crate) fn of_checkpoint(
        backend: &dyn Backend,
        executable: &Executable,
        checkpoint: &Checkpoint,
        streams: GuestStreams,
    ) -> Result<Self, MachineError> {
        let shape = checkpoint.shape;
        let contents = checkpoint.space.contents();
        let region = TrackedRegion::of_contents(contents, shape.host_only())
            .map_err(|reason| MachineError::guest_memory(contents.pages() * PAGE_SIZE, reason))?;
        let Prepared { pages, processor } = backend.prepare_like(&checkpoint.pages)?;
        let memory = GuestMemory::of_contents(Arc::clone(&region), MEMORY_BASE, shape.shared_pages(), contents);
        let mut space = AddressSpace::of_checkpoint(&checkpoint.space, memory, pages);
        space.adopt_windows(shape.windows(&region));

        let processor = processor.resume(&region, &checkpoint.waiting)?;
        let process = (checkpoint.process.clone(), Arc::clone(&checkpoint.started));
        Self::of_parts(executable, shape, processor, space, process, streams)
    }

    fn of_parts(
        executable: &Executable,
        shape: Shape,
        processor: Box<dyn Processor>,
        space: AddressSpace,
        (process, started): (LinuxProcess, Arc<StartRecord>),
        streams: GuestStreams,
    ) -> Result<Self, MachineError> {
        Ok(Self {
            budget: Budget::default(),
            interruptor: Interruptor::new(processor.interrupter())?,
            executable: executable.clone(),
            shape,
            processor,
            space,
            process,
            started,
            streams,
            tracer: None,
            ended_at: None,
            exits: metrics::Exits::default(),
            restores: 0,
            pages_restored: 0,
        })
    }

    /// A handle with which any thread can end what the guest is doing.
    pub(crate) fn interrupt_handle(&self) -> InterruptHandle {
        self.interruptor.handle()
    }

    pub(crate) fn interruptor_mut(&mut self) -> &mut Interruptor {
        &mut self.interruptor
    }

    /// The memory that the guest shares with the host, if any, is the start of this region.
    pub(crate) fn region(&self) -> &Arc<TrackedRegion> {
        self.space.memory().region()
    }

    pub(crate) fn memory_mut(&mut self) -> &mut GuestMemory {
        self.space.memory_mut()
    }

    /// Lets time pass on the guest's clocks, unless they are the host's, and says whether they are not.
    pub(crate) fn advance_clock(&mut self, by: Duration) -> bool {
        self.process.advance_clock(by)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.processor.counters()
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// What the log and messages call the guest.
    pub(crate) fn origin(&self) -> &Origin {
        self.streams.origin()
    }

    pub(crate) fn streams_mut(&mut self) -> &mut GuestStreams {
        &mut self.streams
    }

    /// Pages that the guest owns and that it shares, for whoever does without them where the hypervisor fails.
    pub(crate) fn memory_pages(&mut self) -> Option<[usize; 2]> {
        self.memory_use().ok().map(|memory| [memory.owned_pages, memory.shared_pages])
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

impl OutOfRange {
    /// Refuses a size that is out of its range.
    pub(crate) fn check(setting: &'static str, given: usize, [least, most]: [usize; 2]) -> Result<(), Self> {
        if (least..=most).contains(&given) { Ok(()) } else { Err(Self { setting, given, least, most }) }
    }
}

impl Shape {
    /// Refuses sizes that are out of range.
    pub(crate) fn check(&self) -> Result<(), OutOfRange> {
        OutOfRange::check("memory_limit", self.memory_limit, [1 << 20, 32 << 30])?;
        OutOfRange::check("stack_size", self.stack_size, [64 << 10, 1 << 30])
    }

    /// Memory that is shared with the host and, behind it, the guest's own pages.
    fn region(&self) -> Result<Arc<TrackedRegion>, MachineError> {
        let len = self.shared_pages() * PAGE_SIZE + self.memory_limit.next_multiple_of(PAGE_SIZE);
        TrackedRegion::anonymous(len, self.host_only()).map_err(|reason| MachineError::guest_memory(len, reason))
    }

    fn address_space(&self, region: Arc<TrackedRegion>, tables: Box<dyn PageMap>) -> AddressSpace {
        AddressSpace::new(Parts {
            memory: GuestMemory::new(region, MEMORY_BASE, self.shared_pages()),
            tables,
            allow_executable_memory: self.executable_memory,
        })
    }

    fn host_only(&self) -> HostOnly {
        self.shared.map(|shared| shared.host_only).unwrap_or_default()
    }

    fn shared_pages(&self) -> usize {
        self.shared.map_or(0, |shared| shared.len / PAGE_SIZE)
    }

    /// How the guest sees the memory that it shares with the host.
    fn windows(&self, region: &Arc<TrackedRegion>) -> Vec<Window> {
        let areas = self.shared.iter().flat_map(|shared| shared.areas).filter(|area| area.len > 0);
        let window = |area: SharedArea| Window {
            at: GuestVirt(SHARED_BASE.0 + area.offset as u64),
            to: GuestPhys(MEMORY_BASE.0 + area.offset as u64),
            region: Arc::clone(region),
            offset: area.offset,
            len: area.len,
            writable: area.writable,
        };
        areas.map(window).collect()
    }
}

/// Bytes of the host's random source, for the guest's start.
fn random_bytes<const N: usize>() -> Result<[u8; N], MachineError> {
    crate::personality::linux::random::bytes().map_err(MachineError::Random)
}
