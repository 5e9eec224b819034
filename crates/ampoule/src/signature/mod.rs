//! The typed signatures of guest and host functions.
//!
//! A guest image carries the signature of each of its functions as Rust-like text; the host knows its own types by
//! [`std::any::type_name`]. Both texts go through one parser, so that `&str` in the guest and `alloc::string::String` in
//! the host come out as the same type. Which types are the same is laid down in the
//! [guest ABI](https://github.com/ampoule-rs/ampoule/blob/main/docs/abi.md), "Signatures".
//!
//! A signature is a courtesy, not a defence: it turns a wrong call into a message that names the types. What a guest
//! sends is checked by the decoder of the values, whatever the guest's signatures claim.

mod describe;
mod parse;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use ampoule_abi::codec::is_result;

pub use parse::{MAX_DEPTH, MAX_LEN, SignatureError};

use parse::Syntax;
use shape::{HIDDEN, Shape};

/// The type of a parameter or of a result.
///
/// It is displayed as it was written, with paths cut to their last segment and without lifetimes (`Vec<&str>`), and
/// compared by the form in which its values travel: `Vec<&str>` equals `VecDeque<String>`.
///
/// Clones share what they hold.
#[derive(Clone, Debug)]
pub struct Type(Arc<Written>);

#[derive(Debug)]
struct Written {
    text: Box<str>,
    shape: Shape,
}

impl Type {
    /// The type `T`.
    ///
    /// A type that the signature language does not know (a closure, a function pointer) has the text that the compiler gives
    /// for it as its name, by which it is compared; so has a type whose text is longer than [`MAX_LEN`] bytes or nested deeper
    /// than [`MAX_DEPTH`].
    #[must_use]
    pub fn of<T: ?Sized>() -> Self {
        let name = std::any::type_name::<T>();
        name.parse().unwrap_or_else(|_| Self::named(name))
    }

    /// What decides whether two types are the same.
    fn shape(&self) -> &Shape {
        &self.0.shape
    }

    /// Whether this is a type whose name the guest's author did not write: what an alias of a `Result` hides.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        matches!(self.shape(), Shape::Named { name, arguments } if name == HIDDEN && arguments.is_empty())
    }

    /// The types of the value and the error of `R`, if it is the standard library's `Result`.
    pub(crate) fn outcome_of<R: ?Sized>() -> Option<(Self, Self)> {
        if !is_result::<R>() {
            return None;
        }
        Self::outcome_in(std::any::type_name::<R>())
    }

    /// The types of the value and the error of a type that is written as a `Result`.
    pub(crate) fn outcome_in(text: &str) -> Option<(Self, Self)> {
        let syntax = parse::type_text(text).ok()?;
        let (value, error) = syntax.as_fallible()?;
        Some((Self::from(value), Self::from(error?)))
    }

    fn named(name: &str) -> Self {
        Self(Arc::new(Written { text: name.into(), shape: Shape::named(name) }))
    }
}

/// Reads a type as a signature writes it.
impl FromStr for Type {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        parse::type_text(text).map(|syntax| Self::from(&syntax))
    }
}

impl From<&Syntax> for Type {
    fn from(syntax: &Syntax) -> Self {
        Self(Arc::new(Written { text: syntax.to_string().into(), shape: Shape::from(syntax) }))
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        self.0.shape == other.0.shape
    }
}

impl Eq for Type {}

impl Hash for Type {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.shape.hash(state);
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

/// The parameters and the result of a function.
///
/// It is displayed without a name, to stand behind one: `(&str, u32) -> Result<Vec<u8>, DecodeError>`.
///
/// ```
/// use ampoule::signature::{Signature, Type};
///
/// let greet: Signature = "fn(&str) -> String".parse()?;
/// assert!(greet.accepts_parameters(&[Type::of::<String>()]));
/// assert_eq!(greet.to_string(), "(&str) -> String");
/// # Ok::<(), ampoule::signature::SignatureError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signature {
    parameters: Parameters,
    result: Type,
    error: Option<Type>,
}

impl Signature {
    /// The signature of a function with these parameters. `result` is the type of the value that travels, `error` that of
    /// the error if the function can fail.
    pub(crate) fn new(parameters: impl Into<Box<[Type]>>, result: Type, error: Option<Type>) -> Self {
        Self { parameters: Parameters::new(parameters), result, error }
    }

    /// The types of the parameters, in order.
    #[must_use]
    pub fn parameters(&self) -> &[Type] {
        &self.parameters.0
    }

    /// The type of the value that travels: `T` of a function that returns `T` or `Result<T, E>`.
    #[must_use]
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// `E` of a function that returns `Result<T, E>`; `None` for a function that cannot fail. An alias such as
    /// `io::Result<T>` hides its error, which is then the type `_`, and one of another name may hide the value too.
    #[must_use]
    pub fn error(&self) -> Option<&Type> {
        self.error.as_ref()
    }

    /// Whether the same values travel to and from both functions; whether and how they fail does not count.
    #[must_use]
    pub fn same_types(&self, other: &Self) -> bool {
        self.parameters == other.parameters && self.gives(&other.result)
    }

    /// Whether the value that the function gives is of this type, as far as its name is known.
    #[must_use]
    pub fn gives(&self, value: &Type) -> bool {
        self.result == *value || self.result.is_hidden()
    }

    /// Whether the function can fail with an error of this type, as far as its name is known.
    #[must_use]
    pub fn fails_with(&self, error: &Type) -> bool {
        self.error.as_ref().is_some_and(|own| own == error || own.is_hidden())
    }

    /// Whether arguments of the types `arguments` fit the parameters.
    #[must_use]
    pub fn accepts_parameters(&self, arguments: &[Type]) -> bool {
        self.parameters() == arguments
    }
}

/// Reads a signature as an image writes it: `fn(&str, u32) -> String`.
impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let (parameters, result) = parse::signature_text(text)?;
        let (result, error) = match result.as_fallible() {
            Some((value, error)) => (Type::from(value), Some(error.map_or_else(|| Type::named(HIDDEN), Type::from))),
            None => (Type::from(&result), None),
        };
        let parameters: Box<[Type]> = parameters.iter().map(Type::from).collect();
        Ok(Self::new(parameters, result, error))
    }
}

impl Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parameters.fmt(f)?;
        match &self.error {
            Some(error) => write!(f, " -> Result<{}, {error}>", self.result),
            None if *self.result.shape() == Shape::Unit => Ok(()),
            None => write!(f, " -> {}", self.result),
        }
    }
}

/// A list of types that is displayed as the parameters of a signature: `(&str, u32)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parameters(Box<[Type]>);

impl Parameters {
    /// These types, in order.
    pub(crate) fn new(types: impl Into<Box<[Type]>>) -> Self {
        Self(types.into())
    }
}

impl Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (index, parameter) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{parameter}")?;
        }
        f.write_str(")")
    }
}
