//! Types.

use super::Parser;
use super::part::{Part, Text};
use super::words::{builtin, later_builtin};

impl Parser<'_> {
    pub(super) fn parse_type(&mut self) -> Option<Part> {
        self.deeper(|parser| {
            let code = parser.peek()?;
            if let Some(builtin) = builtin(code) {
                parser.take()?;
                return Some(Part::named(parser.text(builtin), ""));
            }
            let (parsed, is_known) = match code {
                b'S' if !parser.rest.starts_with("St") => parser.substituted_type()?,
                b'D' => parser.later_type()?,
                code => (parser.compound_type(code)?, false),
            };
            if !is_known {
                parser.remember(&parsed)?;
            }
            Some(parsed)
        })
    }

    /// A type that was read before or has its own code, and whether it is no more than that.
    fn substituted_type(&mut self) -> Option<(Part, bool)> {
        let known = self.substitution()?;
        match self.peek() {
            Some(b'I') => Some((self.with_arguments(&known)?, false)),
            _ => Some((Part::clone(&known), true)),
        }
    }

    /// A type that came into the language later, and whether it is a simple one.
    fn later_type(&mut self) -> Option<(Part, bool)> {
        self.expect("D")?;
        let code = self.take()?;
        let compound = match code {
            b'p' => self.parse_type()?.qualified("..."),
            b'o' => self.function_type()?.qualified(" noexcept"),
            b'v' => {
                let lanes = self.digits()?;
                self.expect("_")?;
                self.parse_type()?.qualified(&format!(" __vector({lanes})"))
            }
            code => return Some((Part::named(self.text(later_builtin(code)?), ""), true)),
        };
        Some((compound, false))
    }

    fn compound_type(&mut self, code: u8) -> Option<Part> {
        match code {
            b'r' | b'V' | b'K' => self.qualified_type(),
            b'0'..=b'9' | b'N' | b'S' | b'Z' => self.name(),
            b'T' => self.template_type(),
            b'P' => self.pointer("*"),
            b'R' => self.pointer("&"),
            b'O' => self.pointer("&&"),
            b'F' => self.function_type(),
            b'A' => self.array(),
            b'M' => self.pointer_to_member(),
            b'u' => {
                self.take()?;
                let name = self.identifier()?;
                Some(Part::named(self.text(name), name))
            }
            _ => None,
        }
    }

    fn qualified_type(&mut self) -> Option<Part> {
        // Each comes once at the most, in this order.
        let qualifiers =
            [("r", " restrict"), ("V", " volatile"), ("K", " const")].map(|(code, word)| (self.eat(code), word));
        // Those of a member function's type belong to it, and without them it is no type of its own.
        let of = if self.peek()? == b'F' { self.function_type()? } else { self.parse_type()? };
        let given = qualifiers.iter().rev().filter(|(is_given, _)| *is_given);
        Some(given.fold(of, |of, (_, qualifier)| of.qualified(qualifier)))
    }

    fn template_type(&mut self) -> Option<Part> {
        let parameter = self.template_parameter()?;
        if self.peek() != Some(b'I') {
            return Some(parameter);
        }
        self.remember(&parameter)?;
        self.with_arguments(&parameter)
    }

    fn pointer(&mut self, symbol: &str) -> Option<Part> {
        self.take()?;
        Some(self.parse_type()?.pointer(symbol))
    }

    fn function_type(&mut self) -> Option<Part> {
        self.expect("F")?;
        self.eat("Y");
        let Part { mut before, behind: behind_result, .. } = self.parse_type()?;
        before.push(space_before(&behind_result));
        let mut parameters = Vec::new();
        // At the end stands what kind of object a member function is called on.
        let ends = [("E", ""), ("RE", " &"), ("OE", " &&")];
        let reference = loop {
            match ends.iter().find(|(end, _)| self.eat(end)) {
                Some((_, reference)) => break reference,
                None => parameters.push(self.parse_type()?.text()),
            }
        };
        let mut behind = self.text("(");
        behind.push(self.parameters(&parameters).as_str());
        behind.push(")");
        behind.push(reference);
        behind.push(behind_result.as_str());
        Some(Part { before, behind, binds_behind: true, base: "".into() })
    }

    pub(super) fn parameters_before_end(&mut self) -> Option<Text> {
        let mut types = Vec::new();
        while !self.eat("E") {
            types.push(self.parse_type()?.text());
        }
        Some(self.parameters(&types))
    }

    fn parameters(&self, types: &[Text]) -> Text {
        match types {
            [none] if none.as_str() == "void" => self.text(""),
            types => self.joined(types),
        }
    }

    fn array(&mut self) -> Option<Part> {
        self.expect("A")?;
        let length = if self.peek()? == b'_' { "" } else { self.digits()? };
        self.expect("_")?;
        let Part { mut before, behind: behind_element, .. } = self.parse_type()?;
        before.push(space_before(&behind_element));
        let mut behind = self.text("[");
        behind.push(length);
        behind.push("]");
        behind.push(behind_element.as_str());
        Some(Part { before, behind, binds_behind: true, base: "".into() })
    }

    fn pointer_to_member(&mut self) -> Option<Part> {
        self.expect("M")?;
        let mut symbol = self.parse_type()?.text();
        symbol.push("::*");
        let member = self.parse_type()?;
        let member = if member.binds_behind { member } else { member.qualified(" ") };
        Some(member.pointer(symbol.as_str()))
    }
}

/// What separates a simple type from a declarator.
fn space_before(behind: &Text) -> &'static str {
    if behind.as_str().is_empty() { " " } else { "" }
}
