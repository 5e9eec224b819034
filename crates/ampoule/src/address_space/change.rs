//! Making, removing and moving mappings, and changing their protection.

use std::ops::Range;

use ampoule_vmm::GuestVirt;
use ampoule_vmm::address_map::{USER_END, USER_START};

use crate::page::Page;

use super::mapping::Mapping;
use super::{
    AddressSpace, MAX_MAPPINGS, MapError, MappingKind, Movement, PAGE, PORTION_PAGES, PORTION_RUNS, Placement,
    Protection, coalesce, frames_of, user_pages,
};

impl AddressSpace {
    /// Maps a segment of the image, beside the others and the room of the stack. `initialize` gives it its contents.
    pub(crate) fn map_image(&mut self, at: GuestVirt, len: u64, protection: Protection) -> Result<(), MapError> {
        let range = user_pages(at, len)?;
        if !self.is_vacant(&range) {
            return Err(MapError::Occupied);
        }
        self.map_vacant(range, Mapping { kind: MappingKind::Image, protection })
    }

    /// Maps fresh memory, as `mmap` does. `len` is rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// Every [`MapError`] but `NotMapped`. When the page tables have no room for a [`Placement::Fixed`]
    /// mapping, what was mapped there before is gone.
    pub(crate) fn map_anonymous(
        &mut self,
        len: u64,
        placement: Placement,
        protection: Protection,
    ) -> Result<GuestVirt, MapError> {
        if protection.is_executable() && !self.layout.allow_executable_memory {
            return Err(MapError::ExecutableRefused);
        }
        let range = match placement {
            Placement::Anywhere => self.find_room(len)?,
            Placement::Hint(at) => match user_pages(at.page_start(), len) {
                Ok(range) if self.is_vacant(&range) => range,
                _ => self.find_room(len)?,
            },
            Placement::Fixed(at) => {
                let range = user_pages(at, len)?;
                self.check_replacement(&range, range.end - range.start, protection)?;
                self.unmap_pages(&range)?;
                range
            }
            Placement::FixedVacant(at) => user_pages(at, len)?,
        };
        let at = range.start.address();
        self.map_vacant(range, Mapping { kind: MappingKind::Anonymous, protection })?;
        Ok(at)
    }

    /// Unmaps what is mapped in a range, as `munmap` does.
    ///
    /// # Errors
    ///
    /// `InvalidRange`, and `TooManyMappings` or `TooFragmented` when a hole would split a mapping, or a run of frames, and
    /// so make one too many.
    pub(crate) fn unmap(&mut self, at: GuestVirt, len: u64) -> Result<(), MapError> {
        self.unmap_pages(&user_pages(at, len)?)
    }

    /// Changes what the guest may do with a range, all of which must be mapped, as `mprotect` does.
    ///
    /// # Errors
    ///
    /// Every [`MapError`] but `NoRoom` and `Occupied`.
    pub(crate) fn protect(&mut self, at: GuestVirt, len: u64, protection: Protection) -> Result<(), MapError> {
        let range = user_pages(at, len)?;
        if !self.layout.mappings.covers(&range) {
            return Err(MapError::NotMapped);
        }
        let pieces: Vec<_> = self.layout.mappings.overlapping(&range).collect();
        let gains_execution = pieces.iter().any(|(_, mapping)| !mapping.protection.is_executable());
        if protection.is_executable() && gains_execution && !self.layout.allow_executable_memory {
            return Err(MapError::ExecutableRefused);
        }
        let cuts = [range.start, range.end].iter().filter(|page| self.layout.mappings.is_inside(**page)).count();
        self.check_mapping_count(cuts)?;

        let fresh = if protection.is_readable() { self.take_frames(&range)? } else { Vec::new() };
        if let Err(error) = self.set_entries(&range, protection) {
            if matches!(error, MapError::Interrupted) {
                return Err(error);
            }
            for (pages, mapping) in &pieces {
                match self.set_entries(pages, mapping.protection) {
                    Err(MapError::Interrupted) => return Err(MapError::Interrupted),
                    restored => restored.expect("entries that were there a moment ago still have their tables"),
                }
            }
            self.return_unused_frames(&fresh);
            return Err(error);
        }
        self.layout_mut().mappings.remove(&range);
        for (pages, mapping) in pieces {
            if mapping.protection.narrows_to(protection) {
                self.narrow(&pages);
            }
            self.layout_mut().mappings.insert(pages, Mapping { protection, ..mapping });
        }
        self.revoke_narrowed();
        Ok(())
    }

