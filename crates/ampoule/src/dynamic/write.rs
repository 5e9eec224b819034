//! Writes values of types that are known only at run time, from any deserializer.
//!
//! The types are the guest's and may be anything, such as a struct that has itself in it. What is written grows with what is
//! read, and its depth has the bound that all values have.

use std::fmt::{self, Display};

use ampoule_abi::codec::MAX_DEPTH;
use ampoule_abi::schema::{Content, DataType};
use ampoule_abi::text::printable_name;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::fields::{Fields, FieldsTaker, VariantName};
use super::types::{are_named, name};

/// Values one after another, as the guest reads them.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(super) types: &'a [DataType],
    pub(super) bytes: Vec<u8>,
    /// Where in the value that is written, from the outside to the inside. After an error, where that is.
    path: Vec<Step<'a>>,
    depth: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Variant(&'a str),
    Field(&'a str),
    Element(usize),
    Key,
    Value,
}

impl<'a> Writer<'a> {
    /// Has written nothing yet.
    pub(crate) fn new(types: &'a [DataType]) -> Self {
        Self { types, bytes: Vec::new(), path: Vec::new(), depth: 0 }
    }

    /// Writes a value of this type.
    ///
    /// # Errors
    /// What the deserializer says of a value of another type, and the path to it: `.lines[3].price`. What was written is then
    /// of no use.
    pub(crate) fn value<'de, D: Deserializer<'de>>(&mut self, place: u32, value: D) -> Result<(), (String, String)> {
        let written = Slot { writer: self, place }.deserialize(value);
        written.map_err(|error| (self.path.iter().map(Step::to_string).collect(), error.to_string()))
    }

    /// Everything that was written.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn put_block<E: Error>(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.put(&count(bytes.len())?);
        self.put(bytes);
        Ok(())
    }

    /// Writes a part of the value. After an error the path stays as it is, and so says where it was.
    pub(super) fn part<E>(
        &mut self,
        step: Step<'a>,
        write: impl FnOnce(&mut Self) -> Result<Option<()>, E>,
    ) -> Result<bool, E> {
        self.path.push(step);
        let part = write(self)?;
        self.path.pop();
        Ok(part.is_some())
    }
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variant(name) => write!(f, "::{}", printable_name(name)),
            Self::Field(name) => write!(f, ".{}", printable_name(name)),
            Self::Element(index) => write!(f, "[{index}]"),
            Self::Key => f.write_str("[key]"),
            Self::Value => f.write_str("[value]"),
        }
    }
}

/// Where a value of this type is to be written.
pub(super) struct Slot<'w, 'a> {
    pub(super) writer: &'w mut Writer<'a>,
    pub(super) place: u32,
}

impl<'de> DeserializeSeed<'de> for Slot<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        let Self { writer, place } = self;
        let is = &writer.types[place as usize];
        if writer.depth > MAX_DEPTH {
            return Err(D::Error::custom(format_args!("it is nested more than {MAX_DEPTH} levels deep")));
        }
        writer.depth += 1;
        let types = writer.types;
        let taker = Taker { writer: &mut *writer, place, is };
        match is {
            DataType::Unknown | DataType::Untransferable => {
                return Err(D::Error::custom("the guest does not say what its type is made of"));
            }
            DataType::Unit => value.deserialize_unit(taker),
            DataType::Bool => value.deserialize_bool(taker),
            DataType::I8 => value.deserialize_i8(taker),
            DataType::I16 => value.deserialize_i16(taker),
            DataType::I32 => value.deserialize_i32(taker),
            DataType::I64 => value.deserialize_i64(taker),
            DataType::I128 => value.deserialize_i128(taker),
            DataType::U8 => value.deserialize_u8(taker),
            DataType::U16 => value.deserialize_u16(taker),
            DataType::U32 => value.deserialize_u32(taker),
            DataType::U64 => value.deserialize_u64(taker),
            DataType::U128 => value.deserialize_u128(taker),
            DataType::F32 => value.deserialize_f32(taker),
            DataType::F64 => value.deserialize_f64(taker),
            DataType::Char => value.deserialize_char(taker),
            DataType::String => value.deserialize_str(taker),
            DataType::Bytes => value.deserialize_bytes(taker),
            DataType::Option(_) => value.deserialize_option(taker),
            DataType::Sequence(element) if types[*element as usize] == DataType::U8 => value.deserialize_bytes(taker),
            DataType::Sequence(_) => value.deserialize_seq(taker),
            DataType::Map(..) => value.deserialize_map(taker),
            DataType::Tuple(elements) => value.deserialize_tuple(elements.len(), taker),
            DataType::Array(_, length) => value.deserialize_tuple(*length as usize, taker),
            DataType::Struct { fields, .. } if are_named(fields) => value.deserialize_map(taker),
            DataType::Struct { fields, .. } => value.deserialize_tuple(fields.len(), taker),
            DataType::Enum { .. } => value.deserialize_enum("", &[], taker),
        }?;
        writer.depth -= 1;
        Ok(())
    }
}

