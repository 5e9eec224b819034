//! Files whose pages are read when they are touched: those of the host's that are too large to be frozen.
//!
//! 1. A page has no frame until the guest touches it, which is a page fault, or the host stores something there for it. Then it
//!    holds what the file holds. What the host reads for the guest before that comes from the file, and leaves no frame.
//! 2. Pages behind it are read with it ([`AddressSpace::read_ahead`]): the more, the more were touched in front of it.
//! 3. Where the file has no such page any more, or cannot be read, nothing is behind the address, and the guest gets `SIGBUS`.
//! 4. Where frames run out, pages that the guest has never been able to write give theirs back: they can be read again. So a
//!    file may be larger than the guest's memory.

use std::ops::Range;
use std::slice;
use std::sync::Arc;

use ampoule_vmm::address_map::{USER_END, USER_START};
use ampoule_vmm::{GuestVirt, PAGE_SIZE, PagedFile};

use super::mapping::Mapping;
use super::{AddressSpace, FilePages, Layout, MapError, MappingKind, PAGE, PORTION_PAGES, PORTION_RUNS};
use crate::page::Page;

/// What has become of a page that was to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageIn {
    /// It has been, or it is none of a file's whose pages are read when they are touched.
    Unneeded,
    /// So many pages were read, and it is one of them.
    Read { pages: u64 },
    /// The file has no such page, or cannot be read.
    Lost,
}

/// A page that has not been read.
struct Absent {
    /// Its mapping.
    mapped: Range<Page>,
    mapping: Mapping,
    of: FilePages,
    file: Arc<PagedFile>,
}

impl AddressSpace {
    /// Whether pages of a mapping get their frames only when they are touched.
    pub(super) fn is_paged(&self, mapping: &Mapping) -> bool {
        self.paged_file(mapping).is_some()
    }

    /// Gives a page of a file the frame that it has not had yet, and others behind it that are likely to be touched.
    pub(super) fn page_in(&mut self, page: Page) -> Result<PageIn, MapError> {
        let Some(absent) = self.absent(page) else { return Ok(PageIn::Unneeded) };
        let mut ahead = self.read_ahead(page, &absent.mapped);
        let wanted = ahead.end - ahead.start;
        self.make_room(wanted)?;
        let free = self.layout.frames.free();
        if wanted > free {
            ahead = page..ahead.end.min(page + free.max(1));
        }
        match self.read_pages(page, &absent, &ahead)? {
            // Others may be lost, or cannot be read.
            PageIn::Lost if wanted > 1 => self.read_pages(page, &absent, &(page..page + 1)),
            read => Ok(read),
        }
    }

    /// Reads from the file what an address holds whose page has no frame yet, and returns how many bytes these are, which lie
    /// on pages that have none. None where there is no such page, or the guest may not read it.
    pub(super) fn read_absent(&self, at: GuestVirt, into: &mut [u8]) -> Option<usize> {
        let page = Page::of(at);
        let Absent { mapped, mapping, of, file } = self.absent(page)?;
        if !mapping.protection.is_readable() {
            return None;
        }
        let end = self.layout.backing.gaps(&(page..mapped.end)).next()?.end.address();
        let len = into.len().min((end.0 - at.0) as usize);
        let offset = (of.first + (page - mapped.start)) * PAGE + at.page_offset() as u64;
        let read = file.read(offset, &mut into[..len]).ok()?;
        if read == 0 && file.read(offset - at.page_offset() as u64, &mut [0]).ok()? == 0 {
            return None;
        }
        // The last page that has any byte of the file's holds zeros behind them.
        let whole = ((at.page_offset() + read).next_multiple_of(PAGE_SIZE) - at.page_offset()).min(len);
        into[read..whole].fill(0);
        Some(whole)
    }

    /// Lets so many frames be free, if that can be done by taking some away from pages of files that can be read again.
    pub(super) fn make_room(&mut self, frames: u64) -> Result<(), MapError> {
        match frames.checked_sub(self.layout.frames.free()) {
            Some(missing @ 1..) => self.evict(missing),
            _ => Ok(()),
        }
    }

