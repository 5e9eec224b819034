//! Contents of open files.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};

use crate::host::{self, HostIdentity, HostStatus};
use crate::memory::{Body, Contents, Ino};
use crate::mount::{MountId, MountKind};
use crate::process::Context;
use crate::vfs::{Location, Node, Vfs, WRITE};
use crate::{Errno, FILE_SIZE_MAX, File, FileType, Timestamp};

/// What `fallocate` does with a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Gives it room, so that writing there does not fail for lack of it.
    Reserve {
        /// Whether the file keeps its length (`FALLOC_FL_KEEP_SIZE`); else it becomes as long as the part needs.
        keep_size: bool,
    },
    /// Takes its room away, so that it is zeros (`FALLOC_FL_PUNCH_HOLE`). The file keeps its length.
    PunchHole,
    /// Makes it zeros that have room (`FALLOC_FL_ZERO_RANGE`).
    Zero {
        /// Whether the file keeps its length.
        keep_size: bool,
    },
}

/// What `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// Bytes that have room (`SEEK_DATA`).
    Data,
    /// Zeros that have none (`SEEK_HOLE`), or the end of the file.
    Hole,
}

/// A regular file of the host whose contents a file has unchanged.
#[derive(Clone, Copy, Debug)]
pub struct HostFile<'a> {
    /// The host's descriptor, which can be read.
    pub descriptor: BorrowedFd<'a>,
    /// Which file it is.
    pub identity: HostIdentity,
    /// How long it is, in bytes.
    pub size: u64,
    /// When its contents were changed last.
    pub modified: Timestamp,
    /// When anything of it was changed last.
    pub changed: Timestamp,
}

