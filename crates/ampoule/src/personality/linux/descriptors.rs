//! The process's open files, and its descriptor numbers for them.

mod ids;
mod stored;

use std::collections::BTreeMap;
use std::time::Duration;

use ampoule_vfs::{Device, File, ProcessFile, SystemFile};
use linux_raw_sys::general::{
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM, O_ACCMODE, O_LARGEFILE, O_NONBLOCK, O_PATH,
    O_RDONLY, O_RDWR, O_WRONLY,
};

use crate::output::Stream;
use crate::personality::{Behind, Held};

use super::epoll::Epoll;
use super::errno::Errno;
use super::event_counter::EventCounter;
use super::locks::Locks;
use super::pipe::Pipe;
use super::socket::{SocketEnd, SocketPair};
use super::timerfd::TimerFile;

use ids::WORD;

pub(super) use ids::{FileId, FileSet, PairId, PipeId};
pub(super) use stored::DescriptorsRecord;

/// The table of descriptors.
#[derive(Clone, Debug)]
pub(super) struct Descriptors {
    /// As long as the highest number in use has needed, so that a copy costs what is open. At most as long as [`OPEN_MAX`].
    numbers: Vec<Option<Descriptor>>,
    /// From which number on none is given: no more than [`OPEN_MAX`]. What has a higher number keeps it.
    most: usize,
    /// There is room for one file per number. A file to which no number refers any more is gone.
    files: Vec<Option<OpenFile>>,
    /// What is open in the file system.
    named: BTreeMap<FileId, File>,
    /// What was, and is [to be closed](Self::take_closed) there.
    closed: Vec<File>,
    pub(super) locks: Locks,
    pipes: BTreeMap<PipeId, Pipe>,
    counters: BTreeMap<FileId, EventCounter>,
    epolls: BTreeMap<FileId, Epoll>,
    timers: BTreeMap<FileId, TimerFile>,
    /// The sets of signals that are read from files.
    signals: BTreeMap<FileId, u64>,
    /// The signals that wait for the process, as far as there is anybody to read them.
    waiting: u64,
    sockets: BTreeMap<PairId, SocketPair>,
    /// What standard input had when it was last looked at.
    input: Held,
}

/// Instances of `epoll` that were looked at, and those of them that were found ready.
#[derive(Debug, Default)]
struct Seen {
    instances: FileSet,
    ready: FileSet,
}

/// What a number refers to.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    file: FileId,
    close_on_exec: bool,
}

/// An open file. Numbers that were duplicated share it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFile {
    pub(super) object: Object,
    /// The flags that it was opened with, as changed since, and as `F_GETFL` reports them.
    pub(super) flags: u32,
    /// Where the next read begins, if the file can be read at positions.
    pub(super) position: u64,
}

/// What can be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// Standard input, a pipe to which the host writes.
    Input,
    /// Standard output or standard error, a pipe.
    Output(Stream),
    /// A file or a directory of the file system's, or only the place of one (`O_PATH`).
    File,
    Device(Device),
    /// A file in `/dev/ampoule`.
    Mapping,
    /// A file in `/proc/self`.
    Process(ProcessFile),
    /// A file in `/proc`.
    System(SystemFile),
    /// The end of a pipe to read from.
    PipeReader(PipeId),
    /// The end of a pipe to write to.
    PipeWriter(PipeId),
    /// What `eventfd` makes.
    EventCounter,
    /// What `epoll_create` makes.
    Epoll,
    /// What `timerfd_create` makes.
    Timer,
    /// What `signalfd` makes.
    Signals,
    Socket(SocketEnd),
}

impl Descriptors {
    /// The three standard streams, in a table of so many numbers at most.
    pub(super) fn standard(most: usize) -> Self {
        let mut descriptors = Self::empty(most);
        let streams = [
            (Object::Input, O_RDONLY),
            (Object::Output(Stream::Stdout), O_WRONLY),
            (Object::Output(Stream::Stderr), O_WRONLY),
        ];
        for (number, (object, flags)) in streams.into_iter().enumerate() {
            descriptors.files.push(Some(OpenFile { object, flags, position: 0 }));
            descriptors.numbers.push(Some(Descriptor { file: FileId(number), close_on_exec: false }));
        }
        descriptors
    }

