//! The host's side of a sandbox, however the sandbox is made: host functions, outputs and limits.

use std::fmt;

use serde::Serialize;
use tracing::level_filters::LevelFilter;

use crate::conversation::Imports;
use crate::core_dump::CoreDumps;
use crate::dynamic::{HostCall, Value};
use crate::error::{BuildError, HostFunctionSetting};
use crate::guest_log::{self, GuestLog};
use crate::host_function::{HostFunction, HostFunctionEntry, HostFunctionWith};
use crate::image::Image;
use crate::limits::Limits;
use crate::machine::{GuestStreams, Tracer};
use crate::output::{Origin, Output};
use crate::trace::Trace;

/// Settings of the host's side of a new sandbox.
pub(crate) struct HostSide {
    functions: Vec<HostFunctionEntry>,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) trace: Trace,
    pub(super) core_dumps: Option<CoreDumps>,
    pub(super) log_level: Option<LevelFilter>,
    limits: Limits,
    name: Option<String>,
    /// What runs the guest, unless its machine does.
    pub(super) tracer: Option<Box<dyn Tracer>>,
    /// What sets the functions.
    setting: HostFunctionSetting,
}

impl HostSide {
    /// No functions, outputs to the log, records of the level that the environment says, and these limits.
    pub(super) fn new(limits: Limits, setting: HostFunctionSetting) -> Self {
        Self {
            functions: Vec::new(),
            stdout: Output::log(),
            stderr: Output::log(),
            trace: Trace::log(),
            core_dumps: None,
            log_level: None,
            limits,
            name: None,
            tracer: None,
            setting,
        }
    }

    pub(super) fn set_name(&mut self, name: String) {
        self.name = Some(name);
    }

    /// These settings are those of a pool's sandboxes.
    pub(super) fn belong_to_pool(&mut self) {
        self.setting = HostFunctionSetting::Pool;
    }

    pub(super) fn add_function<F, P, R>(&mut self, name: String, function: F)
    where
        F: HostFunction<P, R>,
        R: Serialize,
    {
        self.functions.push(HostFunctionEntry::new(name, function));
    }

    pub(super) fn add_fallible_function<F, P, R, E>(&mut self, name: String, function: F)
    where
        F: HostFunction<P, Result<R, E>>,
        R: Serialize,
        E: fmt::Display,
    {
        self.functions.push(HostFunctionEntry::fallible(name, function));
    }

    pub(super) fn add_dynamic_function(
        &mut self,
        name: String,
        image: &Image,
        function: impl FnMut(&HostCall) -> Result<Value, String> + Send + 'static,
    ) {
        self.functions.push(HostFunctionEntry::dynamic(name, image, function));
    }

    pub(super) fn add_function_with<T, F, P, R>(&mut self, name: String, function: F)
    where
        T: 'static,
        F: HostFunctionWith<T, P, R>,
        R: Serialize,
    {
        self.functions.push(HostFunctionEntry::new_with(name, function));
    }

    pub(super) fn add_fallible_function_with<T, F, P, R, E>(&mut self, name: String, function: F)
    where
        T: 'static,
        F: HostFunctionWith<T, P, Result<R, E>>,
        R: Serialize,
        E: fmt::Display,
    {
        self.functions.push(HostFunctionEntry::fallible_with(name, function));
    }

    /// Sets limits; those that are not set here stay as they are.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits.or(self.limits);
    }

    /// What a sandbox of this image is made with.
    ///
    /// # Errors
    /// [`BuildError::DuplicateHostFunction`], [`BuildError::MissingHostFunction`], [`BuildError::HostFunctionMismatch`],
    /// [`BuildError::DifferentData`].
    pub(super) fn resolve(self, image: &Image) -> Result<(Imports, GuestStreams, Limits), BuildError> {
        let imports = Imports::resolve(image, self.functions, self.setting)?;
        let origin = Origin::new(image.executable(), self.name);
        let log = GuestLog::new(self.log_level.unwrap_or_else(guest_log::level_of_environment));
        let mut streams = GuestStreams::new(self.stdout, self.stderr, log, origin);
        streams.set_trace(self.trace);
        Ok((imports, streams, self.limits))
    }
}

impl fmt::Debug for HostSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostSide")
            .field("functions", &self.functions)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}
