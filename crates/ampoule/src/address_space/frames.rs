//! The frames of a guest's memory that are not in use.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::page::Frame;

use super::PORTION_RUNS;
use super::range_map::Piece;

/// Contiguous frames.
pub(super) type FrameRange = Range<Frame>;

/// The first of the frames behind a range of pages; the others follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstFrame(pub(super) Frame);

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
    /// The length of each run, by its first frame. Neighbours are joined.
    runs: BTreeMap<Frame, u64>,
    /// The same runs by their length, then by first frame.
    by_len: BTreeSet<(u64, Frame)>,
    free: u64,
    total: u64,
}

impl FrameAllocator {
    /// `total` frames, all free.
    pub(super) fn new(total: u64) -> Self {
        let mut allocator = Self { runs: BTreeMap::new(), by_len: BTreeSet::new(), free: 0, total };
        allocator.release(Frame(0)..Frame(total));
        allocator
    }

    /// `total` frames, all free but for these runs, which are in ascending order and do not overlap.
    pub(super) fn without(total: u64, used: &[FrameRange]) -> Self {
        let mut allocator = Self { runs: BTreeMap::new(), by_len: BTreeSet::new(), free: 0, total };
        let mut at = Frame(0);
        for run in used {
            allocator.release(at..run.start);
            at = run.end;
        }
        allocator.release(at..Frame(total));
        allocator
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Takes `count` frames: from the shortest run that is long enough if there is one, from the longest runs otherwise.
    /// `None`, and nothing is taken, when fewer are free. `look` is asked now and then whether to continue.
    ///
    /// # Errors
    ///
    /// That of `look`. What was taken by then is lost.
    pub(super) fn allocate<E>(
        &mut self,
        count: u64,
        mut look: impl FnMut() -> Result<(), E>,
    ) -> Result<Option<Vec<FrameRange>>, E> {
        if count > self.free {
            return Ok(None);
        }
        let mut taken = Vec::new();
        let mut missing = count;
        while missing > 0 {
            if taken.len() % PORTION_RUNS == PORTION_RUNS - 1 {
                look()?;
            }
            let (len, start) = match self.by_len.range((missing, Frame(0))..).next() {
                Some(fitting) => *fitting,
                None => *self.by_len.last().expect("as many frames are free as were counted"),
            };
            let run = start..start + missing.min(len);
            self.remove(start, len);
            self.insert(run.end, len - (run.end - run.start));
            missing -= run.end - run.start;
            taken.push(run);
        }
        Ok(Some(taken))
    }

    /// The first frame from `start` on that is free; the end of all where none is.
    pub(super) fn next_free(&self, start: Frame) -> Frame {
        let around = self.runs.range(..=start).next_back().filter(|(first, len)| **first + **len > start);
        match around.or_else(|| self.runs.range(start..).next()) {
            Some((first, _)) => (*first).max(start),
            None => Frame(self.total),
        }
    }

    /// Gives frames back, which hold zeros again.
    pub(super) fn release(&mut self, frames: FrameRange) {
        debug_assert!(frames.end <= Frame(self.total));
        if frames.is_empty() {
            return;
        }
        let (mut start, mut end) = (frames.start, frames.end);
        if let Some((before, len)) = self.runs.range(..start).next_back().map(|(before, len)| (*before, *len)) {
            debug_assert!(before + len <= start);
            if before + len == start {
                self.remove(before, len);
                start = before;
            }
        }
        if let Some(len) = self.runs.get(&end).copied() {
            self.remove(end, len);
            end += len;
        }
        self.insert(start, end - start);
    }

    fn insert(&mut self, start: Frame, len: u64) {
        if len > 0 {
            self.runs.insert(start, len);
            self.by_len.insert((len, start));
            self.free += len;
        }
    }

    fn remove(&mut self, start: Frame, len: u64) {
        self.runs.remove(&start);
        self.by_len.remove(&(len, start));
        self.free -= len;
    }
}

/// A few runs that cover all frames that were added, and perhaps others between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Cover {
    /// In the order in which they were added; they may overlap.
    runs: Vec<FrameRange>,
}

impl Cover {
    pub(super) fn add(&mut self, frames: FrameRange) {
        if let Some(last) = self.runs.last_mut()
            && last.end == frames.start
        {
            last.end = last.end.max(frames.end);
            return;
        }
        self.runs.push(frames);
        if self.runs.len() > Self::MOST_KEPT {
            self.runs = few(coalesce(std::mem::take(&mut self.runs)));
        }
    }

    /// Removes frames, where that costs little.
    pub(super) fn remove(&mut self, frames: &FrameRange) {
        if self.runs.len() > Self::MOST_RUNS {
            return;
        }
        for run in std::mem::take(&mut self.runs) {
            let left = [run.start..run.end.min(frames.start), run.start.max(frames.end)..run.end];
            self.runs.extend(left.into_iter().filter(|part| !part.is_empty()));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Removes and returns everything: at most [`MOST_RUNS`](Self::MOST_RUNS) runs in ascending order, which neither overlap
    /// nor touch.
    pub(super) fn take(&mut self) -> Vec<FrameRange> {
        few(coalesce(std::mem::take(&mut self.runs)))
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }

    /// Beyond this many runs it is cheaper to ask the host for everything between the first and the last.
    pub(super) const MOST_RUNS: usize = 64;

    /// The runs are coalesced only when there are more than this, so that adding one costs little.
    const MOST_KEPT: usize = 16 * Self::MOST_RUNS;
}

/// The same frames in runs that neither overlap nor touch, in ascending order.
pub(super) fn coalesce(mut frames: Vec<FrameRange>) -> Vec<FrameRange> {
    frames.retain(|run| !run.is_empty());
    frames.sort_unstable_by_key(|run| run.start);
    frames.dedup_by(|next, run| {
        let meets = next.start <= run.end;
        if meets {
            run.end = run.end.max(next.end);
        }
        meets
    });
    frames
}

/// Coalesced runs as they are, or everything from the first to the last where they are many.
fn few(mut runs: Vec<FrameRange>) -> Vec<FrameRange> {
    if runs.len() > Cover::MOST_RUNS {
        let end = runs.last().map_or(Frame(0), |last| last.end);
        runs.truncate(1);
        runs[0].end = end;
    }
    runs
}

#[cfg(test)]
mod tests;
