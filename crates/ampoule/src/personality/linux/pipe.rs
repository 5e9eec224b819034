//! Pipes: bytes that the process writes to one file and reads from another.
//!
//! How much a pipe takes is not a number of bytes alone: as on Linux it has so many buffers of a page, and what a write has
//! beyond whole pages goes to the last buffer only if all of it fits there. So a pipe is full when it would be on Linux.
//! The program can give it more buffers or fewer, within bounds that hold for all of its pipes.

use std::collections::VecDeque;
use std::sync::Arc;

use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use linux_raw_sys::general::{
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_WRONLY,
};
use serde::{Deserialize, Serialize};

use crate::address_space::AddressSpace;
use crate::bad_record::BadRecord;

use super::descriptors::{Descriptors, Object, OpenFile, PipeId};
use super::errno::Errno;

/// A pipe, which has two ends as long as both are open.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    /// Shared with snapshots until it changes.
    bytes: Arc<VecDeque<u8>>,
    buffers: VecDeque<Buffer>,
    /// How many buffers it can have.
    most: usize,
    pub(super) has_reader: bool,
    pub(super) has_writer: bool,
}

/// A part of the bytes, in a page of its own.
#[derive(Clone, Copy, Debug)]
struct Buffer {
    /// How much of the page was read already.
    start: usize,
    len: usize,
}

/// `pipe` and `pipe2`.
pub(super) fn pipe(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    into: u64,
    flags: u64,
) -> Result<u64, Errno> {
    let flags = flags as u32;
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let (kept, closes) = (flags & O_NONBLOCK, flags & O_CLOEXEC != 0);
    let pipe = descriptors.add_pipe(Pipe::new());
    let open = |object, access| OpenFile { object, flags: access | kept, position: 0 };
    let reader = descriptors.open(open(Object::PipeReader(pipe), O_RDONLY), closes);
    let both = reader.and_then(|reader| match descriptors.open(open(Object::PipeWriter(pipe), O_WRONLY), closes) {
        Ok(writer) => Ok([reader, writer]),
        Err(errno) => descriptors.close(reader).and(Err(errno)),
    });
    let [reader, writer] = both.inspect_err(|_| descriptors.remove_pipe(pipe))?;
    let numbers = [(reader as u32).to_le_bytes(), (writer as u32).to_le_bytes()].concat();
    if let Err(bad) = space.write(GuestVirt(into), &numbers) {
        [reader, writer].into_iter().try_for_each(|number| descriptors.close(number).map(drop))?;
        return Err(bad.into());
    }
    Ok(0)
}

/// `F_SETPIPE_SZ`: gives a pipe as many buffers as `size` bytes take, rounded up to a power of two, and says how many bytes they
/// are.
pub(super) fn resize(descriptors: &mut Descriptors, pipe: PipeId, size: u32) -> Result<u64, Errno> {
    let size = (size as usize).max(PAGE_SIZE);
    if size > SIZE_MAX {
        return Err(Errno::EINVAL);
    }
    let wanted = size.div_ceil(PAGE_SIZE).next_power_of_two();
    let of_all: usize = descriptors.pipes().map(|pipe| pipe.most).sum();
    let pipe = descriptors.pipe_mut(pipe);
    let of_others = of_all - pipe.most;
    if wanted > pipe.most && (wanted > BUFFERS_MAX || of_others + wanted > BUFFERS_OF_ALL) {
        return Err(Errno::EPERM);
    }
    if wanted < pipe.buffers.len() {
        return Err(Errno::EBUSY);
    }
    pipe.most = wanted;
    Ok(pipe.capacity())
}

/// A pipe of a stored snapshot: the bytes in it, and how they lie in pages, each from where on and how many.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PipeRecord {
    bytes: Vec<u8>,
    buffers: Vec<(u32, u32)>,
    /// How many pages it may take.
    most: u32,
    has_reader: bool,
    has_writer: bool,
}

impl Pipe {
    pub(super) fn record(&self) -> PipeRecord {
        let Self { bytes, buffers, most, has_reader, has_writer } = self;
        PipeRecord {
            bytes: bytes.iter().copied().collect(),
            buffers: buffers.iter().map(|Buffer { start, len }| (*start as u32, *len as u32)).collect(),
            most: *most as u32,
            has_reader: *has_reader,
            has_writer: *has_writer,
        }
    }

