//! Four-level page tables that the host writes and the guest's processor walks.
//!
//! The tables lie in memory that only the host and ring 0 can write, so what the host reads there is what it wrote, except
//! for the accessed and dirty bits. Tables that no longer hold anything can serve other addresses, so a guest that maps and
//! unmaps all over its address space needs no more tables than its current mappings do.
//!
//! Leaf entries have their accessed and dirty bits set from the start: a processor that need not set them is much cheaper to
//! virtualize at the first access to a page.
//!
//! # How tables may be edited
//!
//! The host edits with plain writes while the guest is stopped. Whoever translates addresses for the guest remembers what it
//! has read of the tables, and does not see these writes:
//!
//! - With *nested paging* that is the processor. It remembers entries of all levels, and forgets all of them whenever the
//!   hypervisor takes away a page of the guest's that it has used, including a table's own page.
//! - A hypervisor that *shadows* the tables has a copy of each table that the guest has used. An entry of the lowest level
//!   is copied again once the frame that it leads to was taken away. An entry of an upper level is not: the copy leads where
//!   the entry first led for as long as the table's memory slot is mapped. And the copy of a table is found by the table's
//!   address, so a table that moves takes along what the hypervisor knows about it.
//!
//! An entry that is absent is remembered by neither. So these rules hold:
//!
//! 1. **A table keeps its place.** The addresses that a table serves are its own, even while it is empty and unlinked. An
//!    upper entry is therefore either absent or has the only value that it ever had, and what is remembered of it is right.
//! 2. **A leaf entry is added freely.** One that is changed or removed needs its frame taken away from the hypervisor for an
//!    instant ([`Region::revoke`], [`Region::discard`]) before the guest runs. That is up to the caller.
//! 3. **Places change hands all at once**: when none is left, or when a checkpoint's tables lie where others do now. Then
//!    nothing that is remembered is right: [`PageTables::is_stale`] says so, and the guest must not run until
//!    [`Vm::flush_translations`](crate::Vm::flush_translations) has made everybody forget everything.

mod entry;
mod table_memory;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::address::{GuestPhys, GuestVirt, PAGE_SIZE};
use crate::memory::{Contents, Region};
use crate::processor::{MapCheckpoint, MapExhausted, PageAccess, PageMap};

use entry::{ADDRESS, PHYS_END, PRESENT, TABLE, TOP, VIRT_END, access_of, flags, index, parts, span, tables_spanning};
use table_memory::{MemoryCheckpoint, Place, Table, TableMemory};

/// What may be done with a page. Reading is always allowed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Access {
    /// Writing is allowed, in ring 0 too.
    pub write: bool,
    /// Executing is allowed.
    pub execute: bool,
    /// Ring 3 may use the page.
    pub user: bool,
}

/// The page tables of one address space, for the lower half of the virtual addresses.
#[derive(Debug)]
pub struct PageTables {
    memory: TableMemory,
    root: Table,
}

impl PageTables {
    /// An empty address space whose tables lie in the bytes `tables` of `region`, which the guest sees from guest-physical
    /// address `base` on. The root takes one page of them.
    ///
    /// # Errors
    ///
    /// [`OutOfTables`] when there is no page for the root.
    ///
    /// # Panics
    ///
    /// When `tables` does not lie within the region, or it or `base` is not made of whole pages.
    pub fn new(region: Arc<Region>, base: GuestPhys, tables: Range<usize>) -> Result<Self, OutOfTables> {
        assert!(base.is_page_aligned());
        assert!(tables.start.is_multiple_of(PAGE_SIZE) && tables.end.is_multiple_of(PAGE_SIZE));
        assert!(tables.start <= tables.end && tables.end <= region.len());
        let mut memory = TableMemory::new(region, base, tables);
        memory.require(1)?;
        let root = memory.link(Place::of(0, TOP));
        Ok(PageTables { memory, root })
    }

    /// Where the root lies: the value for CR3.
    pub fn root(&self) -> GuestPhys {
        self.memory.address(self.root)
    }

