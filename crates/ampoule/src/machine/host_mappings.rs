//! Memory of the host's in the guest: what the application has mapped, and what it lends for a call.
//!
//! 1. Everything lies at an address of its own among those that are set aside, and as far behind the guest's memory in its
//!    physical addresses, so that one search finds room in both.
//! 2. Memory comes before its pages are mapped, and goes after they were unmapped. With it goes everything that was derived from
//!    the page tables, so that there is nothing to revoke.
//! 3. A snapshot has the mappings of its moment, and the pages that the guest had written of those that it may write. A restore
//!    unmaps what is not the snapshot's, and maps what is: page tables have what they had then, and the memory follows.
//! 4. What is lent is gone before anybody else sees the machine. Memory that the hypervisor does not take away keeps the guest
//!    from running.

mod copies;
mod dumped;
mod lent;

use std::ops::Range;
use std::sync::Arc;

use ampoule_vmm::address_map::{MAPPED_BASE, MAPPED_END, mapped_memory};
use ampoule_vmm::{GuestPhys, GuestVirt, HypervisorError, MappedMemory, PAGE_SIZE, PageAccess};

use super::checkpoint::RestoreMachineError;
use super::{Machine, MachineError};
use crate::address_space::{HostPages, HostRole, MapError};
use crate::host_memory::{HostMapping, MapAccess, MapAt, MapMemoryError, Source};

use copies::{Copies, Written};
use lent::Lent;

pub(super) use dumped::{HostPart, WithHost};

/// What of the host's a guest sees.
#[derive(Debug, Default)]
pub(super) struct HostMappings {
    shown: Vec<Shown>,
    lent: Lent,
    /// Numbers of memory that the hypervisor has not taken away.
    stuck: Vec<u32>,
}

/// What is to be mapped, or why it cannot be.
pub(crate) struct ToMap {
    pub(crate) source: Result<(Source, u64), MapMemoryError>,
    pub(crate) at: MapAt,
    pub(crate) access: MapAccess,
}

impl ToMap {
    /// How many bytes whole pages of it have, if it can be mapped.
    pub(crate) fn size(&self) -> u64 {
        self.source.as_ref().map_or(0, |(_, len)| len.next_multiple_of(PAGE))
    }

    pub(crate) fn map(self, machine: &mut Machine) -> Result<HostMapping, MapMemoryError> {
        machine.map_host_memory(self.source?, self.at, self.access)
    }
}

/// A mapping, and the memory that is attached for it.
#[derive(Debug)]
struct Shown {
    mapping: HostMapping,
    memory: Arc<MappedMemory>,
    number: u32,
    /// What the guest has written, where it may.
    copies: Option<Copies>,
}

/// A mapping at a checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    mapping: HostMapping,
    written: Arc<Written>,
}

impl Machine {
    /// Shows the guest what a source has, at this address, or at one that is free, and as a file where it has a name.
    pub(crate) fn map_host_memory(
        &mut self,
        (source, len): (Source, u64),
        MapAt { address, name }: MapAt,
        access: MapAccess,
    ) -> Result<HostMapping, MapMemoryError> {
        if access == MapAccess::CopyOnWrite && !source.can_be_copied() {
            return Err(MapMemoryError::NoCopy);
        }
        if self.host.shown.len() == MAX_MAPPINGS {
            return Err(MapMemoryError::TooMany { limit: MAX_MAPPINGS });
        }
        let at = self.room_for(len, address, 0)?;
        let mapping = HostMapping::new(at, (source, len), name.as_deref(), access);
        let shown = Shown::new(mapping.clone(), self.free_number())?;
        self.process.add_mapping(&mapping)?;
        if let Err(error) = self.show(shown) {
            self.process.remove_mapping(&mapping);
            return Err(error);
        }
        self.trace_mapped(&mapping);
        Ok(mapping)
    }

    fn show(&mut self, shown: Shown) -> Result<(), MapMemoryError> {
        self.attach(&shown)?;
        if let Err(error) = self.space.map_host(self.pages_of(&shown)) {
            self.detach(shown.number);
            return Err(self.no_tables(&error, shown.mapping.len()));
        }
        self.host.shown.push(shown);
        Ok(())
    }

    /// Takes a mapping away.
    pub(crate) fn unmap_host_memory(&mut self, mapping: &HostMapping) -> Result<(), MapMemoryError> {
        let index = self.host.shown.iter().position(|shown| shown.mapping.is(mapping));
        let shown = self.host.shown.swap_remove(index.ok_or(MapMemoryError::NotMapped)?);
        self.process.remove_mapping(&shown.mapping);
        self.trace_unmapped(&shown.mapping);
        self.space.unmap_host(shown.mapping.start());
        self.detach(shown.number);
        Ok(())
    }

