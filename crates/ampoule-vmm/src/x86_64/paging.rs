//! Four-level page tables that the host writes and the guest's processor walks.
//!
//! The tables lie in memory that only the host and ring 0 can write, so what the host reads there is what it wrote, but for
//! the accessed and dirty bits. Tables that hold nothing any more are given back, so a guest that maps and unmaps all over
//! its address space needs no more tables than its mappings of the moment do.
//!
//! Leaf entries have their accessed and dirty bits set from the start: a processor that need not set them is much cheaper to
//! virtualize on a page's first touch.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::address::{GuestPhys, GuestVirt, PAGE_SIZE};
use crate::memory::{Contents, Region};
use crate::page_set::PageSet;

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
        let root = memory.allocate();
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

    /// Unmaps `pages` pages from `at` on; those that are not mapped are passed over, whole absent tables at a time.
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

    /// How many more tables could be made at the moment.
    pub fn free_tables(&self) -> usize {
        self.memory.available()
    }

    /// Remembers the present tables, with the pages `beside` them in the region, whose contents go with theirs.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory for them.
    pub(super) fn checkpoint(&mut self, beside: impl IntoIterator<Item = usize>) -> io::Result<TablesCheckpoint> {
        let memory = &mut self.memory;
        beside.into_iter().for_each(|page| memory.written.insert(page));
        memory.current = memory.current.updated(&memory.region, memory.written.iter())?;
        memory.written.clear();
        let Self { memory, root } = self;
        Ok(TablesCheckpoint {
            contents: Arc::clone(&memory.current),
            base: memory.base,
            offset: memory.offset,
            capacity: memory.capacity,
            present: memory.present.clone(),
            free: memory.free.clone(),
            root: *root,
        })
    }

    /// Goes back to tables of this, or of an equal region. [`Region::revoke`] the memory that was mapped since.
    ///
    /// # Panics
    ///
    /// When the checkpoint is of a region of another size.
    pub(super) fn restore(&mut self, checkpoint: &TablesCheckpoint) {
        let memory = &mut self.memory;
        if !Arc::ptr_eq(&memory.current, &checkpoint.contents) {
            memory.current.differences(&checkpoint.contents, &mut memory.written);
            memory.current = Arc::clone(&checkpoint.contents);
        } else if memory.written.is_empty() {
            return;
        }
        memory.current.write_back(&memory.region, memory.written.iter());
        memory.written.clear();
        memory.present.clone_from(&checkpoint.present);
        memory.free.clone_from(&checkpoint.free);
    }

    /// The tables of a checkpoint, in a region that shows its contents.
    pub(super) fn of_checkpoint(region: Arc<Region>, checkpoint: &TablesCheckpoint) -> Self {
        let memory = TableMemory {
            region,
            base: checkpoint.base,
            offset: checkpoint.offset,
            capacity: checkpoint.capacity,
            present: checkpoint.present.clone(),
            free: checkpoint.free.clone(),
            written: PageSet::new(checkpoint.contents.pages()),
            current: Arc::clone(&checkpoint.contents),
        };
        Self { memory, root: checkpoint.root }
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

    /// `offset` is the physical minus the virtual address; there are tables enough.
    fn map_in(&mut self, table: Table, level: u32, span: &Range<u64>, offset: u64, flags: u64) {
        for (index, part) in parts(span, level) {
            if level == 1 {
                let page = part.start.wrapping_add(offset);
                self.memory.set_entry(table, index, page | flags);
            } else {
                let below = self.table_below(table, index);
                self.map_in(below, level - 1, &part, offset, flags);
            }
        }
    }

    fn table_below(&mut self, table: Table, index: usize) -> Table {
        let entry = self.memory.entry(table, index);
        if entry & PRESENT != 0 {
            return self.memory.table_at(entry & ADDRESS);
        }
        let below = self.memory.allocate();
        let address = self.memory.address(below).0;
        self.memory.set_entry(table, index, address | TABLE);
        below
    }

    fn unmap_in(&mut self, table: Table, level: u32, span: &Range<u64>) {
        for (index, part) in parts(span, level) {
            let entry = self.memory.entry(table, index);
            if entry & PRESENT == 0 {
                continue;
            }
            if level > 1 {
                let below = self.memory.table_at(entry & ADDRESS);
                self.unmap_in(below, level - 1, &part);
                if !self.memory.is_empty(below) {
                    continue;
                }
                self.memory.free(below);
            }
            self.memory.set_entry(table, index, 0);
        }
    }
}

/// Page tables as they were at one moment.
#[derive(Debug)]
pub(super) struct TablesCheckpoint {
    /// Of the whole region.
    pub(super) contents: Arc<Contents>,
    base: u64,
    offset: usize,
    capacity: usize,
    present: Vec<u16>,
    free: Vec<Table>,
    root: Table,
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

/// A table, by its place in the table memory.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Table(u32);

/// The pages that tables are made of. Pages that are not in use are zero.
#[derive(Debug)]
struct TableMemory {
    region: Arc<Region>,
    /// Guest-physical address of the first table.
    base: u64,
    /// Offset of the first table within the region.
    offset: usize,
    /// How many tables there can be.
    capacity: usize,
    /// Per table ever made, how many of its entries are present.
    present: Vec<u16>,
    /// Tables that were made and given back.
    free: Vec<Table>,
    /// The pages of the region that may differ from `current`.
    written: PageSet,
    current: Arc<Contents>,
}

impl TableMemory {
    fn new(region: Arc<Region>, base: GuestPhys, tables: Range<usize>) -> Self {
        TableMemory {
            base: base.0 + tables.start as u64,
            offset: tables.start,
            capacity: tables.len() / PAGE_SIZE,
            present: Vec::new(),
            free: Vec::new(),
            written: PageSet::new(region.len() / PAGE_SIZE),
            current: Contents::zero(region.len() / PAGE_SIZE),
            region,
        }
    }

