//! Memory of the host's as files of the guest's: `/dev/ampoule` and what is in it.
//!
//! 1. A file stands for the pages that the application has mapped, at whose addresses they stay. To map the file is to be told of
//!    these addresses, so that nothing is copied; to unmap it, to protect it or to advise about it changes nothing.
//! 2. Where the guest asks for an address of its own, or for memory that is private and can be written, it gets a copy in its own
//!    memory, as of any file that it could change.
//! 3. What is read of a file is what its pages hold, with what the guest has written there, and it has no other size.

use std::io;
use std::sync::Arc;

use ampoule_vfs::{File, Mapping, Special};
use ampoule_vmm::{GuestVirt, MappedMemory, PAGE_SIZE};
use linux_raw_sys::general::{MAP_PRIVATE, MAP_TYPE, SEEK_DATA, SEEK_END, SEEK_HOLE};

use crate::address_space::{AddressSpace, Placement, Protection};
use crate::host_memory::{HostMapping, MapAccess, MapMemoryError};

use super::errno::Errno;
use super::shared_files::Wanted;
use super::{LinuxProcess, State};

impl LinuxProcess {
    /// Gives the guest the file of a mapping, if that has a name.
    pub(crate) fn add_mapping(&mut self, mapping: &HostMapping) -> Result<(), MapMemoryError> {
        let Some(name) = mapping.file_name() else { return Ok(()) };
        let shown = Mapping {
            address: mapping.address(),
            len: mapping.len(),
            is_writable: mapping.access() == MapAccess::CopyOnWrite,
            is_executable: mapping.access() == MapAccess::ReadExecute,
        };
        let added = Arc::make_mut(&mut self.state).vfs.add_mapping(name.as_bytes(), shown);
        added.map_err(|errno| match errno {
            ampoule_vfs::Errno::EEXIST => MapMemoryError::NameTaken { name: name.to_owned() },
            _ => MapMemoryError::InvalidName { name: name.to_owned() },
        })
    }

    /// Takes the file of a mapping away.
    pub(crate) fn remove_mapping(&mut self, mapping: &HostMapping) {
        if let Some(name) = mapping.file_name() {
            Arc::make_mut(&mut self.state).vfs.remove_mapping(name.as_bytes());
        }
    }
}

impl State {
    /// The mapping that a file stands for.
    pub(super) fn mapping_of(&self, file: &File) -> Option<Mapping> {
        match self.vfs.special(file.location()) {
            Some(Special::Mapping(mapping)) => Some(mapping),
            _ => None,
        }
    }

    /// The mapping whose file is open under a number.
    fn open_mapping(&self, number: u64) -> Result<Mapping, Errno> {
        let file = self.descriptors.named(number)?.ok_or(Errno::EBADF)?;
        self.mapping_of(file).ok_or(Errno::EBADF)
    }

    /// Reads a file from a place on.
    pub(super) fn read_mapping(
        &self,
        space: &AddressSpace,
        number: u64,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, Errno> {
        let (at, len) = part(self.open_mapping(number)?, offset, into.len());
        // Pages that the file of the host's has lost.
        space.read(at, &mut into[..len]).map_err(|_| Errno::EIO)?;
        Ok(len)
    }

    /// From where on `lseek` counts in a file, or where it leads.
    pub(super) fn seek_mapping(&self, number: u64, whence: u32, offset: i64) -> Result<u64, Errno> {
        let Mapping { len, .. } = self.open_mapping(number)?;
        let is_within = u64::try_from(offset).is_ok_and(|offset| offset < len);
        match whence {
            SEEK_END => Ok(len),
            SEEK_DATA | SEEK_HOLE if !is_within => Err(Errno::ENXIO),
            SEEK_DATA => Ok(0),
            // The only hole is behind the end.
            SEEK_HOLE => Ok(len - offset as u64),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Where the pages are that a guest wants to map of a file; `None` where it gets a copy of them.
    pub(super) fn pages_to_map(mapping: Mapping, wanted: Wanted, flags: u32) -> Result<Option<GuestVirt>, Errno> {
        let Wanted { len, placement, protection, first } = wanted;
        let whole = mapping.len.next_multiple_of(PAGE);
        let offset = first.checked_mul(PAGE).ok_or(Errno::EOVERFLOW)?;
        if mapping.len == 0 {
            return Err(Errno::ENODEV);
        }
        if offset.checked_add(len).is_none_or(|end| end > whole) {
            return Err(Errno::ENXIO);
        }
        let is_private = flags & MAP_TYPE == MAP_PRIVATE;
        let elsewhere = matches!(placement, Placement::Fixed(_) | Placement::FixedVacant(_));
        match protection {
            Protection::ReadWrite | Protection::ReadWriteExecute if is_private => Ok(None),
            // None that the application has made is both.
            Protection::ReadWriteExecute => Err(Errno::EACCES),
            Protection::ReadWrite if elsewhere => Err(Errno::EINVAL),
            Protection::ReadExecute if !mapping.is_executable => Ok(None),
            _ if elsewhere => Ok(None),
            _ => Ok(Some(GuestVirt(mapping.address + offset))),
        }
    }
}

/// Writes to a file, which never becomes longer, from a place on, or at its end: how much, and where.
pub(super) fn write(
    space: &mut AddressSpace,
    mapping: Mapping,
    offset: Option<u64>,
    bytes: &[u8],
) -> Result<(usize, u64), Errno> {
    let offset = offset.unwrap_or(mapping.len);
    let (at, len) = part(mapping, offset, bytes.len());
    if len == 0 && !bytes.is_empty() {
        return Err(Errno::ENOSPC);
    }
    space.write(at, &bytes[..len]).map_err(|_| Errno::EIO)?;
    Ok((len, offset))
}

/// Whether a guest may protect pages of such a file like this, which have what the application has given them.
pub(super) fn check_protection(
    space: &AddressSpace,
    at: u64,
    len: u64,
    wanted: Protection,
) -> Option<Result<u64, Errno>> {
    let access = space.host_file(GuestVirt(at), len)?.access;
    let is_permitted = (access.write || !wanted.is_writable()) && (access.execute || !wanted.is_executable());
    Some(if is_permitted { Ok(0) } else { Err(Errno::EACCES) })
}

/// What reads a file of the file system's, or the pages that it stands for.
pub(super) struct Pages {
    memory: Arc<MappedMemory>,
    len: u64,
}

impl Pages {
    /// Those that a file stands for, as long as they are mapped.
    pub(super) fn of(space: &AddressSpace, mapping: Mapping) -> Option<Self> {
        let pages = space.host_file(GuestVirt(mapping.address), mapping.len.max(1))?;
        Some(Self { memory: Arc::clone(&pages.memory), len: mapping.len })
    }

    /// Reads what is there from an offset on.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let len = self.len.saturating_sub(offset).min(into.len() as u64) as usize;
        let lost = |_| io::Error::from_raw_os_error(linux_raw_sys::errno::EIO as i32);
        self.memory.read(offset as usize, &mut into[..len]).map_err(lost)?;
        Ok(len)
    }
}

/// Where a part of a mapping is, and how many bytes of it there are.
fn part(mapping: Mapping, offset: u64, len: usize) -> (GuestVirt, usize) {
    let left = mapping.len.saturating_sub(offset);
    (GuestVirt(mapping.address.saturating_add(offset)), left.min(len as u64) as usize)
}

const PAGE: u64 = PAGE_SIZE as u64;
