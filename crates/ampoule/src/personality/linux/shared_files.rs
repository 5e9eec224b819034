//! Files whose pages the program shares: keeping the file and what is mapped of it the same.
//!
//! What the program stores through a mapping is in the guest's memory. Whoever reads or writes the file by a system call goes
//! through here, so that each sees what the other has done. What is dirty is written to the file before its memory is given
//! back, when the program asks for it (`msync`, `fsync`), and whenever a call of the host's ends, however it ends: so the
//! guest at rest has nothing that its files have not.

use std::io;
use std::ops::Range;

use ampoule_vfs::{File, Location, MountKind, Vfs};
use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use linux_raw_sys::general::{F_SEAL_FUTURE_WRITE, F_SEAL_WRITE};

use crate::address_space::{
    AddressSpace, FileId, FilePart, MapError, MappedFile, Movement, Placement, Protection, SharedPart,
};

use super::State;
use super::clocks::Clocks;
use super::errno::Errno;
use super::mappings::Pages;

/// An open file that is shared.
#[derive(Clone, Debug)]
pub(super) struct SharedHandle {
    /// Open for reading, and for writing where any of its mappings may be written.
    file: File,
    /// Whether it is a file of the host's, which others can change and no restore takes back.
    is_on_host: bool,
}

/// A mapping that `mmap` is to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) len: u64,
    pub(super) placement: Placement,
    pub(super) protection: Protection,
    /// Its first page in the file.
    pub(super) first: u64,
}

impl State {
    /// Maps pages of an open file that the program shares.
    pub(super) fn map_shared(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        (file, mapped): (File, MappedFile),
        wanted: Wanted,
    ) -> Result<GuestVirt, Errno> {
        let key = self.identity(&file)?;
        let seals = self.seals.get(&key).copied().unwrap_or(0) & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
        if seals != 0 && wanted.protection.is_writable() {
            return Err(Errno::EPERM);
        }
        let may_write = file.is_writable() && seals == 0;
        let start = wanted.first * PAGE;
        if wanted.protection.is_writable() {
            self.own(space, &file, [start, start.saturating_add(wanted.len)])?;
        }
        if let Some(id) = space.shared_file(key) {
            self.follow_len(clocks, space, id)?;
        }
        let part = SharedPart { key, file: &mapped.into(), first: wanted.first, may_write };
        let Wanted { len, placement, protection, .. } = wanted;
        let held = self.vfs.retain(&file)?;
        let mapped = space.map_shared(len, placement, protection, part, &mut reader(&self.vfs, &file));
        match mapped {
            Ok((at, id)) => {
                self.hold(id, held, may_write);
                Ok(at)
            }
            Err(error) => {
                self.vfs.close(held);
                Err(error.into())
            }
        }
    }

    /// Keeps an open file for as long as it is mapped.
    fn hold(&mut self, id: FileId, file: File, may_write: bool) {
        let before = match self.shared.get_mut(&id) {
            Some(held) if held.file.is_writable() || !may_write => file,
            Some(held) => std::mem::replace(&mut held.file, file),
            None => {
                let is_on_host = self.vfs.mount_kind(file.location()) == MountKind::HostReadWrite;
                self.shared.insert(id, SharedHandle { file, is_on_host });
                return;
            }
        };
        self.vfs.close(before);
    }

    /// Sees to it that what is stored in a part of a file will have room there.
    fn own(&mut self, space: &AddressSpace, file: &File, part: [u64; 2]) -> Result<(), Errno> {
        space.check_watch()?;
        match self.vfs.own(file, part) {
            Err(ampoule_vfs::Errno::ENOSPC) => Err(Errno::ENOMEM),
            owned => Ok(owned?),
        }
    }

    /// The same of everything that may be stored at these addresses once they are writable.
    pub(super) fn own_at(&mut self, space: &AddressSpace, at: u64, len: u64) -> Result<(), Errno> {
        for (id, pages) in space.shared_at(GuestVirt(at), len) {
            if let Some(file) = self.shared.get(&id).map(|held| held.file.clone()).filter(File::is_writable) {
                self.own(space, &file, [pages.start * PAGE, pages.end.saturating_mul(PAGE)])?;
            }
        }
        Ok(())
    }