    fn empty(most: usize) -> Self {
        Self {
            numbers: Vec::new(),
            most: most.min(OPEN_MAX),
            files: Vec::new(),
            named: BTreeMap::new(),
            closed: Vec::new(),
            locks: Locks::default(),
            pipes: BTreeMap::new(),
            counters: BTreeMap::new(),
            epolls: BTreeMap::new(),
            timers: BTreeMap::new(),
            signals: BTreeMap::new(),
            waiting: 0,
            sockets: BTreeMap::new(),
            input: Held::default(),
        }
    }

    /// Makes a terminal that is open in the file system the standard input and output, and the standard error too where that is
    /// wanted.
    pub(super) fn use_terminal(&mut self, terminal: File, is_stderr: bool) {
        let file = FileId(0);
        let object = Object::Device(Device::Tty);
        self.files[0] = Some(OpenFile { object, flags: O_RDWR | O_LARGEFILE, position: 0 });
        self.named.insert(file, terminal);
        for number in 1..=if is_stderr { 2 } else { 1 } {
            self.files[number] = None;
            self.numbers[number] = Some(Descriptor { file, close_on_exec: false });
        }
    }

    pub(super) fn get(&self, number: u64) -> Result<OpenFile, Errno> {
        Ok(self.file(self.id(number)?))
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Result<&mut OpenFile, Errno> {
        let FileId(file) = self.id(number)?;
        self.files[file].as_mut().ok_or(Errno::EBADF)
    }

    /// The open file that a number stands for.
    pub(super) fn id(&self, number: u64) -> Result<FileId, Errno> {
        Ok(self.descriptor(number)?.file)
    }

    /// How many numbers there are at most (`RLIMIT_NOFILE`).
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Gives numbers only below this one from now on.
    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most.min(OPEN_MAX);
    }

    /// How many numbers there is room for at present: at least what `select` looks at on Linux.
    pub(super) fn capacity(&self) -> usize {
        self.numbers.len().max(1).next_multiple_of(WORD)
    }

    /// An open file by its place in the table.
    ///
    /// # Panics
    /// When there is none.
    pub(super) fn file(&self, FileId(file): FileId) -> OpenFile {
        self.files[file].expect("whoever names an open file forgets it when it is closed")
    }

    /// What is open at a place in the table, if anything is.
    pub(super) fn object(&self, FileId(file): FileId) -> Option<Object> {
        self.files.get(file).copied().flatten().map(|file| file.object)
    }

    /// Gives a file that was opened the lowest free number.
    pub(super) fn open(&mut self, opened: OpenFile, close_on_exec: bool) -> Result<u64, Errno> {
        self.open_at(opened, close_on_exec).map(|(number, _)| number)
    }

    /// Gives a file of the file system's the lowest free number, for which there is [room](Self::has_room).
    pub(super) fn open_named(&mut self, opened: OpenFile, file: File, close_on_exec: bool) -> Result<u64, Errno> {
        match self.open_at(opened, close_on_exec) {
            Ok((number, id)) => {
                self.named.insert(id, file);
                Ok(number)
            }
            Err(errno) => {
                self.closed.push(file);
                Err(errno)
            }
        }
    }

    /// What is open under a number, if it is in the file system.
    pub(super) fn named(&self, number: u64) -> Result<Option<&File>, Errno> {
        Ok(self.named.get(&self.id(number)?))
    }

    /// Everything that is open in the file system, with its place in the table.
    pub(super) fn named_by_place(&self) -> impl Iterator<Item = (FileId, &File)> {
        self.named.iter().map(|(id, file)| (*id, file))
    }

    /// Everything that is open in the file system.
    pub(super) fn named_files(&self) -> impl Iterator<Item = &File> {
        self.named.values()
    }

    /// The files of the file system's that have been closed since.
    pub(super) fn take_closed(&mut self) -> Vec<File> {
        std::mem::take(&mut self.closed)
    }

