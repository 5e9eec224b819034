//! Files that the guest shares: what it stores there becomes the file's, and what is written to the file is seen there.
//!
//! 1. A page of a shared file has one frame, behind all addresses where the guest sees it. So two mappings of a page agree
//!    without anybody's help, and a page that nobody sees any more gives its frame back.
//! 2. A page has its frame from when it is first mapped, whatever the protection is, except where the file has ended or there
//!    was no memory for it when the file grew: there is nothing behind the address then, and the guest gets `SIGBUS`.
//! 3. The frames are newer than the file. Who reads it looks [here](AddressSpace::overlay_shared) too, who writes it
//!    [stores](AddressSpace::store_shared) the same here, and before a frame is given back, what is dirty is written to the
//!    file: that is up to the caller, who has the files.
//! 4. A page is dirty when it has another digest than when it was last the same as the file's. Only those are looked at that
//!    somebody may have written since the last snapshot, which the hypervisor's dirty set says, and for what the host stores on
//!    the guest's behalf [`stored`](SharedFile::stored).

mod contents;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use ampoule_vmm::GuestVirt;
use ampoule_vmm::address_map::USER_END;

use super::frames::FirstFrame;
use super::mapping::Mapping;
use super::range_map::{Piece, RangeMap};
use super::{
    AddressSpace, FileId, FilePages, FrameRange, MapError, MappedFile, MappingKind, Movement, PAGE, Placement,
    Protection, ReadFile, Sharing, Translations, check, coalesce, user_pages,
};
use crate::page::{Frame, Page};

/// Which file it is, as the guest can tell files apart: the number of its mount, and that of its inode.
pub(crate) type FileKey = (u64, u64);

/// Which pages of a file are to be shared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedPart<'a> {
    pub(crate) key: FileKey,
    pub(crate) file: &'a Arc<MappedFile>,
    /// The first of them.
    pub(crate) first: u64,
    /// Whether the guest may store there, now or later.
    pub(crate) may_write: bool,
}

/// The shared files of a layout.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedFiles {
    files: BTreeMap<FileId, SharedFile>,
    by_key: BTreeMap<FileKey, FileId>,
}

#[derive(Clone, Debug)]
struct SharedFile {
    key: FileKey,
    /// How long it is, in bytes.
    len: u64,
    /// The frames behind its pages. Pages are counted from the file's first.
    frames: RangeMap<FirstFrame>,
    /// How many pages of the guest's show each of its own.
    mapped: RangeMap<Count>,
    /// The digest of each page that has a frame, as it was when it was the file's.
    digests: BTreeMap<Page, u64>,
    /// Pages that the host has written since the last snapshot on the guest's behalf.
    stored: BTreeSet<Page>,
}

/// How many, for each page of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count(u32);

impl Piece for Count {
    fn skip(&self, _: u64) -> Self {
        *self
    }

    fn continues_in(&self, _: u64, next: &Self) -> bool {
        self == next
    }
}

impl SharedFiles {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl AddressSpace {
    /// Whether the guest shares any file.
    #[inline]
    pub(crate) fn shares_files(&self) -> bool {
        !self.layout.shared.is_empty()
    }

    /// The shared file with this key.
    pub(crate) fn shared_file(&self, key: FileKey) -> Option<FileId> {
        self.layout.shared.by_key.get(&key).copied()
    }

    /// Whether a file is shared.
    pub(crate) fn is_shared(&self, id: FileId) -> bool {
        self.layout.shared.files.contains_key(&id)
    }

    /// How long a shared file is, as far as its mappings know; zero for one that is not shared.
    pub(crate) fn shared_len(&self, id: FileId) -> u64 {
        self.layout.shared.files.get(&id).map_or(0, |file| file.len)
    }

