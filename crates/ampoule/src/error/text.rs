//! What errors of building a sandbox and of calling into it say.

use std::fmt;

use ampoule_abi::text::printable_name;

use super::{CallError, HostFunctionSetting};
use crate::core_dump::CoreDump;
use crate::fault::{FaultKind, Position};
use crate::guest_text;
use crate::nearest::nearest;
use crate::sandbox::LARGEST_MAILBOX;
use crate::signature::{Signature, Type};
use crate::termination::Termination;

/// How to provide a host function. The error of an import is made from a text or, where its type is one of the application's,
/// is a value.
pub(super) fn provided(setting: HostFunctionSetting, function: &str, signature: &Signature) -> String {
    let takes_value = signature.error().filter(|error| !is_made_of_text(error));
    let method = if signature.error().is_none() || takes_value.is_some() { "host_fn" } else { "try_host_fn" };
    let provided = match setting {
        HostFunctionSetting::Builder => format!("`Builder::{method}(\"{function}\", …)`"),
        HostFunctionSetting::Spawn => format!("`Spawn::{method}(\"{function}\", …)`, which `Snapshot::builder` has,"),
        HostFunctionSetting::Pool => {
            format!("`PoolBuilder::spawn_with(|spawn| spawn.{method}(\"{function}\", …))`")
        }
    };
    match takes_value {
        None => provided.trim_end_matches(',').to_owned(),
        Some(error) => format!(
            "{provided} and a closure that returns `Result<{}, {error}>`, or, if the guest makes that error from the text of \
             a `HostError`, with `try_host_fn`",
            signature.result()
        ),
    }
}

/// Whether the guest gets errors of this type from the text of a failure, as far as its name says. `Error` is that of
/// `std::io` and of `anyhow`, `_` that of an alias.
fn is_made_of_text(error: &Type) -> bool {
    let text = error.to_string();
    error.is_hidden() || MADE_OF_TEXT.contains(&text.as_str()) || text.starts_with("Box<")
}

/// What to ask for where a `Result` was asked for whose value is the function's and whose error is not.
pub(super) fn result_to_ask_for(expected: &Signature, given: &str) -> String {
    let Some((value, _)) = Type::outcome_in(given) else { return String::new() };
    match expected.error() {
        Some(error) if expected.gives(&value) && !is_made_of_text(error) => format!(
            "; ask for `Result<{value}, {error}>`, or for `{value}` to have its error as text, in `CallError::Function`"
        ),
        Some(_) if expected.gives(&value) => {
            format!("; ask for `{value}` to have its error as text, in `CallError::Function`")
        }
        None if expected.gives(&value) => format!("; it cannot fail, so ask for `{value}`"),
        _ => String::new(),
    }
}

/// What to do about a payload that does not fit the mailbox.
pub(super) fn more_room(needed: u64) -> String {
    if needed > LARGEST_MAILBOX as u64 {
        return format!(
            "no mailbox has more than {LARGEST_MAILBOX} bytes for it, so send it in parts, by several calls"
        );
    }
    "raise it with `Builder::mailbox_size`".to_owned()
}

/// What can be called instead of a function that does not exist.
pub(super) fn instead(function: &str, exports: &[String]) -> String {
    let names = || exports.iter().map(String::as_str);
    let meant = nearest(function, names()).map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
    let mut listed: Vec<&str> = names().collect();
    listed.sort_unstable();
    listed.truncate(MAX_LISTED);
    match exports.len().saturating_sub(MAX_LISTED) {
        _ if exports.is_empty() => "it exports nothing".to_owned(),
        0 => format!("{meant}it exports {}", listed.join(", ")),
        more => format!("{meant}it exports {} and {more} more", listed.join(", ")),
    }
}

pub(super) fn fmt_terminated(
    function: &str,
    sandbox: &str,
    cause: &Termination,
    position: &Option<Position>,
    core_dump: &Option<CoreDump>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let sandbox = printable_name(sandbox);
    match cause {
        Termination::Fault(fault) => {
            write!(f, "guest fault in `{function}` of sandbox `{sandbox}`: {}", fault.summary())?
        }
        cause => write!(f, "in guest function `{function}` of sandbox `{sandbox}`: {cause}")?,
    }
    fmt_position(position, f)?;
    fmt_core_dump(core_dump, f)?;
    f.write_str("; the sandbox is poisoned: restore a snapshot or reset it")?;
    fmt_details(cause, position, f)
}

