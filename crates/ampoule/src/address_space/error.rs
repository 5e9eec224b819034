//! What can go wrong with a guest's memory.

use std::io;

use ampoule_vmm::{GuestVirt, MapExhausted};
use thiserror::Error;

/// Why a mapping could not be made or changed. Unless stated otherwise, nothing has changed then.
#[derive(Debug, Error)]
pub(crate) enum MapError {
    #[error("the range is empty, not made of whole pages, or not within the guest's addresses")]
    InvalidRange,
    #[error("there is no room of this size among the guest's addresses")]
    NoRoom,
    #[error("a part of the range is mapped already")]
    Occupied,
    #[error("a part of the range is not mapped")]
    NotMapped,
    #[error("the mapping needs {needed} pages of memory, and {free} are free")]
    OutOfFrames { needed: u64, free: u64 },
    #[error(transparent)]
    OutOfTables(#[from] MapExhausted),
    #[error("the guest has {limit} mappings, which is the most that it may have")]
    TooManyMappings { limit: usize },
    #[error("the guest may not make memory executable in this way")]
    ExecutableRefused,
    #[error("the guest may only read what it shares of a file")]
    WriteRefused,
    /// Where this is not the first step, what was mapped in the place before is gone.
    #[error("the pages of the file cannot be had: {0}")]
    File(io::Error),
    #[error("the guest's memory is in {limit} pieces, which is the most that is allowed")]
    TooFragmented { limit: usize },
    /// The call is over. What has changed by then is unspecified.
    #[error("the call was interrupted")]
    Interrupted,
}

/// The guest named an address that it could not access in this way itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("bad address {address}")]
pub(crate) struct BadAddress {
    pub(crate) address: GuestVirt,
}

/// Why a string could not be read from a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum StringError {
    #[error(transparent)]
    BadAddress(#[from] BadAddress),
    #[error("the string does not end within {limit} bytes")]
    TooLong { limit: usize },
}
