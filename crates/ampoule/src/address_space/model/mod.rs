//! What an address space should be: a model that knows every page by itself, and the steps that both are put through.
//!
//! The tests draw the steps from a strategy, the fuzz target from its input.

mod access;
mod change;
mod compare;
mod file;
mod shared;
mod step;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use ampoule_vmm::address_map::{USER_END, USER_START};
use ampoule_vmm::{GuestPhys, GuestVirt, PAGE_SIZE};

use super::mapping::{Mapping, MappingKind, Protection};
use super::range_map::Piece;
use crate::executable_memory::ExecutableMemory;

use self::shared::SharedFile;

pub(crate) use self::file::TestFile;
pub(crate) use self::shared::{LONGEST, MapShared};
pub(crate) use self::step::{Change, Operation, Step};
#[cfg(test)]
pub(super) use self::world::After;
pub(crate) use self::world::World;

/// What an address space is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Page tables beside those of the host's own pages. From [`AMPLE_TABLES`] on there are never too few.
    pub(crate) spare_tables: usize,
    pub(crate) executable_memory: ExecutableMemory,
}

/// What an address space should be.
#[derive(Clone)]
struct Model {
    /// Those that are mapped, by their number.
    pages: BTreeMap<u64, Page>,
    heap_end: u64,
    ran_out: bool,
    /// How many files were copied.
    copies: u64,
    shared: SharedFile,
    /// What a change that has failed has unmapped all the same.
    lost: Range<u64>,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Page {
    kind: MappingKind,
    protection: Protection,
    /// What it holds, once it has a frame.
    contents: Option<Rc<[u8; PAGE_SIZE]>>,
    /// Whether the guest finds the frame of a page of a file that it shares.
    is_shown: bool,
}

impl Model {
    /// A space with an image and the start of a stack.
    fn new(settings: Settings) -> Self {
        let (pages, shared) = (BTreeMap::new(), SharedFile::new());
        let mut model = Self { pages, heap_end: HEAP, ran_out: false, copies: 0, shared, lost: 0..0, settings };
        for (page, protection) in IMAGE {
            model.insert(page..page + 1, &Page::fresh(MappingKind::Image, protection));
        }
        model.insert(STACK_TOP - STACK_USED..STACK_TOP, &Page::fresh(MappingKind::Stack, Protection::ReadWrite));
        model
    }

    fn has_ample_tables(&self) -> bool {
        self.settings.spare_tables >= AMPLE_TABLES
    }

    fn insert(&mut self, range: Range<u64>, page: &Page) {
        self.pages.extend(range.map(|index| (index, page.clone())));
    }

    /// The numbers of the pages of a range that are mapped.
    fn mapped_in(&self, range: Range<u64>) -> Vec<u64> {
        self.pages.range(range).map(|(index, _)| *index).collect()
    }

    fn is_unmapped(&self, range: &Range<u64>) -> bool {
        self.pages.range(range.clone()).next().is_none()
    }

    /// Whether nothing is mapped, and nothing is kept for the stack.
    fn is_vacant(&self, range: &Range<u64>) -> bool {
        self.is_unmapped(range) && (range.end <= GUARD || range.start >= STACK_TOP)
    }

    fn is_full(&self, range: &Range<u64>) -> bool {
        self.pages.range(range.clone()).count() as u64 == range.end - range.start
    }

    fn frames_of(&self, range: Range<u64>) -> u64 {
        self.pages.range(range).filter(|(_, page)| page.contents.is_some()).count() as u64
    }

    fn free_frames(&self) -> u64 {
        FRAMES as u64 - self.frames_of(0..u64::MAX) - self.shared.frames.len() as u64
    }

    /// What a page holds that has a frame.
    fn contents_of<'a>(&'a self, page: &'a Page) -> Option<&'a [u8; PAGE_SIZE]> {
        match page.shared() {
            Some(of) => self.shared.frames.get(&of).filter(|_| page.is_shown).map(|frame| &*frame.now),
            None => page.contents.as_deref(),
        }
    }

    /// What all of a range is, if it is one mapping.
    fn mapping_of(&self, range: &Range<u64>) -> Option<Mapping> {
        let mapping = |page: &Page| Mapping { kind: page.kind, protection: page.protection };
        let first = mapping(self.pages.get(&range.start)?);
        let same = |(index, page): (&u64, &Page)| mapping(page) == first.skip(*index - range.start);
        (self.is_full(range) && self.pages.range(range.clone()).all(same)).then_some(first)
    }
}

impl Page {
    /// One that holds zeros, or what a file holds, if it can be read.
    fn fresh(kind: MappingKind, protection: Protection) -> Self {
        let has_frame = protection.is_readable() && Mapping { kind, protection }.has_frames();
        Self { kind, protection, contents: has_frame.then(|| Rc::new(file::held(kind))), is_shown: false }
    }

    fn is_accessible(&self) -> bool {
        self.protection.is_readable()
            && (Mapping { kind: self.kind, protection: self.protection }.has_frames() || self.is_shown)
    }
}

/// The whole pages of a range that a guest names, if all of it is the guest's.
fn user_range(at: GuestVirt, len: u64) -> Option<Range<u64>> {
    let end = at.0.checked_add(len).filter(|end| len > 0 && *end <= USER_END.0)?;
    (at.0.is_multiple_of(PAGE) && at >= USER_START).then(|| at.0 / PAGE..end.div_ceil(PAGE))
}

/// Pages of memory: so few that they run out.
const FRAMES: usize = 24;

/// Enough for every page of the memory to be in a place of its own, twice.
pub(crate) const AMPLE_TABLES: usize = 160;

/// The pages that most steps are about. They lie where two tables meet.
pub(crate) const ARENA: Range<u64> = 0x1fe..0x21c;

/// Pages of the image, with what the guest may do there.
const IMAGE: [(u64, Protection); 2] =
    [(ARENA.start, Protection::ReadExecute), (ARENA.start + 1, Protection::ReadWrite)];

/// Where the heap begins, in bytes.
pub(crate) const HEAP: u64 = (ARENA.start + 12) * PAGE;

/// The pages that are kept for the stack, how many of them are mapped at first, and the first ones of the guard and of the gap
/// below.
pub(crate) const STACK: Range<u64> = STACK_TOP - 40..STACK_TOP;
const STACK_TOP: u64 = USER_END.0 / PAGE - 1;
const STACK_USED: u64 = 2;
const GUARD: u64 = STACK.start - 256;
const GAP: u64 = USER_END.0 / 2 / PAGE;

const RAM_BASE: GuestPhys = GuestPhys(0x1_0000_0000);

const PAGE: u64 = PAGE_SIZE as u64;
