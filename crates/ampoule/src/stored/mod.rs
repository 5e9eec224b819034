//! Snapshots in files.
//!
//! A file holds all that a guest was, and nothing of the host: neither addresses nor paths of it, and no page tables. What a
//! guest had of the host is given to it again when it is loaded: host functions and outputs by the builder of what is spawned,
//! files by [`SnapshotFile::files`].
//!
//! 1. Nothing of a file is looked at before it was compared with its digest ([`read`]), and what is read is still not trusted:
//!    each layer checks its own record, and refuses what no guest could have come to.
//! 2. A file is written beside the one that it replaces, and takes its name when it is on the disk ([`write`]).
//! 3. `docs/snapshot-format.md` says what is where ([`format`], [`record`]).

mod error;
mod format;
mod header;
mod known;
mod opened;
mod read;
mod record;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ampoule_vfs::{RestoreFilesError, Vfs};
use ampoule_vmm::{Backend, Baseline, Behaviour, Hypervisor, ParseBaselineError};

use crate::conversation::ConversationRecord;
use crate::files::Files;
use crate::image::{Described, Executable, Image};
use crate::limits::Limits;
use crate::machine::{Checkpoint, MachineRecord, RecordError};
use crate::platform::Platform;
use crate::program::ProgramSnapshot;
use crate::sandbox::Snapshot;
use format::Encoding;
use read::{How, Parent, Reading};
use record::{GuestRecord, LimitsRecord, StateRecord};
use write::Content;

pub(crate) use read::Stored;

pub use error::{LoadSnapshotError, SaveSnapshotError};
pub use format::SnapshotDigest;
pub use header::SnapshotHeader;

/// How a snapshot is saved; see [`Snapshot::save_with`].
///
/// ```no_run
/// use ampoule::SaveOptions;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// let started = sandbox.snapshot()?;
/// started.save("started.snap")?;
///
/// sandbox.call::<()>("load_model", ())?;
/// sandbox.snapshot()?.save_with("loaded.snap", &SaveOptions::new().parent("started.snap"))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    compress: bool,
    parent: Option<PathBuf>,
}

/// A snapshot that was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedSnapshot {
    /// Its name, by which others refer to it as their parent.
    pub digest: SnapshotDigest,
    /// The size of the file, in bytes. Zeros may take no room of it on the disk.
    pub file_size: u64,
}

/// A snapshot in a file, to be loaded.
///
/// The file is read once, and compared with its digests, when it is loaded; what becomes of it later harms nobody. All that is
/// loaded from files of one digest in one process, and all that is spawned from it, shares its pages until they are written. With
/// [`mapped`](Self::mapped) loading costs what is used of the file, and processes share its pages, too.
///
/// ```no_run
/// use ampoule::{Files, Pool, SnapshotFile};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ready = SnapshotFile::new("python.snap").files(Files::libraries()).program()?;
/// let answer = Pool::new(&ready, 8)?.take()?.input("a request").run()?;
/// # Ok(()) }
/// ```
#[must_use = "a snapshot is loaded only when `snapshot` or `program` is called"]
pub struct SnapshotFile {
    path: PathBuf,
    reading: Reading,
    files: Files,
    platform: Platform,
    any_processor: bool,
}

/// What a snapshot file says of its guest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its name: a digest of all that it holds.
    pub digest: SnapshotDigest,
    /// The snapshot that it is stored as a difference from.
    pub parent: Option<SnapshotDigest>,
    /// Whether it is compressed.
    pub is_compressed: bool,
    /// The name of the guest's executable.
    pub name: String,
    /// The image, with its functions, where it is of a guest that can be called and not of a program.
    pub image: Option<Image>,
    /// The size of the image's file, in bytes.
    pub image_size: usize,
    /// How much memory the guest can have, in bytes.
    pub memory_limit: usize,
    /// Bytes of its memory that are stored in this file.
    pub stored_bytes: u64,
    /// Bytes of its memory that do not hold zeros, wherever they are stored.
    pub used_bytes: u64,
    /// What of a processor it may use, by the names of `/proc/cpuinfo`.
    pub features: Vec<String>,
    /// The [baseline](crate::Builder::baseline) that it was limited to, where it was.
    pub baseline: Option<Baseline>,
}

