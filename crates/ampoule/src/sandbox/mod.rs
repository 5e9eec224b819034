//! A guest, sealed in its virtual machine.

mod builder;
mod clock;
mod condition;
mod core_dump;
mod dynamic;
mod host_memory;
mod host_side;
mod profiled;
pub(crate) mod recycle;
mod restore;
mod settings;
mod snapshot;
mod spawn;
mod typed;

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use ampoule_vmm::{Backend, HypervisorError};
use serde::de::DeserializeOwned;
use tracing::level_filters::LevelFilter;

use crate::arguments::{Arguments, Parameters};
use crate::binding::Binding;
use crate::conversation::{Conversation, Imports, Reply, Request};
use crate::core_dump::CoreDumps;
use crate::error::CallError;
use crate::host_function::CallData;
use crate::image::{Function, Image};
use crate::interrupt::InterruptHandle;
use crate::limits::Limits;
use crate::machine::Stats;
use crate::metrics::{CallMeter, SandboxMeter};
use crate::output::Output;
use crate::trace::Trace;
use condition::Condition;
use snapshot::SnapshotIdentity;

pub(crate) use crate::conversation::LARGEST_MAILBOX;
pub use builder::Builder;
pub use clock::ClockError;
pub use condition::Poison;
pub use dynamic::{DynamicCall, DynamicFn};
pub use restore::{RestoreError, Setting};
pub use settings::Call;
pub use snapshot::{Snapshot, SnapshotError};
pub use spawn::Spawn;
pub use typed::TypedFn;

/// A guest, sealed in a virtual machine of its own and ready to be called.
///
/// A sandbox is [`Send`]: it runs on whichever thread calls it, and nowhere between calls.
///
/// ```no_run
/// use ampoule::{Image, Sandbox};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let image = Image::from_file("guest")?;
/// let mut sandbox = Sandbox::builder(&image).host_fn("weekday", || "Monday".to_string()).build()?;
/// let greeting: String = sandbox.call("greet", ("World",))?;
/// # Ok(()) }
/// ```
pub struct Sandbox {
    image: Image,
    backend: Arc<dyn Backend>,
    conversation: Conversation,
    imports: Imports,
    limits: Limits,
    core_dumps: Option<CoreDumps>,
    /// The state in which the sandbox was built or spawned.
    initial: Snapshot,
    /// A snapshot that was found to match this sandbox, so that another restore of it needs no check.
    matching: SnapshotIdentity,
    condition: Condition,
    /// Functions whose signature was already checked.
    checked: Vec<Checked>,
    meter: SandboxMeter,
}

/// A function whose signature was checked.
struct Checked {
    number: u32,
    /// The Rust types for which it was: arguments and result.
    types: TypeId,
    binding: Arc<Binding>,
}

impl Sandbox {
    /// Settings of a new sandbox for this image.
    pub fn builder(image: &Image) -> Builder {
        Builder::new(image)
    }

