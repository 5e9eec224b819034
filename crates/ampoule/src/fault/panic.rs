//! What a panicking guest said.

use std::fmt;

use ampoule_abi::layout::PanicRecord;

use crate::guest_text;

/// What a panicking guest said. `{}` escapes control characters but line ends and tabs, and what turns text around or is
/// not seen, and shows no more than 4 KiB; the fields are as the guest gave them.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestPanic {
    /// The panic's message.
    pub message: String,
    /// Source file, as the guest's compiler named it; empty where it is not known.
    pub file: String,
    /// Line, counted from 1; 0 where it is not known.
    pub line: u32,
    /// Column, counted from 1; 0 where it is not known.
    pub column: u32,
}

impl From<PanicRecord<String>> for GuestPanic {
    fn from(PanicRecord { message, file, line, column }: PanicRecord<String>) -> Self {
        Self { message, file, line, column }
    }
}

impl fmt::Display for GuestPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", guest_text::lines(&self.message))?;
        self.fmt_place(f)
    }
}

impl fmt::Debug for GuestPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestPanic")
            .field("message", &guest_text::quoted(&self.message))
            .field("file", &guest_text::quoted(&self.file))
            .field("line", &self.line)
            .field("column", &self.column)
            .finish()
    }
}

impl GuestPanic {
    /// Like `{}`, with line ends escaped.
    pub(super) fn in_a_line(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            write!(f, "{}", guest_text::line(&self.message))?;
            self.fmt_place(f)
        })
    }

    fn fmt_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A resumed panic has no location.
        if self.file.is_empty() {
            return Ok(());
        }
        write!(f, " at {}:{}:{}", guest_text::name(&self.file), self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panic_at(file: &str, line: u32, column: u32) -> String {
        GuestPanic { message: "no dictionary".to_owned(), file: file.to_owned(), line, column }.to_string()
    }

    #[test]
    fn a_panic_cannot_play_with_the_terminal_that_shows_it() {
        let panic = GuestPanic {
            message: "left: 1\nright: \x1b[2J\u{202e}2".to_owned(),
            file: "src/\n\x1b[A.rs".to_owned(),
            line: 7,
            column: 5,
        };
        assert_eq!(panic.to_string(), "left: 1\nright: \\u{1b}[2J\\u{202e}2 at src/\\n\\u{1b}[A.rs:7:5");
    }

    #[test]
    fn a_panic_says_where_it_was_if_that_is_known() {
        assert_eq!(panic_at("src/main.rs", 7, 5), "no dictionary at src/main.rs:7:5");
        assert_eq!(panic_at("", 0, 0), "no dictionary");
    }
}
