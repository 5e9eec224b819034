//! A map from ranges of pages to values.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::page::Page;

/// The value of a range of pages. It can be cut, and may continue in the value of the range behind it.
pub(super) trait Piece: Clone {
    /// The value of what is left when the first `pages` pages are cut off.
    fn skip(&self, pages: u64) -> Self;

    /// Whether `next` is what this value would be `pages` pages further on, so that the two ranges are one.
    fn continues_in(&self, pages: u64, next: &Self) -> bool;
}

/// Disjoint, non-empty ranges of page numbers, each with a value. Neighbours that can be one range are one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RangeMap<V> {
    /// By first page: the page after the last, and the value.
    ranges: BTreeMap<Page, (Page, V)>,
}

impl<V: Piece> RangeMap<V> {
    pub(super) fn new() -> Self {
        Self { ranges: BTreeMap::new() }
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The range that holds `page`, and its value.
    pub(super) fn get(&self, page: Page) -> Option<(Range<Page>, &V)> {
        let (start, (end, value)) = self.ranges.range(..=page).next_back()?;
        (page < *end).then_some((*start..*end, value))
    }

    /// The parts of the ranges that lie within `within`, in order.
    pub(super) fn overlapping(&self, within: &Range<Page>) -> impl Iterator<Item = (Range<Page>, V)> + use<'_, V> {
        let Range { start, end } = within.clone();
        let first = match self.get(start) {
            _ if start >= end => end,
            Some((range, _)) => range.start,
            None => start,
        };
        self.ranges.range(first..end).map(move |(first, (last, value))| {
            let part = (*first).max(start)..(*last).min(end);
            let value = value.skip(part.start - *first);
            (part, value)
        })
    }

    /// The part of `within`, from its start on, that holds at most `runs` ranges and `pages` pages with a value; at least one
    /// page of each.
    pub(super) fn portion(&self, within: &Range<Page>, runs: usize, pages: u64) -> Range<Page> {
        let mut left = pages;
        for (count, (part, _)) in self.overlapping(within).enumerate() {
            if count == runs || left == 0 {
                return within.start..part.start;
            }
            if part.end - part.start > left {
                return within.start..part.start + left;
            }
            left -= part.end - part.start;
        }
        within.clone()
    }

    /// Whether no page of `within` has a value.
    pub(super) fn is_vacant(&self, within: &Range<Page>) -> bool {
        self.overlapping(within).next().is_none()
    }

    /// Whether every page of `within` has a value.
    pub(super) fn covers(&self, within: &Range<Page>) -> bool {
        self.gaps(within).next().is_none()
    }

    /// The parts of `within` that have no value, in order.
    pub(super) fn gaps(&self, within: &Range<Page>) -> impl Iterator<Item = Range<Page>> + use<'_, V> {
        let Range { mut start, end } = within.clone();
        let mut taken = self.overlapping(within).map(|(part, _)| part).chain(std::iter::once(end..end));
        std::iter::from_fn(move || {
            loop {
                let part = taken.next()?;
                let gap = start..part.start;
                start = part.end;
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
        })
    }

    /// The highest `pages` contiguous pages within `within` that have no value.
    pub(super) fn highest_gap(&self, within: &Range<Page>, pages: u64) -> Option<Range<Page>> {
        let room = |bottom: Page, top: Page| top.0.saturating_sub(bottom.0);
        let mut end = within.end;
        for (start, (last, _)) in self.ranges.range(..within.end).rev() {
            let bottom = (*last).max(within.start);
            if room(bottom, end) >= pages {
                break;
            }
            end = (*start).min(end);
        }
        (room(within.start, end) >= pages).then(|| end - pages..end)
    }

    /// Gives the pages of `range`, none of which has a value, the value `value`.
    pub(super) fn insert(&mut self, range: Range<Page>, value: V) {
        debug_assert!(self.is_vacant(&range));
        if range.is_empty() {
            return;
        }
        let (mut range, mut value) = (range, value);
        if let Some((start, (end, before))) = self.ranges.range(..range.start).next_back()
            && *end == range.start
            && before.continues_in(*end - *start, &value)
        {
            (range.start, value) = (*start, before.clone());
        }
        if let Some((end, after)) = self.ranges.get(&range.end)
            && value.continues_in(range.end - range.start, after)
        {
            let joined = range.end;
            range.end = *end;
            self.ranges.remove(&joined);
        }
        self.ranges.insert(range.start, (range.end, value));
    }