    /// Fails where there is no number left.
    pub(super) fn has_room(&self) -> Result<(), Errno> {
        self.free(0).map(drop)
    }

    /// The numbers that are in use, in ascending order.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.numbers.iter().zip(0..).filter_map(|(descriptor, number)| descriptor.map(|_| number))
    }

    pub(super) fn open_counter(
        &mut self,
        opened: OpenFile,
        counter: EventCounter,
        close_on_exec: bool,
    ) -> Result<u64, Errno> {
        let (number, file) = self.open_at(opened, close_on_exec)?;
        self.counters.insert(file, counter);
        Ok(number)
    }

    pub(super) fn open_epoll(&mut self, opened: OpenFile, close_on_exec: bool) -> Result<u64, Errno> {
        let (number, file) = self.open_at(opened, close_on_exec)?;
        self.epolls.insert(file, Epoll::default());
        Ok(number)
    }

    pub(super) fn open_timer(&mut self, opened: OpenFile, timer: TimerFile, close_on_exec: bool) -> Result<u64, Errno> {
        let (number, file) = self.open_at(opened, close_on_exec)?;
        self.timers.insert(file, timer);
        Ok(number)
    }

    /// Opens a file from which these signals are read.
    pub(super) fn open_signals(&mut self, opened: OpenFile, set: u64, close_on_exec: bool) -> Result<u64, Errno> {
        let (number, file) = self.open_at(opened, close_on_exec)?;
        self.signals.insert(file, set);
        Ok(number)
    }

    /// Adds a pipe, whose ends are to be opened.
    pub(super) fn add_pipe(&mut self, pipe: Pipe) -> PipeId {
        let id = self.pipes.last_key_value().map_or(PipeId(0), |(PipeId(last), _)| PipeId(last + 1));
        self.pipes.insert(id, pipe);
        id
    }

    /// Removes a pipe that has no open ends, if it is still there.
    pub(super) fn remove_pipe(&mut self, pipe: PipeId) {
        self.pipes.remove(&pipe);
    }

    pub(super) fn pipe_mut(&mut self, pipe: PipeId) -> &mut Pipe {
        self.pipes.get_mut(&pipe).expect("a pipe is there as long as one of its ends is open")
    }

    /// All pipes of the process.
    pub(super) fn pipes(&self) -> impl Iterator<Item = &Pipe> {
        self.pipes.values()
    }

    /// Adds a pair of sockets, both of which are to be opened.
    pub(super) fn add_sockets(&mut self, sockets: SocketPair) -> PairId {
        let id = self.sockets.last_key_value().map_or(PairId(0), |(PairId(last), _)| PairId(last + 1));
        self.sockets.insert(id, sockets);
        id
    }

    /// Removes a pair of sockets none of which is open, if it is still there.
    pub(super) fn remove_sockets(&mut self, pair: PairId) {
        self.sockets.remove(&pair);
    }

    pub(super) fn sockets_mut(&mut self, pair: PairId) -> &mut SocketPair {
        self.sockets.get_mut(&pair).expect("a pair of sockets is there as long as one of them is open")
    }

    pub(super) fn counter_mut(&mut self, file: FileId) -> &mut EventCounter {
        self.counters.get_mut(&file).expect("a counter is there as long as it is open")
    }

    pub(super) fn timer_mut(&mut self, file: FileId) -> &mut TimerFile {
        self.timers.get_mut(&file).expect("a timer is there as long as it is open")
    }

    /// The signals that are read from a file.
    pub(super) fn signals_mut(&mut self, file: FileId) -> &mut u64 {
        self.signals.get_mut(&file).expect("the set is there as long as its file is open")
    }

    pub(super) fn has_timers(&self) -> bool {
        !self.timers.is_empty()
    }

    /// Takes note of the time by which timers go.
    pub(super) fn expire_timers(&mut self, now: Duration) {
        let expire = |(file, timer): (&FileId, &mut TimerFile)| timer.expire(now).then_some(*file);
        let expired: Vec<FileId> = self.timers.iter_mut().filter_map(expire).collect();
        expired.into_iter().for_each(|file| self.wake(file, EPOLLIN));
    }

    /// How long it takes until one of the timers becomes readable.
    pub(super) fn next_expiration(&self, now: Duration) -> Option<Duration> {
        self.timers.values().filter_map(|timer| timer.left(now)).min()
    }

    pub(super) fn has_signals(&self) -> bool {
        !self.signals.is_empty()
    }

    /// Takes note of the signals that wait.
    pub(super) fn signals_wait(&mut self, set: u64) {
        let new = set & !std::mem::replace(&mut self.waiting, set);
        let woken: Vec<FileId> = self.signals.iter().filter(|(_, of)| **of & new != 0).map(|(file, _)| *file).collect();
        woken.into_iter().for_each(|file| self.wake(file, EPOLLIN));
    }

    pub(super) fn has_input(&self) -> bool {
        self.inputs().next().is_some()
    }

    /// What standard input had when it was last looked at.
    pub(super) fn input(&self) -> Held {
        self.input
    }

    /// Takes note of what standard input has.
    pub(super) fn input_has(&mut self, held: Held) {
        let before = std::mem::replace(&mut self.input, held);
        let mut events = input_events(held) & !input_events(before);
        if held.bytes > before.bytes {
            events |= EPOLLIN | EPOLLRDNORM;
        }
        if events != 0 {
            let inputs: Vec<FileId> = self.inputs().collect();
            inputs.into_iter().for_each(|file| self.wake(file, events));
        }
    }

    /// Takes note that so many bytes of it were read, of which those that came since the last look are news to nobody.
    pub(super) fn input_was_read(&mut self, count: u64) {
        self.input.bytes = self.input.bytes.saturating_sub(count as usize);
    }

    /// Whether a wait for this file is one for something to read from standard input.
    pub(super) fn leads_to_input(&self, file: FileId) -> bool {
        self.leads_to_input_given(file, &mut FileSet::default())
    }

    /// The same, given the instances of `epoll` that were looked at.
    fn leads_to_input_given(&self, file: FileId, seen: &mut FileSet) -> bool {
        match self.file(file).object {
            object if object.is_input() => true,
            Object::Epoll if !seen.has(file) => {
                seen.insert(file);
                self.epolls[&file].awaited_to_read().any(|file| self.leads_to_input_given(file, seen))
            }
            _ => false,
        }
    }

    fn inputs(&self) -> impl Iterator<Item = FileId> {
        let is_input = |file: &Option<OpenFile>| file.is_some_and(|file| file.object.is_input());
        self.files.iter().enumerate().filter(move |(_, file)| is_input(file)).map(|(index, _)| FileId(index))
    }

    pub(super) fn epoll_mut(&mut self, file: FileId) -> Option<&mut Epoll> {
        self.epolls.get_mut(&file)
    }

    pub(super) fn epolls(&self) -> impl Iterator<Item = (FileId, &Epoll)> {
        self.epolls.iter().map(|(file, epoll)| (*file, epoll))
    }

    /// What an open file is ready for.
    pub(super) fn readiness(&self, file: FileId) -> u32 {
        self.readiness_given(file, &mut Seen::default())
    }

    /// The same, given what was seen so far. No instance of `epoll` waits for itself, but one may be waited for in many ways,
    /// and is looked at once.
    fn readiness_given(&self, file: FileId, seen: &mut Seen) -> u32 {
        match self.file(file).object {
            Object::Input => input_events(self.input),
            Object::Device(Device::Tty) => input_events(self.input) | EPOLLOUT | EPOLLWRNORM,
            Object::Output(_) => EPOLLOUT | EPOLLWRNORM,
            // As Linux has it for all files that do not say anything else, however they were opened.
            Object::File | Object::Mapping | Object::Device(_) | Object::Process(_) | Object::System(_) => {
                EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM
            }
            Object::PipeReader(pipe) => self.pipes[&pipe].reader_events(),
            Object::PipeWriter(pipe) => self.pipes[&pipe].writer_events(),
            Object::EventCounter => self.counters[&file].events(),
            Object::Timer => self.timers[&file].events(),
            Object::Signals if self.signals[&file] & self.waiting != 0 => EPOLLIN | EPOLLRDNORM,
            Object::Signals => 0,
            Object::Socket(end) => self.sockets[&end.pair].events(end.side),
            Object::Epoll => {
                if !seen.instances.has(file) {
                    if self.epolls[&file].has_events(|file| self.readiness_given(file, seen)) {
                        seen.ready.insert(file);
                    }
                    seen.instances.insert(file);
                }
                if seen.ready.has(file) { EPOLLIN | EPOLLRDNORM } else { 0 }
            }
        }
    }

    /// Reports to those who wait that something has happened to a file: by its events, or by 0 for anything.
    pub(super) fn wake(&mut self, file: FileId, events: u32) {
        let mut pending = self.woken(file, events);
        let mut done = FileSet::default();
        while let Some(instance) = pending.pop() {
            // To whoever waits for an instance it makes no difference how often it is woken.
            if !done.has(instance) {
                done.insert(instance);
                pending.extend(self.woken(instance, EPOLLIN));
            }
        }
    }

    /// The instances of `epoll` that have been waiting for this.
    fn woken(&mut self, file: FileId, events: u32) -> Vec<FileId> {
        let woken = |(instance, epoll): (&FileId, &mut Epoll)| epoll.wake(file, events).then_some(*instance);
        self.epolls.iter_mut().filter_map(woken).collect()
    }

    /// The same of the file that has this object.
    pub(super) fn wake_object(&mut self, object: Object, events: u32) {
        if let Some(file) = self.files.iter().position(|file| file.is_some_and(|file| file.object == object)) {
            self.wake(FileId(file), events);
        }
    }

    pub(super) fn close(&mut self, number: u64) -> Result<u64, Errno> {
        let Descriptor { file, .. } = self.descriptor(number)?;
        self.numbers[number as u32 as usize] = None;
        self.forget_unless_meant(file);
        Ok(0)
    }

    /// Gives an open file a second number: the lowest free one from `least` on.
    pub(super) fn duplicate(&mut self, number: u64, least: usize, close_on_exec: bool) -> Result<u64, Errno> {
        let Descriptor { file, .. } = self.descriptor(number)?;
        let free = self.free(least)?;
        self.set(free, Descriptor { file, close_on_exec });
        Ok(free as u64)
    }

    /// Gives an open file this second number, which may have referred to another one so far.
    pub(super) fn duplicate_to(&mut self, number: u64, to: u64, close_on_exec: bool) -> Result<u64, Errno> {
        let Descriptor { file, .. } = self.descriptor(number)?;
        let to = to as u32;
        if to as usize >= self.most {
            return Err(Errno::EBADF);
        }
        if let Some(before) = self.set(to as usize, Descriptor { file, close_on_exec }) {
            self.forget_unless_meant(before.file);
        }
        Ok(to.into())
    }

    pub(super) fn closes_on_exec(&self, number: u64) -> Result<bool, Errno> {
        Ok(self.descriptor(number)?.close_on_exec)
    }

    pub(super) fn set_close_on_exec(&mut self, number: u64, close_on_exec: bool) -> Result<(), Errno> {
        self.descriptor(number)?;
        if let Some(descriptor) = &mut self.numbers[number as u32 as usize] {
            descriptor.close_on_exec = close_on_exec;
        }
        Ok(())
    }

    fn open_at(&mut self, opened: OpenFile, close_on_exec: bool) -> Result<(u64, FileId), Errno> {
        let number = self.free(0)?;
        let file = match self.files.iter().position(Option::is_none) {
            Some(free) => {
                self.files[free] = Some(opened);
                FileId(free)
            }
            None => {
                self.files.push(Some(opened));
                FileId(self.files.len() - 1)
            }
        };
        self.set(number, Descriptor { file, close_on_exec });
        Ok((number as u64, file))
    }

    /// Makes a number refer to an open file, and returns what it referred to.
    fn set(&mut self, number: usize, descriptor: Descriptor) -> Option<Descriptor> {
        if number >= self.numbers.len() {
            self.numbers.resize(number + 1, None);
        }
        self.numbers[number].replace(descriptor)
    }

    fn descriptor(&self, number: u64) -> Result<Descriptor, Errno> {
        self.numbers.get(number as u32 as usize).copied().flatten().ok_or(Errno::EBADF)
    }

    fn free(&self, least: usize) -> Result<usize, Errno> {
        let is_free = |number: &usize| self.numbers.get(*number).is_none_or(Option::is_none);
        (least..self.most).find(is_free).ok_or(Errno::EMFILE)
    }

    fn forget_unless_meant(&mut self, file: FileId) {
        if self.numbers.iter().flatten().any(|descriptor| descriptor.file == file) {
            return;
        }
        let Some(closed) = self.files[file.0].take() else { return };
        self.closed.extend(self.named.remove(&file));
        self.locks.file_closed(file);
        self.epolls.values_mut().for_each(|epoll| epoll.forget(file));
        match closed.object {
            Object::PipeReader(id) => {
                self.pipe_mut(id).has_reader = false;
                self.end_of_pipe_closed(id, Object::PipeWriter(id));
            }
            Object::PipeWriter(id) => {
                self.pipe_mut(id).has_writer = false;
                self.end_of_pipe_closed(id, Object::PipeReader(id));
            }
            Object::EventCounter => drop(self.counters.remove(&file)),
            Object::Timer => drop(self.timers.remove(&file)),
            Object::Signals => drop(self.signals.remove(&file)),
            Object::Epoll => drop(self.epolls.remove(&file)),
            Object::Socket(end) if self.sockets_mut(end.pair).close(end.side) => {
                self.wake_object(Object::Socket(end.peer()), 0);
            }
            Object::Socket(end) => self.remove_sockets(end.pair),
            Object::Input | Object::Output(_) => {}
            Object::File | Object::Mapping | Object::Device(_) | Object::Process(_) | Object::System(_) => {}
        }
    }

    fn end_of_pipe_closed(&mut self, id: PipeId, other: Object) {
        let Pipe { has_reader, has_writer, .. } = self.pipe_mut(id);
        if *has_reader || *has_writer {
            self.wake_object(other, 0);
        } else {
            self.remove_pipe(id);
        }
    }
}

