//! The sections and symbols of an image file, as far as they can be read.
//!
//! Addresses here, and wherever an *image address* is meant, are those that the file gives.

use std::ops::Range;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64, Sym64};
use object::read::ReadRef;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};

use super::budget::Budget;

/// The parts of an image that tell about its code. A file that is damaged has fewer.
#[derive(Debug, Default)]
pub(super) struct Elf<'image> {
    sections: Vec<Section<'image>>,
    symbols: &'image [Sym64<LE>],
    symbol_names: &'image [u8],
    segments: &'image [ProgramHeader64<LE>],
    memory: Range<u64>,
}

/// A section of an image.
#[derive(Debug)]
pub(super) struct Section<'image> {
    pub(super) name: &'image [u8],
    pub(super) address: u64,
    /// The contents; nothing for a section that has none in the file or is compressed.
    pub(super) data: &'image [u8],
    pub(super) compressed: Option<Compressed<'image>>,
    size: u64,
    loaded: bool,
    executable: bool,
}

/// The contents of a compressed section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compressed<'image> {
    /// How it is compressed: `ELFCOMPRESS_ZLIB` or another.
    pub(super) method: u32,
    /// Bytes of the contents, as the section claims.
    pub(super) size: u64,
    pub(super) data: &'image [u8],
}

impl Section<'_> {
    fn contains(&self, address: u64) -> bool {
        self.loaded && address.checked_sub(self.address).is_some_and(|offset| offset < self.size)
    }
}

impl<'image> Elf<'image> {
    pub(super) fn read(bytes: &'image [u8]) -> Self {
        Self::try_read(bytes).unwrap_or_default()
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section<'image>> {
        self.sections.iter().find(|section| section.name == name.as_bytes())
    }

    /// The section that is loaded at this address.
    pub(super) fn section_at(&self, address: u64) -> Option<&Section<'image>> {
        self.sections.iter().find(|section| section.contains(address))
    }

    pub(super) fn is_code(&self, address: u64) -> bool {
        self.sections.iter().any(|section| section.executable && section.contains(address))
    }

    /// The lowest address of code.
    pub(super) fn code_start(&self) -> u64 {
        let code = self.sections.iter().filter(|section| section.executable && section.loaded);
        code.map(|section| section.address).min().unwrap_or(0)
    }

    /// What the image takes of its address space, from its first segment to its last.
    pub(super) fn memory(&self) -> Range<u64> {
        self.memory.clone()
    }

    /// What is to be added to the addresses in the file where the bytes from `offset` on are code at the address `at`.
    pub(super) fn bias_of(&self, at: u64, offset: u64) -> Option<u64> {
        let holds = |segment: &&ProgramHeader64<LE>| {
            let first = segment.p_offset(LE) & !(PAGE - 1);
            let end = segment.p_offset(LE).saturating_add(segment.p_filesz(LE));
            segment.p_type(LE) == elf::PT_LOAD
                && segment.p_flags(LE).contains(elf::PF_X)
                && (first..end).contains(&offset)
        };
        let segment = self.segments.iter().find(holds)?;
        let address = segment.p_vaddr(LE).wrapping_add(offset).wrapping_sub(segment.p_offset(LE));
        Some(at.wrapping_sub(address))
    }

    /// The names of the functions that hold these addresses, as far as the budget goes.
    pub(super) fn function_symbols(&self, addresses: &[u64], budget: &Budget) -> Vec<Option<&'image [u8]>> {
        let mut best: Vec<Option<&Sym64<LE>>> = vec![None; addresses.len()];
        for symbol in self.symbols {
            let covered = match symbol.st_type() {
                elf::STT_FUNC | elf::STT_GNU_IFUNC => covered(symbol, addresses),
                _ => 0..0,
            };
            if budget.spend(1 + covered.len()).is_err() {
                break;
            }
            for best in &mut best[covered] {
                // Hand-written functions may have no size. They are good until a better one is found.
                let rank = |symbol: &Sym64<LE>| (symbol.st_size(LE) != 0, symbol.st_value(LE));
                if best.is_none_or(|best| rank(best) < rank(symbol)) {
                    *best = Some(symbol);
                }
            }
        }
        let name = |symbol: &Sym64<LE>| string_at(self.symbol_names, symbol.st_name(LE), MAX_SYMBOL_NAME);
        best.into_iter().map(|symbol| symbol.and_then(name)).collect()
    }

    fn try_read(bytes: &'image [u8]) -> Option<Self> {
        let header = bytes.read_at::<FileHeader64<LE>>(0).ok()?;
        let headers = header.section_headers(LE, bytes).ok()?;
        let names_index = header.section_strings_index(LE, bytes).ok()?;
        let names = headers.get(names_index.0).map_or(&[][..], |names| contents(names, bytes));
        let sections = headers.iter().take(MAX_SECTIONS).map(|header| section(header, names, bytes)).collect();

        let table = |kind| headers.iter().find(|header| header.sh_type(LE) == kind);
        // What was stripped has the symbols that others link with.
        let table = table(elf::SHT_SYMTAB).or_else(|| table(elf::SHT_DYNSYM));
        let symbols = table.and_then(|table| table.data_as_array(LE, bytes).ok()).unwrap_or_default();
        let symbol_names = table.and_then(|table| headers.get(table.sh_link(LE) as usize));
        let symbol_names = symbol_names.map_or(&[][..], |names| contents(names, bytes));

        let segments = header.program_headers(LE, bytes).ok()?;
        let loaded = || segments.iter().filter(|segment| segment.p_type(LE) == elf::PT_LOAD);
        let start = loaded().map(|segment| segment.p_vaddr(LE)).min()?;
        let end = loaded().map(|segment| segment.p_vaddr(LE).saturating_add(segment.p_memsz(LE))).max()?;
        Some(Self { sections, symbols, symbol_names, segments, memory: start..end })
    }
}

