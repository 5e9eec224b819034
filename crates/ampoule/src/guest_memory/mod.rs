//! The memory that a guest can write, and the way back to what it once held.
//!
//! One region, and one memory slot, holds the mailbox and, behind it, the frames of the guest's own pages. The hypervisor
//! tracks which pages the guest writes, the region which ones the host writes, so that a restore costs what was written:
//!
//! 1. A page that is in neither dirty set holds what [`current`](GuestMemory::current) says.
//! 2. The hypervisor's dirty set only grows between snapshots. A page is write-faulted once in the life of a virtual
//!    machine, and written back at every restore from then on: copying a page costs a quarter of a microsecond at most, its
//!    next fault at least ten times as much.
//! 3. The set has a bound. From [`LARGE_SET`] pages on, those that did not change in [`WINDOW`] restores in a row are
//!    forgotten, and their memory is given back to the host where it can be; unless that has been in vain before.
//! 4. A page may have memory before it is written ([`populate_ahead`](GuestMemory::populate_ahead)). It is not dirty then.
//! 5. A restore to contents that share little with the present ones maps them afresh instead of copying ([`REMAP_FROM`]).
//! 6. Pages of the host's files are shown, not copied, where they are many ([`show_file`](GuestMemory::show_file)). From then
//!    on they are what `current` says. Zeros take their place in the same way.

mod ahead;
mod paging;
mod quiet;
mod shared;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use ampoule_vmm::{
    Contents, GuestPhys, HypervisorError, OutOfRegion, PAGE_SIZE, PageSet, RevokeError, TrackedRegion, WrittenPages,
};
use thiserror::Error;

use crate::page::Frame;

use ahead::runs;
use quiet::QuietPages;

pub(crate) use shared::{SharedArea, SharedMemory};

/// A guest's memory: the host's part first, then the frames.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    region: Arc<TrackedRegion>,
    /// Where the guest's processor sees the first byte.
    base: GuestPhys,
    /// Pages before the first frame.
    reserved: usize,
    /// What the pages hold that are in neither dirty set.
    current: Arc<Contents>,
    /// What the region shows where nothing has been written.
    shown: Arc<Contents>,
    /// Whether it does: false after an error, until the region has been made to show something again.
    is_shown: bool,
    /// The hypervisor's dirty set: pages that the guest has written since `shown` was shown, or since they were forgotten.
    guest_written: PageSet,
    /// The host's dirty set: pages that the host has written since the last restore or snapshot, except those that are still
    /// in the region's own set.
    host_written: PageSet,
    /// Pages that have memory of their own, as far as is known.
    owned: PageSet,
    quiet: QuietPages,
    /// How many pages the last restore has written back.
    last_restored: usize,
}

/// What a restore has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Pages that were written back.
    pub(crate) pages: usize,
}

/// Why memory could not be saved or restored.
#[derive(Debug, Error)]
pub(crate) enum MemoryError {
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    #[error(transparent)]
    Host(#[from] io::Error),
}

impl GuestMemory {
    /// Memory in a region that shows `contents` and has not been written; otherwise like [`new`](Self::new).
    pub(crate) fn of_contents(
        region: Arc<TrackedRegion>,
        base: GuestPhys,
        reserved: usize,
        contents: &Arc<Contents>,
    ) -> Self {
        let (current, shown) = (Arc::clone(contents), Arc::clone(contents));
        Self { current, shown, ..Self::new(region, base, reserved) }
    }

    /// A region whose first `reserved` pages are the host's, and all others frames; the guest's processor sees it from
    /// `base` on. It has not been written yet.
    pub(crate) fn new(region: Arc<TrackedRegion>, base: GuestPhys, reserved: usize) -> Self {
        let pages = region.len() / PAGE_SIZE;
        let zero = Contents::zero(pages);
        Self {
            base,
            reserved,
            current: Arc::clone(&zero),
            shown: zero,
            is_shown: true,
            guest_written: PageSet::new(pages),
            host_written: PageSet::new(pages),
            owned: PageSet::new(pages),
            quiet: QuietPages::default(),
            last_restored: 0,
            region,
        }
    }

    /// What the pages hold that have not been written.
    pub(crate) fn contents(&self) -> &Arc<Contents> {
        &self.current
    }

