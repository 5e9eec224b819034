//! Template arguments, and what stands for them in a template.

use super::Parser;
use super::part::{Part, Text};
use super::words::literal_suffix;

impl Parser<'_> {
    /// What was read, with the template arguments that follow.
    pub(super) fn with_arguments(&mut self, template: &Part) -> Option<Part> {
        self.expect("I")?;
        let arguments = self.arguments_before_end()?;
        let mut text = template.text();
        text.push(if text.as_str().ends_with('<') { " <" } else { "<" });
        text.push(self.joined(&arguments).as_str());
        text.push(">");
        self.last_arguments = arguments;
        Some(Part::named(text, &template.base))
    }

    fn arguments_before_end(&mut self) -> Option<Vec<Text>> {
        let mut arguments = Vec::new();
        while !self.eat("E") {
            arguments.push(self.deeper(Parser::argument)?);
        }
        Some(arguments)
    }

    fn argument(&mut self) -> Option<Text> {
        match self.peek()? {
            b'L' => self.literal(),
            b'X' => {
                // Of all expressions only the address of something.
                self.expect("Xad")?;
                let mut text = self.text("&");
                text.push(self.literal()?.as_str());
                self.expect("E")?;
                Some(text)
            }
            b'J' | b'I' => {
                self.take()?;
                let pack = self.arguments_before_end()?;
                Some(self.joined(&pack))
            }
            _ => Some(self.parse_type()?.text()),
        }
    }

    /// A function, an object or a number.
    fn literal(&mut self) -> Option<Text> {
        self.expect("L")?;
        if self.eat("_Z") || self.eat("Z") {
            let around = std::mem::take(&mut self.arguments);
            let function = self.encoding()?;
            while !self.eat("E") {
                self.parse_type()?;
            }
            self.arguments = around;
            return Some(function.text());
        }
        let code = self.peek()?;
        let of = self.parse_type()?.text();
        let (value, rest) = self.rest.split_once('E')?;
        self.rest = rest;
        let suffix = literal_suffix(code);
        let mut text = self.text("");
        match (code, value) {
            (b'b', "0") => text.push("false"),
            (b'b', "1") => text.push("true"),
            (b'D', "" | "0") => text.push("nullptr"),
            (_, value) => {
                if suffix.is_none() {
                    text.push("(");
                    text.push(of.as_str());
                    text.push(")");
                }
                if value.starts_with('n') {
                    text.push("-");
                }
                text.push(value.strip_prefix('n').unwrap_or(value));
                text.push(suffix.unwrap_or(""));
            }
        }
        Some(text)
    }

    pub(super) fn template_parameter(&mut self) -> Option<Part> {
        self.expect("T")?;
        let number = self.number_before_underscore()?;
        if self.in_lambda {
            return Some(Part::named(self.text("auto"), ""));
        }
        let argument = self.arguments.get(usize::try_from(number - 1).ok()?)?;
        Some(Part::named(argument.clone(), ""))
    }
}
