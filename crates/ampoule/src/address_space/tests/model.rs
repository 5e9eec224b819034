//! Random operations against a model that knows every page by itself.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn behaves_like_a_table_of_pages(
        steps in prop::collection::vec(step(), 1..40),
        tables in prop_oneof![5_usize..10, Just(AMPLE_TABLES)],
        allow_executable_memory: bool,
    ) {
        let mut space = space_that_allows(FRAMES, tables, allow_executable_memory);
        space.place_heap(address(HEAP));
        let ample_tables = tables == AMPLE_TABLES;
        let mut model = Model::new(allow_executable_memory, ample_tables);
        for step in steps {
            model.perform(&mut space, &step);
            model.compare(&space);
        }
    }
}

/// An operation on pages of the arena.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Map { place: Place, at: u64, pages: u64, protection: Protection },
    Unmap { at: u64, pages: u64 },
    Protect { at: u64, pages: u64, protection: Protection },
    Remap { at: u64, old: u64, new: u64, to: Option<u64>, may_move: bool },
    Discard { at: u64, pages: u64 },
    HeapEnd { pages: u64 },
    Write { at: u64, byte: u8 },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Anywhere,
    Hint,
    Fixed,
    FixedVacant,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let at = ARENA..ARENA + ARENA_PAGES;
    let pages = 1_u64..10;
    let place = prop_oneof![Just(Place::Anywhere), Just(Place::Hint), Just(Place::Fixed), Just(Place::FixedVacant)];
    prop_oneof![
        3 => (place, at.clone(), pages.clone(), protection())
            .prop_map(|(place, at, pages, protection)| Step::Map { place, at, pages, protection }),
        2 => (at.clone(), pages.clone()).prop_map(|(at, pages)| Step::Unmap { at, pages }),
        2 => (at.clone(), pages.clone(), protection())
            .prop_map(|(at, pages, protection)| Step::Protect { at, pages, protection }),
        2 => (at.clone(), pages.clone(), pages.clone(), prop::option::of(at.clone()), any::<bool>())
            .prop_map(|(at, old, new, to, may_move)| Step::Remap { at, old, new, to, may_move }),
        1 => (at.clone(), pages.clone()).prop_map(|(at, pages)| Step::Discard { at, pages }),
        1 => pages.prop_map(|pages| Step::HeapEnd { pages }),
        3 => (at, 1_u8..).prop_map(|(at, byte)| Step::Write { at, byte }),
    ]
}

