//! Errors of building a sandbox and of calling into it.
//!
//! All errors of this crate keep one rule: `{}` says everything, and [`source`](std::error::Error::source) returns only what
//! `{}` has not said. An error whose text has that of another in it does not return that one as its source; the value is in
//! a public field, `reason` where it is not the only one. So nothing is lost where an application prints `{}`, and no
//! sentence comes twice where it prints the chain.

mod text;

use std::sync::Arc;

use ampoule_abi::codec::{DecodeError, EncodeError};
use ampoule_abi::schema::{Difference, UNNAMED};
use ampoule_abi::text::printable_name;
use ampoule_vmm::{BaselineError, HypervisorError, OpenError, WithAdvice};
use thiserror::Error;

use crate::blame::Blame;
use crate::conversation::StartError;
use crate::core_dump::CoreDump;
use crate::fault::{GuestPanic, Position};
use crate::files::FilesError;
use crate::guest_text;
use crate::host_memory::MapMemoryError;
use crate::interrupt::{InterruptSignalError, LimitsUnwatched, why_unwatched};
use crate::loader::LoadError;
use crate::machine::MachineError;
use crate::profile::ProfileError;
use crate::sandbox::{Poison, SnapshotError};
use crate::signature::{Parameters, Signature};
use crate::termination::Termination;
pub(crate) use text::{fmt_core_dump, fmt_details, fmt_position};
use text::{fmt_start, fmt_terminated, instead, more_room, provided, result_to_ask_for};