impl SaveOptions {
    /// All of it, as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses it, for transport: the file is smaller, and takes longer to save and to load.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.compress = true;
        self
    }

    /// Saves only what differs from the snapshot in this file, which has to be there when the new one is loaded: under any name in
    /// the same directory, or [named](SnapshotFile::parent).
    #[must_use]
    pub fn parent(mut self, path: impl Into<PathBuf>) -> Self {
        self.parent = Some(path.into());
        self
    }
}

impl SnapshotFile {
    /// The snapshot in this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let reading = Reading { limit: DEFAULT_LIMIT, parents: Vec::new(), how: How::Copied };
        Self { path: path.into(), reading, files: Files::none(), platform: Platform::default(), any_processor: false }
    }

    /// Whether there is a file that begins as a snapshot does. It may be damaged, or of another version.
    pub fn is_one(path: impl AsRef<Path>) -> bool {
        opened::begins_as_snapshot(path.as_ref())
    }

    /// Where a snapshot is that this one, or one of its parents, is stored as a difference from. Its digest decides which.
    pub fn parent(mut self, path: impl Into<PathBuf>) -> Self {
        self.reading.parents.push(path.into());
        self
    }

    /// How many bytes a file may take when it is loaded.
    ///
    /// Default: 8 GiB.
    pub fn size_limit(mut self, bytes: u64) -> Self {
        self.reading.limit = bytes;
        self
    }

    /// Maps the memory that is in the file, and in its parents, instead of reading all of it: a page is read when a guest first
    /// touches it, and all processes that map the file share the pages that their guests have not written. Use it for files that
    /// nobody changes.
    ///
    /// Only the guest's state, and what is needed of its image, are compared with their digests; [`verify`](Self::verify) compares
    /// everything. Whoever
    /// writes to the file changes what is in the guests that continue from it, now or later. When it is cut short, a guest that
    /// touches memory that was lost ends ([`FaultKind::LostSnapshot`](crate::FaultKind::LostSnapshot)). The host is as safe from
    /// such a guest as from any other. A file that is replaced under its name, as [`Snapshot::save`] does it, is not changed: what
    /// was loaded before continues from what it had.
    ///
    /// The host's own accesses to mapped memory take a system call each, so guests that make many system calls with much data
    /// run slower. A compressed file cannot be mapped, and is read.
    pub fn mapped(mut self) -> Self {
        self.reading.how = How::Mapped;
        self
    }

    /// Which files the guest sees: those that it was granted when it started, wherever they are on this host. Default:
    /// [`Files::none`].
    pub fn files(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// Loads it even where this machine's processor lacks something that the guest may use. It gets a `SIGILL` when it does.
    pub fn any_processor(mut self) -> Self {
        self.any_processor = true;
        self
    }

    /// Uses this hypervisor instead of the platform's.
    pub fn hypervisor(mut self, hypervisor: Arc<dyn Hypervisor>) -> Self {
        self.platform.hypervisor = Some(hypervisor);
        self
    }

    /// Loads a guest that waits for a call.
    ///
    /// # Errors
    /// A [`LoadSnapshotError`].
    pub fn snapshot(self) -> Result<Snapshot, LoadSnapshotError> {
        let stored = Stored::read(&self.path, &self.reading)?;
        let GuestRecord::Sandbox(record, schema) = &stored.state().guest else {
            return Err(LoadSnapshotError::Kind { path: self.path, is_program: true });
        };
        let image = stored.image()?.clone();
        let shape = record.shape().map_err(|error| self.refused(error))?;
        self.check_memory(&stored, shape.pages())?;
        if let Some(schema) = schema.as_ref().filter(|_| image.described().is_none()) {
            schema.check().map_err(|error| self.impossible(error.to_string()))?;
            let described = Described::new(&image, schema.clone());
            image.describe(
                described.ok_or_else(|| self.impossible("it describes functions that are not there".into()))?,
            );
        }
        let backend = self.backend(&stored)?;
        let files = self.tree()?;
        let checkpoint = record.checkpoint(&*backend, stored.contents(), files).map_err(|error| self.refused(error))?;
        Ok(Snapshot::of_stored(image, backend, stored.state().limits.limits(), checkpoint, stored))
    }

    /// Loads a program that waits for its input.
    ///
    /// # Errors
    /// A [`LoadSnapshotError`].
    pub fn program(self) -> Result<ProgramSnapshot, LoadSnapshotError> {
        let stored = Stored::read(&self.path, &self.reading)?;
        let GuestRecord::Program(record) = &stored.state().guest else {
            return Err(LoadSnapshotError::Kind { path: self.path, is_program: false });
        };
        let executable = stored.executable()?.clone();
        let shape = record.shape_of_program().map_err(LoadSnapshotError::Setting)?;
        self.check_memory(&stored, shape.pages())?;
        let backend = self.backend(&stored)?;
        let checkpoint = record
            .checkpoint(&*backend, shape, stored.contents(), self.tree()?)
            .map_err(|error| self.refused(error))?;
        if !checkpoint.waits_for_input() {
            return Err(self.impossible("it waits for a call and not for input".to_owned()));
        }
        Ok(ProgramSnapshot::of_stored(executable, backend, stored.state().limits.limits(), checkpoint, stored))
    }

    /// Reads the file, and says what is in it.
    ///
    /// # Errors
    /// A [`LoadSnapshotError`]; none for a guest that cannot continue on this machine.
    pub fn info(&self) -> Result<SnapshotInfo, LoadSnapshotError> {
        self.info_of(&*Stored::read(&self.path, &self.reading)?)
    }

    fn info_of(&self, stored: &Stored) -> Result<SnapshotInfo, LoadSnapshotError> {
        let (header, state) = (stored.header(), stored.state());
        let (image, executable, shape) = match &state.guest {
            GuestRecord::Sandbox(record, _) => {
                let image = stored.image()?;
                let shape = record.shape().map_err(|error| self.refused(error))?;
                (Some(image.clone()), image.executable(), shape)
            }
            GuestRecord::Program(record) => {
                let shape = record.shape_of_program().map_err(LoadSnapshotError::Setting)?;
                (None, stored.executable()?, shape)
            }
        };
        Ok(SnapshotInfo {
            digest: stored.digest(),
            parent: header.parent,
            is_compressed: header.encoding == Encoding::Deflate,
            name: state.name.clone(),
            image_size: executable.file_len(),
            image,
            memory_limit: shape.memory_limit,
            stored_bytes: header.pages * PAGE,
            used_bytes: stored.contents().stored_pages() as u64 * PAGE,
            features: state.features.clone(),
            baseline: self.baseline(state)?,
        })
    }

    /// Reads all of the file and of its parents, and makes the guest of it as if it were to run: whatever is wrong with it is
    /// found. Nothing runs, and it need not be granted anything.
    ///
    /// # Errors
    /// A [`LoadSnapshotError`].
    pub fn verify(&self) -> Result<SnapshotInfo, LoadSnapshotError> {
        let again = Reading { how: How::Again, ..self.reading.clone() };
        let stored = Stored::read(&self.path, &again)?;
        let info = self.info_of(&stored)?;
        if !stored.has_its_image() {
            return Err(LoadSnapshotError::Damaged { path: self.path.clone(), part: "image" });
        }
        Ok(info)
    }

    /// What it is to run on, with all that the guest may use, and limited as the guest was. Where that is not possible here the guest
    /// may find more from now on, which a snapshot of it says then.
    fn backend(&self, stored: &Stored) -> Result<Arc<dyn Backend>, LoadSnapshotError> {
        let limited = Platform { baseline: self.baseline(stored.state())?, ..self.platform.clone() };
        let backend = match limited.backend() {
            Err(LoadSnapshotError::Baseline(reason)) if !reason.may_be_transient() => {
                tracing::info!(%reason, "a guest from a snapshot is not limited to its baseline any more");
                self.platform.backend::<LoadSnapshotError>()?
            }
            backend => backend?,
        };
        let has = backend.behaviour().features();
        let needed = stored.state().features.iter();
        let missing: Vec<_> = needed.filter(|feature| !has.contains(&feature.as_str())).cloned().collect();
        if !missing.is_empty() && !self.any_processor {
            return Err(LoadSnapshotError::Processor { path: self.path.clone(), missing });
        }
        Ok(backend)
    }

    fn baseline(&self, state: &StateRecord) -> Result<Option<Baseline>, LoadSnapshotError> {
        let baseline = state.baseline.as_deref().map(str::parse).transpose();
        baseline.map_err(|_: ParseBaselineError| {
            self.impossible("it was limited to a baseline that this version does not know".to_owned())
        })
    }

    /// The files, none of which is open.
    fn tree(&self) -> Result<Vfs, LoadSnapshotError> {
        let mut files = self.files.mount(None, Path::new("/"))?;
        files.vfs.close(files.directory);
        Ok(files.vfs)
    }

    fn check_memory(&self, stored: &Stored, pages: usize) -> Result<(), LoadSnapshotError> {
        if stored.contents().pages() != pages {
            return Err(self.impossible("its memory has another size than its settings say".to_owned()));
        }
        Ok(())
    }

    fn refused(&self, error: RecordError) -> LoadSnapshotError {
        let path = self.path.clone();
        match error {
            RecordError::Record(bad) => LoadSnapshotError::State { path, reason: bad.to_string() },
            RecordError::Registers(bad) => LoadSnapshotError::State { path, reason: bad.to_string() },
            RecordError::Setting(setting) => LoadSnapshotError::Setting(setting),
            RecordError::File { path: file, reason } => {
                LoadSnapshotError::File { path, file: String::from_utf8_lossy(&file).into_owned(), reason }
            }
            RecordError::Files(reason @ RestoreFilesError::NoRoom { .. }) => LoadSnapshotError::Room { path, reason },
            RecordError::Files(bad) => LoadSnapshotError::State { path, reason: bad.to_string() },
            RecordError::Memory { what, bytes, reason } => LoadSnapshotError::Memory { what, bytes, reason },
        }
    }

    fn impossible(&self, reason: String) -> LoadSnapshotError {
        LoadSnapshotError::State { path: self.path.clone(), reason }
    }
}

