//! The encoding as serde sees it when it reads.

use alloc::borrow::Cow;
use alloc::string::String;
use core::str;

use serde::Deserializer;
use serde::de::Visitor;

use super::access::{Elements, Variant};
use super::decoder::{Decoder, Source};
use super::deeper;
use super::error::DecodeError;
use super::numbers;

/// Reads one value. `depth` is the number of levels around it.
pub(super) struct ValueReader<'a, S> {
    decoder: &'a mut Decoder<S>,
    depth: usize,
}

impl<'a, 'de, S: Source<'de>> ValueReader<'a, S> {
    pub(super) fn new(decoder: &'a mut Decoder<S>) -> Self {
        Self { decoder, depth: 0 }
    }

    #[inline]
    pub(super) fn at_depth(decoder: &'a mut Decoder<S>, depth: usize) -> Self {
        Self { decoder, depth }
    }

    /// Goes down into the value.
    #[inline]
    fn within(self) -> Result<Self, DecodeError> {
        let depth = deeper(self.depth).ok_or_else(|| DecodeError::TooDeep { offset: self.decoder.position() })?;
        Ok(Self { depth, ..self })
    }

    /// Reads the parts of a sequence or map, around which are the levels of `self`: a count, then the elements.
    fn counted(self) -> Result<Elements<'a, S>, DecodeError> {
        let Self { decoder, depth } = self;
        let count = decoder.count()?;
        let announced = decoder.announce(count);
        Ok(Elements::new(decoder, depth, count, announced))
    }

    /// Reads a tuple, array or struct: the fields in order, or a zero byte if there are none.
    fn fields(self, count: usize) -> Result<Elements<'a, S>, DecodeError> {
        let Self { decoder, depth } = self.within()?;
        if count == 0 {
            unit(decoder)?;
        }
        Ok(Elements::new(decoder, depth, count, count))
    }
}

macro_rules! fixed_width {
    ($($method:ident($number:ty) => $visit:ident)*) => {
        $(
            #[inline]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
                visitor.$visit(<$number>::from_le_bytes(self.decoder.array()?))
            }
        )*
    };
}

macro_rules! not_self_describing {
    ($($method:ident)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DecodeError> {
                Err(DecodeError::NotSelfDescribing)
            }
        )*
    };
}

impl<'de, S: Source<'de>> Deserializer<'de> for ValueReader<'_, S> {
    type Error = DecodeError;

    fixed_width! {
        deserialize_i8(i8) => visit_i8
        deserialize_i16(i16) => visit_i16
        deserialize_i32(i32) => visit_i32
        deserialize_i64(i64) => visit_i64
        deserialize_i128(i128) => visit_i128
        deserialize_u8(u8) => visit_u8
        deserialize_u16(u16) => visit_u16
        deserialize_u32(u32) => visit_u32
        deserialize_u64(u64) => visit_u64
        deserialize_u128(u128) => visit_u128
        deserialize_f32(f32) => visit_f32
        deserialize_f64(f64) => visit_f64
    }

    not_self_describing! { deserialize_any deserialize_identifier deserialize_ignored_any }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let offset = self.decoder.position();
        match self.decoder.array()? {
            [0] => visitor.visit_bool(false),
            [1] => visitor.visit_bool(true),
            [value] => Err(DecodeError::InvalidBool { offset, value }),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let offset = self.decoder.position();
        let value = u32::from_le_bytes(self.decoder.array()?);
        match char::from_u32(value) {
            Some(value) => visitor.visit_char(value),
            None => Err(DecodeError::InvalidChar { offset, value }),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let start = self.decoder.position() + size_of::<u32>();
        let block = self.decoder.block()?;
        let invalid = |error: str::Utf8Error| DecodeError::InvalidUtf8 { offset: start + error.valid_up_to() };
        match block {
            Cow::Borrowed(bytes) => visitor.visit_borrowed_str(str::from_utf8(bytes).map_err(invalid)?),
            Cow::Owned(bytes) => {
                visitor.visit_string(String::from_utf8(bytes).map_err(|error| invalid(error.utf8_error()))?)
            }
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.within()?.decoder.block()? {
            Cow::Borrowed(bytes) => visitor.visit_borrowed_bytes(bytes),
            Cow::Owned(bytes) => visitor.visit_byte_buf(bytes),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let offset = self.decoder.position();
        match self.decoder.array()? {
            [0] => visitor.visit_none(),
            [1] => visitor.visit_some(self.within()?),
            [value] => Err(DecodeError::InvalidOption { offset, value }),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        unit(self.decoder)?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self.within()?)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let inner = self.within()?;
        match numbers::read::<V, S>(inner.decoder) {
            Some(numbers) => numbers,
            None => inner.counted()?.visit_all(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.fields(length)?.visit_all(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.fields(length)?.visit_all(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.within()?.counted()?.visit_entries(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.fields(fields.len())?.visit_named(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Self { decoder, depth } = self.within()?;
        visitor.visit_enum(Variant::new(decoder, depth, name))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Reads the byte that stands for a value without content.
fn unit<'de, S: Source<'de>>(decoder: &mut Decoder<S>) -> Result<(), DecodeError> {
    let offset = decoder.position();
    match decoder.array()? {
        [0] => Ok(()),
        [value] => Err(DecodeError::InvalidUnit { offset, value }),
    }
}