/// Takes a value that was found for a type.
struct Taker<'w, 'a> {
    writer: &'w mut Writer<'a>,
    place: u32,
    is: &'a DataType,
}

macro_rules! fits {
    ($self:ident, $value:ident, $($data_type:ident($number:ty))*) => {
        match $self.is {
            $(DataType::$data_type => <$number>::try_from($value).ok().map(|number| $self.writer.put(&number.to_le_bytes())),)*
            DataType::F32 => Some($self.writer.put(&($value as f32).to_le_bytes())),
            DataType::F64 => Some($self.writer.put(&($value as f64).to_le_bytes())),
            _ => None,
        }
    };
}

impl Taker<'_, '_> {
    fn is_number(&self) -> bool {
        use DataType::{F32, F64, I8, I16, I32, I64, I128, U8, U16, U32, U64, U128};
        matches!(self.is, I8 | I16 | I32 | I64 | I128 | U8 | U16 | U32 | U64 | U128 | F32 | F64)
    }

    fn number<E: Error>(self, written: Option<()>, found: Unexpected<'_>) -> Result<(), E> {
        match written {
            Some(()) => Ok(()),
            None if self.is_number() => Err(E::invalid_value(found, &self)),
            None => Err(E::invalid_type(found, &self)),
        }
    }

    fn wrote<E: Error>(self, bytes: &[u8]) -> Result<(), E> {
        self.writer.put(bytes);
        Ok(())
    }

    fn is_bytes(&self) -> bool {
        match self.is {
            DataType::Bytes => true,
            DataType::Sequence(element) => self.writer.types[*element as usize] == DataType::U8,
            _ => false,
        }
    }
}

