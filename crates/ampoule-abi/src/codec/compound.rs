//! Values that are written part by part.

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant,
};

use super::encoder::{Encoder, Sink};
use super::error::EncodeError;
use super::write::ValueWriter;

/// A sequence or map: a count, then the elements.
pub(super) struct Counted<'a, S> {
    encoder: &'a mut Encoder<S>,
    /// Of the elements.
    depth: usize,
    /// Where the count stands.
    at: usize,
    /// The count that stands there.
    announced: usize,
    count: usize,
}

impl<'a, S: Sink> Counted<'a, S> {
    /// `expected` may be unknown or wrong: the count is corrected in the end.
    pub(super) fn begin(
        encoder: &'a mut Encoder<S>,
        depth: usize,
        expected: Option<usize>,
    ) -> Result<Self, EncodeError> {
        let at = encoder.position();
        let announced = expected.unwrap_or(0);
        encoder.put_count(announced)?;
        Ok(Self { encoder, depth, at, announced, count: 0 })
    }

    #[inline]
    pub(super) fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.count += 1;
        self.part(value)
    }

    #[inline]
    pub(super) fn finish(self) -> Result<(), EncodeError> {
        if self.count == self.announced {
            return Ok(());
        }
        self.encoder.replace_count(self.at, self.count)
    }

    #[inline]
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(ValueWriter::at_depth(self.encoder, self.depth))
    }
}

impl<S: Sink> SerializeSeq for Counted<'_, S> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.element(value)
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl<S: Sink> SerializeMap for Counted<'_, S> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.element(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.part(value)
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

/// A tuple, array or struct, or the fields of a variant: the fields in order.
pub(super) struct Fields<'a, S> {
    encoder: &'a mut Encoder<S>,
    /// Of the fields.
    depth: usize,
    /// Whether a zero byte has to stand for the value, because nothing else does so far.
    lacks_byte: bool,
}

impl<'a, S: Sink> Fields<'a, S> {
    #[inline]
    pub(super) fn of_value(encoder: &'a mut Encoder<S>, depth: usize) -> Self {
        Self { encoder, depth, lacks_byte: true }
    }

    /// The index of the variant is written already.
    #[inline]
    pub(super) fn of_variant(encoder: &'a mut Encoder<S>, depth: usize) -> Self {
        Self { encoder, depth, lacks_byte: false }
    }

    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.lacks_byte = false;
        value.serialize(ValueWriter::at_depth(self.encoder, self.depth))
    }

    #[inline]
    fn finish(self) -> Result<(), EncodeError> {
        if self.lacks_byte {
            self.encoder.put(&[0]);
        }
        Ok(())
    }
}

macro_rules! unnamed_fields {
    ($($part:ident::$method:ident)*) => {
        $(
            impl<S: Sink> $part for Fields<'_, S> {
                type Ok = ();
                type Error = EncodeError;

                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
                    self.field(value)
                }

                #[inline]
                fn end(self) -> Result<(), EncodeError> {
                    self.finish()
                }
            }
        )*
    };
}

unnamed_fields! {
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

macro_rules! named_fields {
    ($($part:ident)*) => {
        $(
            impl<S: Sink> $part for Fields<'_, S> {
                type Ok = ();
                type Error = EncodeError;

                #[inline]
                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    _: &'static str,
                    value: &T,
                ) -> Result<(), EncodeError> {
                    self.field(value)
                }

                fn skip_field(&mut self, name: &'static str) -> Result<(), EncodeError> {
                    Err(EncodeError::SkippedField { name })
                }

                #[inline]
                fn end(self) -> Result<(), EncodeError> {
                    self.finish()
                }
            }
        )*
    };
}

named_fields! { SerializeStruct SerializeStructVariant }
