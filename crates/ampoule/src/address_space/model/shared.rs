//! A file whose pages are shared, and what should come of that.
//!
//! There is one. Whoever has it writes what is dirty to it before frames may be given back, as the process does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use ampoule_vmm::address_map::USER_END;
use ampoule_vmm::{GuestVirt, PAGE_SIZE};

use super::change::Plan;
use super::file::{KINDS, mapped};
use super::world::Guest;
use super::{Model, PAGE, Page, TestFile, user_range};
use crate::address_space::mapping::Mapping;
use crate::address_space::range_map::Piece;
use crate::address_space::{
    AddressSpace, FileId, FileKey, FilePages, MapError, MappingKind, Movement, Placement, Protection, SharedPart,
    Sharing,
};

/// The file, and those of its pages that are in frames.
#[derive(Clone)]
pub(super) struct SharedFile {
    /// What is written in it.
    pub(super) held: Vec<u8>,
    /// The pages that have a frame.
    pub(super) frames: BTreeMap<u64, Frame>,
}

/// What a frame holds, and what it held when the file held the same.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) now: Rc<[u8; PAGE_SIZE]>,
    synced: Rc<[u8; PAGE_SIZE]>,
}

/// What a guest asks for that maps the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapShared {
    pub(crate) placement: Placement,
    pub(crate) len: u64,
    pub(crate) protection: Protection,
    pub(crate) first: u64,
    pub(crate) may_write: bool,
}

impl MapShared {
    pub(super) fn apply(&self, space: &mut AddressSpace, held: &[u8]) -> Result<GuestVirt, MapError> {
        let size = held.len() as u64;
        let file = Arc::new(crate::address_space::MappedFile { size, ..mapped(TestFile::Shared, None) });
        let part = SharedPart { key: KEY, file: &file, first: self.first, may_write: self.may_write };
        let mapped = space.map_shared(self.len, self.placement, self.protection, part, &mut reader(held));
        mapped.map(|(at, _)| at)
    }
}

/// Moves a mapping of the file, or makes another one of what is there, if that is what lies there.
pub(super) fn remap(
    space: &mut AddressSpace,
    held: &[u8],
    at: GuestVirt,
    lens: (u64, u64),
    movement: Movement,
) -> Option<Result<GuestVirt, MapError>> {
    space.shared_at(GuestVirt(at.0 / PAGE * PAGE), 1).first()?;
    Some(space.remap_shared(at, lens, movement, &mut reader(held)))
}