    /// What is mapped.
    pub(crate) fn host_mappings(&self) -> impl Iterator<Item = &HostMapping> {
        self.host.shown.iter().map(|shown| &shown.mapping)
    }

    /// The mapping in which an address lies.
    pub(super) fn host_mapping_at(&self, at: GuestVirt) -> Option<&HostMapping> {
        self.host_mappings().find(|mapping| (mapping.start()..mapping.end()).contains(&at))
    }

    /// A mapping whose file no longer has all of it, if there is one.
    pub(super) fn lost_mapping(&self) -> Option<&HostMapping> {
        self.host_mappings().find(|mapping| mapping.is_cut_short())
    }

    /// Takes away what the hypervisor has refused to take away before. To be called before the guest runs.
    #[inline]
    pub(super) fn detach_stuck(&mut self) -> Result<(), HypervisorError> {
        while let Some(number) = self.host.stuck.last() {
            self.processor.detach(*number)?;
            self.host.stuck.pop();
        }
        Ok(())
    }

    /// The mappings of this moment.
    pub(super) fn keep_host_mappings(&mut self) -> Result<Vec<Kept>, HypervisorError> {
        let keep = |shown: &mut Shown| {
            let Shown { mapping, memory, number, copies } = shown;
            let written = match copies {
                Some(copies) => copies.keep(&mut *self.processor, *number, memory)?,
                None => Arc::default(),
            };
            Ok(Kept { mapping: mapping.clone(), written })
        };
        self.host.shown.iter_mut().map(keep).collect()
    }

    /// Shows what was shown at a checkpoint, whose page tables the guest has already.
    #[inline]
    pub(super) fn restore_host_mappings(&mut self, kept: &[Kept]) -> Result<(), RestoreMachineError> {
        if kept.is_empty() && self.host.shown.is_empty() { Ok(()) } else { self.exchange_host_mappings(kept) }
    }

    fn exchange_host_mappings(&mut self, kept: &[Kept]) -> Result<(), RestoreMachineError> {
        let is_kept = |shown: &mut Shown| kept.iter().any(|kept| kept.mapping.is(&shown.mapping));
        let outdated: Vec<_> = self.host.shown.extract_if(.., |shown| !is_kept(shown)).collect();
        for shown in outdated {
            self.space.forget_host(shown.mapping.start());
            self.detach(shown.number);
        }
        // What is shown next may lie where this has been.
        self.detach_stuck()?;
        for Kept { mapping, written } in kept {
            match self.host.shown.iter_mut().find(|shown| shown.mapping.is(mapping)) {
                Some(Shown { memory, number, copies, .. }) => {
                    if let Some(copies) = copies {
                        copies.go_back(&mut *self.processor, *number, memory, written)?;
                    }
                }
                None => self.show_again(mapping, written)?,
            }
        }
        Ok(())
    }

    /// Shows what was shown at the checkpoint of which the guest comes.
    pub(super) fn adopt_host_mappings(&mut self, kept: &[Kept]) -> Result<(), MachineError> {
        for Kept { mapping, written } in kept {
            self.show_again(mapping, written).map_err(|error| match error {
                RestoreMachineError::Hypervisor(error) => MachineError::Hypervisor(error),
                RestoreMachineError::Memory(reason) => {
                    MachineError::Memory { what: "mapped memory", bytes: mapping.len() as usize, reason }
                }
            })?;
        }
        Ok(())
    }

    /// Attaches the memory of a mapping to which the page tables lead already.
    fn show_again(&mut self, mapping: &HostMapping, written: &Arc<Written>) -> Result<(), RestoreMachineError> {
        let mut shown = Shown::new(mapping.clone(), self.free_number())?;
        if let Some(copies) = &mut shown.copies {
            copies.begin_with(&shown.memory, written);
        }
        self.attach(&shown)?;
        self.space.adopt_host(self.pages_of(&shown));
        self.host.shown.push(shown);
        Ok(())
    }

    fn attach(&mut self, shown: &Shown) -> Result<(), HypervisorError> {
        let at = self.physical(shown.mapping.start());
        self.processor.attach(shown.number, at, &shown.memory)
    }

    /// Takes memory away whose pages are no longer mapped. Where that cannot be done the guest does not run before it is.
    fn detach(&mut self, number: u32) {
        if let Err(error) = self.processor.detach(number) {
            tracing::debug!(%error, "memory of the host's could not be taken away from a guest, which does not run until it is");
            self.host.stuck.push(number);
        }
    }

    fn pages_of(&self, Shown { mapping, memory, .. }: &Shown) -> HostPages {
        let (at, access) = (mapping.start(), mapping.page_access());
        let role = mapping.shared_path().map_or(HostRole::Mapped, HostRole::File);
        let (to, memory, count) = (self.physical(at), Arc::clone(memory), mapping.pages());
        HostPages { at, to, memory, first: 0, count, access, role }
    }

