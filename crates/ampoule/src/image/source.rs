//! Reading an image file, and its bytes.

use std::borrow::Cow;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::ops::{Deref, Range};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use ampoule_vmm::{FileBytes, FrozenFile, StoredPages};
use object::ReadRef;

use super::error::ImageProblem;

/// The bytes of an image or executable.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    /// Those that the application has given, or that were read for this alone.
    Own(Cow<'static, [u8]>),
    /// Those of a file of the host's, which whoever uses it shares.
    File(FileBytes),
    /// A part of a stored snapshot.
    Stored(StoredPages, Range<usize>),
    /// So many bytes of what is read piece by piece.
    Pieces(Arc<dyn Pieces>, usize),
}

/// Bytes that are read when somebody asks for them.
pub(crate) trait Pieces: fmt::Debug + Send + Sync {
    /// Some of them, which are within. Those that cannot be read are zeros, for good.
    fn bytes(&self, range: Range<usize>) -> &[u8];
}

impl Bytes {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Pieces(_, len) => *len,
            _ => self.deref().len(),
        }
    }

    /// Some of them, if there are these. No others are read.
    pub(super) fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        match self {
            Self::Pieces(pieces, len) => {
                let is_within = range.start <= range.end && range.end <= *len;
                is_within.then(|| pieces.bytes(range))
            }
            _ => self.deref().get(range),
        }
    }
}

impl<'a> ReadRef<'a> for &'a Bytes {
    fn len(self) -> Result<u64, ()> {
        Ok(self.len() as u64)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        let start = usize::try_from(offset).map_err(|_| ())?;
        let end = usize::try_from(size).ok().and_then(|size| start.checked_add(size)).ok_or(())?;
        self.get(start..end).ok_or(())
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.deref().read_bytes_at_until(range, delimiter)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::File(bytes) => bytes,
            Self::Stored(pages, part) => &pages.bytes()[part.clone()],
            Self::Pieces(pieces, len) => pieces.bytes(0..*len),
        }
    }
}

impl From<Cow<'static, [u8]>> for Bytes {
    fn from(bytes: Cow<'static, [u8]>) -> Self {
        Self::Own(bytes)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Own(bytes.into())
    }
}

/// Reads a file whose size is bounded, even when it grows while it is read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ImageProblem> {
    read_open(&open(path)?)
}

/// The bytes of a file, with the file as others find it, where it can be frozen.
pub(super) fn read_shared(path: &Path) -> Result<(Bytes, Option<Arc<FrozenFile>>), ImageProblem> {
    let file = open(path)?;
    if let Ok(frozen) = FrozenFile::open(file.as_fd())
        && let Ok(bytes) = frozen.shared_bytes()
    {
        return Ok((Bytes::File(bytes), Some(frozen)));
    }
    Ok((read_open(&file)?.into(), None))
}

fn open(path: &Path) -> Result<File, ImageProblem> {
    // Before it is opened: opening a pipe waits for a writer.
    let metadata = fs::metadata(path).map_err(|reason| ImageProblem::Read { reason })?;
    if !metadata.is_file() {
        return Err(ImageProblem::NotAFile);
    }
    check_size(metadata.len())?;
    File::open(path).map_err(|reason| ImageProblem::Read { reason })
}

fn read_open(file: &File) -> Result<Vec<u8>, ImageProblem> {
    let mut bytes = Vec::new();
    // It allocates what the file has now, at once.
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(|reason| ImageProblem::Read { reason })?;
    Ok(bytes)
}

/// Refuses images that are too large.
pub(super) fn check_size(size: u64) -> Result<(), ImageProblem> {
    if size > MAX_FILE_SIZE {
        let limit = MAX_FILE_SIZE;
        return Err(ImageProblem::TooLarge { limit });
    }
    Ok(())
}

/// The largest image file, in bytes.
pub(crate) const MAX_FILE_SIZE: u64 = 1 << 30;