    fn available(&self) -> usize {
        self.capacity - self.present.len() + self.free.len()
    }

    fn require(&self, needed: usize) -> Result<(), OutOfTables> {
        let available = self.available();
        if needed > available {
            return Err(OutOfTables { needed, available });
        }
        Ok(())
    }

    /// The caller has made sure, by [`Self::require`], that there is one.
    fn allocate(&mut self) -> Table {
        if let Some(table) = self.free.pop() {
            return table;
        }
        assert!(self.present.len() < self.capacity);
        self.present.push(0);
        Table(self.present.len() as u32 - 1)
    }

    /// Discarding the page gives its memory back, leaves it zero for its next use, and makes the hypervisor flush what the
    /// processor may have cached about the path through it.
    fn free(&mut self, table: Table) {
        debug_assert!(self.is_empty(table));
        let offset = self.offset_of(table, 0);
        self.region.discard(offset, PAGE_SIZE).expect(WITHIN);
        self.written.insert(offset / PAGE_SIZE);
        self.free.push(table);
    }

    fn is_empty(&self, table: Table) -> bool {
        self.present[table.0 as usize] == 0
    }

    fn entry(&self, table: Table, index: usize) -> u64 {
        self.region.read_u64(self.offset_of(table, index)).expect(WITHIN)
    }

    fn set_entry(&mut self, table: Table, index: usize, entry: u64) {
        let was = self.entry(table, index) & PRESENT;
        let count = &mut self.present[table.0 as usize];
        *count = *count + (entry & PRESENT) as u16 - was as u16;
        let offset = self.offset_of(table, index);
        self.region.write_u64(offset, entry).expect(WITHIN);
        self.written.insert(offset / PAGE_SIZE);
    }

    fn offset_of(&self, table: Table, index: usize) -> usize {
        self.offset + table.0 as usize * PAGE_SIZE + index * size_of::<u64>()
    }

    fn address(&self, table: Table) -> GuestPhys {
        GuestPhys(self.base + (table.0 as usize * PAGE_SIZE) as u64)
    }

    fn table_at(&self, address: u64) -> Table {
        Table(((address - self.base) / PAGE_SIZE as u64) as u32)
    }
}

/// The checked byte range of a mapping.
fn span(at: GuestVirt, pages: usize) -> Range<u64> {
    assert!(at.is_page_aligned());
    let end = (pages as u64)
        .checked_mul(PAGE_SIZE as u64)
        .and_then(|bytes| at.0.checked_add(bytes))
        .filter(|end| *end <= VIRT_END);
    at.0..end.expect("a mapping lies within the lower half of the virtual addresses")
}

/// The entries of a table that a range meets, each with its part of the range.
fn parts(span: &Range<u64>, level: u32) -> impl Iterator<Item = (usize, Range<u64>)> + use<> {
    let Range { mut start, end } = span.clone();
    std::iter::from_fn(move || {
        if start >= end {
            return None;
        }
        let part = start..end.min((start | (covered(level) - 1)) + 1);
        start = part.end;
        Some((index(part.start, level), part))
    })
}

/// How many tables, of this level and below, it takes to map a range.
fn tables_spanning(span: &Range<u64>, level: u32) -> usize {
    (1..=level)
        .map(|level| {
            let bits = covered(level + 1).trailing_zeros();
            ((span.end - 1) >> bits) - (span.start >> bits) + 1
        })
        .sum::<u64>() as usize
}

/// The bytes that one entry of a table covers.
fn covered(level: u32) -> u64 {
    (PAGE_SIZE as u64) << (ENTRY_BITS * (level - 1))
}

fn index(address: u64, level: u32) -> usize {
    (address / covered(level)) as usize % (1 << ENTRY_BITS)
}

fn flags(access: Access) -> u64 {
    let mut flags = PRESENT | ACCESSED | DIRTY;
    if access.write {
        flags |= WRITE;
    }
    if access.user {
        flags |= USER;
    }
    if !access.execute {
        flags |= NO_EXECUTE;
    }
    flags
}

fn access_of(entry: u64) -> Access {
    Access { write: entry & WRITE != 0, execute: entry & NO_EXECUTE == 0, user: entry & USER != 0 }
}

const WITHIN: &str = "tables lie within their region, which was checked at the start";

/// The level of the root; the tables of level 1 hold the pages.
const TOP: u32 = 4;

/// An index into a table has nine bits.
const ENTRY_BITS: u32 = 9;

/// The first virtual address beyond the lower half.
const VIRT_END: u64 = 1 << 47;

/// The first address beyond those that an entry can hold.
const PHYS_END: u64 = 1 << 52;

// Bits of a page-table entry (AMD64 Architecture Programmer's Manual, volume 2, section 5.4.1).
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// An entry that leads to another table: the page's entry alone decides what is allowed.
const TABLE: u64 = PRESENT | WRITE | USER | ACCESSED;
