//! The files whose pages are mapped, and giving pages what the file holds.
//!
//! 1. Pages of a file are filled before the guest can reach them, and whenever they get a frame.
//! 2. Those of a [frozen](FrozenFile) file are shown where they are many, and copied where they are few or there are many runs
//!    already; those of a file that is too large for that are read [when they are touched](super::paged); those of any other
//!    file are copied once, when they are mapped.
//! 3. A guest has at most [`MAX_KEPT`] files of the first two kinds at a time: each costs the process a descriptor.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use ampoule_vmm::address_map::USER_END;
use ampoule_vmm::{FrozenFile, GuestVirt, PAGE_SIZE, PagedFile};

use super::mapping::Mapping;
use super::{AddressSpace, FileKey, FilePages, Layout, MapError, MappingKind, PAGE, frames_of};
use crate::page::{Frame, Page};

/// The number of a file in an address space. Files that are no longer mapped lose theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(pub(super) u64);

/// A file whose pages are mapped.
#[derive(Debug)]
pub(crate) struct MappedFile {
    /// Its path, as the guest sees it.
    pub(crate) path: Box<[u8]>,
    /// The numbers of its device, and its inode, as the guest sees them.
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    /// Its size when it was mapped, in bytes.
    pub(crate) size: u64,
    /// Its pages, where they can be had again at any time.
    pub(crate) frozen: Option<Arc<FrozenFile>>,
    /// The file itself, where its pages are read when they are touched.
    pub(crate) paged: Option<Arc<PagedFile>>,
    /// Whether the guest may execute it, which it must not where it could have written it.
    pub(crate) executable: bool,
}

/// Which pages of a file are to be mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilePart<'a> {
    pub(crate) file: &'a Arc<MappedFile>,
    /// The first of them.
    pub(crate) first: u64,
    /// Whether the guest may only read them, because it has asked for pages that are shared.
    pub(crate) is_shared: bool,
    /// Which file it is, where copies of its pages can be made again.
    pub(crate) key: Option<FileKey>,
}

/// Code of a file, which the guest has mapped and never been able to write.
#[derive(Clone, Debug)]
pub(crate) struct FileCode<'space> {
    pub(crate) file: &'space Arc<MappedFile>,
    pub(crate) addresses: Range<GuestVirt>,
    /// The byte of the file at the first of them.
    pub(crate) offset: u64,
}

/// Reads a file that is not frozen: the bytes from an offset on, as many as there are.
pub(crate) type ReadFile<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>;

/// The files of a layout.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<FileId, Arc<MappedFile>>,
    next: u64,
    /// From this many on those are looked for that are no longer mapped.
    sweep_at: usize,
}

impl MappedFile {
    /// Whether pages of it that the guest has not written can be had again.
    pub(super) fn is_kept(&self) -> bool {
        self.frozen.is_some() || self.paged.is_some()
    }

    /// How many pages have bytes of the file.
    pub(super) fn pages(&self) -> u64 {
        self.size.div_ceil(PAGE)
    }

    fn is_same(&self, other: &Self) -> bool {
        let identity = |file: &Self| (file.device, file.inode, file.size, file.executable);
        let same_pages = match (&self.frozen, &other.frozen, &self.paged, &other.paged) {
            (Some(one), Some(other), ..) => Arc::ptr_eq(one, other),
            (.., Some(one), Some(other)) => one.is_same(other),
            _ => false,
        };
        same_pages && identity(self) == identity(other) && self.path == other.path
    }
}

impl Files {
    pub(super) fn get(&self, id: FileId) -> Option<&Arc<MappedFile>> {
        self.files.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FileId, &MappedFile)> {
        self.files.iter().map(|(id, file)| (*id, &**file))
    }

    /// These files, with the number that the next one gets.
    pub(super) fn of_parts(files: BTreeMap<FileId, Arc<MappedFile>>, next: u64) -> Self {
        Self { files, next, sweep_at: 0 }
    }

    /// The number that the next file gets.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    fn kept(&self) -> usize {
        self.files.values().filter(|file| file.is_kept()).count()
    }

    /// Whether there is any whose pages are read when they are touched.
    pub(super) fn has_paged(&self) -> bool {
        self.files.values().any(|file| file.paged.is_some())
    }
}

impl AddressSpace {
    /// A file whose pages are mapped.
    pub(crate) fn mapped_file(&self, id: FileId) -> Option<&Arc<MappedFile>> {
        self.layout.files.get(id)
    }

    /// The files whose pages are mapped, and perhaps others.
    pub(crate) fn mapped_files(&self) -> impl Iterator<Item = (FileId, &MappedFile)> {
        self.layout.files.iter()
    }

