//! Names: of functions and objects, with their scopes.

use std::rc::Rc;

use super::Parser;
use super::part::{Part, Text};
use super::words::operator;

impl Parser<'_> {
    /// A function or an object; of a function only the name, so its parameters are left over.
    pub(super) fn encoding(&mut self) -> Option<Part> {
        self.deeper(|parser| {
            if parser.eat("T") {
                return parser.special();
            }
            if parser.eat("GV") {
                let object = parser.name()?;
                return Some(parser.prefixed("guard variable for ", &object));
            }
            let name = parser.name()?;
            parser.arguments = std::mem::take(&mut parser.last_arguments);
            Some(name)
        })
    }

    /// What belongs to a class or to another function.
    fn special(&mut self) -> Option<Part> {
        let (what, is_type) = match self.take()? {
            b'V' => ("vtable for ", true),
            b'T' => ("VTT for ", true),
            b'I' => ("typeinfo for ", true),
            b'S' => ("typeinfo name for ", true),
            b'W' => ("TLS wrapper function for ", false),
            b'H' => ("TLS init function for ", false),
            b'c' => {
                for _ in 0..2 {
                    let kind = self.take()?;
                    self.offset(kind)?;
                }
                ("covariant return thunk to ", false)
            }
            kind => {
                self.offset(kind)?;
                (if kind == b'h' { "non-virtual thunk to " } else { "virtual thunk to " }, false)
            }
        };
        let of = if is_type { self.parse_type()? } else { self.encoding()? };
        Some(self.prefixed(what, &of))
    }

    /// By how much a thunk adjusts its object's address.
    fn offset(&mut self, kind: u8) -> Option<()> {
        let numbers = match kind {
            b'h' => 1,
            b'v' => 2,
            _ => return None,
        };
        for _ in 0..numbers {
            self.eat("n");
            self.digits()?;
            self.expect("_")?;
        }
        Some(())
    }

    pub(super) fn name(&mut self) -> Option<Part> {
        self.deeper(|parser| {
            let (name, is_known) = match parser.peek()? {
                b'N' => return parser.nested_name(),
                b'Z' => return parser.local_name(),
                b'S' if parser.eat("St") => {
                    let std = parser.std();
                    (parser.unqualified_name(Some(&std))?, false)
                }
                b'S' => (Part::clone(&*parser.substitution()?), true),
                _ => (parser.unqualified_name(None)?, false),
            };
            if parser.peek() != Some(b'I') {
                return Some(name);
            }
            if !is_known {
                parser.remember(&name)?;
            }
            parser.with_arguments(&name)
        })
    }

    /// A name with its scopes, each of which can be referred to.
    fn nested_name(&mut self) -> Option<Part> {
        self.expect("N")?;
        // How a member function's object is qualified.
        while ["r", "V", "K", "R", "O", "H"].iter().any(|qualifier| self.eat(qualifier)) {}
        let mut name: Option<Part> = None;
        while !self.eat("E") {
            if self.eat("M") {
                // What follows belongs to the initializer of the member that has been read.
                continue;
            }
            let is_known = self.peek()? == b'S';
            let next = match self.peek()? {
                b'S' if name.is_some() => return None,
                b'S' if self.eat("St") => self.std(),
                b'S' => Part::clone(&*self.substitution()?),
                b'I' => self.with_arguments(name.as_ref()?)?,
                b'T' => self.template_parameter()?,
                _ => self.unqualified_name(name.as_ref())?,
            };
            // All of it is no scope; where it is a type, that is remembered.
            if !is_known && self.peek() != Some(b'E') {
                self.remember(&next)?;
            }
            name = Some(next);
        }
        name
    }

    /// Something that is declared in a function.
    fn local_name(&mut self) -> Option<Part> {
        self.expect("Z")?;
        let function = self.encoding()?;
        while !self.eat("E") {
            self.parse_type()?;
        }
        if self.eat("s") {
            self.discriminator()?;
            return Some(self.member(&function, &self.text("string literal"), ""));
        }
        if self.eat("d") {
            self.number_before_underscore()?;
        }
        let entity = self.name()?;
        self.discriminator()?;
        Some(self.member(&function, &entity.text(), &entity.base))
    }

    /// What tells entities of one name apart that are declared in one function.
    fn discriminator(&mut self) -> Option<()> {
        if self.eat("__") {
            self.digits()?;
            self.expect("_")?;
        } else if self.eat("_") {
            self.take().filter(u8::is_ascii_digit)?;
        }
        Some(())
    }

    fn unqualified_name(&mut self, scope: Option<&Part>) -> Option<Part> {
        // A friend's name; one that is not linked to.
        self.eat("F");
        self.eat("L");
        let (mut text, base) = match self.peek()? {
            b'0'..=b'9' => {
                let name = self.identifier()?;
                (self.text(name), name)
            }
            b'C' => {
                self.take()?;
                let is_inherited = self.eat("I");
                self.take().filter(u8::is_ascii_digit)?;
                if is_inherited {
                    self.parse_type()?;
                }
                (self.text(&scope?.base), "")
            }
            b'D' => {
                self.take()?;
                self.take().filter(u8::is_ascii_digit)?;
                let mut text = self.text("~");
                text.push(&scope?.base);
                (text, "")
            }
            b'U' => (self.unnamed()?, ""),
            b'a'..=b'z' => (self.operator_name()?, ""),
            _ => return None,
        };
        while self.eat("B") {
            text.push("[abi:");
            text.push(self.identifier()?);
            text.push("]");
        }
        Some(match scope {
            Some(scope) => self.member(scope, &text, base),
            None => Part::named(text, base),
        })
    }

    fn unnamed(&mut self) -> Option<Text> {
        if self.eat("Ut") {
            let number = self.number_before_underscore()?;
            return Some(self.text(&format!("{{unnamed type#{number}}}")));
        }
        self.expect("Ul")?;
        let around = std::mem::replace(&mut self.in_lambda, true);
        let parameters = self.parameters_before_end()?;
        self.in_lambda = around;
        let number = self.number_before_underscore()?;
        let mut text = self.text("{lambda(");
        text.push(parameters.as_str());
        text.push(&format!(")#{number}}}"));
        Some(text)
    }

    fn operator_name(&mut self) -> Option<Text> {
        let (code, rest) = self.rest.split_at_checked(2)?;
        self.rest = rest;
        let mut text = self.text("operator");
        match code {
            "li" => {
                text.push("\"\" ");
                text.push(self.identifier()?);
            }
            "cv" => {
                text.push(" ");
                text.push(self.parse_type()?.text().as_str());
            }
            code => text.push(operator(code)?),
        }
        Some(text)
    }

    fn prefixed(&self, prefix: &str, of: &Part) -> Part {
        let mut text = self.text(prefix);
        text.push(of.text().as_str());
        Part::named(text, &Rc::clone(&of.base))
    }
}