    /// Calls a guest function and waits for its result.
    ///
    /// A function that returns `Result<T, E>` can be asked for a `T`, where its error is a [`CallError::Function`] with the
    /// error's text, or for a `Result<T, E>`, where its error is that value, if the guest can write it
    /// (`E: serde::Serialize`):
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize)] enum ShopError { SoldOut }
    /// # fn buy(sandbox: &mut ampoule::Sandbox) -> Result<(), ampoule::CallError> {
    /// let price: Result<u64, ShopError> = sandbox.call("price", ("lamp",))?;
    /// # Ok(()) }
    /// ```
    ///
    /// The name is looked up on every call; the types are checked on the first one. [`typed_fn`](Self::typed_fn) does
    /// both once. The result owns what it holds: `String` instead of `&str`, of which the compiler would say that `Deserialize`
    /// is not general enough.
    ///
    /// # Errors
    /// A [`CallError`]. Unless [`CallError::poisons`] says otherwise, the sandbox can be called again.
    pub fn call<R: DeserializeOwned>(&mut self, name: &str, arguments: impl Arguments) -> Result<R, CallError> {
        self.call_with(Call::new(name, arguments))
    }

    /// Like [`call`](Self::call), with limits for this call, or with data for its host functions.
    ///
    /// # Errors
    /// A [`CallError`]. Unless [`CallError::poisons`] says otherwise, the sandbox can be called again.
    pub fn call_with<R: DeserializeOwned, A: Arguments>(&mut self, call: Call<'_, A>) -> Result<R, CallError> {
        let (image, checked, callee) = self.parts();
        let (function, binding) = resolve::<A, R>(image, checked, call.name).inspect_err(CallMeter::refused)?;
        callee.invoke((image, function), binding, &call.arguments, call.limits, call.data)
    }

    /// Resolves a guest function: its name and its types are checked here, once. Where a parameter is to borrow from
    /// something else in every call, its type is [`Borrowed`](crate::Borrowed).
    ///
    /// # Errors
    /// [`CallError::UnknownFunction`], [`CallError::WrongArguments`], [`CallError::WrongResult`], and, where the guest
    /// describes its types, [`CallError::DifferentTypes`] for the result and [`CallError::Untransferable`].
    pub fn typed_fn<P: Parameters, R: DeserializeOwned>(&self, name: &str) -> Result<TypedFn<P, R>, CallError> {
        let function = export(&self.image, name)?;
        let binding = Binding::of::<P::Values<'_>, R>(&self.image, function)?;
        Ok(TypedFn::new(self.image.clone(), function.number(), binding))
    }

    /// Resolves a guest function whose types are known only at run time: arguments are read from any [`serde`] format, and
    /// the result is written to any. See [`dynamic`](crate::dynamic).
    ///
    /// # Errors
    /// [`CallError::UnknownFunction`], [`CallError::Untransferable`].
    pub fn dynamic_fn(&self, name: &str) -> Result<DynamicFn, CallError> {
        DynamicFn::new(self.image.clone(), export(&self.image, name)?.number())
    }

    /// The image that the sandbox runs.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// What messages and the log call the sandbox; see [`Builder::name`].
    pub fn name(&self) -> &str {
        self.conversation.machine().origin().name()
    }

    /// Why the sandbox refuses calls, if it does.
    pub fn poisoned(&self) -> Option<&Poison> {
        self.condition.poison()
    }

    /// A handle with which any thread can end a call of this sandbox. Handles can be made at any time and cloned.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.conversation.machine().interrupt_handle()
    }

    /// Where the guest's standard output goes from now on. What it has printed so far without ending the line goes to its
    /// present output.
    pub fn set_stdout(&mut self, output: Output) {
        self.conversation.machine_mut().streams_mut().set_stdout(output);
    }

    /// Where the guest's standard error goes from now on; like [`set_stdout`](Self::set_stdout).
    pub fn set_stderr(&mut self, output: Output) {
        self.conversation.machine_mut().streams_mut().set_stderr(output);
    }

    /// Up to which level the guest's log records are made from the next call on; see [`Builder::log_level`].
    pub fn set_log_level(&mut self, level: impl Into<LevelFilter>) {
        self.conversation.machine_mut().streams_mut().log_mut().set_level(level.into());
    }

    /// Where lines go from now on that show what the guest asks of its host.
    pub fn set_trace(&mut self, trace: Trace) {
        self.conversation.machine_mut().streams_mut().set_trace(trace);
    }

    /// What the sandbox has cost so far.
    ///
    /// # Errors
    /// Where the hypervisor cannot report which pages the guest has written.
    pub fn stats(&mut self) -> Result<Stats, HypervisorError> {
        self.conversation.machine_mut().stats()
    }

    /// What functions are looked up in, and what they are called in. They are borrowed apart, so that a call need not count a
    /// reference to the image: sandboxes on other threads share that count.
    #[inline]
    fn parts(&mut self) -> (&Image, &mut Vec<Checked>, Callee<'_>) {
        let Self { image, conversation, imports, limits, core_dumps, condition, checked, meter, .. } = self;
        let core_dumps = core_dumps.as_ref();
        (image, checked, Callee { conversation, imports, limits: *limits, core_dumps, condition, meter })
    }
}

