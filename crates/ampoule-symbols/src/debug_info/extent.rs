//! The addresses that an entry of the debug information is about.

use std::ops::Range;

use gimli::{Attribute, AttributeValue};

use super::DebugInfo;
use crate::budget::Metered;

/// Where code can be.
pub(super) struct Code {
    /// Its lowest address. Linkers move what is about dropped functions to address zero.
    pub(super) start: u64,
}

impl Code {
    /// Whether the range holds anything, and is not of a dropped function.
    pub(super) fn is_code(&self, range: &Range<u64>) -> bool {
        range.start >= self.start && range.start < range.end
    }

    /// Which of the ascending addresses are in the range, unless that is of a dropped function.
    pub(super) fn within(&self, addresses: &[u64], range: Range<u64>) -> Range<usize> {
        if !self.is_code(&range) {
            return 0..0;
        }
        let first = addresses.partition_point(|&address| address < range.start);
        first..first + addresses[first..].partition_point(|&address| address < range.end)
    }
}

/// The attributes that tell an entry's addresses.
#[derive(Default)]
pub(super) struct Extent<'a> {
    low: Option<AttributeValue<Metered<'a>>>,
    high: Option<AttributeValue<Metered<'a>>>,
    ranges: Option<AttributeValue<Metered<'a>>>,
}

impl<'a> Extent<'a> {
    /// Keeps the attribute if it is one of them.
    pub(super) fn add(&mut self, attribute: &Attribute<Metered<'a>>) {
        let slot = match attribute.name() {
            gimli::DW_AT_low_pc => &mut self.low,
            gimli::DW_AT_high_pc => &mut self.high,
            gimli::DW_AT_ranges => &mut self.ranges,
            _ => return,
        };
        *slot = Some(attribute.value());
    }

    /// The entry's first address.
    pub(super) fn low(
        &self,
        debug_info: &DebugInfo<'a>,
        unit: &gimli::Unit<Metered<'a>>,
    ) -> gimli::Result<Option<u64>> {
        self.low.map_or(Ok(None), |low| debug_info.dwarf.attr_address(unit, low))
    }

    /// Calls `visit` with each range of addresses.
    pub(super) fn for_each(
        &self,
        debug_info: &DebugInfo<'a>,
        unit: &gimli::Unit<Metered<'a>>,
        mut visit: impl FnMut(Range<u64>),
    ) -> gimli::Result<()> {
        if let Some(ranges) = self.ranges {
            let Some(mut ranges) = debug_info.dwarf.attr_ranges(unit, ranges)? else { return Ok(()) };
            while let Some(range) = ranges.next()? {
                visit(range.begin..range.end);
            }
            return Ok(());
        }
        if let (Some(low), Some(high)) = (self.low(debug_info, unit)?, self.high) {
            let high = match high {
                AttributeValue::Udata(size) => low.saturating_add(size),
                high => debug_info.dwarf.attr_address(unit, high)?.unwrap_or(low),
            };
            visit(low..high);
        }
        Ok(())
    }
}
