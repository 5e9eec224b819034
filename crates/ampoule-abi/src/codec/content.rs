//! The content of an enum without the index that says which variant it is of: how the outcome of a function that can fail
//! travels, where the message says whether it is a value or an error.

use core::any::type_name;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, forward_to_deserialize_any};

use super::access::Variant;
use super::decoder::{Decoder, Source};
use super::encoder::{Encoder, Sink};
use super::error::{DecodeError, EncodeError};

/// The index of `Ok` among the variants of a `Result`.
pub const OK: u32 = 0;

/// The index of `Err` among the variants of a `Result`.
pub const ERR: u32 = 1;

/// Whether `T` is the standard library's `Result`, by the name that the compiler gives for it.
#[must_use]
pub fn is_result<T: ?Sized>() -> bool {
    type_name::<T>().starts_with("core::result::Result<")
}

/// Whether `T` is a `Result` whose error is text, which needs no value besides.
#[must_use]
pub fn fails_with_text<T: ?Sized>() -> bool {
    const TEXTS: [&str; 5] = [
        ", &str>",
        ", alloc::string::String>",
        ", alloc::boxed::Box<str>>",
        ", alloc::borrow::Cow<str>>",
        ", alloc::borrow::Cow<'_, str>>",
    ];
    is_result::<T>() && TEXTS.iter().any(|text| type_name::<T>().ends_with(text))
}

/// Writes the content of a value of an enum to `sink`, from the offset `base` on: the index of its variant, and the size of its
/// content in bytes.
///
/// # Errors
///
/// [`EncodeError::TooLarge`], with the size of all that would be in the sink, if it does not fit; another [`EncodeError`] if
/// the value has no encoding. What `sink` holds from `base` on is then unspecified.
pub fn encode_content<T: Serialize + ?Sized>(
    value: &T,
    base: usize,
    sink: impl Sink,
) -> Result<(u32, usize), EncodeError> {
    let mut content = Content { sink, base, index: [0; INDEX_LEN] };
    let mut encoder = Encoder::new(&mut content);
    let encoded = encoder.value(value).and_then(|()| encoder.finish());
    let shift = |size: usize| size.saturating_sub(INDEX_LEN).saturating_add(base);
    match encoded {
        Ok(size) => Ok((u32::from_le_bytes(content.index), size.saturating_sub(INDEX_LEN))),
        Err(EncodeError::TooLarge { needed, capacity }) => {
            Err(EncodeError::TooLarge { needed: shift(needed), capacity: shift(capacity) })
        }
        Err(error) => Err(error),
    }
}

impl<'de, S: Source<'de>> Decoder<S> {
    /// Reads the next value, an enum of which only the content is there: it is of the variant `index`.
    ///
    /// # Errors
    ///
    /// As for [`value`](Self::value); [`DecodeError::NotSelfDescribing`] if `T` is no enum.
    pub fn content<T: Deserialize<'de>>(&mut self, index: u32) -> Result<T, DecodeError> {
        T::deserialize(ContentReader { decoder: self, index })
    }
}

/// Takes an enum apart: the index, which is kept, and its content, which goes to the sink.
struct Content<S> {
    sink: S,
    base: usize,
    index: [u8; INDEX_LEN],
}

impl<S: Sink> Sink for Content<S> {
    fn capacity(&self) -> usize {
        self.sink.capacity().saturating_sub(self.base).saturating_add(INDEX_LEN)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        match at.checked_sub(INDEX_LEN) {
            Some(at) => self.sink.put(self.base + at, bytes),
            None => self.keep(at, bytes),
        }
    }

    fn put_again(&mut self, at: usize, bytes: &[u8]) {
        match at.checked_sub(INDEX_LEN) {
            Some(at) => self.sink.put_again(self.base + at, bytes),
            None => self.keep(at, bytes),
        }
    }
}

impl<S> Content<S> {
    /// An enum begins with its index. What is no enum has no content, and what it begins with is lost.
    fn keep(&mut self, at: usize, bytes: &[u8]) {
        for (kept, byte) in self.index[at..].iter_mut().zip(bytes) {
            *kept = *byte;
        }
    }
}

struct ContentReader<'a, S> {
    decoder: &'a mut Decoder<S>,
    index: u32,
}

impl<'de, S: Source<'de>> Deserializer<'de> for ContentReader<'_, S> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::NotSelfDescribing)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(Variant::known(self.decoder, OUTERMOST + 1, name, self.index))
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The depth of a value that is within no other.
const OUTERMOST: usize = 0;

/// Bytes of the index before the content of an enum: `docs/abi.md`, section 5.
const INDEX_LEN: usize = size_of::<u32>();
