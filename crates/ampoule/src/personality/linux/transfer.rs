//! System calls that move bytes from one open file to another, and `getdents64` and `getdents`, which list a directory.

use ampoule_vfs::{DirectoryEntry, FileType};
use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::O_APPEND;

use crate::address_space::AddressSpace;
use crate::personality::{Outcome, Streams, Unprinted};

use super::clocks::Clocks;
use super::descriptors::{Object, OpenFile};
use super::devices::MAX_RW_COUNT;
use super::errno::Errno;
use super::files::unprinted;
use super::memory_files::SealedChange;
use super::regular::BUFFER_LEN;
use super::{State, uint};

impl State {
    /// `sendfile`: to a file, or to one of the standard streams. Whatever else is open is refused as by a file system that
    /// cannot do it, and programs read and write instead.
    pub(super) fn sendfile(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        streams: &mut dyn Streams,
        [to, from, offset, count]: [u64; 4],
    ) -> Result<Outcome, Errno> {
        let (source, target) = (self.descriptors.get(from)?, self.descriptors.get(to)?);
        if !source.is_readable() || !target.is_writable() {
            return Err(Errno::EBADF);
        }
        if target.flags & O_APPEND != 0 || !matches!(source.object, Object::File) {
            return Err(Errno::EINVAL);
        }
        let file = self.named(from)?;
        if self.vfs.file_type(file.location())? != FileType::Regular {
            return Err(Errno::EINVAL);
        }
        let start = match offset {
            0 => source.position,
            at => space.read_u64(GuestVirt(at))?,
        };
        // Even where there is nothing to send.
        if start.checked_add(count).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Errno::EINVAL);
        }
        let count = count.min(MAX_RW_COUNT);
        let outcome = match target.object {
            Object::File => {
                self.copy(clocks, space, (from, source, start), (to, target.position), count).map(Outcome::Return)?
            }
            Object::Output(stream) => {
                let mut buffer = vec![0; count.min(BUFFER_LEN as u64) as usize];
                let mut done = 0;
                while done < count {
                    let part = (count - done).min(buffer.len() as u64) as usize;
                    let got = self.read_part(clocks, space, from, source, start + done, &mut buffer[..part])?;
                    match streams.write(stream, &buffer[..got]) {
                        Err(Unprinted::LimitReached) => return Ok(Outcome::OutputLimit),
                        Err(Unprinted::Failed(kind)) if done == 0 => return unprinted(&mut self.signals, kind),
                        Err(Unprinted::Failed(_)) => break,
                        Ok(()) => {}
                    }
                    done += got as u64;
                    if got < part {
                        break;
                    }
                    space.check_watch()?;
                }
                Outcome::Return(done)
            }
            _ => return Err(Errno::EINVAL),
        };
        let Outcome::Return(done) = outcome else { return Ok(outcome) };
        if offset == 0 {
            self.descriptors.get_mut(from)?.position = start + done;
        } else {
            space.write(GuestVirt(offset), &(start + done).to_le_bytes())?;
        }
        if target.object == Object::File {
            self.descriptors.get_mut(to)?.position = target.position + done;
        }
        Ok(outcome)
    }

    /// `copy_file_range`
    pub(super) fn copy_file_range(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [from, from_offset, to, to_offset, count, flags]: [u64; 6],
    ) -> Result<u64, Errno> {
        let (source, target) = (self.descriptors.get(from)?, self.descriptors.get(to)?);
        if uint(flags) != 0 {
            return Err(Errno::EINVAL);
        }
        if source.is_place() || target.is_place() {
            return Err(Errno::EBADF);
        }
        for number in [from, to] {
            match self.descriptors.named(number)?.map(|file| self.vfs.file_type(file.location())) {
                Some(Ok(FileType::Directory)) => return Err(Errno::EISDIR),
                Some(Ok(FileType::Regular)) => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        if !source.is_readable() || !target.is_writable() || target.flags & O_APPEND != 0 {
            return Err(Errno::EBADF);
        }
        if (source.object, target.object) != (Object::File, Object::File) {
            return Err(Errno::EINVAL);
        }
        let offset = |at: u64, position| if at == 0 { Ok(position) } else { space.read_u64(GuestVirt(at)) };
        let (start, into) = (offset(from_offset, source.position)?, offset(to_offset, target.position)?);
        let (one, other) = (self.named(from)?, self.named(to)?);
        let count = count.min(MAX_RW_COUNT).min(self.vfs.len(&one)?.saturating_sub(start));
        if [start, into].iter().any(|begin| begin.checked_add(count).is_none_or(|end| i64::try_from(end).is_err())) {
            return Err(Errno::EOVERFLOW);
        }
        if self.identity(&one)? == self.identity(&other)? && start < into + count && into < start + count {
            return Err(Errno::EINVAL);
        }
        let done = self.copy(clocks, space, (from, source, start), (to, into), count)?;
        for (number, at, end) in [(from, from_offset, start + done), (to, to_offset, into + done)] {
            match at {
                0 => self.descriptors.get_mut(number)?.position = end,
                at => space.write(GuestVirt(at), &end.to_le_bytes())?,
            }
        }
        Ok(done)
    }

    /// Copies from a place in one file to a place in another, as much as there is. An error is not reported when something was
    /// copied before it.
    fn copy(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        (from, source, start): (u64, OpenFile, u64),
        (to, into): (u64, u64),
        count: u64,
    ) -> Result<u64, Errno> {
        if i64::try_from(start.saturating_add(count)).is_err() || i64::try_from(into.saturating_add(count)).is_err() {
            return Err(Errno::EINVAL);
        }
        let target = self.named(to)?;
        self.check_seals(&target, SealedChange::Write { start: Some(into), len: count })?;
        let mut buffer = vec![0; count.min(BUFFER_LEN as u64) as usize];
        let mut done = 0;
        while done < count {
            let part = (count - done).min(buffer.len() as u64) as usize;
            let moved =
                self.read_part(clocks, space, from, source, start + done, &mut buffer[..part]).and_then(|got| {
                    Ok((got, self.write_part(clocks, space, &target, Some(into + done), &buffer[..got])?.0))
                });
            let (got, written) = match moved {
                Ok(moved) => moved,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            done += written as u64;
            // What is written may be read again, where both are the same file.
            if got == 0 || written < got {
                break;
            }
            space.check_watch()?;
        }
        Ok(done)
    }

    /// `getdents64` and `getdents`
    pub(super) fn list(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [number, into, len]: [u64; 3],
        form: EntryForm,
    ) -> Result<u64, Errno> {
        let open = self.descriptors.get(number)?;
        if open.is_place() {
            return Err(Errno::EBADF);
        }
        let Some(directory) = self.descriptors.named(number)?.cloned() else { return Err(Errno::ENOTDIR) };
        let room = (len as u32 as usize).min(BUFFER_LEN);
        let mut entries = Vec::new();
        let mut next = open.position;
        let mut is_full = false;
        self.with_files(clocks, space, |vfs, context| {
            vfs.read_directory(context, &directory, open.position, &mut |entry| {
                is_full = entries.len() + form.len(entry.name) > room;
                if !is_full {
                    form.put(&mut entries, &entry);
                    next = entry.next;
                }
                !is_full
            })
        })?;
        if is_full && entries.is_empty() {
            return Err(Errno::EINVAL);
        }
        space.write(GuestVirt(into), &entries)?;
        self.descriptors.get_mut(number)?.position = next;
        Ok(entries.len() as u64)
    }
}

/// How entries of directories are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryForm {
    /// As `struct linux_dirent64` (Linux's `include/linux/dirent.h`).
    Wide,
    /// As `struct linux_dirent` (Linux's `fs/readdir.c`), which has the type behind the name, in the last byte.
    Old,
}

impl EntryForm {
    fn put(self, entries: &mut Vec<u8>, entry: &DirectoryEntry<'_>) {
        let start = entries.len();
        let len = self.len(entry.name);
        let file_type = entry.file_type.directory_entry_type();
        entries.extend_from_slice(&entry.inode.to_le_bytes());
        entries.extend_from_slice(&entry.next.to_le_bytes());
        entries.extend_from_slice(&(len as u16).to_le_bytes());
        if self == Self::Wide {
            entries.push(file_type);
        }
        entries.extend_from_slice(entry.name);
        entries.resize(start + len, 0);
        if self == Self::Old {
            entries[start + len - 1] = file_type;
        }
    }

    /// How much an entry takes with its name, the zero behind that, and its type, in bytes.
    fn len(self, name: &[u8]) -> usize {
        (TYPE_OFFSET + name.len() + 2).next_multiple_of(size_of::<u64>())
    }
}

/// Where the type is in an entry that has it before its name, and the name in one that does not.
const TYPE_OFFSET: usize = 18;
