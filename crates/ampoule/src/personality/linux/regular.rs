//! Reading and writing what is open in the file system: files, devices, and the texts in `/proc`.
//!
//! Bytes pass through a buffer of the host's, a piece at a time, except that much of a host's file is read straight into the
//! guest's memory. The call ends between two pieces when it is interrupted. So one call can transfer as much as on Linux. An error is not reported when something was transferred before it.

use std::os::fd::BorrowedFd;

use ampoule_vfs::{Allocation, File, Seek};
use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use linux_raw_sys::general::{
    FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, O_APPEND, SEEK_CUR, SEEK_DATA, SEEK_END,
    SEEK_HOLE, SEEK_SET,
};

use crate::address_space::{AddressSpace, Filled, LEAST_FILLED};

use super::clocks::Clocks;
use super::descriptors::{Object, OpenFile};
use super::devices::{self, MAX_RW_COUNT};
use super::errno::Errno;
use super::files::{Place, total};
use super::memory_files::SealedChange;
use super::{State, mappings, proc, uint};

/// Where in a file a call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// At the file's own position, which moves.
    Position,
    /// Here.
    Offset(u64),
    /// At the end.
    End,
}

/// What is read from.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    number: u64,
    open: OpenFile,
    /// The host's file that has the same bytes, where the host can read that straight into the guest's memory.
    host: Option<BorrowedFd<'a>>,
}

/// What of a transfer was done at once.
#[derive(Clone, Copy, Debug)]
struct Moved {
    bytes: u64,
    /// Whether there is no more.
    is_last: bool,
}

impl State {
    /// Reads what is open in the file system.
    pub(super) fn read_named(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        number: u64,
        at: At,
        places: &[Place],
    ) -> Result<u64, Errno> {
        let open = self.descriptors.get(number)?;
        if !open.is_readable() {
            return Err(Errno::EBADF);
        }
        let start = if let At::Offset(offset) = at { offset } else { open.position };
        check_end(open, start, places)?;
        if total(places) == 0 {
            // A directory is refused even then.
            return self.read_part(clocks, space, number, open, start, &mut []).map(|_| 0);
        }
        let file = self.file_to_fill_from(space, number, open, total(places))?;
        let host = file.as_ref().and_then(|file| self.vfs.host_file(file));
        let source = Source { number, open, host: host.map(|host| host.descriptor) };
        let mut buffer = Vec::new();
        let mut done = 0;
        for place in places {
            let mut to = GuestVirt(place.at);
            let mut left = place.len.min(MAX_RW_COUNT - done);
            while left > 0 {
                let offset = start.saturating_add(done);
                let Moved { bytes, is_last } =
                    match self.read_piece(clocks, space, (source, offset), (to, left), &mut buffer) {
                        Ok(moved) => moved,
                        Err(_) if done > 0 => return self.advance(number, at, start, done),
                        Err(errno) => return Err(errno),
                    };
                done += bytes;
                if is_last {
                    return self.advance(number, at, start, done);
                }
                space.check_watch()?;
                left -= bytes;
                to = GuestVirt(to.0.wrapping_add(bytes));
            }
        }
        self.advance(number, at, start, done)
    }

    /// The file that the host can read straight into the guest's memory, where so much of it is wanted that this pays: one of
    /// its own, of which the program has nothing in memory that is newer.
    fn file_to_fill_from(
        &self,
        space: &AddressSpace,
        number: u64,
        open: OpenFile,
        wanted: u64,
    ) -> Result<Option<File>, Errno> {
        if open.object != Object::File || wanted < LEAST_FILLED as u64 {
            return Ok(None);
        }
        let file = self.named(number)?;
        Ok(self.shared_at(space, file.location()).is_none().then_some(file))
    }

