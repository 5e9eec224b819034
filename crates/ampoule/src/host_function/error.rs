//! Errors that a host function can return.

use std::fmt;

/// An error of a closure for [`Builder::try_host_fn`](crate::Builder::try_host_fn): anything with a text.
///
/// The trait is there for the compiler's message where there is none.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a host function",
    label = "this closure's error has no text",
    note = "the guest gets the text of the error, so it has to implement `std::fmt::Display`; where it does not, turn it into \
            one that does, as in `.map_err(|error| format!(\"{{error:?}}\"))`"
)]
pub trait HostFunctionError: fmt::Display {}

#[diagnostic::do_not_recommend]
impl<E: fmt::Display> HostFunctionError for E {}
