//! Image layouts: a directory with blobs, and an index that says which of them are manifests, and of which tags.
//! The OCI image specification, `image-layout.md`, is the standard.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, MediaType, OciLayout};
use sha2::{Digest as _, Sha256};

use crate::artifact::ARTIFACT_TYPE;
use crate::blob::{BUFFER, Blob, Digest, Exactly, fill};
use crate::error::LayoutError;
use crate::new_file::{NewFile, PREFIX, write};
use crate::reference::{Layout, Which};
use crate::store::{MOST_MANIFEST, Store};
use crate::text::printable;

/// An image layout, and what of it is wanted.
pub(crate) struct ImageLayout {
    layout: Layout,
}

impl ImageLayout {
    /// One that is there.
    pub(crate) fn open(layout: Layout) -> Result<Self, LayoutError> {
        let opened = Self { layout };
        let path = opened.path("oci-layout");
        let bytes = match read(&path, MOST_MANIFEST) {
            Err(LayoutError::Read { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
                return Err(LayoutError::NotALayout { directory: opened.layout.directory });
            }
            bytes => bytes?,
        };
        let marker: OciLayout = parsed(&path, &bytes)?;
        if marker.image_layout_version() != LAYOUT_VERSION {
            let found = printable(marker.image_layout_version());
            return Err(LayoutError::Version { path, found });
        }
        Ok(opened)
    }

    /// One that is there, or a new one where the directory is missing or empty, or has no more than the beginning of one.
    pub(crate) fn create(layout: Layout) -> Result<Self, LayoutError> {
        let directory = &layout.directory;
        let failed = |path: &Path, reason| LayoutError::Write { path: path.to_owned(), reason };
        fs::create_dir_all(directory).map_err(|reason| failed(directory, reason))?;
        if !directory.join("oci-layout").exists() {
            begin(directory)?;
        }
        Self::open(layout)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.layout.directory.join(name)
    }

    /// Where a blob is. A digest has no characters that lead elsewhere.
    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    fn index(&self) -> Result<ImageIndex, LayoutError> {
        let path = self.path("index.json");
        parsed(&path, &read(&path, MOST_MANIFEST)?)
    }

    fn not_found(&self, what: String) -> LayoutError {
        LayoutError::NotFound { directory: self.layout.directory.clone(), what }
    }
}

impl Store for ImageLayout {
    type Error = LayoutError;

