//! What the pages of shared files hold, and which of them are dirty.

use std::ops::Range;

use ampoule_vmm::address_map::USER_END;
use ampoule_vmm::{GuestVirt, HypervisorError, PAGE_SIZE, WrittenPages};

use super::super::mapping::Mapping;
use super::super::{AddressSpace, FileId, MapError, PAGE, ReadFile};
use crate::page::Page;

impl AddressSpace {
    /// Makes the frames of pages hold what the file holds, which they need not have held before.
    pub(super) fn fill_shared(&mut self, id: FileId, pages: &Range<Page>, read: ReadFile<'_>) -> Result<(), MapError> {
        let mut piece = vec![0; COPY_PAGES as usize * PAGE_SIZE];
        let mut start = pages.start;
        while start < pages.end {
            let end = pages.end.min(start + COPY_PAGES);
            let bytes = &mut piece[..(end - start) as usize * PAGE_SIZE];
            let mut held = 0;
            while held < bytes.len() {
                match read(start.0 * PAGE + held as u64, &mut bytes[held..]).map_err(MapError::File)? {
                    0 => break,
                    more => held += more,
                }
            }
            bytes[held..].fill(0);
            for (page, bytes) in (start.0..).map(Page).zip(bytes.chunks_exact(PAGE_SIZE)) {
                let Some(offset) = self.shared_offset(id, page) else { continue };
                let mut before = [0; PAGE_SIZE];
                self.memory.region().read(offset, &mut before).expect(WITHIN);
                // A frame that holds zeros may have no memory yet.
                if before != *bytes {
                    self.memory.write(offset, bytes).expect(WITHIN);
                }
                self.note_synced(id, page, digest(bytes));
            }
            start = end;
            self.check_watch()?;
        }
        Ok(())
    }

    /// Makes the frames hold what the file holds, where nothing is dirty.
    ///
    /// # Errors
    ///
    /// `File`, `Interrupted`. Some pages may hold what they did.
    pub(crate) fn refresh_shared(&mut self, id: FileId, pages: Range<u64>, read: ReadFile<'_>) -> Result<(), MapError> {
        let Some(file) = self.layout.shared.files.get(&id) else { return Ok(()) };
        let shown: Vec<_> = file.frames.overlapping(&(Page(pages.start)..Page(pages.end))).collect();
        shown.iter().try_for_each(|(pages, _)| self.fill_shared(id, pages, read))
    }

    /// Replaces what was read of a file from an offset on by what is newer.
    pub(crate) fn overlay_shared(&self, id: FileId, offset: u64, into: &mut [u8]) {
        for (at, part, place) in self.shared_parts(id, offset, into.len()) {
            self.memory.region().read(place, &mut into[at..at + part]).expect(WITHIN);
        }
    }

    /// Stores what was written to a file from an offset on.
    pub(crate) fn store_shared(&mut self, id: FileId, offset: u64, from: &[u8]) {
        for (at, part, place) in self.shared_parts(id, offset, from.len()) {
            self.change_shared(id, offset + at as u64, place, &from[at..at + part]);
        }
    }

    /// Stores zeros, as was done to the file.
    pub(crate) fn zero_shared(&mut self, id: FileId, bytes: Range<u64>) {
        let Some(file) = self.layout.shared.files.get(&id).filter(|_| !bytes.is_empty()) else { return };
        let pages = Page(bytes.start / PAGE)..Page(bytes.end.div_ceil(PAGE));
        let shown: Vec<_> = file.frames.overlapping(&pages).map(|(pages, _)| pages).collect();
        for page in shown.into_iter().flat_map(|pages| (pages.start.0..pages.end.0).map(Page)) {
            let start = bytes.start.max(page.0 * PAGE);
            let end = bytes.end.min((page.0 + 1) * PAGE);
            self.store_shared(id, start, &ZEROS[..(end - start) as usize]);
        }
    }

    /// Changes a part of a page, which the file has changed too. The page is not dirty afterwards unless it was before.
    fn change_shared(&mut self, id: FileId, offset: u64, place: usize, bytes: &[u8]) {
        let page = Page(offset / PAGE);
        let of_page = place - place % PAGE_SIZE;
        let was_dirty = self.is_changed(id, page, of_page);
        self.memory.write(place, bytes).expect(WITHIN);
        if !was_dirty {
            let now = self.digest_at(of_page);
            self.note_synced(id, page, now);
        }
    }

    /// Collects what the guest has written. The memory is that of `guest`, which is not running.
    ///
    /// # Errors
    ///
    /// What the hypervisor reports.
    pub(crate) fn collect_written(&mut self, guest: &mut dyn WrittenPages) -> Result<(), HypervisorError> {
        self.memory.collect_written(guest)
    }

