//! Open files as a record of a stored snapshot, and back. What is open in the file system is opened again by whoever has that.

use std::collections::BTreeMap;

use ampoule_vfs::{Device, File, ProcessFile, SystemFile};
use serde::{Deserialize, Serialize};

use super::{Descriptor, Descriptors, FileId, OPEN_MAX, Object, OpenFile, PairId, PipeId};
use crate::bad_record::BadRecord;
use crate::output::Stream;
use crate::personality::linux::epoll::{Epoll, EpollRecord};
use crate::personality::linux::event_counter::{CounterRecord, EventCounter};
use crate::personality::linux::pipe::{Pipe, PipeRecord};
use crate::personality::linux::socket::{SocketEnd, SocketPair, SocketPairRecord};
use crate::personality::linux::timerfd::{TimerFile, TimerFileRecord};

/// The table of descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::personality::linux) struct DescriptorsRecord {
    /// By number: the open file, by its place in the table of these, and whether it is closed on `execve`.
    numbers: Vec<Option<(u32, bool)>>,
    /// How many numbers there are at most.
    most: u32,
    files: Vec<Option<OpenFileRecord>>,
    pipes: Vec<(u64, PipeRecord)>,
    counters: Vec<(u32, CounterRecord)>,
    epolls: Vec<(u32, EpollRecord)>,
    timers: Vec<(u32, TimerFileRecord)>,
    /// The sets of signals that are read from files.
    signals: Vec<(u32, u64)>,
    waiting: u64,
    sockets: Vec<(u64, SocketPairRecord)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OpenFileRecord {
    object: ObjectRecord,
    flags: u32,
    position: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum ObjectRecord {
    Input,
    Stdout,
    Stderr,
    File,
    Device(u8),
    Process(u8),
    System(u8),
    PipeReader(u64),
    PipeWriter(u64),
    EventCounter,
    Epoll,
    Timer,
    Signals,
    Socket(u64, bool),
}

impl Descriptors {
    /// The record; what is wrong where something open has none.
    pub(in crate::personality::linux) fn record(&self) -> Result<DescriptorsRecord, &'static str> {
        if !self.locks.are_none() {
            return Err("has locked files");
        }
        let number = |descriptor: &Option<Descriptor>| {
            descriptor.map(|Descriptor { file, close_on_exec }| (file.0 as u32, close_on_exec))
        };
        let file = |file: &Option<OpenFile>| {
            let record = |OpenFile { object, flags, position }| {
                let object = ObjectRecord::of(object).ok_or("has a file open that this version cannot store")?;
                Ok::<_, &'static str>(OpenFileRecord { object, flags, position })
            };
            file.map(record).transpose()
        };
        Ok(DescriptorsRecord {
            numbers: self.numbers.iter().map(number).collect(),
            most: self.most as u32,
            files: self.files.iter().map(file).collect::<Result<_, _>>()?,
            pipes: self.pipes.iter().map(|(id, pipe)| (id.number(), pipe.record())).collect(),
            counters: self.counters.iter().map(|(file, counter)| (file.0 as u32, counter.record())).collect(),
            epolls: self.epolls.iter().map(|(file, epoll)| (file.0 as u32, epoll.record())).collect(),
            timers: self.timers.iter().map(|(file, timer)| (file.0 as u32, timer.record())).collect(),
            signals: self.signals.iter().map(|(file, set)| (file.0 as u32, *set)).collect(),
            waiting: self.waiting,
            sockets: self.sockets.iter().map(|(id, sockets)| (id.number(), sockets.record())).collect(),
        })
    }

    /// The table of a record. For each of its files that is in the file system, `open` gives that, by its place.
    pub(in crate::personality::linux) fn of_record(
        record: &DescriptorsRecord,
        mut open: impl FnMut(FileId) -> Option<File>,
    ) -> Result<Self, BadRecord> {
        let most = record.most as usize;
        let fits = most <= OPEN_MAX && record.numbers.len() <= OPEN_MAX && record.files.len() <= OPEN_MAX;
        check(fits, "there are too many")?;
        let files = record.files.iter().map(|file| file.as_ref().map(OpenFileRecord::file).transpose());
        let mut table = Self { files: files.collect::<Result<_, _>>()?, ..Self::empty(most) };
        for descriptor in &record.numbers {
            let descriptor = descriptor.map(|(file, close_on_exec)| {
                check(table.has(file), "a number is of no file")?;
                Ok(Descriptor { file: FileId(file as usize), close_on_exec })
            });
            table.numbers.push(descriptor.transpose()?);
        }
        for (id, pipe) in &record.pipes {
            table.pipes.insert(PipeId(small(*id)?), Pipe::of_record(pipe)?);
        }
        for (id, sockets) in &record.sockets {
            table.sockets.insert(PairId(small(*id)?), SocketPair::of_record(sockets)?);
        }
        table.counters = by_file(&record.counters, EventCounter::of_record)?;
        table.timers = by_file(&record.timers, TimerFile::of_record)?;
        table.signals = by_file(&record.signals, |set| Ok(*set))?;
        table.epolls = by_file(&record.epolls, Epoll::of_record)?;
        table.waiting = record.waiting;
        table.check_files()?;
        Epoll::check_all(&table)?;
        for file in (0..table.files.len()).map(FileId) {
            match open(file) {
                Some(opened) => drop(table.named.insert(file, opened)),
                None => check(table.object(file) != Some(Object::File), "a file is not named")?,
            }
        }
        check(table.named.keys().all(|file| table.object(*file).is_some()), "a file is named that is not open")?;
        Ok(table)
    }

    fn has(&self, file: u32) -> bool {
        self.files.get(file as usize).is_some_and(Option::is_some)
    }

    /// Whether each open file has a number and what belongs to it, and everything that belongs to files has one.
    fn check_files(&self) -> Result<(), BadRecord> {
        let mut own = 0;
        for (open, id) in self.files.iter().zip((0..).map(FileId)) {
            let Some(open) = open else { continue };
            check(self.numbers.iter().flatten().any(|descriptor| descriptor.file == id), "a file has no number")?;
            let is_whole = match open.object {
                Object::PipeReader(pipe) => self.pipes.get(&pipe).is_some_and(|pipe| pipe.has_reader),
                Object::PipeWriter(pipe) => self.pipes.get(&pipe).is_some_and(|pipe| pipe.has_writer),
                Object::EventCounter => self.counters.contains_key(&id),
                Object::Epoll => self.epolls.contains_key(&id),
                Object::Timer => self.timers.contains_key(&id),
                Object::Signals => self.signals.contains_key(&id),
                Object::Socket(end) => self.sockets.get(&end.pair).is_some_and(|pair| !pair.is_closed(end.side)),
                Object::Input | Object::Output(_) | Object::File | Object::Mapping => true,
                Object::Device(_) | Object::Process(_) | Object::System(_) => true,
            };
            check(is_whole, "a file lacks what belongs to it")?;
            own += usize::from(matches!(
                open.object,
                Object::EventCounter | Object::Epoll | Object::Timer | Object::Signals
            ));
        }
        let count = |is: &dyn Fn(Object) -> bool| self.files.iter().flatten().filter(|file| is(file.object)).count();
        for (id, pipe) in &self.pipes {
            let readers = count(&|object| object == Object::PipeReader(*id));
            let writers = count(&|object| object == Object::PipeWriter(*id));
            let is_open = [readers > 0, writers > 0] == [pipe.has_reader, pipe.has_writer];
            check(is_open && readers + writers > 0, "a pipe has other ends than it says")?;
        }
        for (pair, sockets) in &self.sockets {
            let open = |side| count(&|object| object == Object::Socket(SocketEnd { pair: *pair, side }));
            let are_open = [0, 1].map(|side| (open(side) > 0) != sockets.is_closed(side));
            check(are_open == [true; 2] && open(0) + open(1) > 0, "a pair has other sockets than it says")?;
        }
        let held = self.counters.len() + self.epolls.len() + self.timers.len() + self.signals.len();
        check(held == own, "something belongs to no file")
    }
}

