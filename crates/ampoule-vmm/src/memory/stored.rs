//! The pages of stored snapshots.
//!
//! A region shows the file itself only where the application says so: who wrote to it, or cut it short, would change or take away
//! what runs in guests, and the host has to access such pages [carefully](super::careful). Otherwise its pages are copied to a
//! file without a name, which is written once, then sealed. Either is shared by all regions that show any of it, copy-on-write.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::address::PAGE_SIZE;
use crate::page_set::PageSet;

use super::frozen::{Frozen, Kind, create_file, write_pages};
use super::{Contents, careful};

/// Pages that are being written, and are all zeros at first. They take memory as far as they hold anything else.
#[derive(Debug)]
pub struct UnsealedPages {
    file: OwnedFd,
    zeros: PageSet,
}

/// Pages that never change again, unless they are those of [a file](Self::of_file) that somebody changes. Clones share them.
#[derive(Clone, Debug)]
pub struct StoredPages {
    frozen: Arc<Frozen>,
    /// Where the first one is in the file.
    first: usize,
}

impl UnsealedPages {
    /// So many pages, at least one.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no descriptor for them; `InvalidInput` when they are too many for any file.
    pub fn new(pages: usize) -> io::Result<Self> {
        let len = pages.max(1).checked_mul(PAGE_SIZE).filter(|len| *len <= MAX_LEN);
        let file = create_file(len.ok_or(io::ErrorKind::InvalidInput)?, Ok)?;
        let mut zeros = PageSet::new(pages.max(1));
        (0..pages.max(1)).for_each(|page| zeros.insert(page));
        Ok(Self { file, zeros })
    }

    /// Writes bytes to pages from `first` on, which have not been written. What is missing of the last one is zeros.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory for them.
    ///
    /// # Panics
    ///
    /// When there are no such pages.
    pub fn write(&mut self, first: usize, bytes: &[u8]) -> io::Result<()> {
        assert!(first + bytes.len().div_ceil(PAGE_SIZE) <= self.zeros.capacity(), "no such pages");
        let mut pages = bytes.chunks(PAGE_SIZE).zip(first..).filter(|(page, _)| !is_zero(page)).peekable();
        while let Some((_, start)) = pages.next() {
            let mut end = start + 1;
            while pages.next_if(|(_, page)| *page == end).is_some() {
                end += 1;
            }
            let part = (start - first) * PAGE_SIZE..((end - first) * PAGE_SIZE).min(bytes.len());
            self.write_run(start, &bytes[part])?;
            (start..end).for_each(|page| self.zeros.remove(page));
        }
        Ok(())
    }

    /// Makes the pages unchangeable.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no mapping for them.
    pub fn seal(self) -> io::Result<StoredPages> {
        let len = self.zeros.capacity() * PAGE_SIZE;
        Ok(StoredPages { frozen: Arc::new(Frozen::seal(self.file, len, self.zeros, Kind::Stored)?), first: 0 })
    }

    fn write_run(&self, first: usize, bytes: &[u8]) -> io::Result<()> {
        write_pages(&self.file, self.zeros.capacity() * PAGE_SIZE, first, bytes)
    }
}

impl StoredPages {
    /// So many pages of a file, at least one, from its page `first` on. The file is open for reading.
    ///
    /// Who writes to the file changes what guests see of these pages. When the file is cut short, a guest that touches what it
    /// no longer has is ended by the hypervisor, and the host reads zeros there.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when they are too many for any file, and what the kernel says where it does not let the process copy memory that
    /// may be lost (`process_vm_readv`, `process_vm_writev`).
    pub fn of_file(file: OwnedFd, first: usize, pages: usize) -> io::Result<Self> {
        let end = first.checked_add(pages.max(1)).and_then(|end| end.checked_mul(PAGE_SIZE));
        let len = end.filter(|len| *len <= MAX_LEN).ok_or(io::ErrorKind::InvalidInput)?;
        careful::check()?;
        Ok(Self { frozen: Arc::new(Frozen::of_stored_file(file, len)), first })
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.frozen.pages() - self.first
    }

    /// All bytes, from the first page on.
    ///
    /// # Panics
    ///
    /// When these are pages [of a file](Self::of_file).
    pub fn bytes(&self) -> &[u8] {
        self.frozen.bytes()
    }

