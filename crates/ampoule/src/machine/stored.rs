//! A machine's checkpoint as a record of a stored snapshot, and back.
//!
//! The record holds no contents of memory, which are pages of the file, and no page tables, which are made again.

use std::io;
use std::sync::Arc;

use ampoule_vfs::{Errno, RestoreFilesError, Vfs};
use ampoule_vmm::address_map::{MEMORY_BASE, SHARED_BASE};
use ampoule_vmm::{
    Backend, BadRegister, Contents, GuestVirt, PAGE_SIZE, PrepareError, Prepared, SystemCall, TrackedRegion,
};
use serde::{Deserialize, Serialize};

use super::unstarted::{Leftover, MachineParts};
use super::{Checkpoint, OutOfRange, Shape};
use crate::address_space::{AddressSpace, SpaceError, SpaceRecord};
use crate::bad_record::BadRecord;
use crate::executable_memory::ExecutableMemory;
use crate::guest_memory::{GuestMemory, SharedMemory};
use crate::loader::StartRecord;
use crate::personality::linux::{ClockConfig, LinuxProcess, ProcessError, ProcessRecord};
use crate::policy::CallGroup;

/// A guest that waits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MachineRecord {
    memory_limit: u64,
    stack_size: u64,
    executable_memory: ExecutableMemoryRecord,
    /// How much memory of the host's can be mapped.
    mapped_limit: u64,
    space: SpaceRecord,
    /// All registers, in the architecture's form.
    registers: Box<[u8]>,
    /// The system call in which it waits for its input.
    waits_in: Option<(u64, [u64; 6])>,
    process: ProcessRecord,
    started: StartedRecord,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum ExecutableMemoryRecord {
    Refused,
    WriteXorExecute,
    Unrestricted,
}

/// What the program was started with, for its core dumps.
#[derive(Debug, Serialize, Deserialize)]
struct StartedRecord {
    auxiliary_vector: Box<[u8]>,
    program: String,
    command_line: String,
    arguments: (u64, u64),
    environment: (u64, u64),
}

/// Why no checkpoint can be made of a record.
#[derive(Debug)]
pub(crate) enum RecordError {
    Record(BadRecord),
    Setting(OutOfRange),
    Registers(BadRegister),
    File { path: Box<[u8]>, reason: Errno },
    Files(RestoreFilesError),
    Memory { what: &'static str, bytes: usize, reason: io::Error },
}

impl Checkpoint {
    /// The record.
    ///
    /// # Errors
    ///
    /// What the guest does, or has, that has no record.
    pub(crate) fn record(&self) -> Result<MachineRecord, String> {
        let Self { shape, space, process, started, waiting, waits_in, host, .. } = self;
        if !host.is_empty() {
            return Err("has memory of its host's mapped".to_owned());
        }
        let StartRecord { auxiliary_vector, program, command_line, arguments, environment } = &**started;
        Ok(MachineRecord {
            memory_limit: shape.memory_limit as u64,
            stack_size: shape.stack_size as u64,
            executable_memory: ExecutableMemoryRecord::of(shape.executable_memory),
            mapped_limit: shape.mapped_limit as u64,
            space: space.record()?,
            registers: waiting.to_bytes().into(),
            waits_in: waits_in.map(|SystemCall { number, arguments }| (number, arguments)),
            process: process.record()?,
            started: StartedRecord {
                auxiliary_vector: auxiliary_vector.clone(),
                program: (**program).to_owned(),
                command_line: (**command_line).to_owned(),
                arguments: *arguments,
                environment: *environment,
            },
        })
    }

    /// What the guest's memory held.
    pub(crate) fn contents(&self) -> &Arc<Contents> {
        self.space.contents()
    }

    /// The page of the memory that is behind an address, if any is.
    pub(crate) fn page_behind(&self, at: GuestVirt) -> Option<usize> {
        self.space.frame_behind(at).map(|frame| self.shape.shared_pages() + frame.0 as usize)
    }

    /// Pages at the start of the memory that are shared with the host. No snapshot needs what they hold.
    pub(crate) fn shared_pages(&self) -> usize {
        self.shape.shared_pages()
    }
}

impl MachineRecord {
    /// What decides about the size of the memory, checked; `shared` is what the guest shares with the host.
    ///
    /// # Errors
    ///
    /// Where a size is out of its range.
    pub(crate) fn shape(&self, shared: SharedMemory) -> Result<Shape, OutOfRange> {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (memory_limit, stack_size) = (size(self.memory_limit), size(self.stack_size));
        let shape = Shape {
            memory_limit,
            stack_size,
            executable_memory: self.executable_memory.kind(),
            mapped_limit: size(self.mapped_limit),
            shared: Some(shared),
        };
        shape.check()?;
        Ok(shape)
    }