    /// Reads at most `left` bytes, as many as go at once, to the guest's memory.
    fn read_piece(
        &self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        (Source { number, open, host }, offset): (Source<'_>, u64),
        (to, left): (GuestVirt, u64),
        buffer: &mut Vec<u8>,
    ) -> Result<Moved, Errno> {
        let filled = host.and_then(|file| space.fill(to, left.min(MOST_FILLED) as usize, file, offset));
        if let Some(Filled { read, asked }) = filled {
            return Ok(Moved { bytes: read as u64, is_last: read < asked });
        }
        buffer.resize(left.min(BUFFER_LEN as u64) as usize, 0);
        let read = self.read_part(clocks, space, number, open, offset, buffer)?;
        let (written, is_whole) = put(space, to, &buffer[..read]);
        if !is_whole && written == 0 {
            return Err(Errno::EFAULT);
        }
        Ok(Moved { bytes: written as u64, is_last: !is_whole || read < buffer.len() })
    }

    /// Reads a part of what is open, from a place on.
    pub(super) fn read_part(
        &self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        number: u64,
        open: OpenFile,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, Errno> {
        match open.object {
            Object::Device(device) => devices::read(device, into),
            Object::Process(file) => proc::read(self, clocks, space, file, offset, into),
            Object::Mapping => self.read_mapping(space, number, offset, into),
            Object::System(file) => proc::read_system(self, clocks, space, file, offset, into),
            _ => {
                let file = self.descriptors.named(number)?.ok_or(Errno::EBADF)?;
                let count = self.vfs.read_at(file, into, offset)?;
                if let Some(id) = self.shared_at(space, file.location()) {
                    space.overlay_shared(id, offset, &mut into[..count]);
                }
                Ok(count)
            }
        }
    }

    /// Writes to what is open in the file system.
    pub(super) fn write_named(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        number: u64,
        at: At,
        places: &[Place],
    ) -> Result<u64, Errno> {
        let open = self.descriptors.get(number)?;
        if !open.is_writable() {
            return Err(Errno::EBADF);
        }
        let file = match open.object {
            Object::Device(device) => return devices::write(device, total(places)),
            Object::File | Object::Mapping => self.named(number)?,
            _ => return Err(Errno::EIO),
        };
        // As on Linux, also where a position is given.
        let appends = open.flags & O_APPEND != 0 || at == At::End;
        let start = if let At::Offset(offset) = at { offset } else { open.position };
        check_end(open, start, places)?;
        self.check_seals(&file, SealedChange::Write { start: (!appends).then_some(start), len: total(places) })?;
        let mut end = start;
        let mut buffer = vec![0; total(places).min(BUFFER_LEN as u64) as usize];
        let mut done = 0;
        for place in places {
            let mut from = GuestVirt(place.at);
            let mut left = place.len.min(MAX_RW_COUNT - done);
            while left > 0 {
                let part = left.min(buffer.len() as u64) as usize;
                let (got, is_whole) = take(space, from, &mut buffer[..part]);
                if got == 0 {
                    return if done == 0 { Err(Errno::EFAULT) } else { self.written(number, at, end, done) };
                }
                let offset = (!appends).then_some(start.saturating_add(done));
                let (written, begins) = match self.write_part(clocks, space, &file, offset, &buffer[..got]) {
                    Ok(written) => written,
                    Err(_) if done > 0 => return self.written(number, at, end, done),
                    Err(errno) => return Err(errno),
                };
                done += written as u64;
                end = begins + written as u64;
                if !is_whole || written < got {
                    return self.written(number, at, end, done);
                }
                space.check_watch()?;
                left -= got as u64;
                from = GuestVirt(from.0.wrapping_add(got as u64));
            }
        }
        self.written(number, at, end, done)
    }

    /// Writes to a place in a file, or to its end: how much, and from where on.
    pub(super) fn write_part(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        file: &File,
        offset: Option<u64>,
        bytes: &[u8],
    ) -> Result<(usize, u64), Errno> {
        if let Some(mapping) = self.mapping_of(file) {
            return mappings::write(space, mapping, offset, bytes);
        }
        let (count, begins) = self.with_files(clocks, space, |vfs, context| match offset {
            Some(offset) => vfs.write_at(context, file, bytes, offset).map(|count| (count, offset)),
            None => vfs.append(context, file, bytes),
        })?;
        self.note_written(clocks, space, file, (begins, &bytes[..count]))?;
        Ok((count, begins))
    }

    /// Moves the file's position behind what was read.
    fn advance(&mut self, number: u64, at: At, start: u64, done: u64) -> Result<u64, Errno> {
        let file = self.descriptors.get_mut(number)?;
        // Devices have no places.
        if at == At::Position && !matches!(file.object, Object::Device(_)) {
            file.position = start.saturating_add(done);
        }
        Ok(done)
    }

    /// Moves the file's position behind what was written.
    fn written(&mut self, number: u64, at: At, end: u64, done: u64) -> Result<u64, Errno> {
        if done > 0 && !matches!(at, At::Offset(_)) {
            self.descriptors.get_mut(number)?.position = end;
        }
        Ok(done)
    }

    /// A file of the file system's that is open under a number, as another holder of it.
    pub(super) fn named(&self, number: u64) -> Result<File, Errno> {
        self.descriptors.named(number)?.cloned().ok_or(Errno::EINVAL)
    }

    /// `lseek` on what is open in the file system.
    pub(super) fn seek(&mut self, number: u64, offset: u64, whence: u64) -> Result<u64, Errno> {
        let open = self.descriptors.get(number)?;
        let (whence, offset) = (uint(whence), offset as i64);
        if open.is_place() {
            return Err(Errno::EBADF);
        }
        if whence > SEEK_HOLE {
            return Err(Errno::EINVAL);
        }
        let start = match (open.object, whence) {
            (Object::Device(_), _) => return Ok(0),
            (_, SEEK_SET) => 0,
            (_, SEEK_CUR) => open.position,
            (Object::Mapping, whence) => self.seek_mapping(number, whence, offset)?,
            (Object::File, SEEK_END | SEEK_DATA | SEEK_HOLE) => {
                let file = self.descriptors.named(number)?.ok_or(Errno::EBADF)?;
                match whence {
                    SEEK_END => self.vfs.len(file).map_err(|_| Errno::EINVAL)?,
                    _ if offset < 0 => return Err(Errno::ENXIO),
                    whence => {
                        let seek = if whence == SEEK_DATA { Seek::Data } else { Seek::Hole };
                        let found = self.vfs.seek(file, seek, offset as u64)?;
                        self.descriptors.get_mut(number)?.position = found;
                        return Ok(found);
                    }
                }
            }
            _ => return Err(Errno::EINVAL),
        };
        let position = start.checked_add_signed(offset).filter(|position| i64::try_from(*position).is_ok());
        let position = position.ok_or(Errno::EINVAL)?;
        self.descriptors.get_mut(number)?.position = position;
        Ok(position)
    }

    /// `ftruncate`
    pub(super) fn ftruncate(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        number: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        if i64::try_from(len).is_err() {
            return Err(Errno::EINVAL);
        }
        let open = self.descriptors.get(number)?;
        if open.is_place() {
            return Err(Errno::EBADF);
        }
        if open.object != Object::File || !open.is_writable() {
            return Err(Errno::EINVAL);
        }
        let file = self.named(number)?;
        let now = self.vfs.len(&file)?;
        self.check_seals(&file, if len < now { SealedChange::Shrink } else { SealedChange::Grow { to: len } })?;
        self.with_files(clocks, space, |vfs, context| vfs.set_len(context, &file, len))?;
        self.note_resized(clocks, space, file.location())?;
        Ok(0)
    }

    /// `fallocate`
    pub(super) fn fallocate(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [number, mode, offset, len]: [u64; 4],
    ) -> Result<u64, Errno> {
        let open = self.descriptors.get(number)?;
        let (Ok(_), Ok(1..)) = (i64::try_from(offset), i64::try_from(len)) else { return Err(Errno::EINVAL) };
        let keep_size = uint(mode) & FALLOC_FL_KEEP_SIZE != 0;
        let allocation = match uint(mode) & !FALLOC_FL_KEEP_SIZE {
            0 => Allocation::Reserve { keep_size },
            FALLOC_FL_ZERO_RANGE => Allocation::Zero { keep_size },
            FALLOC_FL_PUNCH_HOLE if keep_size => Allocation::PunchHole,
            _ => return Err(Errno::EOPNOTSUPP),
        };
        if !open.is_writable() {
            return Err(Errno::EBADF);
        }
        match open.object {
            Object::File => {}
            Object::PipeReader(_) | Object::PipeWriter(_) | Object::Input | Object::Output(_) => {
                return Err(Errno::ESPIPE);
            }
            _ => return Err(Errno::ENODEV),
        }
        let file = self.named(number)?;
        let change = match allocation {
            Allocation::Reserve { keep_size: true } => SealedChange::Grow { to: 0 },
            Allocation::Reserve { .. } => SealedChange::Grow { to: offset.saturating_add(len) },
            _ => SealedChange::Write { start: Some(offset), len: if keep_size { 0 } else { len } },
        };
        self.check_seals(&file, change)?;
        self.with_files(clocks, space, |vfs, context| vfs.allocate(context, &file, allocation, [offset, len]))?;
        match allocation {
            Allocation::Reserve { .. } => self.note_resized(clocks, space, file.location())?,
            _ => self.note_zeroed(clocks, space, &file, [offset, offset.saturating_add(len)])?,
        }
        Ok(0)
    }

    /// `fsync` and `fdatasync`
    pub(super) fn sync(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        number: u64,
        data_only: bool,
    ) -> Result<u64, Errno> {
        let open = self.descriptors.get(number)?;
        match (open.object, self.descriptors.named(number)?.cloned()) {
            _ if open.is_place() => Err(Errno::EBADF),
            (Object::File, Some(file)) => {
                self.write_back_of(clocks, space, &file, 0..u64::MAX)?;
                self.vfs.sync(&file, data_only)?;
                Ok(0)
            }
            // Nothing that is written there is stored anywhere else.
            (Object::Mapping, _) => Ok(0),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Fails where a transfer would go beyond the last place that a file can have.
fn check_end(open: OpenFile, start: u64, places: &[Place]) -> Result<(), Errno> {
    let end = start.checked_add(total(places)).filter(|end| i64::try_from(*end).is_ok());
    if open.object == Object::File && end.is_none() { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Writes bytes to the guest's memory, whole pages as far as that is possible: how many, and whether these are all.
fn put(space: &mut AddressSpace, to: GuestVirt, bytes: &[u8]) -> (usize, bool) {
    if space.write(to, bytes).is_ok() {
        return (bytes.len(), true);
    }
    // Once more, to see how far that goes.
    let mut done = 0;
    while done < bytes.len() {
        let at = GuestVirt(to.0.wrapping_add(done as u64));
        let part = (bytes.len() - done).min(PAGE_SIZE - at.page_offset());
        if space.write(at, &bytes[done..done + part]).is_err() {
            return (done, false);
        }
        done += part;
    }
    (done, true)
}

/// Reads bytes of the guest's memory, whole pages as far as that is possible: how many, and whether these are all.
fn take(space: &AddressSpace, from: GuestVirt, into: &mut [u8]) -> (usize, bool) {
    if space.read(from, into).is_ok() {
        return (into.len(), true);
    }
    // Once more, to see how far that goes.
    let mut done = 0;
    while done < into.len() {
        let at = GuestVirt(from.0.wrapping_add(done as u64));
        let part = (into.len() - done).min(PAGE_SIZE - at.page_offset());
        if space.read(at, &mut into[done..done + part]).is_err() {
            return (done, false);
        }
        done += part;
    }
    (done, true)
}

/// The most bytes that are read straight into the guest's memory at once.
const MOST_FILLED: u64 = 1 << 20;

/// The most bytes that are on their way at once.
pub(super) const BUFFER_LEN: usize = 64 << 10;