    /// The code of a file that is mapped at an address, if the guest can execute it.
    pub(crate) fn file_code(&self, at: GuestVirt) -> Option<FileCode<'_>> {
        let (pages, mapping) = self.layout.mappings.get(Page::of(at))?;
        let MappingKind::File(of) = mapping.kind else { return None };
        let file = self.layout.files.get(of.file).filter(|_| of.pristine && mapping.protection.is_executable())?;
        Some(FileCode { file, addresses: pages.start.address()..pages.end.address(), offset: of.first * PAGE })
    }

    /// Whether another file can be mapped whose pages can be had again. Where none can, they can still be copied.
    pub(crate) fn can_keep_file(&mut self) -> bool {
        if self.layout.files.kept() >= MAX_KEPT {
            self.layout_mut().sweep_files();
        }
        self.layout.files.kept() < MAX_KEPT
    }

    /// The number of a file that is about to be mapped.
    pub(super) fn file_id(&mut self, file: &Arc<MappedFile>) -> FileId {
        // One that is copied may have been written since it was last mapped.
        let mut files = self.layout.files.files.iter().filter(|_| file.is_kept());
        let known = files.find(|(_, it)| it.is_same(file));
        match known {
            Some((id, _)) => *id,
            None => self.new_file_id(file),
        }
    }

    /// A number for a file that has none.
    pub(super) fn new_file_id(&mut self, file: &Arc<MappedFile>) -> FileId {
        if self.layout.files.files.len() >= self.layout.files.sweep_at.max(LEAST_SWEPT) {
            self.layout_mut().sweep_files();
        }
        let files = &mut self.layout_mut().files;
        let id = FileId(files.next);
        files.next += 1;
        files.files.insert(id, Arc::clone(file));
        id
    }

    /// Gives the frames behind pages what the file holds there. The pages are those of `mapping` from its first on, and those
    /// that have no frame are left out; so is everything that is no frozen file's.
    pub(super) fn fill_from_file(&mut self, pages: &Range<Page>, mapping: &Mapping) -> Result<(), MapError> {
        let MappingKind::File(of) = mapping.kind else { return Ok(()) };
        let Some(frozen) = self.layout.files.get(of.file).and_then(|file| file.frozen.clone()) else { return Ok(()) };
        let backed: Vec<_> = self.layout.backing.overlapping(pages).collect();
        for (part, frame) in backed {
            let first = (of.first + (part.start - pages.start)) as usize;
            self.fill_frames(frame.0, &frozen, first..first + (part.end - part.start) as usize)?;
            self.check_watch()?;
        }
        Ok(())
    }

    /// Copies what `read` gives into the frames behind pages.
    pub(super) fn fill_by(&mut self, pages: &Range<Page>, offset: u64, read: ReadFile<'_>) -> Result<(), MapError> {
        let mut piece = vec![0; COPY_PAGES * PAGE_SIZE];
        let end = pages.end.address();
        let mut at = pages.start.address();
        while at < end {
            let len = piece.len().min((end.0 - at.0) as usize);
            let from = offset + (at.0 - pages.start.address().0);
            let read = read(from, &mut piece[..len]).map_err(MapError::File)?;
            self.initialize(at, &piece[..read]).expect("the pages have frames");
            if read < len {
                break;
            }
            at.0 += len as u64;
            self.check_watch()?;
        }
        Ok(())
    }

    fn fill_frames(&mut self, frame: Frame, frozen: &FrozenFile, pages: Range<usize>) -> Result<(), MapError> {
        // What nobody has mapped yet is read from the disk.
        for start in pages.clone().step_by(FrozenFile::PIECE_PAGES) {
            frozen.contents(start..pages.end.min(start + FrozenFile::PIECE_PAGES)).map_err(MapError::File)?;
            self.check_watch()?;
        }
        let contents = frozen.contents(pages.clone()).map_err(MapError::File)?;
        if pages.len() >= LEAST_SHOWN && self.memory.file_runs() < MAX_SHOWN {
            return self.memory.show_file(frame, &contents).map_err(MapError::File);
        }
        for page in 0..pages.len() {
            if let Some(bytes) = contents.page(page) {
                let offset = self.memory.frame_offset(frame + page as u64);
                self.memory.write(offset, &bytes).expect("the frame is in the region");
            }
        }
        Ok(())
    }

    /// Takes frames away from pages that the guest cannot reach, whatever they hold.
    pub(super) fn return_frames(&mut self, pages: &[Range<Page>]) {
        for range in pages {
            let frames: Vec<_> = frames_of(self.layout_mut().backing.remove(range)).collect();
            self.clear_frames(&frames);
            frames.into_iter().for_each(|run| self.layout_mut().frames.release(run));
        }
    }
}

impl Layout {
    /// Forgets the files of which no page is mapped.
    fn sweep_files(&mut self) {
        let mut mapped: Vec<FileId> = self
            .mappings
            .overlapping(&(Page(0)..Page::of(USER_END)))
            .filter_map(|(_, mapping)| mapping.kind.file().map(|FilePages { file, .. }| file))
            .collect();
        mapped.sort_unstable();
        self.files.files.retain(|id, _| mapped.binary_search(id).is_ok());
        self.files.sweep_at = 2 * self.files.files.len();
    }
}

/// The most files of a guest whose pages can be had again.
const MAX_KEPT: usize = 256;

/// Fewer pages than this are copied, which costs less than the mapping, and leaves less behind. The models have few pages.
const LEAST_SHOWN: usize = if cfg!(any(test, fuzzing)) { 4 } else { 16 };

/// The most runs of pages that are shown: each is a mapping of the process, which can have 65,530 of them.
const MAX_SHOWN: usize = 512;

/// How many pages are copied at once.
const COPY_PAGES: usize = 64;

/// So few files are not looked through.
const LEAST_SWEPT: usize = 64;
