//! What can be loaded and run: a static Linux executable. Whether it lists functions is not asked here.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ampoule_symbols::NameCache;
use ampoule_vmm::{Contents as FrozenPages, FrozenFile, GuestVirt};

use super::elf::{Headers, Kind, PROGRAM_HEADER_SIZE, Role};
use super::error::{ImageError, ImageProblem};
use super::segment::{Placements, Segment};
use super::source::{self, Bytes};

/// A checked static executable: what a [`Program`](crate::Program) runs, and, with functions that can be called, an
/// [`Image`](super::Image). Clones share its bytes and what was read from them.
// All addresses are those in the guest's memory, but for those that `Placements` and problems show, which are the file's.
#[derive(Clone)]
pub struct Executable(Arc<Checked>);

impl Executable {
    /// Reads and checks the executable in a file.
    ///
    /// # Errors
    /// Where the file cannot be read, is larger than 1 GiB, or is not an executable that this host can run.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let name: Box<str> = path.to_string_lossy().into();
        match source::read(path) {
            Ok(bytes) => Self::check(name, bytes.into()),
            Err(problem) => Err(ImageError::new(name, problem)),
        }
    }

    /// Checks an executable in memory. Bytes that are borrowed are not copied.
    ///
    /// # Errors
    /// Where the bytes are more than 1 GiB, or not an executable that this host can run.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, ImageError> {
        Self::check("in memory".into(), Bytes::Own(bytes.into()))
    }

    /// Checks a static executable that messages call `name`.
    pub(crate) fn check(name: Box<str>, bytes: Bytes) -> Result<Self, ImageError> {
        Self::check_as(Role::Static, name, bytes)
    }

    /// Checks an executable that may name an [interpreter](Self::interpreter). Where it is that of a file and was checked before
    /// under this name, this is a clone.
    pub(crate) fn check_program(name: Box<str>, bytes: Bytes, file: Option<&FrozenFile>) -> Result<Self, ImageError> {
        Self::check_once(Role::Program, name, bytes, file)
    }

    /// Checks the interpreter of another executable; otherwise like [`check_program`](Self::check_program).
    pub(crate) fn check_interpreter(
        name: Box<str>,
        bytes: Bytes,
        file: Option<&FrozenFile>,
    ) -> Result<Self, ImageError> {
        Self::check_once(Role::Interpreter, name, bytes, file)
    }

    fn check_once(role: Role, name: Box<str>, bytes: Bytes, file: Option<&FrozenFile>) -> Result<Self, ImageError> {
        let Some(file) = file else { return Self::check_as(role, name, bytes) };
        if let Some(known) = file.remembered::<Known>()
            && known.role == role
            && known.executable.name() == &*name
        {
            return Ok(known.executable.clone());
        }
        let executable = Self::check_as(role, name, bytes)?;
        file.remember(Arc::new(Known { role, executable: executable.clone() }));
        Ok(executable)
    }

    fn check_as(role: Role, name: Box<str>, bytes: Bytes) -> Result<Self, ImageError> {
        match Program::read(&bytes, role) {
            Ok(program) => Ok(Self(Arc::new(Checked {
                name,
                bytes,
                program,
                frozen: OnceLock::new(),
                digest: OnceLock::new(),
                names: NameCache::default(),
            }))),
            Err(problem) => Err(ImageError::new(name, problem)),
        }
    }

    /// What messages call it: its path as it was given, or `in memory`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The bytes of the file.
    pub(crate) fn file(&self) -> &[u8] {
        &self.0.bytes
    }

    /// How many bytes the file has.
    pub(crate) fn file_len(&self) -> usize {
        self.0.bytes.len()
    }

    /// The SHA-256 of the file, which is found out once.
    pub(crate) fn digest(&self, find_out: impl FnOnce() -> [u8; 32]) -> [u8; 32] {
        match self.0.digest.get() {
            Some(digest) => *digest,
            None => {
                // Not within `get_or_init`: a child that is forked meanwhile would wait for that forever.
                let digest = find_out();
                *self.0.digest.get_or_init(|| digest)
            }
        }
    }

    /// The bytes of the file, of which only those are read that are asked for.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// What is added to the addresses in the file; a multiple of the alignment that each segment asks for.
    pub(crate) fn bias(&self) -> u64 {
        self.0.program.bias
    }

    /// The address of the first instruction, within an executable segment.
    pub(crate) fn entry(&self) -> GuestVirt {
        GuestVirt(self.bias() + self.0.program.entry)
    }

    /// The parts that are loaded into memory, at least one, in ascending order of their addresses.
    pub(crate) fn segments(&self) -> impl ExactSizeIterator<Item = Segment<'_>> {
        self.placements().iter(self.file(), self.bias())
    }

    /// Whether this is the other's clone.
    pub(crate) fn is(&self, other: &Executable) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The first address of the first segment, and the one behind the last one's.
    pub(crate) fn extent(&self) -> Option<(u64, u64)> {
        let first = self.segments().next()?.address();
        let end = self.segments().map(|segment| segment.end().0).max()?;
        Some((first.0, end))
    }

    /// The pages of each segment that have bytes in the file, in the order of the segments. All guests share them.
    ///
    /// # Errors
    /// What the host says where it has no memory or file descriptor for them.
    pub(crate) fn segment_pages(&self) -> io::Result<&[FrozenPages]> {
        if let Some(pages) = self.0.frozen.get() {
            return Ok(pages);
        }
        let pieces = self.segments().map(|segment| (segment.address().page_offset(), segment.bytes()));
        let pages = FrozenPages::of_bytes(&pieces.collect::<Vec<_>>())?;
        Ok(self.0.frozen.get_or_init(|| pages))
    }

    /// The path of what links the program with its libraries and is started in its place; `None` for a static one.
    pub(crate) fn interpreter(&self) -> Option<&[u8]> {
        self.0.program.interpreter.as_deref()
    }

    /// Whether it can be loaded anywhere.
    pub(crate) fn is_position_independent(&self) -> bool {
        self.0.program.kind == Kind::PositionIndependent
    }

    /// The largest alignment of a segment, in bytes.
    pub(crate) fn alignment(&self) -> u64 {
        self.placements().alignment()
    }

    /// What was found out about its code, for errors that show it.
    pub(crate) fn names(&self) -> &NameCache {
        &self.0.names
    }

    /// The program header table in the guest's memory; `None` if it is not loaded.
    pub(crate) fn program_headers(&self) -> Option<ProgramHeaders> {
        self.0.program.headers
    }

    /// Where the segments stand, in the file's addresses.
    pub(super) fn placements(&self) -> &Placements {
        &self.0.program.segments
    }
}