    /// Maps pages of an open file of which the program gets its own copies, at the latest when it writes them.
    pub(super) fn map_privately(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        (file, mapped): (File, MappedFile),
        (wanted, is_shared): (Wanted, bool),
    ) -> Result<Result<GuestVirt, MapError>, Errno> {
        let Wanted { len, placement, protection, first } = wanted;
        self.write_back_of(clocks, space, &file, first..first.saturating_add(len.div_ceil(PAGE)))?;
        let key = Some(self.identity(&file)?);
        let part = FilePart { file: &mapped.into(), first, is_shared, key };
        let held = self.vfs.retain(&file)?;
        let pages = self.mapping_of(&file).and_then(|mapping| Pages::of(space, mapping));
        let mapped = match pages {
            Some(pages) => space.map_file(len, placement, protection, part, &mut |at, into| pages.read(at, into)),
            None => space.map_file(len, placement, protection, part, &mut reader(&self.vfs, &file)),
        };
        match mapped {
            Ok((_, id)) if space.is_copied(id) && !self.copied.contains_key(&id) => {
                self.copied.insert(id, held);
            }
            _ => self.vfs.close(held),
        }
        Ok(mapped.map(|(at, _)| at))
    }

    /// Makes the copies of files at these addresses again, which hold zeros.
    pub(super) fn copy_again(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        at: GuestVirt,
        len: u64,
    ) -> Result<(), Errno> {
        for (id, at, first) in space.copied_at(at, len) {
            let Some(file) = self.copied.get(&id).cloned() else { continue };
            self.write_back_of(clocks, space, &file, first..first.saturating_add((at.end.0 - at.start.0) / PAGE))?;
            match self.mapping_of(&file).map(|mapping| Pages::of(space, mapping)) {
                Some(Some(pages)) => space.copy_again(&at, first, &mut |at, into| pages.read(at, into))?,
                // The application has unmapped it, and the file is empty.
                Some(None) => {}
                None => space.copy_again(&at, first, &mut reader(&self.vfs, &file))?,
            }
        }
        Ok(())
    }

    /// `mremap` of pages that are not shared. Copies of a file that grow have what the file holds by then.
    pub(super) fn remap_private(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        (at, old_len, new_len): (u64, u64, u64),
        movement: Movement,
    ) -> Result<Result<GuestVirt, MapError>, Errno> {
        let at = GuestVirt(at);
        let copied = space.copied_at(at, 1).pop().and_then(|(id, ..)| self.copied.get(&id).cloned());
        let Some(file) = copied.filter(|_| new_len > old_len) else {
            return Ok(space.remap(at, old_len, new_len, movement));
        };
        let held = match self.mapping_of(&file) {
            Some(mapping) => mapping.len,
            None => self.vfs.len(&file)?,
        };
        let held = held.div_ceil(PAGE);
        let moved = space.remap_within(at, (old_len, new_len), movement, held);
        if let Ok(to) = &moved {
            let [old, new] = [old_len, new_len].map(|len| len.next_multiple_of(PAGE));
            let copied = self.copy_again(clocks, space, GuestVirt(to.0 + old), new - old);
            space.check_watch()?;
            // The mapping has moved, which an error would deny. What could not be read is zeros.
            if let Err(errno) = copied {
                tracing::debug!(?errno, "pages by which a copy of a file has grown could not be read");
            }
        }
        Ok(moved)
    }

    /// Closes the files of which nothing is mapped any more.
    pub(super) fn close_unmapped(&mut self, space: &AddressSpace) {
        let shared = self.shared.extract_if(.., |id, _| !space.is_shared(*id)).map(|(_, held)| held.file);
        let copied = self.copied.extract_if(.., |id, _| !space.is_copied(*id)).map(|(_, file)| file);
        shared.chain(copied).for_each(|file| self.vfs.close(file));
    }

    /// Writes what is dirty of some pages of an open file to it.
    pub(super) fn write_back_of(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        file: &File,
        pages: Range<u64>,
    ) -> Result<(), Errno> {
        match self.shared_at(space, file.location()) {
            Some(id) => self.write_back(clocks, space, (id, pages)),
            None => Ok(()),
        }
    }