impl OpenFileRecord {
    fn file(&self) -> Result<OpenFile, BadRecord> {
        check(self.position <= i64::MAX as u64, "a position is beyond every file")?;
        Ok(OpenFile { object: self.object.object()?, flags: self.flags, position: self.position })
    }
}

impl ObjectRecord {
    fn of(object: Object) -> Option<Self> {
        Some(match object {
            Object::Input => Self::Input,
            Object::Output(Stream::Stdout) => Self::Stdout,
            Object::Output(Stream::Stderr) => Self::Stderr,
            Object::File => Self::File,
            // Its memory is no part of a stored snapshot.
            Object::Mapping => return None,
            Object::Device(device) => Self::Device(place(&DEVICES, device)?),
            Object::Process(file) => Self::Process(place(&PROCESS_FILES, file)?),
            Object::System(file) => Self::System(place(&SYSTEM_FILES, file)?),
            Object::PipeReader(pipe) => Self::PipeReader(pipe.number()),
            Object::PipeWriter(pipe) => Self::PipeWriter(pipe.number()),
            Object::EventCounter => Self::EventCounter,
            Object::Epoll => Self::Epoll,
            Object::Timer => Self::Timer,
            Object::Signals => Self::Signals,
            Object::Socket(end) => Self::Socket(end.pair.number(), end.side == 1),
        })
    }

