//! Host functions: closures of the application that a guest may call.

use std::fmt;

use ampoule_abi::codec::{DecodeError, Decoder, EncodeError, Encoder, OK, Source, encode_content, fails_with_text};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::conversation::{PayloadArea, PayloadSource};
use crate::signature::{Signature, Type};

/// A closure that can be a host function: up to 32 owned [`DeserializeOwned`] parameters, a [`Serialize`] result.
///
/// `Parameters` is only there to tell closures of different arities apart and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a host function",
    note = "a host function is `Send + 'static` and has at most 32 parameters, which own what they hold and implement \
            `serde::Deserialize`; to give it more, put some of them together in a struct"
)]
pub trait HostFunction<Parameters, R>: sealed::Sealed<Parameters, R> + Send + 'static {
    #[doc(hidden)]
    fn parameter_types() -> Vec<Type>;

    #[doc(hidden)]
    fn call<'de>(&mut self, arguments: impl Source<'de>) -> Result<R, DecodeError>;
}

/// A registered host function with its types erased.
pub(crate) struct HostFunctionEntry {
    pub(crate) name: String,
    pub(crate) signature: Signature,
    /// Whether its errors are values and not only text.
    pub(crate) gives_errors: bool,
    handler: Handler,
}

type Handler = Box<dyn FnMut(PayloadSource<'_>, PayloadArea<'_>) -> Result<usize, HostFunctionFailure> + Send>;

/// Why a host function gave no result; the guest is told.
pub(crate) enum HostFunctionFailure {
    Arguments(DecodeError),
    Result(EncodeError),
    Function(String),
    /// The function's own error stands where its result would: the bytes of its text, and behind it those of its value, of
    /// which there are none where the text says it all.
    Error {
        text: usize,
        value: usize,
    },
}

impl HostFunctionEntry {
    /// A closure that returns a `Result` can fail, and its error travels as a value.
    pub(crate) fn new<F, P, R>(name: String, mut function: F) -> Self
    where
        F: HostFunction<P, R>,
        R: Serialize,
    {
        let (result, error) = match Type::outcome_of::<R>() {
            Some((value, error)) => (value, Some(error)),
            None => (Type::of::<R>(), None),
        };
        let text = error.as_ref().map(|error| format!("it returned an error of the type `{error}`"));
        let gives_errors = error.is_some();
        let signature = Signature::new(F::parameter_types(), result, error);
        let handler: Handler = Box::new(move |arguments, result| {
            let value = function.call(arguments).map_err(HostFunctionFailure::Arguments)?;
            match &text {
                Some(text) => encode_outcome(&value, text, result),
                None => encode(&value, result),
            }
        });
        Self { name, signature, gives_errors, handler }
    }

    pub(crate) fn fallible<F, P, R, E>(name: String, mut function: F) -> Self
    where
        F: HostFunction<P, Result<R, E>>,
        R: Serialize,
        E: fmt::Display,
    {
        let handler: Handler = Box::new(move |arguments, result| {
            match function.call(arguments).map_err(HostFunctionFailure::Arguments)? {
                Ok(value) => encode(&value, result),
                Err(error) => Err(HostFunctionFailure::Function(format!("{error:#}"))),
            }
        });
        let signature = Signature::new(F::parameter_types(), Type::of::<R>(), Some(Type::of::<E>()));
        Self { name, signature, gives_errors: false, handler }
    }

    /// Decodes the arguments, calls the closure, encodes its result: the length of the result.
    pub(crate) fn call(
        &mut self,
        arguments: PayloadSource<'_>,
        result: PayloadArea<'_>,
    ) -> Result<usize, HostFunctionFailure> {
        (self.handler)(arguments, result)
    }
}

impl fmt::Debug for HostFunctionEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFunctionEntry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Nothing of the area is held until there is something to write: the closure has run, however long that took.
fn encode<R: Serialize>(value: &R, result: PayloadArea<'_>) -> Result<usize, HostFunctionFailure> {
    let mut encoder = Encoder::new(result.sink());
    encoder.value(value).and_then(|()| encoder.finish()).map_err(HostFunctionFailure::Result)
}

/// Writes the value of a `Result`, or the text and the value of its error.
fn encode_outcome<R: Serialize>(outcome: &R, text: &str, area: PayloadArea<'_>) -> Result<usize, HostFunctionFailure> {
    let (variant, length) = encode_content(outcome, 0, area.sink()).map_err(HostFunctionFailure::Result)?;
    if variant == OK {
        return Ok(length);
    }
    if fails_with_text::<R>() {
        return Err(HostFunctionFailure::Error { text: length, value: 0 });
    }
    let mut sink = area.sink();
    let mut encoder = Encoder::new(&mut sink);
    let text = encoder.value(text).and_then(|()| encoder.finish()).map_err(HostFunctionFailure::Result)?;
    let (_, value) = encode_content(outcome, text, sink).map_err(HostFunctionFailure::Result)?;
    Err(HostFunctionFailure::Error { text, value })
}

mod sealed {
    pub trait Sealed<Parameters, R> {}
}

macro_rules! host_function {
    ($($name:ident)*) => {
        impl<Function, Return, $($name),*> sealed::Sealed<($($name,)*), Return> for Function
        where
            Function: FnMut($($name),*) -> Return,
        {}

        impl<Function, Return, $($name),*> HostFunction<($($name,)*), Return> for Function
        where
            Function: FnMut($($name),*) -> Return + Send + 'static,
            $($name: DeserializeOwned,)*
        {
            fn parameter_types() -> Vec<Type> {
                vec![$(Type::of::<$name>()),*]
            }

            #[allow(non_snake_case, reason = "a value is named like its type parameter; there may be none")]
            fn call<'de>(&mut self, arguments: impl Source<'de>) -> Result<Return, DecodeError> {
                #[allow(unused_mut, reason = "without parameters nothing is decoded")]
                let mut decoder = Decoder::new(arguments);
                $(let $name = decoder.value::<$name>()?;)*
                decoder.finish()?;
                Ok(self($($name),*))
            }
        }
    };
}

crate::arity::for_each_arity!(host_function);

#[cfg(test)]
mod tests;
