use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::Guest;
use crate::script::BuildScript;

/// Gives a nested cargo the environment of the build script, without what is meant for the host.
///
/// `CARGO_MAKEFLAGS` stays: by it the nested cargo and the outer one share their limit of parallel jobs.
pub(super) fn prepare(command: &mut Command, script: &BuildScript, guest: &Guest) {
    for (name, value) in env::vars_os() {
        if is_for_host(&name.to_string_lossy(), &value) {
            command.env_remove(name);
        }
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", guest.flags().collect::<Vec<_>>().join(ENCODED_SEPARATOR));
    command.env("RUSTC", &script.rustc);
    command.envs(guest.env.iter().map(|(name, value)| (name, value)));
}

fn is_for_host(name: &str, value: &OsStr) -> bool {
    match name {
        "RUSTC_WRAPPER" | "CARGO_BUILD_RUSTC_WRAPPER" => is_analyzer(value),
        _ => HOST_VARIABLES.contains(&name) || HOST_PREFIXES.iter().any(|prefix| name.starts_with(prefix)),
    }
}

/// Distinguishes programs that take rustc's place to look at code from those that compile, such as sccache.
fn is_analyzer(wrapper: &OsStr) -> bool {
    Path::new(wrapper).file_stem().is_some_and(|name| ANALYZERS.iter().any(|analyzer| name == *analyzer))
}

const ANALYZERS: [&str; 2] = ["clippy-driver", "rust-analyzer"];

/// What cargo sets for build scripts and for the programs it runs, and what chooses flags, tools, target and directories of
/// the host's build (The Cargo Book, "Environment Variables"). A guest's build scripts and `option_env!` would see it.
const HOST_VARIABLES: [&str; 24] = [
    "CARGO_BIN_NAME",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_CRATE_NAME",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_DIR",
    "CARGO_TARGET_TMPDIR",
    "DEBUG",
    "HOST",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "TARGET",
];

const HOST_PREFIXES: [&str; 5] = ["CARGO_BIN_EXE_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_", "DEP_"];

/// Between the flags in `CARGO_ENCODED_RUSTFLAGS`.
const ENCODED_SEPARATOR: &str = "\x1f";

#[cfg(test)]
mod tests;