/// Where the contents of an open file are.
enum Place<'a> {
    Memory(MountId, Ino, Option<BorrowedFd<'a>>),
    Host(BorrowedFd<'a>),
}

impl Vfs {
    /// Reads from a place on and returns how much there was.
    ///
    /// # Errors
    ///
    /// `EBADF` where the file is not open for reading, `EISDIR`, `EINVAL` for a place that is no positive `i64` and for what
    /// is [special](Self::special), and what the host says.
    pub fn read_at(&self, file: &File, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
        file.check_readable()?;
        if offset > FILE_SIZE_MAX {
            return Err(Errno::EINVAL);
        }
        let into_len = (into.len() as u64).min(FILE_SIZE_MAX - offset) as usize;
        let into = &mut into[..into_len];
        match self.place(file)? {
            Place::Host(fd) => host::read_at(fd, into, offset),
            Place::Memory(mount, ino, lower) => self.contents(mount, ino)?.read(into, offset, lower),
        }
    }

    /// Writes to a place and returns how much that was. A part is written where the quota has no room for all.
    ///
    /// # Errors
    ///
    /// `EBADF` where the file is not open for writing, `ENOSPC` where there is no room at all, `EFBIG` beyond
    /// [`FILE_SIZE_MAX`], `EINVAL` for a place that is no positive `i64` and for what is [special](Self::special), and what
    /// the host says.
    pub fn write_at(&mut self, context: &Context<'_>, file: &File, from: &[u8], offset: u64) -> Result<usize, Errno> {
        file.check_writable()?;
        if offset > FILE_SIZE_MAX {
            return Err(Errno::EINVAL);
        }
        match self.place_to_change(file)? {
            Place::Host(fd) => host::write_at(fd, from, offset),
            Place::Memory(mount, ino, lower) => self.write_memory(context, (mount, ino), lower, from, offset),
        }
    }

    /// Writes to the end (`O_APPEND`), and returns how much that was and where it begins.
    ///
    /// # Errors
    ///
    /// Those of [`write_at`](Self::write_at).
    pub fn append(&mut self, context: &Context<'_>, file: &File, from: &[u8]) -> Result<(usize, u64), Errno> {
        file.check_writable()?;
        match self.place_to_change(file)? {
            Place::Host(fd) => {
                let count = host::append(fd, from)?;
                Ok((count, HostStatus::of(fd)?.size.saturating_sub(count as u64)))
            }
            Place::Memory(mount, ino, lower) => {
                let offset = self.contents(mount, ino)?.len;
                Ok((self.write_memory(context, (mount, ino), lower, from, offset)?, offset))
            }
        }
    }

    /// How long a regular file is, in bytes.
    ///
    /// # Errors
    ///
    /// `EISDIR`, `EINVAL` for what is [special](Self::special), and what the host says.
    pub fn len(&self, file: &File) -> Result<u64, Errno> {
        match self.place(file)? {
            Place::Host(fd) => Ok(HostStatus::of(fd)?.size),
            Place::Memory(mount, ino, _) => Ok(self.contents(mount, ino)?.len),
        }
    }

    /// Cuts a file off, or adds zeros to it (`ftruncate`).
    ///
    /// # Errors
    ///
    /// `EINVAL` where it is not open for writing, is no regular file, or `len` is no positive `i64`; `EFBIG`, and what the
    /// host says.
    pub fn set_len(&mut self, context: &Context<'_>, file: &File, len: u64) -> Result<(), Errno> {
        if file.access.is_place {
            return Err(Errno::EBADF);
        }
        if !file.access.write || len > FILE_SIZE_MAX || self.file_type(&file.location)? != FileType::Regular {
            return Err(Errno::EINVAL);
        }
        match self.place_to_change(file)? {
            Place::Host(fd) => host::set_len(fd, len),
            Place::Memory(mount, ino, _) => self.set_memory_len(context, mount, ino, len),
        }
    }

    /// The same of a file that is not open (`truncate`), which the guest must be permitted to write.
    ///
    /// # Errors
    ///
    /// `EACCES`, `EROFS`, `EISDIR`, `EINVAL` where it is no regular file or `len` is no positive `i64`, and what the host
    /// says.
    pub fn truncate(&mut self, context: &Context<'_>, location: &Location, len: u64) -> Result<(), Errno> {
        if len > FILE_SIZE_MAX {
            return Err(Errno::EINVAL);
        }
        match self.file_type(location)? {
            FileType::Regular if self.special(location).is_none() => {}
            FileType::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        if self.mount(location.mount).kind.is_read_only() {
            return Err(Errno::EROFS);
        }
        self.status(location)?.check(WRITE)?;
        self.truncate_permitted(context, location, len)
    }

    /// What `O_TRUNC` does, even where the file is open only for reading.
    pub(crate) fn truncate_opened(&mut self, context: &Context<'_>, file: &File) -> Result<(), Errno> {
        self.truncate_permitted(context, &file.location, 0)
    }

    fn truncate_permitted(&mut self, context: &Context<'_>, location: &Location, len: u64) -> Result<(), Errno> {
        match self.node(location) {
            Node::Host(node) if self.mount(location.mount).kind == MountKind::HostReadWrite => {
                let file = node.open(OFlags::WRONLY)?;
                host::set_len(file.fd.as_fd(), len)
            }
            _ => {
                let ino = self.inode_to_change(location)?;
                self.set_memory_len(context, location.mount, ino, len)
            }
        }
    }

    /// Changes the room that a part of a file has (`fallocate`).
    ///
    /// # Errors
    ///
    /// `EBADF` where it is not open for writing, `ENODEV` where it is no regular file, `EINVAL` for an empty part, `EFBIG`,
    /// `ENOSPC`, `EOPNOTSUPP` where the host's file system cannot do it, and what else the host says.
    pub fn allocate(
        &mut self,
        context: &Context<'_>,
        file: &File,
        allocation: Allocation,
        [start, len]: [u64; 2],
    ) -> Result<(), Errno> {
        if file.access.is_place {
            return Err(Errno::EBADF);
        }
        if len == 0 || start > i64::MAX as u64 || len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        file.check_writable()?;
        if self.file_type(&file.location)? != FileType::Regular || self.special(&file.location).is_some() {
            return Err(Errno::ENODEV);
        }
        let end = start.checked_add(len).filter(|end| *end <= FILE_SIZE_MAX).ok_or(Errno::EFBIG)?;
        let (mount, ino) = match self.place_to_change(file)? {
            Place::Host(fd) => return allocate_on_host(context, fd, allocation, start..end),
            Place::Memory(mount, ino, _) => (mount, ino),
        };
        let check = || context.check_interrupted();
        let lower = lower_of(file);
        let memory = self.memory_mut(mount);
        let (contents, usage) = memory.contents_mut(ino)?;
        let keeps_size = match allocation {
            Allocation::PunchHole => {
                contents.punch(start, end, lower, usage, &check)?;
                true
            }
            Allocation::Reserve { keep_size } => {
                contents.allocate(start, end, usage, &check)?;
                keep_size
            }
            Allocation::Zero { keep_size } => {
                contents.punch(start, end, lower, usage, &check)?;
                contents.allocate(start, end, usage, &check)?;
                keep_size
            }
        };
        if !keeps_size {
            contents.len = contents.len.max(end);
        }
        memory.get_mut(ino)?.note_write(context.now);
        Ok(())
    }

    /// Gives the part of a file from `start` to `end`, as far as the file has it, room of its own in memory, so that to write it
    /// does not fail for lack of it. Files of the host have what the host gives.
    ///
    /// # Errors
    ///
    /// `EBADF` where the file is not open for writing, `ENOSPC` where there is not enough room; nothing has changed then.
    pub fn own(&mut self, file: &File, [start, end]: [u64; 2]) -> Result<(), Errno> {
        file.check_writable()?;
        let end = end.min(self.len(file)?);
        if start >= end {
            return Ok(());
        }
        match self.place_to_change(file)? {
            Place::Host(_) => Ok(()),
            Place::Memory(mount, ino, lower) => {
                let (contents, usage) = self.memory_mut(mount).contents_mut(ino)?;
                contents.own(start, end, lower, usage)
            }
        }
    }

    /// Looks for data, or for a hole, from a place on.
    ///
    /// # Errors
    ///
    /// `ENXIO` where there is none, or the place is beyond the end; `EISDIR`, `EINVAL` for what is [special](Self::special),
    /// and what the host says.
    pub fn seek(&self, file: &File, seek: Seek, offset: u64) -> Result<u64, Errno> {
        if file.access.is_place {
            return Err(Errno::EBADF);
        }
        match self.place(file)? {
            Place::Host(fd) => {
                let to = match seek {
                    Seek::Data => SeekFrom::Data(offset),
                    Seek::Hole => SeekFrom::Hole(offset),
                };
                Ok(rustix::fs::seek(fd, to)?)
            }
            Place::Memory(mount, ino, _) => {
                let contents = self.contents(mount, ino)?;
                if offset >= contents.len {
                    return Err(Errno::ENXIO);
                }
                match seek {
                    Seek::Data => contents.next_data(offset).ok_or(Errno::ENXIO),
                    Seek::Hole => Ok(contents.next_hole(offset)),
                }
            }
        }
    }

    /// Waits until the host has stored what was written (`fsync`, or `fdatasync` for the contents alone).
    ///
    /// # Errors
    ///
    /// `EBADF` for a place, and what the host says.
    pub fn sync(&self, file: &File, data_only: bool) -> Result<(), Errno> {
        if file.access.is_place {
            return Err(Errno::EBADF);
        }
        match self.node(&file.location) {
            Node::Host(node) if self.mount(file.location.mount).kind == MountKind::HostReadWrite => {
                if data_only {
                    rustix::fs::fdatasync(&node.fd)?;
                } else {
                    rustix::fs::fsync(&node.fd)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The host's file that a regular file has all its contents from, if it has been opened for reading and nothing in
    /// memory has replaced any of it.
    #[must_use]
    pub fn host_file<'a>(&self, file: &'a File) -> Option<HostFile<'a>> {
        if !file.access.read || self.file_type(&file.location).ok()? != FileType::Regular {
            return None;
        }
        let (descriptor, len) = match self.place(file).ok()? {
            Place::Host(fd) => (fd, None),
            Place::Memory(mount, ino, lower) => {
                let contents = self.contents(mount, ino).ok()?;
                (lower.filter(|_| contents.is_lower())?, Some(contents.len))
            }
        };
        let HostStatus { identity, size, modified, changed, .. } = HostStatus::of(descriptor).ok()?;
        let is_whole = len.is_none_or(|len| len == size);
        is_whole.then_some(HostFile { descriptor, identity, size, modified, changed })
    }

    fn contents(&self, mount: MountId, ino: Ino) -> Result<&Contents, Errno> {
        match &self.memory(mount).get(ino)?.body {
            Body::Regular(contents) => Ok(contents),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Where the contents are, to be read.
    fn place<'a>(&self, file: &'a File) -> Result<Place<'a>, Errno> {
        let mount = file.location.mount;
        match (self.node(&file.location), &file.location.node) {
            (Node::Memory(ino), _) => Ok(Place::Memory(mount, ino, lower_of(file))),
            (Node::Host(_), Node::Host(node)) => match node.status.file_type {
                FileType::Regular => Ok(Place::Host(node.fd.as_fd())),
                FileType::Directory => Err(Errno::EISDIR),
                _ => Err(Errno::EINVAL),
            },
            _ => Err(Errno::EINVAL),
        }
    }

    /// Where the contents are, to be changed.
    fn place_to_change<'a>(&mut self, file: &'a File) -> Result<Place<'a>, Errno> {
        let location = &file.location;
        match self.place(file)? {
            Place::Host(fd) if self.mount(location.mount).kind == MountKind::HostReadWrite => Ok(Place::Host(fd)),
            Place::Host(fd) => Ok(Place::Memory(location.mount, self.inode_to_change(location)?, Some(fd))),
            place => Ok(place),
        }
    }

    fn write_memory(
        &mut self,
        context: &Context<'_>,
        (mount, ino): (MountId, Ino),
        lower: Option<BorrowedFd<'_>>,
        from: &[u8],
        offset: u64,
    ) -> Result<usize, Errno> {
        if from.is_empty() {
            return Ok(0);
        }
        let room = FILE_SIZE_MAX - offset;
        if room == 0 {
            return Err(Errno::EFBIG);
        }
        let from = &from[..(from.len() as u64).min(room) as usize];
        let memory = self.memory_mut(mount);
        let (contents, usage) = memory.contents_mut(ino)?;
        let count = contents.write(from, offset, lower, usage)?;
        memory.get_mut(ino)?.note_write(context.now);
        Ok(count)
    }

    fn set_memory_len(&mut self, context: &Context<'_>, mount: MountId, ino: Ino, len: u64) -> Result<(), Errno> {
        let memory = self.memory_mut(mount);
        let (contents, usage) = memory.contents_mut(ino)?;
        contents.set_len(len, usage);
        memory.get_mut(ino)?.note_write(context.now);
        Ok(())
    }
}

impl Allocation {
    fn host_flags(self) -> FallocateFlags {
        let keep = |keep_size| if keep_size { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
        match self {
            Self::Reserve { keep_size } => keep(keep_size),
            Self::PunchHole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Self::Zero { keep_size } => FallocateFlags::ZERO_RANGE | keep(keep_size),
        }
    }
}

/// Changes the room of a file of the host's a piece at a time, so that nobody waits long for the kernel.
fn allocate_on_host(
    context: &Context<'_>,
    file: BorrowedFd<'_>,
    allocation: Allocation,
    part: Range<u64>,
) -> Result<(), Errno> {
    let flags = allocation.host_flags();
    // Beyond its end, a file that keeps its length has nothing to be taken away.
    let end = if allocation == Allocation::PunchHole { part.end.min(HostStatus::of(file)?.size) } else { part.end };
    host::check_size(part.end)?;
    let mut at = part.start;
    loop {
        context.check_interrupted()?;
        let len = end.saturating_sub(at).clamp(1, PIECE);
        host::allocate(file, flags, [at, len])?;
        at += len;
        if at >= end {
            return Ok(());
        }
    }
}

/// The host's file behind one in memory: from when the one was opened, or the other replaced it.
fn lower_of(file: &File) -> Option<BorrowedFd<'_>> {
    match (&file.lower, &file.location.node) {
        (Some(lower), _) => Some(lower.fd.as_fd()),
        (None, Node::Host(node)) => Some(node.fd.as_fd()),
        (None, _) => None,
    }
}

/// How many bytes of a file of the host's get room, or lose it, in one call.
const PIECE: u64 = 256 << 20;