/// Why a sandbox could not be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The hypervisor cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The guest cannot be limited to the baseline that was asked for.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The hypervisor refused to make the virtual machine.
    #[error("the virtual machine could not be created: {0}")]
    Hypervisor(Arc<HypervisorError>),
    /// The host has no memory for the guest.
    #[error("no memory for the {what} of {bytes} bytes: {}", WithAdvice(reason))]
    Memory {
        /// What the memory is for.
        what: &'static str,
        /// How much.
        bytes: usize,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// The host gives no random bytes, with which a guest starts.
    #[error("the host gives no random bytes for the guest: {0}; let the process's seccomp filter allow `getrandom`")]
    Random(std::io::Error),
    /// A setting is out of its range.
    #[error("`Builder::{setting}` of {given} bytes is out of range: {least} to {most}")]
    Setting {
        /// The builder's method.
        setting: &'static str,
        /// What was asked for.
        given: usize,
        /// The least that works.
        least: usize,
        /// The most that works.
        most: usize,
    },
    /// The guest imports a function that the host does not provide.
    #[error(
        "guest image `{}` imports `{function}`, {signature}: provide it with {}{}",
        printable_name(image),
        provided(*setting, function, signature),
        similar.iter().map(|name| format!("; `{}`, which you provide, it does not import", printable_name(name))).collect::<String>()
    )]
    MissingHostFunction {
        /// Name of the image.
        image: String,
        /// Name of the function.
        function: String,
        /// How the guest declares it.
        signature: Signature,
        /// What sets the host functions of the sandbox.
        setting: HostFunctionSetting,
        /// The host function with a similar name that the host provides and the guest does not import, if there is one.
        similar: Option<String>,
    },
    /// A host function has another type than the guest's import.
    #[error("host function `{function}` is {given}, but the guest imports it as {expected}")]
    HostFunctionMismatch {
        /// Name of the function.
        function: String,
        /// How the guest declares it.
        expected: Signature,
        /// What the host provides.
        given: Signature,
    },
    /// Two host functions have the same name.
    #[error("host function `{}` is given twice", printable_name(function))]
    DuplicateHostFunction {
        /// Name of the function.
        function: String,
    },
    /// Two host functions work with data of different types, and a call brings one.
    #[error(
        "host function `{}` works with data of the type `{}`, and `{}` with `{}`, but a call brings one value: put both into \
         one type",
        printable_name(&functions[0]), types[0], printable_name(&functions[1]), types[1]
    )]
    DifferentData {
        /// Names of the functions.
        functions: [String; 2],
        /// Names of the types, in the same order.
        types: [&'static str; 2],
    },
    /// A type of a host function has the name that the guest's has, and is made of something else.
    #[error(
        "host function `{}`: {value} has another type in the guest: {difference}; build both from one definition",
        printable_name(function)
    )]
    DifferentTypes {
        /// Name of the function.
        function: String,
        /// Which value it is.
        value: FunctionValue,
        /// Where the types differ, and how.
        difference: Difference,
    },
    /// A type of a host function cannot travel, since it wants to learn from the data what it is.
    #[error("host function `{}`: {value} cannot travel: {}", printable_name(function), not_self_describing(path))]
    Untransferable {
        /// Name of the function.
        function: String,
        /// Which value it is.
        value: FunctionValue,
        /// Where in it that type is.
        path: String,
    },
    /// What the guest says of its types does not fit the mailbox.
    #[error("the guest describes its types in {needed} bytes, which do not fit the mailbox; {}", more_room(*needed))]
    SchemaTooLarge {
        /// Bytes that the description takes.
        needed: u64,
    },
    /// The guest cannot be given its files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The image could not be put into the guest's memory.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The signal that interrupts guests cannot be used.
    #[error(transparent)]
    Signal(#[from] InterruptSignalError),
    /// The time limit of the guest's start cannot be watched.
    #[error("the time limit of the guest's start cannot be watched, since {}", why_unwatched(.0))]
    LimitsUnwatched(std::io::Error),
    /// The state in which the guest is ready for calls could not be remembered.
    #[error("could not take the initial snapshot: {0}")]
    Initial(SnapshotError),
    /// The guest ended before it was ready for calls. With where it was, if that was not its own doing, and its core dump, if
    /// there was to be one.
    #[error(fmt = fmt_start)]
    Start(Termination, Option<Position>, Option<CoreDump>),
    /// Memory of the host's could not be mapped. The guest has not run.
    #[error("what the guest is to find in its memory could not be mapped: {0}")]
    Map(MapMemoryError),
    /// The guest cannot be sampled from its start on. It has not run.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// What sets the host functions of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HostFunctionSetting {
    /// [`Builder::host_fn`](crate::Builder::host_fn) and `try_host_fn`.
    Builder,
    /// [`Spawn::host_fn`](crate::Spawn::host_fn) and `try_host_fn`.
    Spawn,
    /// [`PoolBuilder::spawn_with`](crate::PoolBuilder::spawn_with).
    Pool,
}

impl From<MachineError> for BuildError {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::Memory { what, bytes, reason } => Self::Memory { what, bytes, reason },
            MachineError::Random(reason) => Self::Random(reason),
            MachineError::Load(error) => Self::Load(error),
            MachineError::Hypervisor(error) => Self::Hypervisor(Arc::new(error)),
            MachineError::Signal(error) => Self::Signal(error),
        }
    }
}

impl From<StartError> for BuildError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Unwatched(LimitsUnwatched { reason }) => Self::LimitsUnwatched(reason),
            StartError::Ended(cause, position) => Self::Start(cause, position, None),
            StartError::SchemaTooLarge { needed } => Self::SchemaTooLarge { needed },
        }
    }
}

