//! Pushing: what is missing of a snapshot's files, then what says what they are, then the manifest with the tag.

use std::fs::File;
use std::io::{self, Seek};
use std::path::Path;

use ampoule::{SnapshotDigest, SnapshotFile, SnapshotHeader};

use crate::artifact::{Artifact, Config, MOST_CONFIG};
use crate::blob::{Blob, Digest};
use crate::error::PushError;
use crate::layout::ImageLayout;
use crate::options::Options;
use crate::reference::{Layout, Place, Reference, Repository, Which};
use crate::registry::Registry;
use crate::store::Store;

/// A snapshot that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The digest of the manifest: what was pushed, whatever becomes of the tag.
    pub digest: Digest,
    /// The files, each behind the one that it is a difference from.
    pub layers: Vec<PushedLayer>,
}

/// A file of a snapshot that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushedLayer {
    /// The snapshot.
    pub snapshot: SnapshotDigest,
    /// The digest of the file.
    pub digest: Digest,
    /// Bytes of the file.
    pub size: u64,
    /// Whether it was there already, and was not sent.
    pub was_there: bool,
}

/// Pushes the snapshot in this file, and those that it is stored as a difference from, which are in the same directory.
///
/// All files are verified before ([`SnapshotFile::verify`]). They travel as they are: one that was
/// [compressed](ampoule::SaveOptions::compressed) stays so. Those that are there already are not sent again.
///
/// # Errors
/// A [`PushError`]. The tag leads where it led before.
pub fn push(path: impl AsRef<Path>, reference: &Reference, options: &Options) -> Result<Pushed, PushError> {
    let (Place::Registry(Repository { which, .. }) | Place::Layout(Layout { which, .. })) = &reference.0;
    if matches!(which, Which::Digest(_)) {
        return Err(PushError::Digest { reference: reference.clone() });
    }
    let files = Files::read(path.as_ref())?;
    match &reference.0 {
        Place::Registry(repository) => files.push(&mut Registry::new(repository.clone(), options)),
        Place::Layout(layout) => files.push(&mut ImageLayout::create(layout.clone())?),
    }
}

/// The files of a snapshot.
struct Files {
    chain: Vec<SnapshotHeader>,
    layers: Vec<(File, Blob)>,
    config: Vec<u8>,
}

impl Files {
    fn read(path: &Path) -> Result<Self, PushError> {
        let file = || SnapshotFile::new(path).size_limit(u64::MAX);
        let chain = file().chain()?;
        let layers = chain.iter().map(|header| opened(&header.path)).collect::<Result<_, _>>()?;
        let Some((last, parents)) = chain.split_last() else {
            unreachable!("a chain has the file itself");
        };
        let info = parents.iter().fold(file(), |file, parent| file.parent(&parent.path)).verify()?;
        let config = Config::of(&info, &chain, last).bytes();
        if config.len() as u64 > MOST_CONFIG {
            return Err(PushError::TooManyFunctions { size: config.len() as u64, most: MOST_CONFIG });
        }
        Ok(Self { chain, layers, config })
    }

    fn push<S: Store>(self, store: &mut S) -> Result<Pushed, PushError>
    where
        PushError: From<S::Error>,
    {
        let Self { chain, layers, config } = self;
        let mut pushed = Vec::new();
        let mut blobs = Vec::new();
        for ((mut file, blob), header) in layers.into_iter().zip(&chain) {
            let was_there = store.has_blob(&blob)?;
            if !was_there {
                store.put_blob(&blob, &mut file)?;
            }
            pushed.push(PushedLayer { snapshot: header.digest, digest: blob.digest, size: blob.size, was_there });
            blobs.push(blob);
        }
        let artifact = Artifact { config: Blob::of(&config), layers: blobs };
        if !store.has_blob(&artifact.config)? {
            store.put_blob(&artifact.config, &mut &config[..])?;
        }
        let manifest = artifact.manifest(&chain);
        store.put_manifest(&manifest)?;
        Ok(Pushed { digest: Digest::of(&manifest), layers: pushed })
    }
}

/// A file, and what it has.
fn opened(path: &Path) -> Result<(File, Blob), PushError> {
    let open = || -> io::Result<(File, Blob)> {
        let mut file = File::open(path)?;
        let blob = Blob::of_reader(&file)?;
        file.rewind()?;
        Ok((file, blob))
    };
    open().map_err(|reason| PushError::Read { path: path.to_owned(), reason })
}
