//! Host functions: closures of the application that a guest may call.

mod borrowing;
mod data;
mod error;

use std::fmt;

use ampoule_abi::codec::{
    DecodeError, Decoder, EncodeError, Encoder, OK, Sink, Source, encode_content, fails_with_text,
};
use ampoule_abi::schema::{Checker, Coverage, Difference, Tracer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::conversation::{PayloadArea, PayloadSource};
use crate::dynamic::{HostCall, ReadError, Value};
use crate::image::Image;
use crate::metrics::HostFunctionMeter;
use crate::signature::{Signature, Type};

pub use borrowing::{BorrowedParameters, Borrowing};
pub(crate) use data::{CallData, CallDataType};
pub use error::HostFunctionError;

/// A closure that can be a host function: up to 32 owned [`DeserializeOwned`] parameters, a [`Serialize`] result.
///
/// Parameters own what they hold: `String` instead of `&str`, `Vec<u8>` instead of `&[u8]`. Of a closure that borrows, the
/// compiler says that `Deserialize` is not general enough; [`borrowing!`](crate::borrowing) makes one that may.
///
/// `Parameters` is only there to tell closures of different arities apart and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a host function",
    note = "a host function is `Send + 'static` and has at most 32 parameters, which own what they hold (`String`, not `&str`, \
            unless it is wrapped in `ampoule::borrowing!`) and implement `serde::Deserialize`; to give it more, put some of them together in a struct"
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

/// A closure that can be a host function and works with data of the call: a [`HostFunction`] with a `&mut T` in front of its
/// parameters.
///
/// `T` is what the closure says it is; `Parameters` is only there to tell closures of different arities apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a host function that works with the data of a call",
    note = "its first parameter is the data, `&mut T` with the type written out; as for every host function, it is \
            `Send + 'static` and has at most 32 further parameters, which own what they hold (`String`, not `&str`) and \
            implement `serde::Deserialize`"
)]
pub trait HostFunctionWith<T: 'static, Parameters, R>: sealed::SealedWith<T, Parameters, R> + Send + 'static {
    #[doc(hidden)]
    fn parameter_types() -> Vec<Type>;

    /// Traces the types of the parameters.
    #[doc(hidden)]
    fn trace_parameters(tracer: &mut Tracer) -> Vec<u32>;

    #[doc(hidden)]
    fn call<'de>(&mut self, data: &mut T, arguments: impl Source<'de>) -> Result<R, DecodeError>;
}

/// A registered host function with its types erased.
pub(crate) struct HostFunctionEntry {
    pub(crate) name: String,
    pub(crate) signature: Signature,
    /// The data of the call with which it works, if it does.
    pub(crate) data: Option<CallDataType>,
    /// Whether its errors are values and not only text.
    pub(crate) gives_errors: bool,
    pub(crate) trace_parameters: fn(&mut Tracer) -> Vec<u32>,
    handler: Handler,
    meter: HostFunctionMeter,
}