    /// Maps `pages` pages from `at` on to as many pages of guest-physical memory from `to` on. Whatever was mapped there is
    /// replaced; when that takes permissions away, [`Region::revoke`] the memory that was mapped.
    ///
    /// # Errors
    ///
    /// [`OutOfTables`]; nothing has changed then.
    ///
    /// # Panics
    ///
    /// When an address is not at the start of a page, or the range does not lie within the lower half of the virtual, or
    /// within the physical addresses.
    pub fn map(&mut self, at: GuestVirt, to: GuestPhys, pages: usize, access: Access) -> Result<(), OutOfTables> {
        let span = span(at, pages);
        let bytes = span.end - span.start;
        assert!(to.is_page_aligned());
        assert!(to.checked_add(bytes).is_some_and(|end| end.0 <= PHYS_END));
        if pages == 0 {
            return Ok(());
        }
        self.memory.require(self.missing(self.root, TOP, &span))?;
        let offset = to.0.wrapping_sub(at.0);
        self.map_in(self.root, TOP, &span, offset, flags(access));
        Ok(())
    }

    /// Unmaps `pages` pages from `at` on; those that are not mapped are skipped, an absent table at a time.
    /// [`Region::discard`] or [`Region::revoke`] the memory that was mapped.
    ///
    /// # Panics
    ///
    /// When the address is not at the start of a page or the range leaves the lower half of the virtual addresses.
    pub fn unmap(&mut self, at: GuestVirt, pages: usize) {
        let span = span(at, pages);
        if pages > 0 {
            self.unmap_in(self.root, TOP, &span);
        }
    }

    /// Where an address leads, and what may be done there; `None` when it is not mapped.
    pub fn translate(&self, at: GuestVirt) -> Option<(GuestPhys, Access)> {
        if at.0 >= VIRT_END {
            return None;
        }
        let mut table = self.root;
        for level in (1..=TOP).rev() {
            let entry = self.memory.entry(table, index(at.0, level));
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 1 {
                let page = GuestPhys(entry & ADDRESS);
                return Some((GuestPhys(page.0 | at.page_offset() as u64), access_of(entry)));
            }
            table = self.memory.table_at(entry & ADDRESS);
        }
        None
    }

    /// How many more tables could be made at present.
    pub fn free_tables(&self) -> usize {
        self.memory.available()
    }

    /// Whether the guest must not run before [`Vm::flush_translations`](crate::Vm::flush_translations), because tables now
    /// serve other addresses (rule 3 of this module).
    pub fn is_stale(&self) -> bool {
        self.memory.is_stale()
    }

    /// Records that all translations have been flushed.
    pub fn mark_flushed(&mut self) {
        self.memory.mark_flushed();
    }

    /// Gives up the places of all tables that are empty, as happens when none is left.
    pub(crate) fn give_up_places(&mut self) {
        self.memory.give_up_places();
    }

    /// Remembers the present tables, together with the contents of the pages before them in the region.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory for them.
    fn remember(&mut self) -> io::Result<TablesCheckpoint> {
        Ok(TablesCheckpoint { memory: self.memory.checkpoint()?, root: self.root })
    }

    /// Goes back to tables of this or an equal region. [`Region::revoke`] the memory that was mapped since, and check
    /// [`is_stale`](Self::is_stale).
    ///
    /// # Panics
    ///
    /// When the checkpoint is of a region of another size.
    fn go_back(&mut self, checkpoint: &TablesCheckpoint) {
        self.memory.restore(&checkpoint.memory);
    }

    /// The tables of a checkpoint, in a region that shows its contents.
    pub(super) fn of_checkpoint(region: Arc<Region>, checkpoint: &TablesCheckpoint) -> Self {
        Self { memory: TableMemory::of_checkpoint(region, &checkpoint.memory), root: checkpoint.root }
    }

    /// The mapping's flags, by which upper layers name it.
    fn access(access: PageAccess) -> Access {
        Access { write: access.write, execute: access.execute, user: true }
    }

