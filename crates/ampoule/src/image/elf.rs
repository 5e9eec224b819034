//! The headers of an ELF file: what it is, where it starts, which parts of it matter.
//!
//! The crate `object` reads each structure within the bounds of the file; what the structures may say is decided here.

use std::fmt::{self, Display};
use std::ops::Range;

use ampoule_abi::layout::FUNCTIONS_SECTION;
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::read::ReadRef;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

use super::error::ImageProblem;
use super::source::Bytes;

/// A part of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElfPart {
    /// The header at the start of the file.
    FileHeader,
    /// The table of segments.
    ProgramHeaders,
    /// What a dynamic linker, or a static PIE itself, reads to relocate the program.
    DynamicSection,
    /// The table of sections.
    SectionHeaders,
    /// The table of the sections' names.
    SectionNames,
}

impl Display for ElfPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FileHeader => "ELF header",
            Self::ProgramHeaders => "program header table",
            Self::DynamicSection => "dynamic section",
            Self::SectionHeaders => "section header table",
            Self::SectionNames => "section name table",
        })
    }
}

/// A platform other than 64-bit Linux on x86-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignPlatform {
    /// A machine with 32-bit addresses, or the x32 ABI.
    ThirtyTwoBit,
    /// A big-endian machine.
    BigEndian,
    /// Another machine.
    Machine {
        /// The file's `e_machine`.
        machine: u16,
    },
    /// Another operating system.
    OperatingSystem {
        /// The file's `EI_OSABI`.
        abi: u8,
    },
    /// A version of ELF that does not exist yet.
    Version {
        /// The file's `EI_VERSION`.
        version: u8,
    },
}

impl Display for ForeignPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThirtyTwoBit => f.write_str("a 32-bit program"),
            Self::BigEndian => f.write_str("a big-endian program"),
            Self::Machine { machine } if *machine == elf::EM_AARCH64.0 => f.write_str("a program for AArch64"),
            Self::Machine { machine } => write!(f, "a program for ELF machine {machine}"),
            Self::OperatingSystem { abi } => {
                write!(f, "a program for another system (ELF OS ABI {abi})")
            }
            Self::Version { version } => write!(f, "of the unknown ELF version {version}"),
        }
    }
}

/// An ELF file that is no executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotExecutable {
    /// The output of a compiler.
    Relocatable,
    /// A shared library.
    SharedLibrary,
    /// The memory of a process that died.
    CoreDump,
    /// Anything else.
    Other {
        /// The file's `e_type`.
        elf_type: u16,
    },
}

impl Display for NotExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relocatable => f.write_str("an object file that is not linked yet"),
            Self::SharedLibrary => f.write_str("a shared library"),
            Self::CoreDump => f.write_str("a core dump"),
            Self::Other { elf_type } => write!(f, "an ELF file of type {elf_type}"),
        }
    }
}

/// Whether the addresses in an executable are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is loaded at the addresses that it gives.
    Fixed,
    /// It can be loaded anywhere; the addresses that it gives count from where it is loaded.
    PositionIndependent,
}

/// What a file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A static executable.
    Static,
    /// An executable, which may name an interpreter that links it.
    Program,
    /// The interpreter of another, which Linux takes any shared library for.
    Interpreter,
}

/// The headers of an executable for this platform. They are within the file.
#[derive(Clone, Copy)]
pub(super) struct Headers<'file> {
    bytes: &'file Bytes,
    header: &'file FileHeader64<LE>,
    pub(super) kind: Kind,
    pub(super) program_headers: &'file [ProgramHeader64<LE>],
}

impl<'file> Headers<'file> {
    pub(super) fn read(bytes: &'file Bytes, role: Role) -> Result<Self, ImageProblem> {
        if bytes.get(0..elf::ELFMAG.len()) != Some(&elf::ELFMAG) {
            return Err(ImageProblem::NotElf);
        }
        let header = bytes.read_at::<FileHeader64<LE>>(0).map_err(|()| truncated(ElfPart::FileHeader, bytes))?;
        if let Some(platform) = foreign_platform(header) {
            return Err(ImageProblem::Foreign { platform });
        }
        let kind = match header.e_type(LE) {
            elf::ET_EXEC => Kind::Fixed,
            elf::ET_DYN => Kind::PositionIndependent,
            elf::ET_REL => return Err(not_executable(NotExecutable::Relocatable)),
            elf::ET_CORE => return Err(not_executable(NotExecutable::CoreDump)),
            elf::FileType(elf_type) => {
                return Err(not_executable(NotExecutable::Other { elf_type }));
            }
        };
        let headers = Self { bytes, header, kind, program_headers: program_headers(header, bytes)? };
        headers.check_linkage(role)?;
        Ok(headers)
    }

