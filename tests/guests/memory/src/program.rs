//! A program like any other.

use std::mem::MaybeUninit;

use ampoule_guest::export;

/// Allocates blocks of up to `largest` KiB, writes a word to each of their pages, and looks for it before they are freed.
/// Returns how many of the words were not found.
#[export]
fn use_the_heap(seed: u64, rounds: u64, largest: u64) -> u64 {
    let mut state = seed | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let mut blocks: [Option<Block>; 8] = [const { None }; 8];
    let mut wrong = 0;
    for _ in 0..rounds {
        let slot = &mut blocks[random() as usize % 8];
        match slot.take() {
            Some(block) => wrong += block.wrong_words(),
            None => *slot = Some(Block::new(1 + random() as usize % (largest as usize / 4), random())),
        }
    }
    wrong + blocks.into_iter().flatten().map(|block| block.wrong_words()).sum::<u64>()
}

/// Memory that holds a number of its own in every page. The rest of it is never touched.
struct Block {
    words: Box<[MaybeUninit<u64>]>,
    value: u64,
}

impl Block {
    fn new(pages: usize, value: u64) -> Self {
        let mut words = Box::new_uninit_slice(pages * WORDS);
        for (page, word) in words.iter_mut().step_by(WORDS).enumerate() {
            word.write(value.wrapping_add(page as u64));
        }
        Self { words, value }
    }

    fn wrong_words(&self) -> u64 {
        let words = self.words.iter().step_by(WORDS).enumerate();
        // SAFETY: `new` has written the first word of every page.
        words.filter(|(page, word)| unsafe { word.assume_init_read() } != self.value.wrapping_add(*page as u64)).count()
            as u64
    }
}

/// To a page.
const WORDS: usize = 512;