    /// Those of a file's pages that are dirty, as far as what the guest has written has been
    /// [collected](Self::collect_written).
    pub(crate) fn dirty_shared(&self, id: FileId, pages: Range<u64>) -> Vec<u64> {
        let Some(file) = self.layout.shared.files.get(&id) else { return Vec::new() };
        let mut dirty = Vec::new();
        for (pages, first) in file.frames.overlapping(&(Page(pages.start)..Page(pages.end))) {
            for index in 0..pages.end - pages.start {
                let (page, frame) = (pages.start + index, first.0 + index);
                let is_candidate = self.memory.guest_has_written(frame) || file.stored.contains(&page);
                if is_candidate && self.is_changed(id, page, self.memory.frame_offset(frame)) {
                    dirty.push(page.0);
                }
            }
        }
        dirty
    }

    /// Takes note that pages hold what the file holds.
    pub(crate) fn clean_shared(&mut self, id: FileId, pages: Range<u64>) {
        for page in pages.map(Page) {
            if let Some(place) = self.shared_offset(id, page) {
                let now = self.digest_at(place);
                self.note_synced(id, page, now);
            }
        }
    }

    /// The shared pages that lie at addresses: which files, and which of their pages.
    pub(crate) fn shared_at(&self, at: GuestVirt, len: u64) -> Vec<(FileId, Range<u64>)> {
        let end = at.0.saturating_add(len).min(USER_END.0).div_ceil(PAGE);
        let mappings = self.layout.mappings.overlapping(&(Page::of(at)..Page(end)));
        let pages_of = |(pages, mapping): (Range<Page>, Mapping)| {
            let of = mapping.kind.shared()?;
            Some((of.file, of.first..of.first.saturating_add(pages.end - pages.start)))
        };
        mappings.filter_map(pages_of).collect()
    }

    /// Takes note of what the host stores at an address for the guest.
    pub(in crate::address_space) fn note_store(&mut self, at: GuestVirt, len: usize) {
        for (id, pages) in self.shared_at(at, len as u64) {
            if let Some(file) = self.layout_mut().shared.files.get_mut(&id) {
                file.stored.extend(pages.map(Page));
            }
        }
    }

    /// The parts of a file's bytes that are in frames, none of which crosses a page: where in the bytes, how long, and where
    /// in the memory.
    fn shared_parts(&self, id: FileId, offset: u64, len: usize) -> Vec<(usize, usize, usize)> {
        let Some(file) = self.layout.shared.files.get(&id) else { return Vec::new() };
        let mut parts = Vec::new();
        let end = offset.saturating_add(len as u64);
        for (pages, first) in file.frames.overlapping(&(Page(offset / PAGE)..Page(end.div_ceil(PAGE)))) {
            for index in 0..pages.end - pages.start {
                let of_page = (pages.start + index).0 * PAGE;
                let start = of_page.max(offset);
                let part = (of_page + PAGE).min(end) - start;
                let place = self.memory.frame_offset(first.0 + index) + (start - of_page) as usize;
                parts.push(((start - offset) as usize, part as usize, place));
            }
        }
        parts
    }

    /// Where in the memory a page of a shared file is.
    fn shared_offset(&self, id: FileId, page: Page) -> Option<usize> {
        let (pages, first) = self.layout.shared.files.get(&id)?.frames.get(page)?;
        Some(self.memory.frame_offset(first.0 + (page - pages.start)))
    }

    fn is_changed(&self, id: FileId, page: Page, place: usize) -> bool {
        let known = self.layout.shared.files.get(&id).and_then(|file| file.digests.get(&page));
        known != Some(&self.digest_at(place))
    }

    fn digest_at(&self, place: usize) -> u64 {
        let mut bytes = [0; PAGE_SIZE];
        self.memory.region().read(place, &mut bytes).expect(WITHIN);
        digest(&bytes)
    }

    fn note_synced(&mut self, id: FileId, page: Page, digest: u64) {
        if let Some(file) = self.layout_mut().shared.files.get_mut(&id) {
            file.digests.insert(page, digest);
        }
    }
}

/// A digest of a page, by which a change is noticed. Who can compute one that stays the same deceives only himself.
fn digest(page: &[u8]) -> u64 {
    let (mut one, mut other) = (SEEDS[0], SEEDS[1]);
    for words in page.chunks_exact(16) {
        let word = |at: usize| u64::from_le_bytes(words[at..at + 8].try_into().expect("eight bytes"));
        one = fold(one ^ word(0), MULTIPLIER) ^ one.rotate_left(29);
        other = fold(other ^ word(8), MULTIPLIER) ^ other.rotate_left(31);
    }
    fold(one ^ other.rotate_left(32), MULTIPLIER)
}

/// Both halves of the product.
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

/// 2^64 and 2^63 divided by the golden ratio, made odd: numbers with no pattern in their bits.
const SEEDS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x4f1b_bcdc_bfa5_3e0b];
const MULTIPLIER: u64 = SEEDS[0];

static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// How many pages are copied at once.
const COPY_PAGES: u64 = 64;

const WITHIN: &str = "frames lie within their region";