fn reader(held: &[u8]) -> impl FnMut(u64, &mut [u8]) -> std::io::Result<usize> {
    |offset, into| {
        let rest = held.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

impl SharedFile {
    pub(super) fn new() -> Self {
        Self { held: (0..LEN).map(|at| (at / PAGE_SIZE + at % 50) as u8).collect(), frames: BTreeMap::new() }
    }

    fn pages(&self) -> u64 {
        (self.held.len() as u64).div_ceil(PAGE)
    }

    fn page(&self, page: u64) -> [u8; PAGE_SIZE] {
        let mut bytes = [0; PAGE_SIZE];
        let rest = self.held.get((page * PAGE) as usize..).unwrap_or_default();
        let len = rest.len().min(PAGE_SIZE);
        bytes[..len].copy_from_slice(&rest[..len]);
        bytes
    }

    /// Changes a part of a page, which the file changes too.
    fn change(&mut self, page: u64, offset: usize, bytes: &[u8]) {
        let Some(frame) = self.frames.get_mut(&page) else { return };
        let was_dirty = frame.now != frame.synced;
        Rc::make_mut(&mut frame.now)[offset..offset + bytes.len()].copy_from_slice(bytes);
        if !was_dirty {
            frame.synced = Rc::clone(&frame.now);
        }
    }
}

/// What the host does with the file.
impl Model {
    /// Writes what is dirty to the file.
    pub(super) fn write_back(&mut self, space: &mut AddressSpace, guest: &mut Guest) {
        let Some(id) = space.shared_file(KEY) else { return };
        space.collect_written(guest).expect("the guest has pages that are written");
        let dirty = space.dirty_shared(id, 0..u64::MAX);
        let SharedFile { held, frames } = &mut self.shared;
        let expected = frames.iter().filter(|(_, frame)| frame.now != frame.synced).map(|(page, _)| *page);
        assert!(dirty.iter().copied().eq(expected), "{dirty:?} are dirty");
        for page in dirty {
            let frame = frames.get_mut(&page).expect("it is dirty");
            frame.synced = Rc::clone(&frame.now);
            let start = (page * PAGE) as usize;
            let end = held.len().min(start + PAGE_SIZE);
            held[start..end].copy_from_slice(&frame.now[..end - start]);
            space.clean_shared(id, page..page + 1);
        }
    }

    /// Writes to the file, within its length.
    pub(super) fn write_file(&mut self, space: &mut AddressSpace, offset: u64, bytes: &[u8]) {
        let held = &mut self.shared.held;
        let offset = (offset as usize).min(held.len());
        let bytes = &bytes[..bytes.len().min(held.len() - offset)];
        held[offset..offset + bytes.len()].copy_from_slice(bytes);
        if let Some(id) = space.shared_file(KEY) {
            space.store_shared(id, offset as u64, bytes);
        }
        for (page, offset, part) in parts(offset, bytes.len()) {
            self.shared.change(page, offset, &bytes[part]);
        }
    }

    /// Reads the file, of which the frames are newer.
    pub(super) fn read_file(&self, space: &AddressSpace, offset: u64, len: usize) {
        let Some(id) = space.shared_file(KEY) else { return };
        let offset = (offset as usize).min(self.shared.held.len());
        let mut expected = self.shared.held[offset..].to_vec();
        expected.truncate(len);
        let mut read = expected.clone();
        space.overlay_shared(id, offset as u64, &mut read);
        for (page, offset, part) in parts(offset, expected.len()) {
            if let Some(frame) = self.shared.frames.get(&page) {
                let len = part.len();
                expected[part].copy_from_slice(&frame.now[offset..offset + len]);
            }
        }
        assert!(read == expected);
    }

    /// Makes the file so long.
    pub(super) fn resize_file(&mut self, space: &mut AddressSpace, len: u64) {
        let before = self.shared.held.len() as u64;
        self.shared.held.resize(len as usize, 0);
        let Some(id) = space.shared_file(KEY).filter(|_| before != len) else { return };
        space.resize_shared(id, len, &mut reader(&self.shared.held)).expect("nothing interrupts it");
        let end = before.min(len);
        let rest = end.next_multiple_of(PAGE) - end;
        self.shared.change(end / PAGE, (end % PAGE) as usize, &[0; PAGE_SIZE][..rest as usize]);
        let (old, new) = (before.div_ceil(PAGE), len.div_ceil(PAGE));
        self.shared.frames.retain(|page, _| *page < new);
        for page in self.pages.values_mut() {
            page.is_shown &= page.shared().is_none_or(|of| of < new);
        }
        for grown in self.seen_runs(old..new) {
            // Where there is not enough memory for all of a run, none of it gets any.
            if self.provide(grown.clone()).is_err() {
                self.ran_out = true;
                continue;
            }
            for page in self.pages.values_mut() {
                page.is_shown |= page.shared().is_some_and(|of| grown.contains(&of));
            }
        }
    }

    /// Pages of the file that are seen, in runs that are seen equally often.
    fn seen_runs(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let mut runs: Vec<(Range<u64>, usize)> = Vec::new();
        for page in within {
            let count = self.pages.values().filter(|seen| seen.shared() == Some(page)).count();
            match runs.last_mut() {
                _ if count == 0 => {}
                Some((run, same)) if run.end == page && *same == count => run.end += 1,
                _ => runs.push((page..page + 1, count)),
            }
        }
        runs.into_iter().map(|(run, _)| run).collect()
    }

    /// Gives frames to those pages of the file that have none.
    fn provide(&mut self, pages: Range<u64>) -> Result<(), MapError> {
        let within = pages.start..pages.end.min(self.shared.pages());
        let bare: Vec<_> = within.filter(|page| !self.shared.frames.contains_key(page)).collect();
        let (needed, free) = (bare.len() as u64, self.free_frames());
        if needed > free {
            return Err(MapError::OutOfFrames { needed, free });
        }
        for page in bare {
            let now = Rc::new(self.shared.page(page));
            self.shared.frames.insert(page, Frame { synced: Rc::clone(&now), now });
        }
        Ok(())
    }

    /// Takes the frames of pages that nobody sees any more.
    pub(super) fn forget_unseen(&mut self) {
        let Self { pages, shared, .. } = self;
        shared.frames.retain(|page, _| pages.values().any(|seen| seen.shared() == Some(*page)));
    }
}

/// What the guest does with it.
impl Model {
    pub(super) fn map_shared(&mut self, wanted: &MapShared) -> Result<Plan, MapError> {
        let MapShared { placement, len, protection, first, may_write } = *wanted;
        if !self.permits(protection, false) {
            return Err(MapError::ExecutableRefused);
        }
        if protection.is_writable() && !may_write {
            return Err(MapError::WriteRefused);
        }
        self.provide(first..first.saturating_add(len.div_ceil(PAGE)))?;
        let (range, replaced) = self.place(placement, len)?;
        let sharing = Sharing::Coherent { may_write };
        let of = FilePages { file: FileId(KINDS + TestFile::Shared as u64), first, pristine: false, sharing };
        let shown = self.shown(&range, MappingKind::File(of), protection);
        Ok(Plan { replaced, ..Plan::at(GuestVirt(range.start * PAGE), shown) })
    }

    /// The pages of a mapping of what a kind begins with.
    fn shown(&self, range: &Range<u64>, kind: MappingKind, protection: Protection) -> Vec<(u64, Option<Page>)> {
        let mapping = Mapping { kind, protection };
        let page = |(nth, index): (usize, u64)| {
            let kind = mapping.skip(nth as u64).kind;
            let page = Page { kind, protection, contents: None, is_shown: false };
            let is_shown = page.shared().is_some_and(|of| self.shared.frames.contains_key(&of));
            (index, Some(Page { is_shown, ..page }))
        };
        range.clone().enumerate().map(page).collect()
    }

    pub(super) fn remap_shared(
        &mut self,
        at: GuestVirt,
        (old_len, new_len): (u64, u64),
        movement: Movement,
    ) -> Result<Plan, MapError> {
        let duplicates = old_len == 0 && movement != Movement::Stay;
        let old = user_range(at, if duplicates { PAGE } else { old_len }).ok_or(MapError::InvalidRange)?;
        let whole = new_len.checked_next_multiple_of(PAGE).filter(|len| *len > 0).ok_or(MapError::InvalidRange)?;
        let Some(first) = self.mapping_of(&old) else { return Err(MapError::NotMapped) };
        let of = first.kind.file().ok_or(MapError::NotMapped)?;
        let old = old.start..if duplicates { old.start } else { old.end };
        let (count, had) = (whole / PAGE, old.end - old.start);
        self.provide(of.first..of.first.saturating_add(count))?;

        let growth = old.end..old.start.saturating_add(count).max(old.end);
        let can_grow = !duplicates && growth.end <= USER_END.0 / PAGE && self.is_vacant(&growth);
        let mut replaced = 0..0;
        let target = match movement {
            Movement::To(to) => {
                let target = user_range(to, new_len).ok_or(MapError::InvalidRange)?;
                if target.start < old.end && old.start < target.end {
                    return Err(MapError::InvalidRange);
                }
                replaced = target.clone();
                target
            }
            _ if count <= had => {
                return Ok(Plan::at(at, (old.start + count..old.end).map(|index| (index, None))));
            }
            _ if can_grow => {
                return Ok(Plan::at(at, self.shown(&growth, first.skip(had).kind, first.protection)));
            }
            Movement::Stay => return Err(MapError::NoRoom),
            Movement::MayMove => self.highest_room(new_len)?,
        };
        let mut pages: Vec<_> = old.map(|index| (index, None)).collect();
        pages.extend(self.shown(&target, first.kind, first.protection));
        Ok(Plan { replaced, ..Plan::at(GuestVirt(target.start * PAGE), pages) })
    }
}

impl Page {
    /// Which page of the file it shares, if it does.
    pub(super) fn shared(&self) -> Option<u64> {
        self.kind.shared().map(|of| of.first)
    }
}

/// The parts of bytes from an offset on, none of which crosses a page: the page, where in it, and which of the bytes.
fn parts(offset: usize, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let pages = offset / PAGE_SIZE..(offset + len).div_ceil(PAGE_SIZE);
    pages.map(move |page| {
        let (start, end) = (offset.max(page * PAGE_SIZE), (offset + len).min((page + 1) * PAGE_SIZE));
        (page as u64, start % PAGE_SIZE, start - offset..end - offset)
    })
}

/// How the address space knows the file.
const KEY: FileKey = (1, 1);

/// How long it is at first. It never gets longer than [`LONGEST`].
const LEN: usize = 5 * PAGE_SIZE - 700;

pub(crate) const LONGEST: u64 = 9 * PAGE;
