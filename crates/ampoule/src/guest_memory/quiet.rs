//! Finding pages that a guest wrote once and has left alone since.

use ampoule_vmm::{Contents, PageSet, TrackedRegion};

use super::WINDOW;

/// The pages that were unchanged at every restore so far in a window of [`WINDOW`] restores.
#[derive(Debug)]
pub(super) struct QuietPages {
    pages: Option<PageSet>,
    observed: u32,
}

impl QuietPages {
    pub(super) fn new() -> Self {
        Self { pages: None, observed: 0 }
    }

    /// Looks at what was written before it is written back to `target`.
    pub(super) fn observe(&mut self, region: &TrackedRegion, target: &Contents, written: &PageSet) {
        let mut quiet = self.pages.take().unwrap_or_else(|| written.clone());
        let changed: Vec<_> = quiet.iter().filter(|page| !region.holds(target, *page).unwrap_or(false)).collect();
        for page in changed {
            quiet.remove(page);
        }
        self.pages = Some(quiet);
        self.observed += 1;
    }

    /// At the end of a window, the pages that stayed unchanged through all of it, if there are any.
    pub(super) fn take(&mut self) -> Option<PageSet> {
        if self.observed < WINDOW {
            return None;
        }
        self.observed = 0;
        self.pages.take().filter(|pages| !pages.is_empty())
    }

    /// Starts over.
    pub(super) fn forget(&mut self) {
        *self = Self::new();
    }
}
