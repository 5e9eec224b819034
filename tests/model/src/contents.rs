//! What a page holds.

/// A number in three words of the page, in a different form in each, and a filler in all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Zero if the page was never written: then all words are the filler.
    pub stamp: u64,
    /// Zero except for pages of the image.
    pub filler: u64,
}

impl Contents {
    /// Of a fresh page.
    pub const ZERO: Self = Self { stamp: 0, filler: 0 };

    /// The words that a write of the stamp writes.
    pub const STAMPED: [usize; 3] = [0, 257, 511];

    /// In a page.
    pub const WORDS: usize = 512;

    /// The value of a word of the page.
    pub fn word(self, index: usize) -> u64 {
        if self.stamp != 0 && Self::STAMPED.contains(&index) {
            self.stamp.rotate_left(index as u32 % 64)
        } else {
            self.filler
        }
    }

    /// All bytes of the page.
    pub fn bytes(self) -> Vec<u8> {
        (0..Self::WORDS).flat_map(|index| self.word(index).to_le_bytes()).collect()
    }
}
