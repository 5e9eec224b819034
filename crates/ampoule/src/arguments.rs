//! Arguments of a call: tuples of `serde` values.

use std::marker::PhantomData;

use ampoule_abi::codec::{EncodeError, Encoder, Sink};
use ampoule_abi::schema::{Checker, Difference};
use serde::Serialize;

use crate::arity::for_each_arity;
use crate::signature::Type;

/// The arguments of a guest function: a tuple with one [`Serialize`] value for each parameter, `()` for none, 32 at most.
///
/// A value's type is compared with the guest's before it is written: by its name, and by what it is made of, which shows in the
/// value. So an enum's variants are compared when they are first sent. A type whose `Serialize` writes now this and now that
/// (a dynamic type) is compared by what it first writes.
///
/// Slices and vectors of bytes or other numbers travel as one block copy, wherever they stand in a value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the arguments of a guest function",
    note = "arguments are a tuple, even where there is only one, as in `(5,)`; it has at most 32 values, each of which implements \
            `serde::Serialize`"
)]
pub trait Arguments: sealed::Sealed {
    #[doc(hidden)]
    fn types() -> Vec<Type>;

    #[doc(hidden)]
    fn encode<S: Sink>(&self, encoder: &mut Encoder<S>) -> Result<(), EncodeError>;

    /// Compares the values with the types that the guest reads: which of them differs first, and how.
    #[doc(hidden)]
    fn check(&self, checker: &mut Checker<'_>, types: &[u32]) -> Result<(), (usize, Difference)>;
}

/// The parameters of a [`TypedFn`](crate::TypedFn): a tuple of types that can be sent, or of [`Borrowed`] ones.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the parameters of a guest function",
    note = "parameters are a tuple, even where there is only one, as in `(u32,)`; it has at most 32 types"
)]
pub trait Parameters {
    /// The arguments for one call.
    type Values<'call>: Arguments;
}

/// A type that a parameter can have: any [`Serialize`] type, or a [`Borrowed`] one.
pub trait Parameter {
    /// The argument for one call.
    type Value<'call>: Serialize;
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
    pub trait Sealed {}
}

macro_rules! arguments {
    ($($name:ident)*) => {
        impl<$($name: Serialize),*> sealed::Sealed for ($($name,)*) {}

        impl<$($name: Serialize),*> Arguments for ($($name,)*) {
            fn types() -> Vec<Type> {
                vec![$(Type::of::<$name>()),*]
            }

            #[allow(non_snake_case, unused_variables, reason = "a value is named like its type parameter; there may be none")]
            fn encode<S: Sink>(&self, encoder: &mut Encoder<S>) -> Result<(), EncodeError> {
                let ($($name,)*) = self;
                $(encoder.value($name)?;)*
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
                    checker.value(data_type, $name).map_err(|difference| (index, difference))?;
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
