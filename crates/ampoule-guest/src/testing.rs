//! Stand-ins for the host, for tests that run without a sandbox.
//!
//! ```
//! use ampoule_guest::{export, import, testing};
//!
//! #[import]
//! fn weekday() -> String;
//!
//! #[export]
//! fn greet(name: &str) -> String {
//!     format!("Hello, {name}! Today is {}.", weekday())
//! }
//!
//! let _weekday = testing::provide("weekday", || "Friday".to_string());
//! assert_eq!(greet("World"), "Hello, World! Today is Friday.");
//! ```
//!
//! Arguments and results are encoded and decoded as between guest and host, so a test also shows that their types can
//! travel. Their types may differ from those of the import as they may on a host: an import's `&str` is a closure's
//! `String`, or its `&str` with [`borrowing!`](crate::borrowing).
//!
//! [`restore`] stands in for a host that restores the guest.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;
use std::rc::Rc;

use ampoule_abi::codec::{self, DecodeError, Decoder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{HostError, HostErrorKind};
use crate::restore;

/// Has a closure answer calls of the import `name`, on this thread, until the guard is dropped.
///
/// The closure has up to 32 parameters, which own what they hold: an import's `&str` is a closure's `String`, unless
/// [`borrowing!`](crate::borrowing) makes it one that borrows. It takes the
/// place of the one that the import had before, which gets it back afterwards. A closure that returns a `Result` can fail, and the import gets its error as a value.
///
/// ```
/// # use ampoule_guest::{import, testing};
/// #[import]
/// fn add(left: u32, right: u32) -> u32;
///
/// let mut calls = 0;
/// {
///     let _add = testing::provide("add", move |left: u32, right: u32| {
///         calls += 1;
///         left + right + calls
///     });
///     assert_eq!(add(20, 21), 42);
///     assert_eq!(add(20, 21), 43);
/// }
/// ```
#[must_use = "the function is provided until the guard is dropped"]
pub fn provide<Arguments, R>(name: &str, function: impl HostFunction<Arguments, R> + 'static) -> Provided
where
    R: Serialize + 'static,
{
    stand_in(name, function, Ok::<R, &str>)
}

/// As [`provide`], with a closure that can fail. The import gets its error's text.
#[must_use = "the function is provided until the guard is dropped"]
pub fn try_provide<Arguments, R, E>(
    name: &str,
    function: impl HostFunction<Arguments, Result<R, E>> + 'static,
) -> Provided
where
    R: Serialize + 'static,
    E: Display + 'static,
{
    stand_in(name, function, |result| result)
}

/// A closure that can stand in for a function of the host: one whose arguments can be decoded.
///
/// It is implemented for closures of up to 32 parameters, and for what [`borrowing!`](crate::borrowing) makes of others.
pub trait HostFunction<Arguments, R>: sealed::Call<Arguments, R> {}

impl<Arguments, R, F: sealed::Call<Arguments, R>> HostFunction<Arguments, R> for F {}

/// A closure whose parameters may borrow; made by [`borrowing!`](crate::borrowing).
#[derive(Debug)]
pub struct Borrowing<F>(F);

impl<F> Borrowing<F> {
    #[doc(hidden)]
    pub fn new<R>(run: F) -> Self
    where
        F: FnMut(&[u8]) -> Result<R, DecodeError>,
    {
        Self(run)
    }
}

/// Stands for the parameters of a [`Borrowing`].
#[derive(Debug)]
pub enum Borrowed {}

impl<F, R> sealed::Call<Borrowed, R> for Borrowing<F>
where
    F: FnMut(&[u8]) -> Result<R, DecodeError>,
{
    fn call(&mut self, arguments: &[u8]) -> Result<R, DecodeError> {
        (self.0)(arguments)
    }
}

/// What [`borrowing!`](crate::borrowing) expands to.
#[doc(hidden)]
pub mod __private {
    pub use ampoule_abi::codec::{DecodeError, Decoder};
}

/// Makes a closure whose parameters may borrow (`&str`, `&[u8]`, and what holds them) one that
/// [`testing::provide`](crate::testing::provide) takes. The types of the parameters have to be written out.
///
/// ```
/// use ampoule_guest::{borrowing, import, testing};
///
/// #[import]
/// fn length(text: &str) -> u64;
///
/// let _length = testing::provide("length", borrowing!(|text: &str| text.len() as u64));
/// assert_eq!(length("four"), 4);
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
        /// Makes the closure one for every lifetime.
        fn for_any<R, F: FnMut($($kind),*) -> R>(function: F) -> F {
            function
        }

        let mut function = for_any($closure);
        $crate::testing::Borrowing::new(move |arguments: &[u8]| {
            let mut decoder = $crate::testing::__private::Decoder::new(arguments);
            $(let $name: $kind = decoder.value()?;)*
            decoder.finish()?;
            ::std::result::Result::<_, $crate::testing::__private::DecodeError>::Ok(function($($name),*))
        })
    }};
}

/// Keeps a stand-in in its place. See [`provide`].
#[derive(Debug)]
#[must_use = "the function is provided until the guard is dropped"]
pub struct Provided {
    name: String,
    before: Option<StandIn>,
}

impl Drop for Provided {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        STAND_INS.with_borrow_mut(|all| match self.before.take() {
            Some(before) => all.insert(name, before),
            None => all.remove(&name),
        });
    }
}

