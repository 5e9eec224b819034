//! Guest images: static Linux executables, checked before anything runs them.
//!
//! An [`Image`] is proof of the checks. Its headers and segments lie within the file, its segments lie within the guest's
//! part of the address space, share no page, and none is writable and executable; its functions are listed with their
//! signatures, in a version of the guest ABI (`docs/abi.md`) that this host runs. What the program does is not checked:
//! it is the sandbox that holds it.

mod elf;
mod error;
mod function;
mod record;
mod segment;
mod source;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

pub use elf::{ElfPart, ForeignPlatform, NotExecutable};
pub use error::{ImageError, ImageProblem};
pub use function::Function;
pub use record::{AbiVersion, RecordProblem};
pub use segment::{Permissions, Segment, SegmentProblem};

use ampoule_abi::layout::RECORD_ALIGN;
use ampoule_abi::text::printable_name;
use ampoule_vmm::{Contents as FrozenPages, address_map};
use object::LittleEndian as LE;
use object::elf::SHF_ALLOC;
use object::read::elf::SectionHeader;

use elf::{Executable, PROGRAM_HEADER_SIZE};
use function::Interface;
use segment::Placements;

/// A checked guest image. Clones share the image's bytes and what was read from them.
///
/// ```no_run
/// use ampoule::image::Image;
///
/// let image = Image::from_file("guest")?;
/// for function in image.exports() {
///     println!("{}{}", function.name(), function.signature());
/// }
/// # Ok::<(), ampoule::image::ImageError>(())
/// ```
#[derive(Clone)]
pub struct Image(Arc<Checked>);

