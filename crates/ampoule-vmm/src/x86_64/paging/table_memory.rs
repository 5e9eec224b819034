//! The pages that tables are made of, and which table serves which addresses.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::address::{GuestPhys, PAGE_SIZE};
use crate::memory::{Contents, HostOnly, Region, TrackedRegion};
use crate::page_set::PageSet;

use super::OutOfTables;
use super::entry::{PRESENT, covered};

/// A table, by its position in the table memory.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Table(u32);

/// The addresses that a table serves: the first of them, and the table's level.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(super) struct Place {
    start: u64,
    level: u32,
}

impl Place {
    /// The place of the table of this level on the path to an address.
    pub(super) fn of(address: u64, level: u32) -> Place {
        Place { start: address & !(covered(level + 1) - 1), level }
    }
}

/// What is known of a table that was ever made.
#[derive(Copy, Clone, Debug, Default)]
struct State {
    /// Where it was last linked. No other table has this place, and the table keeps it when it is unlinked (rule 1 of the
    /// module above).
    place: Option<Place>,
    /// Whether an entry leads to it.
    is_linked: bool,
    /// How many of its own entries are present.
    present: u16,
}

/// The pages that tables are made of. Tables that are not linked are zero.
#[derive(Debug)]
pub(super) struct TableMemory {
    region: TrackedRegion,
    /// Guest-physical address of the first table.
    base: u64,
    /// Offset of the first table within the region.
    offset: usize,
    /// How many tables there can be.
    capacity: usize,
    /// The state of each table ever made.
    states: Vec<State>,
    by_place: BTreeMap<Place, Table>,
    /// Tables that were made and have no place.
    placeless: Vec<Table>,
    linked: usize,
    /// Whether a place has changed hands since translations were last flushed.
    is_stale: bool,
    /// Whether a place has been given up since the last checkpoint or restore.
    has_given_up: bool,
    /// The pages of the region that may differ from `current`, except those that are still in the region's own dirty set.
    written: PageSet,
    current: Arc<Contents>,
}

/// The memory of tables as it was at one moment.
#[derive(Debug)]
pub(super) struct MemoryCheckpoint {
    /// The contents of the whole region.
    pub(super) contents: Arc<Contents>,
    base: u64,
    offset: usize,
    capacity: usize,
    states: Vec<State>,
}

impl TableMemory {
    pub(super) fn new(region: Arc<Region>, base: GuestPhys, tables: Range<usize>) -> Self {
        let contents = Contents::zero(region.len() / PAGE_SIZE);
        TableMemory::showing(region, contents, base.0 + tables.start as u64, tables.start, tables.len() / PAGE_SIZE)
    }

    /// Memory of which nothing is known but that the region shows these contents.
    fn showing(region: Arc<Region>, current: Arc<Contents>, base: u64, offset: usize, capacity: usize) -> Self {
        TableMemory {
            base,
            offset,
            capacity,
            states: Vec::new(),
            by_place: BTreeMap::new(),
            placeless: Vec::new(),
            linked: 0,
            is_stale: false,
            has_given_up: false,
            written: PageSet::new(current.pages()),
            current,
            region: TrackedRegion::new(region, HostOnly::default()),
        }
    }

    /// How many more tables can be linked.
    pub(super) fn available(&self) -> usize {
        self.capacity - self.linked
    }

    pub(super) fn require(&self, needed: usize) -> Result<(), OutOfTables> {
        let available = self.available();
        if needed > available {
            return Err(OutOfTables { needed, available });
        }
        Ok(())
    }

    /// Links a table at a place that has no linked one, and returns it: an empty one, to which the caller makes an entry
    /// lead. The caller has made sure with [`Self::require`] that there is one.
    pub(super) fn link(&mut self, place: Place) -> Table {
        let table = self.by_place.get(&place).copied().unwrap_or_else(|| self.settle(place));
        let state = self.state(table);
        debug_assert!(!state.is_linked && state.present == 0);
        state.is_linked = true;
        self.linked += 1;
        table
    }