    /// The pages of a file that the guest can store to at present, perhaps some of them more than once.
    pub(crate) fn writable_shared(&self, id: FileId) -> Vec<Range<u64>> {
        let all = self.layout.mappings.overlapping(&(Page(0)..Page::of(USER_END)));
        let writable = all.filter(|(_, mapping)| mapping.protection.is_writable());
        let pages_of = |(pages, mapping): (Range<Page>, Mapping)| {
            let of = mapping.kind.shared().filter(|of| of.file == id)?;
            Some(of.first..of.first.saturating_add(pages.end - pages.start))
        };
        writable.filter_map(pages_of).collect()
    }

    /// Whether the guest may store in a file through any of its mappings.
    pub(crate) fn may_store_in(&self, id: FileId) -> bool {
        self.layout.shared_mappings(id).any(|(_, of)| of.sharing == Sharing::Coherent { may_write: true })
    }

    /// Maps shared pages of a file, as `mmap` does, and returns where, and the number of the file. `read` reads it.
    ///
    /// # Errors
    ///
    /// As for [`map_anonymous`](Self::map_anonymous); `File` where the file cannot be read.
    pub(crate) fn map_shared(
        &mut self,
        len: u64,
        placement: Placement,
        protection: Protection,
        part: SharedPart<'_>,
        read: ReadFile<'_>,
    ) -> Result<(GuestVirt, FileId), MapError> {
        if !self.permits(protection) {
            return Err(MapError::ExecutableRefused);
        }
        if protection.is_writable() && !part.may_write {
            return Err(MapError::WriteRefused);
        }
        let id = self.share(&part);
        let pages = pages_from(part.first, len.div_ceil(PAGE));
        // What is replaced may be the last mapping of these pages.
        self.see(id, &pages);
        let mapped = self.provide_shared(id, &pages, read).and_then(|()| {
            let range = self.place(len, placement, Protection::None, 0)?;
            let sharing = Sharing::Coherent { may_write: part.may_write };
            let of = FilePages { file: id, first: part.first, pristine: false, sharing };
            self.show_shared(range.clone(), Mapping { kind: MappingKind::File(of), protection })?;
            Ok(range.start.address())
        });
        self.unsee(id, &pages);
        mapped.map(|at| (at, id))
    }

    /// Changes the size of a range that lies within one mapping of a shared file, and moves it if it has to, as `mremap` does.
    /// From a range without a length it makes another mapping of what begins there. Returns where it lies afterwards. What is
    /// dirty in the places that are unmapped has been written to the files.
    ///
    /// # Errors
    ///
    /// As for [`remap`](Self::remap); `File` where the file cannot be read.
    pub(crate) fn remap_shared(
        &mut self,
        at: GuestVirt,
        (old_len, new_len): (u64, u64),
        movement: Movement,
        read: ReadFile<'_>,
    ) -> Result<GuestVirt, MapError> {
        let duplicates = old_len == 0 && movement != Movement::Stay;
        let old = user_pages(at, if duplicates { PAGE } else { old_len })?;
        let count = new_len.checked_next_multiple_of(PAGE).filter(|len| *len > 0).ok_or(MapError::InvalidRange)? / PAGE;
        let whole = self.layout.mappings.get(old.start).filter(|(whole, _)| whole.end >= old.end);
        let (whole, mapping) = whole.map(|(whole, mapping)| (whole, *mapping)).ok_or(MapError::NotMapped)?;
        let mapping = mapping.skip(old.start - whole.start);
        let of = mapping.kind.shared().ok_or(MapError::NotMapped)?;
        let old = old.start..if duplicates { old.start } else { old.end };

        let pages = pages_from(of.first, count);
        self.see(of.file, &pages);
        let moved = self.provide_shared(of.file, &pages, read).and_then(|()| {
            let had = old.end - old.start;
            let target = match movement {
                Movement::To(to) => {
                    let target = user_pages(to, new_len)?;
                    if target.start < old.end && old.start < target.end {
                        return Err(MapError::InvalidRange);
                    }
                    self.check_replacement(&target, 0, Protection::None)?;
                    self.unmap_pages(&target)?;
                    target
                }
                _ if count <= had => {
                    self.unmap_pages(&(old.start + count..old.end))?;
                    return Ok(at);
                }
                _ => {
                    let growth = old.end..Page(old.start.0.saturating_add(count));
                    let has_room = !duplicates && whole.end == old.end && growth.end <= Page::of(USER_END);
                    if has_room && self.is_vacant(&growth) {
                        self.show_shared(growth, mapping.skip(had))?;
                        return Ok(at);
                    }
                    if movement == Movement::Stay {
                        return Err(MapError::NoRoom);
                    }
                    self.find_room(new_len)?
                }
            };
            let to = target.start.address();
            self.show_shared(target, mapping)?;
            self.unmap_pages(&old)?;
            Ok(to)
        });
        self.unsee(of.file, &pages);
        moved
    }