    /// Takes at least so many frames away from pages of files that can be read again; none where there are not so many, or a debugger
    /// has written to memory: what it wrote is in no file. Where the
    /// last ones were taken is where these are looked for first.
    pub(super) fn evict(&mut self, frames: u64) -> Result<(), MapError> {
        if self.is_patched || !self.layout.files.has_paged() {
            return Ok(());
        }
        let wanted = frames.max(LEAST_EVICTED);
        let (start, end) = (Page::of(USER_START), Page::of(USER_END));
        let from = self.evict_from.clamp(start, end);
        let Layout { mappings, backing, .. } = &*self.layout;
        let is_pristine = |mapping: &Mapping| matches!(mapping.kind, MappingKind::File(of) if of.pristine);
        let candidates = [from..end, start..from]
            .into_iter()
            .flat_map(|part| mappings.overlapping(&part))
            .filter(|(_, mapping)| is_pristine(mapping) && self.is_paged(mapping))
            .flat_map(|(pages, _)| backing.overlapping(&pages));
        let (mut found, mut evicted) = (0, Vec::new());
        for (mut pages, _) in candidates {
            while !pages.is_empty() && found < wanted {
                let taken = pages.start..pages.end.min(pages.start + PORTION_PAGES.min(wanted - found));
                found += taken.end - taken.start;
                pages.start = taken.end;
                evicted.push(taken);
            }
            if found == wanted {
                break;
            }
        }
        if found < frames {
            return Ok(());
        }
        if let Some(last) = evicted.last() {
            self.evict_from = last.end;
        }
        let mut rest = evicted.as_slice();
        while !rest.is_empty() {
            let mut before = 0;
            let fits = |pages: &&Range<Page>| {
                before += pages.end - pages.start;
                before <= PORTION_PAGES
            };
            let (portion, behind) = rest.split_at(rest.iter().take(PORTION_RUNS).take_while(fits).count());
            self.drop_portion(portion);
            rest = behind;
            self.check_watch()?;
        }
        self.revoke_narrowed();
        Ok(())
    }

    /// The pages to read for one that is touched: as many as there are in front of it without a gap, [`LEAST_READ`] at least and
    /// [`MOST_READ`] at most, up to the next that has been read. Where there is none in front of it, those around it.
    fn read_ahead(&self, page: Page, mapped: &Range<Page>) -> Range<Page> {
        let backing = &self.layout.backing;
        let before = Page(page.0.saturating_sub(MOST_READ)).max(mapped.start)..page;
        let gap = backing.gaps(&before).last().filter(|gap| !gap.is_empty());
        let run = page - gap.as_ref().map_or(before.start, |gap| gap.end);
        let (start, end) = match run {
            0 => {
                let block = Page(page.0 - page.0 % LEAST_READ);
                (block.max(gap.map_or(page, |gap| gap.start)), block + LEAST_READ)
            }
            run => (page, page + run.clamp(LEAST_READ, MOST_READ)),
        };
        let read = backing.overlapping(&(page..end)).next().map(|(read, _)| read.start);
        start..read.unwrap_or(end).min(mapped.end)
    }

    /// Reads pages, none of which has a frame, and lets the guest see those that the file has.
    fn read_pages(&mut self, page: Page, absent: &Absent, pages: &Range<Page>) -> Result<PageIn, MapError> {
        let Absent { mapped, mapping, of, file } = absent;
        self.take_frames(slice::from_ref(pages))?;
        let mut end = pages.start;
        let backed: Vec<_> = self.layout.backing.overlapping(pages).collect();
        for (part, frame) in backed {
            let first = of.first + (part.start - mapped.start);
            let held = self.memory.read_file(frame.0, part.end - part.start, (file, first));
            end = part.start + held;
            if end < part.end {
                break;
            }
        }
        let checked = self.check_watch();
        let shown = checked.and_then(|()| self.set_entries(&(pages.start..end), mapping.protection));
        if let Err(error) = shown {
            self.tables.unmap(pages.start.address(), (pages.end - pages.start) as usize);
            self.return_frames(slice::from_ref(pages));
            return Err(error);
        }
        self.return_frames(&[end..pages.end]);
        Ok(if page < end { PageIn::Read { pages: end - pages.start } } else { PageIn::Lost })
    }

    fn absent(&self, page: Page) -> Option<Absent> {
        let (mapped, mapping) = self.layout.mappings.get(page)?;
        let MappingKind::File(of) = mapping.kind else { return None };
        let file = Arc::clone(self.paged_file(mapping)?);
        let is_absent = self.layout.backing.get(page).is_none();
        is_absent.then_some(Absent { mapped, mapping: *mapping, of, file })
    }

    fn paged_file(&self, mapping: &Mapping) -> Option<&Arc<PagedFile>> {
        let MappingKind::File(of) = mapping.kind else { return None };
        self.layout.files.get(of.file)?.paged.as_ref()
    }
}

/// How many pages are read at least: as many as Linux maps around one that is touched (`fault_around_bytes` in `mm/memory.c`).
const LEAST_READ: u64 = 16;

/// How many pages are read at most: 4 MiB, which takes about a millisecond.
const MOST_READ: u64 = 1024;

/// How many frames are taken away at least, where there are so many: each time asks the host to forget them.
const LEAST_EVICTED: u64 = 1024;
