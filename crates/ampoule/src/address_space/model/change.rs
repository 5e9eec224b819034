//! What a change of the mappings should lead to.

use std::ops::Range;
use std::rc::Rc;

use ampoule_vmm::GuestVirt;
use ampoule_vmm::address_map::USER_START;

use super::file::{self, TestFile};
use super::{Change, GAP, GUARD, Model, PAGE, Page, user_range};
use crate::address_space::mapping::Mapping;
use crate::address_space::range_map::Piece;
use crate::address_space::{MapError, MappingKind, Movement, Placement, Protection};
use crate::executable_memory::ExecutableMemory;

/// What a change that succeeds does.
pub(super) struct Plan {
    /// Where the range lies then.
    pub(super) at: GuestVirt,
    /// What is unmapped first, and stays so where the tables turn out to be too few.
    pub(super) replaced: Range<u64>,
    /// What becomes of pages.
    pub(super) pages: Vec<(u64, Option<Page>)>,
}

impl Model {
    /// Compares what a change has come to with what it should, and follows it.
    pub(super) fn change(&mut self, change: &Change, found: Result<GuestVirt, MapError>) {
        match (self.plan(change), found) {
            (Ok(plan), Ok(at)) => {
                assert_eq!(at, plan.at);
                for (index, page) in plan.pages {
                    match page {
                        Some(page) => drop(self.pages.insert(index, page)),
                        None => drop(self.pages.remove(&index)),
                    }
                }
            }
            (Ok(plan), Err(MapError::OutOfTables(_))) => {
                assert!(!self.has_ample_tables());
                self.pages.retain(|index, _| !plan.replaced.contains(index));
            }
            (Err(expected), Err(found)) => {
                assert_eq!(format!("{found:?}"), format!("{expected:?}"));
                let lost = std::mem::take(&mut self.lost);
                self.pages.retain(|index, _| !lost.contains(index));
                self.ran_out |= matches!(found, MapError::OutOfFrames { .. });
            }
            (Ok(plan), Err(found)) => panic!("{found:?} instead of a range at {}", plan.at),
            (Err(expected), Ok(at)) => panic!("a range at {at} instead of {expected:?}"),
        }
        self.forget_unseen();
    }

    fn plan(&mut self, change: &Change) -> Result<Plan, MapError> {
        match *change {
            Change::Map { placement, len, protection } => self.map(placement, len, protection),
            Change::MapFile { file, placement, len, protection, first } => {
                self.map_file(file, (placement, len), protection, first)
            }
            Change::MapShared(ref wanted) => self.map_shared(wanted),
            Change::Unmap { at, len } => {
                let range = user_range(at, len).ok_or(MapError::InvalidRange)?;
                Ok(Plan::at(at, self.mapped_in(range).into_iter().map(|index| (index, None))))
            }
            Change::Protect { at, len, protection } => self.protect(at, len, protection),
            Change::Remap { at, old_len, new_len, movement } => {
                match self.pages.get(&(at.0 / PAGE)).and_then(Page::shared) {
                    Some(_) => self.remap_shared(at, (old_len, new_len), movement),
                    None => self.remap(at, old_len, new_len, movement),
                }
            }
            Change::Discard { at, len } => self.discard(at, len),
        }
    }

    fn map(&mut self, placement: Placement, len: u64, protection: Protection) -> Result<Plan, MapError> {
        if !self.permits(protection, false) {
            return Err(MapError::ExecutableRefused);
        }
        let (range, replaced) = self.place(placement, len)?;
        self.check_frames(range.end - range.start, &replaced, protection)?;
        let fresh = Page::fresh(MappingKind::Anonymous, protection);
        let at = GuestVirt(range.start * PAGE);
        Ok(Plan { replaced, ..Plan::at(at, range.map(|index| (index, Some(fresh.clone())))) })
    }

