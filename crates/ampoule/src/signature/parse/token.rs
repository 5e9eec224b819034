//! The words and signs of which the text of a type is made.

use ampoule_abi::text::is_printable;

use super::SignatureError;

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located<'t> {
    pub(super) token: Token<'t>,
    pub(super) position: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// An identifier or a keyword, of characters that can be seen.
    Word(&'t str),
    /// A number, in any of Rust's spellings.
    Number(&'t str),
    Lifetime,
    /// One of [`SYMBOLS`].
    Symbol(&'t str),
}

impl<'t> Token<'t> {
    pub(super) fn text(self) -> &'t str {
        match self {
            Self::Word(text) | Self::Number(text) | Self::Symbol(text) => text,
            Self::Lifetime => "'_",
        }
    }
}

pub(super) fn tokens(text: &str) -> Result<Vec<Located<'_>>, SignatureError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_ascii_start();
    while let Some(first) = rest.chars().next() {
        let position = text.len() - rest.len();
        let (token, after) = next(rest).ok_or(SignatureError::UnexpectedCharacter { position, character: first })?;
        tokens.push(Located { token, position });
        rest = after.trim_ascii_start();
    }
    Ok(tokens)
}

/// Whether the word begins a type which is not a path, and so is no segment of one either.
pub(super) fn begins_other_type(word: &str) -> bool {
    ["dyn", "extern", "fn", "for", "impl", "unsafe"].contains(&word)
}

/// The value of a number token; `None` where it is not an integer of 64 bits.
pub(super) fn integer(number: &str) -> Option<u64> {
    let digits = number.replace('_', "");
    let digits = digits.strip_suffix("usize").unwrap_or(&digits);
    let prefixed = |prefix| digits.strip_prefix(prefix);
    if let Some(digits) = prefixed("0x") {
        u64::from_str_radix(digits, 16).ok()
    } else if let Some(digits) = prefixed("0o") {
        u64::from_str_radix(digits, 8).ok()
    } else if let Some(digits) = prefixed("0b") {
        u64::from_str_radix(digits, 2).ok()
    } else {
        digits.parse().ok()
    }
}

/// The first token of a text that begins with one, and the text behind it.
fn next(text: &str) -> Option<(Token<'_>, &str)> {
    if let Some(symbol) = SYMBOLS.iter().find(|symbol| text.starts_with(**symbol)) {
        let (symbol, rest) = text.split_at(symbol.len());
        return Some((Token::Symbol(symbol), rest));
    }
    if let Some(name) = text.strip_prefix('\'') {
        let (_, rest) = word(name)?;
        return Some((Token::Lifetime, rest));
    }
    let (word, rest) = word(text.strip_prefix("r#").unwrap_or(text))?;
    let token = if word.starts_with(|c: char| c.is_ascii_digit()) { Token::Number(word) } else { Token::Word(word) };
    Some((token, rest))
}

fn word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| c != '_' && !(c.is_alphanumeric() && is_printable(c))).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A longer one stands before a shorter one that it begins with.
const SYMBOLS: [&str; 19] =
    ["::", "->", "&", "<", ">", "(", ")", "[", "]", "{", "}", ",", ";", "+", "-", "=", "*", "!", "?"];
