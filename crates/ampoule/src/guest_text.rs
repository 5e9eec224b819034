//! A guest's text as messages and the log show it: without what plays with a terminal, and not more than people read.
//!
//! A guest may send as much text as the mailbox holds. What the application finds in the fields of an error is all of that;
//! what is shown of it has a bound.

use std::fmt;

use ampoule_abi::text::{printable_line, printable_lines, printable_name};

/// A message that may have several lines.
pub(crate) fn lines(text: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let (shown, more) = beginning(text);
        write!(f, "{}", printable_lines(shown))?;
        omitted(more, f)
    })
}

/// A message where a line is due: its line ends are escaped.
pub(crate) fn line(text: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let (shown, more) = beginning(text);
        write!(f, "{}", printable_line(shown))?;
        omitted(more, f)
    })
}

/// A name that stands within a sentence.
pub(crate) fn name(text: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let (shown, more) = beginning(text);
        write!(f, "{}", printable_name(shown))?;
        omitted(more, f)
    })
}

/// A text as `Debug` shows it.
pub(crate) fn quoted(text: &str) -> impl fmt::Debug {
    fmt::from_fn(move |f| {
        let (shown, more) = beginning(text);
        write!(f, "{shown:?}")?;
        omitted(more, f)
    })
}

fn omitted(more: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if more == 0 { Ok(()) } else { write!(f, "… ({more} more bytes)") }
}

/// What is shown of a text, and how many bytes are not.
fn beginning(text: &str) -> (&str, usize) {
    let shown = &text[..text.floor_char_boundary(MAX_SHOWN)];
    (shown, text.len() - shown.len())
}

/// The most bytes of a text that are shown.
const MAX_SHOWN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_shown_up_to_a_bound_and_says_how_much_is_not() {
        let text = "é".repeat(MAX_SHOWN) + "\n";
        let shown = "é".repeat(MAX_SHOWN / 2) + "… (4097 more bytes)";
        assert_eq!(lines(&text).to_string(), shown);
        assert_eq!(line(&text).to_string(), shown);
        assert_eq!(format!("{:?}", quoted(&text)), format!("\"{}\"… (4097 more bytes)", "é".repeat(MAX_SHOWN / 2)));
    }

    #[test]
    fn a_short_text_is_shown_whole() {
        assert_eq!(lines("one\ntwo\x1b").to_string(), "one\ntwo\\u{1b}");
        assert_eq!(line("one\ntwo\x1b").to_string(), "one\\ntwo\\u{1b}");
        assert_eq!(format!("{:?}", quoted("one\ntwo")), "\"one\\ntwo\"");
    }
}