    fn manifest(&mut self) -> Result<Vec<u8>, LayoutError> {
        let digest = match &self.layout.which {
            Which::Digest(digest) => *digest,
            Which::Tag(tag) => {
                let index = self.index()?;
                let tagged = index.manifests().iter().find(|descriptor| tag_of(descriptor) == Some(tag));
                let tagged = tagged.ok_or_else(|| self.not_found(tag.clone()))?;
                let blob = Blob::described(tagged).ok_or_else(|| LayoutError::Malformed {
                    path: self.path("index.json"),
                    reason: format!("the manifest of tag `{tag}` has a digest that is no SHA-256"),
                })?;
                blob.digest
            }
        };
        let path = self.blob_path(digest);
        let bytes = match read(&path, MOST_MANIFEST) {
            Err(LayoutError::Read { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
                return Err(self.not_found(digest.to_string()));
            }
            bytes => bytes?,
        };
        match Digest::of(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(LayoutError::Malformed { path, reason: format!("it should be {digest}, and is {found}") }),
        }
    }

    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read>, LayoutError> {
        let path = self.blob_path(blob.digest);
        match open(&path) {
            Ok(file) => Ok(Box::new(file)),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => Err(self.not_found(blob.digest.to_string())),
            Err(reason) => Err(LayoutError::Read { path, reason }),
        }
    }

    fn has_blob(&mut self, blob: &Blob) -> Result<bool, LayoutError> {
        // One that has been damaged is written again.
        let found = open(&self.blob_path(blob.digest)).and_then(Blob::of_reader);
        Ok(found.is_ok_and(|found| found == *blob))
    }

    fn put_blob(&mut self, blob: &Blob, content: &mut dyn Read) -> Result<(), LayoutError> {
        let path = self.blob_path(blob.digest);
        let put = || {
            let mut new = NewFile::create(&self.path("blobs/sha256"))?;
            let (mut content, mut hash) = (Exactly::new(content, blob.size), Sha256::new());
            let mut buffer = vec![0; BUFFER];
            loop {
                let read = fill(&mut content, &mut buffer)?;
                hash.update(&buffer[..read]);
                new.append(&buffer[..read])?;
                if read < buffer.len() {
                    break;
                }
            }
            if Digest::finish(hash) != blob.digest {
                return Err(io::Error::other("the file that it is a copy of has changed meanwhile"));
            }
            new.finish()?;
            new.put(&path)
        };
        put().map_err(|reason| LayoutError::Write { path: path.clone(), reason })
    }

    fn put_manifest(&mut self, manifest: &[u8]) -> Result<(), LayoutError> {
        let blob = Blob::of(manifest);
        self.put_blob(&blob, &mut &manifest[..])?;
        let Which::Tag(tag) = &self.layout.which else { return Ok(()) };
        let path = self.path("index.json");
        // Whoever else changes the index waits until the lock, which goes with the file, is dropped.
        let marker = self.path("oci-layout");
        let lock = File::open(&marker).and_then(|file| file.lock().map(|()| file));
        let lock = lock.map_err(|reason| LayoutError::Write { path: marker, reason })?;
        // What else others have written to it stays.
        let mut index = self.index()?;
        let mut manifests = index.manifests().clone();
        manifests.retain(|descriptor| tag_of(descriptor) != Some(tag));
        let mut descriptor = blob.descriptor(MediaType::ImageManifest);
        descriptor.set_artifact_type(Some(ARTIFACT_TYPE.into()));
        descriptor.set_annotations(Some(HashMap::from([(TAG.to_owned(), tag.clone())])));
        manifests.push(descriptor);
        index.set_manifests(manifests);
        let written = write_index(&path, &index);
        drop(lock);
        written
    }
}

/// The tag by which an index knows a manifest.
fn tag_of(descriptor: &Descriptor) -> Option<&String> {
    descriptor.annotations().as_ref()?.get(TAG)
}

/// Makes a directory a layout, unless it has something else.
fn begin(directory: &Path) -> Result<(), LayoutError> {
    let failed = |path: &Path, reason| LayoutError::Write { path: path.to_owned(), reason };
    // Two that create it do so one after the other: the lock, which goes with the file, is held until the end.
    let lock = File::open(directory).and_then(|file| file.lock().map(|()| file));
    let lock = lock.map_err(|reason| failed(directory, reason))?;
    if is_begun(directory).map_err(|reason| failed(directory, reason))? {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|reason| failed(&blobs, reason))?;
        let index = directory.join("index.json");
        if !index.exists() {
            write_index(&index, &empty_index())?;
        }
        // The marker comes last: a directory that has it is complete.
        let marker = directory.join("oci-layout");
        let text = format!("{{\"imageLayoutVersion\":\"{LAYOUT_VERSION}\"}}");
        write(&marker, text.as_bytes()).map_err(|reason| failed(&marker, reason))?;
    }
    drop(lock);
    Ok(())
}

/// Whether a directory has nothing, or only what is there before the marker is: what is left where the creation of a layout was
/// interrupted.
fn is_begun(directory: &Path) -> io::Result<bool> {
    for entry in directory.read_dir()? {
        let name = entry?.file_name();
        let is_of_layout = name == "blobs" || name == "index.json" || name.as_bytes().starts_with(PREFIX.as_bytes());
        if !is_of_layout {
            return Ok(false);
        }
    }
    Ok(true)
}

fn empty_index() -> ImageIndex {
    ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(Vec::new())
        .build()
        .expect("all that an index must have is set")
}

fn write_index(path: &Path, index: &ImageIndex) -> Result<(), LayoutError> {
    let bytes = serde_json::to_vec(index).expect("an index is text and numbers");
    write(path, &bytes).map_err(|reason| LayoutError::Write { path: path.to_owned(), reason })
}

fn parsed<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes)
        .map_err(|error| LayoutError::Malformed { path: path.to_owned(), reason: printable(&error.to_string()) })
}

/// All of a file that is to be read at once.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, LayoutError> {
    let failed = |reason| LayoutError::Read { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    open(path).map_err(failed)?.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(LayoutError::TooLong { path: path.to_owned(), most });
    }
    Ok(bytes)
}

/// Opens a file. What is none, such as a pipe, could make whoever opens it wait.
fn open(path: &Path) -> io::Result<File> {
    match fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
    }
}

/// The version of layouts.
const LAYOUT_VERSION: &str = "1.0.0";

/// The annotation with the tag (OCI image specification, `annotations.md`).
const TAG: &str = "org.opencontainers.image.ref.name";
