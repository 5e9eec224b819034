use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::BuildError;
use crate::target::GLIBC;

/// What cargo lets a build script know of itself and the host.
#[derive(Debug, Clone)]
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
    /// Whether this is a build of documentation on docs.rs.
    pub(crate) docs_rs: bool,
}

impl BuildScript {
    pub(crate) fn from_env() -> Result<Self, BuildError> {
        Ok(Self {
            package_dir: variable("CARGO_MANIFEST_DIR")?.into(),
            out_dir: variable("OUT_DIR")?.into(),
            cargo: variable("CARGO")?.into(),
            rustc: variable("RUSTC")?.into(),
            machine: variable("HOST")?.to_string_lossy().into_owned(),
            glibc_linker: glibc_linker(),
            docs_rs: env::var_os("DOCS_RS").is_some(),
        })
    }

    /// Target directory of guests. The host's own is locked by the cargo that runs the build script.
    pub(crate) fn target_dir(&self) -> PathBuf {
        self.out_dir.join("ampoule-target")
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

const GLIBC_LINKER_VARIABLE: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER";