    /// The path of the interpreter that links the program, without the zero at its end.
    pub(super) fn interpreter(&self) -> Result<Option<&'file [u8]>, ImageProblem> {
        let Some(header) = self.of_type(elf::PT_INTERP).next() else { return Ok(None) };
        let (offset, size) = header.file_range(LE);
        let path = usize::try_from(offset).ok().zip(usize::try_from(size).ok()).and_then(|(start, size)| {
            let text = self.bytes.get(start..start.checked_add(size)?)?;
            let (path, rest) = text.split_at_checked(text.iter().position(|byte| *byte == 0)?)?;
            (rest.len() == 1 && (1..=MAX_INTERPRETER_PATH).contains(&path.len())).then_some(path)
        });
        path.map(Some).ok_or(ImageProblem::InterpreterPath)
    }

    fn of_type(&self, wanted: elf::ProgramType) -> impl Iterator<Item = &'file ProgramHeader64<LE>> {
        self.program_headers.iter().filter(move |header| header.p_type(LE) == wanted)
    }

    pub(super) fn entry(&self) -> u64 {
        self.header.e_entry(LE)
    }

    /// The bytes of the program header table within the file.
    pub(super) fn program_headers_in_file(&self) -> Range<u64> {
        let start = self.header.e_phoff(LE);
        start..start + size_of_val(self.program_headers) as u64
    }

    /// The section of the function records.
    pub(super) fn functions_section(&self) -> Result<&'file SectionHeader64<LE>, ImageProblem> {
        let bytes = self.bytes;
        let count = self.header.shnum(LE, bytes).map_err(|_| truncated(ElfPart::SectionHeaders, bytes))?;
        if count as usize > MAX_SECTIONS {
            return Err(ImageProblem::TooManyEntries { part: ElfPart::SectionHeaders, limit: MAX_SECTIONS });
        }
        let sections = self.header.section_headers(LE, bytes).map_err(|_| truncated(ElfPart::SectionHeaders, bytes))?;
        if sections.is_empty() {
            return Err(ImageProblem::NoSectionHeaders);
        }
        let names = self
            .header
            .section_strings_index(LE, bytes)
            .ok()
            .and_then(|index| sections.get(index.0)?.data(LE, bytes).ok())
            .ok_or_else(|| truncated(ElfPart::SectionNames, bytes))?;

        let mut found = sections.iter().filter(|section| has_name(section, names, FUNCTIONS_SECTION));
        match (found.next(), found.next()) {
            (None, _) => Err(ImageProblem::NotAGuest),
            (Some(section), None) => Ok(section),
            (Some(_), Some(_)) => Err(ImageProblem::TwoFunctionsSections),
        }
    }

    fn check_linkage(&self, role: Role) -> Result<(), ImageProblem> {
        let of_type = |wanted| self.of_type(wanted);
        let interpreter = of_type(elf::PT_INTERP).next().is_some();
        let linkage = match (of_type(elf::PT_DYNAMIC).next(), of_type(elf::PT_DYNAMIC).nth(1)) {
            (None, _) => Linkage::default(),
            (Some(dynamic), None) => Linkage::read(dynamic, self.bytes)?,
            (Some(_), Some(_)) => return Err(ImageProblem::TwoDynamicSections),
        };
        // Not all linkers mark an executable. What has nothing to link to, and a place to start, can be run. The dynamic loader
        // is such a program, although it has the name of a library.
        let is_library = linkage.has_library_name && role != Role::Program;
        let runs_by_itself = !linkage.needs_libraries && !is_library && self.entry() != 0;
        let is_executable = interpreter || linkage.executable || runs_by_itself || role == Role::Interpreter;
        if self.kind == Kind::PositionIndependent && !is_executable {
            return Err(not_executable(NotExecutable::SharedLibrary));
        }
        let is_linked = match role {
            Role::Static => !interpreter && !linkage.needs_libraries,
            Role::Program => interpreter || !linkage.needs_libraries,
            Role::Interpreter => true,
        };
        if !is_linked {
            return Err(ImageProblem::DynamicallyLinked);
        }
        if linkage.relocates_text {
            return Err(ImageProblem::TextRelocations);
        }
        if of_type(elf::PT_GNU_STACK).any(|stack| stack.p_flags(LE).contains(elf::PF_X)) {
            return Err(ImageProblem::ExecutableStack);
        }
        Ok(())
    }
}