    /// Contents of a region of `pages` pages: these runs of pages, each at its first page in the region, and zeros elsewhere.
    ///
    /// # Panics
    ///
    /// When two runs overlap in the region, or one reaches beyond it or beyond these pages.
    pub fn contents(&self, pages: usize, runs: impl IntoIterator<Item = (usize, Range<usize>)>) -> Contents {
        let moved = |(at, run): (usize, Range<usize>)| (at, self.first + run.start..self.first + run.end);
        Contents::of_stored(pages, &self.frozen, runs.into_iter().map(moved))
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// The largest file: more than the memory of any guest and any image. In bytes.
const MAX_LEN: usize = 1 << 40;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::memory::Region;

    #[test]
    fn regions_show_runs_of_stored_pages_and_zeros_elsewhere() {
        let mut pages = UnsealedPages::new(5).unwrap();
        pages.write(1, &[7; 2 * PAGE_SIZE]).unwrap();
        pages.write(4, &[8; 3]).unwrap();
        let stored = pages.seal().unwrap();
        assert_eq!(stored.bytes()[PAGE_SIZE - 1..PAGE_SIZE + 1], [0, 7]);
        let contents = stored.contents(8, [(6, 4..5), (2, 0..3)]);
        assert_eq!(contents.stored_in(0..8).collect::<Vec<_>>(), [3, 4, 6]);
        let region = Region::of_contents(&contents).unwrap();
        let byte = |page: usize, at: usize| {
            let mut byte = [0];
            region.read(page * PAGE_SIZE + at, &mut byte).unwrap();
            byte[0]
        };
        assert_eq!([byte(2, 0), byte(3, 0), byte(4, 4095), byte(5, 0), byte(6, 2), byte(6, 3)], [0, 7, 7, 0, 8, 0]);
        region.write(3 * PAGE_SIZE, &[1]).unwrap();
        assert_eq!((byte(3, 0), stored.bytes()[PAGE_SIZE]), (1, 7));
    }

    #[test]
    fn what_a_shown_file_loses_is_zeros_for_the_host() {
        let file = File::from(create_file(6 * PAGE_SIZE, Ok).unwrap());
        file.write_all_at(&[7; 5 * PAGE_SIZE], PAGE_SIZE as u64).unwrap();
        let stored = StoredPages::of_file(file.try_clone().unwrap().into(), 1, 5).unwrap();
        let contents = Arc::new(stored.contents(8, [(2, 0..5)]));
        let region = Region::of_contents(&contents).unwrap();
        let bytes = |at: usize, len: usize| {
            let mut bytes = vec![0; len];
            region.read(at, &mut bytes).unwrap();
            bytes
        };
        region.write(0, &[1; 3 * PAGE_SIZE]).unwrap();
        region.write(6 * PAGE_SIZE, &[2; 2 * PAGE_SIZE]).unwrap();
        let written = contents.updated(&region, 0..8).unwrap();
        file.set_len(4 * PAGE_SIZE as u64).unwrap();
        assert_eq!(bytes(5 * PAGE_SIZE - 1, 2), [7, 0]);
        region.write(5 * PAGE_SIZE - 1, &[3; PAGE_SIZE + 2]).unwrap();
        region.write_u64(6 * PAGE_SIZE, 9).unwrap();
        assert_eq!((bytes(5 * PAGE_SIZE - 2, 3), region.read_u64(6 * PAGE_SIZE)), (vec![7, 3, 0], Ok(0)));
        region.part_writer(3 * PAGE_SIZE, 4 * PAGE_SIZE).unwrap().write(2 * PAGE_SIZE - 1, &[4, 4]);
        let mut part = [0; 2];
        region.part_reader(4 * PAGE_SIZE, 3 * PAGE_SIZE).unwrap().read(PAGE_SIZE - 1, &mut part);
        assert_eq!(part, [4, 0]);
        region.fill_zero(5 * PAGE_SIZE - 1, PAGE_SIZE).unwrap();
        region.zero_pages(3..7);
        assert_eq!(bytes(2 * PAGE_SIZE, PAGE_SIZE + 1), [vec![1; PAGE_SIZE], vec![0]].concat());
        // What was frozen before is as it was, and what is frozen now has zeros.
        let after = written.updated(&region, 0..8).unwrap();
        assert_eq!([&written, &after].map(|contents| contents.page(7).map(|page| page[0])), [Some(2); 2]);
        assert!(after.page(5).is_none());
        assert_eq!(written.write_back(&region, 2..8), 6);
        assert_eq!(
            (bytes(2 * PAGE_SIZE, 1), bytes(3 * PAGE_SIZE, 1), bytes(7 * PAGE_SIZE, 1)),
            (vec![1], vec![7], vec![2])
        );
    }

    #[test]
    fn holes_of_a_shown_file_take_no_memory() {
        let file = File::from(create_file(64 * PAGE_SIZE, Ok).unwrap());
        file.write_all_at(&[7; PAGE_SIZE], 33 * PAGE_SIZE as u64).unwrap();
        let stored = StoredPages::of_file(file.into(), 0, 64).unwrap();
        let contents = stored.contents(64, [(0, 0..64)]);
        assert_eq!(contents.stored_in(0..64).collect::<Vec<_>>(), [33]);
        assert!(contents.page(0).is_none() && contents.page(33).is_some_and(|page| page[..] == [7; PAGE_SIZE]));
    }

    #[test]
    fn a_snapshot_after_a_stored_one_shares_its_pages() {
        let mut pages = UnsealedPages::new(1000).unwrap();
        pages.write(0, &vec![7; 1000 * PAGE_SIZE]).unwrap();
        let contents = Arc::new(pages.seal().unwrap().contents(8, [(0, 0..8)]));
        let region = Region::of_contents(&contents).unwrap();
        region.write(3 * PAGE_SIZE, &[1]).unwrap();
        let next = contents.updated(&region, [3]).unwrap();
        let mut differing = PageSet::new(8);
        contents.differences(&next, &mut differing);
        assert_eq!(differing.iter().collect::<Vec<_>>(), [3]);
    }
}
