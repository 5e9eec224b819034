//! What a region held at one moment.
//!
//! A [`Contents`] is made of extents of frozen pages; where there is none, the region held zeros. One that is taken of a
//! region that still resembles an earlier one shares with it all pages that did not change, so that a chain of snapshots
//! costs what was written in between. Regions can show a `Contents` copy-on-write, so that any number of them share the
//! pages that none has written.
//!
//! A region that shows a `Contents` has one host mapping for each extent and for each gap between two. Processes may have a
//! limited number of those (`vm.max_map_count`), and the kernel goes through all of them when a virtual machine is created.
//! So extents are few: close ones are joined, with the pages between them, and beyond [`MAX_EXTENTS`] everything is copied
//! into one new file. The same happens when the files of a chain hold more than twice as much as is still in use.
//!
//! Pages of [files of the host's](super::FrozenFile) and of [stored snapshots](super::StoredPages) are shared beyond the chain. They count for neither, and are not copied as
//! long as they are what they were.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::{ptr, slice};

use crate::address::PAGE_SIZE;
use crate::page_set::PageSet;

use super::frozen::{Frozen, PageBytes};
use super::{OutOfRegion, Region};

/// What all pages of a region held at one moment.
#[derive(Debug)]
pub struct Contents {
    pages: usize,
    /// In ascending order, without overlaps.
    extents: Vec<Extent>,
}

/// Pages of a region, as they lie in a file.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    pub(super) pages: Range<usize>,
    pub(super) frozen: Arc<Frozen>,
    /// Where the first of them is in the file, in pages.
    pub(super) first: usize,
}

impl Contents {
    /// The contents of a new region of `pages` pages: zeros.
    pub fn zero(pages: usize) -> Arc<Contents> {
        Arc::new(Contents { pages, extents: Vec::new() })
    }

    /// For each of these pieces, contents of the fewest whole pages that hold its bytes, with the first byte at an offset
    /// within a page and zeros around them.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory or descriptor for them.
    ///
    /// # Panics
    ///
    /// When an offset is not within a page.
    pub fn of_bytes(pieces: &[(usize, &[u8])]) -> io::Result<Vec<Contents>> {
        let frozen = Arc::new(Frozen::of_bytes(pieces)?);
        let mut first = 0;
        let contents = pieces.iter().map(|(at, bytes)| {
            assert!(*at < PAGE_SIZE);
            let pages = if bytes.is_empty() { 0 } else { (at + bytes.len()).div_ceil(PAGE_SIZE) };
            let extent = Extent { pages: 0..pages, frozen: Arc::clone(&frozen), first };
            first += pages;
            let extents = if pages > 0 { Vec::from([extent]) } else { Vec::new() };
            Contents { pages, extents }
        });
        Ok(contents.collect())
    }

