//! A guest's process on a processor of its own: loaded from an executable, and run from one stop to the next.

mod allocations;
mod budget;
mod call_by_address;
mod checkpoint;
mod core_dump;
mod debugged;
mod error;
mod faults;
mod host_mappings;
mod run;
mod samples;
mod signals;
mod stats;
mod stored;
mod streams;
#[cfg(test)]
mod tests;
mod traced;
mod unstarted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ampoule_vmm::address_map::{MEMORY_BASE, SHARED_BASE};
use ampoule_vmm::{
    Backend, Entry, GuestPhys, GuestVirt, HostOnly, PAGE_SIZE, PageMap, Prepared, Processor, SystemCall, TrackedRegion,
};

use crate::address_space::{AddressSpace, Parts, Window};
use crate::clock::Clock;
use crate::executable_memory::ExecutableMemory;
use crate::fault::Position;
use crate::guest_memory::{GuestMemory, SharedArea, SharedMemory};
use crate::image::{Executable, Segment};
use crate::interrupt::{InterruptHandle, Interruptor};
use crate::loader::{self, Interpreter, StartInfo, StartRecord};
use crate::metrics;
use crate::output::Origin;
use crate::personality::linux::{ClockConfig, LinuxProcess, ProcessConfig, ProcessFiles, ProgramPart, Started};
use crate::policy::{CallGroup, Policy, RefusedCall};
use crate::profile::{Allocations, Recorder};
use budget::Budget;
use host_mappings::HostMappings;
use run::Broken;
use signals::HandledFault;

pub(crate) use checkpoint::{Checkpoint, CheckpointError, RestoreMachineError};
pub(crate) use debugged::Tracer;
#[cfg(feature = "gdb")]
pub(crate) use debugged::{Subject, Tracee};
pub(crate) use error::MachineError;
pub(crate) use host_mappings::ToMap;
pub(crate) use run::{Served, Stop};
pub use stats::Stats;
pub(crate) use stored::{MachineRecord, RecordError};
pub(crate) use streams::GuestStreams;
use unstarted::MachineParts;

/// What a machine is made for.
#[derive(Debug)]
pub(crate) struct MachineConfig {
    pub(crate) shape: Shape,
    /// Where the guest finds what it runs, if that is among its files.
    pub(crate) program: Option<String>,
    /// What links the executable, where that names such a program.
    pub(crate) interpreter: Option<Interpreter>,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) clock: Clock,
    pub(crate) policy: Policy,
    /// Whether the guest's memory is profiled from its start on.
    pub(crate) profile_memory: bool,
    pub(crate) files: ProcessFiles,
}