impl Image {
    /// Reads and checks the image in a file.
    ///
    /// # Errors
    /// Where the file cannot be read, is larger than 1 GiB, or is not an image that this host can run.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let name = path.to_string_lossy().into();
        match source::read(path) {
            Ok(bytes) => Self::check(name, bytes.into()),
            Err(problem) => Err(ImageError::new(name, problem)),
        }
    }

    /// Checks an image in memory.
    ///
    /// # Errors
    /// Where the bytes are more than 1 GiB, or not an image that this host can run.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, ImageError> {
        Self::check("in memory".into(), bytes.into())
    }

    /// Checks an image that is part of the host program. It is not copied.
    ///
    /// # Errors
    /// Where the bytes are more than 1 GiB, or not an image that this host can run.
    pub fn embedded(bytes: &'static [u8]) -> Result<Self, ImageError> {
        Self::check("embedded".into(), bytes.into())
    }

    /// What the image is called in messages: its path as it was given, `embedded` or `in memory`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether the addresses in the image are final.
    #[must_use]
    pub fn kind(&self) -> ImageKind {
        self.0.contents.kind
    }

    /// The address of the first instruction, within an executable segment. It counts like [`Segment::address`].
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.0.contents.entry
    }

    /// The parts that are loaded into memory, at least one, in ascending order of their addresses.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Segment<'_>> {
        self.0.contents.segments.iter(&self.0.bytes)
    }

    /// The pages of each segment that have bytes in the file, in the order of the segments. All guests share them.
    ///
    /// # Errors
    /// What the host says where it has no memory or file descriptor for them.
    pub(crate) fn segment_pages(&self) -> io::Result<&[FrozenPages]> {
        if let Some(pages) = self.0.frozen.get() {
            return Ok(pages);
        }
        let pieces = self.segments().map(|segment| ((segment.address() % PAGE_SIZE) as usize, segment.bytes()));
        let pages = FrozenPages::of_bytes(&pieces.collect::<Vec<_>>())?;
        Ok(self.0.frozen.get_or_init(|| pages))
    }

    /// The largest alignment that a segment asks for, in bytes: a power of two from 4,096 (a page) to 1 GiB. The address
    /// that a position-independent image is loaded at is to be a multiple of it.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        self.0.contents.segments.alignment()
    }

    /// The program header table in the guest's memory; `None` if it is not loaded.
    #[must_use]
    pub fn program_headers(&self) -> Option<ProgramHeaders> {
        self.0.contents.program_headers
    }

    /// The version of the guest ABI that the image was built for; this host runs it.
    #[must_use]
    pub fn abi_version(&self) -> AbiVersion {
        self.0.contents.interface.abi
    }

    /// The functions that the host can call, in the order of their numbers.
    pub fn exports(&self) -> impl ExactSizeIterator<Item = &Function> {
        self.0.contents.interface.exports.iter()
    }

    /// The function of this name that the host can call.
    #[must_use]
    pub fn export(&self, name: &str) -> Option<&Function> {
        self.0.contents.interface.exports.by_name(name)
    }

    /// The function with this number that the host can call.
    #[must_use]
    pub fn export_by_number(&self, number: u32) -> Option<&Function> {
        self.0.contents.interface.exports.by_number(number)
    }

    /// Where among the exports the one of this number is, to have it without a search.
    pub(crate) fn export_position(&self, number: u32) -> Option<usize> {
        self.0.contents.interface.exports.position(number)
    }

    /// The export at a [position](Self::export_position) of this image.
    pub(crate) fn export_at(&self, position: usize) -> &Function {
        self.0.contents.interface.exports.at(position)
    }

    /// The functions that the host must provide, in the order of their numbers. A function may appear several times, with
    /// one name, one signature and several numbers.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = &Function> {
        self.0.contents.interface.imports.iter()
    }

    /// The function of this name that the host must provide; if it appears several times, the first.
    #[must_use]
    pub fn import(&self, name: &str) -> Option<&Function> {
        self.0.contents.interface.imports.by_name(name)
    }

    /// The function with this number that the host must provide.
    #[must_use]
    pub fn import_by_number(&self, number: u32) -> Option<&Function> {
        self.0.contents.interface.imports.by_number(number)
    }

    /// Whether both are clones of one image. Images that were read twice are not, whatever their bytes.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The bytes of the file.
    pub(crate) fn file(&self) -> &[u8] {
        &self.0.bytes
    }

    fn check(name: Box<str>, bytes: Cow<'static, [u8]>) -> Result<Self, ImageError> {
        match Contents::read(&bytes) {
            Ok(contents) => {
                tracing::debug!(
                    image = %printable_name(&name),
                    bytes = bytes.len(),
                    exports = contents.interface.exports.len(),
                    imports = contents.interface.imports.len(),
                    "checked a guest image"
                );
                Ok(Self(Arc::new(Checked { name, bytes, contents, frozen: OnceLock::new() })))
            }
            Err(problem) => Err(ImageError::new(name, problem)),
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("name", &self.0.name)
            .field("kind", &self.kind())
            .field("bytes", &self.0.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Whether the addresses in an image are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageKind {
    /// The image is loaded at the addresses that it gives.
    Fixed,
    /// The image can be loaded anywhere; the addresses that it gives count from where it is loaded.
    PositionIndependent,
}

/// The table of segments as the guest finds it in its memory: what the auxiliary vector tells in `AT_PHDR`, `AT_PHNUM` and
/// `AT_PHENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramHeaders {
    /// Address of the table. It counts like [`Segment::address`].
    pub address: u64,
    /// Entries of the table.
    pub count: usize,
    /// Bytes of an entry.
    pub entry_size: usize,
}

struct Checked {
    name: Box<str>,
    bytes: Cow<'static, [u8]>,
    contents: Contents,
    /// The pages of each segment that have bytes in the file, once a guest has been loaded.
    frozen: OnceLock<Vec<FrozenPages>>,
}

/// What the bytes of an image say.
struct Contents {
    kind: ImageKind,
    entry: u64,
    segments: Placements,
    program_headers: Option<ProgramHeaders>,
    interface: Interface,
}

impl Contents {
    fn read(bytes: &[u8]) -> Result<Self, ImageProblem> {
        source::check_size(bytes.len() as u64)?;
        let executable = Executable::read(bytes)?;
        let segments = Placements::read(executable.program_headers, executable.kind, bytes.len())?;
        let entry = executable.entry();
        if !segments.is_executable(entry) {
            return Err(ImageProblem::EntryNotExecutable { entry });
        }
        let program_headers =
            segments.address_of(&executable.program_headers_in_file()).map(|address| ProgramHeaders {
                address,
                count: executable.program_headers.len(),
                entry_size: usize::from(PROGRAM_HEADER_SIZE),
            });
        let section = functions_section(&executable, &segments, bytes)?;
        Ok(Self { kind: executable.kind, entry, program_headers, interface: Interface::read(section)?, segments })
    }
}

/// The bytes of the functions section, which the guest finds in its memory as they are in the file.
fn functions_section<'image>(
    executable: &Executable<'image>,
    segments: &Placements,
    bytes: &'image [u8],
) -> Result<&'image [u8], ImageProblem> {
    let header = executable.functions_section()?;
    let address = header.sh_addr(LE);
    let (offset, size) = header
        .file_range(LE)
        .filter(|_| header.sh_flags(LE).contains(SHF_ALLOC))
        .ok_or(ImageProblem::FunctionsNotLoaded)?;
    if size > MAX_FUNCTIONS_SIZE {
        let limit = MAX_FUNCTIONS_SIZE;
        return Err(ImageProblem::FunctionsTooLarge { size, limit });
    }
    let end = offset.saturating_add(size);
    if segments.address_of(&(offset..end)) != Some(address) {
        return Err(ImageProblem::FunctionsNotLoaded);
    }
    if !address.is_multiple_of(RECORD_ALIGN as u64) {
        return Err(ImageProblem::FunctionsMisaligned { address });
    }
    header.data(LE, bytes).map_err(|_| ImageProblem::FunctionsNotLoaded)
}

/// The lowest address that a guest may use. Below it nothing is mapped, so that a null pointer with a small offset faults;
/// the value is the default of Linux's `vm.mmap_min_addr`.
pub const USER_START: u64 = address_map::USER_START.0;

/// The address behind the highest that an image may use. It leaves 512 GiB below the end of the lower half of the x86-64
/// address space (0x8000_0000_0000) to the host.
pub const USER_END: u64 = address_map::USER_END.0;

/// Size of a page on x86-64, in bytes.
const PAGE_SIZE: u64 = 4096;

/// The largest image file, in bytes.
const MAX_FILE_SIZE: u64 = 1 << 30;

/// The most memory that the segments of an image may take together, in bytes. A sandbox has a much lower limit of its own.
const MAX_MEMORY: u64 = 1 << 40;

/// The largest functions section, in bytes. What is read from it takes some dozen times as much of the host's memory.
const MAX_FUNCTIONS_SIZE: u64 = 1 << 20;