    /// The number of a file that is about to be shared.
    fn share(&mut self, part: &SharedPart<'_>) -> FileId {
        if let Some(id) = self.shared_file(part.key) {
            return id;
        }
        let id = self.new_file_id(part.file);
        let (frames, mapped) = (RangeMap::new(), RangeMap::new());
        let (digests, stored) = Default::default();
        let file = SharedFile { key: part.key, len: part.file.size, frames, mapped, digests, stored };
        let shared = &mut self.layout_mut().shared;
        shared.files.insert(id, file);
        shared.by_key.insert(part.key, id);
        id
    }

    /// Gives frames, with what the file holds, to those of its pages that have none.
    ///
    /// # Errors
    ///
    /// `OutOfFrames`, `File`, `Interrupted`. Pages that were to have a frame have none then.
    fn provide_shared(&mut self, id: FileId, pages: &Range<Page>, read: ReadFile<'_>) -> Result<(), MapError> {
        let Some(file) = self.layout.shared.files.get(&id) else { return Ok(()) };
        let within = pages.start..pages.end.min(Page(file.len.div_ceil(PAGE)));
        let gaps: Vec<_> = file.frames.gaps(&within).collect();
        let needed = gaps.iter().map(|gap| gap.end - gap.start).sum();
        self.make_room(needed)?;
        let free = self.layout.frames.free();
        let watch = self.watch.as_deref();
        let Some(runs) = Arc::make_mut(&mut self.layout).frames.allocate(needed, || check(watch))? else {
            return Err(self.out_of_frames(needed, free));
        };
        let file = self.layout_mut().shared.files.get_mut(&id).expect(SHARED);
        let mut runs = runs.into_iter();
        let mut run = Frame(0)..Frame(0);
        for gap in &gaps {
            let mut at = gap.start;
            while at < gap.end {
                if run.is_empty() {
                    run = runs.next().expect("as many frames were allocated as the gaps have pages");
                }
                let count = (gap.end - at).min(run.end - run.start);
                file.frames.insert(at..at + count, FirstFrame(run.start));
                at += count;
                run.start += count;
            }
        }
        let filled = gaps.iter().try_for_each(|gap| self.fill_shared(id, gap, read));
        if filled.is_err() {
            gaps.iter().for_each(|gap| self.release_shared(id, gap));
        }
        filled
    }

    /// Lets the guest see pages of a shared file where nothing is mapped.
    fn show_shared(&mut self, range: Range<Page>, mapping: Mapping) -> Result<(), MapError> {
        let Some(of) = mapping.kind.shared() else { return Ok(()) };
        self.map_vacant(range.clone(), mapping)?;
        self.see(of.file, &pages_from(of.first, range.end - range.start));
        let shown = self.attach(of, &range).and_then(|()| self.set_entries(&range, mapping.protection));
        match shown {
            Err(MapError::Interrupted) => Err(MapError::Interrupted),
            Err(error) => self.unmap_pages(&range).and(Err(error)),
            Ok(()) => Ok(()),
        }
    }

