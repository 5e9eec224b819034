//! A snapshot file that is open: its front was read, and its chunks can be.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use ampoule_vmm::{PAGE_SIZE, StoredPages, UnsealedPages};
use miniz_oxide::inflate::decompress_slice_iter_to_slice;

use super::error::LoadSnapshotError;
use super::format::{BadHeader, CHUNK, Encoding, HEAD_CHUNK, HEADER, Header, MAGIC, SnapshotDigest, digest_of, sha256};
use crate::image::Pieces;

/// A file whose front was read and has its digest.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    file: File,
    pub(super) header: Header,
    pub(super) digest: SnapshotDigest,
    /// Header and digests, and the lengths behind them.
    front: Vec<u8>,
}

impl Opened {
    pub(super) fn open(path: &Path, limit: u64) -> Result<Self, LoadSnapshotError> {
        let failed = |reason| LoadSnapshotError::Read { path: path.into(), reason };
        // Before it is opened: opening a pipe waits for a writer.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(LoadSnapshotError::NotASnapshot { path: path.into() });
        }
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut start = [0; HEADER];
        if size < HEADER as u64 {
            return Err(LoadSnapshotError::NotASnapshot { path: path.into() });
        }
        file.read_exact_at(&mut start, 0).map_err(failed)?;
        let (header, digest) = Header::read(&start).map_err(|bad| refused(path, &bad))?;
        let body = (header.parts().memory.end * PAGE_SIZE) as u64;
        if body > limit {
            return Err(LoadSnapshotError::TooLarge { path: path.into(), size: body, limit });
        }
        let length = |expected: u64| match size == expected {
            true => Ok(()),
            false => Err(LoadSnapshotError::Length { path: path.into(), expected, found: size }),
        };
        let least = header.front() as u64;
        match header.encoding {
            Encoding::Plain => length(least + body)?,
            Encoding::Deflate if size < least => length(least)?,
            Encoding::Deflate => {}
        }
        let mut front = vec![0; header.front()];
        file.read_exact_at(&mut front, 0).map_err(failed)?;
        let digests = HEADER + 32 * header.chunks();
        let lengths = if header.encoding == Encoding::Deflate { 4 * header.chunks() } else { 0 };
        let is_padded = front[digests + lengths..].iter().all(|byte| *byte == 0);
        if digest_of(&front[..digests]) != digest || front[..HEADER] != start || !is_padded {
            return Err(LoadSnapshotError::Damaged { path: path.into(), part: "header" });
        }
        let opened = Self { path: path.into(), file, header, digest, front };
        if opened.header.encoding == Encoding::Deflate {
            let packed: u64 = (0..opened.header.chunks()).map(|chunk| opened.packed_len(chunk) as u64).sum();
            length(least + packed)?;
        }
        Ok(opened)
    }

    fn digest_of_chunk(&self, chunk: usize) -> &[u8] {
        &self.front[HEADER + 32 * chunk..][..32]
    }

    /// Bytes of a chunk in the file, where it is compressed.
    fn packed_len(&self, chunk: usize) -> usize {
        let at = HEADER + 32 * self.header.chunks() + 4 * chunk;
        u32::from_le_bytes(std::array::from_fn(|index| self.front[at + index])) as usize
    }

    /// Which file it is.
    pub(super) fn version(&self) -> Result<Version, LoadSnapshotError> {
        Version::of(&self.file).map_err(|reason| LoadSnapshotError::Read { path: self.path.clone(), reason })
    }

    /// Copies the body to pages that cannot change, a few chunks at a time.
    pub(super) fn copied(&self) -> Result<StoredPages, LoadSnapshotError> {
        let memory = |reason| self.no_memory(reason);
        let mut pages = UnsealedPages::new(self.header.parts().memory.end).map_err(memory)?;
        self.each(|first, bytes| pages.write(first, bytes).map_err(memory))?;
        pages.seal().map_err(memory)
    }

    /// Compares all of the body with its digests.
    pub(super) fn check_chunks(&self) -> Result<(), LoadSnapshotError> {
        self.each(|_, _| Ok(()))
    }

    /// Goes through the body, which is compared with its digests. `take` gets whole chunks, and the number of their first page.
    fn each(
        &self,
        mut take: impl FnMut(usize, &[u8]) -> Result<(), LoadSnapshotError>,
    ) -> Result<(), LoadSnapshotError> {
        let (mut chunk, mut at) = (0, self.header.front() as u64);
        let mut bytes = Vec::new();
        while chunk < self.header.chunks() {
            let first = self.header.chunk(chunk).start;
            let taken;
            (chunk, taken) = match self.header.encoding {
                Encoding::Plain => self.read_chunks(chunk, at, &mut bytes)?,
                Encoding::Deflate => (chunk + 1, self.read_chunk(chunk, at, &mut bytes)?),
            };
            take(first, &bytes)?;
            at += taken;
        }
        Ok(())
    }

    /// The pages of the body as they are in the file, which is not compressed, if it is still of this version.
    pub(super) fn mapped(&self, version: Version) -> Result<StoredPages, LoadSnapshotError> {
        let file = self.file.try_clone().map_err(|reason| self.no_memory(reason))?;
        if !Version::of(&file).is_ok_and(|now| now == version) {
            return Err(self.damaged());
        }
        let pages = StoredPages::of_file(file.into(), self.header.front() / PAGE_SIZE, self.header.parts().memory.end);
        pages.map_err(|reason| self.no_memory(reason))
    }

    /// Reads a chunk that is at this place in the file, and compares it with its digest. Returns how many bytes it takes there.
    fn read_chunk(&self, chunk: usize, at: u64, bytes: &mut Vec<u8>) -> Result<u64, LoadSnapshotError> {
        bytes.resize(self.header.chunk(chunk).len() * PAGE_SIZE, 0);
        let taken = match self.header.encoding {
            Encoding::Plain => {
                self.read(bytes, at)?;
                bytes.len()
            }
            Encoding::Deflate => {
                let mut packed = vec![0; self.packed_len(chunk).min(MOST_PACKED)];
                self.read(&mut packed, at)?;
                let inflated = decompress_slice_iter_to_slice(bytes, std::iter::once(&packed[..]), false, true);
                if inflated != Ok(bytes.len()) {
                    return Err(self.damaged());
                }
                packed.len()
            }
        };
        self.compare(chunk, bytes)?;
        Ok(taken as u64)
    }

    /// The same of some chunks that follow each other, where they are not compressed. Returns the one behind them, too.
    fn read_chunks(&self, first: usize, at: u64, bytes: &mut Vec<u8>) -> Result<(usize, u64), LoadSnapshotError> {
        let pages = |chunk| self.header.chunk(chunk);
        let start = pages(first).start;
        let further = first + 1..self.header.chunks();
        let behind = further.clone().find(|chunk| pages(*chunk).end - start > PAGES_AT_ONCE).unwrap_or(further.end);
        bytes.resize((pages(behind - 1).end - start) * PAGE_SIZE, 0);
        self.read(bytes, at)?;
        for chunk in first..behind {
            let Range { start: from, end } = pages(chunk);
            self.compare(chunk, &bytes[(from - start) * PAGE_SIZE..(end - start) * PAGE_SIZE])?;
        }
        Ok((behind, bytes.len() as u64))
    }

    fn compare(&self, chunk: usize, bytes: &[u8]) -> Result<(), LoadSnapshotError> {
        if sha256(bytes) == self.digest_of_chunk(chunk) { Ok(()) } else { Err(self.damaged()) }
    }

    /// Where a chunk is in a file that is not compressed.
    fn place_of_chunk(&self, chunk: usize) -> u64 {
        (self.header.front() + self.header.chunk(chunk).start * PAGE_SIZE) as u64
    }

    fn read(&self, into: &mut [u8], at: u64) -> Result<(), LoadSnapshotError> {
        self.file.read_exact_at(into, at).map_err(|reason| match reason.kind() {
            // It was cut short meanwhile.
            io::ErrorKind::UnexpectedEof => self.damaged(),
            _ => LoadSnapshotError::Read { path: self.path.clone(), reason },
        })
    }

    fn no_memory(&self, reason: io::Error) -> LoadSnapshotError {
        let bytes = self.header.parts().memory.end * PAGE_SIZE;
        LoadSnapshotError::Memory { what: "snapshot", bytes, reason }
    }

    pub(super) fn damaged(&self) -> LoadSnapshotError {
        LoadSnapshotError::Damaged { path: self.path.clone(), part: "contents" }
    }
}

