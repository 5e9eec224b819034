//! Functions that can fail, recognised by their type: an alias of a `Result` is one.
//!
//! What the types of a function can do is asked where they are known, in the expansion of an attribute, and answered by the
//! choice of a method: the compiler takes the first that applies of those for `&&&T`, `&&T`, `&T` and `T`.

use std::borrow::Cow;
use std::cell::Cell;
use std::convert::Infallible;
use std::fmt::Display;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{Call, Return};
use crate::error::{HostError, HostErrorKind};

/// What an export has returned. `(&&returned).outcome()` is a `Result` in any case.
pub struct Returned<T>(Taken<T>);

impl<T> Returned<T> {
    /// It has returned this.
    pub fn new(value: T) -> Self {
        Self(Taken::new(value))
    }
}

/// The outcome of a function that can fail.
pub trait CanFail<T, E> {
    /// What it has returned. To be called once.
    fn outcome(&self) -> Result<T, E>;
}

/// The outcome of a function that cannot fail.
pub trait CannotFail<T> {
    /// What it has returned. To be called once.
    fn outcome(&self) -> Result<T, Infallible>;
}

impl<T, E> CanFail<T, E> for &Returned<Result<T, E>> {
    fn outcome(&self) -> Result<T, E> {
        self.0.take()
    }
}

impl<T> CannotFail<T> for Returned<T> {
    fn outcome(&self) -> Result<T, Infallible> {
        Ok(self.0.take())
    }
}

/// The error of an export, with which `(&&&&failed).answer(call)` answers. It is dropped before the answer holds the outbound
/// area if only its text travels.
pub struct Failed<E>(Taken<E>);

impl<E> Failed<E> {
    /// It has failed with this.
    pub fn new(error: E) -> Self {
        Self(Taken::new(error))
    }
}

/// An error that is text: its value says nothing that its text does not say.
pub trait IsText: Display {}

impl IsText for String {}
impl IsText for &str {}
impl IsText for Box<str> {}
impl IsText for Cow<'_, str> {}

/// Answers with an error that is text.
pub trait AnswerText {
    /// To be called once.
    fn answer<'a>(&self, call: &Call<'a>) -> Return<'a>;
}

/// Answers with an error that has both, a text and a value.
pub trait AnswerBoth {
    /// To be called once.
    fn answer<'a>(&self, call: &Call<'a>) -> Return<'a>;
}

/// Answers with an error that has a value; its type is all that there is of a text.
pub trait AnswerValue {
    /// To be called once.
    fn answer<'a>(&self, call: &Call<'a>) -> Return<'a>;
}

/// Answers with an error that can only be displayed. It is chosen for every error that no other trait takes, so that the
/// compiler asks for [`ErrorText`] where there is nothing to answer with.
pub trait AnswerDisplay<E> {
    /// To be called once.
    fn answer<'a>(&self, call: &Call<'a>) -> Return<'a>
    where
        E: ErrorText;
}

/// An error of an export that travels as its text: anything that can be displayed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of an exported function",
    label = "this error has neither a text nor a value that can travel",
    note = "implement `std::fmt::Display`, and the host gets its text, or derive `serde::Serialize` (and `Deserialize`, for the \
            host), and the host gets it as the value that it is; with both, it can have either"
)]
pub trait ErrorText: Display {}

#[diagnostic::do_not_recommend]
impl<E: Display> ErrorText for E {}

impl<E: IsText> AnswerText for &&&Failed<E> {
    fn answer<'a>(&self, call: &Call<'a>) -> Return<'a> {
        call.failed(&self.0.take().to_string())
    }
}

impl<E: Serialize + Display> AnswerBoth for &&Failed<E> {
    fn answer<'a>(&self, call: &Call<'a>) -> Return<'a> {
        let error = self.0.take();
        call.failed_with(&format!("{error:#}"), &error)
    }
}

impl<E: Serialize> AnswerValue for &Failed<E> {
    fn answer<'a>(&self, call: &Call<'a>) -> Return<'a> {
        let text = format!(
            "it returned an error of the type `{}`, which has no text: ask for a `Result` with that type to have its value, \
             or implement `Display` for it",
            std::any::type_name::<E>()
        );
        call.failed_with(&text, &self.0.take())
    }
}

impl<E> AnswerDisplay<E> for Failed<E> {
    fn answer<'a>(&self, call: &Call<'a>) -> Return<'a>
    where
        E: ErrorText,
    {
        let text = format!("{:#}", self.0.take());
        call.failed(&text)
    }
}

/// The return type of an import. `(&&expected).kind()` says whether the function can fail.
#[derive(Debug)]
pub struct Expected<R>(PhantomData<R>);

impl<R> Expected<R> {
    /// Asks for this type.
    pub const NEW: Self = Self(PhantomData);
}