    /// The same of a program, which shares a page with the host that it reads its clocks from.
    ///
    /// # Errors
    ///
    /// Where a size is out of its range.
    pub(crate) fn shape_of_program(&self) -> Result<Shape, OutOfRange> {
        self.shape(SharedMemory::of_clocks())
    }

    /// The checkpoint of a machine of this shape, whose memory held these contents, and whose process has these files.
    ///
    /// # Errors
    ///
    /// A [`RecordError`].
    pub(crate) fn checkpoint(
        &self,
        backend: &dyn Backend,
        shape: Shape,
        contents: &Arc<Contents>,
        files: Vfs,
    ) -> Result<Checkpoint, RecordError> {
        let waits_in = self.waits_in.map(|(number, arguments)| SystemCall { number, arguments });
        let region = TrackedRegion::of_contents(contents, shape.host_only()).map_err(|reason| {
            let bytes = contents.pages() * PAGE_SIZE;
            RecordError::Memory { what: "guest's memory", bytes, reason }
        })?;
        let Prepared { pages, processor } = backend
            .prepare(region.len(), shape.mapped_room())
            .map_err(|PrepareError { bytes, reason }| RecordError::Memory { what: "page tables", bytes, reason })?;
        let memory = GuestMemory::of_contents(Arc::clone(&region), MEMORY_BASE, shape.shared_pages(), contents);
        let mut space = AddressSpace::of_record(&self.space, memory, pages, shape.executable_memory)?;
        for window in shape.windows(&region) {
            space
                .add_window(window)
                .expect("the page tables are sized for shared memory, whose areas lie side by side");
        }
        let waiting = processor.wait_as(&self.registers).map_err(RecordError::Registers)?;
        let is_in_call = waits_in.is_some();
        BadRecord::unless(waiting.is_in_system_call() == is_in_call, "processor", "it waits for something else")?;
        let pages = space.tables_mut().checkpoint().map_err(|reason| RecordError::Memory {
            what: "page tables",
            bytes: PAGE_SIZE,
            reason,
        })?;

        let process = self.process(backend, shape, files)?;
        let StartedRecord { auxiliary_vector, program, command_line, arguments, environment } = &self.started;
        let started = StartRecord {
            auxiliary_vector: auxiliary_vector.clone(),
            program: program.as_str().into(),
            command_line: command_line.as_str().into(),
            arguments: *arguments,
            environment: *environment,
        };
        Ok(Checkpoint {
            shape,
            space: space.as_recorded(),
            pages,
            process,
            started: Arc::new(started),
            waiting,
            waits_in,
            host: Vec::new(),
            live: None,
            leftover: Leftover::new(MachineParts { region, space, processor }),
        })
    }

    fn process(&self, backend: &dyn Backend, shape: Shape, files: Vfs) -> Result<LinuxProcess, RecordError> {
        let tells_time = self.process.policy().grants(CallGroup::Time);
        let page = shape.shared.filter(|_| tells_time).map(|shared| GuestVirt(SHARED_BASE.0 + shared.time_page as u64));
        let shares_counter = backend.behaviour().shares_counter();
        let clock = ClockConfig { clock: Default::default(), page, shares_counter };
        LinuxProcess::of_record(&self.process, files, clock).map_err(|error| match error {
            ProcessError::Record(record) => RecordError::Record(record),
            ProcessError::File { path, reason } => RecordError::File { path, reason },
            ProcessError::Files(error) => RecordError::Files(error),
        })
    }
}

impl ExecutableMemoryRecord {
    fn of(kind: ExecutableMemory) -> Self {
        match kind {
            ExecutableMemory::Refused => Self::Refused,
            ExecutableMemory::WriteXorExecute => Self::WriteXorExecute,
            ExecutableMemory::Unrestricted => Self::Unrestricted,
        }
    }

    fn kind(self) -> ExecutableMemory {
        match self {
            Self::Refused => ExecutableMemory::Refused,
            Self::WriteXorExecute => ExecutableMemory::WriteXorExecute,
            Self::Unrestricted => ExecutableMemory::Unrestricted,
        }
    }
}

impl From<SpaceError> for RecordError {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::Record(record) => Self::Record(record),
            SpaceError::Tables => {
                Self::Record(BadRecord { part: "address space", problem: "it takes more page tables than there are" })
            }
        }
    }
}

impl From<BadRecord> for RecordError {
    fn from(record: BadRecord) -> Self {
        Self::Record(record)
    }
}