/// A snapshot that is to be saved.
pub(crate) struct Saved<'a> {
    /// What it does that has no record, where there is none.
    pub(crate) guest: Result<Guest, String>,
    pub(crate) executable: &'a Executable,
    pub(crate) limits: Limits,
    pub(crate) machine: &'a Checkpoint,
    pub(crate) behaviour: Behaviour,
}

/// The record of a guest.
pub(crate) struct Guest(GuestRecord);

impl Guest {
    /// One that waits for a call, of this image.
    pub(crate) fn called(record: ConversationRecord, image: &Image) -> Self {
        Self(GuestRecord::Sandbox(record, image.described().map(Described::schema)))
    }

    /// A program that waits for its input.
    pub(crate) fn program(record: MachineRecord) -> Self {
        Self(GuestRecord::Program(record))
    }
}

impl Saved<'_> {
    /// Writes the file.
    pub(crate) fn save(self, path: &Path, options: &SaveOptions) -> Result<SavedSnapshot, SaveSnapshotError> {
        let Self { guest, executable, limits, machine, behaviour } = self;
        let Guest(guest) = guest.map_err(|what| SaveSnapshotError::Unstorable { what })?;
        let image = executable.file();
        let image_digest = executable.digest(|| format::sha256(image));
        let parent = match &options.parent {
            Some(path) => {
                let parent = Parent::read(path).map_err(|error| SaveSnapshotError::Parent(Box::new(error)))?;
                let is_like = parent.known.image_digest == image_digest
                    && parent.known.contents.pages() == machine.contents().pages();
                if !is_like {
                    return Err(SaveSnapshotError::ForeignParent { parent: path.clone() });
                }
                Some(parent)
            }
            None => None,
        };
        let name = Path::new(executable.name()).file_name().unwrap_or_default();
        let record = StateRecord {
            features: behaviour.features().into_iter().map(str::to_owned).collect(),
            baseline: behaviour.baseline().map(|baseline| baseline.to_string()),
            name: name.to_string_lossy().into_owned(),
            limits: LimitsRecord::of(limits),
            guest,
            pages: 0,
            runs: Vec::new(),
        };
        let content = Content {
            record,
            image,
            image_digest,
            contents: machine.contents(),
            skipped: machine.shared_pages(),
            image_pages: image_pages(executable, machine),
            parent: parent.as_ref(),
        };
        let encoding = if options.compress { Encoding::Deflate } else { Encoding::Plain };
        let written = content.write(path, encoding);
        let (digest, file_size) =
            written.map_err(|reason| SaveSnapshotError::Write { path: path.to_owned(), reason })?;
        known::remember(digest, machine.contents(), image_digest);
        Ok(SavedSnapshot { digest, file_size })
    }
}

