//! Files of the host's whose pages guests see: libraries above all.
//!
//! A guest never sees a file itself. Who changed it, or cut it short, would change or take away what runs in the guest, and the
//! process would get the signal. So its pages are copied to a file without a name, each once for all sandboxes of the process
//! that map the same file, which then share these copies, copy-on-write:
//!
//! 1. A piece of the file ([`PIECE_PAGES`]) is read when somebody first maps a page of it, and never again.
//! 2. A file is the same as long as its device, number, size and times are. One whose contents have changed before all of it
//!    was read is not read on, and what was changed a moment ago is not shared: a change that follows within the resolution
//!    of its times would not be seen.
//! 3. What nobody maps any more is freed, except for the files that were used last and have been read whole: a program that
//!    is started again finds its libraries. These are bounded in number and size ([`KEPT_FILES`], [`KEPT_PAGES`]), and nothing
//!    of the host's is held for them.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use crate::address::PAGE_SIZE;
use crate::linux::process::{PerProcess, Process};
use crate::page_set::PageSet;

use super::Contents;
use super::frozen::Frozen;

/// The pages of a file of the host's, as they were when they were first mapped.
#[derive(Debug)]
pub struct FrozenFile {
    frozen: Arc<Frozen>,
    version: Version,
    size: u64,
    rest: Mutex<Rest>,
    process: Process,
    /// Itself, where others find it.
    shared: Option<Weak<FrozenFile>>,
    known: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// The bytes of a file of the host's, as they were when they were first read. Clones share them.
#[derive(Clone, Debug)]
pub struct FileBytes {
    frozen: Arc<Frozen>,
    size: usize,
}

/// What of a file has not been read yet.
#[derive(Debug)]
struct Rest {
    /// None once all of it has been read.
    file: Option<File>,
    /// By the number of the piece.
    pieces: PageSet,
}

/// Which file it is, as far as that can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: [i64; 2],
    changed: [i64; 2],
}

impl FrozenFile {
    /// How many pages are read at once, from a multiple of their number on, where none of them has been read yet.
    pub const PIECE_PAGES: usize = PIECE_PAGES;

    /// The file behind an open descriptor that can be read; the same as for everybody else in the process who has this file.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for anything but a regular file; `FileTooLarge` for one that is to be [read](super::PagedFile) page by page;
    /// what the host reports when it has no memory or descriptor for it.
    pub fn open(file: BorrowedFd<'_>) -> io::Result<Arc<FrozenFile>> {
        let file = File::from(file.try_clone_to_owned()?);
        let version = Version::of(&file)?;
        if version.may_change_unseen() {
            return FrozenFile::new(file, version).map(Arc::new);
        }
        FrozenFile::shared(file, version)
    }

    fn shared(file: File, version: Version) -> io::Result<Arc<FrozenFile>> {
        let mut files = Files::of_process()?;
        if let Some(found) = files.known.get(&version).and_then(Weak::upgrade) {
            files.used(&found);
            return Ok(found);
        }
        files.known.retain(|_, file| file.strong_count() > 0);
        let new = FrozenFile::new(file, version)?;
        let new = Arc::new_cyclic(|this| FrozenFile { shared: Some(Weak::clone(this)), ..new });
        files.known.insert(version, Arc::downgrade(&new));
        Ok(new)
    }

    fn new(file: File, version: Version) -> io::Result<FrozenFile> {
        let len =
            usize::try_from(version.size).ok().filter(|len| *len <= MAX_LEN).ok_or(io::ErrorKind::FileTooLarge)?;
        let pieces = len.div_ceil(PIECE_PAGES * PAGE_SIZE);
        let mut unread = PageSet::new(pieces);
        (0..pieces).for_each(|piece| unread.insert(piece));
        Ok(FrozenFile {
            frozen: Arc::new(Frozen::for_file(len)?),
            version,
            size: version.size,
            rest: Mutex::new(Rest { file: Some(file), pieces: unread }),
            process: Process::current()?,
            shared: None,
            known: OnceLock::new(),
        })
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many pages there are. The last may be only in part the file's, and holds zeros behind that.
    pub fn pages(&self) -> usize {
        (self.size as usize).div_ceil(PAGE_SIZE)
    }

    /// Some of the pages, which are read first where nobody has mapped them yet.
    ///
    /// # Errors
    ///
    /// `ResourceBusy` when the file has changed since it was first seen, so that what has not been read of it is gone; what
    /// the host reports when it cannot read it, or has no memory for it.
    ///
    /// # Panics
    ///
    /// When the file has no such page.
    pub fn contents(&self, pages: Range<usize>) -> io::Result<Contents> {
        assert!(pages.start <= pages.end && pages.end <= self.pages());
        self.read(&pages)?;
        Ok(Contents::of_file(&self.frozen, pages))
    }

    /// All of the bytes, which are read first where that has not been done yet.
    ///
    /// # Errors
    ///
    /// As for [`contents`](Self::contents).
    pub fn bytes(&self) -> io::Result<&[u8]> {
        self.read(&(0..self.pages()))?;
        // An empty file has a page all the same.
        Ok(&self.frozen.filled()[..self.size as usize])
    }

    /// [`bytes`](Self::bytes), for whoever keeps them longer than the file.
    ///
    /// # Errors
    ///
    /// As for [`contents`](Self::contents).
    pub fn shared_bytes(&self) -> io::Result<FileBytes> {
        self.read(&(0..self.pages()))?;
        Ok(FileBytes { frozen: Arc::clone(&self.frozen), size: self.size as usize })
    }

    /// What somebody has [found out](Self::remember) about the bytes, if it is of this type.
    pub fn remembered<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(self.known.get()?).downcast().ok()
    }

