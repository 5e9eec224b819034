//! Settings of a sandbox, and its construction.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ampoule_vmm::{Backend, Baseline, Hypervisor, PAGE_SIZE};
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::Sandbox;
use super::condition::Condition;
use super::host_side::HostSide;
use super::snapshot::Snapshot;
use crate::clock::Clock;
use crate::conversation::{Conversation, Imports, LARGEST_MAILBOX, ProtocolViolation, StartError};
use crate::core_dump::CoreDumps;
#[cfg(feature = "gdb")]
use crate::debugger::GdbServer;
use crate::dynamic::{HostCall, Value};
use crate::error::{BuildError, HostFunctionSetting};
use crate::executable_memory::ExecutableMemory;
use crate::files::Files;
use crate::host_function::{HostFunction, HostFunctionError, HostFunctionWith};
use crate::image::{Described, Image};
use crate::limits::Limits;
use crate::machine::{MachineConfig, OutOfRange, Shape, ToMap};
use crate::metrics::{Operation, SandboxMeter, Stopwatch};
use crate::output::Output;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::profile::Frequency;
use crate::spans;
use crate::trace::Trace;

/// Settings of a new [`Sandbox`]; made by [`Sandbox::builder`].
#[must_use = "a builder makes a sandbox only when `build` is called"]
pub struct Builder {
    image: Image,
    platform: Platform,
    host: HostSide,
    machine: MachineConfig,
    mailbox_size: usize,
    profile: Option<Frequency>,
    pub(super) mapped: Vec<ToMap>,
    /// None where nothing is granted.
    files: Option<Files>,
}

impl Builder {
    pub(super) fn new(image: &Image) -> Self {
        Self {
            image: image.clone(),
            platform: Platform::default(),
            host: HostSide::new(Limits::new().output(16 << 20), HostFunctionSetting::Builder),
            machine: MachineConfig {
                program: None,
                interpreter: None,
                shape: Shape {
                    memory_limit: 64 << 20,
                    stack_size: 8 << 20,
                    executable_memory: ExecutableMemory::Refused,
                    mapped_limit: 1 << 30,
                    shared: None,
                },
                arguments: vec![program_name(image)],
                environment: BTreeMap::new(),
                clock: Clock::Real,
                policy: Policy::all(),
                profile_memory: false,
                files: Files::of_none(),
            },
            mailbox_size: 1 << 20,
            profile: None,
            mapped: Vec::new(),
            files: None,
        }
    }

