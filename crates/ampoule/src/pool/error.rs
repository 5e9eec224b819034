//! Why a pool gave no sandbox.

use std::time::Duration;

use thiserror::Error;

use crate::error::{BuildError, CallError};
use crate::program::{ProgramError, ResetError};
use crate::sandbox::RestoreError;

/// Why a [`Pool`](crate::Pool) could not be made, or gave no sandbox. A pool remains usable after each of them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PoolError {
    /// All sandboxes are taken, and the caller did not want to wait.
    #[error(
        "all {size} sandboxes of the pool are taken: give one back, wait for one with `Pool::take`, or make the pool larger"
    )]
    Exhausted {
        /// How many sandboxes the pool may have.
        size: usize,
    },
    /// All sandboxes were taken until the time to wait was over.
    #[error(
        "all {size} sandboxes of the pool were taken for {waited:?}: make the pool larger, wait longer, or limit how long calls \
         may take with `Limits::deadline`"
    )]
    TimedOut {
        /// How many sandboxes the pool may have.
        size: usize,
        /// How long the caller waited.
        waited: Duration,
    },
    /// A sandbox could not be made.
    #[error("a sandbox for the pool could not be made: {0}")]
    Spawn(BuildError),
    /// A new sandbox could not be warmed up; see [`PoolBuilder::warm_up`](crate::PoolBuilder::warm_up).
    #[error("a new sandbox of the pool could not be warmed up: {0}")]
    WarmUp(CallError),
    /// A new sandbox could not go back to the snapshot after it was warmed up.
    #[error("a new sandbox of the pool was warmed up and could not go back to its snapshot: {0}")]
    Restore(RestoreError),
    /// A program could not be made.
    #[error("a program for the pool could not be made: {0}")]
    SpawnProgram(ProgramError),
    /// A new program could not be warmed up; see [`PoolBuilder::warm_up`](crate::PoolBuilder::warm_up).
    #[error("a new program of the pool could not be warmed up: {0}")]
    WarmUpProgram(ProgramError),
    /// A new program could not go back to the snapshot after it was warmed up.
    #[error("a new program of the pool was warmed up and could not go back to its snapshot: {0}")]
    ResetProgram(ResetError),
    /// The pool belongs to the process from which this one was forked.
    #[error(
        "the pool was made before this process was forked, and belongs to the process that made it: make another one here, of \
         the same snapshot"
    )]
    Forked,
    /// A pool was to have no sandboxes.
    #[error("a pool of 0 sandboxes has none to give: make its size 1 or more")]
    NoSize,
    /// The Tokio runtime is shutting down and starts no more work.
    #[error("the Tokio runtime is shutting down: use the pool from a runtime that keeps running, or with `Pool::take`")]
    RuntimeStopped,
}

impl From<RestoreError> for PoolError {
    fn from(error: RestoreError) -> Self {
        Self::Restore(error)
    }
}

impl From<ResetError> for PoolError {
    fn from(error: ResetError) -> Self {
        Self::ResetProgram(error)
    }
}
