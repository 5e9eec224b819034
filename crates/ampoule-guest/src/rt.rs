//! What the macros expand to. Not part of the public interface: only this crate's own macros may name it.

pub(crate) mod allocations;
mod call;
#[cfg(any(feature = "log", feature = "tracing"))]
mod counter;
mod fallible;
mod held_text;
mod host_call;
mod log;
mod mailbox;
mod output;
mod panics;
mod record;
mod serve;
mod signature;
pub(crate) mod stream;
mod types;

pub use ampoule_abi::layout::padded_text_len;
pub use call::{Arguments, BadArguments, Call, Return};
pub use fallible::{
    AnswerBoth, AnswerDisplay, AnswerText, AnswerValue, CanFail, CannotFail, ErrorOfBoth, ErrorOfFailure, ErrorOfValue,
    ErrorText, ExpectFailure, ExpectSuccess, Expected, Failed, Fallible, IsText, MadeOfFailure, Refused, Required,
    Returned, Unhandled,
};
pub use host_call::Outgoing;
pub(crate) use log::install as install_logging;
pub(crate) use mailbox::generation;
pub use record::{Imported, Record, Shim};
pub use serve::{UnexpectedMessage, run, serve};
pub use signature::{
    OrdinaryReturn, Part, Probe, ReturnProbe, Unnamed, WireName, as_str, is_described, text, text_len,
};
pub use types::{Description, TraceRead, TraceUnread, Traceable, Types};