fn section<'image>(header: &SectionHeader64<LE>, names: &'image [u8], bytes: &'image [u8]) -> Section<'image> {
    let flags = header.sh_flags(LE);
    Section {
        name: string_at(names, header.sh_name(LE), MAX_SECTION_NAME).unwrap_or_default(),
        address: header.sh_addr(LE),
        data: if flags.contains(elf::SHF_COMPRESSED) { &[] } else { contents(header, bytes) },
        compressed: compressed(header, bytes),
        size: header.sh_size(LE),
        // Thread-local zeros have an address that is another section's.
        loaded: flags.contains(elf::SHF_ALLOC)
            && !(flags.contains(elf::SHF_TLS) && header.sh_type(LE) == elf::SHT_NOBITS),
        executable: flags.contains(elf::SHF_EXECINSTR),
    }
}

fn contents<'image>(header: &SectionHeader64<LE>, bytes: &'image [u8]) -> &'image [u8] {
    header.data(LE, bytes).unwrap_or_default()
}

fn compressed<'image>(header: &SectionHeader64<LE>, bytes: &'image [u8]) -> Option<Compressed<'image>> {
    let (header, offset, size) = header.compression(LE, bytes).ok()??;
    let data = bytes.read_bytes_at(offset, size).ok()?;
    Some(Compressed { method: header.ch_type.get(LE).0, size: header.ch_size.get(LE), data })
}

/// Which of the ascending addresses the symbol is about.
fn covered(symbol: &Sym64<LE>, addresses: &[u64]) -> Range<usize> {
    if symbol.st_shndx(LE) == elf::SHN_UNDEF {
        return 0..0;
    }
    let start = symbol.st_value(LE);
    let limit = match symbol.st_size(LE) {
        0 => MAX_UNSIZED_FUNCTION,
        size => size,
    };
    let first = addresses.partition_point(|&address| address < start);
    first..first + addresses[first..].partition_point(|&address| address - start < limit)
}

/// The string that begins at `offset` and ends with a zero byte, without it; cut after `limit` bytes.
fn string_at(strings: &[u8], offset: u32, limit: usize) -> Option<&[u8]> {
    let rest = strings.get(offset as usize..)?;
    let rest = &rest[..rest.len().min(limit)];
    let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
    Some(&rest[..end])
}

/// The most sections that are looked at. A static executable has some thirty; a compiler that gives each function its own
/// section leaves it to the linker to merge them.
const MAX_SECTIONS: usize = 1024;

/// Whole pages of a file are mapped.
const PAGE: u64 = 4096;

/// The longest name of a section, in bytes. No name that means anything here is as long.
const MAX_SECTION_NAME: usize = 64;

/// The longest name of a function before it is demangled, in bytes.
const MAX_SYMBOL_NAME: usize = 1 << 12;

/// How far a function without a size reaches at most, in bytes: hand-written functions are short, and a name far away from
/// the address would mislead.
const MAX_UNSIZED_FUNCTION: u64 = 1 << 12;
