//! Frames by themselves, against sets of single frames.

use std::collections::BTreeSet as Set;

use proptest::prelude::*;

use super::*;

#[test]
fn the_shortest_run_that_is_long_enough_is_taken() {
    let mut frames = FrameAllocator::new(10);
    assert_eq!(allocate(&mut frames, 2), one_run(run(0, 2)));
    assert_eq!(allocate(&mut frames, 3), one_run(run(2, 5)));
    frames.release(run(0, 2));
    assert_eq!(allocate(&mut frames, 4), one_run(run(5, 9)));
    assert_eq!(allocate(&mut frames, 1), one_run(run(9, 10)));
    assert_eq!(allocate(&mut frames, 2), one_run(run(0, 2)));
}

#[test]
fn scattered_frames_serve_when_no_run_is_long_enough() {
    let mut frames = FrameAllocator::new(6);
    allocate(&mut frames, 6).unwrap();
    frames.release(run(0, 1));
    frames.release(run(2, 3));
    frames.release(run(4, 5));
    assert_eq!(allocate(&mut frames, 2).unwrap().len(), 2);
    assert_eq!(frames.free(), 1);
}

#[test]
fn too_many_frames_are_refused_and_none_is_taken() {
    let mut frames = FrameAllocator::new(4);
    assert_eq!(allocate(&mut frames, 5), None);
    assert_eq!(frames.free(), 4);
    assert_eq!(allocate(&mut frames, u64::MAX), None);
    assert_eq!(allocate(&mut frames, 0), Some(Vec::new()));
}

#[test]
fn released_neighbours_become_one_run_again() {
    let mut frames = FrameAllocator::new(6);
    allocate(&mut frames, 6).unwrap();
    frames.release(run(0, 2));
    frames.release(run(4, 6));
    frames.release(run(2, 4));
    assert_eq!(allocate(&mut frames, 6), one_run(run(0, 6)));
}

#[test]
fn the_next_free_frame_is_the_first_of_a_run_or_within_one() {
    let mut frames = FrameAllocator::new(10);
    allocate(&mut frames, 9).unwrap();
    frames.release(run(3, 6));
    let found = [0, 3, 5, 6, 9].map(|start| frames.next_free(Frame(start)).0);
    assert_eq!(found, [3, 3, 5, 9, 9]);
    allocate(&mut frames, 1).unwrap();
    assert_eq!(frames.next_free(Frame(7)), Frame(10));
}

#[test]
fn a_run_that_holds_others_stays_as_long_as_it_is() {
    let mut runs: Vec<_> = std::iter::once(run(0, 10)).chain((0..65).map(|_| run(1, 2))).collect();
    assert!(coalesce(runs.clone()).into_iter().eq(std::iter::once(run(0, 10))));
    runs.rotate_left(1);
    assert!(coalesce(runs).into_iter().eq(std::iter::once(run(0, 10))));
}

#[test]
fn many_runs_become_one_that_reaches_as_far_as_any() {
    let mut cover = Cover::default();
    cover.add(run(0, 1000));
    (0..2 * Cover::MOST_RUNS as u64).for_each(|index| cover.add(run(2 * index, 2 * index + 1)));
    assert!(cover.take().into_iter().eq(std::iter::once(run(0, 1000))));
}

proptest! {
    #[test]
    fn coalesced_runs_hold_the_same_frames_and_neither_overlap_nor_touch(runs in runs(0..40)) {
        let coalesced = coalesce(runs.clone());
        prop_assert_eq!(set(&coalesced), set(&runs));
        prop_assert!(coalesced.iter().all(|run| !run.is_empty()));
        prop_assert!(coalesced.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", coalesced);
    }

    #[test]
    fn a_cover_covers_everything_between_the_first_and_the_last_at_most(runs in runs(0..3000)) {
        let mut cover = Cover::default();
        runs.iter().for_each(|run| cover.add(run.clone()));
        let covering = cover.take();
        prop_assert!(cover.is_empty());
        prop_assert!(covering.len() <= Cover::MOST_RUNS);
        prop_assert!(covering.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", covering);
        let (covered, added) = (set(&covering), set(&runs));
        prop_assert!(covered.is_superset(&added));
        prop_assert_eq!((covered.first(), covered.last()), (added.first(), added.last()));
        if coalesce(runs).len() <= Cover::MOST_RUNS {
            prop_assert_eq!(covered, added);
        }
    }

    #[test]
    fn removing_frames_from_a_cover_removes_no_others(runs in runs(0..100), out in runs(0..5)) {
        let mut cover = Cover::default();
        runs.iter().for_each(|run| cover.add(run.clone()));
        out.iter().for_each(|run| cover.remove(run));
        let left: Set<u64> = set(&runs).difference(&set(&out)).copied().collect();
        prop_assert!(set(&cover.take()).is_superset(&left));
    }

    #[test]
    fn no_frame_is_given_twice_and_none_is_lost(steps in prop::collection::vec((any::<bool>(), 1..20_u64, any::<prop::sample::Index>()), 0..60)) {
        const TOTAL: u64 = 64;
        let mut frames = FrameAllocator::new(TOTAL);
        let mut taken: Vec<FrameRange> = Vec::new();
        for (takes, count, which) in steps {
            if takes {
                let free = frames.free();
                match allocate(&mut frames, count) {
                    Some(runs) => {
                        prop_assert_eq!(runs.iter().map(|run| run.end - run.start).sum::<u64>(), count);
                        taken.extend(runs);
                    }
                    None => prop_assert!(count > free),
                }
            } else if !taken.is_empty() {
                frames.release(taken.swap_remove(which.index(taken.len())));
            }
            let held: u64 = taken.iter().map(|run| run.end - run.start).sum();
            prop_assert_eq!(set(&taken).len() as u64, held, "a frame was given twice");
            prop_assert_eq!(frames.free() + held, TOTAL);
        }
        taken.into_iter().for_each(|run| frames.release(run));
        prop_assert_eq!(allocate(&mut frames, TOTAL), one_run(run(0, TOTAL)));
    }
}

fn allocate(frames: &mut FrameAllocator, count: u64) -> Option<Vec<FrameRange>> {
    frames.allocate(count, || Ok::<(), std::convert::Infallible>(())).unwrap_or_else(|never| match never {})
}

/// Runs that overlap, touch, are the same, empty, and in no order.
fn runs(count: Range<usize>) -> impl Strategy<Value = Vec<FrameRange>> {
    prop::collection::vec((0..400_u64, 0..12_u64).prop_map(|(start, len)| run(start, start + len)), count)
}

fn set(runs: &[FrameRange]) -> Set<u64> {
    runs.iter().flat_map(|run| run.start.0..run.end.0).collect()
}

fn run(start: u64, end: u64) -> FrameRange {
    Frame(start)..Frame(end)
}

fn one_run(run: FrameRange) -> Option<Vec<FrameRange>> {
    Some(std::iter::once(run).collect())
}
