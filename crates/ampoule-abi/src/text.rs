//! Text of someone else's as people may read it: a guest's messages, the names in an image, a path.
//!
//! Shown as it is, it could move the cursor of a terminal, forge lines of a log, or turn around or hide what stands next to
//! it. So characters that do not show what they are, which [`is_printable`] tells, are shown as Rust escapes them.

use core::fmt::{self, Display, Write};

/// A name, or another piece of text that stands within a sentence.
pub fn printable_name(text: &str) -> impl Display {
    Printable { text, kept: &[] }
}

/// A line. Its tabs stay, and what joins and picks the characters of scripts and emoji.
pub fn printable_line(text: &str) -> impl Display {
    Printable { text, kept: &IN_LINES }
}

/// Like [`printable_line`], but with its line ends: a message that may have several.
pub fn printable_lines(text: &str) -> impl Display {
    Printable { text, kept: &IN_MESSAGES }
}

/// Whether a character shows what it is: it is neither a control character, nor a format character or another one that is
/// not seen, nor an end of a line or paragraph (Unicode's general categories Cc, Cf, Zl and Zp, and the property
/// Default_Ignorable_Code_Point).
#[must_use]
pub fn is_printable(character: char) -> bool {
    !character.is_control() && !UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&character))
}

struct Printable<'text> {
    text: &'text str,
    /// Characters that are shown as they are, although they are not printable.
    kept: &'static [char],
}

impl Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.text.chars() {
            if is_printable(character) || self.kept.contains(&character) {
                f.write_char(character)?;
            } else {
                character.escape_default().fmt(f)?;
            }
        }
        Ok(())
    }
}

/// Tab, the joiners, and the selectors of emoji and text presentation.
const IN_LINES: [char; 5] = ['\t', '\u{200c}', '\u{200d}', '\u{fe0e}', '\u{fe0f}'];

const IN_MESSAGES: [char; 6] = ['\n', '\t', '\u{200c}', '\u{200d}', '\u{fe0e}', '\u{fe0f}'];

/// The first and the last character of each range of Cf, Zl, Zp and Default_Ignorable_Code_Point, as of Unicode 16.
const UNSEEN: [(char, char); 26] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{2029}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn what_moves_the_cursor_or_hides_is_escaped() {
        let text = "a\x1b[2Jb\r\u{202e}c\u{feff}\u{2028}d";
        for shown in [printable_name(text).to_string(), printable_line(text).to_string()] {
            assert_eq!(shown, "a\\u{1b}[2Jb\\r\\u{202e}c\\u{feff}\\u{2028}d");
        }
    }

    #[test]
    fn tabs_stay_in_lines_and_line_ends_in_messages() {
        let text = "a\tb\nc";
        assert_eq!(printable_name(text).to_string(), "a\\tb\\nc");
        assert_eq!(printable_line(text).to_string(), "a\tb\\nc");
        assert_eq!(printable_lines(text).to_string(), text);
    }

    #[test]
    fn ordinary_text_of_any_script_stays_as_it_is() {
        for text in ["naïve – “quoted”", "挨拶\u{3000}です", "می\u{200c}خواهم", "👩\u{200d}🚀 ❤\u{fe0f}", "e\u{301}"]
        {
            assert_eq!(printable_line(text).to_string(), text);
        }
    }

    #[test]
    fn each_edge_of_a_range_is_not_printable() {
        for (first, last) in UNSEEN {
            assert!(first <= last && !is_printable(first) && !is_printable(last), "{:x}", first as u32);
        }
        assert!(is_printable(' ') && is_printable('\u{a0}') && is_printable('\u{fffd}') && is_printable('\u{200a}'));
    }
}