    /// Puts the frames of a file's pages behind the addresses of a mapping that have none.
    fn attach(&mut self, of: FilePages, range: &Range<Page>) -> Result<(), MapError> {
        let Some(file) = self.layout.shared.files.get(&of.file) else { return Ok(()) };
        let at_page = |page: Page| range.start + (page.0 - of.first);
        let of_file = pages_from(of.first, range.end - range.start);
        let bare: Vec<_> = file
            .frames
            .overlapping(&of_file)
            .flat_map(|(pages, first)| {
                let shown = at_page(pages.start)..at_page(pages.end);
                let bare = self.layout.backing.gaps(&shown).collect::<Vec<_>>();
                bare.into_iter().map(move |gap| (gap.clone(), first.skip(gap.start - shown.start)))
            })
            .collect();
        self.check_run_count(bare.len())?;
        for (pages, first) in bare {
            self.layout_mut().backing.insert(pages, first);
            self.check_watch()?;
        }
        Ok(())
    }

    /// Takes shared pages away from addresses whose mapping is gone already. What is dirty has been written to the file.
    pub(super) fn hide_shared(&mut self, range: &Range<Page>, of: FilePages) {
        self.detach(range);
        self.unsee(of.file, &pages_from(of.first, range.end - range.start));
    }

    /// Counts pages of a file that are seen once more.
    fn see(&mut self, id: FileId, pages: &Range<Page>) {
        if let Some(file) = self.layout_mut().shared.files.get_mut(&id) {
            file.count(pages, true);
        }
    }

    /// Counts pages of a file that are no longer seen in one place, and forgets what is seen in none.
    fn unsee(&mut self, id: FileId, pages: &Range<Page>) {
        let Some(file) = self.layout_mut().shared.files.get_mut(&id) else { return };
        file.count(pages, false);
        let unseen: Vec<_> = file.mapped.gaps(pages).collect();
        unseen.iter().for_each(|pages| self.release_shared(id, pages));
        self.forget_unseen(id);
    }

    /// Leaves nothing behind addresses of shared pages. The frames stay.
    fn detach(&mut self, range: &Range<Page>) {
        self.tables.unmap(range.start.address(), (range.end - range.start) as usize);
        for (pages, first) in self.layout_mut().backing.remove(range) {
            self.narrowed.add(first.0..first.0 + (pages.end - pages.start));
        }
    }

    /// Gives back the frames of pages that nobody sees.
    fn release_shared(&mut self, id: FileId, pages: &Range<Page>) {
        let Some(file) = self.layout_mut().shared.files.get_mut(&id) else { return };
        let mut frames: Vec<FrameRange> = Vec::new();
        for (pages, first) in file.frames.remove(pages) {
            frames.push(first.0..first.0 + (pages.end - pages.start));
        }
        let digests: Vec<_> = file.digests.range(pages.clone()).map(|(page, _)| *page).collect();
        for page in digests {
            file.digests.remove(&page);
        }
        let stored: Vec<_> = file.stored.range(pages.clone()).copied().collect();
        for page in stored {
            file.stored.remove(&page);
        }
        let frames = coalesce(frames);
        if self.clear_frames(&frames) == Translations::Kept {
            frames.iter().for_each(|run| self.narrowed.add(run.clone()));
        }
        frames.into_iter().for_each(|run| self.layout_mut().frames.release(run));
        self.revoke_narrowed();
    }

    /// Forgets a shared file of which nothing is mapped.
    fn forget_unseen(&mut self, id: FileId) {
        let Some(file) = self.layout.shared.files.get(&id).filter(|file| file.mapped.len() == 0) else { return };
        let (key, end) = (file.key, Page(file.len.div_ceil(PAGE)));
        self.release_shared(id, &(Page(0)..end));
        let shared = &mut self.layout_mut().shared;
        shared.files.remove(&id);
        shared.by_key.remove(&key);
    }

