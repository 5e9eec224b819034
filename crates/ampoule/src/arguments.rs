//! Arguments of a call: tuples of `serde` values and streams.

use std::convert::identity;
use std::marker::PhantomData;

use ampoule_abi::codec::{self, EncodeError, Encoder};
use ampoule_abi::schema::{Checker, Difference};
use ampoule_abi::stream::NumberedItems;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arity::for_each_arity;
use crate::signature::Type;
use crate::stream::{HostStream, Items, Reader, Sink, Streams, Writer};

/// The arguments of a guest function: a tuple with one [`Argument`] for each parameter, `()` for none, 32 at most.
///
/// A value's type is compared with the guest's before it is written: by its name, and by what it is made of, which shows in the
/// value. So an enum's variants are compared when they are first sent. A type whose `Serialize` writes now this and now that
/// (a dynamic type) is compared by what it first writes.
///
/// Slices and vectors of bytes or other numbers travel as one block copy, wherever they stand in a value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the arguments of a guest function",
    note = "arguments are a tuple, even where there is only one, as in `(5,)`; it has at most 32 values, each of which implements \
            `serde::Serialize` or is a stream"
)]
pub trait Arguments: sealed::Sealed {
    #[doc(hidden)]
    fn types() -> Vec<Type>;

    /// Writes the values. Streams among them are added to those of the call.
    #[doc(hidden)]
    fn encode<'call, S: codec::Sink>(
        &'call self,
        encoder: &mut Encoder<S>,
        streams: &mut Streams<'call>,
    ) -> Result<(), EncodeError>;

    /// Compares the values with the types that the guest reads: which of them differs first, and how.
    #[doc(hidden)]
    fn check(&self, checker: &mut Checker<'_>, types: &[u32]) -> Result<(), (usize, Difference)>;
}

/// An argument of a guest function: a [`Serialize`] value, or a stream ([`Reader`], [`Writer`], [`Items`], [`Sink`]), which stands by
/// itself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a guest function",
    note = "an argument implements `serde::Serialize`, or is a stream (`ampoule::Reader`, `Writer`, `Items`, `Sink`), which cannot be \
            a part of another value"
)]
pub trait Argument: sealed::Argument {}

impl<T: Serialize> Argument for T {}

impl<T: Serialize> sealed::Argument for T {
    #[inline]
    fn encode<'call, S: codec::Sink>(
        &'call self,
        encoder: &mut Encoder<S>,
        _: &mut Streams<'call>,
    ) -> Result<(), EncodeError> {
        encoder.value(self)
    }

    #[inline]
    fn check(&self, checker: &mut Checker<'_>, data_type: u32) -> Result<(), Difference> {
        checker.value(data_type, self)
    }
}

/// Streams are arguments by the number that the call gives them, in a value of this type.
macro_rules! stream {
    ($name:ident $(<$item:ident>)?, $value:ty, $new:expr) => {
        impl$(<$item: Serialize + DeserializeOwned>)? Argument for $name<'_ $(, $item)?> {}

        impl$(<$item: Serialize + DeserializeOwned>)? sealed::Argument for $name<'_ $(, $item)?> {
            fn encode<'call, S: codec::Sink>(
                &'call self,
                encoder: &mut Encoder<S>,
                streams: &mut Streams<'call>,
            ) -> Result<(), EncodeError> {
                let stream: &'call dyn HostStream = self;
                let value: $value = $new(streams.add(stream));
                encoder.value(&value)
            }

            fn check(&self, checker: &mut Checker<'_>, data_type: u32) -> Result<(), Difference> {
                checker.type_of::<$value>(data_type)
            }
        }

        /// Each call has one of its own, with whatever lifetime.
        impl$(<$item: Serialize + DeserializeOwned>)? Parameter for $name<'_ $(, $item)?> {
            type Value<'call> = $name<'call $(, $item)?>;
        }
    };
}

stream!(Reader, u64, identity);
stream!(Writer, u64, identity);
stream!(Items<T>, NumberedItems<T>, NumberedItems::new);
stream!(Sink<T>, NumberedItems<T>, NumberedItems::new);

/// The parameters of a [`TypedFn`](crate::TypedFn): a tuple of types that can be sent, or of [`Borrowed`] ones.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the parameters of a guest function",
    note = "parameters are a tuple, even where there is only one, as in `(u32,)`; it has at most 32 types"
)]
pub trait Parameters {
    /// The arguments for one call.
    type Values<'call>: Arguments;
}

/// A type that a parameter can have: any [`Serialize`] type, a [`Borrowed`] one, or a stream.
pub trait Parameter {
    /// The argument for one call.
    type Value<'call>: Argument;
}

/// Stands for `&T` in the type of a [`TypedFn`](crate::TypedFn), with a lifetime that may be another one in each call.
///
/// A function resolved as `typed_fn::<(&[u8],), _>` has one lifetime for all of its calls, so it cannot be used in a loop
/// whose every turn borrows from something new. This one can:
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// use ampoule::Borrowed;
///
/// let thumbnail = sandbox.typed_fn::<(Borrowed<[u8]>, u32), Vec<u8>>("thumbnail")?;
/// for path in ["a.png", "b.png"] {
///     let photo = std::fs::read(path)?;
///     let small = thumbnail.call(&mut sandbox, (&photo, 160))?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Borrowed<T: ?Sized>(PhantomData<T>);

impl<T: Serialize> Parameter for T {
    type Value<'call> = T;
}

impl<T: ?Sized + Serialize + 'static> Parameter for Borrowed<T> {
    type Value<'call> = &'call T;
}

mod sealed {
    use super::{Checker, Difference, EncodeError, Encoder, Streams, codec};

    pub trait Sealed {}

    pub trait Argument {
        fn encode<'call, S: codec::Sink>(
            &'call self,
            encoder: &mut Encoder<S>,
            streams: &mut Streams<'call>,
        ) -> Result<(), EncodeError>;

        /// Compares the value with this type, which the guest reads.
        fn check(&self, checker: &mut Checker<'_>, data_type: u32) -> Result<(), Difference>;
    }
}

macro_rules! arguments {
    ($($name:ident)*) => {
        impl<$($name: Argument),*> sealed::Sealed for ($($name,)*) {}

        impl<$($name: Argument),*> Arguments for ($($name,)*) {
            fn types() -> Vec<Type> {
                vec![$(Type::of::<$name>()),*]
            }

            #[allow(non_snake_case, unused_variables, reason = "a value is named like its type parameter; there may be none")]
            fn encode<'call, S: codec::Sink>(
                &'call self,
                encoder: &mut Encoder<S>,
                streams: &mut Streams<'call>,
            ) -> Result<(), EncodeError> {
                let ($($name,)*) = self;
                $(sealed::Argument::encode($name, encoder, streams)?;)*
                Ok(())
            }

            #[allow(
                non_snake_case,
                unused_variables,
                unused_mut,
                reason = "a value is named like its type parameter; there may be none"
            )]
            fn check(&self, checker: &mut Checker<'_>, types: &[u32]) -> Result<(), (usize, Difference)> {
                let ($($name,)*) = self;
                let mut types = types.iter().copied().enumerate();
                $(if let Some((index, data_type)) = types.next() {
                    sealed::Argument::check($name, checker, data_type).map_err(|difference| (index, difference))?;
                })*
                Ok(())
            }
        }

        impl<$($name: Parameter),*> Parameters for ($($name,)*) {
            type Values<'call> = ($($name::Value<'call>,)*);
        }
    };
}

for_each_arity!(arguments);
