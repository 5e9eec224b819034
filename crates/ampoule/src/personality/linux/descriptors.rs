//! The process's open files, and its descriptor numbers for them.

use std::collections::BTreeMap;

use linux_raw_sys::general::{
    EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM, O_ACCMODE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY,
};

use crate::output::Stream;

use super::epoll::Epoll;
use super::errno::Errno;
use super::event_counter::EventCounter;
use super::paths::Device;
use super::pipe::Pipe;
use super::socket::{SocketEnd, SocketPair};

/// The table of descriptors.
#[derive(Clone, Debug)]
pub(super) struct Descriptors {
    numbers: [Option<Descriptor>; OPEN_MAX],
    /// There is room for one file per number. A file to which no number refers any more is gone.
    files: [Option<OpenFile>; OPEN_MAX],
    pipes: BTreeMap<PipeId, Pipe>,
    counters: BTreeMap<FileId, EventCounter>,
    epolls: BTreeMap<FileId, Epoll>,
    sockets: BTreeMap<PairId, SocketPair>,
}

/// Where in the table an open file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(usize);

/// A set of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct FileSet(u64);

/// Instances of `epoll` that were looked at, and those of them that were found ready.
#[derive(Debug, Default)]
struct Seen {
    instances: FileSet,
    ready: FileSet,
}

/// Which of the pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PipeId(usize);

/// Which of the pairs of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PairId(usize);

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
    /// Standard input, a pipe that nobody writes to any more: reading may take time all the same.
    Input,
    /// Standard output or standard error, a pipe.
    Output(Stream),
    Device(Device),
    /// The list of the process's mappings.
    Maps,
    /// The end of a pipe to read from.
    PipeReader(PipeId),
    /// The end of a pipe to write to.
    PipeWriter(PipeId),
    /// What `eventfd` makes.
    EventCounter,
    /// What `epoll_create` makes.
    Epoll,
    Socket(SocketEnd),
}

impl Descriptors {
    /// The three standard streams.
    pub(super) fn standard() -> Self {
        let mut descriptors = Self {
            numbers: [None; OPEN_MAX],
            files: [None; OPEN_MAX],
            pipes: BTreeMap::new(),
            counters: BTreeMap::new(),
            epolls: BTreeMap::new(),
            sockets: BTreeMap::new(),
        };
        let streams = [
            (Object::Input, O_RDONLY),
            (Object::Output(Stream::Stdout), O_WRONLY),
            (Object::Output(Stream::Stderr), O_WRONLY),
        ];
        for (number, (object, flags)) in streams.into_iter().enumerate() {
            descriptors.files[number] = Some(OpenFile { object, flags, position: 0 });
            descriptors.numbers[number] = Some(Descriptor { file: FileId(number), close_on_exec: false });
        }
        descriptors
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

    /// An open file by its place in the table.
    ///
    /// # Panics
    /// When there is none.
    pub(super) fn file(&self, FileId(file): FileId) -> OpenFile {
        self.files[file].expect("whoever names an open file forgets it when it is closed")
    }

    /// Gives a file that was opened the lowest free number.
    pub(super) fn open(&mut self, opened: OpenFile, close_on_exec: bool) -> Result<u64, Errno> {
        self.open_at(opened, close_on_exec).map(|(number, _)| number)
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
            Object::Input => EPOLLHUP | EPOLLIN | EPOLLRDNORM,
            Object::Output(_) => EPOLLOUT | EPOLLWRNORM,
            // As Linux has it for all files that do not say anything else, however they were opened.
            Object::Device(_) | Object::Maps => EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM,
            Object::PipeReader(pipe) => self.pipes[&pipe].reader_events(),
            Object::PipeWriter(pipe) => self.pipes[&pipe].writer_events(),
            Object::EventCounter => self.counters[&file].events(),
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
        self.numbers[free] = Some(Descriptor { file, close_on_exec });
        Ok(free as u64)
    }

    /// Gives an open file this second number, which may have referred to another one so far.
    pub(super) fn duplicate_to(&mut self, number: u64, to: u64, close_on_exec: bool) -> Result<u64, Errno> {
        let Descriptor { file, .. } = self.descriptor(number)?;
        let place = self.numbers.get_mut(to as u32 as usize).ok_or(Errno::EBADF)?;
        if let Some(before) = place.replace(Descriptor { file, close_on_exec }) {
            self.forget_unless_meant(before.file);
        }
        Ok(u64::from(to as u32))
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
        let file = self.files.iter().position(Option::is_none).ok_or(Errno::EMFILE)?;
        self.files[file] = Some(opened);
        self.numbers[number] = Some(Descriptor { file: FileId(file), close_on_exec });
        Ok((number as u64, FileId(file)))
    }

    fn descriptor(&self, number: u64) -> Result<Descriptor, Errno> {
        self.numbers.get(number as u32 as usize).copied().flatten().ok_or(Errno::EBADF)
    }

    fn free(&self, least: usize) -> Result<usize, Errno> {
        (least..OPEN_MAX).find(|number| self.numbers[*number].is_none()).ok_or(Errno::EMFILE)
    }

    fn forget_unless_meant(&mut self, file: FileId) {
        if self.numbers.iter().flatten().any(|descriptor| descriptor.file == file) {
            return;
        }
        let Some(closed) = self.files[file.0].take() else { return };
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
            Object::Epoll => drop(self.epolls.remove(&file)),
            Object::Socket(end) if self.sockets_mut(end.pair).close(end.side) => {
                self.wake_object(Object::Socket(end.peer()), 0);
            }
            Object::Socket(end) => self.remove_sockets(end.pair),
            Object::Input | Object::Output(_) | Object::Device(_) | Object::Maps => {}
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

impl FileSet {
    pub(super) fn has(self, FileId(file): FileId) -> bool {
        self.0 >> file & 1 != 0
    }

    fn insert(&mut self, FileId(file): FileId) {
        self.0 |= 1 << file;
    }

    pub(super) fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<FileId> for FileSet {
    fn from_iter<I: IntoIterator<Item = FileId>>(files: I) -> Self {
        Self(files.into_iter().fold(0, |set, FileId(file)| set | 1 << file))
    }
}

impl PipeId {
    /// A number that no other pipe of the process has.
    pub(super) fn number(self) -> u64 {
        self.0 as u64
    }
}

impl PairId {
    /// A number that no other pair of the process has.
    pub(super) fn number(self) -> u64 {
        self.0 as u64
    }
}

impl OpenFile {
    pub(super) fn is_readable(&self) -> bool {
        matches!(self.flags & O_ACCMODE, O_RDONLY | O_RDWR)
    }

    pub(super) fn is_writable(&self) -> bool {
        matches!(self.flags & O_ACCMODE, O_WRONLY | O_RDWR)
    }

    /// Whether an operation is to fail that would have to wait.
    pub(super) fn is_non_blocking(&self) -> bool {
        self.flags & O_NONBLOCK != 0
    }
}

impl Object {
    /// Whether `epoll` takes it. Linux refuses files that are always ready.
    pub(super) fn can_be_waited_for(self) -> bool {
        match self {
            Self::Device(device) => device == Device::Random,
            Self::Maps => false,
            _ => true,
        }
    }
}

/// How many files the process can have open: as many as one word of `select`'s sets has bits.
pub(super) const OPEN_MAX: usize = 64;

const _: () = assert!(OPEN_MAX <= u64::BITS as usize, "a file set has a bit for each");
