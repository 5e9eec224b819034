//! Why a value could not be written or read.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt::{self, Display, Write};

use serde::{de, ser};

use crate::text::printable_lines;

use super::MAX_DEPTH;

/// Why values could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The values do not fit where they are to be written.
    #[error("the values take {needed} bytes where {capacity} bytes fit")]
    TooLarge {
        /// Size in bytes of all values together.
        needed: usize,
        /// How many bytes fit.
        capacity: usize,
    },
    /// A string, sequence or map is longer than its `u32` length can tell.
    #[error("a string, sequence or map of length {length} is too long: at most {} is possible", u32::MAX)]
    TooLong {
        /// In bytes for a string, otherwise in elements.
        length: usize,
    },
    /// The value is nested deeper than [`MAX_DEPTH`].
    #[error("the value is nested more than {MAX_DEPTH} levels deep: flatten it, or send its parts one by one")]
    TooDeep,
    /// A field was left out because of its value (`skip_serializing_if`). The reader could not know that.
    #[error(
        "field `{name}` was left out because of its value, which the reader cannot know: remove `skip_serializing_if`"
    )]
    SkippedField {
        /// Name of the field.
        name: &'static str,
    },
    /// The type's own `Serialize` failed, with this message (at most 512 bytes of it).
    #[error("{}", printable_lines(.0))]
    Custom(Box<str>),
}

/// Why values could not be read. Offsets count from the start of the payload, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The payload ends within a value.
    #[error("the payload ends too early: {needed} bytes are needed at offset {offset}, {remaining} are left")]
    UnexpectedEnd {
        /// Where the bytes are missing.
        offset: usize,
        /// How many bytes the value takes at least from there.
        needed: usize,
        /// How many bytes there are.
        remaining: usize,
    },
    /// A length or count is larger than the payload can hold.
    #[error("length {count} at offset {offset} is impossible: only {remaining} bytes follow")]
    CountTooLarge {
        /// Where the length stands.
        offset: usize,
        /// The length, in bytes for a string, otherwise in elements.
        count: u32,
        /// How many bytes follow it.
        remaining: usize,
    },
    /// A `bool` is neither 0 nor 1.
    #[error("byte {value:#04x} at offset {offset} is no bool")]
    InvalidBool {
        /// Where the byte stands.
        offset: usize,
        /// The byte.
        value: u8,
    },
    /// The byte before an option is neither 0 nor 1.
    #[error("byte {value:#04x} at offset {offset} begins no option")]
    InvalidOption {
        /// Where the byte stands.
        offset: usize,
        /// The byte.
        value: u8,
    },
    /// The byte that stands for a unit, or for a tuple, array or struct without fields, is not 0.
    #[error("byte {value:#04x} at offset {offset} is no unit")]
    InvalidUnit {
        /// Where the byte stands.
        offset: usize,
        /// The byte.
        value: u8,
    },
    /// A `char` is no Unicode scalar value.
    #[error("{value:#x} at offset {offset} is no Unicode scalar value")]
    InvalidChar {
        /// Where the number stands.
        offset: usize,
        /// The number.
        value: u32,
    },
    /// A string is not UTF-8.
    #[error("the string is not UTF-8 at offset {offset}")]
    InvalidUtf8 {
        /// Where the first bad byte stands.
        offset: usize,
    },
    /// An enum has no variant with this index.
    #[error("enum `{name}` has no variant {index} (at offset {offset})")]
    UnknownVariant {
        /// Where the index stands.
        offset: usize,
        /// Name of the enum.
        name: &'static str,
        /// The index.
        index: u32,
    },
    /// The type's own `Deserialize` did not take all elements of a sequence, map or tuple.
    #[error("{elements} elements before offset {offset} were not read: the sequence is longer than its type allows")]
    UnreadElements {
        /// Where reading stopped.
        offset: usize,
        /// How many elements follow there.
        elements: usize,
    },
    /// The payload goes on after its last value.
    #[error("{bytes} bytes are left over at offset {offset}")]
    LeftOver {
        /// Where the last value ends.
        offset: usize,
        /// How many bytes follow.
        bytes: usize,
    },
    /// The value is nested deeper than [`MAX_DEPTH`].
    #[error("the value is nested more than {MAX_DEPTH} levels deep at offset {offset}")]
    TooDeep {
        /// Where the level that is too deep begins.
        offset: usize,
    },
    /// The type wants the data to tell its type, as `flatten`, `untagged`, internally tagged enums and types like
    /// `serde_json::Value` do.
    #[error(
        "values are not self-describing, so `flatten`, `untagged`, tagged enums and dynamic types cannot be read: \
         use a plain struct or enum, or send text"
    )]
    NotSelfDescribing,
    /// The type's own `Deserialize` rejected the value, with this message (at most 512 bytes of it).
    #[error("{}", printable_lines(.0))]
    Custom(Box<str>),
}

impl ser::Error for EncodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Custom(Excerpt::of(message))
    }
}

impl de::Error for DecodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Custom(Excerpt::of(message))
    }
}

/// The beginning of a message. serde quotes the offending value in its messages, and that may be as long as the payload.
struct Excerpt {
    text: String,
    is_cut: bool,
}

impl Excerpt {
    fn of(message: impl Display) -> Box<str> {
        let mut excerpt = Self { text: String::new(), is_cut: false };
        // An error only says that the message was cut, or that it cannot be displayed beyond this point.
        let _ = write!(excerpt, "{message}");
        if excerpt.is_cut {
            excerpt.text.push_str(ELLIPSIS);
        }
        excerpt.text.into_boxed_str()
    }
}

impl Write for Excerpt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.is_cut {
            return Err(fmt::Error);
        }
        let room = MAX_MESSAGE - ELLIPSIS.len() - self.text.len();
        let fitting = text.floor_char_boundary(room);
        self.text.push_str(&text[..fitting]);
        if fitting < text.len() {
            self.is_cut = true;
            return Err(fmt::Error);
        }
        Ok(())
    }
}

const MAX_MESSAGE: usize = 512;
const ELLIPSIS: &str = " ...";

#[cfg(test)]
mod tests;
