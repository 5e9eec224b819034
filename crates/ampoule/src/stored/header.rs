//! What snapshot files say of themselves, for those who move them and do not load them.

use std::path::PathBuf;

use ampoule_vmm::processor::ARCHITECTURE;

use super::SnapshotFile;
use super::error::LoadSnapshotError;
use super::format::{Encoding, SnapshotDigest};
use super::opened::Opened;
use super::read::{MOST_PARENTS, find_parent};

/// The header of a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotHeader {
    /// The file.
    pub path: PathBuf,
    /// The name of the snapshot: a digest of all that it holds.
    pub digest: SnapshotDigest,
    /// The snapshot that it is stored as a difference from.
    pub parent: Option<SnapshotDigest>,
    /// The SHA-256 of the image's file.
    pub image_digest: [u8; 32],
    /// Whether it is compressed.
    pub is_compressed: bool,
    /// The architecture that its guest is for, by its number in ELF files (`e_machine`).
    pub architecture: u32,
}

impl SnapshotHeader {
    fn of(Opened { path, header, digest, .. }: Opened) -> Self {
        Self {
            path,
            digest,
            parent: header.parent,
            image_digest: header.image_digest,
            is_compressed: header.encoding == Encoding::Deflate,
            architecture: ARCHITECTURE,
        }
    }
}

impl SnapshotFile {
    /// Reads the header, and compares it with its digest and with the length of the file. Nothing else of the file is read, and
    /// no parent is looked for.
    ///
    /// # Errors
    /// A [`LoadSnapshotError`].
    pub fn header(&self) -> Result<SnapshotHeader, LoadSnapshotError> {
        Ok(SnapshotHeader::of(Opened::open(&self.path, self.reading.limit)?))
    }

    /// Reads the whole file, compares it with its digests, and returns its header. What it holds is then what its name stands
    /// for; no parent is looked for.
    ///
    /// # Errors
    /// A [`LoadSnapshotError`].
    pub fn intact_header(&self) -> Result<SnapshotHeader, LoadSnapshotError> {
        let opened = Opened::open(&self.path, self.reading.limit)?;
        opened.check_chunks()?;
        Ok(SnapshotHeader::of(opened))
    }

    /// The headers of all files that it takes to load this one: those of its parents, each before the one that is a difference
    /// from it, and its own as the last.
    ///
    /// # Errors
    /// A [`LoadSnapshotError`].
    pub fn chain(&self) -> Result<Vec<SnapshotHeader>, LoadSnapshotError> {
        let mut chain = vec![self.header()?];
        while let Some(SnapshotHeader { path, parent: Some(parent), .. }) = chain.last() {
            if chain.len() > MOST_PARENTS {
                return Err(LoadSnapshotError::TooManyParents { path: path.clone(), limit: MOST_PARENTS });
            }
            let at = find_parent(path, *parent, &self.reading)
                .ok_or_else(|| LoadSnapshotError::MissingParent { path: path.clone(), parent: *parent })?;
            chain.push(SnapshotFile::new(at).size_limit(self.reading.limit).header()?);
        }
        chain.reverse();
        Ok(chain)
    }
}
