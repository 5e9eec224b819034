//! The table that gives instructions their source lines.

use gimli::{DebugLineOffset, FileEntry, IncompleteLineProgram, LineProgramHeader, Reader, Section};

use super::DebugInfo;
use super::unit::Unit;
use crate::budget::Metered;
use crate::text::text;

/// A line of a source file, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceLine {
    /// The path, relative to where the compiler ran if it is below, to the source of Rust's standard library, or to the
    /// registry that the crate is from.
    pub(crate) file: Option<String>,
    /// The line, counted from 1.
    pub(crate) line: Option<u32>,
}

/// A unit's files, and its lines at some addresses.
#[derive(Default)]
pub(super) struct LineTable<'a> {
    header: Option<LineProgramHeader<Metered<'a>>>,
    rows: Vec<Option<Row>>,
}

#[derive(Clone, Copy)]
struct Row {
    address: u64,
    file: u64,
    line: Option<u32>,
}

impl<'a> LineTable<'a> {
    /// Reads the lines of the ascending addresses.
    pub(super) fn read(debug_info: &DebugInfo<'a>, unit: &Unit<'a>, addresses: &[u64]) -> gimli::Result<Self> {
        let Some(offset) = unit.lines else { return Ok(Self::default()) };
        check_header(debug_info, offset)?;
        let program = debug_info.dwarf.debug_line.program(offset, unit.entries.header.address_size(), None, None)?;
        let header = program.header().clone();
        Ok(Self { header: Some(header), rows: rows(debug_info, program, addresses)? })
    }

    /// The line of the address with this index.
    pub(super) fn line(&self, debug_info: &DebugInfo<'a>, unit: &Unit<'a>, index: usize) -> Option<SourceLine> {
        let row = (*self.rows.get(index)?)?;
        Some(SourceLine { file: self.file(debug_info, unit, Some(row.file)), line: row.line })
    }

    /// The path of the file with this number.
    pub(super) fn file(&self, debug_info: &DebugInfo<'a>, unit: &Unit<'a>, file: Option<u64>) -> Option<String> {
        let header = self.header.as_ref()?;
        path(debug_info, unit, header, header.file(file?)?).ok()
    }
}

/// Makes sure that the header, which is read as a whole, is not too large for that.
fn check_header(debug_info: &DebugInfo<'_>, offset: DebugLineOffset) -> gimli::Result<()> {
    let mut header = *debug_info.dwarf.debug_line.reader();
    header.skip(offset.0)?;
    let (_, format) = header.read_initial_length()?;
    let version = header.read_u16()?;
    if version >= 5 {
        header.skip(2)?; // sizes of addresses and of segment selectors
    }
    let length = header.read_length(format)?;
    if length > MAX_HEADER { Err(gimli::Error::UnsupportedOffset) } else { Ok(()) }
}

/// Runs the program that writes the table, and keeps the rows of the ascending addresses.
fn rows<'a>(
    debug_info: &DebugInfo<'a>,
    program: IncompleteLineProgram<Metered<'a>>,
    addresses: &[u64],
) -> gimli::Result<Vec<Option<Row>>> {
    let mut found = vec![None; addresses.len()];
    let mut rows = program.rows();
    let mut sequence_start = None;
    let mut previous: Option<Row> = None;
    while let Some((_, row)) = rows.next_row()? {
        let start = *sequence_start.get_or_insert(row.address());
        if let Some(previous) = previous
            && start >= debug_info.code.start
        {
            // A row is good up to the next one.
            found[debug_info.code.within(addresses, previous.address..row.address())].fill(Some(previous));
        }
        previous = (!row.end_sequence()).then(|| Row {
            address: row.address(),
            file: row.file_index(),
            line: row.line().and_then(|line| line.get().try_into().ok()),
        });
        if row.end_sequence() {
            sequence_start = None;
        }
    }
    Ok(found)
}

/// The path without the directory that the compiler ran in, or that Rust's standard library was compiled in.
fn path<'a>(
    debug_info: &DebugInfo<'a>,
    unit: &Unit<'a>,
    header: &LineProgramHeader<Metered<'a>>,
    file: &FileEntry<Metered<'a>>,
) -> gimli::Result<String> {
    let string = |value| debug_info.dwarf.attr_string(&unit.entries, value).map(|string| text(string.bytes()));
    let name = string(file.path_name())?;
    let directory = match file.directory_index() {
        0 => None, // where the compiler ran
        _ => file.directory(header),
    };
    let path = match directory {
        Some(directory) if !name.starts_with('/') => format!("{}/{name}", string(directory)?),
        _ => name,
    };
    let compiled_in = match unit.directory {
        Some(directory) if !path.starts_with('/') => string(directory)?,
        _ => String::new(),
    };
    Ok(of_package(&compiled_in, &path))
}

/// The path of a file as it is shown, of a unit that was compiled in this directory if the path is relative to it.
fn of_package(compiled_in: &str, path: &str) -> String {
    // Rust's release builds were made in `/rustc/` and the commit.
    if let Some((_, path)) = path.strip_prefix("/rustc/").and_then(|path| path.split_once('/')) {
        return path.to_owned();
    }
    // Of packages that are not the guest's own, cargo starts the compiler in the directory of the package.
    let package = compiled_in.rsplit('/').next().unwrap_or_default();
    let absolute = if compiled_in.is_empty() { path.to_owned() } else { format!("{compiled_in}/{path}") };
    if let Some((_, in_registry)) = absolute.split_once("/registry/src/").and_then(|(_, path)| path.split_once('/')) {
        return in_registry.to_owned();
    }
    if let Some((_, checkout)) = absolute.split_once("/git/checkouts/") {
        return checkout.to_owned();
    }
    if package.starts_with(GUEST_LIBRARY) { format!("{package}/{path}") } else { path.to_owned() }
}

/// How the directory of the guest library's package is called, wherever it comes from.
const GUEST_LIBRARY: &str = "ampoule-guest";

/// The longest header of a table of lines, in bytes: some thousands of files. In memory it can take a hundred times as much.
const MAX_HEADER: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::of_package;

    #[test]
    fn files_of_libraries_begin_with_the_name_of_their_package() {
        let registry = "/home/me/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";
        for (compiled_in, path, shown) in [
            ("/home/me/app", "rules/src/main.rs", "rules/src/main.rs"),
            ("", "/home/me/app/rules/src/main.rs", "/home/me/app/rules/src/main.rs"),
            ("/src/ampoule/crates/ampoule-guest", "src/rt/serve.rs", "ampoule-guest/src/rt/serve.rs"),
            (&format!("{registry}/ampoule-guest-0.1.0"), "src/rt/serve.rs", "ampoule-guest-0.1.0/src/rt/serve.rs"),
            ("", &format!("{registry}/serde-1.0.228/src/de.rs"), "serde-1.0.228/src/de.rs"),
            ("/home/me/.cargo/git/checkouts/png-1a2b/9f8e7d6", "src/lib.rs", "png-1a2b/9f8e7d6/src/lib.rs"),
            (
                "/home/me/app",
                "/rustc/59807616e1fa/library/core/src/ops/function.rs",
                "library/core/src/ops/function.rs",
            ),
        ] {
            assert_eq!(of_package(compiled_in, path), shown);
        }
    }
}
