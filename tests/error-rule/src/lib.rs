//! The rule that all errors of Ampoule follow: `{}` says everything, and `source()` returns only what `{}` has not said.
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

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// An error with this text and this source.
    #[derive(Debug)]
    struct Told(String, Option<io::Error>);

    impl fmt::Display for Told {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl Error for Told {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|source| source as _)
        }
    }

    #[test]
    fn an_error_may_return_what_it_does_not_say() {
        check(&Told("the file is damaged".to_owned(), None));
        check(&Told("the file is damaged".to_owned(), Some(io::ErrorKind::UnexpectedEof.into())));
    }

    #[test]
    #[should_panic(expected = "said twice")]
    fn an_error_does_not_return_what_it_says() {
        check(&Told(format!("cannot read: {REASON}"), Some(refusal())));
    }

    #[test]
    #[should_panic(expected = "says once what the operating system says")]
    fn an_error_does_not_keep_back_what_the_system_says() {
        check(&Told("cannot read".to_owned(), Some(refusal())));
    }

    #[test]
    #[should_panic(expected = "ends without punctuation")]
    fn an_error_may_stand_before_more_text() {
        check(&Told("cannot read.".to_owned(), None));
    }

    #[test]
    #[should_panic(expected = "goes on after a colon")]
    fn an_error_may_stand_behind_a_colon() {
        check(&Told("Cannot read".to_owned(), None));
    }

    #[test]
    #[should_panic(expected = "constructs another variant")]
    fn a_line_stands_for_its_own_variant() {
        #[derive(Debug)]
        enum Failure {
            One,
            Two,
        }
        impl fmt::Display for Failure {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("failed")
            }
        }
        impl Error for Failure {}
        each_variant!(Failure { Failure::One => Failure::One, Failure::Two => Failure::One });
        check(&Failure::Two);
    }
}
