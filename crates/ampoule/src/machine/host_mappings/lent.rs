//! Slices of the application's that a guest sees while it is called.
//!
//! A slice begins and ends anywhere, and a page is the least that can be shown. So the pages that lie within it are shown in
//! place, and what it has of those at either end is copied to pages of the sandbox's: nothing beside the slice is ever seen.

use std::ops::Range;
use std::sync::Arc;

use ampoule_vmm::{GuestPhys, GuestVirt, MappedMemory, PAGE_SIZE};

use super::{ALIGNMENT, MAPPED_BASE, MAPPED_END, PAGE, READ};
use crate::address_space::{HostPages, HostRole};
use crate::host_memory::{MapMemoryError, Mapped};
use crate::machine::Machine;

/// What is lent at the moment.
#[derive(Debug, Default)]
pub(super) struct Lent {
    slices: Vec<Slice>,
    /// Pages for what begins or ends within a page, two for each slice, and the number under which they are attached. They
    /// stay, and hold zeros between calls.
    edges: Option<(Arc<MappedMemory>, u32)>,
}

#[derive(Debug)]
struct Slice {
    /// The addresses of its pages.
    range: Range<u64>,
    /// Where pages were mapped.
    mapped: Vec<GuestVirt>,
    /// The number under which those are attached that are shown in place.
    number: Option<u32>,
}

impl Lent {
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.slices.iter().filter_map(|slice| slice.number).chain(self.edges.iter().map(|(_, number)| *number))
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.slices.iter().map(|slice| slice.range.clone())
    }
}

impl Machine {
    /// Shows the guest a slice, until [`end_lending`](Self::end_lending).
    ///
    /// # Safety
    ///
    /// The slice outlives the next call of `end_lending`.
    pub(crate) unsafe fn lend(&mut self, bytes: &[u8]) -> Result<Mapped<'static>, MapMemoryError> {
        if bytes.is_empty() {
            return Ok(Mapped::at(MAPPED_BASE, 0));
        }
        if self.host.lent.slices.len() == MAX_LENT {
            return Err(MapMemoryError::TooMany { limit: MAX_LENT });
        }
        let offset = bytes.as_ptr().addr() % PAGE_SIZE;
        let pages = (offset + bytes.len()).div_ceil(PAGE_SIZE);
        let in_huge_page = (bytes.as_ptr().addr() - offset) as u64 % ALIGNMENT;
        let start = self.room_for((pages * PAGE_SIZE) as u64, None, in_huge_page)?;
        let range = start.0..start.0 + (pages * PAGE_SIZE) as u64;
        self.host.lent.slices.push(Slice { range, mapped: Vec::new(), number: None });
        // From here on `end_lending` takes away what has been mapped.
        let head = if offset == 0 { 0 } else { (PAGE_SIZE - offset).min(bytes.len()) };
        let whole = (bytes.len() - head) / PAGE_SIZE * PAGE_SIZE;
        let (head, rest) = bytes.split_at(head);
        let (whole, tail) = rest.split_at(whole);
        let mut at = start;
        if !head.is_empty() {
            self.copy_edge(head, offset, at, 0)?;
            at.0 += PAGE;
        }
        if !whole.is_empty() {
            // SAFETY: the pages are those of the caller's slice. They are shown until `end_lending` at most: where they cannot
            // be taken away then, the guest does not run again before they are.
            let memory = unsafe { MappedMemory::of_addresses(whole.as_ptr(), whole.len()) }?;
            self.lend_pages(&memory, at)?;
            at.0 += whole.len() as u64;
        }
        if !tail.is_empty() {
            self.copy_edge(tail, 0, at, 1)?;
        }
        let lent = Mapped::at(GuestVirt(start.0 + offset as u64), bytes.len() as u64);
        self.trace_lent(&lent);
        Ok(lent)
    }

    /// Takes away everything that is lent.
    pub(crate) fn end_lending(&mut self) {
        for Slice { mapped, number, .. } in std::mem::take(&mut self.host.lent.slices) {
            mapped.into_iter().for_each(|at| self.space.unmap_host(at));
            if let Some(number) = number {
                self.detach(number);
            }
        }
        if let Some((edges, number)) = &self.host.lent.edges
            && !edges.forget(0..edges.pages())
        {
            // They are locked in memory.
            let number = *number;
            self.host.lent.edges = None;
            self.detach(number);
        }
    }

    fn lend_pages(&mut self, memory: &Arc<MappedMemory>, at: GuestVirt) -> Result<(), MapMemoryError> {
        let (to, number) = (self.physical(at), self.free_number());
        self.processor.attach(number, to, memory)?;
        self.lent_slice().number = Some(number);
        let count = memory.pages();
        self.map_lent(HostPages {
            at,
            to,
            memory: Arc::clone(memory),
            first: 0,
            count,
            access: READ,
            role: HostRole::Lent,
        })
    }

    /// Shows bytes in a page of their own, at an offset. `edge` is 0 for the beginning of the slice and 1 for its end.
    fn copy_edge(&mut self, bytes: &[u8], offset: usize, at: GuestVirt, edge: usize) -> Result<(), MapMemoryError> {
        let first = 2 * (self.host.lent.slices.len() - 1) + edge;
        let (memory, to) = self.edges()?;
        let written = memory.write(first * PAGE_SIZE + offset, bytes);
        written.expect("the edges are memory of the process's own, with two pages for each slice");
        let to = GuestPhys(to.0 + (first * PAGE_SIZE) as u64);
        self.map_lent(HostPages { at, to, memory, first, count: 1, access: READ, role: HostRole::Lent })
    }

    fn map_lent(&mut self, pages: HostPages) -> Result<(), MapMemoryError> {
        let (at, len) = (pages.at, (pages.count * PAGE_SIZE) as u64);
        self.space.map_host(pages).map_err(|error| self.no_tables(&error, len))?;
        self.lent_slice().mapped.push(at);
        Ok(())
    }

    fn lent_slice(&mut self) -> &mut Slice {
        self.host.lent.slices.last_mut().expect("a slice is being lent")
    }

    /// The pages for edges, and their physical address. They are attached when the first slice needs one.
    fn edges(&mut self) -> Result<(Arc<MappedMemory>, GuestPhys), MapMemoryError> {
        // Behind all that is mapped.
        let to = self.physical(MAPPED_END);
        if let Some((memory, _)) = &self.host.lent.edges {
            return Ok((Arc::clone(memory), to));
        }
        let memory = MappedMemory::anonymous(2 * MAX_LENT * PAGE_SIZE)?;
        let number = self.free_number();
        self.processor.attach(number, to, &memory)?;
        self.host.lent.edges = Some((Arc::clone(&memory), number));
        Ok((memory, to))
    }
}

/// The most slices that a call lends.
pub(super) const MAX_LENT: usize = 16;
