//! A process as a record of a stored snapshot, and back.
//!
//! What is the host's is not in it: files that were granted are found again, by their paths, in those that the process is given
//! when it is made of its record.

use std::sync::Arc;

use ampoule_vfs::{
    Context, File, FileType, Follow, NoProcess, RestoreFilesError, StoredFiles, StoredPlace, Timestamp, Vfs,
};
use linux_raw_sys::general::{O_ACCMODE, O_APPEND, O_DIRECTORY, O_PATH, O_RDONLY};
use serde::{Deserialize, Serialize};

use super::clocks::{ClockConfig, Clocks, ClocksRecord};
use super::counts::Counts;
use super::descriptors::{Descriptors, DescriptorsRecord, FileId};
use super::log::Log;
use super::maps::ProgramPart;
use super::process::{NAME_LEN, ProcessId};
use super::resource_limits::ResourceLimits;
use super::segments::SegmentBases;
use super::shortage::Shortage;
use super::signals::{Signals, SignalsRecord};
use super::timers::{Timers, TimersRecord};
use super::{LinuxProcess, ProcessConfig, Started, State, TerminalStreams};
use crate::bad_record::BadRecord;
use crate::policy::Policy;

/// A process, but for its memory and its registers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    stack_size: u64,
    /// The groups of system calls that it has.
    policy: u8,
    number: u32,
    boot: [u8; 16],
    name: [u8; NAME_LEN],
    umask: u32,
    nice: i32,
    io_priority: u16,
    limits: ResourceLimits,
    clocks: ClocksRecord,
    signals: SignalsRecord,
    timers: TimersRecord,
    descriptors: DescriptorsRecord,
    segments: [u64; 2],
    /// How often each system call was refused, by number.
    refused: Vec<(u32, u32)>,
    harmless_sockets: u32,
    started: StartedRecord,
    /// What is in memory of the file system.
    files: StoredFiles,
    /// The seals of files without a name, by their inodes.
    seals: Vec<(u64, u32)>,
    /// The working directory.
    directory: PlaceRecord,
    /// The program that it runs, where that is in the file system.
    executable: Option<PlaceRecord>,
    /// What is open in the file system, by its place in the table of open files.
    open: Vec<(u32, PlaceRecord)>,
}

/// What it was started with: addresses and lengths.
#[derive(Debug, Serialize, Deserialize)]
struct StartedRecord {
    program: String,
    arguments: (u64, u64),
    environment: (u64, u64),
    auxiliary_vector: Box<[u8]>,
    parts: Vec<ProgramPart>,
}

/// Where a file is that is open.
#[derive(Debug, Serialize, Deserialize)]
enum PlaceRecord {
    /// Here among what was granted, and what it was opened for.
    Path(Box<[u8]>, u32),
    Memory(StoredPlace),
}

/// Why a process cannot be made of its record with the files that it is given.
#[derive(Debug)]
pub(crate) enum ProcessError {
    Record(BadRecord),
    /// It had a file open that it does not find again.
    File {
        path: Box<[u8]>,
        reason: ampoule_vfs::Errno,
    },
    /// Its files in memory cannot be put where they were.
    Files(RestoreFilesError),
}

impl ProcessRecord {
    /// Which groups of system calls it has.
    pub(crate) fn policy(&self) -> Policy {
        Policy::of_bits(self.policy)
    }
}

impl LinuxProcess {
    /// The record of a process that is [suspended](Self::suspended).
    ///
    /// # Errors
    ///
    /// What of the process has no record, as what it does.
    pub(crate) fn record(&self) -> Result<ProcessRecord, String> {
        let Self { state, clocks, .. } = self;
        let context = Context { now: Timestamp::default(), process: &NoProcess };
        let path = |file: &File| -> Result<Box<[u8]>, String> {
            let path = state.vfs.path_of(&context, file);
            let found = state.vfs.resolve(&context, &state.vfs.root(), &path, Follow::Always);
            match found.is_ok_and(|found| state.vfs.is_same(&found, file.location())) {
                true => Ok(path.into()),
                false => Err(format!("has a file open that has no name any more: {}", String::from_utf8_lossy(&path))),
            }
        };
        if state.terminal != TerminalStreams::None {
            return Err("has a terminal".to_owned());
        }
        let files = state.vfs.store().map_err(|error| format!("has files that cannot be stored: {error}"))?;
        let place = |file: &File, flags: u32| match state.vfs.stored_place(file) {
            Some(place) => Ok::<_, String>(PlaceRecord::Memory(place)),
            None => Ok(PlaceRecord::Path(path(file)?, flags)),
        };
        let named = |(file, named): (FileId, &File)| {
            let flags = state.descriptors.file(file).flags;
            Ok::<_, String>((file.number() as u32, place(named, flags)?))
        };
        let Started { program, arguments, environment, auxiliary_vector, parts } = &state.started;
        Ok(ProcessRecord {
            stack_size: state.config.stack_size,
            policy: state.config.policy.bits(),
            number: state.id.number(),
            boot: state.boot,
            name: state.name,
            umask: state.umask,
            nice: state.nice,
            io_priority: state.io_priority,
            limits: state.limits.clone(),
            clocks: clocks.record(),
            signals: state.signals.record(),
            timers: state.timers.record(),
            descriptors: state.descriptors.record()?,
            segments: state.segments.record(),
            refused: state.refused.iter().map(|(number, count)| (number as u32, count)).collect(),
            harmless_sockets: state.harmless_sockets,
            started: StartedRecord {
                program: (**program).to_owned(),
                arguments: *arguments,
                environment: *environment,
                auxiliary_vector: (**auxiliary_vector).into(),
                parts: parts.to_vec(),
            },
            files,
            seals: state.seals.iter().map(|((_, inode), seals)| (*inode, *seals)).collect(),
            directory: place(&state.directory, O_PATH | O_DIRECTORY)?,
            executable: state.executable.as_ref().and_then(|file| place(file, O_RDONLY).ok()),
            open: state.descriptors.named_by_place().map(named).collect::<Result<_, _>>()?,
        })
    }