/// What decides whether one machine can take over the state of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) memory_limit: usize,
    pub(crate) stack_size: usize,
    pub(crate) executable_memory: ExecutableMemory,
    /// How much memory of the host's can be mapped.
    pub(crate) mapped_limit: usize,
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
    /// The system call in which the guest waits for its input, where it is [at rest](run::Served::AwaitsInput).
    waits_in: Option<SystemCall>,
    space: AddressSpace,
    process: LinuxProcess,
    started: Arc<StartRecord>,
    streams: GuestStreams,
    /// What runs the guest, unless the machine does.
    tracer: Option<Box<dyn Tracer>>,
    /// What takes note of the guest's samples, where it is profiled.
    recorder: Option<Box<Recorder>>,
    /// Memory of the host's that the guest sees.
    host: HostMappings,
    /// What the guest has allocated, where its memory is profiled.
    allocations: Option<Box<Allocations>>,
    /// Where the guest was when the last call was ended.
    ended_at: Option<Position>,
    /// The fault that the guest handles, as far as is known.
    handled: Option<HandledFault>,
    /// The system call in which the guest was last taken out of its sleep or wait, until it has made it again.
    broken: Option<Broken>,
    exits: metrics::Exits,
    restores: u64,
    pages_restored: u64,
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
        let tells_time = config.policy.grants(CallGroup::Time);
        let time_page =
            shape.shared.filter(|_| tells_time).map(|shared| GuestVirt(SHARED_BASE.0 + shared.time_page as u64));
        let process_config = ProcessConfig {
            stack_size: shape.stack_size as u64,
            chance: random_bytes()?,
            clock: ClockConfig {
                clock: config.clock,
                page: time_page,
                shares_counter: backend.behaviour().shares_counter(),
            },
            policy: config.policy,
        };
        let mut process = LinuxProcess::new(process_config, config.files.clone());
        let region = shape.region()?;
        let Prepared { pages, processor } = backend.prepare(region.len(), shape.mapped_room())?;
        let mut space = shape.address_space(Arc::clone(&region), pages);
        for window in shape.windows(&region) {
            space
                .add_window(window)
                .expect("the page tables are sized for shared memory, whose areas lie side by side");
        }
        let start = loader::load(
            executable,
            config.interpreter.as_ref(),
            &mut space,
            &StartInfo {
                program: config.program.as_deref(),
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

        process.started(Started {
            program: config.program.as_deref().unwrap_or(&start.record.program).into(),
            arguments: start.record.arguments,
            environment: start.record.environment,
            auxiliary_vector: (*start.record.auxiliary_vector).into(),
            parts: program_parts(executable),
        });

        let entry = Entry { instruction: start.entry, stack_pointer: start.stack_pointer };
        let processor = processor.start(&region, entry)?;
        let mut machine =
            Self::of_parts(executable, shape, processor, space, (process, Arc::new(start.record)), streams)?;
        if config.profile_memory {
            machine.profile_memory();
        }
        Ok(machine)
    }

    /// A machine in the state that another had at a checkpoint. The two share the memory that neither has written since.
    pub(crate) fn of_checkpoint(
        backend: &dyn Backend,
        executable: &Executable,
        checkpoint: &Checkpoint,
        streams: GuestStreams,
    ) -> Result<Self, MachineError> {
        let shape = checkpoint.shape;
        let MachineParts { region, space, processor } = match checkpoint.leftover.take() {
            Some(parts) => parts,
            None => Self::parts_of(backend, checkpoint)?,
        };
        let processor = processor.resume(&region, &checkpoint.waiting)?;
        let process = (checkpoint.process.clone(), Arc::clone(&checkpoint.started));
        let mut machine = Self::of_parts(executable, shape, processor, space, process, streams)?;
        machine.adopt_host_mappings(&checkpoint.host)?;
        machine.process.refresh_files(&mut machine.space);
        Ok(Self { waits_in: checkpoint.waits_in, ..machine })
    }

    /// What a machine as it was at a checkpoint is made of.
    fn parts_of(backend: &dyn Backend, checkpoint: &Checkpoint) -> Result<MachineParts, MachineError> {
        let shape = checkpoint.shape;
        let contents = checkpoint.space.contents();
        let region = TrackedRegion::of_contents(contents, shape.host_only())
            .map_err(|reason| MachineError::guest_memory(contents.pages() * PAGE_SIZE, reason))?;
        let Prepared { pages, processor } = backend.prepare_like(&checkpoint.pages)?;
        let memory = GuestMemory::of_contents(Arc::clone(&region), MEMORY_BASE, shape.shared_pages(), contents);
        let mut space = AddressSpace::of_checkpoint(&checkpoint.space, memory, pages);
        space.adopt_windows(shape.windows(&region));
        Ok(MachineParts { region, space, processor })
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
            waits_in: None,
            space,
            process,
            started,
            streams,
            tracer: None,
            recorder: None,
            host: HostMappings::default(),
            allocations: None,
            ended_at: None,
            handled: None,
            broken: None,
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

    /// The system calls that the guest has made and does not have.
    pub(crate) fn refused(&self) -> Vec<RefusedCall> {
        self.process.refused()
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// What the log and messages call the guest.
    pub(crate) fn origin(&self) -> &Origin {
        self.streams.origin()
    }

    pub(crate) fn streams(&self) -> &GuestStreams {
        &self.streams
    }

    pub(crate) fn streams_mut(&mut self) -> &mut GuestStreams {
        &mut self.streams
    }
}

impl OutOfRange {
    /// Refuses a size that is out of its range.
    pub(crate) fn check(setting: &'static str, given: usize, [least, most]: [usize; 2]) -> Result<(), Self> {
        if (least..=most).contains(&given) { Ok(()) } else { Err(Self { setting, given, least, most }) }
    }
}

impl Shape {
    /// How much memory of the host's can be mapped at most, in bytes.
    pub(crate) const MOST_MAPPED: usize = 32 << 30;

    /// Refuses sizes that are out of range.
    pub(crate) fn check(&self) -> Result<(), OutOfRange> {
        OutOfRange::check("memory_limit", self.memory_limit, [1 << 20, 32 << 30])?;
        OutOfRange::check("stack_size", self.stack_size, [64 << 10, 1 << 30])?;
        OutOfRange::check("mapped_limit", self.mapped_limit, [0, Self::MOST_MAPPED])
    }

    /// Pages of the memory, those included that are shared with the host.
    pub(crate) fn pages(&self) -> usize {
        self.shared_pages() + self.memory_limit.div_ceil(PAGE_SIZE)
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
            executable_memory: self.executable_memory,
        })
    }

    /// Bytes for which page tables are to be there beside those of the guest's own memory.
    fn mapped_room(&self) -> usize {
        if self.mapped_limit == 0 { 0 } else { self.mapped_limit + host_mappings::TABLE_SLACK }
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

/// Where the bytes of an executable lie in memory, in whole pages.
fn program_parts(executable: &Executable) -> Arc<[ProgramPart]> {
    let with_bytes = executable.segments().filter(|segment| !segment.bytes().is_empty());
    let part = |segment: Segment<'_>| {
        let (at, len) = (segment.address(), segment.bytes().len() as u64);
        ProgramPart {
            start: at.page_start().0,
            end: (at.0 + len).next_multiple_of(PAGE_SIZE as u64),
            offset: segment.file_offset() - at.page_offset() as u64,
        }
    };
    with_bytes.map(part).collect()
}

/// Bytes of the host's random source, for the guest's start.
fn random_bytes<const N: usize>() -> Result<[u8; N], MachineError> {
    crate::personality::linux::random::bytes().map_err(MachineError::Random)
}
