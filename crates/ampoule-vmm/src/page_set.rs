//! A set of pages, by their numbers.

/// Which pages of a memory slot are meant: one bit for each.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct PageSet {
    words: Box<[u64]>,
    pages: usize,
}

impl PageSet {
    /// An empty set that can hold the pages `0..pages`.
    pub fn new(pages: usize) -> PageSet {
        PageSet { words: vec![0; pages.div_ceil(PAGES_PER_WORD)].into(), pages }
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
        self.words[page / PAGES_PER_WORD] |= 1 << (page % PAGES_PER_WORD);
    }

    /// Takes a page out, if it is there.
    pub fn remove(&mut self, page: usize) {
        if let Some(word) = self.words.get_mut(page / PAGES_PER_WORD) {
            *word &= !(1 << (page % PAGES_PER_WORD));
        }
    }

    /// Whether a page is there.
    pub fn contains(&self, page: usize) -> bool {
        self.words.get(page / PAGES_PER_WORD).is_some_and(|word| word >> (page % PAGES_PER_WORD) & 1 != 0)
    }

    /// Adds all pages of another set.
    ///
    /// # Panics
    ///
    /// When the sets differ in how many pages they can hold.
    pub fn insert_all(&mut self, other: &PageSet) {
        assert_eq!(self.pages, other.pages, "sets of pages of different slots");
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Takes all pages out.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Whether no page is there.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many pages are there.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The pages in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        pages_of(self.words.iter().copied())
    }

    /// The pages that are in this set, in another, or in both, in ascending order.
    ///
    /// # Panics
    ///
    /// When the sets differ in how many pages they can hold.
    pub fn union<'a>(&'a self, other: &'a PageSet) -> impl Iterator<Item = usize> + 'a {
        assert_eq!(self.pages, other.pages, "sets of pages of different slots");
        pages_of(self.words.iter().zip(&other.words).map(|(word, other)| word | other))
    }

    /// The bits: page `n` is bit `n % 64` of word `n / 64`.
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// The bits, as for [`words_mut`](Self::words_mut).
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }
}

fn pages_of(words: impl Iterator<Item = u64>) -> impl Iterator<Item = usize> {
    words.enumerate().filter(|(_, word)| *word != 0).flat_map(|(index, mut rest)| {
        std::iter::from_fn(move || {
            let bit = rest.trailing_zeros() as usize;
            rest &= rest.checked_sub(1)?;
            Some(index * PAGES_PER_WORD + bit)
        })
    })
}

const PAGES_PER_WORD: usize = u64::BITS as usize;

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