    /// Changes the size of a range that lies within one mapping, and moves it if it has to, as `mremap` does. Returns where
    /// the range lies afterwards.
    ///
    /// # Errors
    ///
    /// Every [`MapError`] but `ExecutableRefused`; `NotMapped` when the range is not within one mapping. When a move to a
    /// certain address fails, what was mapped there before may be gone.
    pub(crate) fn remap(
        &mut self,
        at: GuestVirt,
        old_len: u64,
        new_len: u64,
        movement: Movement,
    ) -> Result<GuestVirt, MapError> {
        let old = user_pages(at, old_len)?;
        let pages = new_len.checked_next_multiple_of(PAGE).filter(|len| *len > 0).ok_or(MapError::InvalidRange)? / PAGE;
        let Some((whole, mapping)) = self.layout.mappings.get(old.start).filter(|(whole, _)| whole.end >= old.end)
        else {
            return Err(MapError::NotMapped);
        };
        let mapping = *mapping;
        let old_pages = old.end - old.start;

        let target = match movement {
            Movement::To(to) => {
                let target = user_pages(to, new_len)?;
                if target.start < old.end && old.start < target.end {
                    return Err(MapError::InvalidRange);
                }
                self.check_replacement(&target, pages.saturating_sub(old_pages), mapping.protection)?;
                self.unmap_pages(&target)?;
                target
            }
            _ if pages <= old_pages => {
                if pages < old_pages {
                    self.unmap_pages(&(old.start + pages..old.end))?;
                }
                return Ok(at);
            }
            _ => {
                let growth = old.end..Page(old.start.0.saturating_add(pages));
                if whole.end == old.end && growth.end <= Page::of(USER_END) && self.is_vacant(&growth) {
                    self.map_vacant(growth, mapping)?;
                    return Ok(at);
                }
                if movement == Movement::Stay {
                    return Err(MapError::NoRoom);
                }
                self.find_room(new_len)?
            }
        };
        self.move_pages(old, target.clone(), mapping)?;
        Ok(target.start.address())
    }

    /// Makes a range of anonymous memory hold zeros and gives its memory back to the host, as
    /// `madvise(MADV_DONTNEED)` does.
    ///
    /// # Errors
    ///
    /// `InvalidRange`, which pages of the image give too, because their contents could not be restored; `NotMapped`.
    pub(crate) fn discard(&mut self, at: GuestVirt, len: u64) -> Result<(), MapError> {
        let range = user_pages(at, len)?;
        if self.layout.mappings.overlapping(&range).any(|(_, mapping)| mapping.kind == MappingKind::Image) {
            return Err(MapError::InvalidRange);
        }
        let mut rest = range.clone();
        while !rest.is_empty() {
            let portion = self.layout.backing.portion(&rest, PORTION_RUNS, PORTION_PAGES);
            let frames = coalesce(frames_of(self.layout.backing.overlapping(&portion).collect()).collect());
            self.clear_frames(&frames);
            rest.start = portion.end;
            self.check_watch()?;
        }
        if self.layout.mappings.covers(&range) { Ok(()) } else { Err(MapError::NotMapped) }
    }

    /// Whether all of a range is mapped; `None` for a range that is not among the guest's addresses.
    pub(crate) fn is_mapped(&self, at: GuestVirt, len: u64) -> Option<bool> {
        user_pages(at, len).ok().map(|range| self.layout.mappings.covers(&range))
    }

    /// Maps fresh pages where nothing is mapped.
    pub(super) fn map_vacant(&mut self, range: Range<Page>, mapping: Mapping) -> Result<(), MapError> {
        if !self.layout.mappings.is_vacant(&range) {
            return Err(MapError::Occupied);
        }
        self.check_mapping_count(1)?;
        if mapping.protection.is_readable() {
            let fresh = self.take_frames(&range)?;
            if let Err(error) = self.set_entries(&range, mapping.protection) {
                if matches!(error, MapError::Interrupted) {
                    return Err(error);
                }
                self.tables.unmap(range.start.address(), (range.end - range.start) as usize);
                self.return_unused_frames(&fresh);
                return Err(error);
            }
        }
        self.layout_mut().mappings.insert(range, mapping);
        Ok(())
    }

