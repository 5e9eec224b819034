//! Why a file is not a guest image that this host can run.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;

use ampoule_abi::text::printable_name;

use crate::signature::{Signature, SignatureError};

use super::elf::{ElfPart, ForeignPlatform, NotExecutable};
use super::record::{AbiVersion, RecordProblem};
use super::segment::SegmentProblem;

/// An image that cannot be used, and why.
#[derive(Debug)]
pub struct ImageError {
    name: Box<str>,
    problem: Box<ImageProblem>,
}

impl ImageError {
    pub(super) fn new(name: Box<str>, problem: ImageProblem) -> Self {
        Self { name, problem: Box::new(problem) }
    }

    /// What the image is called: its path, or how the host came by it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is wrong with it.
    #[must_use]
    pub fn problem(&self) -> &ImageProblem {
        &self.problem
    }
}

impl Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest image `{}` {}", printable_name(&self.name), self.problem)
    }
}

/// The image's name and what is wrong with it say everything.
impl Error for ImageError {}

/// What is wrong with an image. The text is the rest of a sentence that begins with the image's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageProblem {
    /// The file could not be read.
    #[error("cannot be read: {reason}")]
    Read {
        /// What the operating system says.
        reason: io::Error,
    },
    /// The path names a directory, a device or a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// The file is larger than the host takes.
    #[error("is larger than {limit} bytes, the most that a host loads")]
    TooLarge {
        /// The largest file, in bytes.
        limit: u64,
    },
    /// It does not begin like an ELF file.
    #[error("is not an ELF file; a guest is a static Linux executable")]
    NotElf,
    /// A part of the ELF file lies outside of the file.
    #[error("is damaged: its {part} is not within its {size} bytes")]
    Truncated {
        /// The part.
        part: ElfPart,
        /// Size of the file in bytes.
        size: u64,
    },
    /// The ELF file is not for 64-bit little-endian Linux on x86-64.
    #[error("is {platform}; build it for x86_64-unknown-linux")]
    Foreign {
        /// What it is for.
        platform: ForeignPlatform,
    },
    /// The ELF file is no executable.
    #[error("is {found}; a guest is a static Linux executable")]
    NotExecutable {
        /// What it is.
        found: NotExecutable,
    },
    /// The executable needs an interpreter or shared libraries.
    #[error(
        "is dynamically linked; link it statically (Rust: -C target-feature=+crt-static with --target, C: -static)"
    )]
    DynamicallyLinked,
    /// The name of the interpreter that links the executable cannot be read.
    #[error("is damaged: the path of its interpreter is not within the file, or empty, or does not end")]
    InterpreterPath,
    /// The executable would change its own code at start.
    #[error("relocates its own code; compile all of it as position-independent code (C: -fPIE)")]
    TextRelocations,
    /// The executable asks for a stack that can be executed.
    #[error("asks for an executable stack; mark its assembly as not needing one (linker: -z noexecstack)")]
    ExecutableStack,
    /// The entries of a table have another size than in 64-bit ELF.
    #[error("is damaged: an entry of its {part} has {size} bytes instead of {expected}")]
    EntrySize {
        /// The table.
        part: ElfPart,
        /// Bytes that the file gives.
        size: u16,
        /// Bytes that it should give.
        expected: u16,
    },
    /// A table has more entries than the host reads.
    #[error("has more than {limit} entries in its {part}")]
    TooManyEntries {
        /// The table.
        part: ElfPart,
        /// The most entries.
        limit: usize,
    },
    /// There is more than one dynamic section.
    #[error("is damaged: it has two dynamic sections")]
    TwoDynamicSections,
    /// No part of the file is to be loaded.
    #[error("has no loadable segments")]
    NoSegments,
    /// A segment cannot be loaded.
    #[error("has a bad segment at {address:#x} (program header {index}): {problem}")]
    Segment {
        /// Index of the segment's program header.
        index: usize,
        /// Address of the segment.
        address: u64,
        /// What is wrong with it.
        problem: SegmentProblem,
    },
    /// The segments together take too much memory.
    #[error("needs {size} bytes of memory for its segments; the most is {limit}")]
    TooMuchMemory {
        /// Bytes that all segments take.
        size: u64,
        /// The most bytes.
        limit: u64,
    },
    /// The program would start outside of its code.
    #[error("starts at {entry:#x}, which is not in an executable segment")]
    EntryNotExecutable {
        /// The entry point.
        entry: u64,
    },
    /// The executable holds no function records.
    #[error(
        "is not an Ampoule guest: it has no section `{}`; link the crate ampoule-guest and call `ampoule_guest::main!()`",
        ampoule_abi::layout::FUNCTIONS_SECTION
    )]
    NotAGuest,
    /// The executable has no section headers, by which its function records would be found.
    #[error(
        "has no section headers, so the functions of a guest cannot be found in it; leave out what removes them: `strip \
         --strip-section-headers`, `sstrip`, or a packer such as `upx` (`strip` alone keeps them)"
    )]
    NoSectionHeaders,
    /// More than one section holds function records.
    #[error("has two sections `{}`", ampoule_abi::layout::FUNCTIONS_SECTION)]
    TwoFunctionsSections,
    /// The function records are not part of the running program.
    #[error("does not load its section `{}` from the file into memory", ampoule_abi::layout::FUNCTIONS_SECTION)]
    FunctionsNotLoaded,
    /// The function records are not aligned.
    #[error(
        "has its section `{}` at {address:#x}, not at a multiple of {}",
        ampoule_abi::layout::FUNCTIONS_SECTION,
        ampoule_abi::layout::RECORD_ALIGN
    )]
    FunctionsMisaligned {
        /// Address of the section.
        address: u64,
    },
    /// The function records take more bytes than the host reads.
    #[error("has a section `{}` of {size} bytes; the most is {limit}", ampoule_abi::layout::FUNCTIONS_SECTION)]
    FunctionsTooLarge {
        /// Bytes of the section.
        size: u64,
        /// The most bytes.
        limit: u64,
    },
    /// There are more function records than the host reads.
    #[error("has more than {limit} function records")]
    TooManyFunctions {
        /// The most records.
        limit: usize,
    },
    /// No record gives the version of the guest ABI.
    #[error("does not say which guest ABI it was built for; call `ampoule_guest::main!()` in its crate root")]
    NoAbiRecord,
    /// More than one record gives the version of the guest ABI.
    #[error(
        "says twice which guest ABI it was built for; call `ampoule_guest::main!()` once, and link ampoule-guest once"
    )]
    TwoAbiRecords,
    /// The guest was built for an ABI that this host does not speak.
    #[error(
        "was built for guest ABI {image}, this host runs {host}; build guest and host with the same version of Ampoule"
    )]
    AbiVersion {
        /// The guest's ABI.
        image: AbiVersion,
        /// The host's ABI.
        host: AbiVersion,
    },
    /// A function record is malformed.
    #[error(
        "has a malformed function record at offset {offset:#x} of `{}`: {problem}",
        ampoule_abi::layout::FUNCTIONS_SECTION
    )]
    Record {
        /// Bytes from the start of the section.
        offset: usize,
        /// What is wrong with it.
        problem: RecordProblem,
    },
    /// A signature cannot be read.
    #[error("has the function `{name}` with a malformed signature `{}`: {reason}", printable_name(signature))]
    Signature {
        /// The function.
        name: Box<str>,
        /// Its signature.
        signature: Box<str>,
        /// What is wrong with the signature.
        reason: SignatureError,
    },
    /// Two exports have the same name.
    #[error("exports two functions `{name}`; rename one")]
    DuplicateExport {
        /// The name.
        name: Box<str>,
    },
    /// A function is imported twice, in different ways.
    #[error("imports the function `{name}` both as {first} and as {second}")]
    ConflictingImports {
        /// The function.
        name: Box<str>,
        /// Its signature in one record.
        first: Signature,
        /// Its signature in a later record.
        second: Signature,
    },
}