    /// `mremap` of shared pages; `None` where there are none.
    pub(super) fn remap_shared(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        (at, old_len, new_len): (u64, u64, u64),
        movement: Movement,
    ) -> Result<Option<GuestVirt>, Errno> {
        let there = space.shared_at(GuestVirt(at), 1).pop();
        let Some((id, pages)) = there else { return Ok(None) };
        let Some(file) = self.shared.get(&id).map(|held| held.file.clone()) else { return Ok(None) };
        self.settle_at(clocks, space, at, old_len)?;
        self.follow_len(clocks, space, id)?;
        if file.is_writable() && space.describe(GuestVirt(at)).is_writable() {
            let start = pages.start * PAGE;
            self.own(space, &file, [start, start.saturating_add(new_len)])?;
        }
        let moved = space.remap_shared(GuestVirt(at), (old_len, new_len), movement, &mut reader(&self.vfs, &file));
        match moved {
            Err(MapError::NotMapped) => Err(Errno::EFAULT),
            moved => Ok(Some(moved?)),
        }
    }

    /// The shared file at a location.
    pub(super) fn shared_at(&self, space: &AddressSpace, location: &Location) -> Option<FileId> {
        if !space.shares_files() {
            return None;
        }
        let metadata = self.vfs.metadata(location).ok()?;
        space.shared_file((metadata.mount, metadata.inode))
    }

    /// Takes note that bytes were written to a file from an offset on.
    pub(super) fn note_written(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        file: &File,
        (offset, bytes): (u64, &[u8]),
    ) -> Result<(), Errno> {
        let Some(id) = self.shared_at(space, file.location()) else { return Ok(()) };
        self.follow_len(clocks, space, id)?;
        space.store_shared(id, offset, bytes);
        Ok(())
    }

    /// Takes note that the length of the file at a location may have changed.
    pub(super) fn note_resized(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        location: &Location,
    ) -> Result<(), Errno> {
        match self.shared_at(space, location) {
            Some(id) => self.follow_len(clocks, space, id),
            None => Ok(()),
        }
    }

    /// Takes note that a part of a file was made zeros, whose room is needed again where it can be stored to.
    pub(super) fn note_zeroed(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        file: &File,
        [start, end]: [u64; 2],
    ) -> Result<(), Errno> {
        let Some(id) = self.shared_at(space, file.location()) else { return Ok(()) };
        space.zero_shared(id, start..end.min(space.shared_len(id)));
        self.follow_len(clocks, space, id)?;
        self.own_writable(space, id, [start, end]);
        Ok(())
    }

    /// Gives room to what can be stored in a part of a file through its mappings, as far as there is any: where there is none,
    /// what is stored is lost, and `msync` says so.
    fn own_writable(&mut self, space: &AddressSpace, id: FileId, [start, end]: [u64; 2]) {
        let Some(file) = self.shared.get(&id).map(|held| held.file.clone()).filter(File::is_writable) else { return };
        for pages in space.writable_shared(id) {
            let part = [start.max(pages.start * PAGE), end.min(pages.end.saturating_mul(PAGE))];
            if let Err(errno) = self.vfs.own(&file, part) {
                tracing::debug!(?errno, "what a guest stores in a file may not have room there");
            }
        }
    }

    /// Lets the mappings of a file have as many pages as the file.
    fn follow_len(&mut self, clocks: &mut Clocks, space: &mut AddressSpace, id: FileId) -> Result<(), Errno> {
        let Some(file) = self.shared.get(&id).map(|held| held.file.clone()) else { return Ok(()) };
        let len = self.vfs.len(&file)?;
        let before = space.shared_len(id);
        if len == before {
            return Ok(());
        }
        if len < before {
            // What was stored in front of the new end stays; what was behind it is gone.
            self.write_back(clocks, space, (id, 0..len.div_ceil(PAGE)))?;
        }
        space.resize_shared(id, len, &mut reader(&self.vfs, &file))?;
        if len > before {
            self.own_writable(space, id, [before, len]);
        }
        Ok(())
    }

