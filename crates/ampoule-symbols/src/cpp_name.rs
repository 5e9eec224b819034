//! Names of C++, as the Itanium C++ ABI mangles them (its chapter 5.1).
//!
//! What is wanted is a function's name with its scopes and template arguments; its parameters are left out, as they are in
//! Rust's names. A name is read once from left to right, and nothing is tried twice. Parts refer to earlier parts, which are
//! kept as text and are cut where they are longer than any name that is shown: so a few bytes that refer to each other cost no
//! more than their number times that length. A name that is nested too deep or has too many parts, or in which expressions
//! stand, stays mangled.

mod arguments;
mod names;
mod part;
#[cfg(test)]
mod tests;
mod types;
mod words;

use std::rc::Rc;

use part::{Part, Text};
use words::standard_class;

/// The name in C++, cut close behind `limit` bytes; `None` where the symbol is none of C++, or has something in it that is not
/// read here.
pub(super) fn demangle(symbol: &str, limit: usize) -> Option<String> {
    let (mangled, clone) = symbol.split_at(symbol.find('.').unwrap_or(symbol.len()));
    let mut name = Parser::new(mangled.strip_prefix("_Z")?, limit).encoding()?.text();
    if !clone.is_empty() {
        // A part of the function that the compiler has made a function of its own.
        name.push(" [clone ");
        name.push(clone);
        name.push("]");
    }
    Some(name.into_string())
}

/// What is left of a name, and what that can refer to. After a `None` it is of no more use.
struct Parser<'a> {
    rest: &'a str,
    /// The parts of the name that can be referred to, in the order of their ends.
    substitutions: Vec<Rc<Part>>,
    /// The template arguments of the function whose parameters are read.
    arguments: Vec<Text>,
    /// Those that were read last.
    last_arguments: Vec<Text>,
    in_lambda: bool,
    depth: usize,
    limit: usize,
}

impl<'a> Parser<'a> {
    fn new(rest: &'a str, limit: usize) -> Parser<'a> {
        Parser {
            rest,
            substitutions: Vec::new(),
            arguments: Vec::new(),
            last_arguments: Vec::new(),
            in_lambda: false,
            depth: 0,
            limit,
        }
    }

    /// Reads what can be nested in itself.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// A part that has its own code, or that was read before.
    fn substitution(&mut self) -> Option<Rc<Part>> {
        self.expect("S")?;
        if let Some(class) = self.peek().and_then(standard_class) {
            self.take()?;
            return Some(Rc::new(self.member(&self.std(), &self.text(class), class)));
        }
        let (digits, rest) = self.rest.split_once('_')?;
        self.rest = rest;
        let index = match digits {
            "" => 0,
            digits if digits.starts_with('+') => return None,
            digits => usize::from_str_radix(digits, 36).ok()?.checked_add(1)?,
        };
        self.substitutions.get(index).cloned()
    }

    fn remember(&mut self, part: &Part) -> Option<()> {
        if self.substitutions.len() == MAX_PARTS {
            return None;
        }
        self.substitutions.push(Rc::new(part.clone()));
        Some(())
    }

    /// Counts from 1: nothing, 0, 1 and so on.
    fn number_before_underscore(&mut self) -> Option<u64> {
        let number = match self.peek()? {
            b'_' => 1,
            _ => self.digits()?.parse::<u64>().ok()?.checked_add(2)?,
        };
        self.expect("_")?;
        Some(number)
    }

    /// A word with its length before it.
    fn identifier(&mut self) -> Option<&'a str> {
        let length = self.digits()?.parse().ok().filter(|length| *length > 0)?;
        let (name, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(if name.starts_with("_GLOBAL__N") { "(anonymous namespace)" } else { name })
    }

    fn digits(&mut self) -> Option<&'a str> {
        let end = self.rest.bytes().position(|digit| !digit.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!digits.is_empty()).then_some(digits)
    }

    fn peek(&self) -> Option<u8> {
        self.rest.bytes().next()
    }

    fn take(&mut self) -> Option<u8> {
        let taken = self.peek().filter(u8::is_ascii)?;
        self.rest = &self.rest[1..];
        Some(taken)
    }

    fn eat(&mut self, expected: &str) -> bool {
        let rest = self.rest.strip_prefix(expected);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, expected: &str) -> Option<()> {
        self.eat(expected).then_some(())
    }

    fn member(&self, scope: &Part, name: &Text, base: &str) -> Part {
        let mut text = scope.text();
        text.push("::");
        text.push(name.as_str());
        Part::named(text, base)
    }

    fn std(&self) -> Part {
        Part::named(self.text("std"), "")
    }

    fn joined(&self, parts: &[Text]) -> Text {
        let mut text = self.text("");
        for part in parts {
            // An empty pack leaves no trace.
            if !text.as_str().is_empty() && !part.as_str().is_empty() {
                text.push(", ");
            }
            text.push(part.as_str());
        }
        text
    }

    fn text(&self, text: &str) -> Text {
        let mut cut = Text::new(self.limit);
        cut.push(text);
        cut
    }
}

/// How deep a name may be nested. Those of real programs stay far below.
const MAX_DEPTH: usize = 96;

/// How many parts of a name can be referred to. Those of real programs stay far below.
const MAX_PARTS: usize = 1 << 10;
