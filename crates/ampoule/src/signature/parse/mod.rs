//! The text of types and signatures, which may come from a hostile image.
//!
//! The length of the text, and with it every allocation, is bounded by [`MAX_LEN`]; recursion is bounded by [`MAX_DEPTH`].
//! A type is read in one pass; where it turns out to be none of the forms we know, its tokens are read once more as an
//! opaque text, so that the work per nesting level is linear.

mod syntax;
mod token;

pub(super) use syntax::Syntax;

use ampoule_abi::text::is_printable;

use token::{Located, Token};

/// Reads a type: `Vec<&str>`.
pub(super) fn type_text(text: &str) -> Result<Syntax, SignatureError> {
    let tokens = tokens(text)?;
    let mut parser = Parser::new(&tokens, text.len());
    let syntax = parser.type_()?;
    parser.expect_end()?;
    Ok(syntax)
}

/// Reads a signature: `fn(&str, u32) -> String`. Answers its parameters and its return type.
pub(super) fn signature_text(text: &str) -> Result<(Vec<Syntax>, Syntax), SignatureError> {
    let tokens = tokens(text)?;
    let mut parser = Parser::new(&tokens, text.len());
    parser.expect(Token::Word("fn"), "`fn`")?;
    parser.expect(Token::Symbol("("), "`(`")?;
    let (parameters, _) = parser.list(")", "`,` or `)`")?;
    let result = if parser.eat(Token::Symbol("->")) { parser.type_()? } else { Syntax::Tuple(Vec::new()) };
    parser.expect_end()?;
    Ok((parameters, result))
}

/// Why a text is not a type or a signature. Positions count bytes from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The text is too long.
    #[error("the text is {length} bytes long, more than {MAX_LEN}")]
    TooLong {
        /// Bytes of the text.
        length: usize,
    },
    /// A type lies within too many others.
    #[error("types are nested more than {MAX_DEPTH} deep at byte {position}")]
    TooDeep {
        /// Where the innermost type begins.
        position: usize,
    },
    /// A character that no type contains.
    #[error("unexpected character {} at byte {position}", quoted(*character))]
    UnexpectedCharacter {
        /// Where it stands.
        position: usize,
        /// The character.
        character: char,
    },
    /// The text continues with something other than it should.
    #[error("expected {expected} at byte {position}, found `{found}`")]
    Unexpected {
        /// Where it does.
        position: usize,
        /// What may stand there.
        expected: &'static str,
        /// The token that stands there.
        found: String,
    },
    /// The text ends too early.
    #[error("expected {expected}, found the end of the text")]
    UnexpectedEnd {
        /// What may stand there.
        expected: &'static str,
    },
}

/// As a Rust literal. Rust's own form of it shows letters that are not seen as they are.
fn quoted(character: char) -> String {
    if is_printable(character) { format!("{character:?}") } else { format!("'{}'", character.escape_default()) }
}

/// Longest text of a signature or type, in bytes; the guest ABI's limit for the signature in a function record.
pub const MAX_LEN: usize = ampoule_abi::layout::MAX_SIGNATURE_LEN;

/// How deep types may lie within each other; the outermost has depth 1.
pub const MAX_DEPTH: usize = 32;

fn tokens(text: &str) -> Result<Vec<Located<'_>>, SignatureError> {
    if text.len() > MAX_LEN {
        return Err(SignatureError::TooLong { length: text.len() });
    }
    token::tokens(text).map(without_lifetimes)
}

/// The tokens without lifetimes, and without the `+` or `,` that joins a lifetime to its neighbour.
fn without_lifetimes(tokens: Vec<Located<'_>>) -> Vec<Located<'_>> {
    let mut kept: Vec<Located<'_>> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(located) = tokens.next() {
        if located.token != Token::Lifetime {
            kept.push(located);
            continue;
        }
        match kept.last().map(|before| before.token) {
            Some(Token::Symbol("+" | ",")) => drop(kept.pop()),
            Some(Token::Symbol("<" | "(")) => drop(tokens.next_if(|behind| behind.token == Token::Symbol(","))),
            _ => drop(tokens.next_if(|behind| behind.token == Token::Symbol("+"))),
        }
    }
    kept
}

struct Parser<'a, 't> {
    tokens: &'a [Located<'t>],
    next: usize,
    end: usize,
    depth: usize,
}

