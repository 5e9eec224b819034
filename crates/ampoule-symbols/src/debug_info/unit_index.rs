//! Which unit is about which addresses.

use std::ops::Range;

use gimli::DebugInfoOffset;

use super::DebugInfo;
use super::unit::Unit;

/// The ranges of addresses of all units. To have them is most of the work of finding a unit: each has to be read for its
/// own, with the table that says how.
#[derive(Debug)]
pub(crate) struct UnitIndex {
    /// In the order of the units.
    ranges: Vec<(Range<u64>, usize)>,
}

impl UnitIndex {
    /// Reads the ranges of all units; `None` where they are too many to keep.
    pub(super) fn read(debug_info: &DebugInfo<'_>) -> Option<Self> {
        let mut ranges = Vec::new();
        let mut headers = debug_info.dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let Some(offset) = header.debug_info_offset() else { continue };
            // A unit that is damaged, or of a kind that is not known, does not stand in the way of the others.
            let Ok(Some(unit)) = Unit::of_code(debug_info, header) else { continue };
            let _ = unit.extent.for_each(debug_info, &unit.entries, |range| {
                if debug_info.code.is_code(&range) && ranges.len() <= MAX_RANGES {
                    ranges.push((range, offset.0));
                }
            });
        }
        (ranges.len() <= MAX_RANGES).then(|| {
            ranges.shrink_to_fit();
            Self { ranges }
        })
    }

    /// The units that are about any of the ascending addresses.
    pub(super) fn units_at(&self, debug_info: &DebugInfo<'_>, addresses: &[u64]) -> Vec<DebugInfoOffset<usize>> {
        let here = self.ranges.iter().filter(|(range, _)| !debug_info.code.within(addresses, range.clone()).is_empty());
        let mut units: Vec<_> = here.map(|&(_, offset)| DebugInfoOffset(offset)).collect();
        units.dedup();
        units
    }
}

/// The most ranges that are kept, of 24 bytes each. Rust's standard library and a large program have some thousands.
const MAX_RANGES: usize = 1 << 16;