/// State and image in a file that is not compressed. Chunks are read, and compared with their digests, when somebody needs them.
pub(super) struct HeadInFile {
    pub(super) opened: Opened,
    /// One for each chunk of them.
    chunks: Vec<OnceLock<Vec<u8>>>,
    /// What somebody has needed that is in more than one chunk, from the first of them on.
    joined: Vec<OnceLock<Vec<u8>>>,
    /// The whole image, once somebody has needed still more.
    whole: OnceLock<Vec<u8>>,
    is_damaged: AtomicBool,
}

impl HeadInFile {
    pub(super) fn new(opened: Opened) -> Self {
        let one_each = || (0..opened.header.head_chunks()).map(|_| OnceLock::new()).collect();
        let (chunks, joined) = (one_each(), one_each());
        Self { opened, chunks, joined, whole: OnceLock::new(), is_damaged: AtomicBool::new(false) }
    }

    /// The state.
    pub(super) fn state(&self) -> Result<Vec<u8>, LoadSnapshotError> {
        let len = self.opened.header.parts().state.end;
        let mut state = Vec::with_capacity(len.next_multiple_of(HEAD_CHUNK_BYTES));
        for chunk in 0..len.div_ceil(HEAD_CHUNK_BYTES) {
            state.extend_from_slice(self.chunk(chunk)?);
        }
        state.truncate(len);
        Ok(state)
    }