impl<'de> Visitor<'de> for Taker<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is {
            DataType::Struct { .. } => f.write_str("struct ")?,
            DataType::Enum { .. } => f.write_str("enum ")?,
            _ => {}
        }
        f.write_str(&name(self.writer.types, self.place))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.is {
            DataType::Bool => self.wrote(&[value.into()]),
            _ => Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        let written = fits!(self, value, I8(i8) I16(i16) I32(i32) I64(i64) I128(i128) U8(u8) U16(u16) U32(u32) U64(u64) U128(u128));
        self.number(written, Unexpected::Signed(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let written = fits!(self, value, I8(i8) I16(i16) I32(i32) I64(i64) I128(i128) U8(u8) U16(u16) U32(u32) U64(u64) U128(u128));
        self.number(written, Unexpected::Unsigned(value))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<(), E> {
        let written = fits!(self, value, I8(i8) I16(i16) I32(i32) I64(i64) I128(i128) U8(u8) U16(u16) U32(u32) U64(u64) U128(u128));
        self.number(written, Unexpected::Other(&format!("integer `{value}`")))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<(), E> {
        let written = fits!(self, value, I8(i8) I16(i16) I32(i32) I64(i64) I128(i128) U8(u8) U16(u16) U32(u32) U64(u64) U128(u128));
        self.number(written, Unexpected::Other(&format!("integer `{value}`")))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.is {
            DataType::F32 => self.wrote(&(value as f32).to_le_bytes()),
            DataType::F64 => self.wrote(&value.to_le_bytes()),
            _ => Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        match self.is {
            DataType::String => self.writer.put_block(value.as_bytes()),
            DataType::Char => {
                let mut characters = value.chars();
                match (characters.next(), characters.next()) {
                    (Some(only), None) => self.wrote(&u32::from(only).to_le_bytes()),
                    _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
                }
            }
            _ if self.is_bytes() => self.writer.put_block(value.as_bytes()),
            _ => Err(E::invalid_type(Unexpected::Str(value), &self)),
        }
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<(), E> {
        match (self.is, str::from_utf8(value)) {
            _ if self.is_bytes() => self.writer.put_block(value),
            (DataType::String, Ok(text)) => self.visit_str(text),
            _ => Err(E::invalid_type(Unexpected::Bytes(value), &self)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.is {
            DataType::Unit | DataType::Option(_) => self.wrote(&[0]),
            _ => Err(E::invalid_type(Unexpected::Unit, &self)),
        }
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        match self.is {
            DataType::Option(_) => self.wrote(&[0]),
            _ => Err(E::invalid_type(Unexpected::Option, &self)),
        }
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        let DataType::Option(inner) = self.is else {
            return Err(D::Error::invalid_type(Unexpected::Option, &self));
        };
        self.writer.put(&[1]);
        Slot { writer: self.writer, place: *inner }.deserialize(value)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        Slot { writer: self.writer, place: self.place }.deserialize(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let element = match self.is {
            DataType::Bytes => None,
            DataType::Sequence(element) => Some(*element),
            DataType::Tuple(types) => {
                return FieldsTaker::of_value(self.writer, Fields::Unnamed(types)).visit_seq(elements);
            }
            DataType::Array(element, count) => {
                return FieldsTaker::of_value(self.writer, Fields::Repeated(*element, *count)).visit_seq(elements);
            }
            DataType::Struct { fields, .. } => {
                return FieldsTaker::of_value(self.writer, Fields::Named(fields)).visit_seq(elements);
            }
            _ => return Err(A::Error::invalid_type(Unexpected::Seq, &self)),
        };
        let writer = self.writer;
        let at = writer.bytes.len();
        writer.put(&[0; 4]);
        let mut number = 0;
        loop {
            let goes_on = writer.part(Step::Element(number), |writer| match element {
                Some(place) => elements.next_element_seed(Slot { writer, place }),
                None => Ok(elements.next_element::<u8>()?.map(|byte| writer.put(&[byte]))),
            })?;
            if !goes_on {
                break;
            }
            number += 1;
        }
        writer.bytes[at..at + 4].copy_from_slice(&count(number)?);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let (key, value) = match self.is {
            DataType::Map(key, value) => (*key, *value),
            DataType::Struct { fields, .. } => {
                return FieldsTaker::of_value(self.writer, Fields::Named(fields)).visit_map(entries);
            }
            _ => return Err(A::Error::invalid_type(Unexpected::Map, &self)),
        };
        let writer = self.writer;
        let at = writer.bytes.len();
        writer.put(&[0; 4]);
        let mut number = 0;
        while writer.part(Step::Key, |writer| entries.next_key_seed(Slot { writer, place: key }))? {
            writer.part(Step::Value, |writer| entries.next_value_seed(Slot { writer, place: value }).map(Some))?;
            number += 1;
        }
        writer.bytes[at..at + 4].copy_from_slice(&count(number)?);
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, value: A) -> Result<(), A::Error> {
        let DataType::Enum { variants, .. } = self.is else {
            return Err(A::Error::invalid_type(Unexpected::Enum, &self));
        };
        let (index, content) = value.variant_seed(VariantName { variants })?;
        let variant = &variants[index];
        let writer = self.writer;
        writer.put(&(index as u32).to_le_bytes());
        writer.part(Step::Variant(&variant.name), |writer| {
            let fields = match &variant.content {
                Content::Unknown => return Err(A::Error::custom("the guest does not say what the variant holds")),
                Content::Unnamed(held) => match held[..] {
                    [] => return content.unit_variant().map(Some),
                    [place] => return content.newtype_variant_seed(Slot { writer, place }).map(Some),
                    _ => Fields::Unnamed(held),
                },
                Content::Named(fields) => Fields::Named(fields),
            };
            let taker = FieldsTaker::of_variant(writer, fields);
            match fields {
                Fields::Named(named) if are_named(named) => content.struct_variant(&[], taker),
                _ => content.tuple_variant(fields.count(), taker),
            }
            .map(Some)
        })?;
        Ok(())
    }
}

fn count<E: Error>(count: usize) -> Result<[u8; 4], E> {
    u32::try_from(count)
        .map(u32::to_le_bytes)
        .map_err(|_| E::custom(format_args!("it has a length of {count}: at most {} is possible", u32::MAX)))
}
