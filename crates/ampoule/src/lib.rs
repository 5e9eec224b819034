//! Ampoule seals untrusted code in a micro-VM and lets an application call it like a function.
//!
//! Four ideas carry it:
//!
//! - A **guest** is an ordinary static Linux executable, written in Rust with the crate `ampoule-guest` (or in any language
//!   that follows the ABI). Its file is an [`Image`]: checked once, cheap to clone.
//! - A **[`Sandbox`]** is a virtual machine with a guest in it. The guest runs in ring 3, has a bounded amount of memory, and
//!   reaches nothing else: no files, no network, no processes. Between calls it does not run.
//! - A **call** runs a function that the guest exports, on the caller's thread, and returns its result. Arguments and
//!   results are any [`serde`] types whose form does not depend on their value (not `flatten`, `untagged`,
//!   `skip_serializing_if`, `serde_json::Value`). Names and types are checked before the guest runs, down to the names and
//!   the order of fields and variants.
//! - A **host function** is a closure that the application hands in. The guest can call it, and nothing else of the host.
//!
//! ```no_run
//! use ampoule::{Image, Sandbox};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let image = Image::from_file("guest")?;
//! let mut sandbox = Sandbox::builder(&image)
//!     .memory_limit(64 << 20)
//!     .host_fn("weekday", || "Monday".to_string())
//!     .build()?;
//!
//! let greeting: String = sandbox.call("greet", ("World",))?;
//!
//! let greet = sandbox.typed_fn::<(&str,), String>("greet")?; // name and types are checked here, once
//! let again = greet.call(&mut sandbox, ("again",))?;
//! # Ok(()) }
//! ```
//!
//! # When a guest fails
//!
//! Every way in which a guest can fail is a [`CallError`]. After most of them the sandbox can be called again: the function
//! returned an error, panicked and unwound, does not exist, or takes other types. After the others the guest has ended
//! ([`Termination`]: a fault, an abort, a broken protocol), and the sandbox is *poisoned*: it refuses calls.
//! [`CallError::poisons`] tells them apart.
//!
//! # What is trusted
//!
//! Nothing that a guest does, writes or says. The hypervisor and the processor are trusted, and side channels are not
//! closed; [`docs/design.md`](https://github.com/ampoule-rs/ampoule/blob/main/docs/design.md) has the whole threat model.
//!
//! # Platform
//!
//! Linux on x86-64 with KVM: `/dev/kvm` must be readable and writable.

mod address_space;
mod arguments;
mod arity;
mod bad_record;
mod binding;
mod blame;
mod clock;
mod conversation;
mod core_dump;
#[cfg(feature = "gdb")]
mod debugger;
pub mod dynamic;
mod error;
#[cfg(test)]
mod error_tests;
mod executable_memory;
mod fault;
mod files;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod guest_log;
mod guest_memory;
mod guest_text;
mod host_function;
mod host_memory;
pub mod image;
mod input;
mod interrupt;
mod libraries;
mod limits;
mod loader;
mod machine;
mod metrics;
mod nearest;
mod output;
mod page;
mod personality;
mod platform;
mod policy;
mod pool;
mod profile;
mod program;
mod sandbox;
pub mod signature;
mod spans;
mod stored;
mod stream;
mod terminal;
mod termination;
#[cfg(test)]
mod test_log;
mod trace;

#[cfg(feature = "metrics")]
pub use self::metrics::enable_metrics;
pub use ampoule_abi::codec::{DecodeError, EncodeError};
pub use ampoule_abi::schema::Difference;
pub use ampoule_symbols::{Backtrace, Frame, ImagePlace, Omission};
pub use ampoule_vmm::{Baseline, BaselineError, HypervisorError, OpenError, ParseBaselineError, Registers};
pub use arguments::{Argument, Arguments, Borrowed, Parameter, Parameters};
pub use blame::Blame;
pub use clock::Clock;
pub use conversation::ProtocolViolation;
pub use core_dump::{CoreDump, CoreDumpError, CoreDumps};
#[cfg(feature = "gdb")]
pub use debugger::{AddressError, DebuggerAddress, GdbServer, ListenError};
pub use error::{BuildError, CallError, FunctionValue, HostFunctionSetting, Payload};
pub use executable_memory::{ExecutableMemory, UnknownExecutableMemory};
pub use fault::{EndlessWait, Fault, FaultAccess, FaultKind, FaultTarget, GuestPanic, Position};
pub use files::{Access, Files, FilesError, GrantError};
pub use guest_log::guest_time;
pub use host_function::{Borrowing, HostFunction, HostFunctionError, HostFunctionWith};
pub use host_memory::{HostMapping, HostMemory, MapAccess, MapAt, MapMemoryError, Mapped};
pub use image::{EmbeddedImage, Executable, Image, ImageError};
pub use input::Input;
pub use interrupt::{InterruptHandle, InterruptSignal, InterruptSignalError, KillOutcome, RunningCall};
pub use limits::{ExceededLimit, Limits};
pub use loader::{ExecuteError, LoadError, StartText};
pub use machine::{OutOfRange, Stats};
pub use output::{Captured, Output};
pub use policy::{CallGroup, Policy, RefusedCall, UnknownCallGroup};
pub use pool::{Pool, PoolBuilder, PoolError, PoolStats, Poolable, Pooled, PooledProgram, PooledSandbox};
pub use profile::{Frequency, MemoryMeasure, MemoryProfile, Profile, ProfileError};
pub use program::{
    IdleProgram, MissingLibrary, Printed, Process, Program, ProgramError, ProgramOutput, ProgramRun, ProgramSnapshot,
    ProgramSpawn, ProgramStatus, ResetError,
};
pub use sandbox::{
    Builder, Call, ClockError, Poison, RestoreError, Sandbox, Setting, Snapshot, SnapshotError, Spawn, TypedFn,
};
pub use stored::{
    LoadSnapshotError, SaveOptions, SaveSnapshotError, SavedSnapshot, SnapshotDigest, SnapshotFile, SnapshotHeader,
    SnapshotInfo,
};
pub use stream::{Items, Reader, Sink, Writer};
pub use terminal::{Terminal, TerminalHandle, TerminalSignal};
pub use termination::Termination;
pub use trace::Trace;

/// What [`borrowing!`] expands to.
#[doc(hidden)]
pub mod __private {
    pub use ampoule_abi::codec::Decoder;
    pub use ampoule_abi::schema::Tracer;

    pub use crate::host_function::BorrowedParameters;
}

/// Embeds the image of a guest that the build script has built with `ampoule-build`, by the name of its binary.
///
/// The result is an [`EmbeddedImage`], whichever guest it is, and can be a constant:
///
/// ```text
/// const PLUGINS: [ampoule::EmbeddedImage; 2] = [ampoule::include_guest!("resize"), ampoule::include_guest!("rotate")];
///
/// let image = ampoule::Image::embedded(ampoule::include_guest!("hello"))?;
/// ```
///
/// Where no guest has this name, the error of the compiler lists those that there are.
#[macro_export]
macro_rules! include_guest {
    ($name:literal) => {
        $crate::image::EmbeddedImage::new(
            $name,
            include_bytes!(env!(
                concat!("AMPOULE_GUEST_", $name),
                concat!(
                    "there is no guest `",
                    $name,
                    "`; build.rs has built ",
                    env!(
                        "AMPOULE_GUESTS",
                        "build.rs has built no guest: call `ampoule_build::guest(\"…\").build()` in it"
                    )
                )
            )),
        )
    };
}
