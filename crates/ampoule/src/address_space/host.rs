//! Memory of the host's that the application has mapped into the guest, at addresses beyond the guest's own.
//!
//! The layout knows nothing of it, so no snapshot holds it: the page tables of a snapshot lead to it, and whoever restores them
//! sees to it that the memory is there. What the guest passes to a system call may lie here as anywhere else. The kernel copies
//! it, since a file can be cut short at any time.

use std::sync::Arc;

use ampoule_vmm::address_map::MAPPED_BASE;
use ampoule_vmm::{GuestPhys, GuestVirt, MappedMemory, PAGE_SIZE, PageAccess};

use super::{AddressSpace, BadAddress, MapError};

/// Pages of the host's that a guest sees.
#[derive(Clone, Debug)]
pub(crate) struct HostPages {
    /// Where the guest sees the first.
    pub(crate) at: GuestVirt,
    /// Its guest-physical address.
    pub(crate) to: GuestPhys,
    /// What they are pages of.
    pub(crate) memory: Arc<MappedMemory>,
    /// The number of the first among the pages of `memory`.
    pub(crate) first: usize,
    /// How many there are.
    pub(crate) count: usize,
    /// What the guest may do there.
    pub(crate) access: PageAccess,
    pub(crate) role: HostRole,
}

/// What pages of the host's are to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostRole {
    /// A file with this path, which it can open and map.
    File(Arc<str>),
    /// Memory that it is told of.
    Mapped,
    /// Memory that it has for a call.
    Lent,
}

impl HostPages {
    pub(crate) fn end(&self) -> GuestVirt {
        GuestVirt(self.at.0 + (self.count * PAGE_SIZE) as u64)
    }

    /// Where in the memory an address lies, and how many bytes follow.
    fn bytes_from(&self, at: GuestVirt) -> (usize, usize) {
        (self.first * PAGE_SIZE + (at.0 - self.at.0) as usize, (self.end().0 - at.0) as usize)
    }
}

impl AddressSpace {
    /// Maps pages of the host's that lie beside all others. Their memory is attached at its physical address.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfTables`]; nothing has changed then.
    pub(crate) fn map_host(&mut self, pages: HostPages) -> Result<(), MapError> {
        self.tables.map(pages.at, pages.to, pages.count, pages.access)?;
        self.adopt_host(pages);
        Ok(())
    }

    /// Takes away the pages of the host's that begin at an address. Their memory is to be detached before the guest runs.
    pub(crate) fn unmap_host(&mut self, at: GuestVirt) {
        if let Some(pages) = self.forget_host(at) {
            self.tables.unmap(at, pages.count);
        }
    }

    /// Registers pages that the page tables already map.
    pub(crate) fn adopt_host(&mut self, pages: HostPages) {
        let index = self.host.partition_point(|other| other.at < pages.at);
        self.host.insert(index, pages);
    }

    /// Forgets pages that the page tables no longer map.
    pub(crate) fn forget_host(&mut self, at: GuestVirt) -> Option<HostPages> {
        let index = self.host.iter().position(|pages| pages.at == at)?;
        Some(self.host.remove(index))
    }

    /// All pages of the host's, by address.
    pub(crate) fn host_pages(&self) -> &[HostPages] {
        &self.host
    }

    /// The pages in which all of these bytes lie, if they are a file's.
    pub(crate) fn host_file(&self, at: GuestVirt, len: u64) -> Option<&HostPages> {
        let pages = self.host_pages_at(at)?;
        let end = at.checked_add(len)?;
        (matches!(pages.role, HostRole::File(_)) && end <= pages.end()).then_some(pages)
    }

    pub(super) fn host_pages_at(&self, at: GuestVirt) -> Option<&HostPages> {
        if at < MAPPED_BASE {
            return None;
        }
        let behind = self.host.partition_point(|pages| pages.at <= at);
        self.host[..behind].last().filter(|pages| at < pages.end())
    }

    /// Copies what lies from `at` on in pages of the host's: how many bytes, at most as many as `into` takes. `None` where there
    /// are no such pages.
    pub(super) fn read_host(&self, at: GuestVirt, into: &mut [u8]) -> Result<Option<usize>, BadAddress> {
        let Some(pages) = self.host_pages_at(at) else { return Ok(None) };
        let (offset, len) = pages.bytes_from(at);
        let len = len.min(into.len());
        pages.memory.read(offset, &mut into[..len]).map_err(|_| BadAddress { address: at })?;
        Ok(Some(len))
    }

    /// Copies bytes to `at` in pages of the host's; as [`read_host`](Self::read_host).
    pub(super) fn write_host(&self, at: GuestVirt, from: &[u8]) -> Result<Option<usize>, BadAddress> {
        let Some(pages) = self.host_pages_at(at) else { return Ok(None) };
        let (offset, len) = pages.bytes_from(at);
        let len = len.min(from.len());
        let written = pages.access.write.then(|| pages.memory.write(offset, &from[..len]).ok()).flatten();
        written.map(|()| Some(len)).ok_or(BadAddress { address: at })
    }
}
