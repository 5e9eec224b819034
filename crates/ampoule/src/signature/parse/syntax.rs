//! Types as they are written.

use std::fmt::{self, Display};

use super::token::{Located, Token, begins_other_type};

/// A type as it is written, but for lifetimes and for paths, of which only the last segment is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Syntax {
    /// `&T`, `&mut T`
    Reference { mutable: bool, target: Box<Syntax> },
    /// `[T]`
    Slice(Box<Syntax>),
    /// `[T; N]`
    Array(Box<Syntax>, u64),
    /// `(A, B)`
    Tuple(Vec<Syntax>),
    /// `Vec<T>`
    Path { name: String, arguments: Vec<Syntax> },
    /// Anything else: `dyn Error`, `fn(u8)`, a constant.
    Opaque(String),
}

impl Syntax {
    /// `T` and, where it is shown, `E` of `Result<T, E>`.
    pub(in super::super) fn as_fallible(&self) -> Option<(&Self, Option<&Self>)> {
        match self {
            Self::Path { name, arguments } if name == "Result" => match arguments.as_slice() {
                [value] => Some((value, None)),
                [value, error] => Some((value, Some(error))),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn opaque(tokens: &[Located<'_>]) -> Self {
        let mut text = String::new();
        let mut before = None;
        for token in last_segments(tokens) {
            if before.is_some_and(|before| spaced(before, token)) {
                text.push(' ');
            }
            text.push_str(token.text());
            before = Some(token);
        }
        Self::Opaque(text)
    }
}

impl Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference { mutable, target } => {
                f.write_str(if *mutable { "&mut " } else { "&" })?;
                target.fmt(f)
            }
            Self::Slice(element) => write!(f, "[{element}]"),
            Self::Array(element, length) => write!(f, "[{element}; {length}]"),
            Self::Tuple(fields) => {
                f.write_str("(")?;
                list(f, fields)?;
                f.write_str(if fields.len() == 1 { ",)" } else { ")" })
            }
            Self::Path { name, arguments } if arguments.is_empty() => f.write_str(name),
            Self::Path { name, arguments } => {
                write!(f, "{name}<")?;
                list(f, arguments)?;
                f.write_str(">")
            }
            Self::Opaque(text) => f.write_str(text),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, types: &[Syntax]) -> fmt::Result {
    for (index, syntax) in types.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{syntax}")?;
    }
    Ok(())
}

/// The tokens without the segments of each path before its last.
fn last_segments<'t>(tokens: &[Located<'t>]) -> impl Iterator<Item = Token<'t>> {
    let mut kept: Vec<Token<'t>> = Vec::with_capacity(tokens.len());
    for &Located { token, .. } in tokens {
        if let (Token::Word(_), [.., Token::Word(segment), Token::Symbol("::")]) = (token, kept.as_slice())
            && !begins_other_type(segment)
        {
            kept.truncate(kept.len() - 2);
        }
        kept.push(token);
    }
    kept.into_iter()
}

fn spaced(before: Token<'_>, after: Token<'_>) -> bool {
    let joined_word = |token| matches!(token, Token::Word(_) | Token::Number(_));
    let operator = |token| matches!(token, Token::Symbol("->" | "+" | "="));
    operator(before)
        || operator(after)
        || matches!(before, Token::Symbol("," | ";"))
        || (joined_word(before) && joined_word(after))
        || (before == Token::Symbol(">") && joined_word(after))
}