type Handler = Box<
    dyn FnMut(
            PayloadSource<'_>,
            PayloadArea<'_>,
            Option<&mut ResultCheck>,
            Option<&mut CallData<'_>>,
        ) -> Result<usize, HostFunctionFailure>
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
        Self::of_values(name, F::parameter_types(), F::trace_parameters, move |arguments, _| {
            function.call(arguments).map_err(HostFunctionFailure::Arguments)
        })
    }

    /// The same with a closure that works with data of the call.
    pub(crate) fn new_with<T, F, P, R>(name: String, mut function: F) -> Self
    where
        T: 'static,
        F: HostFunctionWith<T, P, R>,
        R: Serialize,
    {
        let entry = Self::of_values(name, F::parameter_types(), F::trace_parameters, move |arguments, data| {
            function.call(data::of_call(data)?, arguments).map_err(HostFunctionFailure::Arguments)
        });
        Self { data: Some(CallDataType::of::<T>()), ..entry }
    }

    /// The error of the closure travels as text.
    pub(crate) fn fallible<F, P, R, E>(name: String, mut function: F) -> Self
    where
        F: HostFunction<P, Result<R, E>>,
        R: Serialize,
        E: fmt::Display,
    {
        Self::of_texts(name, F::parameter_types(), F::trace_parameters, move |arguments, _| {
            function.call(arguments).map_err(HostFunctionFailure::Arguments)
        })
    }

    /// The same with a closure that works with data of the call.
    pub(crate) fn fallible_with<T, F, P, R, E>(name: String, mut function: F) -> Self
    where
        T: 'static,
        F: HostFunctionWith<T, P, Result<R, E>>,
        R: Serialize,
        E: fmt::Display,
    {
        let entry = Self::of_texts(name, F::parameter_types(), F::trace_parameters, move |arguments, data| {
            function.call(data::of_call(data)?, arguments).map_err(HostFunctionFailure::Arguments)
        });
        Self { data: Some(CallDataType::of::<T>()), ..entry }
    }

    /// What `run` gives is a value, an error included.
    fn of_values<R: Serialize>(
        name: String,
        parameters: Vec<Type>,
        trace_parameters: fn(&mut Tracer) -> Vec<u32>,
        mut run: impl FnMut(PayloadSource<'_>, Option<&mut CallData<'_>>) -> Result<R, HostFunctionFailure> + Send + 'static,
    ) -> Self {
        let (result, error) = match Type::outcome_of::<R>() {
            Some((value, error)) => (value, Some(error)),
            None => (Type::of::<R>(), None),
        };
        let text = error.as_ref().map(|error| format!("it returned an error of the type `{error}`"));
        let gives_errors = error.is_some();
        let signature = Signature::new(parameters, result, error);
        let handler: Handler = Box::new(move |arguments, result, check, data| {
            let value = run(arguments, data)?;
            check.map_or(Ok(()), |check| check.check(&value, text.is_some()))?;
            match &text {
                Some(text) => encode_outcome(&value, text, result),
                None => encode(&value, result),
            }
        });
        Self {
            name,
            signature,
            data: None,
            gives_errors,
            trace_parameters,
            handler,
            meter: HostFunctionMeter::default(),
        }
    }

    /// Where `run` gives an error, its text is what the guest gets.
    fn of_texts<R: Serialize, E: fmt::Display>(
        name: String,
        parameters: Vec<Type>,
        trace_parameters: fn(&mut Tracer) -> Vec<u32>,
        mut run: impl FnMut(PayloadSource<'_>, Option<&mut CallData<'_>>) -> Result<Result<R, E>, HostFunctionFailure>
        + Send
        + 'static,
    ) -> Self {
        let handler: Handler = Box::new(move |arguments, result, check, data| match run(arguments, data)? {
            Ok(value) => {
                check.map_or(Ok(()), |check| check.check(&value, false))?;
                encode(&value, result)
            }
            Err(error) => Err(HostFunctionFailure::Function(format!("{error:#}"))),
        });
        let signature = Signature::new(parameters, Type::of::<R>(), Some(Type::of::<E>()));
        Self {
            name,
            signature,
            data: None,
            gives_errors: false,
            trace_parameters,
            handler,
            meter: HostFunctionMeter::default(),
        }
    }

    /// A closure without Rust types of its own: they are those of the function that the image imports by this name. One that
    /// it does not import is never called.
    pub(crate) fn dynamic(
        name: String,
        image: &Image,
        mut function: impl FnMut(&HostCall) -> Result<Value, String> + Send + 'static,
    ) -> Self {
        let import = image.imports().find(|import| import.name() == name).cloned();
        let signature = match &import {
            Some(import) => import.signature().clone(),
            None => Signature::new(Vec::new(), Type::of::<()>(), None),
        };
        let image = image.clone();
        let handler: Handler = Box::new(move |mut arguments, result, _, _| {
            let import = import.as_ref().expect("a function that is called is imported");
            let length = arguments.length();
            let call = HostCall::new(&image, import, &arguments.block(0, length)).map_err(|error| match error {
                ReadError::Malformed(error) => HostFunctionFailure::Arguments(error),
                ReadError::Undescribed => HostFunctionFailure::Function(error.to_string()),
            })?;
            let value = function(&call).map_err(HostFunctionFailure::Function)?;
            match call.bytes_of(&value) {
                Some(bytes) => put(bytes, result).map_err(HostFunctionFailure::Result),
                None => Err(HostFunctionFailure::Function(format!("it answered with a {}", value.data_type()))),
            }
        });
        // The types are the guest's own, so there is nothing to compare.
        Self {
            name,
            signature,
            data: None,
            gives_errors: false,
            trace_parameters: |_| Vec::new(),
            handler,
            meter: HostFunctionMeter::default(),
        }
    }

    /// Decodes the arguments, calls the closure, encodes its result: the length of the result.
    pub(crate) fn call(
        &mut self,
        arguments: PayloadSource<'_>,
        result: PayloadArea<'_>,
        check: Option<&mut ResultCheck>,
        data: Option<&mut CallData<'_>>,
    ) -> Result<usize, HostFunctionFailure> {
        let start = self.meter.start();
        let called = (self.handler)(arguments, result, check, data);
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

/// Writes a value that is encoded already.
fn put(bytes: &[u8], area: PayloadArea<'_>) -> Result<usize, EncodeError> {
    let mut sink = area.sink();
    if bytes.len() > sink.capacity() {
        return Err(EncodeError::TooLarge { needed: bytes.len(), capacity: sink.capacity() });
    }
    sink.put(0, bytes);
    Ok(bytes.len())
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
    pub trait SealedWith<T, Parameters, R> {}
}

/// The parameters of a host function, as a tuple.
trait OwnedParameters: Sized {
    fn types() -> Vec<Type>;

    fn trace(tracer: &mut Tracer) -> Vec<u32>;

    fn decode<'de>(arguments: impl Source<'de>) -> Result<Self, DecodeError>;
}

