//! The frames of a guest's memory that are not in use.

use std::collections::BTreeMap;
use std::ops::Range;

use super::range_map::Piece;

/// A run of frames: pages of the memory region, counted from its start.
pub(super) type FrameRange = Range<u64>;

/// The first of the frames behind a range of pages; the others follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstFrame(pub(super) u64);

impl Piece for FirstFrame {
    fn skip(&self, pages: u64) -> Self {
        Self(self.0 + pages)
    }

    fn continues_in(&self, pages: u64, next: &Self) -> bool {
        self.0 + pages == next.0
    }
}

/// Which frames are free. A free frame holds zeros.
#[derive(Clone, Debug)]
pub(super) struct FrameAllocator {
    /// By first frame: how many. Neighbours are joined.
    runs: BTreeMap<u64, u64>,
    free: u64,
    total: u64,
}

impl FrameAllocator {
    /// `total` frames, all free.
    pub(super) fn new(total: u64) -> Self {
        let runs = if total > 0 { BTreeMap::from([(0, total)]) } else { BTreeMap::new() };
        Self { runs, free: total, total }
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Takes `count` frames: in one run if there is one, from the lowest runs otherwise. `None`, and nothing is taken, when
    /// fewer are free.
    pub(super) fn allocate(&mut self, count: u64) -> Option<Vec<FrameRange>> {
        if count > self.free {
            return None;
        }
        let mut taken = Vec::new();
        if count == 0 {
            return Some(taken);
        }
        if let Some((start, len)) = self.runs.iter().find(|(_, len)| **len >= count).map(|(start, len)| (*start, *len))
        {
            taken.push(self.take(start, len, count));
            return Some(taken);
        }
        let mut missing = count;
        while missing > 0 {
            let (start, len) = self.runs.first_key_value().map(|(start, len)| (*start, *len))?;
            let run = self.take(start, len, missing.min(len));
            missing -= run.end - run.start;
            taken.push(run);
        }
        Some(taken)
    }

    /// Gives frames back, which hold zeros again.
    pub(super) fn release(&mut self, frames: FrameRange) {
        debug_assert!(frames.end <= self.total);
        if frames.is_empty() {
            return;
        }
        self.free += frames.end - frames.start;
        let (mut start, mut end) = (frames.start, frames.end);
        if let Some((before, len)) = self.runs.range(..start).next_back().map(|(before, len)| (*before, *len)) {
            debug_assert!(before + len <= start);
            if before + len == start {
                start = before;
            }
        }
        if let Some(len) = self.runs.remove(&end) {
            end += len;
        }
        self.runs.insert(start, end - start);
    }

    fn take(&mut self, start: u64, len: u64, count: u64) -> FrameRange {
        self.runs.remove(&start);
        if len > count {
            self.runs.insert(start + count, len - count);
        }
        self.free -= count;
        start..start + count
    }
}

/// Joins runs of frames that touch, so that the host is asked once for each.
pub(super) fn coalesce(mut frames: Vec<FrameRange>) -> Vec<FrameRange> {
    frames.sort_unstable_by_key(|run| run.start);
    frames.dedup_by(|next, run| {
        let touches = next.start == run.end;
        if touches {
            run.end = next.end;
        }
        touches
    });
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_taken_in_one_piece_where_one_is_long_enough() {
        let mut frames = FrameAllocator::new(10);
        assert_eq!(frames.allocate(2), one_run(0..2));
        assert_eq!(frames.allocate(3), one_run(2..5));
        frames.release(0..2);
        assert_eq!(frames.allocate(4), one_run(5..9));
        assert_eq!(frames.allocate(2), one_run(0..2));
    }

    #[test]
    fn scattered_frames_serve_when_no_run_is_long_enough() {
        let mut frames = FrameAllocator::new(6);
        frames.allocate(6).unwrap();
        frames.release(0..1);
        frames.release(2..3);
        frames.release(4..5);
        assert_eq!(frames.allocate(2), Some(vec![0..1, 2..3]));
        assert_eq!(frames.free(), 1);
    }

    #[test]
    fn too_many_frames_are_refused_and_none_is_taken() {
        let mut frames = FrameAllocator::new(4);
        assert_eq!(frames.allocate(5), None);
        assert_eq!(frames.free(), 4);
        assert_eq!(frames.allocate(u64::MAX), None);
    }

    #[test]
    fn released_neighbours_become_one_run_again() {
        let mut frames = FrameAllocator::new(6);
        frames.allocate(6).unwrap();
        frames.release(0..2);
        frames.release(4..6);
        frames.release(2..4);
        assert_eq!(frames.allocate(6), one_run(0..6));
    }

    #[test]
    fn touching_runs_are_joined_before_the_host_is_asked() {
        assert_eq!(coalesce(vec![4..6, 0..2, 2..4, 8..9]), [0..6, 8..9]);
    }

    fn one_run(run: FrameRange) -> Option<Vec<FrameRange>> {
        Some(std::iter::once(run).collect())
    }
}
