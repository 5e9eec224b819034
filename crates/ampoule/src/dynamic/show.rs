//! Shows values of types that are known only at run time to any serializer.

use std::cell::Cell;

use ampoule_abi::schema::{Content, DataType, Field, Variant};
use serde::ser::{Error, SerializeMap, SerializeSeq, SerializeTuple};
use serde::{Serialize, Serializer};

use super::read::{ReadError, Reader};
use super::types::are_named;

/// A part of bytes that were checked, to be shown as a value.
pub(super) struct Part<'a> {
    /// At its beginning.
    reader: Reader<'a>,
    shown: Shown<'a>,
    /// Behind it, once it was shown.
    end: Cell<Option<Reader<'a>>>,
}

/// As what a part is shown.
#[derive(Clone, Copy)]
enum Shown<'a> {
    /// A value of this type.
    Value(u32),
    /// What a variant of an enum holds.
    Content(&'a Content),
}

impl<'a> Part<'a> {
    /// All of the bytes, a value of this type.
    pub(super) fn whole(types: &'a [DataType], place: u32, bytes: &'a [u8]) -> Self {
        Self::at(Reader::new(types, bytes), Shown::Value(place))
    }

    fn at(reader: Reader<'a>, shown: Shown<'a>) -> Self {
        Self { reader, shown, end: Cell::new(None) }
    }

    fn value<S: Serializer>(&self, place: u32, reader: &mut Reader<'a>, serializer: S) -> Result<S::Ok, S::Error> {
        macro_rules! number {
            ($serialize:ident($number:ty)) => {
                serializer.$serialize(<$number>::from_le_bytes(reader.array().map_err(S::Error::custom)?))
            };
        }
        let types = reader.types();
        match &types[place as usize] {
            DataType::Unknown | DataType::Untransferable => Err(S::Error::custom(ReadError::Undescribed)),
            DataType::Unit => {
                reader.unit().map_err(S::Error::custom)?;
                serializer.serialize_unit()
            }
            DataType::Bool => serializer.serialize_bool(reader.bool().map_err(S::Error::custom)?),
            DataType::I8 => number!(serialize_i8(i8)),
            DataType::I16 => number!(serialize_i16(i16)),
            DataType::I32 => number!(serialize_i32(i32)),
            DataType::I64 => number!(serialize_i64(i64)),
            DataType::I128 => number!(serialize_i128(i128)),
            DataType::U8 => number!(serialize_u8(u8)),
            DataType::U16 => number!(serialize_u16(u16)),
            DataType::U32 => number!(serialize_u32(u32)),
            DataType::U64 => number!(serialize_u64(u64)),
            DataType::U128 => number!(serialize_u128(u128)),
            DataType::F32 => number!(serialize_f32(f32)),
            DataType::F64 => number!(serialize_f64(f64)),
            DataType::Char => serializer.serialize_char(reader.char().map_err(S::Error::custom)?),
            DataType::String => serializer.serialize_str(reader.text().map_err(S::Error::custom)?),
            DataType::Bytes => serializer.serialize_bytes(reader.block().map_err(S::Error::custom)?),
            DataType::Option(inner) => match reader.is_some().map_err(S::Error::custom)? {
                true => {
                    reader.enter().map_err(S::Error::custom)?;
                    let part = Self::at(*reader, Shown::Value(*inner));
                    let shown = serializer.serialize_some(&part)?;
                    part.leave(reader)?;
                    Ok(shown)
                }
                false => serializer.serialize_none(),
            },
            compound => {
                reader.enter().map_err(S::Error::custom)?;
                match compound {
                    DataType::Sequence(element) => {
                        let count = reader.count().map_err(S::Error::custom)?;
                        sequence(reader, serializer, std::iter::repeat_n(*element, count))
                    }
                    DataType::Map(key, value) => map(reader, serializer, *key, *value),
                    DataType::Tuple(elements) => {
                        reader.begin_fields(elements.len()).map_err(S::Error::custom)?;
                        tuple(reader, serializer, elements.iter().copied())
                    }
                    DataType::Array(element, count) => {
                        let count = *count as usize;
                        reader.begin_fields(count).map_err(S::Error::custom)?;
                        tuple(reader, serializer, std::iter::repeat_n(*element, count))
                    }
                    DataType::Struct { fields, .. } => {
                        reader.begin_fields(fields.len()).map_err(S::Error::custom)?;
                        named(reader, serializer, fields)
                    }
                    _ => {
                        let (index, variant) = reader.variant(place).map_err(S::Error::custom)?;
                        enumeration(reader, serializer, index, variant)
                    }
                }
            }
        }
    }

