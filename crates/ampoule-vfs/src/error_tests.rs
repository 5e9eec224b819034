//! The rule that all errors keep, for each variant.

use std::path::PathBuf;

use ampoule_error_rule::{each_variant, refusal};

use crate::{BuildError, Errno, FileType, RestoreFilesError, StoreFilesError};

#[test]
fn errors_say_everything_once() {
    let path = || PathBuf::from("/some/where");
    each_variant!(BuildError {
        BuildError::InvalidPlace { .. } => BuildError::InvalidPlace { place: path() },
        BuildError::SamePlace { .. } => BuildError::SamePlace { place: path() },
        BuildError::Missing { .. } => BuildError::Missing { host: path(), place: path() },
        BuildError::NotADirectory { .. } => BuildError::NotADirectory { host: path(), place: path() },
        BuildError::NotAFile { .. } => BuildError::NotAFile { host: path(), place: path() },
        BuildError::Open { .. } => BuildError::Open { host: path(), place: path(), reason: refusal() },
        BuildError::NoOpenat2 { .. } => BuildError::NoOpenat2 { reason: refusal() },
        BuildError::NoProc { .. } => BuildError::NoProc { reason: refusal() },
        BuildError::NoPlace { .. } => BuildError::NoPlace { place: path(), missing: path() },
        BuildError::WrongPlace { .. } => {
            BuildError::WrongPlace { place: path(), at: path(), found: FileType::Symlink }
        },
        BuildError::Look { .. } => BuildError::Look { place: path(), reason: Errno::EACCES },
    });
    each_variant!(StoreFilesError {
        StoreFilesError::Overlay { .. } => StoreFilesError::Overlay { place: path() },
        StoreFilesError::Mounted { .. } => StoreFilesError::Mounted { place: path() },
    });
    each_variant!(RestoreFilesError {
        RestoreFilesError::NoRoom { .. } => RestoreFilesError::NoRoom { place: path() },
        RestoreFilesError::Impossible { .. } => RestoreFilesError::Impossible { problem: "a name leads nowhere" },
    });
    ampoule_error_rule::check(&Errno::ENOENT);
}