/// Does on this thread what a guest notices when its host restores it: changes the
/// [`generation`](crate::generation()) and runs the hooks of [`on_restore`](crate::on_restore). The state in statics and
/// thread-locals stays as it is.
///
/// In a sandbox the hooks would wait for the next call; here, where functions call each other without a host, they run at
/// once.
///
/// ```
/// use std::cell::Cell;
///
/// use ampoule_guest::{import, on_restore, testing};
///
/// #[import]
/// fn seed() -> u64;
///
/// thread_local! {
///     static STATE: Cell<u64> = const { Cell::new(0) };
/// }
///
/// fn prepare() {
///     on_restore(|| STATE.set(seed()));
/// }
///
/// let _seed = testing::provide("seed", || 42u64);
/// prepare();
/// assert_eq!(STATE.get(), 0);
/// testing::restore();
/// assert_eq!(STATE.get(), 42);
/// ```
///
/// # Panics
///
/// Where a hook does.
pub fn restore() {
    GENERATION.set(GENERATION.get() + 1);
    restore::run_hooks();
}

/// The generation outside a sandbox.
pub(crate) fn generation() -> u64 {
    GENERATION.get()
}

/// Calls what stands in for the import, if something does.
pub(crate) fn call(name: &str, arguments: &[u8]) -> Option<Result<Vec<u8>, HostError>> {
    let function = STAND_INS.with_borrow(|all| all.get(name).cloned())?;
    Some((function.0)(arguments))
}

fn stand_in<Arguments, T, R, E>(
    name: &str,
    function: impl HostFunction<Arguments, T> + 'static,
    outcome: impl Fn(T) -> Result<R, E> + 'static,
) -> Provided
where
    R: Serialize + 'static,
    E: Display + 'static,
{
    let function = RefCell::new(function);
    let function_name = name.to_owned();
    let answer = move |arguments: &[u8]| {
        let error = |kind, message| HostError::new(&function_name, kind, message);
        let returned = function
            .borrow_mut()
            .call(arguments)
            .map_err(|reason| error(HostErrorKind::BadArguments, reason.to_string()))?;
        let value = outcome(returned).map_err(|reason| error(HostErrorKind::Failed, format!("{reason:#}")))?;
        let mut result = Vec::new();
        let encoded = if codec::is_result::<R>() {
            codec::encode_content(&value, 0, &mut result).map(|(variant, _)| variant)
        } else {
            codec::encode(&value, &mut result).map(|_| codec::OK)
        };
        match encoded.map_err(|reason| error(HostErrorKind::BadResult, reason.to_string()))? {
            codec::OK => Ok(result),
            _ if codec::fails_with_text::<R>() => {
                let text = codec::decode(&result[..]);
                Err(error(HostErrorKind::Failed, text.unwrap_or_else(|reason| reason.to_string())))
            }
            _ => Err(error(HostErrorKind::Failed, "it returned an error".to_owned()).with_value(&result)),
        }
    };
    let before = STAND_INS.with_borrow_mut(|all| all.insert(name.to_owned(), StandIn(Rc::new(answer))));
    Provided { name: name.to_owned(), before }
}

#[derive(Clone)]
struct StandIn(Rc<Answer>);

/// From encoded arguments to an encoded result.
type Answer = dyn Fn(&[u8]) -> Result<Vec<u8>, HostError>;

impl std::fmt::Debug for StandIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StandIn")
    }
}

mod sealed {
    use super::DecodeError;

    /// Decodes the arguments and calls.
    pub trait Call<Arguments, R> {
        fn call(&mut self, arguments: &[u8]) -> Result<R, DecodeError>;
    }
}

/// For this many parameters, and for each one more until there are 32.
macro_rules! callable {
    ([$($Argument:ident)*] $($rest:ident)*) => {
        impl<F, R, $($Argument),*> sealed::Call<($($Argument,)*), R> for F
        where
            F: FnMut($($Argument),*) -> R,
            $($Argument: DeserializeOwned,)*
        {
            #[allow(non_snake_case, reason = "a value is named like its type parameter")]
            fn call(&mut self, arguments: &[u8]) -> Result<R, DecodeError> {
                let decoder = Decoder::new(arguments);
                $(let ($Argument, decoder) = next(decoder)?;)*
                decoder.finish()?;
                Ok(self($($Argument),*))
            }
        }
        callable!(after [$($Argument)*] $($rest)*);
    };
    (after [$($Argument:ident)*] $next:ident $($rest:ident)*) => {
        callable!([$($Argument)* $next] $($rest)*);
    };
    (after [$($Argument:ident)*]) => {};
}

callable! {
    []
    P1 P2 P3 P4 P5 P6 P7 P8 P9 P10 P11 P12 P13 P14 P15 P16 P17 P18 P19 P20 P21 P22 P23 P24 P25 P26 P27 P28
    P29 P30 P31 P32
}

fn next<T: DeserializeOwned>(mut decoder: Decoder<&[u8]>) -> Result<(T, Decoder<&[u8]>), DecodeError> {
    Ok((decoder.value()?, decoder))
}

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(1) };
    static STAND_INS: RefCell<HashMap<String, StandIn>> = RefCell::new(HashMap::new());
}