/// What the dynamic section says.
#[derive(Default)]
struct Linkage {
    needs_libraries: bool,
    relocates_text: bool,
    /// The name under which others link to a shared library.
    has_library_name: bool,
    /// Most linkers mark a position-independent executable, to tell it from a shared library.
    executable: bool,
}

impl Linkage {
    fn read(header: &ProgramHeader64<LE>, bytes: &Bytes) -> Result<Self, ImageProblem> {
        let entries =
            header.dynamic(LE, bytes).ok().flatten().ok_or_else(|| truncated(ElfPart::DynamicSection, bytes))?;
        let mut linkage = Self::default();
        for entry in entries {
            let value = entry.d_val.get(LE);
            match entry.d_tag.get(LE) {
                elf::DT_NULL => break,
                elf::DT_NEEDED => linkage.needs_libraries = true,
                elf::DT_SONAME => linkage.has_library_name = true,
                elf::DT_TEXTREL => linkage.relocates_text = true,
                elf::DT_FLAGS => linkage.relocates_text |= value & elf::DF_TEXTREL.0 != 0,
                elf::DT_FLAGS_1 => linkage.executable |= value & elf::DF_1_PIE.0 != 0,
                _ => {}
            }
        }
        Ok(linkage)
    }
}

fn foreign_platform(header: &FileHeader64<LE>) -> Option<ForeignPlatform> {
    let ident = header.e_ident();
    let machine = header.e_machine(LE);
    if ident.version != elf::EV_CURRENT {
        let version = ident.version.0;
        Some(ForeignPlatform::Version { version })
    } else if ident.class != elf::ELFCLASS64 {
        Some(ForeignPlatform::ThirtyTwoBit)
    } else if ident.data != elf::ELFDATA2LSB {
        Some(ForeignPlatform::BigEndian)
    } else if machine != elf::EM_X86_64 {
        let machine = machine.0;
        Some(ForeignPlatform::Machine { machine })
    } else if ![elf::ELFOSABI_SYSV, elf::ELFOSABI_GNU].contains(&ident.os_abi) {
        let abi = ident.os_abi.0;
        Some(ForeignPlatform::OperatingSystem { abi })
    } else {
        None
    }
}

fn program_headers<'file>(
    header: &FileHeader64<LE>,
    bytes: &'file Bytes,
) -> Result<&'file [ProgramHeader64<LE>], ImageProblem> {
    let part = ElfPart::ProgramHeaders;
    let count = usize::from(header.e_phnum(LE));
    if count == 0 || header.e_phoff(LE) == 0 {
        return Err(ImageProblem::NoSegments);
    }
    if count > MAX_PROGRAM_HEADERS {
        let limit = MAX_PROGRAM_HEADERS;
        return Err(ImageProblem::TooManyEntries { part, limit });
    }
    let size = header.e_phentsize(LE);
    if size != PROGRAM_HEADER_SIZE {
        return Err(ImageProblem::EntrySize { part, size, expected: PROGRAM_HEADER_SIZE });
    }
    header.program_headers(LE, bytes).map_err(|_| truncated(part, bytes))
}

/// Compares no more bytes than the wanted name has, so that overlapping long names in a hostile file cost nothing.
fn has_name(section: &SectionHeader64<LE>, names: &[u8], wanted: &str) -> bool {
    names
        .get(section.sh_name(LE) as usize..)
        .and_then(|name| name.strip_prefix(wanted.as_bytes()))
        .is_some_and(|rest| rest.first() == Some(&0))
}

fn truncated(part: ElfPart, bytes: &Bytes) -> ImageProblem {
    ImageProblem::Truncated { part, size: bytes.len() as u64 }
}

fn not_executable(found: NotExecutable) -> ImageProblem {
    ImageProblem::NotExecutable { found }
}

/// Size of a program header in 64-bit ELF.
pub(super) const PROGRAM_HEADER_SIZE: u16 = size_of::<ProgramHeader64<LE>>() as u16;

/// The longest path of an interpreter, in bytes, without its zero (`PATH_MAX` of Linux's `include/uapi/linux/limits.h`).
const MAX_INTERPRETER_PATH: usize = 4095;

/// Linkers write about a dozen.
const MAX_PROGRAM_HEADERS: usize = 256;

/// Linkers write a few dozen. Indices from `SHN_LORESERVE` on mean something else.
const MAX_SECTIONS: usize = 0xff00;
