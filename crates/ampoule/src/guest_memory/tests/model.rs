//! Random writes, snapshots and restores against plain copies.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_what_plain_copies_would_be(steps in prop::collection::vec(step(), 1..30)) {
        let file = TestFile::new(FILE_PAGES);
        let mut trial = Trial::new(PAGES);
        let mut plain = vec![0; PAGES];
        let mut taken: Vec<(Arc<Contents>, Vec<u8>)> = Vec::new();
        for step in steps {
            match step {
                Step::Guest { pages, value } => {
                    for page in pages {
                        trial.guest_writes(page, value);
                        plain[page] = value;
                    }
                }
                Step::Host { page, value } => {
                    trial.host_writes(page, value);
                    plain[page] = value;
                }
                Step::Clear { frames } => {
                    trial.memory.clear_frames(&(Frame(frames.start)..Frame(frames.end))).unwrap();
                    plain[frames.start as usize + 1..frames.end as usize + 1].fill(0);
                }
                Step::File { frame, first, pages } => {
                    let part = file.0.contents(first..first + pages).unwrap();
                    trial.memory.show_file(Frame(frame as u64), &part).unwrap();
                    (0..pages).for_each(|page| plain[1 + frame + page] = file_byte(first + page));
                }
                Step::Snapshot => taken.push((trial.snapshot(), plain.clone())),
                Step::Restore { target, times } if !taken.is_empty() => {
                    let (contents, held) = target.get(&taken);
                    for _ in 0..times {
                        trial.restore(contents);
                    }
                    plain.clone_from(held);
                }
                Step::Sibling { of } if !taken.is_empty() => {
                    let (contents, held) = of.get(&taken);
                    trial = Trial::showing(contents);
                    plain.clone_from(held);
                }
                Step::Drop { target } if !taken.is_empty() => drop(taken.swap_remove(target.index(taken.len()))),
                Step::Restore { .. } | Step::Sibling { .. } | Step::Drop { .. } => {}
            }
            prop_assert!(trial.bytes() == plain);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Guest {
        pages: Range<usize>,
        value: u8,
    },
    Host {
        page: usize,
        value: u8,
    },
    Clear {
        frames: Range<u64>,
    },
    /// Pages of a file are shown.
    File {
        frame: usize,
        first: usize,
        pages: usize,
    },
    Snapshot,
    Restore {
        target: Index,
        times: u32,
    },
    /// Continues in memory that shows a snapshot.
    Sibling {
        of: Index,
    },
    Drop {
        target: Index,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    let few = (0..PAGES - 9, 1_usize..9).prop_map(|(start, len)| start..start + len);
    let many = (0_usize..20, LARGE_SET..PAGES - 20).prop_map(|(start, len)| start..start + len);
    let frames = (0..PAGES as u64 - 101, 1_u64..100).prop_map(|(start, len)| start..start + len);
    let file = (0..FILE_PAGES - 40, 1_usize..40, 0..PAGES - 41);
    prop_oneof![
        3 => (few, any::<u8>()).prop_map(|(pages, value)| Step::Guest { pages, value }),
        1 => (many, any::<u8>()).prop_map(|(pages, value)| Step::Guest { pages, value }),
        2 => (0..PAGES, any::<u8>()).prop_map(|(page, value)| Step::Host { page, value }),
        1 => frames.prop_map(|frames| Step::Clear { frames }),
        2 => file.prop_map(|(first, pages, frame)| Step::File { frame, first, pages }),
        2 => Just(Step::Snapshot),
        4 => (index(), prop_oneof![Just(1), 2..3 * WINDOW])
            .prop_map(|(target, times)| Step::Restore { target, times }),
        1 => index().prop_map(|of| Step::Sibling { of }),
        1 => index().prop_map(|target| Step::Drop { target }),
    ]
}

/// More than a piece that is read at once.
const FILE_PAGES: usize = 300;

/// Enough for all ways to go back.
const PAGES: usize = REMAP_FROM + LARGE_SET;
