//! Which pages could be accessed once: those for which a permission could have outlived its time.

use ampoule::FaultAccess;
use ampoule_memory_model::{Model, Page, Place, Random};

/// The ways in which each page could be accessed, in the order of a model's places.
#[derive(Clone, Default)]
pub(crate) struct Once(Vec<[bool; 3]>);

/// An access that the guest must be refused.
pub(crate) struct Forbidden {
    pub(crate) place: Place,
    pub(crate) access: FaultAccess,
    pub(crate) page: Option<Page>,
}

impl Once {
    /// Remembers what can be accessed at present.
    pub(crate) fn note(&mut self, model: &Model) {
        self.0.resize(model.places().count(), [false; 3]);
        for (known, (_, page)) in self.0.iter_mut().zip(model.places()) {
            for (known, access) in known.iter_mut().zip(ACCESSES) {
                *known |= allows(page, access);
            }
        }
    }

    /// Whether nothing was remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An access to a page that was possible once and is not now. Pages that float are left out: others may lie there
    /// now.
    pub(crate) fn forbidden(&self, model: &Model, random: &mut Random) -> Option<Forbidden> {
        let wanted = |index: usize, access: usize| self.0.get(index).is_some_and(|known| known[access]);
        pick(model, random, wanted)
    }
}

/// Any access that the model does not allow.
pub(crate) fn any_forbidden(model: &Model, random: &mut Random) -> Option<Forbidden> {
    pick(model, random, |_, _| true)
}

fn pick(model: &Model, random: &mut Random, wanted: impl Fn(usize, usize) -> bool) -> Option<Forbidden> {
    let mut forbidden = Vec::new();
    for (index, (place, page)) in model.places().enumerate().filter(|(_, (place, _))| !place.window.floats()) {
        for (number, access) in ACCESSES.into_iter().enumerate() {
            if wanted(index, number) && !allows(page, access) {
                forbidden.push((place, access, page));
            }
        }
    }
    // Usually there are few mapped pages compared with those that are not.
    let mapped: Vec<_> = forbidden.iter().copied().filter(|(.., page)| page.is_some()).collect();
    let among = if mapped.is_empty() || random.percent(50) { forbidden } else { mapped };
    random.pick(&among).map(|(place, access, page)| Forbidden { place, access, page })
}

fn allows(page: Option<Page>, access: FaultAccess) -> bool {
    page.is_some_and(|Page { protection, .. }| match access {
        FaultAccess::Read => protection.is_readable(),
        FaultAccess::Write => protection.is_writable(),
        FaultAccess::Execute => protection.is_executable(),
    })
}

const ACCESSES: [FaultAccess; 3] = [FaultAccess::Read, FaultAccess::Write, FaultAccess::Execute];