    /// Whether the guest may have this protection for code that it has never been able to change, or for something else.
    pub(super) fn permits(&self, protection: Protection, for_own_code: bool) -> bool {
        let refused = match self.settings.executable_memory {
            ExecutableMemory::Refused => protection.is_executable() && (protection.is_writable() || !for_own_code),
            ExecutableMemory::WriteXorExecute => protection.is_executable() && protection.is_writable(),
            ExecutableMemory::Unrestricted => false,
        };
        !refused
    }

    /// Where a mapping would lie, and what it replaces.
    pub(super) fn place(&self, placement: Placement, len: u64) -> Result<(Range<u64>, Range<u64>), MapError> {
        let range = match placement {
            Placement::Anywhere => self.highest_room(len)?,
            Placement::Low => {
                let len = len.checked_next_multiple_of(PAGE).ok_or(MapError::NoRoom)?;
                if len == 0 {
                    return Err(MapError::InvalidRange);
                }
                self.highest_below((1 << 31) / PAGE, len).ok_or(MapError::NoRoom)?
            }
            Placement::Hint(at) => {
                let hinted = user_range(GuestVirt(at.0 / PAGE * PAGE), len).filter(|range| self.is_vacant(range));
                hinted.map_or_else(|| self.highest_room(len), Ok)?
            }
            Placement::Fixed(at) | Placement::FixedVacant(at) => user_range(at, len).ok_or(MapError::InvalidRange)?,
        };
        let replaced = if matches!(placement, Placement::Fixed(_)) { range.clone() } else { 0..0 };
        if replaced.is_empty() && !self.is_unmapped(&range) {
            return Err(MapError::Occupied);
        }
        Ok((range, replaced))
    }

    pub(super) fn protect(&mut self, at: GuestVirt, len: u64, protection: Protection) -> Result<Plan, MapError> {
        let range = user_range(at, len).ok_or(MapError::InvalidRange)?;
        if !self.is_full(&range) {
            return Err(MapError::NotMapped);
        }
        let may_execute = |page: &Page| match page.kind.file() {
            Some(of) if of.pristine && file::number_of(of.file) == TestFile::Library as u64 => true,
            _ => page.protection.is_executable(),
        };
        if self.pages.range(range.clone()).any(|(_, page)| !self.permits(protection, may_execute(page))) {
            return Err(MapError::ExecutableRefused);
        }
        let may_write = |page: &Page| page.kind.file().is_none_or(|of| of.sharing.may_write());
        if protection.is_writable() && self.pages.range(range.clone()).any(|(_, page)| !may_write(page)) {
            return Err(MapError::WriteRefused);
        }
        let needs_frame = |page: &Page| page.contents.is_none() && mapping(page).has_frames();
        let bare = self.pages.range(range.clone()).filter(|(_, page)| needs_frame(page));
        let fresh = bare.count() as u64;
        self.check_frames(fresh, &(0..0), protection)?;
        let protected = self.pages.range(range).map(|(index, page)| {
            let contents = page.contents.clone().or(Page::fresh(page.kind, protection).contents);
            (*index, Some(Page { protection, contents, kind: page.kind.protected(protection), ..*page }))
        });
        Ok(Plan::at(at, protected))
    }

