//! Host functions whose parameters borrow from what the guest has sent.

use std::fmt;

use ampoule_abi::codec::{DecodeError, Source};
use ampoule_abi::schema::Tracer;

use super::{HostFunction, sealed};
use crate::signature::Type;

/// A host function whose parameters may borrow; made by [`borrowing!`](crate::borrowing).
pub struct Borrowing<P, F> {
    parameters: P,
    run: F,
}

impl<P, F> Borrowing<P, F> {
    #[doc(hidden)]
    pub fn new(parameters: P, run: F) -> Self {
        Self { parameters, run }
    }
}

/// Stands for the parameters of a [`Borrowing`].
#[derive(Debug)]
pub enum Borrowed {}

/// The parameters of a [`Borrowing`], of which each has a type of its own that implements this.
#[doc(hidden)]
pub trait BorrowedParameters: Send + 'static {
    fn types() -> Vec<Type>;

    fn trace(tracer: &mut Tracer) -> Vec<u32>;
}

impl<P, F, R> sealed::Sealed<Borrowed, R> for Borrowing<P, F> {}

impl<P, F, R> HostFunction<Borrowed, R> for Borrowing<P, F>
where
    P: BorrowedParameters,
    F: FnMut(&[u8]) -> Result<R, DecodeError> + Send + 'static,
{
    fn parameter_types() -> Vec<Type> {
        P::types()
    }

    fn trace_parameters(tracer: &mut Tracer) -> Vec<u32> {
        P::trace(tracer)
    }

    fn call<'de>(&mut self, mut arguments: impl Source<'de>) -> Result<R, DecodeError> {
        let length = arguments.length();
        (self.run)(&arguments.block(0, length))
    }
}

impl<P: fmt::Debug, F> fmt::Debug for Borrowing<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Borrowing").field(&self.parameters).finish()
    }
}

/// Makes a closure a host function whose parameters may borrow: `&str`, `&[u8]`, and what holds them.
///
/// [`Builder::host_fn`](crate::Builder::host_fn) and `try_host_fn` take parameters that own what they hold, because the compiler
/// cannot tell, for a closure that borrows, for how long. This macro sees the types, all of which have to be written out, and
/// says so. What is borrowed is a copy of what the guest has sent, which cannot change, and goes away when the closure returns.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// let mut lines = Vec::new();
/// let sandbox = ampoule::Sandbox::builder(&image)
///     .host_fn("log", ampoule::borrowing!(move |level: u8, line: &str| lines.push(format!("{level} {line}"))))
///     .host_fn("checksum", ampoule::borrowing!(|bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()))
///     .build()?;
/// # Ok(()) }
/// ```
#[macro_export]
macro_rules! borrowing {
    (move |$($name:ident : $kind:ty),+ $(,)?| $body:expr) => {
        $crate::borrowing!(@ [$($name : $kind),*] move |$($name : $kind),*| $body)
    };
    (|$($name:ident : $kind:ty),+ $(,)?| $body:expr) => {
        $crate::borrowing!(@ [$($name : $kind),*] |$($name : $kind),*| $body)
    };
    (@ [$($name:ident : $kind:ty),*] $closure:expr) => {{
        #[derive(Debug)]
        struct Parameters;

        impl $crate::__private::BorrowedParameters for Parameters {
            fn types() -> ::std::vec::Vec<$crate::signature::Type> {
                ::std::vec![$($crate::signature::Type::of::<$kind>()),*]
            }

            fn trace(tracer: &mut $crate::__private::Tracer) -> ::std::vec::Vec<u32> {
                ::std::vec![$(tracer.trace::<$kind>()),*]
            }
        }

        /// Makes the closure one for every lifetime.
        fn for_any<R, F: FnMut($($kind),*) -> R + Send + 'static>(function: F) -> F {
            function
        }

        let mut function = for_any($closure);
        $crate::Borrowing::new(Parameters, move |arguments: &[u8]| {
            let mut decoder = $crate::__private::Decoder::new(arguments);
            $(let $name: $kind = decoder.value()?;)*
            decoder.finish()?;
            ::std::result::Result::<_, $crate::DecodeError>::Ok(function($($name),*))
        })
    }};
}
