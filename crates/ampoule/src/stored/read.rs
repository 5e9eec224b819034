//! Reading a snapshot file.
//!
//! All of it is read once, compared with its digests, and kept in a file without a name that cannot change any more
//! ([`StoredPages`]). So what becomes of the file afterwards harms nobody, and nothing is looked at that was not compared before.
//! Whoever loads the same snapshot in the same process shares that: the digest decides, not the path.
//!
//! Of a file that is to be *mapped* this is done with the state, and with what is needed of the image. Its memory is what is in the
//! file, and whoever loads the same file shares it.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ampoule_abi::codec;
use ampoule_vmm::{Contents, PAGE_SIZE, StoredPages};

use super::error::LoadSnapshotError;
use super::format::{Encoding, HEADER, Header, SnapshotDigest, sha256};
use super::known::{self, Key, Known};
use super::opened::{HeadInFile, Opened, Version};
use super::record::{RunRecord, SourceRecord, StateRecord};
use crate::image::{Bytes, Executable, Image, ImageError};

/// A snapshot that was read and compared with its digests.
pub(crate) struct Stored {
    header: Header,
    digest: SnapshotDigest,
    pages: StoredPages,
    /// State and image of a file that is mapped.
    head_in_file: Option<Arc<HeadInFile>>,
    state: StateRecord,
    contents: Arc<Contents>,
    parent: Option<Arc<Stored>>,
    image: OnceLock<Image>,
    executable: OnceLock<Executable>,
}

/// How a snapshot is to be read.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The most bytes that the body may have.
    pub(super) limit: u64,
    /// Where parents may be, beside the directory of the file.
    pub(super) parents: Vec<PathBuf>,
    pub(super) how: How,
}

/// What is done with the pages of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// They are compared with their digests, and copied.
    Copied,
    /// They are mapped, except those of state and image, and those of compressed files.
    Mapped,
    /// As `Copied`, even where somebody has done it before.
    Again,
}

impl Key {
    fn of(opened: &Opened, how: How) -> Result<Self, LoadSnapshotError> {
        // Of a compressed file the parents may be mapped.
        let shows_files = opened.header.encoding == Encoding::Plain || opened.header.parent.is_some();
        let mapped = (how == How::Mapped && shows_files).then(|| opened.version()).transpose()?;
        Ok(Self { digest: opened.digest, mapped })
    }
}

/// What a snapshot is that others are saved as differences from.
pub(super) struct Parent {
    pub(super) digest: SnapshotDigest,
    pub(super) known: Known,
}

impl Parent {
    /// The snapshot in a file. Only its header is read where the process has loaded or saved it itself, and still has it.
    pub(super) fn read(path: &Path) -> Result<Self, LoadSnapshotError> {
        let reading = Reading { limit: u64::MAX, parents: Vec::new(), how: How::Copied };
        let digest = Opened::open(path, reading.limit)?.digest;
        let known = match known::by_digest(digest) {
            Some(known) => known,
            None => {
                let stored = Stored::read(path, &reading)?;
                Known { contents: Arc::clone(&stored.contents), image_digest: stored.header.image_digest }
            }
        };
        Ok(Self { digest, known })
    }
}

impl Stored {
    /// Reads a snapshot, and those that it is the difference from.
    pub(super) fn read(path: &Path, reading: &Reading) -> Result<Arc<Stored>, LoadSnapshotError> {
        Self::read_above(path, reading, None, 0)
    }

