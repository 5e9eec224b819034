//! What the headers of an executable say. Its image has passed the library's checks; what these do not look at may be anything.

use ampoule_abi::text::printable_name;
use object::LittleEndian;
use object::elf::{ET_DYN, FileHeader64, PF_R, PF_W, PF_X, PT_LOAD, PT_TLS};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Object, ObjectSection};
use serde::Serialize;

use crate::text::bytes;

/// The form of an executable, as far as its headers can be read.
#[derive(Debug, Serialize)]
pub(super) struct Executable {
    /// `static` where it has addresses of its own, `static-pie` where the host chooses them.
    kind: &'static str,
    entry: u64,
    segments: Vec<Segment>,
    /// Bytes of memory that the segments take.
    memory: u64,
    /// Bytes of memory that each thread has for itself.
    thread_local: u64,
    debug: DebugInformation,
    build_id: Option<String>,
}

/// A part of the file that is loaded.
#[derive(Debug, Serialize)]
struct Segment {
    address: u64,
    memory: u64,
    file: u64,
    permissions: String,
}

/// What names for addresses can be found in.
#[derive(Debug, Serialize)]
struct DebugInformation {
    /// Names of functions.
    symbols: bool,
    /// Source files and lines.
    lines: bool,
    /// Inlined functions, variables and types.
    dwarf: bool,
}

impl Executable {
    pub(super) fn of(file: &[u8]) -> Self {
        let (mut segments, mut thread_local) = (Vec::new(), 0u64);
        let header = FileHeader64::<LittleEndian>::parse(file).ok();
        let headers = header.and_then(|header| header.program_headers(LittleEndian, file).ok()).unwrap_or_default();
        for header in headers {
            match header.p_type(LittleEndian) {
                PT_LOAD => segments.push(Segment::of(header)),
                PT_TLS => thread_local = thread_local.saturating_add(header.p_memsz(LittleEndian)),
                _ => {}
            }
        }
        let is_pie = header.is_some_and(|header| header.e_type(LittleEndian) == ET_DYN);
        let elf = ElfFile64::<LittleEndian>::parse(file).ok();
        let has =
            |name: &str| elf.as_ref().is_some_and(|elf| elf.section_by_name(name).is_some_and(|it| it.size() > 0));
        Self {
            kind: if is_pie { "static-pie" } else { "static" },
            entry: header.map_or(0, |header| header.e_entry(LittleEndian)),
            memory: segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.memory)),
            segments,
            thread_local,
            debug: DebugInformation { symbols: has(".symtab"), lines: has(".debug_line"), dwarf: has(".debug_info") },
            build_id: elf.as_ref().and_then(|elf| elf.build_id().ok().flatten()).map(hexadecimal),
        }
    }

    /// What a person reads of it.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("kind", format!("{} executable, entry {:#x}", self.kind, self.entry))];
        if let Some(id) = &self.build_id {
            lines.push(("build id", id.clone()));
        }
        let DebugInformation { symbols, lines: has_lines, dwarf } = self.debug;
        let debug = [(symbols, "names of functions"), (has_lines, "source lines"), (dwarf, "inlined functions")];
        let debug: Vec<&str> = debug.into_iter().filter_map(|(has, what)| has.then_some(what)).collect();
        lines.push(("debug", if debug.is_empty() { "none".to_owned() } else { debug.join(", ") }));
        lines.push(("memory", format!("{} for its segments", bytes(self.memory))));
        for (index, segment) in self.segments.iter().enumerate() {
            let Segment { address, memory, permissions, .. } = segment;
            let permissions = printable_name(permissions);
            lines.push((
                if index == 0 { "segments" } else { "" },
                format!("{permissions} {address:#x}, {}", bytes(*memory)),
            ));
        }
        lines
    }
}

impl Segment {
    fn of(header: &impl ProgramHeader<Endian = LittleEndian, Word = u64>) -> Self {
        let flags = header.p_flags(LittleEndian);
        let permissions = [(PF_R, 'r'), (PF_W, 'w'), (PF_X, 'x')];
        Self {
            address: header.p_vaddr(LittleEndian),
            memory: header.p_memsz(LittleEndian),
            file: header.p_filesz(LittleEndian),
            permissions: permissions
                .into_iter()
                .map(|(flag, shown)| if flags.contains(flag) { shown } else { '-' })
                .collect(),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect()
}
