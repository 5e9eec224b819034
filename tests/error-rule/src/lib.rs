//! The rule that all errors of Ampoule keep: `{}` says everything, and `source()` returns only what `{}` has not said.
//!
//! So an application that prints an error shows the whole reason, and one that prints the chain of sources shows no sentence
//! twice. The tests of each crate put every variant of its errors through [`check`], by [`each_variant!`](each_variant).

use std::error::Error;
use std::{io, iter};

/// What the operating system says in the errors of [`refusal`]. No other text has these words.
pub const REASON: &str = "what the operating system says";

/// An answer of the operating system, for a variant that holds one.
pub fn refusal() -> io::Error {
    io::Error::other(REASON)
}

/// Checks an error of every variant. A variant without a line does not compile, nor one with two.
///
/// ```ignore
/// each_variant!(Failure {
///     Failure::Read { .. } => Failure::Read { reason: refusal() },
///     Failure::Empty => Failure::Empty,
/// });
/// ```
#[macro_export]
macro_rules! each_variant {
    ($error:ty { $($variant:pat => $value:expr),+ $(,)? }) => {{
        #[deny(unreachable_patterns)]
        let name = |error: &$error| match error { $($variant => stringify!($variant)),+ };
        $({
            let error: $error = $value;
            assert_eq!(name(&error), stringify!($variant), "the line constructs another variant");
            $crate::check(&error);
        })+
    }};
}

/// Checks one error.
///
/// # Panics
///
/// Where it breaks the rule, or has another style than the errors around it.
pub fn check(error: &(dyn Error + 'static)) {
    let texts: Vec<String> = iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect();
    let shown = &texts[0];
    if format!("{error:?}").contains(REASON) {
        assert_eq!(shown.matches(REASON).count(), 1, "`{{}}` says once what the operating system says: {shown}");
    }
    for (depth, text) in texts.iter().enumerate() {
        for cause in &texts[depth + 1..] {
            assert!(!text.contains(cause.as_str()) && !cause.contains(text.as_str()), "said twice: {texts:#?}");
        }
        assert!(!text.is_empty() && text.trim() == text, "an error is text without space around it: {text:?}");
        assert!(!text.ends_with(['.', '!', ':', ';', ',']), "an error ends without punctuation: {text}");
        let first = text.split(' ').next().unwrap_or_default();
        let is_word = first.chars().skip(1).all(|character| character.is_ascii_lowercase());
        assert!(!(first.starts_with(char::is_uppercase) && is_word), "an error goes on after a colon: {text}");
    }
}