pub(super) fn fmt_start(
    cause: &Termination,
    position: &Option<Position>,
    core_dump: &Option<CoreDump>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.write_str("the guest ended before it was ready: ")?;
    match cause {
        Termination::Fault(fault) => write!(f, "{}", fault.summary())?,
        cause => write!(f, "{cause}")?,
    }
    fmt_position(position, f)?;
    if let Termination::Fault(fault) = cause
        && let FaultKind::Exited { .. } = fault.kind()
    {
        f.write_str("; if it has a `fn main` of its own, put `ampoule_guest::main!();` in its place")?;
    }
    fmt_core_dump(core_dump, f)?;
    fmt_details(cause, position, f)
}

pub(crate) fn fmt_position(position: &Option<Position>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match position {
        Some(position) if position.is_known() => write!(f, ", while the guest was in {position}"),
        // A guest that was about to begin is in code of the host's.
        _ => Ok(()),
    }
}

pub(crate) fn fmt_core_dump(core_dump: &Option<CoreDump>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    core_dump.iter().try_for_each(|core_dump| write!(f, "; {core_dump}"))
}

/// The lines that `{:#}` adds.
pub(crate) fn fmt_details(cause: &Termination, position: &Option<Position>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (cause, position) {
        (Termination::Fault(fault), _) if f.alternate() => write!(f, "{}", fault.details()),
        (_, Some(position)) if f.alternate() => write!(f, "\n{position:#}"),
        _ => Ok(()),
    }
}

/// As if it were derived, with bounds for the guest's text.
impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error = |name, fields: &[(&str, &dyn fmt::Debug)]| {
            let mut error = f.debug_struct(name);
            for (name, value) in fields {
                error.field(name, value);
            }
            error.finish()
        };
        match self {
            Self::UnknownFunction { image, function, exports } => error(
                "UnknownFunction",
                &[("image", image), ("function", &guest_text::quoted(function)), ("exports", &exports.len())],
            ),
            Self::WrongArguments { function, expected, given } => {
                error("WrongArguments", &[("function", function), ("expected", expected), ("given", given)])
            }
            Self::WrongResult { function, expected, given } => {
                error("WrongResult", &[("function", function), ("expected", expected), ("given", given)])
            }
            Self::DifferentTypes { function, value, difference } => {
                error("DifferentTypes", &[("function", function), ("value", value), ("difference", difference)])
            }
            Self::Untransferable { function, value, path } => error(
                "Untransferable",
                &[("function", function), ("value", value), ("path", &guest_text::quoted(path))],
            ),
            Self::Undescribed { function, signature, value } => {
                error("Undescribed", &[("function", function), ("signature", signature), ("value", value)])
            }
            Self::WrongData { function, host_function, expected, given } => error(
                "WrongData",
                &[("function", function), ("host_function", host_function), ("expected", expected), ("given", given)],
            ),
            Self::ForeignFunction { function } => error("ForeignFunction", &[("function", function)]),
            Self::PayloadTooLarge { function, what, needed, mailbox_size } => error(
                "PayloadTooLarge",
                &[("function", function), ("what", what), ("needed", needed), ("mailbox_size", mailbox_size)],
            ),
            Self::Lending { reason } => error("Lending", &[("reason", reason)]),
            Self::Encode { function, reason } => error("Encode", &[("function", function), ("reason", reason)]),
            Self::Decode { function, reason } => error("Decode", &[("function", function), ("reason", reason)]),
            Self::ArgumentsRefused { function, message } => {
                error("ArgumentsRefused", &[("function", function), ("message", &guest_text::quoted(message))])
            }
            Self::Function { function, message } => {
                error("Function", &[("function", function), ("message", &guest_text::quoted(message))])
            }
            Self::Panicked { function, panic } => error("Panicked", &[("function", function), ("panic", panic)]),
            Self::LimitsUnwatched { function, reason } => {
                error("LimitsUnwatched", &[("function", function), ("reason", reason)])
            }
            Self::Terminated { function, sandbox, cause, position, core_dump } => error(
                "Terminated",
                &[
                    ("function", function),
                    ("sandbox", sandbox),
                    ("cause", cause),
                    ("position", position),
                    ("core_dump", core_dump),
                ],
            ),
            Self::Poisoned { cause } => error("Poisoned", &[("cause", cause)]),
        }
    }
}

/// Types of errors that the guest library or the guest makes from a text.
const MADE_OF_TEXT: [&str; 4] = ["HostError", "String", "&str", "Error"];

/// How many names of functions a message lists.
const MAX_LISTED: usize = 24;

#[cfg(test)]
mod tests;
