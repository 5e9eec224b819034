//! The functions at an address: the one that has code of its own, and those that were inlined into it.

use gimli::{Abbreviation, AttributeValue, DebugInfoOffset, EntriesRaw, UnitOffset};

use super::extent::Extent;
use super::unit::Unit;
use super::{DebugInfo, Function};
use crate::budget::Metered;
use crate::text::{MAX_SYMBOL, function_name};

/// A function that has, or was inlined into, the code at an address.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) entry: UnitOffset,
    /// Number of the file that it was called from, if it was inlined.
    pub(super) call_file: Option<u64>,
    /// The line there.
    pub(super) call_line: Option<u32>,
}

impl<'a> DebugInfo<'a> {
    /// The unit's functions at each of the ascending addresses, outermost first.
    pub(super) fn scopes(&self, unit: &Unit<'a>, addresses: &[u64]) -> gimli::Result<Vec<Vec<Scope>>> {
        let mut scopes: Vec<Vec<Scope>> = vec![Vec::new(); addresses.len()];
        let mut entries = unit.entries.entries_raw(None)?;
        while !entries.is_empty() {
            let entry = entries.next_offset();
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            self.budget.spend(abbreviation.attributes().len())?;
            // An entry comes before those within it. So what was inlined follows the function that it was inlined into.
            let is_outermost = match abbreviation.tag() {
                gimli::DW_TAG_subprogram => true,
                gimli::DW_TAG_inlined_subroutine => false,
                _ => {
                    entries.skip_attributes(abbreviation.attributes())?;
                    continue;
                }
            };
            let (scope, extent) = read_scope(&mut entries, abbreviation, entry)?;
            extent.for_each(self, &unit.entries, |range| {
                for scopes in &mut scopes[self.code.within(addresses, range)] {
                    if is_outermost {
                        scopes.clear();
                    }
                    if scopes.len() < MAX_SCOPES {
                        scopes.push(scope.clone());
                    }
                }
            })?;
        }
        Ok(scopes)
    }

    /// The function of an entry, which may have its name from another.
    pub(super) fn function(&self, unit: &Unit<'a>, entry: UnitOffset, references: usize) -> Option<Function> {
        let names = self.read_names(unit, entry).ok()?;
        for (name, is_full) in [(names.linkage, true), (names.source, false)] {
            if let Some(name) = name.and_then(|name| self.dwarf.attr_string(&unit.entries, name).ok()) {
                let name = name.bytes();
                self.budget.spend(STEPS_PER_NAME_BYTE * name.len().min(MAX_SYMBOL)).ok()?;
                return Some(Function { name: function_name(name), is_full });
            }
        }
        let references = references.checked_sub(1)?;
        match names.origin? {
            AttributeValue::UnitRef(entry) => self.function(unit, entry, references),
            AttributeValue::DebugInfoRef(entry) => {
                let (unit, entry) = self.unit_of(entry).ok().flatten()?;
                self.function(&unit, entry, references)
            }
            _ => None,
        }
    }

    fn read_names(&self, unit: &Unit<'a>, entry: UnitOffset) -> gimli::Result<Names<'a>> {
        let mut names = Names::default();
        let mut entries = unit.entries.entries_raw(Some(entry))?;
        let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(names) };
        self.budget.spend(abbreviation.attributes().len())?;
        for attribute in abbreviation.attributes() {
            let attribute = entries.read_attribute(*attribute)?;
            let slot = match attribute.name() {
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => &mut names.linkage,
                gimli::DW_AT_name => &mut names.source,
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => &mut names.origin,
                _ => continue,
            };
            *slot = Some(attribute.value());
        }
        Ok(names)
    }

    /// The unit that holds an entry.
    fn unit_of(&self, entry: DebugInfoOffset) -> gimli::Result<Option<(Unit<'a>, UnitOffset)>> {
        let mut headers = self.dwarf.units();
        while let Some(header) = headers.next()? {
            if let Some(entry) = entry.to_unit_offset(&header) {
                return Ok(Some((Unit::read(self, header)?, entry)));
            }
        }
        Ok(None)
    }
}

/// Where an entry's name can be found.
#[derive(Default)]
struct Names<'a> {
    /// The linker's name.
    linkage: Option<AttributeValue<Metered<'a>>>,
    /// The name in the source.
    source: Option<AttributeValue<Metered<'a>>>,
    /// The entry that this one is an instance of.
    origin: Option<AttributeValue<Metered<'a>>>,
}

fn read_scope<'a>(
    entries: &mut EntriesRaw<'_, Metered<'a>>,
    abbreviation: &Abbreviation,
    entry: UnitOffset,
) -> gimli::Result<(Scope, Extent<'a>)> {
    let mut scope = Scope { entry, call_file: None, call_line: None };
    let mut extent = Extent::default();
    for attribute in abbreviation.attributes() {
        let attribute = entries.read_attribute(*attribute)?;
        extent.add(&attribute);
        match (attribute.name(), attribute.value()) {
            (gimli::DW_AT_call_file, AttributeValue::FileIndex(file)) => scope.call_file = Some(file),
            (gimli::DW_AT_call_line, _) => {
                scope.call_line = attribute.udata_value().and_then(|line| line.try_into().ok())
            }
            _ => {}
        }
    }
    Ok((scope, extent))
}

/// The most functions at one address. Iterators in optimised code are inlined some twenty deep.
const MAX_SCOPES: usize = 64;

/// Demangling a name that was made to be slow takes about this many steps for each of its bytes: its parts can refer to each
/// other hundreds deep.
const STEPS_PER_NAME_BYTE: usize = 16;
