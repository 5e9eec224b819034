//! Finding pages that a guest wrote once and has left alone since.
//!
//! A page that is written again and again, and holds the same each time, looks like one that is left alone: a counter of
//! references goes up, and down again. It shows when it was given back, because then it is reported again. Such a page is not
//! given back for a while ([`PATIENCE`]): its next fault costs more than some dozens of copies.

use ampoule_vmm::{Contents, PageSet, TrackedRegion};

use super::WINDOW;

/// The pages that were unchanged at every restore so far in a window of [`WINDOW`] restores.
#[derive(Debug, Default)]
pub(super) struct QuietPages {
    pages: Option<PageSet>,
    observed: u32,
    /// Pages that were given back and not written since.
    given_back: Option<PageSet>,
    /// Pages that were written unchanged after that.
    steady: Option<PageSet>,
    /// Windows since the last ones were found out for the first time.
    windows: u32,
}

impl QuietPages {
    /// Looks for pages that were given back among what was written, before it is written back to `target`.
    pub(super) fn observe_returns(&mut self, region: &TrackedRegion, target: &Contents, written: &PageSet) {
        let Some(given_back) = &mut self.given_back else { return };
        let again: Vec<_> = given_back.iter().filter(|page| written.contains(*page)).collect();
        for page in again {
            given_back.remove(page);
            if is_unchanged(region, target, page) {
                self.steady.get_or_insert_with(|| PageSet::new(written.capacity())).insert(page);
            }
        }
        self.given_back.take_if(|pages| pages.is_empty());
    }

    /// Looks at what was written before it is written back to `target`.
    pub(super) fn observe(&mut self, region: &TrackedRegion, target: &Contents, written: &PageSet) {
        let mut quiet = self.pages.take().unwrap_or_else(|| {
            let mut all = written.clone();
            self.steady.iter().flat_map(PageSet::iter).for_each(|page| all.remove(page));
            all
        });
        let changed: Vec<_> = quiet.iter().filter(|page| !is_unchanged(region, target, *page)).collect();
        for page in changed {
            quiet.remove(page);
        }
        self.pages = Some(quiet);
        self.observed += 1;
    }

    /// At the end of a window, the pages that stayed unchanged through all of it, if there are any. They are to be given back.
    pub(super) fn take(&mut self) -> Option<PageSet> {
        if self.observed < WINDOW {
            return None;
        }
        self.observed = 0;
        if self.steady.is_some() {
            self.windows += 1;
        }
        if self.windows == PATIENCE {
            (self.windows, self.steady) = (0, None);
        }
        let pages = self.pages.take().filter(|pages| !pages.is_empty())?;
        self.given_back.get_or_insert_with(|| PageSet::new(pages.capacity())).insert_all(&pages);
        Some(pages)
    }

    /// Starts over.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

fn is_unchanged(region: &TrackedRegion, target: &Contents, page: usize) -> bool {
    region.holds(target, page).unwrap_or(false)
}

/// For how many windows a page is kept that was given back for nothing. A fault costs as much as some 25 copies, and a copy is
/// made at each of the restores of these windows.
pub(super) const PATIENCE: u32 = 32;