/// Why a call gave no result.
///
/// `{}` is one line where the guest has ended, and as many as the guest has written where an error is its own; it shows at most
/// 4 KiB of a guest's text. `{:#}` adds to a fault its backtrace, registers and last words.
#[derive(Error)]
#[non_exhaustive]
pub enum CallError {
    /// The image exports no function of this name.
    #[error(
        "guest image `{}` exports no function `{}`; {}",
        printable_name(image),
        guest_text::name(function),
        instead(function, exports)
    )]
    UnknownFunction {
        /// Name of the image.
        image: String,
        /// The name that was called.
        function: String,
        /// The names of the functions that the image exports.
        exports: Vec<String>,
    },
    /// The arguments are not what the function takes.
    #[error("guest function `{function}` expects {expected}, called with {given}")]
    WrongArguments {
        /// Name of the function.
        function: String,
        /// The function's signature.
        expected: Signature,
        /// The types of the arguments that were given.
        given: Parameters,
    },
    /// The result was asked for as another type than the function returns.
    #[error(
        "guest function `{function}` is {expected}, its result was asked for as {given}{}",
        result_to_ask_for(expected, given)
    )]
    WrongResult {
        /// Name of the function.
        function: String,
        /// The function's signature.
        expected: Signature,
        /// The type that was asked for.
        given: String,
    },
    /// A type has the name that the guest's has, and is made of something else. The guest has not run.
    #[error(
        "guest function `{function}`: {value} has another type in the guest: {difference}; build both from one definition"
    )]
    DifferentTypes {
        /// Name of the function.
        function: String,
        /// Which value it is.
        value: FunctionValue,
        /// Where the types differ, and how.
        difference: Difference,
    },
    /// A type cannot travel, since it wants to learn from the data what it is. The guest has not run.
    #[error("guest function `{function}`: {value} cannot travel: {}", not_self_describing(path))]
    Untransferable {
        /// Name of the function.
        function: String,
        /// Which value it is.
        value: FunctionValue,
        /// Where in it that type is.
        path: String,
    },
    /// Nothing is known of a type but its name: the guest does not describe it. The guest has run where it is that of the
    /// result.
    #[error(
        "guest function `{function}`, {signature}: the guest does not say what {value} is made of; call it with Rust types"
    )]
    Undescribed {
        /// Name of the function.
        function: String,
        /// The function's signature.
        signature: Signature,
        /// Which value it is.
        value: FunctionValue,
    },
    /// The call does not bring the data that the sandbox's host functions work with. The guest has not run.
    #[error(
        "guest function `{function}` was called {}, but host function `{}` works with `{expected}`: give the call a value of \
         that type with `Call::data` or `TypedFn::call_with_data`",
        given.map_or("without data".to_owned(), |given| format!("with data of the type `{given}`")),
        printable_name(host_function)
    )]
    WrongData {
        /// Name of the function.
        function: String,
        /// Name of a host function that works with data.
        host_function: String,
        /// Name of the data's type.
        expected: &'static str,
        /// Name of the type that was given, if any was.
        given: Option<&'static str>,
    },
    /// A typed function was resolved for another image than the sandbox runs.
    #[error(
        "guest function `{function}` was resolved for another image than this sandbox runs; resolve it with this sandbox"
    )]
    ForeignFunction {
        /// Name of the function.
        function: String,
    },
    /// The arguments or the result do not fit the mailbox.
    #[error(
        "{what} of guest function `{function}`: payload of {needed} bytes does not fit the {mailbox_size}-byte mailbox; {}",
        more_room(*needed)
    )]
    PayloadTooLarge {
        /// Name of the function.
        function: String,
        /// Which payload.
        what: Payload,
        /// Bytes that the payload takes.
        needed: u64,
        /// Bytes that the mailbox has for a payload.
        mailbox_size: usize,
    },
    /// A slice could not be lent to the guest. It has not run.
    #[error("a slice could not be lent to the guest: {reason}")]
    Lending {
        /// Why.
        reason: MapMemoryError,
    },
    /// The arguments could not be encoded.
    #[error("the arguments of guest function `{function}` could not be encoded: {reason}")]
    Encode {
        /// Name of the function.
        function: String,
        /// Why.
        reason: EncodeError,
    },
    /// The result could not be decoded: the guest sent something else than its signature says.
    #[error("the result of guest function `{function}` could not be decoded: {reason}")]
    Decode {
        /// Name of the function.
        function: String,
        /// Why.
        reason: DecodeError,
    },
    /// The guest could not decode the arguments: its types differ from the host's behind the same names.
    #[error("guest function `{function}` could not decode its arguments: {}", guest_text::lines(message))]
    ArgumentsRefused {
        /// Name of the function.
        function: String,
        /// What the guest said.
        message: String,
    },
    /// The function returned an error of its own. To have it as a value, ask for a `Result` with the error's type.
    #[error("guest function `{function}` failed: {}", guest_text::lines(message))]
    Function {
        /// Name of the function.
        function: String,
        /// The error's text.
        message: String,
    },
    /// The function panicked; the guest has unwound and can be called again.
    #[error("guest function `{function}` panicked: {panic}")]
    Panicked {
        /// Name of the function.
        function: String,
        /// What the guest said.
        panic: GuestPanic,
    },
    /// The call's time limit cannot be watched. The guest has not run.
    #[error(
        "guest function `{function}` was not called: its time limit cannot be watched, since {}",
        why_unwatched(reason)
    )]
    LimitsUnwatched {
        /// Name of the function.
        function: String,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// The guest ended in this call.
    #[error(fmt = fmt_terminated)]
    Terminated {
        /// Name of the function.
        function: String,
        /// Name of the sandbox.
        sandbox: String,
        /// How it ended.
        cause: Termination,
        /// Where the guest was, if a kill, a limit or a broken protocol ended it. A fault has a position of its own.
        position: Option<Position>,
        /// What has become of its core dump, if there was to be one ([`Builder::core_dumps`](crate::Builder::core_dumps)).
        core_dump: Option<CoreDump>,
    },
    /// The guest ended in an earlier call, or the sandbox could not be restored to an earlier state.
    #[error("the sandbox is poisoned: {cause}")]
    Poisoned {
        /// Why it is.
        cause: Poison,
    },
}

