//! Values that are read part by part.

use serde::de::{DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::decoder::{Decoder, Source};
use super::error::DecodeError;
use super::read::ValueReader;

/// The elements of a sequence, the entries of a map, or the fields of a tuple or struct.
pub(super) struct Elements<'a, S> {
    decoder: &'a mut Decoder<S>,
    /// Of the elements.
    depth: usize,
    left: usize,
    /// The most that the visitor is told to reserve memory for.
    announced: usize,
}

impl<'a, 'de, S: Source<'de>> Elements<'a, S> {
    #[inline]
    pub(super) fn new(decoder: &'a mut Decoder<S>, depth: usize, count: usize, announced: usize) -> Self {
        Self { decoder, depth, left: count, announced }
    }

    /// Gives the elements to a visitor that has to take every one.
    pub(super) fn visit_all<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, DecodeError> {
        let value = visitor.visit_seq(&mut self)?;
        self.expect_none_left()?;
        Ok(value)
    }

    /// Gives the entries to a visitor that has to take every one.
    pub(super) fn visit_entries<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, DecodeError> {
        let value = visitor.visit_map(&mut self)?;
        self.expect_none_left()?;
        Ok(value)
    }

    /// Gives the fields of a struct to its visitor. serde counts the aliases of a field's name as fields too, so some may
    /// be left.
    pub(super) fn visit_named<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(self)
    }

    #[inline]
    fn expect_none_left(&self) -> Result<(), DecodeError> {
        if self.left > 0 {
            return Err(DecodeError::UnreadElements { offset: self.decoder.position(), elements: self.left });
        }
        Ok(())
    }

    #[inline]
    fn next<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.part(seed).map(Some)
    }

    #[inline]
    fn part<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(ValueReader::at_depth(self.decoder, self.depth))
    }

    #[inline]
    fn hint(&self) -> Option<usize> {
        Some(self.left.min(self.announced))
    }
}

impl<'de, S: Source<'de>> SeqAccess<'de> for Elements<'_, S> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        self.next(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de, S: Source<'de>> MapAccess<'de> for Elements<'_, S> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.next(seed)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        self.part(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

/// A variant of an enum: its index, then its fields.
pub(super) struct Variant<'a, S> {
    decoder: &'a mut Decoder<S>,
    /// Of the fields.
    depth: usize,
    enum_name: &'static str,
    /// The index, where it is not part of the payload.
    known: Option<u32>,
}

impl<'a, 'de, S: Source<'de>> Variant<'a, S> {
    #[inline]
    pub(super) fn new(decoder: &'a mut Decoder<S>, depth: usize, enum_name: &'static str) -> Self {
        Self { decoder, depth, enum_name, known: None }
    }

    /// One of this index, of which only the fields are in the payload.
    pub(super) fn known(decoder: &'a mut Decoder<S>, depth: usize, enum_name: &'static str, index: u32) -> Self {
        Self { decoder, depth, enum_name, known: Some(index) }
    }

    fn fields(self, count: usize) -> Elements<'a, S> {
        Elements::new(self.decoder, self.depth, count, count)
    }
}

impl<'de, S: Source<'de>> EnumAccess<'de> for Variant<'_, S> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), DecodeError> {
        let offset = self.decoder.position();
        let index = match self.known {
            Some(index) => index,
            None => u32::from_le_bytes(self.decoder.array()?),
        };
        let variant = seed
            .deserialize(IntoDeserializer::<DecodeError>::into_deserializer(index))
            .map_err(|_| DecodeError::UnknownVariant { offset, name: self.enum_name, index })?;
        Ok((variant, self))
    }
}

impl<'de, S: Source<'de>> VariantAccess<'de> for Variant<'_, S> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(ValueReader::at_depth(self.decoder, self.depth))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.fields(length).visit_all(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.fields(fields.len()).visit_named(visitor)
    }
}
