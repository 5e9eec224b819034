//! Memory for a guest that writes one page after the other, before it gets there.
//!
//! The first write to a page costs two faults, one inside the other: the hypervisor has no translation of the page, and the
//! host no memory for it. The second can be had for many pages at once, in huge pages, which costs a fraction. So when a
//! guest has filled the hypervisor's list of written pages, the pages behind long runs of those are given memory. The
//! guest has left for that list anyway, so that this costs no exit. The first fault stays: it is what tracks the page.
//!
//! 1. A guest gets no more in advance than it has just written, [`MOST`] at most, and the rest of a huge page.
//! 2. It gets none that it has not asked its system for, and none for what it writes to the memory that it shares with the
//!    host.
//! 3. What it gets is its own, but not dirty: a restore does not look at it.

use std::ops::Range;

use ampoule_vmm::{HypervisorError, PageSet, TrackedRegion, WrittenPages};

use super::GuestMemory;
use crate::page::Frame;

impl GuestMemory {
    /// Collects what `guest`, whose memory this is, has written, and gives memory to pages that it is about to write: how
    /// many these are. `next_free` is the first frame, from another on, that is behind none of the guest's pages.
    ///
    /// # Errors
    ///
    /// What the hypervisor reports.
    pub(crate) fn populate_ahead(
        &mut self,
        guest: &mut dyn WrittenPages,
        next_free: impl Fn(Frame) -> Frame,
    ) -> Result<usize, HypervisorError> {
        let mut populated = 0;
        let mut recent = PageSet::new(self.pages());
        guest.collect_written(&mut recent)?;
        self.guest_written.insert_all(&recent);
        let frames = self.reserved;
        for run in runs(&recent).filter(|run| run.len() >= LEAST && run.end >= frames) {
            let first = run.end.next_multiple_of(HUGE_PAGE);
            let asked = frames + next_free(Frame((first - frames) as u64)).0 as usize;
            let end = (run.end + run.len().min(MOST)).next_multiple_of(HUGE_PAGE).min(asked);
            let ahead = first..end - end % HUGE_PAGE;
            if ahead.is_empty() {
                continue;
            }
            populated += self.populate(ahead);
        }
        Ok(populated)
    }

    /// Gives memory to pages, and says how many have it now.
    pub(super) fn populate(&mut self, pages: Range<usize>) -> usize {
        match self.region.populate(pages) {
            Ok(populated) => {
                populated.iter().cloned().flatten().for_each(|page| self.owned.insert(page));
                populated.iter().map(ExactSizeIterator::len).sum()
            }
            Err(error) => {
                tracing::trace!(%error, "a guest gets memory page by page, as it writes them");
                0
            }
        }
    }
}

/// The runs of consecutive pages in a set.
pub(super) fn runs(pages: &PageSet) -> impl Iterator<Item = Range<usize>> {
    let mut rest = pages.iter().peekable();
    std::iter::from_fn(move || {
        let first = rest.next()?;
        let mut end = first + 1;
        while rest.next_if_eq(&end).is_some() {
            end += 1;
        }
        Some(first..end)
    })
}

pub(super) const HUGE_PAGE: usize = TrackedRegion::HUGE_PAGE;

/// A shorter run does not show that the guest will go on.
const LEAST: usize = HUGE_PAGE / 2;

/// The most pages that are given memory for one run: 8 MiB, which takes a millisecond or two.
const MOST: usize = 4 * HUGE_PAGE;