impl<'a, 't> Parser<'a, 't> {
    fn new(tokens: &'a [Located<'t>], end: usize) -> Self {
        Self { tokens, next: 0, end, depth: 0 }
    }

    fn type_(&mut self) -> Result<Syntax, SignatureError> {
        if self.depth == MAX_DEPTH {
            return Err(SignatureError::TooDeep {
                position: self.tokens.get(self.next).map_or(self.end, |t| t.position),
            });
        }
        self.depth += 1;
        let first = self.next;
        let syntax = match self.known_form()? {
            Some(syntax) if self.at_end_of_type() => syntax,
            _ => {
                self.next = first;
                self.opaque()?
            }
        };
        self.depth -= 1;
        Ok(syntax)
    }

    /// `None` for a type that is none of the forms we know; the position is then anywhere.
    fn known_form(&mut self) -> Result<Option<Syntax>, SignatureError> {
        match self.peek() {
            Some(Token::Symbol("&")) => self.reference().map(Some),
            Some(Token::Symbol("(")) => self.tuple().map(Some),
            Some(Token::Symbol("[")) => self.slice_or_array(),
            Some(Token::Symbol("::")) => self.path(),
            Some(Token::Word(_)) => self.path(),
            _ => Ok(None),
        }
    }

    fn reference(&mut self) -> Result<Syntax, SignatureError> {
        self.next += 1;
        let mutable = self.eat(Token::Word("mut"));
        let target = Box::new(self.type_()?);
        Ok(Syntax::Reference { mutable, target })
    }

    /// A tuple, or a type in parentheses.
    fn tuple(&mut self) -> Result<Syntax, SignatureError> {
        self.next += 1;
        let (mut fields, trailing_comma) = self.list(")", "`,` or `)`")?;
        match fields.pop() {
            Some(field) if fields.is_empty() && !trailing_comma => Ok(field),
            last => {
                fields.extend(last);
                Ok(Syntax::Tuple(fields))
            }
        }
    }

    fn slice_or_array(&mut self) -> Result<Option<Syntax>, SignatureError> {
        self.next += 1;
        let element = Box::new(self.type_()?);
        if self.eat(Token::Symbol("]")) {
            return Ok(Some(Syntax::Slice(element)));
        }
        self.expect(Token::Symbol(";"), "`;` or `]`")?;
        let length = match self.peek() {
            Some(Token::Number(digits)) => token::integer(digits),
            _ => None,
        };
        self.next += 1;
        Ok(length.filter(|_| self.eat(Token::Symbol("]"))).map(|length| Syntax::Array(element, length)))
    }

    fn path(&mut self) -> Result<Option<Syntax>, SignatureError> {
        self.eat(Token::Symbol("::"));
        let mut name = None;
        while let Some(Token::Word(word)) = self.peek() {
            if token::begins_other_type(word) {
                return Ok(None);
            }
            name = Some(word.to_owned());
            self.next += 1;
            if !self.eat(Token::Symbol("::")) {
                break;
            }
        }
        let Some(name) = name else { return Ok(None) };
        let mut arguments = Vec::new();
        if self.eat(Token::Symbol("<")) {
            arguments = self.list(">", "`,` or `>`")?.0;
        }
        Ok(Some(Syntax::Path { name, arguments }))
    }

    /// Types up to `close`, and whether the last is followed by a comma.
    fn list(&mut self, close: &'static str, expected: &'static str) -> Result<(Vec<Syntax>, bool), SignatureError> {
        let mut types = Vec::new();
        let mut trailing_comma = false;
        while !self.eat(Token::Symbol(close)) {
            types.push(self.type_()?);
            trailing_comma = self.eat(Token::Symbol(","));
            if !trailing_comma {
                self.expect(Token::Symbol(close), expected)?;
                break;
            }
        }
        Ok((types, trailing_comma))
    }

    /// Any text with balanced brackets, up to what ends a type.
    fn opaque(&mut self) -> Result<Syntax, SignatureError> {
        let first = self.next;
        if self.at_end_of_type() {
            return Err(self.unexpected("a type"));
        }
        let mut open = Vec::new();
        while !(open.is_empty() && self.at_end_of_type()) {
            let expected = open.last().map_or("a type", |&close| match close {
                ">" => "`>`",
                ")" => "`)`",
                "]" => "`]`",
                _ => "`}`",
            });
            match self.peek() {
                Some(Token::Symbol("<")) => open.push(">"),
                Some(Token::Symbol("(")) => open.push(")"),
                Some(Token::Symbol("[")) => open.push("]"),
                Some(Token::Symbol("{")) => open.push("}"),
                Some(Token::Symbol(close @ (">" | ")" | "]" | "}"))) => {
                    if open.pop() != Some(close) {
                        return Err(self.unexpected(expected));
                    }
                }
                // Nothing is negated there, and what is shown behind could make it read as an arrow.
                Some(Token::Symbol("-")) if self.ends_behind() => {
                    self.next += 1;
                    return Err(self.unexpected("a number"));
                }
                Some(_) => {}
                None => return Err(self.unexpected(expected)),
            }
            self.next += 1;
        }
        Ok(Syntax::opaque(&self.tokens[first..self.next]))
    }

    fn at_end_of_type(&self) -> bool {
        matches!(self.peek(), None | Some(Token::Symbol("," | ";" | ">" | ")" | "]")))
    }

    fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.next).map(|located| located.token)
    }

    /// Whether the next token is the last of the type or within its brackets.
    fn ends_behind(&self) -> bool {
        let behind = self.tokens.get(self.next + 1).map(|located| located.token);
        matches!(behind, None | Some(Token::Symbol("," | ";" | ">" | ")" | "]" | "}")))
    }

    fn eat(&mut self, token: Token<'_>) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, token: Token<'_>, expected: &'static str) -> Result<(), SignatureError> {
        if self.eat(token) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn expect_end(&self) -> Result<(), SignatureError> {
        if self.next == self.tokens.len() { Ok(()) } else { Err(self.unexpected("the end of the text")) }
    }

    fn unexpected(&self, expected: &'static str) -> SignatureError {
        match self.tokens.get(self.next) {
            Some(found) => {
                SignatureError::Unexpected { position: found.position, expected, found: found.token.text().to_owned() }
            }
            None => SignatureError::UnexpectedEnd { expected },
        }
    }
}
