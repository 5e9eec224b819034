//! Host functions: closures of the application that a guest may call.

mod error;

use std::fmt;

use ampoule_abi::codec::{DecodeError, Decoder, EncodeError, Encoder, OK, Source, encode_content, fails_with_text};
use ampoule_abi::schema::{Checker, Coverage, Difference, Tracer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::conversation::{PayloadArea, PayloadSource};
use crate::image::Image;
use crate::metrics::HostFunctionMeter;
use crate::signature::{Signature, Type};

pub use error::HostFunctionError;

/// A closure that can be a host function: up to 32 owned [`DeserializeOwned`] parameters, a [`Serialize`] result.
///
/// Parameters own what they hold: `String` instead of `&str`, `Vec<u8>` instead of `&[u8]`. Of a closure that borrows, the
/// compiler says that `Deserialize` is not general enough.
///
/// `Parameters` is only there to tell closures of different arities apart and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a host function",
    note = "a host function is `Send + 'static` and has at most 32 parameters, which own what they hold (`String`, not `&str`) \
            and implement `serde::Deserialize`; to give it more, put some of them together in a struct"
)]
pub trait HostFunction<Parameters, R>: sealed::Sealed<Parameters, R> + Send + 'static {
    #[doc(hidden)]
    fn parameter_types() -> Vec<Type>;

    /// Traces the types of the parameters.
    #[doc(hidden)]
    fn trace_parameters(tracer: &mut Tracer) -> Vec<u32>;

    #[doc(hidden)]
    fn call<'de>(&mut self, arguments: impl Source<'de>) -> Result<R, DecodeError>;
}

/// A registered host function with its types erased.
pub(crate) struct HostFunctionEntry {
    pub(crate) name: String,
    pub(crate) signature: Signature,
    /// Whether its errors are values and not only text.
    pub(crate) gives_errors: bool,
    pub(crate) trace_parameters: fn(&mut Tracer) -> Vec<u32>,
    handler: Handler,
    meter: HostFunctionMeter,
}

type Handler = Box<
    dyn FnMut(PayloadSource<'_>, PayloadArea<'_>, Option<&mut ResultCheck>) -> Result<usize, HostFunctionFailure>
        + Send,
>;

/// Compares what a host function returns with the types that the guest reads.
#[derive(Debug)]
pub(crate) struct ResultCheck {
    image: Image,
    /// The function number of the import.
    number: u32,
    coverage: Coverage,
}

impl ResultCheck {
    /// Compares the results of the import of this number, of which the image's guest says what they are made of.
    pub(crate) fn new(image: Image, number: u32) -> Self {
        Self { image, number, coverage: Coverage::new() }
    }

    /// Compares a value, or a `Result` of which the guest reads the value or the error.
    fn check<R: Serialize>(&mut self, value: &R, is_outcome: bool) -> Result<(), HostFunctionFailure> {
        let Some(all) = self.image.described().filter(|_| !self.coverage.is_complete()) else { return Ok(()) };
        let Some(function) = all.function(self.number) else { return Ok(()) };
        let mut checker = Checker::new(all.types(), &mut self.coverage);
        let data_type = if is_outcome { function.outcome } else { function.result };
        checker.value(data_type, value).map_err(|difference| HostFunctionFailure::Types(Box::new(difference)))?;
        checker.finish();
        Ok(())
    }
}

/// Why a host function gave no result; the guest is told.
pub(crate) enum HostFunctionFailure {
    Arguments(DecodeError),
    Result(EncodeError),
    Function(String),
    /// An argument is of another type than the host reads.
    ArgumentTypes {
        index: usize,
        difference: Box<Difference>,
    },
    /// The result is of another type than the guest reads.
    Types(Box<Difference>),
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
        let handler: Handler = Box::new(move |arguments, result, check| {
            let value = function.call(arguments).map_err(HostFunctionFailure::Arguments)?;
            check.map_or(Ok(()), |check| check.check(&value, text.is_some()))?;
            match &text {
                Some(text) => encode_outcome(&value, text, result),
                None => encode(&value, result),
            }
        });
        let (trace_parameters, meter) = (F::trace_parameters, HostFunctionMeter::default());
        Self { name, signature, gives_errors, trace_parameters, handler, meter }
    }

    pub(crate) fn fallible<F, P, R, E>(name: String, mut function: F) -> Self
    where
        F: HostFunction<P, Result<R, E>>,
        R: Serialize,
        E: fmt::Display,
    {
        let handler: Handler = Box::new(move |arguments, result, check| {
            match function.call(arguments).map_err(HostFunctionFailure::Arguments)? {
                Ok(value) => {
                    check.map_or(Ok(()), |check| check.check(&value, false))?;
                    encode(&value, result)
                }
                Err(error) => Err(HostFunctionFailure::Function(format!("{error:#}"))),
            }
        });
        let signature = Signature::new(F::parameter_types(), Type::of::<R>(), Some(Type::of::<E>()));
        let (trace_parameters, meter) = (F::trace_parameters, HostFunctionMeter::default());
        Self { name, signature, gives_errors: false, trace_parameters, handler, meter }
    }

    /// Decodes the arguments, calls the closure, encodes its result: the length of the result.
    pub(crate) fn call(
        &mut self,
        arguments: PayloadSource<'_>,
        result: PayloadArea<'_>,
        check: Option<&mut ResultCheck>,
    ) -> Result<usize, HostFunctionFailure> {
        let start = self.meter.start();
        let called = (self.handler)(arguments, result, check);
        self.meter.ended(&self.name, start, called.is_ok());
        called
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

            #[allow(unused_variables, reason = "there may be no parameters")]
            fn trace_parameters(tracer: &mut Tracer) -> Vec<u32> {
                vec![$(tracer.trace::<$name>()),*]
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
