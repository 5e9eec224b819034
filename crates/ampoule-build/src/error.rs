use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use thiserror::Error;

/// Why a guest was not built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A variable that cargo sets for build scripts is missing.
    #[error(
        "the environment variable `{variable}` is not set: guests are built from a build script (`build.rs`) that cargo runs"
    )]
    NotABuildScript {
        /// The variable.
        variable: &'static str,
    },

    /// There is no package at the path given to [`guest`](crate::guest).
    #[error(
        "no guest package at `{}` ({reason}); the path given to `ampoule_build::guest` is relative to the host's package",
        manifest.display()
    )]
    GuestNotFound {
        /// The manifest that should be there.
        manifest: PathBuf,
        /// What the file system said.
        reason: io::Error,
    },

    /// The manifest describes a workspace without a package in its root.
    #[error("`{}` is a workspace and no package; name the directory of the guest's package", manifest.display())]
    NotAPackage {
        /// The manifest.
        manifest: PathBuf,
    },

    /// The package has no binary at all.
    #[error(
        "the guest package `{package}` has no binary; a guest is a program, with a `src/main.rs` or a `[[bin]]` in its `Cargo.toml`"
    )]
    NoBinary {
        /// Name of the package.
        package: String,
    },

    /// The package has binaries, but not one that [`Guest::bin`](crate::Guest::bin) named.
    #[error("the guest package `{package}` has no binary `{bin}`; it has `{}`", available.join("`, `"))]
    UnknownBinary {
        /// Name of the package.
        package: String,
        /// The binary that was asked for.
        bin: String,
        /// The binaries that the package has.
        available: Vec<String>,
    },

    /// Every binary has `required-features` that were not asked for.
    #[error(
        "all binaries of the guest package `{package}` have `required-features` that are not enabled; enable them with `Guest::features`"
    )]
    MissingFeatures {
        /// Name of the package.
        package: String,
    },

    /// The guest was built, but without the crate that makes functions of a guest callable.
    #[error(
        "`ampoule-guest` is not among the dependencies of the guest, so that no host can call it; \
         add it with `cargo add ampoule-guest --manifest-path '{}'`",
        manifest.display()
    )]
    NoGuestLibrary {
        /// Manifest of the guest.
        manifest: PathBuf,
    },

    /// Two guests of one build script have the same name.
    #[error(
        "this build script has two guests called `{name}`; rename a binary, or choose with `Guest::bin` which ones are built"
    )]
    NameTaken {
        /// The name.
        name: String,
    },

    /// The name given to [`prebuilt`](crate::prebuilt) cannot be that of a file and of an environment variable.
    #[error("{name:?} cannot be a guest's name; give it one without `/`, `\\`, `=`, backticks and control characters")]
    InvalidName {
        /// The name.
        name: String,
    },

    /// A prebuilt image is missing or cannot be read.
    #[error(
        "cannot read the prebuilt image `{}` ({reason}); place it there under the name of its binary, or correct what says \
         where it is: the build script, or the environment variable `AMPOULE_PREBUILT_GUESTS`",
        path.display()
    )]
    Prebuilt {
        /// Where the image should be.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },

    /// There is neither a package to build nor an image to take instead.
    #[error(
        "there is no guest package at `{}`, and no prebuilt image in `{}`; a package that is published needs one of the two",
        manifest.display(), dir.display()
    )]
    NothingPrebuilt {
        /// The manifest of the package that could be built.
        manifest: PathBuf,
        /// The directory given to [`Guest::or_prebuilt`](crate::Guest::or_prebuilt).
        dir: PathBuf,
    },

    /// Neither musl nor glibc's static library is installed.
    #[error(
        "there is no C library to link a guest with ({glibc}). Install one of these:\n\
         \x20 - musl, with which guests start fastest: `rustup target add x86_64-unknown-linux-musl`\n\
         \x20 - glibc's static library, on x86-64 Linux: package `libc6-dev` (Debian, Ubuntu), `glibc-static` (Fedora), \
         `glibc-devel-static` (openSUSE), `glibc` (Arch)"
    )]
    NoStaticLibc {
        /// Why glibc cannot be used.
        glibc: NoGlibc,
    },

    /// The guest, or a crate it depends on, does not compile or link. The messages of the compiler were written to the
    /// standard error stream.
    #[error(
        "the guest package `{package}` does not compile; the compiler's messages are above{}",
        if *lacks_guest_library { "; its `Cargo.toml` lacks `ampoule-guest`, which `cargo add ampoule-guest` adds" } else { "" }
    )]
    Compile {
        /// Name of the package.
        package: String,
        /// Whether `ampoule-guest` is missing among the package's own dependencies.
        lacks_guest_library: bool,
    },

    /// Cargo gave up before it compiled anything, because of a manifest, a lock file or a feature that does not exist, for
    /// instance. Its message was written to the standard error stream.
    #[error("cargo could not build the guest `{}` ({status}); its message is above", manifest.display())]
    Cargo {
        /// Manifest of the guest.
        manifest: PathBuf,
        /// How cargo ended.
        status: ExitStatus,
    },

    /// A program that is needed could not be started, or its output could not be read.
    #[error("cannot run `{}`: {reason}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },

    /// The output of `cargo metadata` is not what this crate knows.
    #[error("`cargo metadata` printed something unexpected for `{}`: {reason}", manifest.display())]
    Metadata {
        /// Manifest of the guest.
        manifest: PathBuf,
        /// Where the output differs.
        reason: serde_json::Error,
    },

    /// A file of the guest's build could not be read.
    #[error("cannot read `{}`: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },

    /// The image could not be written to the host's output directory, or to the one that the user names.
    #[error("cannot write `{}`: {reason}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
}

/// Why a guest cannot be linked with glibc.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoGlibc {
    /// The Rust standard library for glibc on x86-64 is not installed.
    #[error("rustc has no standard library for the target `x86_64-unknown-linux-gnu`")]
    NoStd,

    /// This machine is another one than x86-64 Linux with glibc, and cargo's configuration names no linker for it.
    #[error(
        "this is no x86-64 Linux machine with glibc, and no linker is configured for the target `x86_64-unknown-linux-gnu`"
    )]
    NoCrossLinker,

    /// The linker could not be started.
    #[error("the linker `{linker}` cannot be run; install a C compiler")]
    NoLinker {
        /// The linker, a program that is used like a C compiler.
        linker: String,
    },

    /// The linker does not find a file of the static glibc.
    #[error("the linker `{linker}` does not find `{file}`")]
    NoFile {
        /// The linker, a program that is used like a C compiler.
        linker: String,
        /// The file.
        file: &'static str,
    },
}

#[cfg(test)]
mod tests;
