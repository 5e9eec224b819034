//! Why a call to the host failed.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;

use ampoule_abi::codec;
use serde::de::DeserializeOwned;

/// A call of an imported function failed.
///
/// An import whose return type is a `Result` gives it to its caller, converted into the error of that `Result`, unless the
/// host gave an error of that type. As text it names the function and the reason.
///
/// ```
/// use ampoule_guest::{HostError, HostErrorKind, import, testing};
///
/// #[import]
/// fn lookup(key: &str) -> Result<u32, HostError>;
///
/// let _lookup = testing::try_provide("lookup", |key: String| -> Result<u32, String> { Err(format!("no key {key}")) });
///
/// let error = lookup("colour").unwrap_err();
/// assert_eq!(error.kind(), HostErrorKind::Failed);
/// assert_eq!(error.message(), "no key colour");
/// assert_eq!(error.to_string(), "host function `lookup`: no key colour");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError {
    function: String,
    kind: HostErrorKind,
    message: String,
    /// The encoded value of the host function's error, if the host gave one.
    value: Option<Box<[u8]>>,
}

/// What went wrong in a call to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostErrorKind {
    /// The host's function returned an error, whose text is the message.
    Failed,
    /// The arguments could not be encoded here, or not be decoded by the host.
    BadArguments,
    /// The result could not be decoded.
    BadResult,
    /// The arguments or the result do not fit the mailbox. The host sets the mailbox's size when it builds the sandbox.
    TooLarge {
        /// Size of the arguments or of the result, in bytes.
        needed: u64,
        /// Size of the mailbox, in bytes.
        capacity: u64,
    },
}

impl HostError {
    pub(crate) fn new(function: &str, kind: HostErrorKind, message: String) -> Self {
        Self { function: function.to_owned(), kind, message, value: None }
    }

    /// With the encoded value of the host function's error, if that is not empty.
    pub(crate) fn with_value(self, value: &[u8]) -> Self {
        Self { value: (!value.is_empty()).then(|| value.into()), ..self }
    }

    /// The host function's error, if the host gave its value and that is an `E`.
    pub(crate) fn value<E: DeserializeOwned>(&self) -> Option<E> {
        codec::decode(&**self.value.as_ref()?).ok()
    }

    /// `what` is too large, the arguments or the result.
    pub(crate) fn too_large(function: &str, what: &str, needed: u64, capacity: u64) -> Self {
        let message = format!("{what} of {needed} bytes do not fit the mailbox of {capacity} bytes");
        Self::new(function, HostErrorKind::TooLarge { needed, capacity }, message)
    }

    /// Name of the function, as the host knows it.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// What went wrong.
    pub fn kind(&self) -> HostErrorKind {
        self.kind
    }

    /// The reason in words; for [`HostErrorKind::Failed`] those of the host's function.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host function `{}`: {}", self.function, self.message)
    }
}

impl Error for HostError {}

impl From<HostError> for String {
    fn from(error: HostError) -> Self {
        error.to_string()
    }
}

/// For imports that return `io::Result`.
impl From<HostError> for io::Error {
    fn from(error: HostError) -> Self {
        Self::other(error)
    }
}