    /// The process of a record, suspended, with these files; `clock` says what the host is like.
    ///
    /// # Errors
    ///
    /// A [`ProcessError`].
    pub(crate) fn of_record(record: &ProcessRecord, mut vfs: Vfs, clock: ClockConfig) -> Result<Self, ProcessError> {
        let (clocks, made) = Clocks::of_record(&record.clocks, clock)?;
        let id = ProcessId::of_record(record.number).ok_or(bad("its number is none that a process has"))?;
        let signals = Signals::of_record(&record.signals, id)?;
        let timers = Timers::of_record(&record.timers)?;
        check(record.umask <= 0o777 && (-20..20).contains(&record.nice), "its niceness or its umask is out of range")?;
        check(record.limits.are_sound(), "a limit is beyond what it can be set to")?;
        check(record.started.parts.len() <= MOST_PARTS, "its program has more parts than one can have")?;
        check(record.started.parts.iter().all(ProgramPart::is_sound), "a part of its program ends before it begins")?;
        vfs.restore(&record.files).map_err(ProcessError::Files)?;
        let directory = open(&mut vfs, &record.directory)?;
        check(vfs.file_type(directory.location()) == Ok(FileType::Directory), "its working directory is none")?;
        // What it runs is in its memory, wherever the file has gone.
        let executable = record.executable.as_ref().and_then(|place| open(&mut vfs, place).ok());
        let mut named = Vec::new();
        for (file, place) in &record.open {
            named.push((FileId::of_number(*file), open(&mut vfs, place)?));
        }
        check(vfs.has_no_lost_files(), "a file in memory has no name and is not open")?;
        let seals = record.seals.iter().map(|(inode, seals)| ((ANONYMOUS, *inode), *seals)).collect();
        let descriptors = Descriptors::of_record(&record.descriptors, |file| {
            let at = named.iter().position(|(of, _)| *of == file)?;
            Some(named.swap_remove(at).1)
        })?;
        check(named.is_empty(), "a file is open that has no place")?;
        let StartedRecord { program, arguments, environment, auxiliary_vector, parts } = &record.started;
        let config = ProcessConfig {
            stack_size: record.stack_size,
            chance: [0; 4],
            clock: ClockConfig { clock: made, ..clock },
            policy: Policy::of_bits(record.policy),
        };
        let state = State {
            config,
            id,
            descriptors,
            vfs,
            directory,
            executable,
            boot: record.boot,
            seals,
            shared: Default::default(),
            copied: Default::default(),
            terminal: TerminalStreams::None,
            started: Started {
                program: program.as_str().into(),
                arguments: *arguments,
                environment: *environment,
                auxiliary_vector: (**auxiliary_vector).into(),
                parts: parts.as_slice().into(),
            },
            signals,
            timers,
            segments: SegmentBases::of_record(record.segments),
            name: record.name,
            umask: record.umask,
            nice: record.nice,
            io_priority: record.io_priority,
            limits: record.limits.clone(),
            refused: Counts::of(record.refused.iter().map(|(number, count)| ((*number).into(), *count))),
            harmless_sockets: record.harmless_sockets,
        };
        Ok(Self { state: Arc::new(state), clocks, log: Log::new(), shortage: Shortage::None, waits_in: None })
    }
}

impl From<BadRecord> for ProcessError {
    fn from(record: BadRecord) -> Self {
        Self::Record(record)
    }
}

/// Opens what has been open.
fn open(vfs: &mut Vfs, place: &PlaceRecord) -> Result<File, ProcessError> {
    match place {
        PlaceRecord::Path(path, flags) => {
            let context = Context { now: Timestamp::default(), process: &NoProcess };
            let (root, flags) = (vfs.root(), flags & (O_ACCMODE | O_APPEND | O_PATH | O_DIRECTORY));
            let opened = vfs.open(&context, &root, path, flags, 0);
            opened.map_err(|reason| ProcessError::File { path: path.clone(), reason })
        }
        PlaceRecord::Memory(place) => {
            Ok(vfs.reopen(place).map_err(|_| bad("a file in memory is open that is not there"))?)
        }
    }
}

/// The number of the mount of files without a name (`Metadata::mount`): it is always the second.
const ANONYMOUS: u64 = 1;

fn check(holds: bool, problem: &'static str) -> Result<(), BadRecord> {
    BadRecord::unless(holds, "process", problem)
}

fn bad(problem: &'static str) -> BadRecord {
    BadRecord { part: "process", problem }
}

/// How many parts a program's file has in memory at most: as many as an executable may have program headers.
const MOST_PARTS: usize = 256;
