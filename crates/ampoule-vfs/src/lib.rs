//! The files that a sealed program sees: one tree, made of memory and of what it is granted of the host.
//!
//! A [`Vfs`] is that tree, with the semantics of Linux: paths are bytes, and errors are [`Errno`]s. It has a root, and
//! mounts on it:
//!
//! - *memory*, bounded by a [`Quota`], whose clones share what neither has changed;
//! - a *host directory, read-only*;
//! - a *host directory under memory*: the program sees the directory and changes only what it sees;
//! - a *host directory, read-write*;
//! - a single *host file, read-only*;
//! - `/dev` and `/proc`, whose files are names for what the caller makes of them ([`Special`]).
//!
//! [`Builder`] puts them together. Without a grant nothing of the host is there.
//!
//! # What the program can reach
//!
//! A host directory is a capability. Paths are walked here, and each step opens what is beneath a held directory, by
//! `openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS` and `RESOLVE_NO_MAGICLINKS`. Symbolic links are read and followed
//! within the sandbox's tree: an absolute one starts at its root. `..` leads to where the walk came from. Devices, sockets
//! and pipes of the host can be seen, and are never opened. What is mounted within a granted directory belongs to it.
//!
//! Directories of the host that are only read are searched under the user that the host process runs as. Files are opened
//! where that user may, and the guest's own permissions allow it: what belongs to the one user is shown as belonging to the
//! other.
//!
//! # Clones
//!
//! To clone a [`Vfs`] copies a few pointers. What one of the clones changes in memory the others do not see; what they write
//! to host directories they share, as processes do. A [`File`] is a number and, for files of the host, a shared descriptor,
//! so it goes on working with a clone of the tree that it was opened in: a snapshot keeps both.
//!
//! # Time and identity
//!
//! The caller gives the guest's time and its process with every operation that needs them ([`Context`]). The guest is the
//! user and the group [`USER_ID`], and has no privileges: what it may do depends on the permissions of files, whose mask
//! (`umask`) the caller has already applied.
//!
//! ```
//! use ampoule_vfs::{Builder, Context, NoProcess, Quota, Timestamp};
//! use linux_raw_sys::general::{O_CREAT, O_RDWR};
//!
//! let mut vfs = Builder::new().memory("/", Quota { bytes: 1 << 20, inodes: 100 }).build()?;
//! let context = Context { now: Timestamp::default(), process: &NoProcess };
//! let root = vfs.root();
//! let file = vfs.open(&context, &root, b"/greeting", O_RDWR | O_CREAT, 0o644)?;
//! vfs.write_at(&context, &file, b"Hello", 0)?;
//!
//! let snapshot = vfs.clone();
//! vfs.write_at(&context, &file, b"J", 0)?;
//!
//! let mut text = [0; 5];
//! vfs.read_at(&file, &mut text, 0)?;
//! assert_eq!(&text, b"Jello");
//! snapshot.read_at(&file, &mut text, 0)?;
//! assert_eq!(&text, b"Hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod attributes;
mod builder;
mod errno;
#[cfg(test)]
mod error_tests;
mod host;
mod io;
mod listing;
mod lower_names;
mod mappings;
mod memory;
mod metadata;
mod mount;
mod names;
mod open;
mod overlay;
mod path;
mod process;
mod sparse;
mod special;
mod stored;
mod vfs;
mod walk;

pub use builder::{BuildError, Builder, Quota};
pub use errno::Errno;
pub use host::HostIdentity;
pub use io::{Allocation, HostFile, Seek};
pub use listing::DirectoryEntry;
pub use metadata::{DeviceNumber, FileSystemStatus, FileType, Metadata, TimeChange, Timestamp};
pub use mount::{MountInfo, MountKind};
pub use names::NodeKind;
pub use open::File;
pub use process::{Context, Descriptor, NoProcess, ProcessView};
pub use special::{Device, Mapping, ProcessFile, Special, SystemFile};
pub use stored::{RestoreFilesError, StoreFilesError, StoredFiles, StoredPlace};
pub use vfs::{Location, Vfs};
pub use walk::{Follow, Resolve};

/// The user and the group that the guest is.
pub const USER_ID: u32 = 1000;

/// The longest name, in bytes (`NAME_MAX` of Linux's `include/uapi/linux/limits.h`).
pub const NAME_MAX: usize = 255;

/// The longest path, in bytes, without the zero that ends it (`PATH_MAX`).
pub const PATH_MAX: usize = 4095;

/// The size of the largest file in memory, in bytes: a page less than what a signed number holds (`MAX_LFS_FILESIZE`).
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;