    fn object(self) -> Result<Object, BadRecord> {
        let unknown = || bad("a file is of no kind that there is");
        Ok(match self {
            Self::Input => Object::Input,
            Self::Stdout => Object::Output(Stream::Stdout),
            Self::Stderr => Object::Output(Stream::Stderr),
            Self::File => Object::File,
            Self::Device(device) => Object::Device(*DEVICES.get(usize::from(device)).ok_or_else(unknown)?),
            Self::Process(file) => Object::Process(*PROCESS_FILES.get(usize::from(file)).ok_or_else(unknown)?),
            Self::System(file) => Object::System(*SYSTEM_FILES.get(usize::from(file)).ok_or_else(unknown)?),
            Self::PipeReader(pipe) => Object::PipeReader(PipeId(small(pipe)?)),
            Self::PipeWriter(pipe) => Object::PipeWriter(PipeId(small(pipe)?)),
            Self::EventCounter => Object::EventCounter,
            Self::Epoll => Object::Epoll,
            Self::Timer => Object::Timer,
            Self::Signals => Object::Signals,
            Self::Socket(pair, side) => {
                Object::Socket(SocketEnd { pair: PairId(small(pair)?), side: usize::from(side) })
            }
        })
    }
}

fn by_file<R, T>(
    records: &[(u32, R)],
    of: impl Fn(&R) -> Result<T, BadRecord>,
) -> Result<BTreeMap<FileId, T>, BadRecord> {
    records.iter().map(|(file, record)| Ok((FileId(*file as usize), of(record)?))).collect()
}

/// A number of a pipe or a pair, from which others can still be counted.
fn small(id: u64) -> Result<usize, BadRecord> {
    usize::try_from(id).ok().filter(|id| *id < usize::MAX / 2).ok_or(bad("a number is too large"))
}

fn place<T: PartialEq>(all: &[T], one: T) -> Option<u8> {
    all.iter().position(|other| *other == one).and_then(|at| u8::try_from(at).ok())
}

fn check(holds: bool, problem: &'static str) -> Result<(), BadRecord> {
    BadRecord::unless(holds, "table of open files", problem)
}

fn bad(problem: &'static str) -> BadRecord {
    BadRecord { part: "table of open files", problem }
}

// By their numbers in the record, which stay what they are: others come behind them.
const DEVICES: [Device; 6] = [Device::Null, Device::Zero, Device::Full, Device::Random, Device::Urandom, Device::Tty];
const PROCESS_FILES: [ProcessFile; 12] = [
    ProcessFile::Auxv,
    ProcessFile::Cmdline,
    ProcessFile::Comm,
    ProcessFile::Environ,
    ProcessFile::Limits,
    ProcessFile::Maps,
    ProcessFile::Mountinfo,
    ProcessFile::Mounts,
    ProcessFile::Smaps,
    ProcessFile::Stat,
    ProcessFile::Statm,
    ProcessFile::Status,
];
const SYSTEM_FILES: [SystemFile; 17] = [
    SystemFile::Cmdline,
    SystemFile::Cpuinfo,
    SystemFile::Filesystems,
    SystemFile::Loadavg,
    SystemFile::Meminfo,
    SystemFile::Stat,
    SystemFile::Uptime,
    SystemFile::Version,
    SystemFile::Hostname,
    SystemFile::NgroupsMax,
    SystemFile::Osrelease,
    SystemFile::Ostype,
    SystemFile::PidMax,
    SystemFile::BootId,
    SystemFile::Uuid,
    SystemFile::MaxMapCount,
    SystemFile::OvercommitMemory,
];