/// An import that can fail.
pub trait ExpectFailure<T, E> {
    /// It is one.
    fn kind(&self) -> Fallible<T, E>;
}

/// An import that does not let its caller handle failure.
pub trait ExpectSuccess<T> {
    /// It is one.
    fn kind(&self) -> Required<T>;
}

impl<T, E> ExpectFailure<T, E> for &Expected<Result<T, E>> {
    fn kind(&self) -> Fallible<T, E> {
        Fallible(PhantomData)
    }
}

impl<T> ExpectSuccess<T> for Expected<T> {
    fn kind(&self) -> Required<T> {
        Required(PhantomData)
    }
}

/// The kind of an import that returns `Result<T, E>`.
#[derive(Debug)]
pub struct Fallible<T, E>(PhantomData<(T, E)>);

/// The kind of an import that returns a `T`, and panics where it fails.
#[derive(Debug)]
pub struct Required<T>(PhantomData<T>);

impl<T, E> Fallible<T, E> {
    /// The call has failed, which an `E` tells.
    pub fn refused(&self, reason: HostError) -> Refused<E> {
        Refused { reason: Taken::new(reason), error: PhantomData }
    }

    /// What the import returns.
    pub fn returned(&self, outcome: Result<T, E>) -> Result<T, E> {
        outcome
    }
}

impl<T> Required<T> {
    /// The call has failed, which the import does not return.
    pub fn refused(&self, reason: HostError) -> Refused<Unhandled> {
        Refused { reason: Taken::new(reason), error: PhantomData }
    }

    /// What the import returns.
    pub fn returned(&self, outcome: Result<T, Unhandled>) -> T {
        match outcome {
            Ok(value) => value,
            Err(unhandled) => match unhandled {},
        }
    }
}

/// The error of an import that does not return one: to make it is to panic.
#[derive(Debug)]
pub enum Unhandled {}

impl From<HostError> for Unhandled {
    #[track_caller]
    fn from(error: HostError) -> Self {
        panic!("{error}")
    }
}

/// Why a host call failed, of which `(&&&refused).error()` makes an `E`.
pub struct Refused<E> {
    reason: Taken<HostError>,
    error: PhantomData<E>,
}

/// An error that can be either, the host's value or what the guest makes of the failure.
pub trait ErrorOfBoth<E> {
    /// To be called once.
    fn error(&self) -> E;
}

/// An error that is the host's value.
pub trait ErrorOfValue<E> {
    /// To be called once.
    ///
    /// # Panics
    ///
    /// Where the host gave no value: it failed for another reason, or only with a text.
    fn error(&self) -> E;
}

/// An error that is made of the failure. It is chosen for every error that no other trait takes, so that the compiler asks for
/// [`MadeOfFailure`] where there is no way to make one.
pub trait ErrorOfFailure<E> {
    /// To be called once.
    fn error(&self) -> E
    where
        E: MadeOfFailure;
}

/// An error of an import that is made of a [`HostError`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of an imported function",
    label = "the host's answer cannot become such an error",
    note = "derive `serde::Serialize` and `serde::Deserialize`, and it is the value that the host function returns, or implement \
            `From<ampoule_guest::HostError>`, and it is made of the text of any failure; with both, it can be either"
)]
pub trait MadeOfFailure: From<HostError> {}

#[diagnostic::do_not_recommend]
impl<E: From<HostError>> MadeOfFailure for E {}

impl<E: DeserializeOwned + From<HostError>> ErrorOfBoth<E> for &&Refused<E> {
    fn error(&self) -> E {
        let reason = self.reason.take();
        reason.value().unwrap_or_else(|| reason.into())
    }
}

impl<E: DeserializeOwned> ErrorOfValue<E> for &Refused<E> {
    #[track_caller]
    fn error(&self) -> E {
        let reason = self.reason.take();
        match reason.value() {
            Some(error) => error,
            None if reason.kind() == HostErrorKind::Failed => panic!(
                "{reason} (only a text came; this import takes a value of the type `{}`, which a closure that is given by `host_fn` \
                 returns, or something that can be made of a text, by `From<HostError>`)",
                std::any::type_name::<E>()
            ),
            None => panic!("{reason}"),
        }
    }
}

impl<E> ErrorOfFailure<E> for Refused<E> {
    #[track_caller]
    fn error(&self) -> E
    where
        E: MadeOfFailure,
    {
        E::from(self.reason.take())
    }
}

/// A value to be taken by a method that has its owner by reference only.
struct Taken<T>(Cell<Option<T>>);

impl<T> Taken<T> {
    fn new(value: T) -> Self {
        Self(Cell::new(Some(value)))
    }

    fn take(&self) -> T {
        self.0.take().expect("the attributes' code takes a value once")
    }
}