    /// Removes the values of the pages of `range`, and returns those that there were.
    pub(super) fn remove(&mut self, range: &Range<Page>) -> Vec<(Range<Page>, V)> {
        if range.is_empty() {
            return Vec::new();
        }
        self.split_at(range.start);
        self.split_at(range.end);
        let starts: Vec<Page> = self.ranges.range(range.clone()).map(|(start, _)| *start).collect();
        starts
            .into_iter()
            .filter_map(|start| self.ranges.remove(&start).map(|(end, value)| (start..end, value)))
            .collect()
    }

    /// Whether `page` and the page before it are in the same range.
    pub(super) fn is_inside(&self, page: Page) -> bool {
        self.get(page).is_some_and(|(range, _)| range.start < page)
    }

    fn split_at(&mut self, page: Page) {
        let Some((range, value)) = self.get(page).filter(|(range, _)| range.start < page) else {
            return;
        };
        let rest = value.skip(page - range.start);
        if let Some((end, _)) = self.ranges.get_mut(&range.start) {
            *end = page;
        }
        self.ranges.insert(page, (range.end, rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value that counts up with the pages.
    #[derive(Clone, Debug, PartialEq)]
    struct Count(u64);

    impl Piece for Count {
        fn skip(&self, pages: u64) -> Self {
            Self(self.0 + pages)
        }

        fn continues_in(&self, pages: u64, next: &Self) -> bool {
            self.0 + pages == next.0
        }
    }

    fn map(ranges: &[(Range<u64>, u64)]) -> RangeMap<Count> {
        let mut map = RangeMap::new();
        for (range, value) in ranges {
            map.insert(pages(range.start, range.end), Count(*value));
        }
        map
    }

    fn pages(start: u64, end: u64) -> Range<Page> {
        Page(start)..Page(end)
    }

    #[test]
    fn neighbours_that_continue_each_other_become_one() {
        let map = map(&[(0..2, 10), (4..6, 14), (2..4, 12)]);
        assert_eq!(map.len(), 1);
        assert_eq!(map.get(Page(5)), Some((pages(0, 6), &Count(10))));
    }

    #[test]
    fn removing_the_middle_leaves_both_ends_with_their_values() {
        let mut map = map(&[(0..10, 100)]);
        assert_eq!(map.remove(&pages(3, 5)), [(pages(3, 5), Count(103))]);
        assert_eq!(map.get(Page(2)), Some((pages(0, 3), &Count(100))));
        assert_eq!(map.get(Page(4)), None);
        assert_eq!(map.get(Page(5)), Some((pages(5, 10), &Count(105))));
    }

    #[test]
    fn gaps_are_what_the_ranges_leave() {
        let map = map(&[(2..4, 0), (6..8, 0)]);
        assert_eq!(map.gaps(&pages(0, 10)).collect::<Vec<_>>(), [pages(0, 2), pages(4, 6), pages(8, 10)]);
        assert!(map.gaps(&pages(3, 7)).eq(std::iter::once(pages(4, 6))));
        assert!(map.covers(&pages(2, 4)) && !map.covers(&pages(2, 5)));
        assert!(map.is_vacant(&pages(4, 6)) && !map.is_vacant(&pages(5, 7)));
    }

    #[test]
    fn a_portion_has_no_more_ranges_and_pages_than_asked_for() {
        let map = map(&[(2..4, 0), (6..8, 0), (10..20, 0)]);
        assert_eq!(map.portion(&pages(0, 30), 3, 100), pages(0, 30));
        assert_eq!(map.portion(&pages(0, 30), 2, 100), pages(0, 10));
        assert_eq!(map.portion(&pages(0, 30), 9, 3), pages(0, 7));
        assert_eq!(map.portion(&pages(0, 30), 9, 4), pages(0, 10));
        assert_eq!(map.portion(&pages(3, 30), 9, 5), pages(3, 12));
        assert_eq!(map.portion(&pages(20, 30), 1, 1), pages(20, 30));
    }

    #[test]
    fn the_highest_gap_is_found_from_the_top() {
        let map = map(&[(2..4, 0), (6..8, 0)]);
        assert_eq!(map.highest_gap(&pages(0, 10), 2), Some(pages(8, 10)));
        assert_eq!(map.highest_gap(&pages(0, 9), 2), Some(pages(4, 6)));
        assert_eq!(map.highest_gap(&pages(0, 7), 2), Some(pages(4, 6)));
        assert_eq!(map.highest_gap(&pages(1, 7), 3), None);
    }
}
