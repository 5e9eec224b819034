//! Names as people may read them: demangled, of bounded length, and without characters that play with a terminal.

use std::fmt::{self, Write};

use ampoule_abi::text::is_printable;

use crate::cpp_name;

/// A function's name in its language where that is Rust or C++, and as it is otherwise.
pub(super) fn function_name(symbol: &[u8]) -> String {
    let symbol = String::from_utf8_lossy(&symbol[..symbol.len().min(MAX_SYMBOL)]);
    let mut name = Text::default();
    match rustc_demangle::try_demangle(&symbol) {
        // ELF's mangled names begin with an underscore. Without it, the name is another platform's, or nobody's mangling.
        Ok(demangled) if symbol.starts_with('_') => name.append(format_args!("{demangled:#}")),
        _ => match cpp_name::demangle(&symbol, MAX_LENGTH) {
            Some(demangled) => name.append(format_args!("{demangled}")),
            None => name.append(format_args!("{symbol}")),
        },
    }
    name.finish()
}

/// Any other bytes of an image that should be text.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut text = Text::default();
    text.append(format_args!("{}", String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_SYMBOL)])));
    text.finish()
}

/// Text that is cut where it gets too long.
#[derive(Default)]
struct Text {
    text: String,
    cut: bool,
}

impl Text {
    /// Writes until it gets too long; then the writer is stopped.
    fn append(&mut self, arguments: fmt::Arguments<'_>) {
        self.cut = self.write_fmt(arguments).is_err();
    }

    fn finish(mut self) -> String {
        if self.cut {
            self.text.push('…');
        }
        self.text
    }
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for character in more.chars() {
            if self.text.len() >= MAX_LENGTH {
                return Err(fmt::Error);
            }
            self.text.push(if is_printable(character) { character } else { char::REPLACEMENT_CHARACTER });
        }
        Ok(())
    }
}

/// How much of a symbol is looked at, in bytes.
pub(super) const MAX_SYMBOL: usize = 1 << 12;

/// The longest text, in bytes: a few lines of a terminal.
const MAX_LENGTH: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_names_are_demangled_without_their_hash() {
        assert_eq!(function_name(b"_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
        assert_eq!(function_name(b"_RNvCs1234_7mycrate3foo"), "mycrate::foo");
    }

    #[test]
    fn other_names_stay_as_they_are() {
        assert_eq!(function_name(b"memcpy"), "memcpy");
        assert_eq!(function_name(b"_Zebra"), "_Zebra");
        // As other platforms spell what is `_RNvC1a3foo` and `_ZN1a3fooE` here.
        assert_eq!(function_name(b"RNvC1a3foo"), "RNvC1a3foo");
        assert_eq!(function_name(b"ZN1a3fooE"), "ZN1a3fooE");
    }

    #[test]
    fn cpp_names_are_demangled_without_their_parameters() {
        assert_eq!(
            function_name(b"_ZNSt6vectorIiSaIiEE9push_backEOi"),
            "std::vector<int, std::allocator<int>>::push_back"
        );
    }

    #[test]
    fn text_cannot_play_with_the_terminal() {
        assert_eq!(text(b"a\x1b[31mb\nc"), "a\u{fffd}[31mb\u{fffd}c");
        assert_eq!(text("a\u{202e}b\u{61c}c\u{feff}".as_bytes()), "a\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(text(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn long_names_are_cut() {
        let name = function_name(&[b'x'; 1 << 20]);
        assert_eq!(name, "x".repeat(MAX_LENGTH) + "…");
    }

    #[test]
    fn a_short_symbol_cannot_grow_into_a_long_name() {
        // Each tuple holds the one before it twice.
        let doubling: String = (0..40).map(|_| "TB1_B1_E").collect();
        assert!(function_name(format!("_RIC1a{doubling}E").as_bytes()).len() <= MAX_LENGTH + '…'.len_utf8());
    }
}
