//! What has been seen of a type in its values, and whether that is all.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::any::TypeId;

use super::DataType;

/// What has been seen of the values of some types.
#[derive(Debug, Default)]
pub struct Coverage {
    /// A type of the guest's, and the type whose values are written in its place.
    pub(super) places: BTreeMap<(u32, TypeId), usize>,
    pub(super) seen: Vec<Seen>,
    /// Whether something was seen since the types were found that were seen as a whole.
    has_new: bool,
    /// Whether all that there is was seen.
    pub(super) is_complete: bool,
}

#[derive(Debug)]
pub(super) struct Seen {
    /// The variants that were; for other types there is one.
    variants: BTreeSet<u32>,
    /// How many there are.
    wanted: usize,
    parts: BTreeSet<usize>,
    /// Whether it and all of its parts were seen as a whole.
    pub(super) is_done: bool,
}

impl Coverage {
    /// Nothing was seen.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no value needs to be looked at any more.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(super) fn place(&mut self, types: &[DataType], data_type: u32, id: TypeId) -> usize {
        *self.places.entry((data_type, id)).or_insert_with(|| {
            let wanted = match &types[data_type as usize] {
                DataType::Enum { variants, .. } => variants.len(),
                _ => 1,
            };
            self.seen.push(Seen { variants: BTreeSet::new(), wanted, parts: BTreeSet::new(), is_done: false });
            self.seen.len() - 1
        })
    }

    /// A value in this place had one of that place in it.
    pub(super) fn add_part(&mut self, place: usize, part: usize) {
        self.has_new |= self.seen[place].parts.insert(part);
    }

    /// A value in this place was of this variant.
    pub(super) fn add_variant(&mut self, place: usize, variant: u32) {
        self.has_new |= self.seen[place].variants.insert(variant);
    }

    /// Finds the types that were seen as a whole: those of which nothing is missing in any part, themselves included.
    pub(super) fn find_done(&mut self) {
        if !core::mem::take(&mut self.has_new) {
            return;
        }
        for seen in &mut self.seen {
            seen.is_done = seen.variants.len() >= seen.wanted;
        }
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for place in 0..self.seen.len() {
                let seen = &self.seen[place];
                if seen.is_done && seen.parts.iter().any(|part| !self.seen[*part].is_done) {
                    self.seen[place].is_done = false;
                    has_changed = true;
                }
            }
        }
    }
}