    /// Keeps what somebody has found out about the bytes for as long as the file itself. The first to do so is the one who is
    /// remembered. It must not hold the file, or neither would ever be freed.
    pub fn remember<T: Any + Send + Sync>(&self, found: Arc<T>) {
        if self.process.is_current() {
            // Somebody else was first.
            let _ = self.known.set(found);
        }
    }

    fn read(&self, pages: &Range<usize>) -> io::Result<()> {
        if self.read_pieces(pages)? == Progress::Complete
            && let Some(this) = self.shared.as_ref().and_then(Weak::upgrade)
        {
            Files::of_process()?.keep(this);
        }
        Ok(())
    }

    fn read_pieces(&self, pages: &Range<usize>) -> io::Result<Progress> {
        if !self.process.is_current() {
            // Another thread may have held the lock at the fork. What a child has of its parent's it can show, and no more.
            return self.read_by_parent(pages);
        }
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let Rest { file, pieces } = &mut *rest;
        let Some(open) = file else { return Ok(Progress::Before) };
        let mut buffer = Vec::new();
        for piece in pages.start / PIECE_PAGES..pages.end.div_ceil(PIECE_PAGES) {
            if !pieces.contains(piece) {
                continue;
            }
            let at = piece * PIECE_PAGES * PAGE_SIZE;
            buffer.resize((self.size as usize - at).min(PIECE_PAGES * PAGE_SIZE), 0);
            let is_whole = match open.read_exact_at(&mut buffer, at as u64) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                Err(error) => return Err(error),
            };
            if !Version::of(open)?.has_contents_of(&self.version) || !is_whole {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            self.frozen.fill(piece * PIECE_PAGES, &buffer)?;
            pieces.remove(piece);
        }
        if !pieces.is_empty() {
            return Ok(Progress::Before);
        }
        *file = None;
        Ok(Progress::Complete)
    }

    fn read_by_parent(&self, pages: &Range<usize>) -> io::Result<Progress> {
        let rest = self.rest.try_lock().map_err(|_| io::Error::from(io::ErrorKind::ResourceBusy))?;
        let mut pieces = pages.start / PIECE_PAGES..pages.end.div_ceil(PIECE_PAGES);
        if pieces.any(|piece| rest.pieces.contains(piece)) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Ok(Progress::Before)
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.frozen.filled()[..self.size]
    }
}

/// What reading has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing is left to be read, for the first time.
    Complete,
    /// Something is left, or it had come so far before.
    Before,
}

/// The files of a process.
#[derive(Debug, Default)]
struct Files {
    /// Those that somebody has.
    known: HashMap<Version, Weak<FrozenFile>>,
    /// Those that are kept even when nobody else has them; the last is the one that was used last.
    kept: VecDeque<Arc<FrozenFile>>,
}

impl Files {
    fn of_process() -> io::Result<MutexGuard<'static, Files>> {
        static FILES: PerProcess<Mutex<Files>> = PerProcess::new();
        Ok(FILES.get(|_| Mutex::default())?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records that a file is used again.
    fn used(&mut self, file: &Arc<FrozenFile>) {
        if let Some(at) = self.kept.iter().position(|kept| Arc::ptr_eq(kept, file)) {
            self.kept.remove(at);
            self.kept.push_back(Arc::clone(file));
        }
    }

    /// Keeps a file that has been read whole, in place of other versions of it and of those that were not used for longest.
    fn keep(&mut self, file: Arc<FrozenFile>) {
        self.kept.retain(|kept| !kept.version.is_of_same_file(&file.version));
        if file.pages() > KEPT_PAGES {
            return;
        }
        self.kept.push_back(file);
        let pages = |kept: &VecDeque<Arc<FrozenFile>>| kept.iter().map(|file| file.pages()).sum::<usize>();
        while self.kept.len() > KEPT_FILES || pages(&self.kept) > KEPT_PAGES {
            self.kept.pop_front();
        }
    }
}

impl Version {
    /// `InvalidInput` for anything but a regular file.
    pub(super) fn of(file: &File) -> io::Result<Version> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Version {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: [found.mtime(), found.mtime_nsec()],
            changed: [found.ctime(), found.ctime_nsec()],
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    fn is_of_same_file(&self, other: &Version) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether nobody has written the file in between. Its name, its links and its permissions may be others: as they are when
    /// a newer version of a library takes its place.
    fn has_contents_of(&self, before: &Version) -> bool {
        (self.size, self.modified) == (before.size, before.modified)
    }

    /// Whether the file was changed so short a time ago that it could be changed again without a trace.
    fn may_change_unseen(&self) -> bool {
        let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) else { return true };
        let [seconds, nanoseconds] = self.changed;
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else { return true };
        Duration::new(seconds, nanoseconds) + RESOLUTION > now
    }
}

/// How much of a file is read at once: 1 MiB, so that most libraries are read in one go.
const PIECE_PAGES: usize = 256;

/// No file system's times are coarser (FAT's are two seconds).
const RESOLUTION: Duration = Duration::from_secs(2);

/// The largest file, in bytes. What is kept of a file is nobody's memory in particular, so that a guest must not decide how much
/// it is: of larger files than libraries are, each guest has [pages of its own](super::PagedFile).
const MAX_LEN: usize = 128 << 20;

/// How many files are kept that nobody maps: a descriptor each. More than most programs have libraries.
const KEPT_FILES: usize = 64;

/// How many pages these have: 64 MiB.
const KEPT_PAGES: usize = (64 << 20) / PAGE_SIZE;

#[cfg(test)]
mod tests;