    /// How much memory the guest can have, in bytes: code, data, stack and heap. Rounded up to whole pages of 4 KiB.
    /// Host memory is used only for pages that the guest touches. The mailbox and the page tables come on top.
    ///
    /// Default: 64 MiB. Range: 1 MiB to 32 GiB.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.machine.shape.memory_limit = bytes;
        self
    }

    /// The largest payload that can travel in one direction, in bytes: the arguments of a call, its result, the
    /// arguments of a host call, its result. A value takes a few bytes more than its content: see the
    /// [guest ABI](https://github.com/ampoule-rs/ampoule/blob/main/docs/abi.md), "Values".
    ///
    /// Default: 1 MiB. Range: 4 KiB to 256 MiB.
    pub fn mailbox_size(mut self, bytes: usize) -> Self {
        self.mailbox_size = bytes;
        self
    }

    /// How far the guest's stack may grow, in bytes, rounded up to whole pages. The used part counts towards the memory
    /// limit.
    ///
    /// Default: 8 MiB. Range: 64 KiB to 1 GiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.machine.shape.stack_size = bytes;
        self
    }

    /// How much memory of the host's the guest can see at a time ([`map_file`](Self::map_file),
    /// [`Sandbox::call_lending`]), in bytes. It costs 2 KiB of page tables for each MiB that is mapped, and nothing before.
    ///
    /// Default: 1 GiB. Range: 0 to 32 GiB.
    pub fn mapped_limit(mut self, bytes: usize) -> Self {
        self.machine.shape.mapped_limit = bytes;
        self
    }

    /// Lets the guest call a function of the host.
    ///
    /// The closure takes up to 32 owned [`Deserialize`](serde::Deserialize) values and returns a [`Serialize`] one. Text and
    /// bytes are copied out of the guest's memory, so it takes them as `String` and `Vec<u8>`; a function that takes `&str`
    /// is called from a closure that lends it: `|text: String| log(&text)`.
    /// It runs on the thread that called into the sandbox, while the guest waits. It cannot call into the same sandbox,
    /// which is borrowed by the call that it serves:
    ///
    /// ```compile_fail,E0502
    /// # fn nested(mut sandbox: ampoule::Sandbox, image: &ampoule::Image) -> Result<(), Box<dyn std::error::Error>> {
    /// let again = || sandbox.call::<()>("inner", ());
    /// sandbox.call::<()>("outer", ())?;
    /// again()?;
    /// # Ok(()) }
    /// ```
    ///
    /// A closure that returns a `Result` can fail. Its error implements [`Serialize`] and reaches the guest as a value, where
    /// the guest's import has an error of the same type, and otherwise as a text that says no more than its type, unless it
    /// is text itself. A closure whose errors have a text for the guest goes to [`try_host_fn`](Self::try_host_fn).
    pub fn host_fn<F, P, R>(mut self, name: impl Into<String>, function: F) -> Self
    where
        F: HostFunction<P, R>,
        R: Serialize,
    {
        self.host.add_function(name.into(), function);
        self
    }

    /// Lets the guest call a function of the host that can fail. The guest gets the error's text (its alternate form,
    /// `{:#}`), as an error that it can handle.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// let sandbox = ampoule::Sandbox::builder(&image)
    ///     .try_host_fn("parse", |text: String| text.parse::<u32>())
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Objects that the guest holds
    ///
    /// A guest that is to hold an object of the host, such as an open file, gets a number for it, and the closures share a
    /// table. Three rules make that safe:
    ///
    /// - No number is used again. A guest that was restored to an earlier state, or has guessed a number, then never reaches
    ///   an object that was made later in place of another one.
    /// - The guest cannot make the table grow without limit.
    /// - When the guest is restored, it forgets the numbers that it was given since the snapshot, and does not close them. So
    ///   whoever restores it closes them.
    ///
    /// ```no_run
    /// use std::collections::HashMap;
    /// use std::fs::File;
    /// use std::sync::{Arc, Mutex};
    ///
    /// #[derive(Default)]
    /// struct OpenFiles {
    ///     last: u64,
    ///     by_number: HashMap<u64, File>,
    /// }
    ///
    /// impl OpenFiles {
    ///     fn add(&mut self, file: File) -> Result<u64, &'static str> {
    ///         if self.by_number.len() == 64 {
    ///             return Err("too many open files");
    ///         }
    ///         self.last += 1;
    ///         self.by_number.insert(self.last, file);
    ///         Ok(self.last)
    ///     }
    ///
    ///     fn size(&self, number: u64) -> Result<u64, &'static str> {
    ///         let file = self.by_number.get(&number).ok_or("no such file is open")?;
    ///         file.metadata().map(|metadata| metadata.len()).map_err(|_| "the size is not known")
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// let files = Arc::new(Mutex::new(OpenFiles::default()));
    /// let shared = [(); 3].map(|()| Arc::clone(&files));
    /// let [to_open, to_measure, to_close] = shared;
    /// let mut sandbox = ampoule::Sandbox::builder(&image)
    ///     .try_host_fn("open_report", move || {
    ///         let file = File::open("report.txt").map_err(|_| "there is no report")?;
    ///         to_open.lock().unwrap().add(file)
    ///     })
    ///     .try_host_fn("size", move |number: u64| to_measure.lock().unwrap().size(number))
    ///     .host_fn("close", move |number: u64| drop(to_close.lock().unwrap().by_number.remove(&number)))
    ///     .build()?;
    /// sandbox.call::<()>("run", ())?;
    ///
    /// // The guest was given no number before its first call.
    /// sandbox.reset()?;
    /// files.lock().unwrap().by_number.clear();
    /// # Ok(()) }
    /// ```
    pub fn try_host_fn<F, P, R, E>(mut self, name: impl Into<String>, function: F) -> Self
    where
        F: HostFunction<P, Result<R, E>>,
        R: Serialize,
        E: HostFunctionError,
    {
        self.host.add_fallible_function(name.into(), function);
        self
    }

    /// Lets the guest call a function of the host whose types are known only at run time: they are those of the guest's
    /// import of this name. The closure makes its answer with [`HostCall::answer`], or gives an error's text.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// let answer = "\"Monday\"";
    /// let sandbox = ampoule::Sandbox::builder(&image)
    ///     .dynamic_host_fn("weekday", move |call| {
    ///         call.answer(&mut serde_json::Deserializer::from_str(answer)).map_err(|error| error.to_string())
    ///     })
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn dynamic_host_fn(
        mut self,
        name: impl Into<String>,
        function: impl FnMut(&HostCall) -> Result<Value, String> + Send + 'static,
    ) -> Self {
        self.host.add_dynamic_function(name.into(), &self.image, function);
        self
    }

    /// Lets the guest call a function of the host that works with [data of the call](crate::Call::data): its first parameter is
    /// `&mut T`, with the type written out, and the others are as for [`host_fn`](Self::host_fn).
    ///
    /// All such functions of a sandbox work with one type, and every call brings a value of it. While the guest starts there is
    /// none: a guest that calls such a function then gets an error.
    pub fn host_fn_with<T, F, P, R>(mut self, name: impl Into<String>, function: F) -> Self
    where
        T: 'static,
        F: HostFunctionWith<T, P, R>,
        R: Serialize,
    {
        self.host.add_function_with(name.into(), function);
        self
    }

    /// Lets the guest call a function of the host that can fail, as for [`try_host_fn`](Self::try_host_fn), and works with data
    /// of the call, as for [`host_fn_with`](Self::host_fn_with).
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
    /// Default: the last part of the image's [name](Image::name), and a number that no other sandbox of the process has.
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

    /// Where core dumps go of a guest that ends, in a call or before its first one. Default: there are none.
    pub fn core_dumps(mut self, dumps: CoreDumps) -> Self {
        self.host.core_dumps = Some(dumps);
        self
    }

    /// Samples the guest so often from its first instruction on, as [`Sandbox::profile`] does from a later moment on:
    /// [`Sandbox::take_profile`] has its start too, and the calls that follow.
    ///
    /// Default: it is not sampled.
    pub fn profile(mut self, frequency: Frequency) -> Self {
        self.profile = Some(frequency);
        self
    }

    /// Up to which level the guest's log records and spans are made, and become events and spans of the `tracing` log. Those of
    /// a level that no subscriber of the application takes are not made either; which of the others are shown is up to the
    /// subscriber.
    ///
    /// An event has the record's level, module, file and line, the target `ampoule::guest::` with the record's behind it, and as
    /// fields those of the record, `image`, `sandbox` and `function`, and where the log does not have the spans in which it was
    /// made, their names as `spans`. So has a span, those of the host only where it is in no other, and at its end
    /// `guest.start_ns` and `guest.end_ns`: see [`guest_time`](crate::guest_time). Records and steps of spans count to what a
    /// call may print ([`Limits::output`](crate::Limits::output)), each as 64 bytes at least.
    ///
    /// Default: what the environment variable `RUST_LOG` says of `ampoule::guest`, or else of `ampoule`, or else in general;
    /// where it says nothing, `ERROR`. A directive for a target below, such as `ampoule::guest::parser=debug`, raises the level
    /// to its own. The variable is read once.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// let sandbox = ampoule::Sandbox::builder(&image).log_level(tracing::Level::DEBUG).build()?;
    /// # Ok(()) }
    /// ```
    pub fn log_level(mut self, level: impl Into<LevelFilter>) -> Self {
        self.host.log_level = Some(level.into());
        self
    }

    /// Profiles the guest's memory from its start on, as [`Sandbox::profile_memory`] does from then on: what the guest prepares
    /// before its first call is in the profile.
    pub fn profile_memory(mut self) -> Self {
        self.machine.profile_memory = true;
        self
    }

    /// Limits of every call, and of the guest's start. A call can have limits of its own ([`Call`](crate::Call)).
    ///
    /// Default: only output is limited, to 16 MiB, and stays so unless these limits set another value.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.host.set_limits(limits);
        self
    }

    /// Adds an argument to the guest's command line. The first one, the name of the program, is the name of the image's file
    /// without its directories.
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.machine.arguments.push(argument.into());
        self
    }

    /// Sets a variable of the guest's environment, which is empty otherwise: nothing of the host's is passed on.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.machine.environment.insert(name.into(), value.into());
        self
    }

    /// Which files the guest sees, by Rust's `std::fs` and by its C library alike. Its working directory is `/`. Default:
    /// [`Files::none`].
    ///
    /// What is in memory belongs to the sandbox: a snapshot has it, every sandbox that is spawned from one has its own, and a
    /// restore takes it back to what it was. What is in a directory of the host is outside: what the guest has changed there
    /// stays when it is restored.
    ///
    /// ```no_run
    /// use ampoule::{Access, Files, Sandbox};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// let files = Files::none().dir("./models", "/models", Access::ReadOnly).tmp(16 << 20);
    /// let sandbox = Sandbox::builder(&image).files(files).build()?;
    /// # Ok(()) }
    /// ```
    pub fn files(mut self, files: Files) -> Self {
        self.files = Some(files);
        self
    }

    /// Which time the guest finds. Default: [`Clock::Real`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.machine.clock = clock;
        self
    }

    /// Which groups of system calls the guest has. Default: [`Policy::all`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.machine.policy = policy;
        self
    }

    /// Whether the guest may make code at run time, as a just-in-time compiler does. Default: [`ExecutableMemory::Refused`].
    pub fn executable_memory(mut self, kind: ExecutableMemory) -> Self {
        self.machine.shape.executable_memory = kind;
        self
    }

    /// Uses this hypervisor instead of the platform's.
    pub fn hypervisor(mut self, hypervisor: Arc<dyn Hypervisor>) -> Self {
        self.platform.hypervisor = Some(hypervisor);
        self
    }

    /// Lets the guest find no more of the processor than this, so that a [stored snapshot](Snapshot::save) of it can continue on
    /// every machine that has as much, of whatever generation or vendor.
    ///
    /// Default: all that guests can use.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// let mut sandbox = ampoule::Sandbox::builder(&image).baseline("x86-64-v3".parse()?).build()?;
    /// sandbox.snapshot()?.save("guest.snap")?;
    /// # Ok(()) }
    /// ```
    pub fn baseline(mut self, baseline: Baseline) -> Self {
        self.platform.baseline = Some(baseline);
        self
    }

    /// Lets a debugger attach to the guest, by which it can be stopped, looked at and changed. Unless the server says
    /// otherwise ([`GdbServer::wait`]), the guest does not execute its first instruction before a debugger lets it, and
    /// [`build`](Self::build) takes so long.
    ///
    /// ```no_run
    /// use ampoule::{GdbServer, Sandbox};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// let server = GdbServer::listen(&"unix:guest.sock".parse()?)?;
    /// let sandbox = Sandbox::builder(&image).gdb(server).build()?; // now: gdb -ex 'target remote guest.sock'
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "gdb")]
    pub fn gdb(mut self, server: GdbServer) -> Self {
        self.host.tracer = Some(server.into_tracer());
        self
    }

    /// Builds the sandbox: creates the virtual machine, loads the image, and runs the guest until it is ready for calls.
    ///
    /// # Errors
    /// A [`BuildError`]. Settings and host functions are checked before a virtual machine is created.
    pub fn build(self) -> Result<Sandbox, BuildError> {
        let span = spans::create(self.image.name(), self.machine.shape.memory_limit).entered();
        let create = Stopwatch::start();
        let built = create.ended(Operation::Create, self.make());
        spans::failed(&span, &built);
        built
    }

    fn make(mut self) -> Result<Sandbox, BuildError> {
        self.check_settings().map_err(|OutOfRange { setting, given, least, most }| BuildError::Setting {
            setting,
            given,
            least,
            most,
        })?;
        if let Some(files) = &self.files {
            self.machine.files = files.mount(None, Path::new("/"))?;
        }
        let core_dumps = self.host.core_dumps.take();
        let tracer = self.host.tracer.take();
        let (imports, streams, limits) = self.host.resolve(&self.image)?;
        let backend = self.platform.backend::<BuildError>()?;
        let executable = self.image.executable();
        let mut conversation = Conversation::new(&*backend, executable, self.machine, self.mailbox_size, streams)?;
        for to_map in self.mapped {
            to_map.map(conversation.machine_mut()).map_err(BuildError::Map)?;
        }
        if let Some(tracer) = tracer {
            conversation.machine_mut().trace(tracer, backend.behaviour());
        }
        if let Some(frequency) = self.profile {
            conversation.machine_mut().profile(frequency).map_err(|unsampled| BuildError::Profile(unsampled.into()))?;
        }
        start(self.image, backend, conversation, (imports, limits, core_dumps))
    }

    fn check_settings(&self) -> Result<(), OutOfRange> {
        self.machine.shape.check()?;
        OutOfRange::check("mailbox_size", self.mailbox_size, [PAGE_SIZE, LARGEST_MAILBOX])
    }
}