impl CallError {
    /// Who has to do something about it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::UnknownFunction { .. }
            | Self::WrongArguments { .. }
            | Self::WrongResult { .. }
            | Self::DifferentTypes { .. }
            | Self::Untransferable { .. }
            | Self::Undescribed { .. }
            | Self::WrongData { .. }
            | Self::ForeignFunction { .. }
            | Self::Lending { .. }
            | Self::Encode { .. }
            | Self::LimitsUnwatched { .. }
            | Self::PayloadTooLarge { what: Payload::Arguments, .. } => Blame::Caller,
            Self::PayloadTooLarge { what: Payload::Result, .. }
            | Self::Decode { .. }
            | Self::ArgumentsRefused { .. }
            | Self::Function { .. }
            | Self::Panicked { .. } => Blame::Guest,
            Self::Terminated { cause, .. } => cause.blame(),
            Self::Poisoned { cause } => cause.blame(),
        }
    }

    /// Whether the sandbox refuses calls from now on.
    pub fn poisons(&self) -> bool {
        matches!(self, Self::Terminated { .. } | Self::Poisoned { .. })
    }
}

/// A value that a function takes or gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionValue {
    /// An argument, counted from 0.
    Argument(usize),
    /// What the function returns where it does not fail.
    Result,
    /// What it fails with.
    Error,
}

impl std::fmt::Display for FunctionValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Argument(index) => write!(f, "argument {}", index + 1),
            Self::Result => f.write_str("the result"),
            Self::Error => f.write_str("the error"),
        }
    }
}

/// A payload of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// What the host gives to the function.
    Arguments,
    /// What the function gives to the host.
    Result,
}

impl std::fmt::Display for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Arguments => "arguments",
            Self::Result => "result",
        })
    }
}

/// Where in a value a type is that cannot travel: the name of the value's type where it has no part with a name.
pub(crate) fn named_path(path: String, value: FunctionValue, signature: &Signature) -> String {
    let named = match value {
        FunctionValue::Argument(index) => signature.parameters().get(index),
        FunctionValue::Result => Some(signature.result()),
        FunctionValue::Error => signature.error(),
    };
    named.filter(|_| path == UNNAMED).map_or(path, ToString::to_string)
}

