//! Builds Ampoule guests from a host's build script.
//!
//! A guest is an ordinary binary package. The host names it in its `build.rs`,
//!
//! ```no_run
//! // build.rs, in `main`
//! ampoule_build::guest("../guest").build();
//! ```
//!
//! with `ampoule-build` among its `[build-dependencies]`, and embeds the image with
//! `ampoule::include_guest!("guest")`, where `guest` is the name of the binary.
//!
//! # What is built
//!
//! The guest is built by the cargo and the rustc that build the host, for x86-64 Linux whatever the host is built for, and
//! with the profile `release` unless [`Guest::profile`] says otherwise: a debug build of a host embeds an optimized guest.
//! It has line tables, so that a fault or a panic names source lines, unless the profile (or one that it inherits from), a
//! cargo configuration file or the environment sets `debug` or `strip`. They cost nothing at run time, and take some five
//! megabytes of the image, most of them for the standard library; `debug = false` in the profile leaves them out.
//! The image is a static, position-independent executable none of whose segments is both writable and executable.
//!
//! The C library that is linked in is musl's when the target `x86_64-unknown-linux-musl` is installed (such guests start
//! fastest), and otherwise the static library of the system's glibc. Where there is neither,
//! [`BuildError::NoStaticLibc`] says what to install.
//!
//! The guest has a target directory of its own, so it may be a member of the host's workspace; then the workspace's
//! profiles and `Cargo.lock` apply to it. Cargo configuration files apply as if cargo was started in the guest's directory,
//! with one exception: **`rustflags` from configuration files and from the environment do not reach the guest**, since it
//! needs flags of its own and cargo takes flags from one source only. Name additional flags with [`Guest::rustflag`].
//!
//! Of the environment, what cargo or a tool such as Clippy set for the host alone is kept from the guest; everything else
//! is passed on, `RUSTC_WRAPPER` (sccache), `CARGO_NET_OFFLINE` and `CARGO_PROFILE_*` among it.
//! A build script cannot see that cargo was started with `--locked` or `--offline`; see [`Guest::locked`] and
//! [`Guest::offline`].
//!
//! # What a user sees
//!
//! Cargo shows nothing of a build script that runs, so the first build of a guest may look like a pause. With `cargo build
//! -vv` cargo shows the messages of the guest's build as they come, and how long it took. A build of ten seconds or more is
//! mentioned in a warning when it has ended; cargo repeats that warning, which is of the last build, until the build script
//! runs again. Where a build
//! fails, all messages are shown.
//!
//! # Guests that are built already
//!
//! - [`prebuilt`] embeds a file: the image of a guest in another language, or one that another program builds.
//! - [`Guest::or_prebuilt`] is for hosts that are published with the images of their guests. Where the guest's package is
//!   missing, its images are taken instead.
//! - The environment variable `AMPOULE_PREBUILT_GUESTS` is for those who build a host that they have not written: it names a
//!   directory with an image for each binary; no guest is built then. [`prebuilt`] does not look at it.
//!
//! `AMPOULE_SAVE_GUESTS` names a directory that gets a copy of each image that is built. A relative path in either variable is
//! relative to the directory of the host's package. How to publish a host with its guests, as sources or as images, is
//! described in [`docs/shipping.md`](https://github.com/ampoule-rs/ampoule/blob/main/docs/shipping.md).
//!
//! # When it is built again
//!
//! When a source file of the guest or of one of its path dependencies changes, a file that they include or that their
//! build scripts name, one of the manifests, `Cargo.lock`, or a cargo configuration file. A change of an environment
//! variable that the guest's sources read is not noticed; pass such values with [`Guest::env`].
//!
//! Guests are built under `cargo check`, `cargo clippy` and `cargo doc` too, since the host does not compile without an
//! image. On docs.rs (where the environment variable `DOCS_RS` is set) nothing is built, and the images are empty files.

mod announced;
mod artifact;
mod cargo;
mod error;
mod guest;
mod inputs;
mod place;
mod prebuilt;
mod progress;
mod script;
mod target;

#[cfg(test)]
mod testing;

pub use artifact::Artifact;
pub use error::{BuildError, NoGlibc};
pub use guest::{Guest, guest};
pub use prebuilt::{Prebuilt, prebuilt};
