//! Why grants of files cannot be given.

use std::io;
use std::path::PathBuf;

use ampoule_vfs::{BuildError, Errno};
use thiserror::Error;

/// Why a program cannot be given the [`Files`](crate::Files) that were granted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilesError {
    /// A directory cannot be granted.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The host's libraries cannot be looked for.
    #[error("the libraries of the host cannot be granted: {}: {reason}", .path.display())]
    Libraries {
        /// What was looked at.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// The working directory does not exist in the sandbox.
    #[error("the working directory `{}` cannot be entered in the sandbox: {reason}; grant a directory there", .at.display())]
    CurrentDirectory {
        /// The working directory.
        at: PathBuf,
        /// What a system call would say.
        reason: Errno,
    },
}

/// Why a directory cannot be granted.
pub type GrantError = BuildError;
