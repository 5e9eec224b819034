//! Pages that were written, noted by any thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of pages to which any thread can add.
#[derive(Debug)]
pub(in crate::memory) struct Note {
    /// One bit for each page, and in front one for each of those words that is not zero. It is one allocation, because a call
    /// finds none of it in the processor's caches.
    words: Box<[AtomicU64]>,
    /// How many words are in front.
    front: usize,
}

impl Note {
    /// An empty set that can hold the pages `0..pages`.
    pub(in crate::memory) fn new(pages: usize) -> Note {
        let words = pages.div_ceil(BITS);
        let front = words.div_ceil(BITS);
        Note { words: (0..front + words).map(|_| AtomicU64::new(0)).collect(), front }
    }

    /// Adds a page, which the set can hold.
    #[inline]
    pub(in crate::memory) fn insert(&self, page: usize) {
        let (occupied, written) = self.words.split_at(self.front);
        set_bit(written, page);
        set_bit(occupied, page / BITS);
    }

    /// Takes all pages out, in ascending order.
    pub(in crate::memory) fn take(&self, mut taken: impl FnMut(usize)) {
        let (occupied, written) = self.words.split_at(self.front);
        for (index, occupied) in occupied.iter().enumerate() {
            bits(take(occupied)).map(|bit| index * BITS + bit).for_each(|word| {
                bits(take(&written[word])).for_each(|bit| taken(word * BITS + bit));
            });
        }
    }
}

#[inline]
fn set_bit(words: &[AtomicU64], index: usize) {
    let (word, bit) = (&words[index / BITS], 1 << (index % BITS));
    // Bits that are already set, as most are, are only read.
    if word.load(Ordering::Relaxed) & bit == 0 {
        word.fetch_or(bit, Ordering::Relaxed);
    }
}

/// Sets a word to 0. One that is 0 already, as most are, is only read.
fn take(word: &AtomicU64) -> u64 {
    if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::Relaxed) }
}

/// The positions of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

/// Bits of a word.
const BITS: usize = u64::BITS as usize;
