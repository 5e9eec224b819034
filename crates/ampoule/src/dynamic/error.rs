//! Why an argument is not what a guest's function takes, and an answer not what a guest takes.

use ampoule_abi::text::{printable_line, printable_name};

/// Why an argument was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// It is not of the parameter's type.
    #[error("argument {}{}{path}: {}", index + 1, if path.is_empty() { "" } else { ", " }, printable_line(reason))]
    Refused {
        /// Which argument it is, counted from 0.
        index: usize,
        /// Where in it: `.lines[3].price`. Nothing where it is the argument itself.
        path: String,
        /// What is expected there and was found, in the words of the format that it was read from.
        reason: String,
    },
    /// The function has fewer parameters.
    #[error("argument {} is one too many: `{function}` takes {parameters}", index + 1)]
    TooMany {
        /// Which argument it is, counted from 0.
        index: usize,
        /// Name of the function.
        function: String,
        /// How many parameters the function has.
        parameters: usize,
    },
}

/// Why an answer of a host function was not taken: it is not of the type that the guest reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer of host function `{}`{}{path}: {}", printable_name(function), if path.is_empty() { "" } else { ", " }, printable_line(reason))]
pub struct AnswerError {
    /// Name of the function.
    pub function: String,
    /// Where in the answer: `.lines[3].price`. Nothing where it is the answer itself.
    pub path: String,
    /// What is expected there and was found, in the words of the format that it was read from.
    pub reason: String,
}
