//! Where blobs and manifests are: a registry, or an image layout.

use std::io::Read;

use crate::blob::Blob;

/// A place for the manifest that a reference names, and for its blobs.
pub(crate) trait Store {
    type Error;

    /// The bytes of the manifest, [`MOST_MANIFEST`] at most. Whether they are those that were asked for is up to the caller.
    fn manifest(&mut self) -> Result<Vec<u8>, Self::Error>;

    /// The bytes of a blob: what the store sends, however much that is.
    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read>, Self::Error>;

    /// Whether a blob is there.
    fn has_blob(&mut self, blob: &Blob) -> Result<bool, Self::Error>;

    /// Stores a blob.
    fn put_blob(&mut self, blob: &Blob, content: &mut dyn Read) -> Result<(), Self::Error>;

    /// Stores a manifest, whose blobs are there, under the reference's tag.
    fn put_manifest(&mut self, manifest: &[u8]) -> Result<(), Self::Error>;
}

/// Bytes of a manifest: what a registry has to accept (OCI distribution specification, "Pushing manifests").
pub(crate) const MOST_MANIFEST: u64 = 4 << 20;
