//! A set of pages, by their numbers.

use std::ops::Range;

/// Which pages of a memory slot are meant. What is done to a set follows the pages in it, and hardly the size of the slot.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct PageSet {
    /// One bit for each page.
    words: Box<[u64]>,
    /// One bit for each of the words, set where the word is not zero.
    occupied: Box<[u64]>,
    pages: usize,
}

impl PageSet {
    /// An empty set that can hold the pages `0..pages`.
    pub fn new(pages: usize) -> PageSet {
        let words = pages.div_ceil(BITS);
        PageSet { words: vec![0; words].into(), occupied: vec![0; words.div_ceil(BITS)].into(), pages }
    }

    /// How many pages the set can hold.
    pub fn capacity(&self) -> usize {
        self.pages
    }

    /// Adds a page.
    ///
    /// # Panics
    ///
    /// When the set cannot hold it.
    pub fn insert(&mut self, page: usize) {
        assert!(page < self.pages, "page {page} of {}", self.pages);
        set_bit(&mut self.words, page);
        set_bit(&mut self.occupied, page / BITS);
    }

    /// Takes a page out, if it is there.
    pub fn remove(&mut self, page: usize) {
        let Some(word) = self.words.get_mut(page / BITS) else {
            return;
        };
        *word &= !(1 << (page % BITS));
        if *word == 0 {
            let index = page / BITS;
            self.occupied[index / BITS] &= !(1 << (index % BITS));
        }
    }

    /// Whether a page is there.
    pub fn contains(&self, page: usize) -> bool {
        self.words.get(page / BITS).is_some_and(|word| word >> (page % BITS) & 1 != 0)
    }

    /// Adds all pages of another set.
    ///
    /// # Panics
    ///
    /// When the sets differ in how many pages they can hold.
    pub fn insert_all(&mut self, other: &PageSet) {
        assert_eq!(self.pages, other.pages, "sets of pages of different slots");
        let Self { words, occupied, .. } = self;
        for (index, theirs) in other.occupied.iter().enumerate().filter(|(_, theirs)| **theirs != 0) {
            occupied[index] |= theirs;
            bits_of(index, *theirs).for_each(|word| words[word] |= other.words[word]);
        }
    }

    /// Takes all pages out.
    pub fn clear(&mut self) {
        let Self { words, occupied, .. } = self;
        for (index, occupied) in occupied.iter_mut().enumerate().filter(|(_, occupied)| **occupied != 0) {
            bits_of(index, std::mem::take(occupied)).for_each(|word| words[word] = 0);
        }
    }

    /// Whether no page is there.
    pub fn is_empty(&self) -> bool {
        self.occupied.iter().all(|word| *word == 0)
    }

    /// How many pages are there.
    pub fn len(&self) -> usize {
        bits(self.occupied.iter().copied()).map(|index| self.words[index].count_ones() as usize).sum()
    }

    /// How many of these pages are there.
    pub fn len_in(&self, pages: Range<usize>) -> usize {
        let end = pages.end.min(self.pages);
        if pages.start >= end {
            return 0;
        }
        let (first, last) = (pages.start / BITS, (end - 1) / BITS);
        let count = |index: usize| {
            let mut word = self.words[index];
            if index == first {
                word &= u64::MAX << (pages.start % BITS);
            }
            if index == last {
                word &= u64::MAX >> (BITS - 1 - (end - 1) % BITS);
            }
            word.count_ones() as usize
        };
        (first..=last).map(count).sum()
    }

    /// The pages in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.union(self)
    }

    /// The pages that are in this set, in another, or in both, in ascending order.
    ///
    /// # Panics
    ///
    /// When the sets differ in how many pages they can hold.
    pub fn union<'a>(&'a self, other: &'a PageSet) -> impl Iterator<Item = usize> + 'a {
        assert_eq!(self.pages, other.pages, "sets of pages of different slots");
        Union { sets: [self, other], group: 0, occupied: 0, first: 0, word: 0 }
    }
}

/// Goes through the pages of two sets. Written out, and small, because a restore does so for a handful of pages.
struct Union<'a> {
    sets: [&'a PageSet; 2],
    /// The group of words that is looked at next, those of one word of `occupied`.
    group: usize,
    /// What is left of the group before.
    occupied: u64,
    /// The first page of the word that is looked at, and what is left of it.
    first: usize,
    word: u64,
}

impl Iterator for Union<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let [one, other] = self.sets;
        while self.word == 0 {
            while self.occupied == 0 {
                self.occupied = one.occupied.get(self.group)? | other.occupied[self.group];
                self.group += 1;
            }
            let index = (self.group - 1) * BITS + take_lowest(&mut self.occupied);
            self.word = one.words[index] | other.words[index];
            self.first = index * BITS;
        }
        Some(self.first + take_lowest(&mut self.word))
    }
}

/// Takes the lowest bit that is set out of a word that is not zero.
fn take_lowest(word: &mut u64) -> usize {
    let bit = word.trailing_zeros() as usize;
    *word &= *word - 1;
    bit
}

fn set_bit(words: &mut [u64], bit: usize) {
    words[bit / BITS] |= 1 << (bit % BITS);
}

/// The numbers of the bits that are set.
fn bits(words: impl Iterator<Item = u64>) -> impl Iterator<Item = usize> {
    words.enumerate().filter(|(_, word)| *word != 0).flat_map(|(index, word)| bits_of(index, word))
}

/// The numbers of the bits that are set in one word.
fn bits_of(index: usize, mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.checked_sub(1)?;
        Some(index * BITS + bit)
    })
}

/// Bits of a word.
const BITS: usize = u64::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_in_order() {
        let mut set = PageSet::new(130);
        for page in [129, 0, 64, 63, 64] {
            set.insert(page);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert_eq!(set.len(), 4);
        set.remove(63);
        assert!(!set.contains(63) && set.contains(129) && !set.contains(1000));
        set.clear();
        assert!(set.is_empty());
        assert_eq!(set.iter().next(), None);
    }

    #[test]
    fn pages_far_apart_are_found_and_taken_out_again() {
        let pages = [0, 4095, 4096, 8191, 131_071];
        let mut set = PageSet::new(131_072);
        pages.iter().for_each(|page| set.insert(*page));
        assert_eq!(set.iter().collect::<Vec<_>>(), pages);
        assert_eq!(set.union(&PageSet::new(131_072)).collect::<Vec<_>>(), pages);
        pages.iter().for_each(|page| set.remove(*page));
        assert_eq!(set, PageSet::new(131_072));
    }

    #[test]
    fn pages_of_a_range_are_counted() {
        let mut set = PageSet::new(200);
        let pages = [0, 1, 63, 64, 65, 127, 128, 199];
        pages.iter().for_each(|page| set.insert(*page));
        for start in 0..=201 {
            for end in 0..=201 {
                let expected = pages.iter().filter(|page| (start..end).contains(*page)).count();
                assert_eq!(set.len_in(start..end), expected, "{start}..{end}");
            }
        }
    }

    #[test]
    fn sets_of_one_slot_can_be_joined() {
        let (mut one, mut other) = (PageSet::new(70), PageSet::new(70));
        one.insert(3);
        other.insert(69);
        assert_eq!(one.union(&other).collect::<Vec<_>>(), [3, 69]);
        one.insert_all(&other);
        assert_eq!(one.iter().collect::<Vec<_>>(), [3, 69]);
    }

    #[test]
    #[should_panic(expected = "page 64 of 64")]
    fn a_page_beyond_the_slot_is_a_bug_of_the_host() {
        PageSet::new(64).insert(64);
    }
}