    /// The same of one that is the parent of so many others, and that has this digest.
    fn read_above(
        path: &Path,
        reading: &Reading,
        wanted: Option<SnapshotDigest>,
        children: usize,
    ) -> Result<Arc<Stored>, LoadSnapshotError> {
        let opened = Opened::open(path, reading.limit)?;
        if wanted.is_some_and(|wanted| wanted != opened.digest) {
            return Err(LoadSnapshotError::Damaged { path: path.into(), part: "header" });
        }
        let key = Key::of(&opened, reading.how)?;
        if let Some(known) = known::loaded(key).filter(|_| reading.how != How::Again) {
            return Ok(known);
        }
        let parent = match opened.header.parent {
            Some(_) if children == MOST_PARENTS => {
                return Err(LoadSnapshotError::TooManyParents { path: path.into(), limit: MOST_PARENTS });
            }
            Some(parent) => {
                let at = find_parent(path, parent, reading)
                    .ok_or_else(|| LoadSnapshotError::MissingParent { path: path.into(), parent })?;
                Some(Self::read_above(&at, reading, Some(parent), children + 1)?)
            }
            None => None,
        };
        let mapped = key.mapped.filter(|_| opened.header.encoding == Encoding::Plain);
        let stored = Arc::new(Self::of_file(opened, parent, mapped)?);
        known::remember_loaded(key, &stored);
        known::remember(stored.digest, &stored.contents, stored.header.image_digest);
        Ok(stored)
    }

    fn of_file(
        opened: Opened,
        parent: Option<Arc<Stored>>,
        mapped: Option<Version>,
    ) -> Result<Stored, LoadSnapshotError> {
        let header = opened.header.clone();
        let (digest, path) = (opened.digest, opened.path.clone());
        let bad = |reason: String| LoadSnapshotError::State { path: path.clone(), reason };
        let decode = |state: &[u8]| codec::decode::<StateRecord>(state).map_err(|error| bad(error.to_string()));
        let (state, pages, head_in_file) = match mapped {
            None => {
                let pages = opened.copied()?;
                (decode(&pages.bytes()[header.parts().state])?, pages, None)
            }
            Some(version) => {
                let head = HeadInFile::new(opened);
                (decode(&head.state()?)?, head.opened.mapped(version)?, Some(Arc::new(head)))
            }
        };
        if let Some(parent) = &parent {
            let is_like = parent.state.pages == state.pages
                && (header.image > 0 || parent.header.image_digest == header.image_digest);
            if !is_like {
                return Err(bad("its parent has another image, or another amount of memory".to_owned()));
            }
        } else if header.image == 0 {
            return Err(bad("it has neither an image nor a parent".to_owned()));
        }
        let contents = contents(&state, &header, &pages, parent.as_deref());
        let contents = contents.map_err(|problem| bad(problem.to_owned()))?;
        let (image, executable) = (OnceLock::new(), OnceLock::new());
        Ok(Stored { header, digest, pages, head_in_file, state, contents, parent, image, executable })
    }