    /// Lets `reader` go on behind the part. A serializer may have left it out.
    fn leave<E: Error>(&self, reader: &mut Reader<'a>) -> Result<(), E> {
        let end = match self.end.get() {
            Some(end) => end,
            None => {
                let mut end = self.reader;
                match self.shown {
                    Shown::Value(place) => end.pass(place),
                    Shown::Content(content) => end.pass_content(content),
                }
                .map_err(E::custom)?;
                end
            }
        };
        reader.go_to(end);
        Ok(())
    }
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut reader = self.reader;
        let shown = match self.shown {
            Shown::Value(place) => self.value(place, &mut reader, serializer)?,
            Shown::Content(Content::Unnamed(held)) => match held[..] {
                [only] => self.value(only, &mut reader, serializer)?,
                _ => tuple(&mut reader, serializer, held.iter().copied())?,
            },
            Shown::Content(Content::Named(fields)) => named(&mut reader, serializer, fields)?,
            Shown::Content(Content::Unknown) => return Err(S::Error::custom(ReadError::Undescribed)),
        };
        self.end.set(Some(reader));
        Ok(shown)
    }
}

fn sequence<S: Serializer>(
    reader: &mut Reader<'_>,
    serializer: S,
    elements: impl ExactSizeIterator<Item = u32>,
) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(elements.len()))?;
    for element in elements {
        let part = Part::at(*reader, Shown::Value(element));
        sequence.serialize_element(&part)?;
        part.leave(reader)?;
    }
    sequence.end()
}

fn tuple<S: Serializer>(
    reader: &mut Reader<'_>,
    serializer: S,
    elements: impl ExactSizeIterator<Item = u32>,
) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(elements.len())?;
    for element in elements {
        let part = Part::at(*reader, Shown::Value(element));
        tuple.serialize_element(&part)?;
        part.leave(reader)?;
    }
    tuple.end()
}

fn map<S: Serializer>(reader: &mut Reader<'_>, serializer: S, key: u32, value: u32) -> Result<S::Ok, S::Error> {
    let count = reader.count().map_err(S::Error::custom)?;
    let mut map = serializer.serialize_map(Some(count))?;
    for _ in 0..count {
        let part = Part::at(*reader, Shown::Value(key));
        map.serialize_key(&part)?;
        part.leave(reader)?;
        let part = Part::at(*reader, Shown::Value(value));
        map.serialize_value(&part)?;
        part.leave(reader)?;
    }
    map.end()
}

/// Shows a struct as a map, since the names of its fields are not constants of the host's.
fn named<S: Serializer>(reader: &mut Reader<'_>, serializer: S, fields: &[Field]) -> Result<S::Ok, S::Error> {
    if !are_named(fields) {
        return tuple(reader, serializer, fields.iter().map(|field| field.data_type));
    }
    let mut map = serializer.serialize_map(Some(fields.len()))?;
    for field in fields {
        let part = Part::at(*reader, Shown::Value(field.data_type));
        map.serialize_entry(&field.name, &part)?;
        part.leave(reader)?;
    }
    map.end()
}

/// Shows an enum as the name of the variant, or as a map from that to what the variant holds.
fn enumeration<'a, S: Serializer>(
    reader: &mut Reader<'a>,
    serializer: S,
    index: u32,
    variant: &'a Variant,
) -> Result<S::Ok, S::Error> {
    let name = if variant.name.is_empty() { &index.to_string() } else { &variant.name };
    if matches!(&variant.content, Content::Unnamed(held) if held.is_empty()) {
        return serializer.serialize_str(name);
    }
    let mut map = serializer.serialize_map(Some(1))?;
    let part = Part::at(*reader, Shown::Content(&variant.content));
    map.serialize_entry(name, &part)?;
    part.leave(reader)?;
    map.end()
}