/// Where the pages of the executable's file lie in memory, if they were not moved, in ascending order.
fn image_pages(executable: &Executable, machine: &Checkpoint) -> Vec<(usize, usize)> {
    let mut pages = Vec::new();
    for segment in executable.segments() {
        let first_in_file = segment.file_offset() / PAGE;
        let first = segment.address().page_start();
        let count = (segment.file_offset() % PAGE + segment.bytes().len() as u64) / PAGE;
        for page in 0..count {
            let at = first.checked_add(page * PAGE).and_then(|at| machine.page_behind(at));
            pages.extend(at.map(|at| (at, (first_in_file + page) as usize)));
        }
    }
    pages.sort_unstable();
    pages
}

/// A file with this state, image and memory, whose digests are right. What is missing of the last page of memory is zeros.
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(fuzzing), expect(unreachable_pub, reason = "fuzz targets use it"))]
pub fn assembled_snapshot(state: &[u8], image: &[u8], memory: &[u8]) -> Vec<u8> {
    let header = format::Header {
        encoding: Encoding::Plain,
        state: state.len() as u64,
        image: image.len() as u64,
        pages: memory.len().div_ceil(PAGE as usize) as u64,
        parent: None,
        image_digest: format::sha256(image),
    };
    let mut body = Vec::new();
    for part in [state, image, memory] {
        body.extend(part);
        body.resize(body.len().next_multiple_of(PAGE as usize), 0);
    }
    let bytes = |pages: std::ops::Range<usize>| &body[pages.start * PAGE as usize..pages.end * PAGE as usize];
    let chunks = (0..header.chunks()).map(|number| header.chunk(number));
    let digests: Vec<_> = chunks.map(|pages| format::sha256(bytes(pages))).collect();
    let (mut file, _) = header.write(&digests);
    file.resize(header.front(), 0);
    file.extend(body);
    file
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotFile")
            .field("path", &self.path)
            .field("reading", &self.reading)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

const PAGE: u64 = ampoule_vmm::PAGE_SIZE as u64;

/// More than most guests have, and less than what fills the host.
const DEFAULT_LIMIT: u64 = 8 << 30;