    /// The whole region.
    pub(crate) fn region(&self) -> &Arc<TrackedRegion> {
        &self.region
    }

    /// How many pages there are, the host's included.
    pub(crate) fn pages(&self) -> usize {
        self.region.len() / PAGE_SIZE
    }

    /// How many frames there are.
    pub(crate) fn frames(&self) -> u64 {
        (self.pages() - self.reserved) as u64
    }

    /// Where the guest's processor sees a frame.
    pub(crate) fn frame_phys(&self, frame: Frame) -> GuestPhys {
        GuestPhys(self.base.0 + self.frame_offset(frame) as u64)
    }

    /// Where a frame lies in the region, in bytes.
    pub(crate) fn frame_offset(&self, frame: Frame) -> usize {
        (self.reserved + frame.0 as usize) * PAGE_SIZE
    }

    fn pages_of(&self, frames: &Range<Frame>) -> Range<usize> {
        self.reserved + frames.start.0 as usize..self.reserved + frames.end.0 as usize
    }

    /// Writes into the region.
    ///
    /// # Errors
    ///
    /// Where that is not within the region.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRegion> {
        self.region.write(offset, bytes)
    }

    /// Zeroes bytes that belong to no frame. Their memory goes back to the host where it can. The hypervisor's translations
    /// of them may stay: what the guest may do there does not change.
    ///
    /// # Errors
    ///
    /// Where that is not within the region.
    pub(crate) fn clear_reserved(&mut self, bytes: &Range<usize>) -> Result<(), OutOfRegion> {
        match self.region.discard(bytes.start, bytes.len(), &self.current) {
            Err(RevokeError::OutOfRegion(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Zeroes frames, and makes the hypervisor forget its translations of them. Their memory goes back to the host where it
    /// can.
    ///
    /// # Errors
    ///
    /// A [`RevokeError`] when translations may be left; the frames hold zeros even then.
    pub(crate) fn clear_frames(&mut self, frames: &Range<Frame>) -> Result<(), RevokeError> {
        let pages = self.pages_of(frames);
        self.hide_files(&pages);
        self.region.discard(pages.start * PAGE_SIZE, pages.len() * PAGE_SIZE, &self.current)
    }

    /// Makes frames from `first` on show pages of a file of the host's, copy-on-write. What they held is gone, as are the
    /// hypervisor's translations of them.
    ///
    /// # Errors
    ///
    /// What the host says where it has no memory or mapping for it. What the frames hold is unspecified then.
    pub(crate) fn show_file(&mut self, first: Frame, file: &Contents) -> io::Result<()> {
        self.show_at(self.reserved + first.0 as usize, file)
    }

    /// How many runs of pages are those of files of the host's. For each there is a mapping, of which a process may have a
    /// limited number.
    pub(crate) fn file_runs(&self) -> usize {
        self.current.file_pages(0..self.pages()).count()
    }

    /// Makes pages from `first` on show `part`, which is what they hold from now on.
    fn show_at(&mut self, first: usize, part: &Contents) -> io::Result<()> {
        self.collect_host_writes();
        let pages = first..first + part.pages();
        if let Err(error) = self.region.show_at(first, part) {
            self.is_shown = false;
            pages.for_each(|page| self.host_written.insert(page));
            return Err(error);
        }
        self.current = self.current.with(first, part);
        self.shown = self.shown.with(first, part);
        for page in pages {
            self.host_written.remove(page);
            self.owned.remove(page);
        }
        Ok(())
    }

    /// Puts zeros in the place of pages of files, where that can be done.
    fn hide_files(&mut self, pages: &Range<usize>) {
        for run in self.current.file_pages(pages.clone()).collect::<Vec<_>>() {
            if let Err(error) = self.show_at(run.start, &Contents::zero(run.len())) {
                tracing::debug!(%error, "pages of a file that are no longer needed are written instead of unmapped");
            }
        }
    }

    /// Zeroes frames. The hypervisor's translations of them stay, and so does their memory.
    pub(crate) fn zero_frames(&mut self, frames: &Range<Frame>) {
        self.region.zero_pages(self.pages_of(frames), &self.current);
    }

    /// Makes the hypervisor forget its translations of frames.
    pub(crate) fn revoke_frames(&self, frames: &Range<Frame>) -> Result<(), RevokeError> {
        self.region.revoke(self.frame_offset(frames.start), (frames.end - frames.start) as usize * PAGE_SIZE)
    }

    /// Makes memory that has not been written yet hold and show `contents`.
    ///
    /// # Errors
    ///
    /// What the host says where it has no memory or mapping for that.
    pub(crate) fn show(&mut self, contents: &Arc<Contents>) -> io::Result<()> {
        self.is_shown = false;
        self.region.show(contents)?;
        self.is_shown = true;
        (self.current, self.shown) = (Arc::clone(contents), Arc::clone(contents));
        Ok(())
    }

    /// What the memory holds now. The memory is that of `guest`, which is not running. The bytes `zero`, which are whole
    /// pages, are known to be zero, both now and at the snapshot before.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`]; nothing has changed then.
    pub(crate) fn snapshot(
        &mut self,
        guest: &mut dyn WrittenPages,
        zero: Range<usize>,
    ) -> Result<Arc<Contents>, MemoryError> {
        guest.collect_written(&mut self.guest_written)?;
        self.collect_host_writes();
        self.region.wipe_host_only();
        let changed = self.guest_written.union(&self.host_written);
        let changed = changed.filter(|page| !zero.contains(&(page * PAGE_SIZE)));
        self.current = self.region.freeze(&self.current, changed)?;
        self.host_written.clear();
        // What a guest writes while it prepares itself is not what it writes in calls.
        guest.forget_written(&self.guest_written)?;
        self.owned.insert_all(&self.guest_written);
        self.guest_written.clear();
        self.quiet.forget();
        Ok(Arc::clone(&self.current))
    }

    /// Makes the memory hold `target` again, whatever was written. It is that of `guest`, which is not running.
    ///
    /// # Errors
    ///
    /// A [`MemoryError`]; what the memory holds is unspecified then.
    pub(crate) fn restore(
        &mut self,
        guest: &mut dyn WrittenPages,
        target: &Arc<Contents>,
    ) -> Result<Restored, MemoryError> {
        guest.collect_written(&mut self.guest_written)?;
        self.collect_host_writes();
        self.region.wipe_host_only();
        if !self.is_shown {
            return self.remap(guest, target);
        }
        if !Arc::ptr_eq(&self.current, target) {
            let mut differing = PageSet::new(self.guest_written.capacity());
            self.current.differences(target, &mut differing);
            if differing.len() >= REMAP_FROM {
                return self.remap(guest, target);
            }
            self.swap_files(target, &mut differing)?;
            self.host_written.insert_all(&differing);
            self.owned.insert_all(&differing);
            self.current = Arc::clone(target);
        }
        self.quiet.observe_returns(&self.region, target, &self.guest_written);
        if self.last_restored >= LARGE_SET {
            self.quiet.observe(&self.region, target, &self.guest_written);
        }
        let pages = self.region.write_back(target, self.guest_written.union(&self.host_written));
        self.last_restored = pages;
        self.host_written.clear();
        if let Err(error) = self.release_quiet(guest) {
            // The memory is what it should be, and the pages stay in the dirty set.
            tracing::debug!(%error, "pages that are no longer written are written back all the same");
        }
        Ok(Restored { pages })
    }

    /// Collects what the guest has written. The memory is that of `guest`, which is not running.
    ///
    /// # Errors
    ///
    /// What the hypervisor reports.
    pub(crate) fn collect_written(&mut self, guest: &mut dyn WrittenPages) -> Result<(), HypervisorError> {
        guest.collect_written(&mut self.guest_written)
    }

    /// Whether the guest may have written a frame since the last snapshot, as far as that has been
    /// [collected](Self::collect_written).
    pub(crate) fn guest_has_written(&self, frame: Frame) -> bool {
        self.guest_written.contains(self.reserved + frame.0 as usize)
    }

    /// Pages that the next restore to the present contents would write back. The memory is that of `guest`, which is not
    /// running.
    ///
    /// # Errors
    ///
    /// What the hypervisor reports.
    pub(crate) fn dirty_pages(&mut self, guest: &mut dyn WrittenPages) -> Result<usize, HypervisorError> {
        guest.collect_written(&mut self.guest_written)?;
        self.collect_host_writes();
        Ok(self.guest_written.union(&self.host_written).count())
    }

    /// Pages that may hold anything but zeros, except for those that are the host's alone. The memory is that of `guest`, which
    /// is not running.
    ///
    /// # Errors
    ///
    /// What the hypervisor reports.
    pub(crate) fn touched_pages(&mut self, guest: &mut dyn WrittenPages) -> Result<PageSet, HypervisorError> {
        guest.collect_written(&mut self.guest_written)?;
        self.collect_host_writes();
        let mut touched = PageSet::new(self.pages());
        touched.insert_all(&self.guest_written);
        touched.insert_all(&self.host_written);
        self.current.stored_in(0..self.pages()).for_each(|page| touched.insert(page));
        Ok(touched)
    }

    /// Pages that have memory of their own, instead of sharing it or having none.
    pub(crate) fn owned_pages(&mut self) -> usize {
        self.collect_host_writes();
        let mut owned = self.owned.clone();
        owned.insert_all(&self.guest_written);
        owned.len()
    }

    /// Pages that show what other sandboxes may show too.
    pub(crate) fn shared_pages(&self) -> usize {
        self.shown.stored_pages()
    }

    /// Whether some of it is a file that somebody else can cut short.
    pub(crate) fn can_be_lost(&self) -> bool {
        self.shown.can_be_lost()
    }

    /// Moves the region's record of what the host has written into this one's.
    fn collect_host_writes(&mut self) {
        self.region.take_written(&mut self.host_written);
        self.owned.insert_all(&self.host_written);
    }

    /// Shows the differing pages that are those of files, either now or in `target`, and takes them out of the set.
    fn swap_files(&mut self, target: &Contents, differing: &mut PageSet) -> io::Result<()> {
        let mut of_files = PageSet::new(self.pages());
        for runs in [&*self.current, target] {
            for page in runs.file_pages(0..self.pages()).flatten().filter(|page| differing.contains(*page)) {
                of_files.insert(page);
            }
        }
        for run in runs(&of_files) {
            self.show_at(run.start, &target.part(run.clone()))?;
            run.for_each(|page| differing.remove(page));
        }
        Ok(())
    }

    fn remap(&mut self, guest: &mut dyn WrittenPages, target: &Arc<Contents>) -> Result<Restored, MemoryError> {
        self.show(target)?;
        guest.forget_written(&self.guest_written)?;
        for note in [&mut self.guest_written, &mut self.host_written, &mut self.owned] {
            note.clear();
        }
        self.quiet.forget();
        Ok(Restored { pages: 0 })
    }

    /// Forgets pages that have long been unchanged, and gives their memory back where the region shows the same.
    fn release_quiet(&mut self, guest: &mut dyn WrittenPages) -> Result<(), HypervisorError> {
        let Some(pages) = self.quiet.take() else {
            return Ok(());
        };
        guest.forget_written(&pages)?;
        for page in pages.iter() {
            self.guest_written.remove(page);
        }
        let mut differing = PageSet::new(pages.capacity());
        self.shown.differences(&self.current, &mut differing);
        let mut rest = pages.iter().filter(|page| !differing.contains(*page)).peekable();
        while let Some(first) = rest.next() {
            let mut end = first + 1;
            while rest.next_if_eq(&end).is_some() {
                end += 1;
            }
            self.region.release(first..end).expect("the set is of the region's pages");
            (first..end).for_each(|page| self.owned.remove(page));
        }
        Ok(())
    }
}

/// From this many written pages on, those that stay unchanged are looked for, which costs about as much as copying them:
/// some 30 µs for this many. All of a smaller set is copied.
pub(crate) const LARGE_SET: usize = 256;

/// How many restores in a row a page must have stayed unchanged to be given back.
pub(crate) const WINDOW: u32 = 8;

/// From this many pages on that would have to be copied because they differ in origin, everything is mapped afresh. Copying
/// costs a quarter of a microsecond a page. Mapping afresh costs as much as copying some 300 pages, and then a fault for
/// every page that is used, each as much as copying 100 (25 µs, where this was measured): with ten pages used it pays from
/// about 1,300 on, and where all are used it never does; but it gives memory back.
pub(crate) const REMAP_FROM: usize = 1024;