    /// Takes note that a shared file is so long now. Addresses behind the end have nothing behind them from then on; those that
    /// the file has grown to get its pages, as far as there is memory. `read` reads it.
    ///
    /// # Errors
    ///
    /// `Interrupted`.
    pub(crate) fn resize_shared(&mut self, id: FileId, len: u64, read: ReadFile<'_>) -> Result<(), MapError> {
        let before = self.shared_len(id);
        if before == len || !self.is_shared(id) {
            return Ok(());
        }
        let (old, new) = (before.div_ceil(PAGE), len.div_ceil(PAGE));
        // What the guest has stored behind the end has never been in the file.
        self.zero_shared(id, before.min(len)..before.min(len).next_multiple_of(PAGE));
        self.layout_mut().shared.files.get_mut(&id).expect(SHARED).len = len;
        if new < old {
            self.cut_shared(id, Page(new))?;
        }
        let file = &self.layout.shared.files[&id];
        let seen: Vec<_> = file.mapped.overlapping(&(Page(old)..Page(new))).map(|(pages, _)| pages).collect();
        for pages in seen {
            let provided = self.provide_shared(id, &pages, read);
            match provided.and_then(|()| self.show_grown(id, &pages)) {
                Err(MapError::Interrupted) => return Err(MapError::Interrupted),
                Err(error) => tracing::debug!(%error, "pages of a shared file that has grown have no memory"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Takes away everything of a file from a page on.
    fn cut_shared(&mut self, id: FileId, end: Page) -> Result<(), MapError> {
        let cut = end..Page(u64::MAX);
        if self.layout.shared.files[&id].frames.is_vacant(&cut) {
            return Ok(());
        }
        let shown: Vec<_> = self.layout.shared_mappings(id).collect();
        for (pages, of) in shown {
            let kept = end.0.saturating_sub(of.first).min(pages.end - pages.start);
            if pages.start + kept < pages.end {
                self.detach(&(pages.start + kept..pages.end));
            }
            self.check_watch()?;
        }
        self.release_shared(id, &cut);
        Ok(())
    }

    /// Lets the guest see pages that a file has grown by, wherever they are mapped.
    fn show_grown(&mut self, id: FileId, grown: &Range<Page>) -> Result<(), MapError> {
        let shown: Vec<_> = self.layout.shared_mappings(id).collect();
        for (pages, of) in shown {
            let start = grown.start.0.saturating_sub(of.first).min(pages.end - pages.start);
            let end = grown.end.0.saturating_sub(of.first).min(pages.end - pages.start);
            let part = pages.start + start..pages.start + end;
            if part.is_empty() {
                continue;
            }
            self.attach(FilePages { first: of.first + start, ..of }, &part)?;
            let parts: Vec<_> = self.layout.mappings.overlapping(&part).collect();
            for (pages, mapping) in parts {
                self.set_entries(&pages, mapping.protection)?;
            }
        }
        Ok(())
    }
}

impl SharedFile {
    /// Counts pages that the guest sees, or no longer sees, once more.
    fn count(&mut self, pages: &Range<Page>, more: bool) {
        let gaps: Vec<_> = self.mapped.gaps(pages).collect();
        let seen = self.mapped.remove(pages);
        for (pages, Count(count)) in seen {
            let count = if more { count + 1 } else { count - 1 };
            if count > 0 {
                self.mapped.insert(pages, Count(count));
            }
        }
        if more {
            gaps.into_iter().for_each(|gap| self.mapped.insert(gap, Count(1)));
        }
    }
}

impl super::Layout {
    /// Where a shared file is mapped, and which pages of it.
    fn shared_mappings(&self, id: FileId) -> impl Iterator<Item = (Range<Page>, FilePages)> {
        let all = self.mappings.overlapping(&(Page(0)..Page::of(USER_END)));
        all.filter_map(move |(pages, mapping)| Some((pages, mapping.kind.shared().filter(|of| of.file == id)?)))
    }
}

/// So many pages of a file.
fn pages_from(first: u64, count: u64) -> Range<Page> {
    Page(first)..Page(first.saturating_add(count))
}

const SHARED: &str = "a file stays shared while it is being changed";