/// What standard input is ready for.
fn input_events(held: Held) -> u32 {
    let readable = if held.bytes == 0 { 0 } else { EPOLLIN | EPOLLRDNORM };
    match held.behind {
        Behind::End => readable | EPOLLHUP,
        Behind::Failure => EPOLLIN | EPOLLRDNORM | EPOLLERR,
        Behind::Later | Behind::Unknown | Behind::Full => readable,
    }
}

impl OpenFile {
    pub(super) fn is_readable(&self) -> bool {
        !self.is_place() && matches!(self.flags & O_ACCMODE, O_RDONLY | O_RDWR)
    }

    pub(super) fn is_writable(&self) -> bool {
        !self.is_place() && matches!(self.flags & O_ACCMODE, O_WRONLY | O_RDWR)
    }

    /// Whether it stands only for a place.
    pub(super) fn is_place(&self) -> bool {
        self.flags & O_PATH != 0
    }

    /// Whether an operation is to fail that would have to wait.
    pub(super) fn is_non_blocking(&self) -> bool {
        self.flags & O_NONBLOCK != 0
    }
}

impl Object {
    /// Whether standard input is read from it.
    fn is_input(self) -> bool {
        matches!(self, Self::Input | Self::Device(Device::Tty))
    }

    /// Whether `epoll` takes it. Linux refuses files that are always ready.
    pub(super) fn can_be_waited_for(self) -> bool {
        match self {
            Self::Device(device) => matches!(device, Device::Random | Device::Tty),
            Self::File | Self::Process(_) | Self::System(_) => false,
            _ => true,
        }
    }
}

/// How many files a process can have open at most: as many as Linux lets a process have that asks for no more, and as `select`'s
/// sets have room for (`FD_SETSIZE`).
pub(super) const OPEN_MAX: usize = 1024;