macro_rules! host_function {
    ($($name:ident)*) => {
        impl<$($name: DeserializeOwned),*> OwnedParameters for ($($name,)*) {
            fn types() -> Vec<Type> {
                vec![$(Type::of::<$name>()),*]
            }

            #[allow(unused_variables, reason = "there may be no parameters")]
            fn trace(tracer: &mut Tracer) -> Vec<u32> {
                vec![$(tracer.trace::<$name>()),*]
            }

            #[allow(unused_mut, reason = "without parameters nothing is decoded")]
            #[allow(non_snake_case, reason = "a value is named like its type parameter; there may be none")]
            fn decode<'de>(arguments: impl Source<'de>) -> Result<Self, DecodeError> {
                let mut decoder = Decoder::new(arguments);
                $(let $name = decoder.value::<$name>()?;)*
                decoder.finish()?;
                Ok(($($name,)*))
            }
        }

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
                <($($name,)*) as OwnedParameters>::types()
            }

            fn trace_parameters(tracer: &mut Tracer) -> Vec<u32> {
                <($($name,)*) as OwnedParameters>::trace(tracer)
            }

            #[allow(non_snake_case, reason = "a value is named like its type parameter; there may be none")]
            fn call<'de>(&mut self, arguments: impl Source<'de>) -> Result<Return, DecodeError> {
                let ($($name,)*) = OwnedParameters::decode(arguments)?;
                Ok(self($($name),*))
            }
        }

        impl<Function, Data, Return, $($name),*> sealed::SealedWith<Data, ($($name,)*), Return> for Function
        where
            Function: FnMut(&mut Data, $($name),*) -> Return,
        {}

        impl<Function, Data, Return, $($name),*> HostFunctionWith<Data, ($($name,)*), Return> for Function
        where
            Function: FnMut(&mut Data, $($name),*) -> Return + Send + 'static,
            Data: 'static,
            $($name: DeserializeOwned,)*
        {
            fn parameter_types() -> Vec<Type> {
                <($($name,)*) as OwnedParameters>::types()
            }

            fn trace_parameters(tracer: &mut Tracer) -> Vec<u32> {
                <($($name,)*) as OwnedParameters>::trace(tracer)
            }

            #[allow(non_snake_case, reason = "a value is named like its type parameter; there may be none")]
            fn call<'de>(&mut self, data: &mut Data, arguments: impl Source<'de>) -> Result<Return, DecodeError> {
                let ($($name,)*) = OwnedParameters::decode(arguments)?;
                Ok(self(data, $($name),*))
            }
        }
    };
}

crate::arity::for_each_arity!(host_function);

#[cfg(test)]
mod tests;
