//! Source lines and inlined functions, from the image's debug information (DWARF 2 to 5).
//!
//! All addresses of a stack are looked up in one pass. From one pass to the next an index of the units can be kept, which is
//! bounded; beyond it, what a hostile image can make the host hold is bounded by what a single unit of it can. The pass has no
//! recursion that follows the nesting of
//! the image's data.
//!
//! Not read: information in other files.

mod extent;
mod functions;
mod lines;
mod sections;
mod unit;
mod unit_index;

use gimli::{Dwarf, Error, UnitHeader};

use super::budget::{Budget, Metered};
use extent::Code;
use functions::Scope;
use lines::{LineTable, SourceLine};
use unit::Unit;

pub(super) use sections::Sections;
pub(super) use unit_index::UnitIndex;

/// A place in the source.
#[derive(Clone, Debug, Default)]
pub(super) struct Site {
    pub(super) function: Option<Function>,
    pub(super) line: SourceLine,
}

/// A function's name.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) name: String,
    /// Whether the name has the function's crates, modules and types before it, if its language has such.
    pub(super) is_full: bool,
}

/// The debug information of an image.
pub(super) struct DebugInfo<'a> {
    dwarf: Dwarf<Metered<'a>>,
    budget: &'a Budget,
    code: Code,
}

impl<'a> DebugInfo<'a> {
    /// `code_start` is the lowest address of code.
    pub(super) fn new(sections: &'a Sections<'_>, code_start: u64, budget: &'a Budget) -> Self {
        let section = |id| Ok::<_, Error>(Metered::new(sections.get(id), budget));
        let dwarf = Dwarf::load(section).expect("every section has a reader, if an empty one");
        Self { dwarf, budget, code: Code { start: code_start } }
    }

    /// Which unit is about which addresses; `None` where that is too much to keep.
    pub(super) fn index(&self) -> Option<UnitIndex> {
        UnitIndex::read(self)
    }

    /// What the source has at these image addresses, which must be in ascending order. For each the innermost of the
    /// functions that were inlined there comes first, and the one that they were inlined into last; nothing where there is
    /// no debug information.
    pub(super) fn look_up(&self, units: Option<&UnitIndex>, addresses: &[u64]) -> Vec<Vec<Site>> {
        let mut sites = vec![Vec::new(); addresses.len()];
        if let Some(units) = units {
            for unit in units.units_at(self, addresses) {
                if let Ok(header) = self.dwarf.debug_info.header_from_offset(unit) {
                    let _ = self.look_up_in_unit(header, addresses, &mut sites);
                }
            }
            return sites;
        }
        let mut headers = self.dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            // A unit that is damaged, or of a kind that is not known, does not stand in the way of the others.
            let _ = self.look_up_in_unit(header, addresses, &mut sites);
            if sites.iter().all(|sites| !sites.is_empty()) {
                break;
            }
        }
        sites
    }

    fn look_up_in_unit(
        &self,
        header: UnitHeader<Metered<'a>>,
        addresses: &[u64],
        sites: &mut [Vec<Site>],
    ) -> gimli::Result<()> {
        let Some(unit) = Unit::of_code(self, header)? else { return Ok(()) };
        let mut is_here = false;
        unit.extent.for_each(self, &unit.entries, |range| is_here |= !self.code.within(addresses, range).is_empty())?;
        if !is_here {
            return Ok(());
        }
        let lines = LineTable::read(self, &unit, addresses).unwrap_or_default();
        let scopes = self.scopes(&unit, addresses).unwrap_or_else(|_| vec![Vec::new(); addresses.len()]);
        for (index, sites) in sites.iter_mut().enumerate().filter(|(_, sites)| sites.is_empty()) {
            let line = lines.line(self, &unit, index);
            *sites = self.sites(&unit, &lines, &scopes[index], line);
        }
        Ok(())
    }

    /// From the nested functions at an address, outermost first, and the line that the address itself is of.
    fn sites(
        &self,
        unit: &Unit<'a>,
        lines: &LineTable<'a>,
        scopes: &[Scope],
        innermost: Option<SourceLine>,
    ) -> Vec<Site> {
        if scopes.is_empty() {
            return innermost.map(|line| Site { function: None, line }).into_iter().collect();
        }
        let mut line = innermost.unwrap_or_default();
        let mut sites = Vec::with_capacity(scopes.len());
        for scope in scopes.iter().rev() {
            let function = self.function(unit, scope.entry, MAX_REFERENCES);
            let caller = SourceLine { file: lines.file(self, unit, scope.call_file), line: scope.call_line };
            sites.push(Site { function, line: std::mem::replace(&mut line, caller) });
        }
        sites
    }
}

/// How often an entry may refer to another for its name. Compilers make two such steps: from the inlined function to the
/// one that was inlined, and on to its declaration.
const MAX_REFERENCES: usize = 8;
