//! Pulling: the manifest, what it says of the layers, and the files that are missing, the snapshot's own as the last.
//!
//! Nothing that is received is believed. A file gets its name when it has the length and the digest that the manifest says, is
//! the snapshot that the configuration says, intact, and on the disk; the names are the caller's, or made of digests.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use ampoule::{LoadSnapshotError, SnapshotFile};
use sha2::{Digest as _, Sha256};

use crate::artifact::{self, Artifact, SnapshotRecord, file_name};
use crate::blob::{BUFFER, Blob, Digest, fill};
use crate::error::PullError;
use crate::layout::ImageLayout;
use crate::new_file::{NewFile, directory_of};
use crate::options::Options;
use crate::reference::{Layout, Place, Reference, Repository, Which};
use crate::registry::Registry;
use crate::store::Store;

/// A snapshot that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// The digest of the manifest: what was pulled, whatever becomes of the tag.
    pub digest: Digest,
    /// The files, each behind the one that it is a difference from.
    pub layers: Vec<PulledLayer>,
}

/// A file of a snapshot that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PulledLayer {
    /// The file.
    pub path: PathBuf,
    /// The digest of the file.
    pub digest: Digest,
    /// Bytes of the file.
    pub size: u64,
    /// Whether it was there already, and was not received.
    pub was_there: bool,
}

/// Pulls a snapshot to this file, and those that it is stored as a difference from to files beside it.
///
/// A parent that is in the same directory is not received again, whatever its name is. Others are called by their digests,
/// `DIGEST.snap`; one that was in the file that is replaced is kept under such a name. So a directory into which one version of a
/// snapshot is pulled after the other has all that the latest needs.
///
/// # Errors
/// A [`PullError`]. The file is as it was; some of its parents may have arrived. Files whose names begin with `.ampoule-` are what
/// a process that was killed had received.
pub fn pull(reference: &Reference, path: impl AsRef<Path>, options: &Options) -> Result<Pulled, PullError> {
    let limit = options.size_limit.unwrap_or(DEFAULT_LIMIT);
    let pull = Pull { reference, path: path.as_ref(), limit };
    match &reference.0 {
        Place::Registry(repository) => pull.from(&mut Registry::new(repository.clone(), options)),
        Place::Layout(layout) => pull.from(&mut ImageLayout::open(layout.clone())?),
    }
}

/// What is to be pulled.
struct Pull<'a> {
    reference: &'a Reference,
    path: &'a Path,
    limit: u64,
}

