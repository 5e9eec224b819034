use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::BuildError;
use crate::target::GLIBC;

/// What cargo lets a build script know of itself and the host.
#[derive(Clone, Debug)]
pub(crate) struct BuildScript {
    /// Directory of the host's package.
    pub(crate) package_dir: PathBuf,
    /// Where the build script may write.
    pub(crate) out_dir: PathBuf,
    pub(crate) cargo: PathBuf,
    pub(crate) rustc: PathBuf,
    /// Target triple of the machine that builds.
    pub(crate) machine: String,
    /// The linker that cargo's configuration names for [`GLIBC`].
    pub(crate) glibc_linker: Option<OsString>,
    /// The directory of images that are to be taken instead of built ones ([`PREBUILT_GUESTS`]).
    pub(crate) prebuilt_guests: Option<PathBuf>,
    /// The directory that gets a copy of the images that are built ([`SAVE_GUESTS`]).
    pub(crate) save_guests: Option<PathBuf>,
    /// Whether this is a build of documentation on docs.rs.
    pub(crate) docs_rs: bool,
}

impl BuildScript {
    pub(crate) fn from_env() -> Result<Self, BuildError> {
        let package_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
        let users_dir = |variable| env::var_os(variable).filter(|dir| !dir.is_empty()).map(|dir| package_dir.join(dir));
        Ok(Self {
            prebuilt_guests: users_dir(PREBUILT_GUESTS),
            save_guests: users_dir(SAVE_GUESTS),
            package_dir,
            out_dir: variable("OUT_DIR")?.into(),
            cargo: variable("CARGO")?.into(),
            rustc: variable("RUSTC")?.into(),
            machine: variable("HOST")?.to_string_lossy().into_owned(),
            glibc_linker: glibc_linker(),
            docs_rs: env::var_os("DOCS_RS").is_some(),
        })
    }

    /// Where the target directories of guests are. The host's own is locked by the cargo that runs the build script.
    ///
    /// A build script gets another `OUT_DIR` for `cargo check` than for `cargo build`, and each host of a workspace has its own,
    /// so that guests are built beside all of these, once for all of them. Where cargo keeps `OUT_DIR` elsewhere than it does
    /// today, each has its own.
    pub(crate) fn guests_dir(&self) -> PathBuf {
        let of_profile = self.out_dir.ancestors().skip(1).take(MAX_DEPTH).find(|dir| dir.ends_with("build"));
        of_profile.and_then(Path::parent).unwrap_or(&self.out_dir).join("ampoule-guests")
    }
}

/// Cargo passes a build script the linker of the host's target only; that of another target is known when it was configured by
/// an environment variable.
fn glibc_linker() -> Option<OsString> {
    let host_is_glibc = env::var_os("TARGET").is_some_and(|target| target == GLIBC);
    env::var_os("RUSTC_LINKER").filter(|_| host_is_glibc).or_else(|| env::var_os(GLIBC_LINKER_VARIABLE))
}

fn variable(variable: &'static str) -> Result<OsString, BuildError> {
    env::var_os(variable).ok_or(BuildError::NotABuildScript { variable })
}

/// The user's variable that replaces the build of guests by images that are there already.
pub(crate) const PREBUILT_GUESTS: &str = "AMPOULE_PREBUILT_GUESTS";

/// The user's variable by which the images that are built are kept for other builds.
pub(crate) const SAVE_GUESTS: &str = "AMPOULE_SAVE_GUESTS";

/// How far below `build` cargo keeps an `OUT_DIR`: `build/PACKAGE-HASH/out` (The Cargo Book, "Build cache"), or a directory more
/// in the layout that is to follow.
const MAX_DEPTH: usize = 3;

const GLIBC_LINKER_VARIABLE: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER";

#[cfg(test)]
mod tests;
