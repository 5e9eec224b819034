//! The encoding of the values that travel between host and guest, as a [`serde`] format.
//!
//! The bytes are those of the [guest ABI](https://github.com/ampoule-rs/ampoule/blob/main/docs/abi.md), section 5:
//! fixed-width little-endian numbers, `u32` lengths, no names and no types. The reader has to know what was written.
//!
//! ```
//! use ampoule_abi::codec;
//!
//! let mut payload = [0; 16];
//! let length = codec::encode(&("cat", 7u8), &mut payload[..])?;
//! assert_eq!(payload[..length], [3, 0, 0, 0, b'c', b'a', b't', 7]);
//!
//! let (name, lives): (&str, u8) = codec::decode(&payload[..length])?;
//! assert_eq!((name, lives), ("cat", 7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where the bytes are
//!
//! Values are written to a [`Sink`] and read from a [`Source`]. Both are memory of a known size that is reached by
//! offset, so that memory which another party can change at any time needs no reference to it. The codec keeps the
//! position and the bounds itself and reads no byte twice.
//!
//! Reading from a slice borrows: `&str` and `&[u8]` point into it. Buffers of bytes and of other numbers (`Vec<u8>`,
//! `Box<[u8]>`, `&[f32]`) are moved as one block wherever they stand in a value; they need no attribute.
//!
//! # What can travel
//!
//! Every type whose `Serialize` and `Deserialize` are derived, and the types of the standard library, with the exception
//! of what needs to know the type from the data or leaves fields out depending on the value: `flatten`, `untagged`,
//! internally and adjacently tagged enums, `skip_serializing_if`, and dynamic types such as `serde_json::Value`.
//! `#[serde(skip)]` on a field is fine. On a variant it is only if no variant that is used follows, since serde counts
//! skipped variants when it writes and not when it reads.
//!
//! # Bounds
//!
//! [`MAX_DEPTH`] bounds the nesting when writing and when reading, alike for both: a value that can be written can be
//! read. Whatever the bytes are, reading ends, does not panic by itself, takes time linear in their number, and asks for
//! memory for no more elements than there are bytes.

mod access;
mod compound;
mod content;
mod decoder;
mod encoder;
mod error;
mod numbers;
mod read;
mod write;

pub use content::{ERR, OK, encode_content, fails_with_text, is_result};
pub use decoder::{Decoder, Source};
pub use encoder::{Encoder, Sink};
pub use error::{DecodeError, EncodeError};

use serde::{Deserialize, Serialize};

/// Writes one value to the beginning of `sink` and returns its size in bytes.
///
/// To write several values one after another, such as the arguments of a function, use an [`Encoder`].
///
/// # Errors
///
/// [`EncodeError::TooLarge`], with the size of the value, if it does not fit; another [`EncodeError`] if the value has no
/// encoding. What `sink` holds is then unspecified.
pub fn encode<T: Serialize + ?Sized>(value: &T, sink: impl Sink) -> Result<usize, EncodeError> {
    let mut encoder = Encoder::new(sink);
    encoder.value(value)?;
    encoder.finish()
}

/// Reads one value, which must take up all of `source`.
///
/// To read several values one after another, use a [`Decoder`].
///
/// # Errors
///
/// A [`DecodeError`] if the bytes are no value of type `T`, or if bytes are left over.
pub fn decode<'de, T: Deserialize<'de>>(source: impl Source<'de>) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(source);
    let value = decoder.value()?;
    decoder.finish()?;
    Ok(value)
}

/// How many levels deep a value may be nested (section 5 of the guest ABI).
///
/// Each sequence, byte string, set, map, present option, tuple, array, struct, newtype struct and enum is a level;
/// numbers, characters, strings, units and absent options are none.
pub const MAX_DEPTH: usize = 128;

/// The depth of what is within a value at `depth`, or nothing if that is too deep.
#[inline]
fn deeper(depth: usize) -> Option<usize> {
    (depth < MAX_DEPTH).then_some(depth + 1)
}
