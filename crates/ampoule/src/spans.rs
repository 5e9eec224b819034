//! The spans of the `tracing` log: what takes time, from the application's point of view.
//!
//! All have level `DEBUG` and the target `ampoule`, so that nothing is done where the log does not want them but for the
//! test of a number. `docs/tracing.md` has their names and fields.

use std::fmt::Display;

use ampoule_abi::text::printable_name;
use tracing::Span;
use tracing::field::{Empty, display};

use crate::fault::FaultKind;
use crate::output::Origin;
use crate::stream::Direction;
use crate::termination::Termination;

/// A sandbox is built from an image, or a program is loaded.
pub(crate) fn create(image: &str, memory_limit: usize) -> Span {
    tracing::debug_span!(target: TARGET, "create", image = %printable_name(image), memory_limit, error = Empty)
}

/// A guest runs until it is ready for calls.
pub(crate) fn start(origin: &Origin) -> Span {
    tracing::debug_span!(target: TARGET, "start", image = %origin.image(), sandbox = %origin.sandbox())
}

/// A guest runs until it has returned from a call, which has this many bytes of arguments.
pub(crate) fn call(origin: &Origin, arguments: usize) -> Span {
    tracing::debug_span!(
        target: TARGET,
        "call",
        image = %origin.image(),
        sandbox = %origin.sandbox(),
        function = origin.function(),
        arguments,
        error = Empty
    )
}

/// A program runs until it ends or waits for its input.
pub(crate) fn run(origin: &Origin) -> Span {
    let (image, sandbox) = (origin.image(), origin.sandbox());
    tracing::debug_span!(target: TARGET, "run", %image, %sandbox, code = Empty, error = Empty)
}

/// Takes note in the span of a run of how the program has ended.
pub(crate) fn ended(span: &Span, cause: &Termination) {
    if let Termination::Fault(fault) = cause
        && let FaultKind::Exited { code } = fault.kind()
    {
        span.record("code", code);
    } else {
        span.record("error", display(cause));
    }
}

/// A host function runs, which is given this many bytes.
pub(crate) fn host_function(function: &str, arguments: usize) -> Span {
    tracing::debug_span!(target: TARGET, "host_function", function = %printable_name(function), arguments)
}

/// A piece of a stream passes, which has this many bytes; where the guest reads, at most.
pub(crate) fn stream(direction: Direction, bytes: usize) -> Span {
    let direction = match direction {
        Direction::Read => "read",
        Direction::Write => "write",
    };
    tracing::debug_span!(target: TARGET, "stream", direction, bytes)
}

/// A snapshot is taken.
pub(crate) fn snapshot(origin: &Origin) -> Span {
    let (image, sandbox) = (origin.image(), origin.sandbox());
    tracing::debug_span!(target: TARGET, "snapshot", %image, %sandbox, stored_pages = Empty, error = Empty)
}

/// A sandbox is made from a snapshot.
pub(crate) fn spawn(image: &str) -> Span {
    tracing::debug_span!(target: TARGET, "spawn", image = %printable_name(image), error = Empty)
}

/// A sandbox goes back to a snapshot.
pub(crate) fn restore(origin: &Origin) -> Span {
    let (image, sandbox) = (origin.image(), origin.sandbox());
    tracing::debug_span!(target: TARGET, "restore", %image, %sandbox, pages = Empty, error = Empty)
}

/// Somebody waits for a sandbox of a pool of this size.
pub(crate) fn pool_wait(image: impl Display, size: usize) -> Span {
    tracing::debug_span!(target: TARGET, "pool_wait", %image, size)
}

/// Takes note in a span of what it is about of why it has failed.
pub(crate) fn failed<T, E: Display>(span: &Span, result: &Result<T, E>) {
    if let Err(error) = result {
        span.record("error", display(error));
    }
}

const TARGET: &str = "ampoule";
