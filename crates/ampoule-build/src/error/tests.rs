use std::os::unix::process::ExitStatusExt;

use ampoule_error_rule::{REASON, check, each_variant, refusal};
use serde::de::Error as _;

use super::*;

#[test]
fn all_errors_say_everything_once() {
    let (manifest, path) = (|| PathBuf::from("guest/Cargo.toml"), || PathBuf::from("image"));
    let package = || "guest".to_owned();
    each_variant!(BuildError {
        BuildError::NotABuildScript { .. } => BuildError::NotABuildScript { variable: "OUT_DIR" },
        BuildError::GuestNotFound { .. } => BuildError::GuestNotFound { manifest: manifest(), reason: refusal() },
        BuildError::NotAPackage { .. } => BuildError::NotAPackage { manifest: manifest() },
        BuildError::NoBinary { .. } => BuildError::NoBinary { package: package() },
        BuildError::UnknownBinary { .. } =>
            BuildError::UnknownBinary { package: package(), bin: "a".to_owned(), available: vec!["b".to_owned()] },
        BuildError::MissingFeatures { .. } => BuildError::MissingFeatures { package: package() },
        BuildError::NoGuestLibrary { .. } => BuildError::NoGuestLibrary { manifest: manifest() },
        BuildError::NameTaken { .. } => BuildError::NameTaken { name: package() },
        BuildError::InvalidName { .. } => BuildError::InvalidName { name: "a/b".to_owned() },
        BuildError::Prebuilt { .. } => BuildError::Prebuilt { path: path(), reason: refusal() },
        BuildError::NothingPrebuilt { .. } => BuildError::NothingPrebuilt { manifest: manifest(), dir: path() },
        BuildError::NoStaticLibc { .. } => BuildError::NoStaticLibc { glibc: NoGlibc::NoStd },
        BuildError::Compile { .. } => BuildError::Compile { package: package(), lacks_guest_library: true },
        BuildError::Cargo { .. } => BuildError::Cargo { manifest: manifest(), status: ExitStatus::from_raw(0x100) },
        BuildError::Run { .. } => BuildError::Run { program: path(), reason: refusal() },
        BuildError::Metadata { .. } =>
            BuildError::Metadata { manifest: manifest(), reason: serde_json::Error::custom(REASON) },
        BuildError::Read { .. } => BuildError::Read { path: path(), reason: refusal() },
        BuildError::Write { .. } => BuildError::Write { path: path(), reason: refusal() },
    });
    check(&BuildError::Compile { package: package(), lacks_guest_library: false });
    let linker = || "cc".to_owned();
    each_variant!(NoGlibc {
        NoGlibc::NoStd => NoGlibc::NoStd,
        NoGlibc::NoCrossLinker => NoGlibc::NoCrossLinker,
        NoGlibc::NoLinker { .. } => NoGlibc::NoLinker { linker: linker() },
        NoGlibc::NoFile { .. } => NoGlibc::NoFile { linker: linker(), file: "libc.a" },
    });
    let error = BuildError::NoStaticLibc { glibc: NoGlibc::NoStd }.to_string();
    assert!(error.contains(&NoGlibc::NoStd.to_string()), "{error}");
}