    pub(super) fn unmap_pages(&mut self, range: &Range<Page>) -> Result<(), MapError> {
        if let Some((whole, _)) = self.layout.mappings.get(range.start)
            && whole.start < range.start
            && range.end < whole.end
        {
            self.check_mapping_count(1)?;
        }
        if let Some((whole, _)) = self.layout.backing.get(range.start)
            && whole.start < range.start
            && range.end < whole.end
        {
            self.check_run_count(1)?;
        }
        self.layout_mut().mappings.remove(range);
        self.drop_pages(range)
    }

    /// Moves the pages of `old`, with their frames, to the start of `target`, where nothing is mapped. Pages by which
    /// `target` is longer are fresh; those by which `old` is longer are unmapped.
    fn move_pages(&mut self, old: Range<Page>, target: Range<Page>, mapping: Mapping) -> Result<(), MapError> {
        self.check_mapping_count(2)?;
        self.check_run_count(2)?;
        let moved = (old.end - old.start).min(target.end - target.start);
        let grown = target.start + moved..target.end;
        if mapping.protection.is_readable() {
            self.take_frames(&grown)?;
        }
        let moving: Vec<_> = self.layout.backing.overlapping(&(old.start..old.start + moved)).collect();
        for (pages, frame) in &moving {
            self.layout_mut().backing.insert(moved_by(pages, &old, &target), *frame);
            self.check_watch()?;
        }
        if let Err(error) = self.set_entries(&target, mapping.protection) {
            if matches!(error, MapError::Interrupted) {
                return Err(error);
            }
            self.tables.unmap(target.start.address(), (target.end - target.start) as usize);
            self.return_unused_frames(&[grown]);
            self.layout_mut().backing.remove(&target);
            return Err(error);
        }
        self.layout_mut().backing.remove(&(old.start..old.start + moved));
        self.layout_mut().mappings.remove(&old);
        frames_of(moving).for_each(|run| self.narrowed.add(run));
        self.drop_pages(&old)?;
        self.layout_mut().mappings.insert(target, mapping);
        Ok(())
    }

    /// Records that the hypervisor may still allow more on pages than the guest may do.
    fn narrow(&mut self, pages: &Range<Page>) {
        for (pages, frame) in self.layout.backing.overlapping(pages) {
            self.narrowed.add(frame.0..frame.0 + (pages.end - pages.start));
        }
    }

    /// The highest place below the gap of the stack where `len` bytes are free, or else within the gap.
    fn find_room(&self, len: u64) -> Result<Range<Page>, MapError> {
        let len = len.checked_next_multiple_of(PAGE).ok_or(MapError::NoRoom)?;
        if len == 0 {
            return Err(MapError::InvalidRange);
        }
        let highest = |end| self.layout.mappings.highest_gap(&(Page::of(USER_START)..end), len / PAGE);
        let stack = &self.layout.stack;
        highest(stack.bottom()).or_else(|| highest(stack.guard())).ok_or(MapError::NoRoom)
    }

    /// Whether nothing is mapped in a range, and nothing will be unless the guest asks for it.
    fn is_vacant(&self, range: &Range<Page>) -> bool {
        self.layout.mappings.is_vacant(range) && !self.layout.stack.reserves(range)
    }

    /// Refuses a mapping in place of others, `fresh` pages of which need memory, while the others are still there: for lack
    /// of memory or mappings.
    fn check_replacement(&mut self, range: &Range<Page>, fresh: u64, protection: Protection) -> Result<(), MapError> {
        self.check_mapping_count(2)?;
        if !protection.is_readable() {
            return Ok(());
        }
        let replaced: u64 = self.layout.backing.overlapping(range).map(|(pages, _)| pages.end - pages.start).sum();
        let free = self.layout.frames.free() + replaced;
        if fresh > free {
            return Err(self.out_of_frames(fresh, free));
        }
        Ok(())
    }

    fn check_mapping_count(&self, more: usize) -> Result<(), MapError> {
        if self.layout.mappings.len() + more > MAX_MAPPINGS {
            return Err(MapError::TooManyMappings { limit: MAX_MAPPINGS });
        }
        Ok(())
    }
}

fn moved_by(pages: &Range<Page>, from: &Range<Page>, to: &Range<Page>) -> Range<Page> {
    let start = to.start + (pages.start - from.start);
    start..start + (pages.end - pages.start)
}