/// What of a sandbox takes part in a call.
struct Callee<'sandbox> {
    conversation: &'sandbox mut Conversation,
    imports: &'sandbox mut Imports,
    limits: Limits,
    core_dumps: Option<&'sandbox CoreDumps>,
    condition: &'sandbox mut Condition,
    meter: &'sandbox mut SandboxMeter,
}

impl Callee<'_> {
    /// Calls a function of the sandbox's image whose types are known to be right.
    #[inline]
    fn invoke<R: DeserializeOwned>(
        mut self,
        (image, function): (&Image, &Function),
        binding: &Binding,
        arguments: &impl Arguments,
        limits: Limits,
        data: Option<CallData<'_>>,
    ) -> Result<R, CallError> {
        self.metered(|callee, call| {
            callee.check(function.name(), data.as_ref())?;
            binding.check(image, function, arguments)?;
            let request = callee.conversation.request(function, arguments, binding.asks())?;
            let reply = callee.exchange(request, limits, data, call)?;
            binding.observe(function, reply.shown())?;
            callee.conversation.result(reply, binding.returns())
        })
    }

    /// Makes a call, and reports it and what the guest's memory costs then.
    #[inline]
    fn metered<T>(
        &mut self,
        make: impl FnOnce(&mut Self, &mut CallMeter) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let mut call = CallMeter::begin();
        let result = make(self, &mut call);
        call.ended(&result);
        self.meter.sample(|| self.conversation.machine_mut().memory_pages());
        result
    }

    /// Refuses a call of this function that cannot be made, whatever its arguments are.
    #[inline]
    fn check(&self, function: &str, data: Option<&CallData<'_>>) -> Result<(), CallError> {
        match self.condition.poison() {
            Some(poison) => Err(CallError::Poisoned { cause: poison.clone() }),
            None => self.imports.check_data(function, data),
        }
    }

    /// Runs the guest, and notes where it has ended.
    #[inline]
    fn exchange<'image>(
        &mut self,
        request: Request<'image, '_>,
        limits: Limits,
        data: Option<CallData<'_>>,
        call: &mut CallMeter,
    ) -> Result<Reply<'image>, CallError> {
        let running = self.condition.enter(self.imports);
        let mut reply = self.conversation.exchange(request, running.imports, limits.or(self.limits), data);
        running.leave();
        if let Err(CallError::Terminated { cause, core_dump, .. }) = &mut reply {
            *core_dump = self.conversation.machine_mut().dump_ended(self.core_dumps, cause);
            *self.condition = Condition::Poisoned(Poison::Ended(cause.clone()));
        }
        if reply.as_ref().is_ok_and(Reply::is_error) {
            call.function_failed();
        }
        reply
    }
}

/// Finds a function and checks its types, unless that was done before.
fn resolve<'sandbox, A: Arguments, R: DeserializeOwned>(
    image: &'sandbox Image,
    checked: &'sandbox mut Vec<Checked>,
    name: &str,
) -> Result<(&'sandbox Function, &'sandbox Binding), CallError> {
    let function = export(image, name)?;
    let (number, types) = (function.number(), typeid::of::<(A, R)>());
    let found = checked.iter().position(|checked| checked.number == number && checked.types == types);
    let index = match found {
        Some(index) => index,
        None => {
            checked.push(Checked { number, types, binding: Binding::of::<A, R>(image, function)? });
            checked.len() - 1
        }
    };
    Ok((function, &checked[index].binding))
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("name", &self.name())
            .field("image", &self.image.name())
            .field("condition", &self.condition)
            .finish_non_exhaustive()
    }
}

fn export<'image>(image: &'image Image, name: &str) -> Result<&'image Function, CallError> {
    image.export(name).ok_or_else(|| CallError::UnknownFunction {
        image: image.name().to_owned(),
        function: name.to_owned(),
        exports: image.exports().map(|function| function.name().to_owned()).collect(),
    })
}