    pub(super) fn of_record(record: &PipeRecord) -> Result<Self, BadRecord> {
        let PipeRecord { bytes, buffers, most, has_reader, has_writer } = record;
        let most = *most as usize;
        let is_in_page =
            |(start, len): &(u32, u32)| *len > 0 && u64::from(*start) + u64::from(*len) <= PAGE_SIZE as u64;
        let held: u64 = buffers.iter().map(|(_, len)| u64::from(*len)).sum();
        let fits = (1..=BUFFERS_MAX).contains(&most)
            && buffers.len() <= most
            && buffers.iter().all(is_in_page)
            && held == bytes.len() as u64;
        BadRecord::unless(fits, "pipe", "its bytes are not those of its pages")?;
        let buffer = |(start, len): &(u32, u32)| Buffer { start: *start as usize, len: *len as usize };
        Ok(Self {
            bytes: Arc::new(bytes.iter().copied().collect()),
            buffers: buffers.iter().map(buffer).collect(),
            most,
            has_reader: *has_reader,
            has_writer: *has_writer,
        })
    }

    fn new() -> Self {
        Self { bytes: Arc::default(), buffers: VecDeque::new(), most: BUFFERS, has_reader: true, has_writer: true }
    }

    /// How many bytes fit into its buffers.
    pub(super) fn capacity(&self) -> u64 {
        (self.most * PAGE_SIZE) as u64
    }

    /// How many bytes wait to be read.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A copy of the next `len` bytes, or of all that there are.
    pub(super) fn peek(&self, len: usize) -> Vec<u8> {
        let (first, second) = self.bytes.as_slices();
        let first = &first[..first.len().min(len)];
        [first, &second[..second.len().min(len - first.len())]].concat()
    }

    /// Takes `len` bytes away, that are there, and says whether there is room in a pipe that was full.
    pub(super) fn take(&mut self, len: usize) -> bool {
        let was_full = self.is_full();
        if len > 0 {
            Arc::make_mut(&mut self.bytes).drain(..len);
        }
        let mut left = len;
        while left > 0
            && let Some(buffer) = self.buffers.front_mut()
        {
            let part = left.min(buffer.len);
            buffer.start += part;
            buffer.len -= part;
            left -= part;
            if buffer.len == 0 {
                self.buffers.pop_front();
            }
        }
        was_full && !self.is_full()
    }

    /// Adds bytes, as many as there is room for, and says how many.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let mut left = bytes.len();
        let beyond_pages = left % PAGE_SIZE;
        if beyond_pages > 0
            && let Some(last) = self.buffers.back_mut()
            && last.start + last.len + beyond_pages <= PAGE_SIZE
        {
            last.len += beyond_pages;
            left -= beyond_pages;
        }
        while left > 0 && !self.is_full() {
            let len = left.min(PAGE_SIZE);
            self.buffers.push_back(Buffer { start: 0, len });
            left -= len;
        }
        let put = bytes.len() - left;
        if put > 0 {
            Arc::make_mut(&mut self.bytes).extend(&bytes[..put]);
        }
        put
    }

    /// What the end to read from is ready for.
    pub(super) fn reader_events(&self) -> u32 {
        let readable = if self.bytes.is_empty() { 0 } else { EPOLLIN | EPOLLRDNORM };
        readable | if self.has_writer { 0 } else { EPOLLHUP }
    }

    /// What the end to write to is ready for.
    pub(super) fn writer_events(&self) -> u32 {
        let writable = if self.is_full() { 0 } else { EPOLLOUT | EPOLLWRNORM };
        writable | if self.has_reader { 0 } else { EPOLLERR }
    }

    fn is_full(&self) -> bool {
        self.buffers.len() >= self.most
    }
}

/// How many buffers a new pipe has (Linux's `include/linux/pipe_fs_i.h`, `PIPE_DEF_BUFFERS`).
const BUFFERS: usize = 16;

/// The most that one can be given without privileges (Linux's `fs/pipe.c`, `pipe_max_size`).
const BUFFERS_MAX: usize = (1 << 20) / PAGE_SIZE;

/// The most that all pipes together can have after one was given more (the same, `pipe_user_pages_soft`).
const BUFFERS_OF_ALL: usize = BUFFERS * 1024;

/// The largest size that is understood (the same, `round_pipe_size`).
const SIZE_MAX: usize = 1 << 31;

/// How many bytes a new pipe can hold.
pub(super) const CAPACITY: usize = BUFFERS * PAGE_SIZE;