    /// Contents of a region of `pages` pages, put together from other contents, each at its first page; everything else is
    /// zeros.
    ///
    /// # Panics
    ///
    /// When two parts overlap, or one reaches beyond the region.
    pub fn of_parts<'a>(pages: usize, parts: impl IntoIterator<Item = (usize, &'a Contents)>) -> Arc<Contents> {
        let mut extents = Vec::new();
        for (at, part) in parts {
            extents.extend(part.extents.iter().map(|extent| extent.shifted(at)));
        }
        let extents = merged(extents);
        assert!(extents.windows(2).all(|pair| pair[0].pages.end <= pair[1].pages.start), "parts overlap");
        assert!(extents.last().is_none_or(|last| last.pages.end <= pages), "a part reaches beyond the region");
        Arc::new(Contents { pages, extents })
    }

    /// Contents of `pages.len()` pages: those of a file of the host's.
    pub(super) fn of_file(frozen: &Arc<Frozen>, pages: Range<usize>) -> Contents {
        assert!(pages.end <= frozen.pages());
        let extent = Extent { pages: 0..pages.len(), frozen: Arc::clone(frozen), first: pages.start };
        let extents = if pages.is_empty() { Vec::new() } else { Vec::from([extent]) };
        Contents { pages: pages.len(), extents }
    }

    /// Contents of a region of `pages` pages: these runs of a stored snapshot's, each at its first page in the region, and zeros
    /// elsewhere.
    pub(super) fn of_stored(
        pages: usize,
        frozen: &Arc<Frozen>,
        runs: impl IntoIterator<Item = (usize, Range<usize>)>,
    ) -> Contents {
        let extent = |(at, from): (usize, Range<usize>)| {
            assert!(from.start <= from.end && from.end <= frozen.pages(), "a run is not within the file");
            Extent { pages: at..at + from.len(), frozen: Arc::clone(frozen), first: from.start }
        };
        let extents = runs.into_iter().map(extent).filter(|extent| !extent.pages.is_empty()).collect();
        let extents = merged(extents);
        assert!(extents.windows(2).all(|pair| pair[0].pages.end <= pair[1].pages.start), "runs overlap");
        assert!(extents.last().is_none_or(|last| last.pages.end <= pages), "a run reaches beyond the region");
        Contents { pages, extents }
    }

    /// What these contents are when the pages from `at` on hold what `part` says.
    ///
    /// # Panics
    ///
    /// When the part reaches beyond the region.
    pub fn with(&self, at: usize, part: &Contents) -> Arc<Contents> {
        let run = at..at + part.pages;
        assert!(run.end <= self.pages, "a part reaches beyond the region");
        let kept = self.extents.iter().flat_map(|extent| extent.without(slice::from_ref(&run)));
        let extents = kept.chain(part.extents.iter().map(|extent| extent.shifted(at))).collect();
        Arc::new(Contents { pages: self.pages, extents: merged(extents) })
    }

    /// What some of the pages hold.
    ///
    /// # Panics
    ///
    /// When the region has no such page.
    pub fn part(&self, pages: Range<usize>) -> Contents {
        assert!(pages.start <= pages.end && pages.end <= self.pages);
        let others = [0..pages.start, pages.end..self.pages];
        let mut extents: Vec<_> = self.extents.iter().flat_map(|extent| extent.without(&others)).collect();
        for extent in &mut extents {
            extent.pages = extent.pages.start - pages.start..extent.pages.end - pages.start;
        }
        Contents { pages: pages.len(), extents }
    }

    /// Which of these pages are those of files of the host's, as runs in ascending order.
    pub fn file_pages(&self, within: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
        let first = self.extents.partition_point(|extent| extent.pages.end <= within.start);
        let meeting = self.extents[first..].iter().take_while(move |extent| extent.pages.start < within.end);
        meeting
            .filter(|extent| extent.frozen.is_of_file())
            .map(move |extent| extent.pages.start.max(within.start)..extent.pages.end.min(within.end))
    }

    /// Whether some of the pages are those of a file that somebody else can cut short.
    pub fn can_be_lost(&self) -> bool {
        self.extents.iter().any(Extent::can_be_lost)
    }

    /// How many pages the region has.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// How many pages take memory because they do not hold zeros, no matter which contents share them.
    pub fn stored_pages(&self) -> usize {
        self.extents.iter().map(Extent::stored_pages).sum()
    }

    /// Whether a page takes memory because it does not hold zeros, as far as is known.
    pub fn is_stored(&self, page: usize) -> bool {
        self.stored_in(page..page + 1).next().is_some()
    }

    /// The bytes of a page, unless it is known to hold zeros.
    pub fn page(&self, page: usize) -> Option<PageBytes<'_>> {
        let extent = &self.extents[self.extents.partition_point(|extent| extent.pages.end <= page)..].first()?;
        let within = page.checked_sub(extent.pages.start)?;
        extent.frozen.page(extent.first + within)
    }

    /// Those of these pages that take memory because they do not hold zeros, as far as is known, in ascending order.
    pub fn stored_in(&self, pages: Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let first = self.extents.partition_point(|extent| extent.pages.end <= pages.start);
        let meeting = self.extents[first..].iter().take_while(move |extent| extent.pages.start < pages.end);
        meeting.flat_map(move |extent| {
            let part = extent.pages.start.max(pages.start)..extent.pages.end.min(pages.end);
            part.filter(|page| extent.frozen.is_stored(extent.first + (page - extent.pages.start)))
        })
    }

    /// What `region` holds now, given that only the pages `changed`, in ascending order, can differ from `self`. The result
    /// is `self` where none does.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory, descriptor or mapping for them.
    ///
    /// # Panics
    ///
    /// When the region is of another size, or has no such page.
    pub fn updated(
        self: &Arc<Self>,
        region: &Region,
        changed: impl IntoIterator<Item = usize>,
    ) -> io::Result<Arc<Contents>> {
        assert_eq!(region.len() / PAGE_SIZE, self.pages);
        let mut differing = Vec::new();
        let mut buffer = [0; PAGE_SIZE];
        let mut sources = self.sources();
        for page in changed {
            region.read(page * PAGE_SIZE, &mut buffer).expect(WITHIN);
            if buffer[..] != *sources.page(page) {
                differing.push(page);
            }
        }
        if differing.is_empty() {
            return Ok(Arc::clone(self));
        }
        let runs = joined(&differing);
        let extents = self.overlaid(region, runs)?;
        // Others keep the files of the host's, and those of stored snapshots, too.
        let (files, copies): (Vec<_>, Vec<_>) =
            extents.iter().cloned().partition(|extent| extent.frozen.is_kept_by_others());
        if copies.len() <= MAX_EXTENTS && !is_wasteful(&copies) {
            return Ok(Arc::new(Contents { pages: self.pages, extents }));
        }
        let held: Vec<_> = copies.iter().flat_map(|extent| extent.pages.clone()).collect();
        let extents = Contents { pages: self.pages, extents: files }.overlaid(region, joined(&held))?;
        Ok(Arc::new(Contents { pages: self.pages, extents }))
    }

    /// Makes a region show this, copy-on-write. Whatever it held is gone, as are the hypervisor's cached translations.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory or mapping for it. What the region holds is unspecified then.
    ///
    /// # Panics
    ///
    /// When the region is of another size.
    pub fn show_in(&self, region: &Region) -> io::Result<()> {
        assert_eq!(region.len() / PAGE_SIZE, self.pages);
        region.show(&self.extents)
    }

    /// Makes the pages of a region from `at` on show this, copy-on-write, and nothing else changes. What they held is gone, as
    /// are the hypervisor's cached translations of them.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory or mapping for it. Each of the pages then holds what it should, or what it
    /// held, or zeros.
    ///
    /// # Panics
    ///
    /// When the region has no such pages.
    pub fn show_at(&self, region: &Region, at: usize) -> io::Result<()> {
        assert!(at + self.pages <= region.len() / PAGE_SIZE);
        let extents: Vec<_> = self.extents.iter().map(|extent| extent.shifted(at)).collect();
        region.show_pages(&(at..at + self.pages), &extents)
    }

    /// Overwrites these pages of a region with what they should hold, and returns how many there were. Ascending order costs
    /// least.
    ///
    /// # Panics
    ///
    /// When the region is of another size, or has no such page.
    pub fn write_back(&self, region: &Region, pages: impl IntoIterator<Item = usize>) -> usize {
        assert_eq!(region.len() / PAGE_SIZE, self.pages);
        let writer = region.page_writer();
        let mut sources = self.sources();
        let mut written = 0;
        for page in pages {
            match sources.stored(page) {
                Some(bytes) => writer.write(page, &bytes),
                None => writer.zero(page),
            }
            written += 1;
        }
        written
    }

    /// Whether a page of the region holds what it should.
    ///
    /// # Errors
    ///
    /// [`OutOfRegion`] when the region has no such page.
    pub fn is_in(&self, region: &Region, page: usize) -> Result<bool, OutOfRegion> {
        let mut buffer = [0; PAGE_SIZE];
        region.read(page * PAGE_SIZE, &mut buffer)?;
        Ok(buffer[..] == *self.sources().page(page))
    }

    /// Adds to `pages` those for which `self` and `other` do not share a copy, so that they may differ.
    ///
    /// # Panics
    ///
    /// When one of the three is of another size.
    pub fn differences(&self, other: &Contents, pages: &mut PageSet) {
        assert_eq!((other.pages, pages.capacity()), (self.pages, self.pages));
        let mut sources = [self.sources(), other.sources()];
        for extent in self.extents.iter().chain(&other.extents) {
            for page in extent.pages.clone() {
                let [one, another] = sources.each_mut().map(|source| source.place(page));
                if one != another {
                    pages.insert(page);
                }
            }
        }
    }

    /// The extents if these runs are as in `region`, and everything else is as it was.
    fn overlaid(&self, region: &Region, runs: Vec<Range<usize>>) -> io::Result<Vec<Extent>> {
        let frozen = Arc::new(Frozen::copy(region, &runs)?);
        let mut extents: Vec<_> = self.extents.iter().flat_map(|extent| extent.without(&runs)).collect();
        let mut first = 0;
        for pages in runs {
            let len = pages.len();
            extents.push(Extent { pages, frozen: Arc::clone(&frozen), first });
            first += len;
        }
        debug_assert_eq!(first, frozen.pages());
        Ok(merged(extents))
    }

    pub(super) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    fn sources(&self) -> Sources<'_> {
        Sources { extents: &self.extents, next: 0 }
    }
}