    /// The physical address that goes with an address.
    fn physical(&self, at: GuestVirt) -> GuestPhys {
        GuestPhys(mapped_memory(self.region().len()).0 + (at.0 - MAPPED_BASE.0))
    }

    /// The least number under which no memory is attached.
    fn free_number(&self) -> u32 {
        let HostMappings { shown, lent, stuck } = &self.host;
        let is_free = |number: &u32| {
            !shown.iter().any(|shown| shown.number == *number)
                && !lent.numbers().any(|lent| lent == *number)
                && !stuck.contains(number)
        };
        (0..).find(is_free).expect("there are more numbers than mappings")
    }

    /// Finds room for so many bytes that begin so far behind the start of a huge page, or checks that there is some at an address.
    fn room_for(&self, len: u64, at: Option<u64>, offset: u64) -> Result<GuestVirt, MapMemoryError> {
        let limit = self.shape.mapped_limit as u64;
        let taken = self.taken();
        let mapped = taken.iter().map(|(range, _)| range.end - range.start).sum();
        let whole = len.checked_next_multiple_of(PAGE).filter(|whole| *whole <= limit.saturating_sub(mapped));
        let whole = whole.ok_or(MapMemoryError::TooMuch { len, mapped, limit })?;
        let Some(address) = at else {
            return gap(&taken, whole, offset).map(GuestVirt).ok_or(MapMemoryError::TooMuch { len, mapped, limit });
        };
        if !address.is_multiple_of(PAGE) {
            return Err(MapMemoryError::Unaligned { what: "address", value: address });
        }
        let end = address.checked_add(whole).filter(|end| address >= MAPPED_BASE.0 && *end <= MAPPED_END.0);
        let end = end.ok_or(MapMemoryError::OutsideOfAddresses { address, len })?;
        match taken.iter().find(|(other, _)| other.start < end && address < other.end) {
            Some((other, name)) => {
                Err(MapMemoryError::Overlaps { address, len, name: (*name).to_owned(), start: other.start })
            }
            None => Ok(GuestVirt(address)),
        }
    }

    /// The addresses that are in use, in ascending order, and what for.
    fn taken(&self) -> Vec<(Range<u64>, &str)> {
        let shown = self.host_mappings().map(|mapping| (mapping.start().0..mapping.end().0, mapping.name()));
        let mut taken: Vec<_> = shown.chain(self.host.lent.ranges().map(|range| (range, "lent memory"))).collect();
        taken.sort_unstable_by_key(|(range, _)| range.start);
        taken
    }

    /// There are as many page tables as all mappings need, unless the guest itself has spread its own over them.
    fn no_tables(&self, error: &MapError, len: u64) -> MapMemoryError {
        tracing::debug!(%error, "there are no page tables for memory of the host's");
        let mapped = self.host_mappings().map(HostMapping::len).sum();
        MapMemoryError::TooMuch { len, mapped, limit: self.shape.mapped_limit as u64 }
    }
}

impl Shown {
    fn new(mapping: HostMapping, number: u32) -> std::io::Result<Self> {
        let memory = mapping.memory()?;
        let copies = memory.is_tracked().then(|| Copies::new(memory.pages()));
        Ok(Self { mapping, memory, number, copies })
    }
}

/// The lowest addresses of so many bytes that are free, with a page that is not mapped behind them. They begin so far behind the
/// start of a huge page as the memory does, so that the hypervisor can show the huge pages that it has.
fn gap(taken: &[(Range<u64>, &str)], len: u64, offset: u64) -> Option<u64> {
    let mut at = MAPPED_BASE.0 + offset;
    for (range, _) in taken {
        if at.checked_add(len)? < range.start {
            return Some(at);
        }
        at = (range.end + 1).next_multiple_of(ALIGNMENT) + offset;
    }
    at.checked_add(len).filter(|end| *end <= MAPPED_END.0).map(|_| at)
}

/// What the guest may do with memory that it only reads.
const READ: PageAccess = PageAccess { write: false, execute: false };

/// The most mappings of a guest, of which each is a memory slot: KVM has 509 at least on all kernels.
pub(crate) const MAX_MAPPINGS: usize = 64;

/// Bytes for which page tables are provided, beside those of the mapped memory: a mapping can end in a table that it does not fill,
/// and lie far from all others.
pub(super) const TABLE_SLACK: usize = 2 * (MAX_MAPPINGS + lent::MAX_LENT) * ALIGNMENT as usize;

/// A huge page of the host's.
const ALIGNMENT: u64 = 2 << 20;

const PAGE: u64 = PAGE_SIZE as u64;

#[cfg(test)]
mod tests;