/// Reads a program of the host's, which is still to be checked: its bytes, and the file, where whoever executes it shares that.
///
/// # Errors
///
/// Where the file cannot be read, or is larger than 1 GiB.
pub(crate) fn read_program(path: &Path) -> Result<(Bytes, Option<Arc<FrozenFile>>), ImageError> {
    source::read_shared(path).map_err(|problem| ImageError::new(path.to_string_lossy().into(), problem))
}

impl fmt::Debug for Executable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executable")
            .field("name", &self.name())
            .field("bytes", &self.file_len())
            .field("bias", &format_args!("{:#x}", self.bias()))
            .finish_non_exhaustive()
    }
}

/// The table of segments as the guest finds it in its memory: what the auxiliary vector tells in `AT_PHDR`, `AT_PHNUM` and
/// `AT_PHENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProgramHeaders {
    /// Address of the table.
    pub(crate) address: GuestVirt,
    /// Entries of the table.
    pub(crate) count: usize,
    /// Bytes of an entry.
    pub(crate) entry_size: usize,
}

/// What a file is remembered to be. It has the file's bytes, and not the file.
struct Known {
    role: Role,
    executable: Executable,
}

struct Checked {
    name: Box<str>,
    bytes: Bytes,
    program: Program,
    /// The pages of each segment that have bytes in the file, once a guest has been loaded.
    frozen: OnceLock<Vec<FrozenPages>>,
    /// That of the file, once somebody has needed it.
    digest: OnceLock<[u8; 32]>,
    names: NameCache,
}

/// What the bytes of an executable say.
struct Program {
    bias: u64,
    kind: Kind,
    interpreter: Option<Box<[u8]>>,
    /// As the file gives it.
    entry: u64,
    segments: Placements,
    headers: Option<ProgramHeaders>,
}

impl Program {
    fn read(bytes: &Bytes, role: Role) -> Result<Self, ImageProblem> {
        source::check_size(bytes.len() as u64)?;
        let headers = Headers::read(bytes, role)?;
        let interpreter = if role == Role::Program { headers.interpreter()? } else { None };
        let segments = Placements::read(headers.program_headers, headers.kind, bytes.len())?;
        let entry = headers.entry();
        if !segments.is_executable(entry) {
            return Err(ImageProblem::EntryNotExecutable { entry });
        }
        let bias = match headers.kind {
            Kind::Fixed => 0,
            Kind::PositionIndependent => PIE_BASE.next_multiple_of(segments.alignment()),
        };
        let table = segments.address_of(&headers.program_headers_in_file()).map(|address| ProgramHeaders {
            address: GuestVirt(bias + address),
            count: headers.program_headers.len(),
            entry_size: usize::from(PROGRAM_HEADER_SIZE),
        });
        let (kind, interpreter) = (headers.kind, interpreter.map(Into::into));
        Ok(Self { bias, kind, interpreter, entry, segments, headers: table })
    }
}

/// Where a position-independent executable is loaded: always in the same place, where fixed ones are by custom.
const PIE_BASE: u64 = 0x40_0000;
