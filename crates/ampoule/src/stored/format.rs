//! The frame of a snapshot file: its header, its digests, and where its parts lie. `docs/snapshot-format.md` is the
//! specification.

use std::fmt;
use std::ops::Range;

use ampoule_vmm::PAGE_SIZE;
use ampoule_vmm::processor::ARCHITECTURE;
use sha2::{Digest as _, Sha256};

/// The name of a snapshot: a SHA-256 of all that it holds. Snapshots of one name are the same, however they are encoded.
///
/// `{}` is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotDigest(pub(super) [u8; 32]);

/// What a file says of itself before anything else is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) encoding: Encoding,
    /// Bytes of the state.
    pub(super) state: u64,
    /// Bytes of the image's file; 0 where it is the parent's.
    pub(super) image: u64,
    /// Pages of memory.
    pub(super) pages: u64,
    pub(super) parent: Option<SnapshotDigest>,
    pub(super) image_digest: [u8; 32],
}

/// How the body lies in the file. It is no part of the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Plain,
    /// Each chunk compressed by itself, as a raw stream of DEFLATE (RFC 1951).
    Deflate,
}

/// Why some bytes are not the header of a snapshot that can be read here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    NotASnapshot,
    Version {
        found: u32,
    },
    Architecture {
        found: u32,
    },
    Damaged,
    /// The sizes are larger than any file's.
    Sizes,
}

impl Header {
    /// Reads the first [`HEADER`] bytes of a file.
    pub(super) fn read(bytes: &[u8; HEADER]) -> Result<(Self, SnapshotDigest), BadHeader> {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        let digest = |at: usize| -> [u8; 32] { std::array::from_fn(|index| bytes[at + index]) };
        if bytes[..8] != MAGIC {
            return Err(BadHeader::NotASnapshot);
        }
        if word(8) != VERSION {
            return Err(BadHeader::Version { found: word(8) });
        }
        if word(12) != ARCHITECTURE {
            return Err(BadHeader::Architecture { found: word(12) });
        }
        let encoding = match word(16) {
            0 => Encoding::Plain,
            1 => Encoding::Deflate,
            _ => return Err(BadHeader::Damaged),
        };
        let parent = match word(20) {
            0 if digest(48) == [0; 32] => None,
            1 => Some(SnapshotDigest(digest(48))),
            _ => return Err(BadHeader::Damaged),
        };
        let header =
            Self { encoding, state: long(24), image: long(32), pages: long(40), parent, image_digest: digest(80) };
        let sizes = [header.state, header.image, header.pages.saturating_mul(PAGE_SIZE as u64)];
        if sizes.iter().any(|size| *size > LARGEST) {
            return Err(BadHeader::Sizes);
        }
        Ok((header, SnapshotDigest(digest(112))))
    }

    /// The header and, behind it, the digests of the chunks: the start of the file. Returns its digest, too.
    pub(super) fn write(&self, chunks: &[[u8; 32]]) -> (Vec<u8>, SnapshotDigest) {
        let mut bytes = Vec::with_capacity(HEADER + 32 * chunks.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(ARCHITECTURE.to_le_bytes());
        bytes.extend((self.encoding as u32).to_le_bytes());
        bytes.extend(u32::from(self.parent.is_some()).to_le_bytes());
        for size in [self.state, self.image, self.pages] {
            bytes.extend(size.to_le_bytes());
        }
        bytes.extend(self.parent.map_or([0; 32], |SnapshotDigest(parent)| parent));
        bytes.extend(self.image_digest);
        bytes.extend([0; 32]);
        chunks.iter().for_each(|chunk| bytes.extend(chunk));
        let digest = digest_of(&bytes);
        bytes[DIGEST].copy_from_slice(&digest.0);
        (bytes, digest)
    }

    /// Where the parts lie in the body, each at the start of a page.
    pub(super) fn parts(&self) -> Parts {
        let pages = |bytes: u64| (bytes as usize).div_ceil(PAGE_SIZE);
        let image = pages(self.state);
        let memory = image + pages(self.image);
        Parts {
            state: 0..self.state as usize,
            image: image * PAGE_SIZE..image * PAGE_SIZE + self.image as usize,
            image_pages: image..memory,
            memory: memory..memory + self.pages as usize,
        }
    }

    /// How many chunks the body has.
    pub(super) fn chunks(&self) -> usize {
        self.head_chunks() + self.parts().memory.len().div_ceil(CHUNK)
    }

    /// How many of them are state and image.
    pub(super) fn head_chunks(&self) -> usize {
        self.parts().memory.start.div_ceil(HEAD_CHUNK)
    }

    /// The pages of the body that are a chunk.
    pub(super) fn chunk(&self, number: usize) -> Range<usize> {
        let Range { start, end } = self.parts().memory;
        let (first, len, end) = match number.checked_sub(self.head_chunks()) {
            None => (number * HEAD_CHUNK, HEAD_CHUNK, start),
            Some(number) => (start + number * CHUNK, CHUNK, end),
        };
        first..(first + len).min(end)
    }

    /// Bytes of the file before its body: header, digests, and lengths where chunks are compressed; in whole pages.
    pub(super) fn front(&self) -> usize {
        let lengths = if self.encoding == Encoding::Deflate { 4 } else { 0 };
        (HEADER + self.chunks() * (32 + lengths)).next_multiple_of(PAGE_SIZE)
    }
}

/// Where the parts of the body lie in it: in bytes, and the last two in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) state: Range<usize>,
    pub(super) image: Range<usize>,
    pub(super) image_pages: Range<usize>,
    pub(super) memory: Range<usize>,
}

/// The digest of a file that begins with these bytes: header and digests of chunks, without what is no part of it.
pub(super) fn digest_of(front: &[u8]) -> SnapshotDigest {
    let mut hash = Sha256::new();
    hash.update(&front[..ENCODING.start]);
    hash.update(&front[ENCODING.end..DIGEST.start]);
    hash.update(&front[DIGEST.end..]);
    SnapshotDigest(hash.finalize().into())
}

/// The digest of bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
impl SnapshotDigest {
    /// That of no snapshot.
    pub(crate) fn of_none() -> Self {
        Self([0; 32])
    }
}

impl fmt::Display for SnapshotDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SnapshotDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotDigest({self})")
    }
}

/// The first bytes of every snapshot file.
pub(super) const MAGIC: [u8; 8] = *b"\x7fAMPOULE";

/// The version of the format. A file of another one is refused.
pub(super) const VERSION: u32 = 1;

/// Bytes of the header.
pub(super) const HEADER: usize = 144;

/// Where the encoding and the digest lie in it, which are no parts of the digest.
const ENCODING: Range<usize> = 16..20;
const DIGEST: Range<usize> = 112..144;

/// Pages of memory that have a digest of their own; the last chunk may have fewer. Less makes the list of digests long.
pub(super) const CHUNK: usize = 16;

/// The same of state and image, of which a reader needs some bytes here and there.
pub(super) const HEAD_CHUNK: usize = 4;

/// No part is larger. Sums of such numbers cannot overflow.
const LARGEST: u64 = 1 << 40;
