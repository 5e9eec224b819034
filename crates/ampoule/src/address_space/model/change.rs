//! What a change of the mappings should lead to.

use std::ops::Range;
use std::rc::Rc;

use ampoule_vmm::address_map::USER_START;
use ampoule_vmm::{GuestVirt, PAGE_SIZE};

use super::{Change, GAP, GUARD, Model, PAGE, Page, user_range};
use crate::address_space::{MapError, MappingKind, Movement, Placement, Protection};

/// What a change that succeeds does.
struct Plan {
    /// Where the range lies then.
    at: GuestVirt,
    /// What is unmapped first, and stays so where the tables turn out to be too few.
    replaced: Range<u64>,
    /// What becomes of pages.
    pages: Vec<(u64, Option<Page>)>,
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
                self.ran_out |= matches!(found, MapError::OutOfFrames { .. });
            }
            (Ok(plan), Err(found)) => panic!("{found:?} instead of a range at {}", plan.at),
            (Err(expected), Ok(at)) => panic!("a range at {at} instead of {expected:?}"),
        }
    }

    fn plan(&mut self, change: &Change) -> Result<Plan, MapError> {
        match *change {
            Change::Map { placement, len, protection } => self.map(placement, len, protection),
            Change::Unmap { at, len } => {
                let range = user_range(at, len).ok_or(MapError::InvalidRange)?;
                Ok(Plan::at(at, self.mapped_in(range).into_iter().map(|index| (index, None))))
            }
            Change::Protect { at, len, protection } => self.protect(at, len, protection),
            Change::Remap { at, old_len, new_len, movement } => self.remap(at, old_len, new_len, movement),
            Change::Discard { at, len } => self.discard(at, len),
        }
    }

    fn map(&self, placement: Placement, len: u64, protection: Protection) -> Result<Plan, MapError> {
        if protection.is_executable() && !self.settings.allow_executable_memory {
            return Err(MapError::ExecutableRefused);
        }
        let range = match placement {
            Placement::Anywhere => self.highest_room(len)?,
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
        self.check_frames(range.end - range.start, &replaced, protection)?;
        let fresh = Page::fresh(MappingKind::Anonymous, protection);
        let at = GuestVirt(range.start * PAGE);
        Ok(Plan { replaced, ..Plan::at(at, range.map(|index| (index, Some(fresh.clone())))) })
    }

    fn protect(&self, at: GuestVirt, len: u64, protection: Protection) -> Result<Plan, MapError> {
        let range = user_range(at, len).ok_or(MapError::InvalidRange)?;
        if !self.is_full(&range) {
            return Err(MapError::NotMapped);
        }
        let gains_execution = self.pages.range(range.clone()).any(|(_, page)| !page.protection.is_executable());
        if protection.is_executable() && gains_execution && !self.settings.allow_executable_memory {
            return Err(MapError::ExecutableRefused);
        }
        let fresh = range.end - range.start - self.frames_of(range.clone());
        self.check_frames(fresh, &(0..0), protection)?;
        let protected = self.pages.range(range).map(|(index, page)| {
            let contents = page.contents.clone().or(Page::fresh(page.kind, protection).contents);
            (*index, Some(Page { protection, contents, ..*page }))
        });
        Ok(Plan::at(at, protected))
    }

    fn remap(&self, at: GuestVirt, old_len: u64, new_len: u64, movement: Movement) -> Result<Plan, MapError> {
        let old = user_range(at, old_len).ok_or(MapError::InvalidRange)?;
        let whole = new_len.checked_next_multiple_of(PAGE).filter(|len| *len > 0).ok_or(MapError::InvalidRange)?;
        let (new, old_pages) = (whole / PAGE, old.end - old.start);
        let Some(first) = self.pages.get(&old.start).filter(|first| {
            let same = |page: &Page| (page.kind, page.protection) == (first.kind, first.protection);
            self.is_full(&old) && self.pages.range(old.clone()).all(|(_, page)| same(page))
        }) else {
            return Err(MapError::NotMapped);
        };

        let growth = old.end..old.start.saturating_add(new).max(old.end);
        let can_grow = user_range(at, new_len).is_some() && self.is_vacant(&growth);
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
            _ if new <= old_pages || can_grow => old.start..old.start + new,
            Movement::MayMove => self.highest_room(new_len)?,
            Movement::Stay => return Err(MapError::NoRoom),
        };
        self.check_frames(new.saturating_sub(old_pages), &replaced, first.protection)?;
        let fresh = Page::fresh(first.kind, first.protection);
        let mut pages: Vec<_> = old.clone().map(|index| (index, None)).collect();
        pages.extend(target.clone().enumerate().map(|(nth, index)| {
            let moved = Some(old.start + nth as u64).filter(|from| old.contains(from));
            (index, Some(moved.map_or_else(|| fresh.clone(), |from| self.pages[&from].clone())))
        }));
        Ok(Plan { replaced, ..Plan::at(GuestVirt(target.start * PAGE), pages) })
    }

    /// What is mapped holds zeros, even where not all is.
    fn discard(&mut self, at: GuestVirt, len: u64) -> Result<Plan, MapError> {
        let range = user_range(at, len).ok_or(MapError::InvalidRange)?;
        if self.pages.range(range.clone()).any(|(_, page)| page.kind == MappingKind::Image) {
            return Err(MapError::InvalidRange);
        }
        for (_, page) in self.pages.range_mut(range.clone()) {
            page.contents = page.contents.take().map(|_| Rc::new([0; PAGE_SIZE]));
        }
        if self.is_full(&range) { Ok(Plan::at(at, [])) } else { Err(MapError::NotMapped) }
    }

    /// Whether there are so many frames for pages with this protection, once what is replaced has given back its own.
    fn check_frames(&self, needed: u64, replaced: &Range<u64>, protection: Protection) -> Result<(), MapError> {
        let free = self.free_frames() + self.frames_of(replaced.clone());
        if protection.is_readable() && needed > free {
            return Err(MapError::OutOfFrames { needed, free });
        }
        Ok(())
    }

    fn highest_room(&self, len: u64) -> Result<Range<u64>, MapError> {
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

impl Plan {
    fn at(at: GuestVirt, pages: impl IntoIterator<Item = (u64, Option<Page>)>) -> Self {
        Self { at, replaced: 0..0, pages: pages.into_iter().collect() }
    }
}
