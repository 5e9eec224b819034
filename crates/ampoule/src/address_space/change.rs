//! Making, removing and moving mappings, and changing their protection.

use std::ops::Range;
use std::slice;

use ampoule_vmm::GuestVirt;
use ampoule_vmm::address_map::{USER_END, USER_START};

use crate::page::Page;

use super::mapping::Mapping;
use super::range_map::Piece;
use super::{
    AddressSpace, FileId, FilePages, FilePart, MAX_MAPPINGS, MapError, MappedFile, MappingKind, Movement, PAGE,
    PORTION_PAGES, PORTION_RUNS, Placement, Protection, ReadFile, Sharing, coalesce, frames_of, user_pages,
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

    /// Maps pages for the library of the host's, below the stack, and returns where.
    ///
    /// # Errors
    ///
    /// As for [`map_image`](Self::map_image).
    pub(crate) fn map_vdso(&mut self, len: u64) -> Result<GuestVirt, MapError> {
        let range = self.find_room(len)?;
        let at = range.start.address();
        self.map_vacant(range, Mapping { kind: MappingKind::Vdso, protection: Protection::ReadExecute })?;
        Ok(at)
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
        if !self.permits(protection) {
            return Err(MapError::ExecutableRefused);
        }
        let range = self.place(len, placement, protection, u64::MAX)?;
        let at = range.start.address();
        self.map_vacant(range, Mapping { kind: MappingKind::Anonymous, protection })?;
        Ok(at)
    }

    /// Maps pages of a file, from its page `first` on, as `mmap` does: copies of the guest's own once it writes them. `read`
    /// reads what is not frozen. Pages behind the end of the file are there and cannot be accessed. Returns where, and the
    /// number of the file.
    ///
    /// # Errors
    ///
    /// As for [`map_anonymous`](Self::map_anonymous); `File` where the file's pages cannot be had.
    pub(crate) fn map_file(
        &mut self,
        len: u64,
        placement: Placement,
        protection: Protection,
        FilePart { file, first, is_shared, key }: FilePart<'_>,
        read: ReadFile<'_>,
    ) -> Result<(GuestVirt, FileId), MapError> {
        if !protection.is_permitted(self.layout.executable_memory, file.executable) {
            return Err(MapError::ExecutableRefused);
        }
        if is_shared && protection.is_writable() {
            return Err(MapError::WriteRefused);
        }
        // What could be executed is never filled with what the guest may have written in between.
        let id = match key.filter(|_| !file.is_kept() && !file.executable) {
            Some(key) => self.copied_id(key, file),
            None => self.file_id(file),
        };
        let mapped = self.map_pages(len, (placement, protection), (id, file, first, is_shared), read);
        self.forget_copied(id);
        mapped.map(|at| (at, id))
    }

    /// Maps pages of a file that has a number.
    fn map_pages(
        &mut self,
        len: u64,
        (placement, protection): (Placement, Protection),
        (id, file, first, is_shared): (FileId, &MappedFile, u64, bool),
        read: ReadFile<'_>,
    ) -> Result<GuestVirt, MapError> {
        let sharing = if is_shared { Sharing::ReadOnly } else { Sharing::Private };
        let pages = FilePages { file: id, first, pristine: true, sharing };
        if let Placement::Fixed(at) = placement
            && self.shows_already(at, len, pages)
        {
            return self.protect(at, len, protection).map(|()| at);
        }
        let held = file.pages().saturating_sub(first);
        let in_frames = if file.is_kept() { protection } else { Protection::Read };
        let with_frames = if file.paged.is_some() { 0 } else { held };
        let range = self.place(len, placement, in_frames, with_frames)?;
        let at = range.start.address();
        if !self.layout.mappings.is_vacant(&range) {
            return Err(MapError::Occupied);
        }
        self.check_mapping_count(2)?;
        let end = range.start + held.min(range.end - range.start);
        let (filled, behind) = (range.start..end, end..range.end);
        if !filled.is_empty() {
            let mapping = Mapping { kind: MappingKind::File(pages).protected(protection), protection };
            match file.is_kept() {
                true => self.map_vacant(filled.clone(), mapping)?,
                false => self.map_copy(&filled, mapping, first * PAGE, read)?,
            }
        }
        if !behind.is_empty() {
            let kind = MappingKind::BehindFile(FilePages { first: first + (behind.start - range.start), ..pages });
            self.map_vacant(behind, Mapping { kind, protection })?;
        }
        Ok(at)
    }

    /// Maps pages that hold what `read` gives. They have it even where the guest cannot read it yet.
    fn map_copy(
        &mut self,
        range: &Range<Page>,
        mapping: Mapping,
        offset: u64,
        read: ReadFile<'_>,
    ) -> Result<(), MapError> {
        self.map_vacant(range.clone(), Mapping { protection: Protection::Read, ..mapping })?;
        let copied = self.fill_by(range, offset, read).and_then(|()| match mapping.protection {
            Protection::Read => Ok(()),
            protection => self.protect_pages(range, protection),
        });
        match copied {
            Err(MapError::Interrupted) => Err(MapError::Interrupted),
            Err(error) => self.unmap_pages(range).and(Err(error)),
            Ok(()) => Ok(()),
        }
    }

    /// Whether these very pages of a file are mapped there, and the guest has never been able to write them.
    fn shows_already(&self, at: GuestVirt, len: u64, pages: FilePages) -> bool {
        let Ok(range) = user_pages(at, len) else { return false };
        self.layout.mappings.get(range.start).is_some_and(|(whole, mapping)| {
            let here = mapping.skip(range.start - whole.start);
            range.end <= whole.end && here.kind == MappingKind::File(pages)
        })
    }

    /// Finds or makes room for a mapping, of which at most the first `held` pages have frames.
    pub(super) fn place(
        &mut self,
        len: u64,
        placement: Placement,
        protection: Protection,
        held: u64,
    ) -> Result<Range<Page>, MapError> {
        match placement {
            Placement::Anywhere => self.find_room(len),
            Placement::Low => self.find_room_below(Page::of(LOW_END), len),
            Placement::Hint(at) => match user_pages(at.page_start(), len) {
                Ok(range) if self.is_vacant(&range) => Ok(range),
                _ => self.find_room(len),
            },
            Placement::Fixed(at) => {
                let range = user_pages(at, len)?;
                self.check_replacement(&range, held.min(range.end - range.start), protection)?;
                self.unmap_pages(&range)?;
                Ok(range)
            }
            Placement::FixedVacant(at) => user_pages(at, len),
        }
    }

    /// Where a new mapping of so many bytes would lie.
    ///
    /// # Errors
    ///
    /// `NoRoom`, `InvalidRange`.
    pub(crate) fn room_for(&self, len: u64) -> Result<GuestVirt, MapError> {
        self.find_room(len).map(|range| range.start.address())
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
        let may_execute = |mapping: &Mapping| {
            let of_file = |of: FilePages| of.pristine && self.mapped_file(of.file).is_some_and(|file| file.executable);
            mapping.protection.is_executable() || mapping.kind.file().is_some_and(of_file)
        };
        if protection.is_executable() {
            let executable_memory = self.layout.executable_memory;
            let mut pieces = self.layout.mappings.overlapping(&range);
            if pieces.any(|(_, mapping)| !protection.is_permitted(executable_memory, may_execute(&mapping))) {
                return Err(MapError::ExecutableRefused);
            }
        }
        if protection.is_writable() {
            let mut pieces = self.layout.mappings.overlapping(&range);
            if pieces.any(|(_, mapping)| mapping.kind.file().is_some_and(|of| !of.sharing.may_write())) {
                return Err(MapError::WriteRefused);
            }
        }
        self.protect_pages(&range, protection)
    }

    /// Changes what the guest may do with pages, all of which are mapped, whether or not it may ask for that.
    fn protect_pages(&mut self, range: &Range<Page>, protection: Protection) -> Result<(), MapError> {
        let pieces: Vec<_> = self.layout.mappings.overlapping(range).collect();
        let cuts = [range.start, range.end].iter().filter(|page| self.layout.mappings.is_inside(**page)).count();
        self.check_mapping_count(cuts)?;

        let fresh = match protection.is_readable() {
            true => {
                let with_frames = pieces.iter().filter(|(_, mapping)| mapping.has_frames() && !self.is_paged(mapping));
                self.take_frames(&with_frames.map(|(pages, _)| pages.clone()).collect::<Vec<_>>())?
            }
            false => Vec::new(),
        };
        let filled = pieces.iter().try_for_each(|(pages, mapping)| self.fill_fresh(&fresh, pages, mapping));
        if let Err(error) = filled.and_then(|()| self.set_entries(range, protection)) {
            if matches!(error, MapError::Interrupted) {
                return Err(error);
            }
            for (pages, mapping) in &pieces {
                match self.set_entries(pages, mapping.protection) {
                    Err(MapError::Interrupted) => return Err(MapError::Interrupted),
                    restored => restored.expect("entries that were there a moment ago still have their tables"),
                }
            }
            self.return_frames(&fresh);
            return Err(error);
        }
        self.layout_mut().mappings.remove(range);
        for (pages, mapping) in pieces {
            if mapping.protection.narrows_to(protection) {
                self.narrow(&pages);
            }
            self.layout_mut().mappings.insert(pages, Mapping { kind: mapping.kind.protected(protection), protection });
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
        self.remap_within(at, (old_len, new_len), movement, 0)
    }

    /// The same of a range that may be of copies of a file, which has `held` pages by now. What new pages hold is up to the
    /// caller, who [makes the copies](Self::copy_again).
    ///
    /// # Errors
    ///
    /// As for [`remap`](Self::remap).
    pub(crate) fn remap_within(
        &mut self,
        at: GuestVirt,
        (old_len, new_len): (u64, u64),
        movement: Movement,
        held: u64,
    ) -> Result<GuestVirt, MapError> {
        let old = user_pages(at, old_len)?;
        let pages = new_len.checked_next_multiple_of(PAGE).filter(|len| *len > 0).ok_or(MapError::InvalidRange)? / PAGE;
        let Some((whole, mapping)) = self.layout.mappings.get(old.start).filter(|(whole, _)| whole.end >= old.end)
        else {
            return Err(MapError::NotMapped);
        };
        let mapping = mapping.skip(old.start - whole.start);
        let old_pages = old.end - old.start;

        let target = match movement {
            Movement::To(to) => {
                let target = user_pages(to, new_len)?;
                if target.start < old.end && old.start < target.end {
                    return Err(MapError::InvalidRange);
                }
                if pages > old_pages {
                    self.check_growth(&mapping, pages, held)?;
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
                self.check_growth(&mapping, pages, held)?;
                let growth = old.end..Page(old.start.0.saturating_add(pages));
                if whole.end == old.end && growth.end <= Page::of(USER_END) && self.is_vacant(&growth) {
                    self.map_vacant(growth, mapping.skip(old_pages))?;
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

    /// Makes a range of anonymous memory hold zeros and gives its memory back to the host, and pages of files that are kept what
    /// the file holds, as `madvise(MADV_DONTNEED)` does. [Copies](Self::copied_at) hold zeros until they are
    /// [made again](Self::copy_again).
    ///
    /// # Errors
    ///
    /// `InvalidRange`, which pages of the image and of unknown files give too, because their contents could not be restored;
    /// `NotMapped`; `File` where the file's pages cannot be had.
    pub(crate) fn discard(&mut self, at: GuestVirt, len: u64) -> Result<(), MapError> {
        let range = user_pages(at, len)?;
        let is_lost = |mapping: Mapping| match mapping.kind {
            MappingKind::Image => true,
            MappingKind::File(_) if mapping.kind.shared().is_some() => false,
            MappingKind::File(of) if self.is_copied(of.file) => false,
            MappingKind::File(of) => self.mapped_file(of.file).is_none_or(|file| !file.is_kept()),
            _ => false,
        };
        if self.layout.mappings.overlapping(&range).any(|(_, mapping)| is_lost(mapping)) {
            return Err(MapError::InvalidRange);
        }
        let mut rest = range.clone();
        while !rest.is_empty() {
            let portion = self.layout.backing.portion(&rest, PORTION_RUNS, PORTION_PAGES);
            let mut cleared = Vec::new();
            let of_files: Vec<_> = self.layout.mappings.overlapping(&portion).collect();
            for (pages, mapping) in of_files {
                match mapping.kind {
                    // What was stored there is the file's.
                    MappingKind::File(_) if mapping.kind.shared().is_some() => {}
                    MappingKind::File(_) if self.is_paged(&mapping) => self.drop_pages(&pages)?,
                    MappingKind::File(of) if !self.is_copied(of.file) => self.fill_from_file(&pages, &mapping)?,
                    _ => cleared.extend(frames_of(self.layout.backing.overlapping(&pages).collect())),
                }
            }
            self.clear_frames(&coalesce(cleared));
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
        if mapping.protection.is_readable() && mapping.has_frames() && !self.is_paged(&mapping) {
            let fresh = self.take_frames(slice::from_ref(&range))?;
            let filled = self.fill_from_file(&range, &mapping);
            if let Err(error) = filled.and_then(|()| self.set_entries(&range, mapping.protection)) {
                if matches!(error, MapError::Interrupted) {
                    return Err(error);
                }
                self.tables.unmap(range.start.address(), (range.end - range.start) as usize);
                self.return_frames(&fresh);
                return Err(error);
            }
        }
        self.count_copied(mapping.kind, range.end - range.start, true);
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
        for (pages, mapping) in self.layout_mut().mappings.remove(range) {
            if let Some(of) = mapping.kind.shared() {
                self.hide_shared(&pages, of);
            }
            self.count_copied(mapping.kind, pages.end - pages.start, false);
        }
        self.drop_pages(range)
    }

    /// Moves the pages of `old`, with their frames, to the start of `target`, where nothing is mapped. Pages by which
    /// `target` is longer are fresh; those by which `old` is longer are unmapped.
    fn move_pages(&mut self, old: Range<Page>, target: Range<Page>, mapping: Mapping) -> Result<(), MapError> {
        self.check_mapping_count(2)?;
        self.check_run_count(2)?;
        let moved = (old.end - old.start).min(target.end - target.start);
        let grown = target.start + moved..target.end;
        if mapping.protection.is_readable() && mapping.has_frames() && !self.is_paged(&mapping) {
            self.take_frames(slice::from_ref(&grown))?;
            if let Err(error) = self.fill_from_file(&grown, &mapping.skip(moved)) {
                self.return_frames(&[grown]);
                return Err(error);
            }
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
            self.return_frames(&[grown]);
            self.layout_mut().backing.remove(&target);
            return Err(error);
        }
        self.layout_mut().backing.remove(&(old.start..old.start + moved));
        self.count_copied(mapping.kind, target.end - target.start, true);
        self.count_copied(mapping.kind, old.end - old.start, false);
        self.layout_mut().mappings.remove(&old);
        frames_of(moving).for_each(|run| self.narrowed.add(run));
        self.drop_pages(&old)?;
        self.layout_mut().mappings.insert(target, mapping);
        Ok(())
    }

    /// Fills those of the pages of a mapping that have just got a frame.
    fn fill_fresh(&mut self, fresh: &[Range<Page>], pages: &Range<Page>, mapping: &Mapping) -> Result<(), MapError> {
        for gap in fresh {
            let part = gap.start.max(pages.start)..gap.end.min(pages.end);
            if !part.is_empty() {
                self.fill_from_file(&part, &mapping.skip(part.start - pages.start))?;
            }
        }
        Ok(())
    }

    /// Refuses to let a mapping grow to more pages than its file has, or where the file cannot be read any more. One that is
    /// copied has so many by now; copies that cannot be read have no frames that could be filled.
    fn check_growth(&self, mapping: &Mapping, pages: u64, copied: u64) -> Result<(), MapError> {
        let Some(of) = mapping.kind.file() else { return Ok(()) };
        let held = match self.mapped_file(of.file) {
            Some(file) if file.is_kept() => file.pages(),
            Some(_) if self.is_copied(of.file) && mapping.protection.is_readable() => copied,
            _ => 0,
        };
        if of.first.saturating_add(pages) > held { Err(MapError::NoRoom) } else { Ok(()) }
    }

    /// Records that the hypervisor may still allow more on pages than the guest may do.
    pub(super) fn narrow(&mut self, pages: &Range<Page>) {
        for (pages, frame) in self.layout.backing.overlapping(pages) {
            self.narrowed.add(frame.0..frame.0 + (pages.end - pages.start));
        }
    }

    /// The highest place below the gap of the stack where `len` bytes are free, or else within the gap.
    pub(super) fn find_room(&self, len: u64) -> Result<Range<Page>, MapError> {
        let stack = &self.layout.stack;
        self.find_room_below(stack.bottom(), len).or_else(|_| self.find_room_below(stack.guard(), len))
    }

    /// The highest place below a page where `len` bytes are free.
    fn find_room_below(&self, end: Page, len: u64) -> Result<Range<Page>, MapError> {
        let len = len.checked_next_multiple_of(PAGE).ok_or(MapError::NoRoom)?;
        if len == 0 {
            return Err(MapError::InvalidRange);
        }
        self.layout.mappings.highest_gap(&(Page::of(USER_START)..end), len / PAGE).ok_or(MapError::NoRoom)
    }

    /// Whether nothing is mapped in a range, and nothing will be unless the guest asks for it.
    pub(super) fn is_vacant(&self, range: &Range<Page>) -> bool {
        self.layout.mappings.is_vacant(range) && !self.layout.stack.reserves(range)
    }

    /// Refuses a mapping in place of others, `fresh` pages of which need memory, while the others are still there: for lack
    /// of memory or mappings.
    pub(super) fn check_replacement(
        &mut self,
        range: &Range<Page>,
        fresh: u64,
        protection: Protection,
    ) -> Result<(), MapError> {
        self.check_mapping_count(2)?;
        if !protection.is_readable() {
            return Ok(());
        }
        let free = |space: &Self| {
            let replaced = space.layout.backing.overlapping(range).map(|(pages, _)| pages.end - pages.start);
            space.layout.frames.free() + replaced.sum::<u64>()
        };
        if fresh > free(self) {
            self.evict(fresh - free(self))?;
        }
        if fresh > free(self) {
            return Err(self.out_of_frames(fresh, free(self)));
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

/// The end of what `MAP_32BIT` asks for (Linux's `arch/x86/kernel/sys_x86_64.c`).
const LOW_END: GuestVirt = GuestVirt(1 << 31);

fn moved_by(pages: &Range<Page>, from: &Range<Page>, to: &Range<Page>) -> Range<Page> {
    let start = to.start + (pages.start - from.start);
    start..start + (pages.end - pages.start)
}
