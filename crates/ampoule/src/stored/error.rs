//! Why a snapshot cannot be saved or loaded.

use std::io;
use std::path::PathBuf;

use ampoule_vfs::{Errno, RestoreFilesError};
use ampoule_vmm::{BaselineError, OpenError, WithAdvice};
use thiserror::Error;

use super::format::{SnapshotDigest, VERSION};
use crate::files::FilesError;
use crate::image::ImageError;
use crate::machine::OutOfRange;

/// Why a snapshot could not be saved. What was under its name is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SaveSnapshotError {
    /// The guest has or does what a file cannot hold.
    #[error("the snapshot cannot be saved, since its guest {what}: take one before it does, or after it is done")]
    Unstorable {
        /// What that is.
        what: String,
    },
    /// The snapshot that it was to be saved as a difference from cannot be loaded.
    #[error("the snapshot cannot be saved as a difference from its parent: {0}")]
    Parent(Box<LoadSnapshotError>),
    /// The other snapshot is of another image, or of another size.
    #[error(
        "the snapshot cannot be saved as a difference from `{}`, which is of another image, or has more or less memory: \
         save it as a whole",
        parent.display()
    )]
    ForeignParent {
        /// The other snapshot.
        parent: PathBuf,
    },
    /// The file cannot be written.
    #[error("snapshot file `{}` cannot be written: {}", path.display(), WithAdvice(reason))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
}

/// Why a snapshot could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadSnapshotError {
    /// The file cannot be read.
    #[error("snapshot file `{}` cannot be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// It is no snapshot.
    #[error("`{}` is not a snapshot file", path.display())]
    NotASnapshot {
        /// The file.
        path: PathBuf,
    },
    /// It is of another version of the format.
    #[error(
        "snapshot file `{}` has version {found} of the format, and this version of Ampoule reads {VERSION}: save it again",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version.
        found: u32,
    },
    /// It is of a guest for another architecture.
    #[error("the guest in snapshot file `{}` is for another architecture (ELF machine {found})", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// Its number in ELF files (`e_machine`).
        found: u32,
    },
    /// It has been cut short, or something has been added to it.
    #[error(
        "snapshot file `{}` should have {expected} bytes, and has {found}: it was not copied in full, or something was added",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// It is larger than is wanted.
    #[error(
        "the snapshot in file `{}` takes {size} bytes, and the limit is {limit}: raise it with `SnapshotFile::size_limit`",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that it takes when it is loaded.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// It does not hold what its digests say.
    #[error("snapshot file `{}` is damaged: its {part} does not match its digest; copy or save it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which part.
        part: &'static str,
    },
    /// It holds what its digests say, and that is no guest.
    #[error("snapshot file `{}` holds no guest: {reason}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The guest may use what this machine's processor does not have.
    #[error(
        "the guest in snapshot file `{}` was prepared on a processor with {}, which this one does not have: prepare it on one \
         that has no more than all that it is to run on, or allow it with `SnapshotFile::any_processor` if the guest uses none \
         of these",
        path.display(),
        missing.join(", ")
    )]
    Processor {
        /// The file.
        path: PathBuf,
        /// What is missing, by the names of `/proc/cpuinfo`.
        missing: Vec<String>,
    },
    /// The snapshot that it is a difference from is not there.
    #[error(
        "snapshot file `{}` is a difference from snapshot {parent}, which is not in its directory: name its file with \
         `SnapshotFile::parent`",
        path.display()
    )]
    MissingParent {
        /// The file.
        path: PathBuf,
        /// The other snapshot.
        parent: SnapshotDigest,
    },
    /// It is a difference from a difference, and so on.
    #[error("snapshot file `{}` has more than {limit} parents above each other: save it as a whole", path.display())]
    TooManyParents {
        /// The file at the end of so many.
        path: PathBuf,
        /// How many there may be.
        limit: usize,
    },
    /// It is of a program, and not of a guest that can be called, or the reverse.
    #[error(
        "snapshot file `{}` is of a {}: load it with `{}`",
        path.display(),
        if *is_program { "program that waits for its input" } else { "guest that waits for a call" },
        if *is_program { "ProgramSnapshot::load" } else { "Snapshot::load" }
    )]
    Kind {
        /// The file.
        path: PathBuf,
        /// Whether it is of a program.
        is_program: bool,
    },
    /// The program had a file open that is not among its files.
    #[error(
        "the program in snapshot file `{}` had `{file}` open, which it cannot open now: {}; grant what it was granted with \
         `SnapshotFile::files`",
        path.display(),
        reason
    )]
    File {
        /// The file of the snapshot.
        path: PathBuf,
        /// The path in the sandbox.
        file: String,
        /// What opening it gives.
        reason: Errno,
    },
    /// The program had files in memory for which it has no room now.
    #[error(
        "the program in snapshot file `{}` needs more room: {reason}; grant what it was granted with `SnapshotFile::files`",
        path.display()
    )]
    Room {
        /// The file.
        path: PathBuf,
        /// Where the room is missing.
        reason: RestoreFilesError,
    },
    /// Its image cannot be run here.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The program cannot be given its files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A size is out of its range.
    #[error("the guest in the snapshot file has {} bytes for `{}`, where {} to {} are possible", .0.given, .0.setting, .0.least, .0.most)]
    Setting(OutOfRange),
    /// The host has no memory for it.
    #[error("no memory for the {what} of {bytes} bytes: {}", WithAdvice(reason))]
    Memory {
        /// What the memory is for.
        what: &'static str,
        /// How much.
        bytes: usize,
        /// What the operating system said.
        reason: io::Error,
    },
    /// The hypervisor cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be tried out whether guests can be limited to the baseline that it was prepared with.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
}