    pub(super) fn digest(&self) -> SnapshotDigest {
        self.digest
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn state(&self) -> &StateRecord {
        &self.state
    }

    /// What the guest's memory holds.
    pub(super) fn contents(&self) -> &Arc<Contents> {
        &self.contents
    }

    /// The image of a guest that can be called.
    pub(super) fn image(&self) -> Result<&Image, LoadSnapshotError> {
        if let Some(image) = self.image.get() {
            return Ok(image);
        }
        let image = match &self.parent {
            Some(parent) if self.header.image == 0 => parent.image()?.clone(),
            _ => self.undamaged(Image::check(self.state.name.as_str().into(), self.image_bytes()))?,
        };
        Ok(self.image.get_or_init(|| image))
    }

    /// The executable of a program.
    pub(super) fn executable(&self) -> Result<&Executable, LoadSnapshotError> {
        if let Some(executable) = self.executable.get() {
            return Ok(executable);
        }
        let executable = match &self.parent {
            Some(parent) if self.header.image == 0 => parent.executable()?.clone(),
            _ => {
                self.undamaged(Executable::check_program(self.state.name.as_str().into(), self.image_bytes(), None))?
            }
        };
        Ok(self.executable.get_or_init(|| executable))
    }

    /// The bytes of the image's file that this file has.
    fn image_bytes(&self) -> Bytes {
        let image = self.header.parts().image;
        match &self.head_in_file {
            None => Bytes::Stored(self.pages.clone(), image),
            Some(pieces) => Bytes::Pieces(Arc::clone(pieces) as Arc<_>, image.len()),
        }
    }

    /// What was checked, unless something that was needed for that is damaged.
    fn undamaged<T>(&self, checked: Result<T, ImageError>) -> Result<T, LoadSnapshotError> {
        match self.head_in_file.as_deref().and_then(HeadInFile::damage) {
            Some(damage) => Err(damage),
            None => Ok(checked?),
        }
    }

    /// Whether the digest of the image is the one that the header says.
    pub(super) fn has_its_image(&self) -> bool {
        match &self.parent {
            Some(parent) if self.header.image == 0 => parent.has_its_image(),
            _ => sha256(&self.image_bytes()) == self.header.image_digest,
        }
    }
}

/// What the memory holds: what the runs say, and otherwise what the parent's held, or zeros.
fn contents(
    state: &StateRecord,
    header: &Header,
    own: &StoredPages,
    parent: Option<&Stored>,
) -> Result<Arc<Contents>, &'static str> {
    let total =
        usize::try_from(state.pages).ok().filter(|pages| *pages <= MOST_PAGES).ok_or("it has too much memory")?;
    if state.runs.len() > MOST_RUNS {
        return Err("its memory is in too many pieces");
    }
    let mut contents = parent.map_or_else(|| Contents::zero(total), |parent| Arc::clone(&parent.contents));
    let mut end = 0;
    let mut of_file = Vec::new();
    for RunRecord { at, pages, from } in &state.runs {
        let behind = at.checked_add(*pages).filter(|behind| *behind <= total as u64 && *at >= end && *pages > 0);
        end = behind.ok_or("its memory's pieces are not in order")?;
        let at = *at as usize;
        match from {
            SourceRecord::Memory(first) => {
                of_file.push((at, within(*first, *pages, &header.parts().memory)?));
            }
            SourceRecord::Image(first) if header.image > 0 => {
                of_file.push((at, within(*first, *pages, &header.parts().image_pages)?));
            }
            SourceRecord::Image(first) => {
                let origin = origin_of_image(parent).ok_or("it has no image")?;
                let pages = within(*first, *pages, &origin.header.parts().image_pages)?;
                let part = origin.pages.contents(pages.len(), [(0, pages)]);
                contents = contents.with(at, &part);
            }
        }
    }
    if parent.is_none() {
        return Ok(Arc::new(own.contents(total, of_file)));
    }
    for (at, pages) in of_file {
        let part = own.contents(pages.len(), [(0, pages)]);
        contents = contents.with(at, &part);
    }
    Ok(contents)
}

/// Whose file the image is in.
fn origin_of_image(mut stored: Option<&Stored>) -> Option<&Stored> {
    while let Some(one) = stored.filter(|one| one.header.image == 0) {
        stored = one.parent.as_deref();
    }
    stored
}

/// A run within a part of the body, as pages of the body.
fn within(first: u64, pages: u64, part: &Range<usize>) -> Result<Range<usize>, &'static str> {
    let end = first.checked_add(pages).filter(|end| *end <= part.len() as u64);
    let end = end.ok_or("a piece of its memory is not in the file")?;
    Ok(part.start + first as usize..part.start + end as usize)
}

/// A file with this digest: one that was named, or one in the directory of the child. Whether it holds what its digest says is
/// found out when it is read.
pub(super) fn find_parent(child: &Path, digest: SnapshotDigest, reading: &Reading) -> Option<PathBuf> {
    let has_it = |path: &PathBuf| {
        let mut start = [0; HEADER];
        let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        let read = is_file && File::open(path).and_then(|file| file.read_exact_at(&mut start, 0)).is_ok();
        read && Header::read(&start).is_ok_and(|(_, found)| found == digest)
    };
    if let Some(named) = reading.parents.iter().find(|path| has_it(path)) {
        return Some(named.clone());
    }
    let directory = child.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = fs::read_dir(directory).ok()?.take(MOST_BESIDE).filter_map(Result::ok);
    beside.map(|entry| entry.path()).find(has_it)
}

/// How long a chain of parents may be.
pub(super) const MOST_PARENTS: usize = 64;

/// How many files of a directory are looked at for a parent.
const MOST_BESIDE: usize = 4096;

/// The most pieces of memory: each is a mapping of every sandbox, of which a process can have 65,530.
const MOST_RUNS: usize = 1024;

/// Pages of the largest memory of a guest, 32 GiB, and of the largest mailbox, and some more.
const MOST_PAGES: usize = (40 << 30) / PAGE_SIZE;
