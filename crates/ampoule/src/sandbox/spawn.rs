//! Sandboxes made from a snapshot.

use std::fmt;

use serde::Serialize;

use super::Sandbox;
use super::imports::Imports;
use super::snapshot::Snapshot;
use crate::error::BuildError;
use crate::host_function::{HostFunction, HostFunctionEntry};
use crate::limits::Limits;
use crate::machine::{GuestStreams, Machine};
use crate::output::Output;

/// Settings of a new [`Sandbox`] that is made from a [`Snapshot`]; made by [`Snapshot::builder`].
///
/// Memory, mailbox, arguments and environment are the snapshot's. Host functions, outputs and limits are the new sandbox's
/// own.
#[must_use = "a sandbox is made only when `build` is called"]
pub struct Spawn {
    pub(super) snapshot: Snapshot,
    pub(super) host_functions: Vec<HostFunctionEntry>,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) limits: Limits,
}

impl Spawn {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let limits = snapshot.limits();
        Self { snapshot, host_functions: Vec::new(), stdout: Output::log(), stderr: Output::log(), limits }
    }

    /// Lets the guest call a function of the host, like [`Builder::host_fn`](crate::Builder::host_fn).
    pub fn host_fn<F, P, R>(mut self, name: impl Into<String>, function: F) -> Self
    where
        F: HostFunction<P, R>,
        R: Serialize,
    {
        self.host_functions.push(HostFunctionEntry::new(name.into(), function));
        self
    }

    /// Lets the guest call a function of the host that can fail, like
    /// [`Builder::try_host_fn`](crate::Builder::try_host_fn).
    pub fn try_host_fn<F, P, R, E>(mut self, name: impl Into<String>, function: F) -> Self
    where
        F: HostFunction<P, Result<R, E>>,
        R: Serialize,
        E: fmt::Display,
    {
        self.host_functions.push(HostFunctionEntry::fallible(name.into(), function));
        self
    }

    /// Where the guest's standard output goes. Default: [`Output::log`].
    pub fn stdout(mut self, output: Output) -> Self {
        self.stdout = output;
        self
    }

    /// Where the guest's standard error goes. Default: [`Output::log`].
    pub fn stderr(mut self, output: Output) -> Self {
        self.stderr = output;
        self
    }

    /// Limits of every call. Where these set none, those of the snapshot's sandbox hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.or(self.limits);
        self
    }

    /// Makes the sandbox. The guest does not run.
    ///
    /// # Errors
    /// A [`BuildError`]; [`BuildError::MissingHostFunction`] where a host function is missing that the guest imports.
    pub fn build(self) -> Result<Sandbox, BuildError> {
        let Self { snapshot, host_functions, stdout, stderr, limits } = self;
        let imports = Imports::resolve(snapshot.image(), host_functions)?;
        let streams = GuestStreams::new(stdout, stderr);
        let machine = Machine::of_checkpoint(
            &**snapshot.backend(),
            snapshot.image().executable(),
            snapshot.checkpoint(),
            streams,
        )?;
        Ok(Sandbox {
            image: snapshot.image().clone(),
            backend: snapshot.backend().clone(),
            machine,
            imports,
            limits,
            matching: snapshot.identity(),
            initial: snapshot,
            poison: None,
            checked: Vec::new(),
        })
    }
}

impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn")
            .field("snapshot", &self.snapshot)
            .field("host_functions", &self.host_functions)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}