/// The name of the program as the guest sees it: its file's name, without the host's directories.
fn program_name(image: &Image) -> String {
    let file_name = Path::new(image.name()).file_name().unwrap_or_else(|| image.name().as_ref());
    file_name.to_string_lossy().into_owned()
}

/// Runs the guest until it is ready for its first call.
fn start(
    image: Image,
    backend: Arc<dyn Backend>,
    mut conversation: Conversation,
    (mut imports, limits, core_dumps): (Imports, Limits, Option<CoreDumps>),
) -> Result<Sandbox, BuildError> {
    let schema = match conversation.await_ready(&mut imports, limits) {
        Err(StartError::Ended(cause, position)) => {
            let core_dump = conversation.machine_mut().dump_ended(core_dumps.as_ref(), &cause);
            return Err(BuildError::Start(cause, position, core_dump));
        }
        started => started?,
    };
    if let Some(schema) = schema.filter(|_| image.described().is_none()) {
        let described = Described::new(&image, schema);
        image.describe(described.ok_or_else(|| BuildError::Start(ProtocolViolation::Schema.into(), None, None))?);
    }
    // Another sandbox of the image may have been the first to describe it, in the meantime.
    imports.compare_types(&image)?;
    let initial = Snapshot::take(&image, &backend, limits, &mut conversation).map_err(BuildError::Initial)?;
    let matching = initial.identity();
    let condition = Condition::Ready;
    let meter = SandboxMeter::of(|| conversation.machine_mut().memory_pages());
    Ok(Sandbox {
        image,
        backend,
        conversation,
        imports,
        limits,
        core_dumps,
        initial,
        matching,
        condition,
        checked: Vec::new(),
        meter,
    })
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("image", &self.image.name())
            .field("host", &self.host)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}