    /// Takes an empty table out of use. It keeps its place.
    pub(super) fn unlink(&mut self, table: Table) {
        debug_assert!(self.is_empty(table));
        self.state(table).is_linked = false;
        self.linked -= 1;
        let page = self.page_of(table);
        if !self.current.is_stored(page) {
            // A restore would make this table empty too.
            self.region.take_written(&mut self.written);
            self.written.remove(page);
        }
    }

    pub(super) fn is_empty(&self, table: Table) -> bool {
        self.states[table.0 as usize].present == 0
    }

    pub(super) fn entry(&self, table: Table, index: usize) -> u64 {
        self.region.read_u64(self.offset_of(table, index)).expect(WITHIN)
    }

    pub(super) fn set_entry(&mut self, table: Table, index: usize, entry: u64) {
        let offset = self.offset_of(table, index);
        let before = self.region.read_u64(offset).expect(WITHIN);
        self.region.write_u64(offset, entry).expect(WITHIN);
        self.count(table, (before & PRESENT) as u16, (entry & PRESENT) as u16);
    }

    /// Sets `count` consecutive entries. `entry` gives the one at an index.
    pub(super) fn set_entries(&mut self, table: Table, first: usize, count: usize, entry: impl Fn(usize) -> u64) {
        let mut bytes = [0; PAGE_SIZE];
        let bytes = &mut bytes[..count * size_of::<u64>()];
        let offset = self.offset_of(table, first);
        self.region.read(offset, bytes).expect(WITHIN);
        let (mut before, mut after) = (0, 0);
        for (index, bytes) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
            before += (u64::from_le_bytes(*bytes) & PRESENT) as u16;
            let entry = entry(first + index);
            after += (entry & PRESENT) as u16;
            *bytes = entry.to_le_bytes();
        }
        if (before, after) == (0, 0) {
            return;
        }
        self.region.write(offset, bytes).expect(WITHIN);
        self.count(table, before, after);
    }

    pub(super) fn address(&self, table: Table) -> GuestPhys {
        GuestPhys(self.base + (table.0 as usize * PAGE_SIZE) as u64)
    }

    pub(super) fn table_at(&self, address: u64) -> Table {
        Table(((address - self.base) / PAGE_SIZE as u64) as u32)
    }

    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    pub(super) fn mark_flushed(&mut self) {
        self.is_stale = false;
    }

    /// Takes the places away from all tables that are not linked.
    pub(super) fn give_up_places(&mut self) {
        for (index, state) in self.states.iter_mut().enumerate() {
            if !state.is_linked
                && let Some(place) = state.place.take()
            {
                self.by_place.remove(&place);
                self.placeless.push(Table(index as u32));
                self.is_stale = true;
                self.has_given_up = true;
            }
        }
    }

    /// Remembers the present tables, together with the contents of the pages before them in the region.
    pub(super) fn checkpoint(&mut self) -> io::Result<MemoryCheckpoint> {
        self.region.take_written(&mut self.written);
        (0..self.offset / PAGE_SIZE).for_each(|page| self.written.insert(page));
        self.current = self.region.freeze(&self.current, self.written.iter())?;
        self.written.clear();
        self.has_given_up = false;
        Ok(MemoryCheckpoint {
            contents: Arc::clone(&self.current),
            base: self.base,
            offset: self.offset,
            capacity: self.capacity,
            states: self.states.iter().map(State::without_a_place_if_unlinked).collect(),
        })
    }

    /// Goes back to a checkpoint of this memory, or of memory of the same size.
    pub(super) fn restore(&mut self, checkpoint: &MemoryCheckpoint) {
        self.region.take_written(&mut self.written);
        let is_current = Arc::ptr_eq(&self.current, &checkpoint.contents);
        if !is_current {
            self.current.differences(&checkpoint.contents, &mut self.written);
            self.current = Arc::clone(&checkpoint.contents);
        } else if self.written.is_empty() {
            return;
        }
        self.region.write_back(&self.current, self.written.iter());
        if is_current && !self.has_given_up {
            self.readopt(&checkpoint.states);
        } else {
            self.adopt(&checkpoint.states);
        }
        self.written.clear();
        self.has_given_up = false;
    }

    /// The memory of a checkpoint, in a region that shows its contents.
    pub(super) fn of_checkpoint(region: Arc<Region>, checkpoint: &MemoryCheckpoint) -> Self {
        let MemoryCheckpoint { contents, base, offset, capacity, states } = checkpoint;
        let mut memory = TableMemory::showing(region, Arc::clone(contents), *base, *offset, *capacity);
        memory.adopt(states);
        memory
    }

    /// Finds a table for a place that has none.
    fn settle(&mut self, place: Place) -> Table {
        if self.placeless.is_empty() && self.states.len() == self.capacity {
            self.give_up_places();
        }
        let table = self.placeless.pop().unwrap_or_else(|| {
            assert!(self.states.len() < self.capacity);
            self.states.push(State::default());
            Table(self.states.len() as u32 - 1)
        });
        self.state(table).place = Some(place);
        self.by_place.insert(place, table);
        table
    }

    /// Makes these the states of the tables, whose pages are as they were at that time. Places that do not conflict with
    /// them are kept.
    fn adopt(&mut self, states: &[State]) {
        let made = self.states.len().max(states.len());
        self.states.resize_with(made, State::default);
        let of = |index: usize| states.get(index).copied().unwrap_or_default();
        let is_in_the_way = states.iter().enumerate().any(|(index, theirs)| {
            theirs.place.is_some_and(|place| {
                self.states[index].place.is_some_and(|own| own != place)
                    || self.by_place.get(&place).is_some_and(|table| table.0 as usize != index)
            })
        });
        self.linked = 0;
        for (index, state) in self.states.iter_mut().enumerate() {
            let State { place, is_linked, present } = of(index);
            let kept = if is_in_the_way { None } else { state.place };
            *state = State { place: place.or(kept), is_linked, present };
            self.linked += usize::from(is_linked);
        }
        self.is_stale |= is_in_the_way;
        let tables = || self.states.iter().enumerate().map(|(index, state)| (state.place, Table(index as u32)));
        self.by_place = tables().filter_map(|(place, table)| Some((place?, table))).collect();
        self.placeless = tables().filter(|(place, _)| place.is_none()).map(|(_, table)| table).collect();
    }

    /// Like [`adopt`](Self::adopt), where only tables that were written since can be in another state, and all that were
    /// linked then still have their places.
    fn readopt(&mut self, states: &[State]) {
        let first = self.offset / PAGE_SIZE;
        for index in self.written.iter().filter_map(|page| page.checked_sub(first)) {
            let Some(state) = self.states.get_mut(index) else { continue };
            let State { place, is_linked, present } = states.get(index).copied().unwrap_or_default();
            debug_assert!(place.is_none() || place == state.place);
            self.linked = self.linked + usize::from(is_linked) - usize::from(state.is_linked);
            *state = State { is_linked, present, ..*state };
        }
    }

    /// Updates the count for entries of which `before` were present, and `after` are now.
    fn count(&mut self, table: Table, before: u16, after: u16) {
        let state = self.state(table);
        state.present = state.present + after - before;
    }

    fn state(&mut self, table: Table) -> &mut State {
        &mut self.states[table.0 as usize]
    }

    fn page_of(&self, table: Table) -> usize {
        self.offset_of(table, 0) / PAGE_SIZE
    }

    fn offset_of(&self, table: Table, index: usize) -> usize {
        self.offset + table.0 as usize * PAGE_SIZE + index * size_of::<u64>()
    }
}

impl State {
    /// What a checkpoint needs to know: the places of unlinked tables do not matter to a restore.
    fn without_a_place_if_unlinked(&self) -> State {
        State { place: self.place.filter(|_| self.is_linked), ..*self }
    }
}

const WITHIN: &str = "tables lie within their region, which was checked at the start";