fn not_self_describing(path: &str) -> String {
    format!(
        "`{path}` wants to learn its type from the data (`flatten`, `untagged`, a dynamic type), which has no types; use a \
         plain struct or enum, or send text"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{LARGEST_MAILBOX, RestoreError};

    #[test]
    fn a_poisoned_sandbox_says_what_is_left_to_do() {
        let out_of_memory = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let cause = Poison::RestoreFailed(RestoreError::Memory(Arc::new(out_of_memory)));
        let call = CallError::Poisoned { cause: cause.clone() }.to_string();
        let snapshot = SnapshotError::Poisoned { cause }.to_string();
        for message in [call, snapshot] {
            assert!(message.contains("build or spawn a new sandbox"), "{message}");
            assert!(!message.contains("reset it") && !message.contains("earlier call"), "{message}");
        }
        let cause = Poison::Ended(Termination::Hypervisor(Arc::new(HypervisorError::Forked)));
        let message = CallError::Poisoned { cause }.to_string();
        assert!(message.contains("build or spawn a new sandbox") && !message.contains("reset it"), "{message}");
        let message = CallError::Poisoned { cause: Poison::Ended(Termination::Killed) }.to_string();
        assert_eq!(
            message,
            "the sandbox is poisoned: restore a snapshot or reset it; in an earlier call the guest ended: the call was killed"
        );
    }

    #[test]
    fn a_payload_that_fits_no_mailbox_is_not_told_to_be_given_a_larger_one() {
        let too_large = |needed| CallError::PayloadTooLarge {
            function: "render".to_owned(),
            what: Payload::Result,
            needed,
            mailbox_size: 1 << 20,
        };
        let message = too_large(LARGEST_MAILBOX as u64).to_string();
        assert!(message.ends_with("raise it with `Builder::mailbox_size`"), "{message}");
        let message = too_large(LARGEST_MAILBOX as u64 + 1).to_string();
        assert!(message.contains("in parts") && !message.contains("raise"), "{message}");
    }

    #[test]
    fn a_guests_message_cannot_play_with_the_terminal_that_shows_it() {
        let (function, message) = ("decode".to_owned(), "line 1\n\x1b[2J\u{202e}line 2".to_owned());
        let refused = CallError::ArgumentsRefused { function: function.clone(), message: message.clone() };
        for error in [refused, CallError::Function { function, message }] {
            assert!(error.to_string().ends_with("line 1\n\\u{1b}[2J\\u{202e}line 2"), "{error}");
        }
    }

    #[test]
    fn names_that_the_host_was_given_cannot_play_with_the_terminal_either() {
        let (image, function) = ("upload/\x1b[2J.elf".to_owned(), "gr\u{202e}eet\n".to_owned());
        let duplicate = BuildError::DuplicateHostFunction { function: function.clone() };
        let unknown = CallError::UnknownFunction { image: image.clone(), function, exports: Vec::new() };
        let signature: Signature = "fn()".parse().expect("it is a signature");
        let missing = BuildError::MissingHostFunction {
            image: image.clone(),
            function: "log".to_owned(),
            signature,
            setting: HostFunctionSetting::Builder,
            similar: Some("l\x1bog".to_owned()),
        };
        let foreign = RestoreError::ForeignImage { snapshot: image.clone(), sandbox: image };
        for error in [duplicate.to_string(), unknown.to_string(), missing.to_string(), foreign.to_string()] {
            assert!(!error.contains(['\x1b', '\n', '\u{202e}']), "{error:?}");
        }
    }

    #[test]
    fn a_value_that_a_type_rejects_cannot_play_with_the_terminal_either() {
        let reason: DecodeError = serde::de::Error::custom("no such colour: \x1b[31mred");
        let error = CallError::Decode { function: "colour".to_owned(), reason };
        assert!(error.to_string().ends_with("no such colour: \\u{1b}[31mred"), "{error}");
    }
}