    /// Writes what is dirty of a file to it.
    pub(super) fn write_back(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        (id, pages): (FileId, Range<u64>),
    ) -> Result<(), Errno> {
        let Some(file) = self.shared.get(&id).map(|held| held.file.clone()).filter(File::is_writable) else {
            return Ok(());
        };
        let dirty = space.dirty_shared(id, pages);
        if dirty.is_empty() {
            return Ok(());
        }
        let len = self.vfs.len(&file)?.min(space.shared_len(id));
        let mut buffer = vec![0; MOST_AT_ONCE * PAGE_SIZE];
        for run in dirty.chunk_by(|page, next| page + 1 == *next).flat_map(|run| run.chunks(MOST_AT_ONCE)) {
            let (first, end) = (run[0], run[0] + run.len() as u64);
            let bytes = (end * PAGE).min(len).saturating_sub(first * PAGE) as usize;
            let mut rest = &mut buffer[..bytes];
            space.overlay_shared(id, first * PAGE, rest);
            let mut offset = first * PAGE;
            while !rest.is_empty() {
                let written =
                    self.with_files(clocks, space, |vfs, context| vfs.write_at(context, &file, rest, offset))?;
                if written == 0 {
                    return Err(Errno::EIO);
                }
                rest = &mut rest[written..];
                offset += written as u64;
            }
            space.clean_shared(id, first..end);
        }
        Ok(())
    }

    /// Writes what is dirty at some addresses to its files.
    pub(super) fn write_back_at(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        at: u64,
        len: u64,
    ) -> Result<(), Errno> {
        if !space.shares_files() {
            return Ok(());
        }
        let mut result = Ok(());
        for part in space.shared_at(GuestVirt(at), len) {
            result = result.and(self.write_back(clocks, space, part));
            space.check_watch()?;
        }
        result
    }

    /// The same of addresses that are about to be unmapped. As on Linux, who unmaps is not told what could not be written.
    pub(super) fn settle_at(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        at: u64,
        len: u64,
    ) -> Result<(), Errno> {
        let written = self.write_back_at(clocks, space, at, len);
        space.check_watch()?;
        if let Err(errno) = written {
            tracing::debug!(?errno, "what a guest has stored in a file that it unmaps could not be written to it");
        }
        Ok(())
    }

    /// Writes everything that is dirty to its files.
    pub(super) fn write_back_all(&mut self, clocks: &mut Clocks, space: &mut AddressSpace) -> Result<(), Errno> {
        let mut result = Ok(());
        for id in self.shared.keys().copied().collect::<Vec<_>>() {
            result = result.and(self.write_back(clocks, space, (id, 0..u64::MAX)));
        }
        result
    }

    /// `sync`, which reports no errors.
    pub(super) fn sync_all(&mut self, clocks: &mut Clocks, space: &mut AddressSpace) -> Result<u64, Errno> {
        if let Err(errno) = self.write_back_all(clocks, space) {
            tracing::debug!(?errno, "what a guest has stored in a file that it shares could not be written to it");
        }
        space.check_watch()?;
        Ok(0)
    }

    /// Shows what files of the host's hold now, which others may have changed. Nothing is dirty.
    pub(super) fn refresh(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        part: (FileId, Range<u64>),
    ) -> Result<(), Errno> {
        let (id, pages) = part;
        let Some(held) = self.shared.get(&id).filter(|held| held.is_on_host).cloned() else { return Ok(()) };
        self.follow_len(clocks, space, id)?;
        Ok(space.refresh_shared(id, pages, &mut reader(&self.vfs, &held.file))?)
    }

    /// Waits until the host has stored what was written to a file.
    pub(super) fn sync_shared(&self, id: FileId) -> Result<(), Errno> {
        match self.shared.get(&id) {
            Some(held) => Ok(self.vfs.sync(&held.file, true)?),
            None => Ok(()),
        }
    }

    /// The shared files of the host's.
    pub(super) fn shared_on_host(&self) -> Vec<FileId> {
        self.shared.iter().filter(|(_, held)| held.is_on_host).map(|(id, _)| *id).collect()
    }
}

/// What reads an open file.
pub(super) fn reader<'a>(vfs: &'a Vfs, file: &'a File) -> impl FnMut(u64, &mut [u8]) -> io::Result<usize> + 'a {
    move |offset, into| {
        vfs.read_at(file, into, offset).map_err(|errno| io::Error::from_raw_os_error(errno.raw().into()))
    }
}

const PAGE: u64 = PAGE_SIZE as u64;

/// How many pages are written at once.
const MOST_AT_ONCE: usize = 16;
