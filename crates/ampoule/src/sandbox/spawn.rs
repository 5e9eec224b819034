//! Sandboxes made from a snapshot.

use std::fmt;

use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::Sandbox;
use super::condition::Condition;
use super::host_side::HostSide;
use super::snapshot::Snapshot;
use crate::conversation::Conversation;
use crate::core_dump::CoreDumps;
#[cfg(feature = "gdb")]
use crate::debugger::GdbServer;
use crate::dynamic::{HostCall, Value};
use crate::error::{BuildError, HostFunctionSetting};
use crate::host_function::{HostFunction, HostFunctionError, HostFunctionWith};
use crate::limits::Limits;
use crate::metrics::{Operation, SandboxMeter, Stopwatch};
use crate::output::Output;
use crate::spans;
use crate::trace::Trace;

/// Settings of a new [`Sandbox`] that is made from a [`Snapshot`]; made by [`Snapshot::builder`].
///
/// Memory, mailbox, arguments, environment and clock are the snapshot's. Host functions, outputs and limits are the new sandbox's
/// own.
#[must_use = "a sandbox is made only when `build` is called"]
pub struct Spawn {
    pub(super) snapshot: Snapshot,
    pub(super) host: HostSide,
    profile_memory: bool,
}

impl Spawn {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let host = HostSide::new(snapshot.limits(), HostFunctionSetting::Spawn);
        Self { snapshot, host, profile_memory: false }
    }

    /// Lets the guest call a function of the host, like [`Builder::host_fn`](crate::Builder::host_fn).
    pub fn host_fn<F, P, R>(mut self, name: impl Into<String>, function: F) -> Self
    where
        F: HostFunction<P, R>,
        R: Serialize,
    {
        self.host.add_function(name.into(), function);
        self
    }

    /// Lets the guest call a function of the host that can fail, like
    /// [`Builder::try_host_fn`](crate::Builder::try_host_fn).
    pub fn try_host_fn<F, P, R, E>(mut self, name: impl Into<String>, function: F) -> Self
    where
        F: HostFunction<P, Result<R, E>>,
        R: Serialize,
        E: HostFunctionError,
    {
        self.host.add_fallible_function(name.into(), function);
        self
    }

    /// Lets the guest call a function of the host whose types are known only at run time, like
    /// [`Builder::dynamic_host_fn`](crate::Builder::dynamic_host_fn).
    pub fn dynamic_host_fn(
        mut self,
        name: impl Into<String>,
        function: impl FnMut(&HostCall) -> Result<Value, String> + Send + 'static,
    ) -> Self {
        self.host.add_dynamic_function(name.into(), self.snapshot.image(), function);
        self
    }

    /// Lets the guest call a function of the host that works with data of the call, like
    /// [`Builder::host_fn_with`](crate::Builder::host_fn_with).
    pub fn host_fn_with<T, F, P, R>(mut self, name: impl Into<String>, function: F) -> Self
    where
        T: 'static,
        F: HostFunctionWith<T, P, R>,
        R: Serialize,
    {
        self.host.add_function_with(name.into(), function);
        self
    }

    /// Lets the guest call a function of the host that can fail and works with data of the call, like
    /// [`Builder::try_host_fn_with`](crate::Builder::try_host_fn_with).
    pub fn try_host_fn_with<T, F, P, R, E>(mut self, name: impl Into<String>, function: F) -> Self
    where
        T: 'static,
        F: HostFunctionWith<T, P, Result<R, E>>,
        R: Serialize,
        E: HostFunctionError,
    {
        self.host.add_fallible_function_with(name.into(), function);
        self
    }

    /// What messages and the log call the sandbox.
    ///
    /// Default: the last part of the image's [name](crate::Image::name), and a number that no other sandbox of the process has.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.host.set_name(name.into());
        self
    }

    /// Where the guest's standard output goes. Default: [`Output::log`].
    pub fn stdout(mut self, output: Output) -> Self {
        self.host.stdout = output;
        self
    }

    /// Where the guest's standard error goes. Default: [`Output::log`].
    pub fn stderr(mut self, output: Output) -> Self {
        self.host.stderr = output;
        self
    }

    /// Where lines go that show what the guest asks of its host. Default: [`Trace::log`].
    pub fn trace(mut self, trace: Trace) -> Self {
        self.host.trace = trace;
        self
    }

    /// Where core dumps go of a guest that ends. Default: there are none.
    pub fn core_dumps(mut self, dumps: CoreDumps) -> Self {
        self.host.core_dumps = Some(dumps);
        self
    }

    /// Up to which level the guest's log records are made; see [`Builder::log_level`](crate::Builder::log_level), also for the
    /// default. The level of the snapshot's sandbox does not count.
    pub fn log_level(mut self, level: impl Into<LevelFilter>) -> Self {
        self.host.log_level = Some(level.into());
        self
    }

    /// Profiles the guest's memory from its first call on, like [`Sandbox::profile_memory`]. What the snapshot has allocated is not
    /// in the profile. In a pool, each sandbox is profiled until its first tenant gives it back.
    pub fn profile_memory(mut self) -> Self {
        self.profile_memory = true;
        self
    }

    /// Limits of every call. Where these set none, those of the snapshot's sandbox apply.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.host.set_limits(limits);
        self
    }

    /// Lets a debugger attach to the guest, like [`Builder::gdb`](crate::Builder::gdb). The guest waits for the debugger at
    /// the beginning of its first call.
    #[cfg(feature = "gdb")]
    pub fn gdb(mut self, server: GdbServer) -> Self {
        self.host.tracer = Some(server.into_tracer());
        self
    }

    /// Makes messages say how a pool's sandboxes get what they lack.
    pub(crate) fn of_pool(mut self) -> Self {
        self.host.belong_to_pool();
        self
    }

    /// Makes the sandbox. The guest does not run.
    ///
    /// # Errors
    /// A [`BuildError`]; [`BuildError::MissingHostFunction`] when a host function that the guest imports is missing.
    pub fn build(self) -> Result<Sandbox, BuildError> {
        let span = spans::spawn(self.snapshot.image().name()).entered();
        let spawn = Stopwatch::start();
        let spawned = spawn.ended(Operation::Spawn, self.make());
        spans::failed(&span, &spawned);
        spawned
    }

    fn make(self) -> Result<Sandbox, BuildError> {
        let Self { snapshot, mut host, profile_memory } = self;
        let core_dumps = host.core_dumps.take();
        let tracer = host.tracer.take();
        let (imports, streams, limits) = host.resolve(snapshot.image())?;
        let mut conversation = Conversation::of_checkpoint(
            &**snapshot.backend(),
            snapshot.image().executable(),
            snapshot.checkpoint(),
            streams,
        )?;
        if let Some(tracer) = tracer {
            conversation.machine_mut().trace(tracer, snapshot.backend().behaviour());
        }
        if profile_memory {
            conversation.machine_mut().profile_memory();
        }
        let meter = SandboxMeter::of(|| conversation.machine_mut().memory_pages());
        Ok(Sandbox {
            image: snapshot.image().clone(),
            backend: snapshot.backend().clone(),
            conversation,
            imports,
            limits,
            core_dumps,
            matching: snapshot.identity(),
            initial: snapshot,
            condition: Condition::Ready,
            checked: Vec::new(),
            meter,
        })
    }
}

impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn").field("snapshot", &self.snapshot).field("host", &self.host).finish_non_exhaustive()
    }
}