fn protection() -> impl Strategy<Value = Protection> {
    prop_oneof![
        1 => Just(Protection::None),
        1 => Just(Protection::Read),
        3 => Just(Protection::ReadWrite),
        1 => Just(Protection::ReadExecute),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    kind: MappingKind,
    protection: Protection,
    /// What its first byte is, once it has a frame.
    contents: Option<u8>,
}

/// What an address space should be.
#[derive(Clone)]
pub(super) struct Model {
    pages: BTreeMap<u64, Page>,
    heap_end: u64,
    allow_executable_memory: bool,
    ample_tables: bool,
}

impl Model {
    /// An empty space's, but for the heap.
    pub(super) fn new(allow_executable_memory: bool, ample_tables: bool) -> Self {
        Self { pages: BTreeMap::new(), heap_end: HEAP, allow_executable_memory, ample_tables }
    }

    pub(super) fn perform(&mut self, space: &mut AddressSpace, step: &Step) {
        match *step {
            Step::Map { place, at, pages, protection } => self.map(space, place, at, pages, protection),
            Step::Unmap { at, pages } => {
                space.unmap(address(at), pages * PAGE).unwrap();
                self.remove(at..at + pages);
            }
            Step::Protect { at, pages, protection } => self.protect(space, at..at + pages, protection),
            Step::Remap { at, old, new, to, may_move } => self.remap(space, at..at + old, new, to, may_move),
            Step::Discard { at, pages } => {
                let result = space.discard(address(at), pages * PAGE);
                assert_eq!(result.is_ok(), self.is_full(at..at + pages));
                for (_, page) in self.pages.range_mut(at..at + pages) {
                    page.contents = page.contents.map(|_| 0);
                }
            }
            Step::HeapEnd { pages } => self.move_heap_end(space, HEAP + pages),
            Step::Write { at, byte } => {
                let page = self.pages.get_mut(&at).filter(|page| page.protection.is_writable());
                assert_eq!(space.write(address(at), &[byte]).is_ok(), page.is_some());
                if let Some(page) = page {
                    page.contents = Some(byte);
                }
            }
        }
    }

    fn map(&mut self, space: &mut AddressSpace, place: Place, at: u64, pages: u64, protection: Protection) {
        let wanted = at..at + pages;
        let (placement, range) = match place {
            Place::Anywhere => (Placement::Anywhere, self.highest_room(pages)),
            Place::Hint if self.is_empty(wanted.clone()) => (Placement::Hint(address(at)), wanted),
            Place::Hint => (Placement::Hint(address(at)), self.highest_room(pages)),
            Place::Fixed => (Placement::Fixed(address(at)), wanted),
            Place::FixedVacant => (Placement::FixedVacant(address(at)), wanted),
        };
        let replaces = matches!(place, Place::Fixed);
        let result = space.map_anonymous(pages * PAGE, placement, protection);
        if protection.is_executable() && !self.allow_executable_memory {
            assert!(matches!(result, Err(MapError::ExecutableRefused)));
            return;
        }
        if !replaces && !self.is_empty(range.clone()) {
            assert!(matches!(result, Err(MapError::Occupied)));
            return;
        }
        let needed = if protection == Protection::None { 0 } else { pages };
        if needed > self.free_frames() + self.frames_of(range.clone()) {
            assert!(matches!(result, Err(MapError::OutOfFrames { .. })));
            return;
        }
        self.remove(range.clone());
        if matches!(result, Err(MapError::OutOfTables(_))) {
            assert!(!self.ample_tables);
            return;
        }
        assert_eq!(result.unwrap(), address(range.start));
        self.insert(range, Page { kind: MappingKind::Anonymous, protection, contents: None });
    }

    fn protect(&mut self, space: &mut AddressSpace, range: Range<u64>, protection: Protection) {
        let result = space.protect(address(range.start), (range.end - range.start) * PAGE, protection);
        if !self.is_full(range.clone()) {
            assert!(matches!(result, Err(MapError::NotMapped)));
            return;
        }
        let gains_execution = self.pages.range(range.clone()).any(|(_, page)| !page.protection.is_executable());
        if protection.is_executable() && gains_execution && !self.allow_executable_memory {
            assert!(matches!(result, Err(MapError::ExecutableRefused)));
            return;
        }
        let fresh = (range.end - range.start) - self.frames_of(range.clone());
        if protection != Protection::None && fresh > self.free_frames() {
            assert!(matches!(result, Err(MapError::OutOfFrames { .. })));
            return;
        }
        if matches!(result, Err(MapError::OutOfTables(_))) {
            assert!(!self.ample_tables);
            return;
        }
        result.unwrap();
        for (_, page) in self.pages.range_mut(range) {
            page.protection = protection;
            page.contents = page.contents.or(protection.is_readable().then_some(0));
        }
    }

    fn remap(&mut self, space: &mut AddressSpace, old: Range<u64>, new: u64, to: Option<u64>, may_move: bool) {
        let movement = match to {
            Some(to) => Movement::To(address(to)),
            None if may_move => Movement::MayMove,
            None => Movement::Stay,
        };
        let old_pages = old.end - old.start;
        let result = space.remap(address(old.start), old_pages * PAGE, new * PAGE, movement);
        let first = self.pages.get(&old.start).copied();
        let one = first.is_some_and(|first| {
            self.is_full(old.clone())
                && self
                    .pages
                    .range(old.clone())
                    .all(|(_, page)| (page.kind, page.protection) == (first.kind, first.protection))
        });
        let Some(Page { kind, protection, .. }) = first.filter(|_| one) else {
            assert!(matches!(result, Err(MapError::NotMapped)));
            return;
        };
        let growth = old.end..(old.start + new).max(old.end);
        let target = match to {
            Some(to) => to..to + new,
            None if new <= old_pages => old.start..old.start + new,
            None if self.is_empty(growth.clone()) => old.start..old.start + new,
            None if may_move => self.highest_room(new),
            None => {
                assert!(matches!(result, Err(MapError::NoRoom)));
                return;
            }
        };
        if to.is_some() && target.start < old.end && old.start < target.end {
            assert!(matches!(result, Err(MapError::InvalidRange)));
            return;
        }
        match result {
            Ok(at) => assert_eq!(at, address(target.start)),
            Err(MapError::OutOfTables(_)) => {
                assert!(!self.ample_tables);
                if to.is_some() {
                    self.remove(target);
                }
                return;
            }
            Err(MapError::OutOfFrames { .. }) => {
                assert!(protection != Protection::None);
                let grown = new.saturating_sub(old_pages);
                let needed = if to.is_some() { new } else { grown };
                assert!(needed > self.free_frames() + if to.is_some() { self.frames_of(target.clone()) } else { 0 });
                return;
            }
            Err(error) => panic!("{error}"),
        }
        let moved: Vec<Page> = self.pages.range(old.clone()).map(|(_, page)| *page).collect();
        self.remove(old);
        self.remove(target.clone());
        self.insert(target.clone(), Page { kind, protection, contents: None });
        for (index, page) in target.zip(moved) {
            self.pages.insert(index, page);
        }
    }

    fn move_heap_end(&mut self, space: &mut AddressSpace, end: u64) {
        let result = space.move_heap_end(address(end));
        let growth = self.heap_end..end.max(self.heap_end);
        let grows = self.is_empty(growth.clone()) && growth.end - growth.start <= self.free_frames();
        if result != address(end) {
            assert_eq!(result, address(self.heap_end));
            assert!(!grows || !self.ample_tables);
            return;
        }
        assert!(grows);
        self.insert(growth, Page { kind: MappingKind::Heap, protection: Protection::ReadWrite, contents: None });
        self.remove(end..self.heap_end.max(end));
        self.heap_end = end;
    }

    /// Compares all that there is, and what the page tables and the free frames should hold.
    pub(super) fn compare(&self, space: &AddressSpace) {
        let mapped: Vec<u64> =
            space.mappings().flat_map(|(range, ..)| range.start.0 / PAGE..range.end.0 / PAGE).collect();
        assert!(mapped.iter().eq(self.pages.keys()));
        assert_eq!(space.memory_free(), self.free_frames() * PAGE);
        let mut used = BTreeSet::new();
        for (index, page) in &self.pages {
            let at = address(*index);
            assert_eq!(space.describe(at), Location::Mapped { kind: page.kind, protection: page.protection });
            let number = crate::page::Page(*index);
            let frame = space.layout.backing.get(number).map(|(range, first)| first.0 + (number - range.start));
            assert_eq!(frame.is_some(), page.contents.is_some());
            if let (Some(frame), Some(contents)) = (frame, page.contents) {
                assert!(used.insert(frame), "{frame:?} is used twice");
                assert_eq!(first_byte(space, frame), contents);
            }
            let access = PageAccess { write: page.protection.is_writable(), execute: page.protection.is_executable() };
            let expected = frame
                .filter(|_| page.protection.is_readable())
                .map(|frame| (GuestPhys(RAM_BASE.0 + frame.0 * PAGE), access));
            assert_eq!(space.tables.translate(at), expected);
            assert_eq!(page.protection.is_readable(), expected.is_some());
        }
        for index in ARENA - 16..ARENA + ARENA_PAGES + 16 {
            if !self.pages.contains_key(&index) {
                assert_eq!(space.tables.translate(address(index)), None);
            }
        }
        for frame in (0..FRAMES as u64).map(Frame).filter(|frame| !used.contains(frame)) {
            assert_eq!(first_byte(space, frame), 0, "a free frame holds zeros");
        }
    }

    fn insert(&mut self, range: Range<u64>, page: Page) {
        let contents = page.protection.is_readable().then_some(0);
        self.pages.extend(range.map(|index| (index, Page { contents, ..page })));
    }

    fn remove(&mut self, range: Range<u64>) {
        self.pages.retain(|index, _| !range.contains(index));
    }

    fn is_empty(&self, range: Range<u64>) -> bool {
        self.pages.range(range).next().is_none()
    }

    fn is_full(&self, range: Range<u64>) -> bool {
        self.pages.range(range.clone()).count() as u64 == range.end - range.start
    }

    fn frames_of(&self, range: Range<u64>) -> u64 {
        self.pages.range(range).filter(|(_, page)| page.contents.is_some()).count() as u64
    }

    fn free_frames(&self) -> u64 {
        FRAMES as u64 - self.frames_of(0..u64::MAX)
    }

    fn highest_room(&self, pages: u64) -> Range<u64> {
        let top = USER_END.0 / PAGE;
        let start = (0..=top - pages).rev().find(|start| self.is_empty(*start..start + pages)).unwrap();
        start..start + pages
    }
}

/// Where a page begins.
pub(super) fn address(page: u64) -> GuestVirt {
    GuestVirt(page * PAGE)
}

fn first_byte(space: &AddressSpace, frame: Frame) -> u8 {
    let mut byte = [0];
    space.memory.region().read(space.memory.frame_offset(frame), &mut byte).unwrap();
    byte[0]
}

pub(super) const FRAMES: usize = 24;
const AMPLE_TABLES: usize = 16;
const ARENA: u64 = 0x1fe;
const ARENA_PAGES: u64 = 30;
pub(super) const HEAP: u64 = ARENA + 12;