    /// How many tables below `table` mapping all of `span` would have to make.
    fn missing(&self, table: Table, level: u32, span: &Range<u64>) -> usize {
        if level == 1 {
            return 0;
        }
        parts(span, level)
            .map(|(index, part)| {
                let entry = self.memory.entry(table, index);
                if entry & PRESENT != 0 {
                    let below = self.memory.table_at(entry & ADDRESS);
                    self.missing(below, level - 1, &part)
                } else {
                    tables_spanning(&part, level - 1)
                }
            })
            .sum()
    }

    /// `offset` is the physical minus the virtual address; there are enough tables.
    fn map_in(&mut self, table: Table, level: u32, span: &Range<u64>, offset: u64, flags: u64) {
        if level == 1 {
            return self.set_leaves(table, span, |page| page.wrapping_add(offset) | flags);
        }
        for (index, part) in parts(span, level) {
            let below = self.table_below(table, index, level, part.start);
            self.map_in(below, level - 1, &part, offset, flags);
        }
    }

    /// The table that an entry leads to, one of those that serve `address`. It is made if there is none.
    fn table_below(&mut self, table: Table, index: usize, level: u32, address: u64) -> Table {
        let entry = self.memory.entry(table, index);
        if entry & PRESENT != 0 {
            return self.memory.table_at(entry & ADDRESS);
        }
        let below = self.memory.link(Place::of(address, level - 1));
        let address = self.memory.address(below).0;
        self.memory.set_entry(table, index, address | TABLE);
        below
    }

    fn unmap_in(&mut self, table: Table, level: u32, span: &Range<u64>) {
        if level == 1 {
            return self.set_leaves(table, span, |_| 0);
        }
        for (index, part) in parts(span, level) {
            let entry = self.memory.entry(table, index);
            if entry & PRESENT == 0 {
                continue;
            }
            let below = self.memory.table_at(entry & ADDRESS);
            self.unmap_in(below, level - 1, &part);
            if self.memory.is_empty(below) {
                self.memory.unlink(below);
                self.memory.set_entry(table, index, 0);
            }
        }
    }

    /// Sets the entries of pages that one table of the lowest level serves. `entry` gives the entry of a page.
    fn set_leaves(&mut self, table: Table, span: &Range<u64>, entry: impl Fn(u64) -> u64) {
        let first = index(span.start, 1);
        let pages = (span.end - span.start) as usize / PAGE_SIZE;
        let page = |index: usize| span.start + ((index - first) * PAGE_SIZE) as u64;
        self.memory.set_entries(table, first, pages, |index| entry(page(index)));
    }
}

impl PageMap for PageTables {
    fn map(&mut self, at: GuestVirt, to: GuestPhys, pages: usize, access: PageAccess) -> Result<(), MapExhausted> {
        PageTables::map(self, at, to, pages, Self::access(access))
            .map_err(|OutOfTables { needed, available }| MapExhausted { needed, available })
    }

    fn unmap(&mut self, at: GuestVirt, pages: usize) {
        PageTables::unmap(self, at, pages);
    }

    fn translate(&self, at: GuestVirt) -> Option<(GuestPhys, PageAccess)> {
        let (to, Access { write, execute, user }) = PageTables::translate(self, at)?;
        user.then_some((to, PageAccess { write, execute }))
    }

    fn is_stale(&self) -> bool {
        PageTables::is_stale(self)
    }

    fn mark_flushed(&mut self) {
        PageTables::mark_flushed(self);
    }

    fn checkpoint(&mut self) -> io::Result<MapCheckpoint> {
        self.remember().map(MapCheckpoint)
    }

    fn restore(&mut self, checkpoint: &MapCheckpoint) {
        self.go_back(&checkpoint.0);
    }
}

/// Page tables as they were at one moment.
#[derive(Debug)]
pub(crate) struct TablesCheckpoint {
    memory: MemoryCheckpoint,
    root: Table,
}

impl TablesCheckpoint {
    /// What the whole region held.
    pub(super) fn contents(&self) -> &Arc<Contents> {
        &self.memory.contents
    }
}

/// There are not enough pages left for the page tables that a mapping needs.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("the mapping needs {needed} more page tables, and there is room for {available}")]
pub struct OutOfTables {
    /// How many tables would have to be made.
    pub needed: usize,
    /// How many can be made.
    pub available: usize,
}
