//! Why there is no core dump.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ampoule_abi::text::printable_name;
use ampoule_vmm::{HypervisorError, WithAdvice};
use thiserror::Error;

/// Why no core dump was written. The sandbox is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CoreDumpError {
    /// As many were written as are allowed.
    #[error("{limit} were written already; remove what is not needed, and raise `CoreDumps::count_limit`")]
    TooMany {
        /// [`CoreDumps::count_limit`](crate::CoreDumps::count_limit).
        limit: u64,
    },
    /// No file could be made in the directory.
    #[error(
        "could not make a file in `{}`: {}; the directory has to exist and to be writable",
        printable_name(&directory.to_string_lossy()),
        WithAdvice(reason)
    )]
    Create {
        /// The directory.
        directory: PathBuf,
        /// What the operating system reports.
        reason: io::Error,
    },
    /// The file or the writer did not take it.
    #[error("could not write it: {}", WithAdvice(reason))]
    Write {
        /// What the operating system or the writer reports.
        reason: io::Error,
    },
    /// The guest's registers or its memory could not be read.
    #[error("could not read the guest's state: {0}")]
    Hypervisor(Arc<HypervisorError>),
    /// The sandbox could not be restored to an earlier state, so that its state is unknown.
    #[error("the sandbox could not be restored, and its state is unknown; build or spawn a new sandbox")]
    UnknownState,
}

impl CoreDumpError {
    pub(super) fn write(reason: io::Error) -> Self {
        Self::Write { reason }
    }
}

impl From<HypervisorError> for CoreDumpError {
    fn from(error: HypervisorError) -> Self {
        Self::Hypervisor(Arc::new(error))
    }
}
