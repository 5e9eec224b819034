//! Core dumps: what a guest was when it ended, or is between two calls, as a file that debuggers open.
//!
//! The format is that of Linux on the guest's architecture: an ELF file with the registers and the facts about the process in
//! notes, and a segment for each part of the memory. It is written from front to back, without a copy of the memory: first it
//! is decided which pages are in it ([`segments`]), then they are copied out one portion after the other ([`file`]).
//!
//! What a guest has made of its memory and of its registers decides the content of the file and nothing else: its size is
//! bounded by the guest's memory and by [`CoreDumps::size_limit`], the number of segments and of files in the notes by
//! constants here. While nobody asks for a core dump, nothing of this runs.

mod directory;
mod error;
mod file;
mod notes;
mod segments;
mod signal;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ampoule_abi::text::printable_name;
use ampoule_vmm::GuestVirt;
use ampoule_vmm::processor::CoreRegisters;

use crate::address_space::{FileId, MappedFile, Run};
use crate::image::Executable;
use crate::loader::StartRecord;

pub use error::CoreDumpError;
pub(crate) use signal::Signal;

/// Core dumps of guests that end: where they go, and how many and how large they may be. Set with
/// [`Builder::core_dumps`](crate::Builder::core_dumps), [`Spawn::core_dumps`](crate::Spawn::core_dumps) or
/// [`Sandbox::set_core_dumps`](crate::Sandbox::set_core_dumps); without it there are none.
///
/// When the guest ends by a fault, a limit or a kill, or breaks the protocol, the thread that made the call writes a file
/// before it returns the error, which says where the file is ([`CoreDump`]). Only its owner can read it. The name is that of
/// the sandbox, with a number and the ending `.core`, and the file has it only once it is complete. Nothing is overwritten.
///
/// A core dump holds everything that the guest had in its memory: also what the application has given to it.
///
/// Clones count together: sandboxes that were made with one write no more files than
/// [`count_limit`](Self::count_limit) together.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// use ampoule::{CoreDumps, Sandbox};
///
/// let dumps = CoreDumps::to_dir("/var/crash/guests").size_limit(64 << 20).count_limit(20);
/// let sandbox = Sandbox::builder(&image).core_dumps(dumps).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "core dumps are written by a sandbox that is made with this"]
pub struct CoreDumps {
    directory: Arc<Path>,
    size_limit: u64,
    count_limit: u64,
    written: Arc<AtomicU64>,
}

impl CoreDumps {
    /// Core dumps in this directory, which is to exist.
    pub fn to_dir(path: impl AsRef<Path>) -> Self {
        Self {
            directory: path.as_ref().into(),
            size_limit: u64::MAX,
            count_limit: DEFAULT_COUNT,
            written: Arc::default(),
        }
    }

    /// How large each file may be, in bytes. What does not fit is left out, the most useful parts last: registers and the list
    /// of mappings are always there, some kilobytes as a rule; then comes the stack from the stack pointer on, then what the
    /// guest can write, then its code and constants, which the image has too, and then
    /// [memory of the host's](crate::Sandbox::map_memory).
    ///
    /// Default: no limit but the guest's memory and what is mapped for it. Pages of zeros take no room.
    pub fn size_limit(mut self, bytes: u64) -> Self {
        self.size_limit = bytes;
        self
    }

    /// How many files are written, so that guests that end again and again do not fill a disk. Later ends have none, and
    /// their errors say so.
    ///
    /// Default: 100.
    pub fn count_limit(mut self, files: u64) -> Self {
        self.count_limit = files;
        self
    }

    /// Writes a file for a sandbox of this name.
    pub(crate) fn write(&self, sandbox: &str, dump: impl FnOnce(&mut dyn io::Write) -> Dumped) -> CoreDump {
        let counted = self.written.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |written| {
            (written < self.count_limit).then_some(written + 1)
        });
        if counted.is_err() {
            return CoreDump::new(Err(CoreDumpError::TooMany { limit: self.count_limit }));
        }
        let written = directory::write(&self.directory, sandbox, dump);
        if written.is_err() {
            self.written.fetch_sub(1, Ordering::Relaxed);
        }
        CoreDump::new(written)
    }

    pub(crate) fn max_size(&self) -> u64 {
        self.size_limit
    }
}

/// What has become of the core dump of a guest that has ended. Clones share it. `{}` is part of a line.
#[derive(Clone, Debug)]
pub struct CoreDump(Arc<Result<Written, CoreDumpError>>);

#[derive(Debug)]
struct Written {
    path: PathBuf,
    omitted: u64,
}

impl CoreDump {
    fn new(written: Result<Written, CoreDumpError>) -> Self {
        Self(Arc::new(written))
    }

    /// The file that it is in.
    ///
    /// # Errors
    /// Why there is none.
    pub fn path(&self) -> Result<&Path, &CoreDumpError> {
        self.0.as_ref().as_ref().map(|written| &*written.path)
    }

    /// How many bytes of the guest's memory are not in the file, because of [`CoreDumps::size_limit`].
    pub fn omitted(&self) -> u64 {
        self.0.as_ref().as_ref().map_or(0, |written| written.omitted)
    }
}

impl fmt::Display for CoreDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Ok(Written { path, omitted }) => {
                write!(f, "core dump: {}", printable_name(&path.to_string_lossy()))?;
                match omitted {
                    0 => Ok(()),
                    omitted => write!(f, " (without {omitted} bytes of memory, for `CoreDumps::size_limit`)"),
                }
            }
            Err(error) => write!(f, "no core dump: {error}"),
        }
    }
}

/// How many bytes of memory were left out of a core dump that was written.
pub(crate) type Dumped = Result<u64, CoreDumpError>;

/// A guest that does not run.
pub(crate) struct Process<'guest> {
    pub(crate) registers: CoreRegisters,
    pub(crate) stack_pointer: GuestVirt,
    /// The number of the process.
    pub(crate) id: i32,
    pub(crate) started: &'guest StartRecord,
    pub(crate) executable: &'guest Executable,
    /// What it sees, in ascending order of the addresses.
    pub(crate) runs: Vec<Run>,
    pub(crate) memory: &'guest dyn Memory,
    /// The files of which it has mapped pages.
    pub(crate) files: BTreeMap<FileId, &'guest MappedFile>,
    /// The paths of files of the host's that are mapped for it.
    pub(crate) host_files: Vec<&'guest str>,
    /// By what it has ended, if it has.
    pub(crate) signal: Option<Signal>,
}

/// The memory of a guest that does not run, in pages.
pub(crate) trait Memory {
    /// Whether a page may hold anything but zeros, or what a file of the host's has.
    fn is_touched(&self, page: usize) -> bool;

    /// Copies a page, which exists.
    fn read(&self, page: usize, into: &mut [u8]);
}

impl Process<'_> {
    /// Writes a core dump of at most `limit` bytes, if its notes and headers take no more.
    pub(crate) fn write(&self, limit: u64, sink: &mut dyn io::Write) -> Dumped {
        file::write(self, limit, sink).map_err(CoreDumpError::write)
    }
}

/// How many files are written where no number is set.
const DEFAULT_COUNT: u64 = 100;
