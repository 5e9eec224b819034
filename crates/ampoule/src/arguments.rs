//! Arguments of a call: tuples of `serde` values.

use ampoule_abi::codec::{EncodeError, Encoder, Sink};
use serde::Serialize;

use crate::signature::Type;

/// The arguments of a guest function: a tuple with one [`Serialize`] value for each parameter, `()` for none.
///
/// Byte slices and byte vectors travel as one block copy, wherever they stand in a value.
pub trait Arguments: sealed::Sealed {
    #[doc(hidden)]
    fn types() -> Vec<Type>;

    #[doc(hidden)]
    fn encode<S: Sink>(&self, encoder: &mut Encoder<S>) -> Result<(), EncodeError>;
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
        }
    };
}

crate::arity::for_each_arity!(arguments);
