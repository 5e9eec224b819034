//! Snapshot files of Ampoule in registries of container images, and in image layouts.
//!
//! [`push`] stores a snapshot as an artifact, [`pull`] brings it to another machine, and `ampoule` loads it there:
//!
//! ```no_run
//! use ampoule::SnapshotFile;
//! use ampoule_oci::{Options, Reference, pull, push};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reference: Reference = "registry.example/workers/python:1".parse()?;
//! push("python.snap", &reference, &Options::new())?;
//!
//! pull(&reference, "/var/lib/workers/python.snap", &Options::new())?;
//! let ready = SnapshotFile::new("/var/lib/workers/python.snap").program()?;
//! # Ok(()) }
//! ```
//!
//! **Layers.** Each file is a layer: the snapshot, and those that it is stored as a difference from
//! ([`SaveOptions::parent`](ampoule::SaveOptions::parent)). Layers are known by their digests, and neither sent nor fetched again
//! where they already are. So a fleet that has a snapshot downloads of its successors what differs.
//!
//! **What is trusted.** Nothing of what a registry or a layout sends: sizes and digests are compared, answers are bounded, files
//! are named by digests. What has arrived is a snapshot file, as untrusted as an image, which is checked when it is loaded. A
//! tag is whatever the registry says; who wants one certain snapshot pulls it by its digest.
//!
//! **Functions block** until all is done or has failed, and need no runtime. A program of tasks calls them where it may block, for
//! example by `tokio::task::spawn_blocking`.
//!
//! [`docs/oci.md`](https://github.com/ampoule-rs/ampoule/blob/main/docs/oci.md) describes what is stored.

mod artifact;
mod blob;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod layout;
mod new_file;
mod options;
mod pull;
mod push;
mod reference;
mod registry;
mod store;
mod text;

#[cfg(test)]
mod error_tests;

pub use blob::Digest;
pub use error::{LayoutError, ParseReferenceError, PullError, PushError, RegistryError};
pub use options::Options;
pub use pull::{Pulled, PulledLayer, pull};
pub use push::{Pushed, PushedLayer, push};
pub use reference::Reference;
