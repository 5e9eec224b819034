//! Why a snapshot could not be pushed or pulled.

use std::io;
use std::path::PathBuf;

use ampoule::LoadSnapshotError;
use thiserror::Error;

use crate::blob::Digest;
use crate::reference::Reference;

/// Why some text is no reference.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseReferenceError {
    /// It names no repository.
    #[error(
        "`{text}` is no reference ({reason}): use `registry.example/name:tag`, or `oci:DIR:tag` for an image layout"
    )]
    Name {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It names no directory.
    #[error("`{text}` names no directory: use `oci:DIR:tag`")]
    NoDirectory {
        /// The text.
        text: String,
    },
    /// The tag has characters that no tag has, or too many.
    #[error(
        "`{text}` is no tag: use at most 128 letters, digits, `_`, `.` and `-`, the first of them a letter, a digit or `_`"
    )]
    Tag {
        /// The tag.
        text: String,
    },
    /// The digest is of another kind, or cut short.
    #[error("`{text}` is no digest: use `sha256:` and 64 hexadecimal digits in lower case")]
    Digest {
        /// The digest.
        text: String,
    },
}

/// Why a snapshot could not be pushed. Some of its layers may be there already; the tag is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The file, or one of its parents, is no snapshot that can be loaded.
    #[error(transparent)]
    Snapshot(#[from] LoadSnapshotError),
    /// A file cannot be read.
    #[error("snapshot file `{}` cannot be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// The guest has so many functions that what is said of them is too long.
    #[error(
        "the description of the snapshot has {size} bytes, and at most {most} are possible: export or import fewer functions"
    )]
    TooManyFunctions {
        /// Bytes that it has.
        size: u64,
        /// Bytes that it may have.
        most: u64,
    },
    /// The reference is one of a digest.
    #[error("`{reference}` names a digest, which follows from what is pushed: name a tag")]
    Digest {
        /// The reference.
        reference: Reference,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image layout failed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Why a snapshot could not be pulled. What was under its name is as it was; some of its parents may have arrived.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PullError {
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image layout failed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// It is another artifact, or a container image.
    #[error("`{reference}` is no snapshot, but `{found}`")]
    NotASnapshot {
        /// The reference.
        reference: Reference,
        /// Its type.
        found: String,
    },
    /// The manifest is not as it has to be.
    #[error("the manifest of `{reference}` is malformed: {reason}")]
    Manifest {
        /// The reference.
        reference: Reference,
        /// What is wrong.
        reason: String,
    },
    /// The manifest has no layers, or too many.
    #[error("`{reference}` has {found} layers, where 1 to {most} are possible")]
    Layers {
        /// The reference.
        reference: Reference,
        /// Layers that it has.
        found: usize,
        /// Layers that it may have.
        most: usize,
    },
    /// The description of the layers is not as it has to be.
    #[error("the configuration of `{reference}` is malformed: {reason}")]
    Config {
        /// The reference.
        reference: Reference,
        /// What is wrong.
        reason: String,
    },
    /// It is larger than is wanted.
    #[error("`{reference}` has {size} bytes, and the limit is {limit}: raise it with `Options::size_limit`")]
    TooLarge {
        /// The reference.
        reference: Reference,
        /// Bytes of all files.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A blob was not received in full.
    #[error("blob {blob} was not received in full: {reason}; try again")]
    Receive {
        /// The blob.
        blob: Digest,
        /// What went wrong.
        reason: io::Error,
    },
    /// A blob has another length than the manifest says.
    #[error("blob {blob} should have {expected} bytes, and has {}{found}", if *is_longer { "at least " } else { "" })]
    Length {
        /// The blob.
        blob: Digest,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that were received.
        found: u64,
        /// Whether there would have been more.
        is_longer: bool,
    },
    /// A blob or a manifest is another one than was asked for.
    #[error("what was sent for {expected} is {found}: it was damaged or exchanged on the way")]
    Damaged {
        /// What was asked for.
        expected: Digest,
        /// What was sent.
        found: Digest,
    },
    /// A layer is no snapshot file that this version can load.
    #[error("layer {layer} of `{reference}` cannot be used: {reason}")]
    Layer {
        /// The reference.
        reference: Reference,
        /// Which layer, from 1 on.
        layer: usize,
        /// Why the file, which has a temporary name, is none.
        reason: Box<LoadSnapshotError>,
    },
    /// A layer is another snapshot than the configuration says, or the difference from another one.
    #[error("layer {layer} of `{reference}` is not the snapshot that its configuration says: push it again")]
    WrongSnapshot {
        /// The reference.
        reference: Reference,
        /// Which layer, from 1 on.
        layer: usize,
    },
    /// The file is to have the name that one of its parents has to have.
    #[error("`{}` is the name of a parent of this snapshot: use another one", path.display())]
    NameOfParent {
        /// The name.
        path: PathBuf,
    },
    /// The file, or one of a parent beside it, cannot be written.
    #[error("snapshot file `{}` cannot be written: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
}

/// Why a registry did not do what it was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no connection, or it broke off.
    #[error("registry `{registry}` cannot be reached: {reason}")]
    Connection {
        /// Host and port.
        registry: String,
        /// What went wrong.
        reason: String,
    },
    /// There is no secure connection.
    #[error(
        "registry `{registry}` has no secure connection: {reason}; one without TLS, on this machine, is reached with \
         `Options::plain_http`"
    )]
    Tls {
        /// Host and port.
        registry: String,
        /// What went wrong.
        reason: String,
    },
    /// Docker's configuration has credentials that cannot be used.
    #[error(
        "the credentials for registry `{registry}` cannot be used: {reason}; `docker login {registry}` renews them"
    )]
    Credentials {
        /// Host and port.
        registry: String,
        /// What went wrong.
        reason: String,
    },
    /// The registry wants other credentials.
    #[error(
        "registry `{registry}` does not grant access to `{repository}` ({status}): check the name and the credentials, which \
         `docker login {registry}` stores"
    )]
    Denied {
        /// Host and port.
        registry: String,
        /// The repository.
        repository: String,
        /// The status of the answer, 401 or 403.
        status: u16,
    },
    /// There is no such thing.
    #[error("there is no `{what}` in registry `{registry}`")]
    NotFound {
        /// Host and port.
        registry: String,
        /// A reference or a blob.
        what: String,
    },
    /// The registry answered with another error.
    #[error("registry `{registry}` answered {status} to `{request}`: {reason}")]
    Status {
        /// Host and port.
        registry: String,
        /// What it was asked for.
        request: String,
        /// The status of the answer.
        status: u16,
        /// What it says about it.
        reason: String,
    },
    /// The answer is longer than any such answer is.
    #[error("registry `{registry}` answered `{request}` with more than {most} bytes")]
    TooLong {
        /// Host and port.
        registry: String,
        /// What it was asked for.
        request: String,
        /// Bytes that an answer may have.
        most: u64,
    },
    /// The answer is not what the protocol says.
    #[error("registry `{registry}` does not follow the protocol: {reason}")]
    Protocol {
        /// Host and port.
        registry: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// Why an image layout does not hold what was looked for, or could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The directory is none.
    #[error("directory `{}` is no image layout: it has no `oci-layout`", directory.display())]
    NotALayout {
        /// The directory.
        directory: PathBuf,
    },
    /// It is of another version.
    #[error("`{}` has version {found} of image layouts, and only 1.0.0 is read", path.display())]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// The version.
        found: String,
    },
    /// It has nothing of this name.
    #[error("there is no `{what}` in the image layout `{}`", directory.display())]
    NotFound {
        /// The directory.
        directory: PathBuf,
        /// A tag or a digest.
        what: String,
    },
    /// One of its files is not as it has to be.
    #[error("`{}` is malformed: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One of its files is longer than any such file is.
    #[error("`{}` has more than {most} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Bytes that it may have.
        most: u64,
    },
    /// One of its files cannot be read.
    #[error("`{}` cannot be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// One of its files cannot be written.
    #[error("`{}` cannot be written: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said, or that what was to be written has changed meanwhile.
        reason: io::Error,
    },
}