impl Pull<'_> {
    fn from<S: Store>(&self, store: &mut S) -> Result<Pulled, PullError>
    where
        PullError: From<S::Error>,
    {
        let manifest = store.manifest()?;
        let digest = Digest::of(&manifest);
        let (Place::Registry(Repository { which, .. }) | Place::Layout(Layout { which, .. })) = &self.reference.0;
        if let Which::Digest(expected) = *which
            && expected != digest
        {
            return Err(PullError::Damaged { expected, found: digest });
        }
        let Artifact { config, layers } = Artifact::parse(self.reference, &manifest, self.limit)?;
        let mut description = Vec::new();
        receive(&config, &mut *store.blob(&config)?, |bytes| {
            description.extend(bytes);
            Ok(())
        })?;
        let snapshots = artifact::snapshots(self.reference, &description, layers.len())?;
        let paths = self.paths(&snapshots)?;
        let mut pulled = Vec::new();
        for (index, ((blob, snapshot), path)) in layers.iter().zip(&snapshots).zip(paths).enumerate() {
            let layer = Layer { number: index + 1, blob, snapshot, path };
            let found = self.find(&layer);
            let was_there = found.is_some();
            let path = match found {
                Some(found) => self.keep(found, &layer)?,
                None => self.fetch(store, &layer)?,
            };
            pulled.push(PulledLayer { path, digest: blob.digest, size: blob.size, was_there });
        }
        Ok(Pulled { digest, layers: pulled })
    }

    /// Where each snapshot's file is to be.
    fn paths(&self, snapshots: &[SnapshotRecord]) -> Result<Vec<PathBuf>, PullError> {
        let directory = directory_of(self.path);
        let mut paths: Vec<_> = snapshots.iter().map(|snapshot| directory.join(file_name(&snapshot.digest))).collect();
        paths.pop();
        if paths.iter().any(|parent| parent.file_name() == self.path.file_name()) {
            return Err(PullError::NameOfParent { path: self.path.to_owned() });
        }
        paths.push(self.path.to_owned());
        Ok(paths)
    }

    /// A file that is the layer's: under its own name, or a parent's under any name in the directory.
    fn find(&self, layer: &Layer<'_>) -> Option<PathBuf> {
        if layer.is_in(&layer.path) {
            return Some(layer.path.clone());
        }
        let is_parent = layer.path != self.path;
        let beside = fs::read_dir(directory_of(self.path)).ok().filter(|_| is_parent)?;
        let mut paths = beside.take(MOST_BESIDE).filter_map(|entry| Some(entry.ok()?.path()));
        paths.find(|path| layer.is_in(path))
    }

    /// A file that is there already. Where the snapshot's own is going to replace it, it gets a name of its own.
    fn keep(&self, found: PathBuf, layer: &Layer<'_>) -> Result<PathBuf, PullError> {
        if found == layer.path || found.file_name() != self.path.file_name() {
            return Ok(found);
        }
        let path = &layer.path;
        let failed = |reason| PullError::Write { path: path.clone(), reason };
        // Something damaged may have the name, or the file system no links.
        if fs::hard_link(&found, path).is_err() {
            let mut file = fs::File::open(&found).map_err(failed)?;
            self.write(layer, &mut file)?;
        }
        Ok(path.clone())
    }

    fn fetch<S: Store>(&self, store: &mut S, layer: &Layer<'_>) -> Result<PathBuf, PullError>
    where
        PullError: From<S::Error>,
    {
        self.write(layer, &mut *store.blob(layer.blob)?)?;
        Ok(layer.path.clone())
    }

    fn write(&self, layer: &Layer<'_>, content: &mut dyn Read) -> Result<(), PullError> {
        let Layer { number, blob, snapshot, path } = layer;
        let failed = |reason| PullError::Write { path: path.clone(), reason };
        let mut new = NewFile::create(directory_of(path)).map_err(failed)?;
        receive(blob, content, |bytes| new.append(bytes).map_err(failed))?;
        new.finish().map_err(failed)?;
        match SnapshotFile::new(new.path()).size_limit(u64::MAX).intact_header() {
            Ok(header) if SnapshotRecord::of(&header) == **snapshot => {}
            Ok(_) => return Err(PullError::WrongSnapshot { reference: self.reference.clone(), layer: *number }),
            Err(reason) => {
                let (reference, reason) = (self.reference.clone(), Box::new(reason));
                return Err(PullError::Layer { reference, layer: *number, reason });
            }
        }
        new.put(path).map_err(failed)
    }
}

/// A layer, and the file that it is to be.
struct Layer<'a> {
    /// From 1 on.
    number: usize,
    blob: &'a Blob,
    snapshot: &'a SnapshotRecord,
    path: PathBuf,
}

impl Layer<'_> {
    /// Whether this file is the layer's.
    fn is_in(&self, path: &Path) -> bool {
        let has_its_size = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == self.blob.size);
        has_its_size
            && header(path).is_ok_and(|header| header == *self.snapshot)
            && fs::File::open(path).and_then(Blob::of_reader).is_ok_and(|found| found == *self.blob)
    }
}

/// What a file says which snapshot it is.
fn header(path: &Path) -> Result<SnapshotRecord, LoadSnapshotError> {
    Ok(SnapshotRecord::of(&SnapshotFile::new(path).size_limit(u64::MAX).header()?))
}

/// Takes a blob from whoever sends it, a piece at a time, and no more than it should have.
fn receive(
    blob: &Blob,
    content: &mut dyn Read,
    mut take: impl FnMut(&[u8]) -> Result<(), PullError>,
) -> Result<(), PullError> {
    let mut content = content;
    let (mut hash, mut buffer, mut left) = (Sha256::new(), vec![0; BUFFER], blob.size);
    let failed = |reason| PullError::Receive { blob: blob.digest, reason };
    let length = |found, is_longer| PullError::Length { blob: blob.digest, expected: blob.size, found, is_longer };
    while left > 0 {
        let wanted = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
        let read = fill(&mut content, &mut buffer[..wanted]).map_err(failed)?;
        left -= read as u64;
        if read < wanted {
            return Err(length(blob.size - left, false));
        }
        hash.update(&buffer[..read]);
        take(&buffer[..read])?;
    }
    if fill(&mut content, &mut buffer[..1]).map_err(failed)? > 0 {
        return Err(length(blob.size + 1, true));
    }
    match Digest::finish(hash) {
        found if found == blob.digest => Ok(()),
        found => Err(PullError::Damaged { expected: blob.digest, found }),
    }
}

/// As for a snapshot that is loaded (`SnapshotFile::size_limit`).
const DEFAULT_LIMIT: u64 = 8 << 30;

/// How many files of a directory are looked at for a parent: as many as when it is loaded.
const MOST_BESIDE: usize = 4096;