impl Extent {
    /// Where the pages lie in the region, in bytes.
    pub(super) fn bytes(&self) -> Range<usize> {
        self.pages.start * PAGE_SIZE..self.pages.end * PAGE_SIZE
    }

    /// The same pages where a region has them whose page `at` is their region's first.
    fn shifted(&self, at: usize) -> Extent {
        Extent { pages: at + self.pages.start..at + self.pages.end, ..self.clone() }
    }

    /// Whether somebody else can take the pages away.
    pub(super) fn can_be_lost(&self) -> bool {
        self.frozen.can_be_lost()
    }

    /// How many of the pages take memory.
    fn stored_pages(&self) -> usize {
        self.frozen.stored(self.first..self.first + self.pages.len())
    }

    /// What is left of the extent when these runs, which are in ascending order, are removed.
    pub(super) fn without(&self, runs: &[Range<usize>]) -> Vec<Extent> {
        let mut left = Vec::new();
        let mut start = self.pages.start;
        let mut keep = |pages: Range<usize>| {
            if !pages.is_empty() {
                let first = self.first + (pages.start - self.pages.start);
                left.push(Extent { pages, frozen: Arc::clone(&self.frozen), first });
            }
        };
        for run in runs.iter().filter(|run| run.start < self.pages.end && self.pages.start < run.end) {
            keep(start..run.start.max(start));
            start = run.end;
        }
        keep(start..self.pages.end.max(start));
        left
    }
}

