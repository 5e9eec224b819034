//! A unit: what a compiler was given at a time.

use std::sync::Arc;

use gimli::{
    AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugAddrBase, DebugLineOffset, DebugLocListsBase,
    DebugRngListsBase, DebugStrOffsetsBase, DwarfFileType, Reader, Section, UnitHeader, UnitType,
};

use super::DebugInfo;
use super::extent::Extent;
use crate::budget::Metered;

/// A unit, with what the entry at its root says about all of it.
pub(super) struct Unit<'a> {
    pub(super) entries: gimli::Unit<Metered<'a>>,
    pub(super) extent: Extent<'a>,
    pub(super) lines: Option<DebugLineOffset>,
    /// Where the compiler ran.
    pub(super) directory: Option<AttributeValue<Metered<'a>>>,
}

impl<'a> Unit<'a> {
    /// Reads the root of a unit that can be about code.
    pub(super) fn of_code(debug_info: &DebugInfo<'a>, header: UnitHeader<Metered<'a>>) -> gimli::Result<Option<Self>> {
        match header.type_() {
            UnitType::Compilation | UnitType::Skeleton(_) => Self::read(debug_info, header).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads the root. The unit's lines are left alone: most units are not about the addresses that are looked for, and the
    /// table of lines has a header of its own to beware of.
    pub(super) fn read(debug_info: &DebugInfo<'a>, header: UnitHeader<Metered<'a>>) -> gimli::Result<Self> {
        let (encoding, file) = (header.encoding(), DwarfFileType::Main);
        let mut unit = Self {
            entries: gimli::Unit {
                abbreviations: abbreviations(debug_info, &header)?,
                name: None,
                comp_dir: None,
                low_pc: 0,
                str_offsets_base: DebugStrOffsetsBase::default_for_encoding_and_file(encoding, file),
                addr_base: DebugAddrBase(0),
                loclists_base: DebugLocListsBase::default_for_encoding_and_file(encoding, file),
                rnglists_base: DebugRngListsBase::default_for_encoding_and_file(encoding, file),
                line_program: None,
                dwo_id: None,
                header,
            },
            extent: Extent::default(),
            lines: None,
            directory: None,
        };
        unit.read_root(debug_info)?;
        // Last, because the address may stand in a table that another attribute leads to.
        unit.entries.low_pc = unit.extent.low(debug_info, &unit.entries)?.unwrap_or(0);
        Ok(unit)
    }

    fn read_root(&mut self, debug_info: &DebugInfo<'a>) -> gimli::Result<()> {
        let Self { entries: unit, extent, lines, directory } = self;
        let mut root = unit.header.entries_raw(&unit.abbreviations, None)?;
        let Some(abbreviation) = root.read_abbreviation()? else { return Ok(()) };
        debug_info.budget.spend(abbreviation.attributes().len())?;
        for attribute in abbreviation.attributes() {
            let attribute = root.read_attribute(*attribute)?;
            extent.add(&attribute);
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_stmt_list, AttributeValue::DebugLineRef(offset)) => *lines = Some(offset),
                (gimli::DW_AT_comp_dir, value) => *directory = Some(value),
                (gimli::DW_AT_str_offsets_base, AttributeValue::DebugStrOffsetsBase(base)) => {
                    unit.str_offsets_base = base
                }
                (gimli::DW_AT_addr_base | gimli::DW_AT_GNU_addr_base, AttributeValue::DebugAddrBase(base)) => {
                    unit.addr_base = base
                }
                (
                    gimli::DW_AT_rnglists_base | gimli::DW_AT_GNU_ranges_base,
                    AttributeValue::DebugRngListsBase(base),
                ) => {
                    unit.rnglists_base = base;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The unit's abbreviations, which say how its entries are to be read.
fn abbreviations<'a>(
    debug_info: &DebugInfo<'a>,
    header: &UnitHeader<Metered<'a>>,
) -> gimli::Result<Arc<gimli::Abbreviations>> {
    let mut table = *debug_info.dwarf.debug_abbrev.reader();
    table.skip(header.debug_abbrev_offset().0)?;
    table.truncate(table.len().min(MAX_ABBREVIATIONS))?;
    DebugAbbrev::from(table).abbreviations(DebugAbbrevOffset(0)).map(Arc::new)
}

/// The longest table of abbreviations of a unit, in bytes; compilers write one to four thousand. In memory they take some
/// thirty times as much.
const MAX_ABBREVIATIONS: usize = 1 << 16;