    /// Whether something of the image that was needed could not be read, or is not what its digest says.
    pub(super) fn damage(&self) -> Option<LoadSnapshotError> {
        self.is_damaged.load(Ordering::Relaxed).then(|| self.opened.damaged())
    }

    fn chunk(&self, chunk: usize) -> Result<&[u8], LoadSnapshotError> {
        if let Some(bytes) = self.chunks[chunk].get() {
            return Ok(bytes);
        }
        // A thread that holds a lock while it reads would not release it in a child that is forked meanwhile.
        let mut bytes = Vec::new();
        self.opened.read_chunk(chunk, self.opened.place_of_chunk(chunk), &mut bytes)?;
        Ok(self.chunks[chunk].get_or_init(|| bytes))
    }

    fn join(&self, chunks: Range<usize>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(chunks.len() * HEAD_CHUNK_BYTES);
        chunks.for_each(|chunk| bytes.extend_from_slice(self.chunk_or_zeros(chunk)));
        bytes
    }

    fn chunk_or_zeros(&self, chunk: usize) -> &[u8] {
        self.chunk(chunk).unwrap_or_else(|error| {
            self.is_damaged.store(true, Ordering::Relaxed);
            tracing::warn!(%error, "a part of the image cannot be read, and is taken for zeros");
            self.chunks[chunk].get_or_init(|| vec![0; HEAD_CHUNK_BYTES])
        })
    }
}

impl Pieces for HeadInFile {
    fn bytes(&self, range: Range<usize>) -> &[u8] {
        let image = self.opened.header.parts().image;
        let (start, end) = (image.start + range.start, image.start + range.end);
        if range.is_empty() {
            return &[];
        }
        let (first, behind) = (start / HEAD_CHUNK_BYTES, end.div_ceil(HEAD_CHUNK_BYTES));
        let within = start - first * HEAD_CHUNK_BYTES..end - first * HEAD_CHUNK_BYTES;
        if behind == first + 1 {
            return &self.chunk_or_zeros(first)[within];
        }
        // As in `chunk`: what is read is read before anybody could wait for it.
        let chunks = behind - first;
        if self.whole.get().is_none() && chunks <= MOST_JOINED {
            let joined = match self.joined[first].get() {
                Some(joined) => joined,
                None => {
                    let joined = self.join(first..behind);
                    self.joined[first].get_or_init(|| joined)
                }
            };
            if let Some(bytes) = joined.get(within) {
                return bytes;
            }
        }
        let whole = match self.whole.get() {
            Some(whole) => whole,
            None => {
                let first = image.start / HEAD_CHUNK_BYTES;
                let mut whole = self.join(first..image.end.div_ceil(HEAD_CHUNK_BYTES));
                whole.drain(..image.start - first * HEAD_CHUNK_BYTES);
                self.whole.get_or_init(|| whole)
            }
        };
        &whole[range]
    }
}

impl fmt::Debug for HeadInFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadInFile").field("path", &self.opened.path).finish_non_exhaustive()
    }
}

/// Which file it is, as far as that can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let of = file.metadata()?;
        Ok(Self {
            device: of.dev(),
            inode: of.ino(),
            size: of.len(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        })
    }
}

/// Whether there is a file with the first bytes of a snapshot.
pub(super) fn begins_as_snapshot(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    is_file && File::open(path).and_then(|file| file.read_exact_at(&mut start, 0)).is_ok() && start == MAGIC
}

fn refused(path: &Path, bad: &BadHeader) -> LoadSnapshotError {
    let path = path.to_owned();
    match *bad {
        BadHeader::NotASnapshot => LoadSnapshotError::NotASnapshot { path },
        BadHeader::Version { found } => LoadSnapshotError::Version { path, found },
        BadHeader::Architecture { found } => LoadSnapshotError::Architecture { path, found },
        BadHeader::Damaged | BadHeader::Sizes => LoadSnapshotError::Damaged { path, part: "header" },
    }
}

/// More than DEFLATE makes of a chunk that cannot be compressed.
const MOST_PACKED: usize = CHUNK * PAGE_SIZE / 8 * 9;

/// More of the image than so many chunks is the whole image.
const MOST_JOINED: usize = 16;

/// How much of a file is read at a time. More does not stay in the processor's caches until it is compared and copied.
const PAGES_AT_ONCE: usize = 4 * CHUNK;

const HEAD_CHUNK_BYTES: usize = HEAD_CHUNK * PAGE_SIZE;

#[cfg(test)]
mod tests;