/// Finds pages, faster when they are asked for in ascending order.
struct Sources<'a> {
    extents: &'a [Extent],
    next: usize,
}

impl<'a> Sources<'a> {
    /// The bytes of a page, unless it is known to hold zeros.
    fn stored(&mut self, page: usize) -> Option<PageBytes<'a>> {
        let (frozen, index) = self.find(page)?;
        frozen.page(index)
    }

    /// Where a page lies, unless it is known to hold zeros: equal for those that share it.
    fn place(&mut self, page: usize) -> Option<(*const Frozen, usize)> {
        let (frozen, index) = self.find(page)?;
        frozen.is_stored(index).then_some((ptr::from_ref(frozen), index))
    }

    fn find(&mut self, page: usize) -> Option<(&'a Frozen, usize)> {
        if self.next > 0 && page < self.extents[self.next - 1].pages.end {
            self.next = 0;
        }
        while self.extents.get(self.next).is_some_and(|extent| extent.pages.end <= page) {
            self.next += 1;
        }
        let extent = self.extents.get(self.next).filter(|extent| extent.pages.contains(&page))?;
        Some((&*extent.frozen, extent.first + (page - extent.pages.start)))
    }

    /// The bytes of a page.
    fn page(&mut self, page: usize) -> PageBytes<'a> {
        self.stored(page).unwrap_or(PageBytes::Shared(&ZEROS))
    }
}

/// Pages in ascending order as runs. Small gaps are bridged, the smallest first: as long as no more pages are added than
/// there are plus [`FEW_PAGES`], and beyond that until there are at most [`MAX_RUNS`] runs.
fn joined(pages: &[usize]) -> Vec<Range<usize>> {
    let gap = |pair: &[usize]| pair[1] - pair[0] - 1;
    let mut gaps: Vec<usize> = pages.windows(2).map(gap).filter(|gap| *gap > 0).collect();
    gaps.sort_unstable();
    let mut added = 0;
    let affordable = gaps.iter().take_while(|gap| {
        added += **gap;
        added <= pages.len() + FEW_PAGES
    });
    let bridged = affordable.count().max((gaps.len() + 1).saturating_sub(MAX_RUNS));
    let widest_bridged = bridged.checked_sub(1).map_or(0, |last| gaps[last]);
    let mut runs: Vec<Range<usize>> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some(run) if page - run.end <= widest_bridged => run.end = page + 1,
            _ => runs.push(*page..page + 1),
        }
    }
    runs
}

/// Joins extents that continue each other, in the region and in their file.
fn merged(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.sort_unstable_by_key(|extent| extent.pages.start);
    extents.dedup_by(|next, extent| {
        let continues = extent.pages.end == next.pages.start
            && extent.first + extent.pages.len() == next.first
            && Arc::ptr_eq(&extent.frozen, &next.frozen);
        if continues {
            extent.pages.end = next.pages.end;
        }
        continues
    });
    extents
}

/// Whether the files of these extents hold much more than the extents show of them. A file keeps all its memory as long as
/// any of its pages is in use.
fn is_wasteful(extents: &[Extent]) -> bool {
    let mut files: Vec<_> = extents.iter().map(|extent| &extent.frozen).collect();
    files.sort_unstable_by_key(|file| Arc::as_ptr(file));
    files.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let held: usize = files.iter().map(|file| file.stored_pages()).sum();
    let in_use: usize = extents.iter().map(Extent::stored_pages).sum();
    held > 2 * in_use + FEW_PAGES
}

/// This many additional pages may always be copied for the sake of fewer runs, which takes a few microseconds.
const FEW_PAGES: usize = 64;

/// The most runs that one snapshot adds, whatever it costs to join more.
const MAX_RUNS: usize = 64;

/// The most extents of a chain of snapshots.
const MAX_EXTENTS: usize = 96;

static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

const WITHIN: &str = "the pages are the region's";

#[cfg(test)]
mod tests;
