//! The encoding as serde sees it when it writes.

use serde::{Serialize, Serializer};

use super::compound::{Counted, Fields};
use super::deeper;
use super::encoder::{Encoder, Sink};
use super::error::EncodeError;
use super::numbers;

/// Writes one value. `depth` is the number of levels around it.
pub(super) struct ValueWriter<'a, S> {
    encoder: &'a mut Encoder<S>,
    depth: usize,
}

impl<'a, S: Sink> ValueWriter<'a, S> {
    pub(super) fn new(encoder: &'a mut Encoder<S>) -> Self {
        Self { encoder, depth: 0 }
    }

    #[inline]
    pub(super) fn at_depth(encoder: &'a mut Encoder<S>, depth: usize) -> Self {
        Self { encoder, depth }
    }

    /// Goes down into the value.
    #[inline]
    fn within(self) -> Result<Self, EncodeError> {
        let depth = deeper(self.depth).ok_or(EncodeError::TooDeep)?;
        Ok(Self { depth, ..self })
    }

    fn counted(self, expected: Option<usize>) -> Result<Counted<'a, S>, EncodeError> {
        let Self { encoder, depth } = self.within()?;
        Counted::begin(encoder, depth, expected)
    }

    fn fields(self) -> Result<Fields<'a, S>, EncodeError> {
        let Self { encoder, depth } = self.within()?;
        Ok(Fields::of_value(encoder, depth))
    }

    /// Begins an enum.
    fn variant(self, index: u32) -> Result<Self, EncodeError> {
        let inner = self.within()?;
        inner.encoder.put(&index.to_le_bytes());
        Ok(inner)
    }

    fn variant_fields(self, index: u32) -> Result<Fields<'a, S>, EncodeError> {
        let Self { encoder, depth } = self.variant(index)?;
        Ok(Fields::of_variant(encoder, depth))
    }
}

macro_rules! fixed_width {
    ($($method:ident($number:ty))*) => {
        $(
            #[inline]
            fn $method(self, value: $number) -> Result<(), EncodeError> {
                self.encoder.put(&value.to_le_bytes());
                Ok(())
            }
        )*
    };
}

impl<'a, S: Sink> Serializer for ValueWriter<'a, S> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Counted<'a, S>;
    type SerializeTuple = Fields<'a, S>;
    type SerializeTupleStruct = Fields<'a, S>;
    type SerializeTupleVariant = Fields<'a, S>;
    type SerializeMap = Counted<'a, S>;
    type SerializeStruct = Fields<'a, S>;
    type SerializeStructVariant = Fields<'a, S>;

    fixed_width! {
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_f32(f32) serialize_f64(f64)
    }

    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.serialize_u8(value.into())
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.serialize_u32(value.into())
    }

    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.encoder.put_block(value.len(), value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        self.within()?.encoder.put_block(value.len(), value)
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_u8(0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        let inner = self.within()?;
        inner.encoder.put(&[1]);
        value.serialize(inner)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.serialize_u8(0)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), EncodeError> {
        self.variant(index).map(drop)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), EncodeError> {
        value.serialize(self.within()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self.variant(index)?)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, EncodeError> {
        self.counted(length)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, EncodeError> {
        self.fields()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, EncodeError> {
        self.fields()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, EncodeError> {
        self.variant_fields(index)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, EncodeError> {
        self.counted(length)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, EncodeError> {
        self.fields()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, EncodeError> {
        self.variant_fields(index)
    }

    fn collect_seq<I>(self, sequence: I) -> Result<(), EncodeError>
    where
        I: IntoIterator<Item: Serialize>,
    {
        if let Some(block) = numbers::as_block(&sequence) {
            return self.within()?.encoder.put_block(block.count, block.bytes);
        }
        let mut elements = sequence.into_iter();
        let expected = match elements.size_hint() {
            (least, Some(most)) if least == most => Some(least),
            _ => None,
        };
        let mut output = self.counted(expected)?;
        elements.try_for_each(|element| output.element(&element))?;
        output.finish()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