    fn remap(&mut self, at: GuestVirt, old_len: u64, new_len: u64, movement: Movement) -> Result<Plan, MapError> {
        let old = user_range(at, old_len).ok_or(MapError::InvalidRange)?;
        let whole = new_len.checked_next_multiple_of(PAGE).filter(|len| *len > 0).ok_or(MapError::InvalidRange)?;
        let (new, old_pages) = (whole / PAGE, old.end - old.start);
        let Some(first) = self.mapping_of(&old) else { return Err(MapError::NotMapped) };

        let growth = old.end..old.start.saturating_add(new).max(old.end);
        let can_grow = user_range(at, new_len).is_some() && self.is_vacant(&growth);
        let mut replaced = 0..0;
        let target = match movement {
            Movement::To(to) => {
                let target = user_range(to, new_len).ok_or(MapError::InvalidRange)?;
                if target.start < old.end && old.start < target.end {
                    return Err(MapError::InvalidRange);
                }
                if new > old_pages {
                    Self::check_growth(&first, new)?;
                }
                replaced = target.clone();
                target
            }
            _ if new > old_pages && Self::check_growth(&first, new).is_err() => return Err(MapError::NoRoom),
            _ if new <= old_pages || can_grow => old.start..old.start + new,
            Movement::MayMove => self.highest_room(new_len)?,
            Movement::Stay => return Err(MapError::NoRoom),
        };
        self.check_frames(new.saturating_sub(old_pages), &replaced, first.protection)?;
        let fresh = |nth| Page::fresh(first.skip(nth).kind, first.protection);
        let mut pages: Vec<_> = old.clone().map(|index| (index, None)).collect();
        pages.extend(target.clone().enumerate().map(|(nth, index)| {
            let moved = Some(old.start + nth as u64).filter(|from| old.contains(from));
            (index, Some(moved.map_or_else(|| fresh(nth as u64), |from| self.pages[&from].clone())))
        }));
        Ok(Plan { replaced, ..Plan::at(GuestVirt(target.start * PAGE), pages) })
    }

    /// What is mapped holds zeros, or what the file holds, even where not all is.
    fn discard(&mut self, at: GuestVirt, len: u64) -> Result<Plan, MapError> {
        let range = user_range(at, len).ok_or(MapError::InvalidRange)?;
        if self.pages.range(range.clone()).any(|(_, page)| page.kind == MappingKind::Image || file::is_copy(page.kind))
        {
            return Err(MapError::InvalidRange);
        }
        for (_, page) in self.pages.range_mut(range.clone()) {
            page.contents = page.contents.take().map(|_| Rc::new(file::held(page.kind)));
        }
        if self.is_full(&range) { Ok(Plan::at(at, [])) } else { Err(MapError::NotMapped) }
    }

    /// Whether there are so many frames for pages with this protection, once what is replaced has given back its own. Before it
    /// is unmapped, pages of shared files count among these, which may be seen elsewhere and so keep theirs.
    pub(super) fn check_frames(
        &mut self,
        needed: u64,
        replaced: &Range<u64>,
        protection: Protection,
    ) -> Result<(), MapError> {
        let shown = self.pages.range(replaced.clone()).filter(|(_, page)| page.is_shown).count() as u64;
        let free = self.free_frames() + self.frames_of(replaced.clone()) + shown;
        if protection.is_readable() && needed > free {
            return Err(MapError::OutOfFrames { needed, free });
        }
        let mut rest = self.clone();
        rest.pages.retain(|index, _| !replaced.contains(index));
        rest.forget_unseen();
        let free = rest.free_frames();
        if protection.is_readable() && needed > free {
            self.lost = replaced.clone();
            return Err(MapError::OutOfFrames { needed, free });
        }
        Ok(())
    }

    pub(super) fn highest_room(&self, len: u64) -> Result<Range<u64>, MapError> {
        let len = len.checked_next_multiple_of(PAGE).ok_or(MapError::NoRoom)?;
        if len == 0 {
            return Err(MapError::InvalidRange);
        }
        self.highest_below(GAP, len).or_else(|| self.highest_below(GUARD, len)).ok_or(MapError::NoRoom)
    }

    fn highest_below(&self, mut end: u64, len: u64) -> Option<Range<u64>> {
        let mapped = self.pages.range(USER_START.0 / PAGE..end).rev().map(|(index, _)| *index);
        for below in mapped.chain([USER_START.0 / PAGE - 1]) {
            if end - (below + 1) >= len / PAGE {
                return Some(end - len / PAGE..end);
            }
            end = below;
        }
        None
    }
}

fn mapping(page: &Page) -> Mapping {
    Mapping { kind: page.kind, protection: page.protection }
}

impl Plan {
    pub(super) fn at(at: GuestVirt, pages: impl IntoIterator<Item = (u64, Option<Page>)>) -> Self {
        Self { at, replaced: 0..0, pages: pages.into_iter().collect() }
    }
}
