//! Reads values of types that are known only at run time, from bytes that a guest has sent.
//!
//! It takes time linear in the number of bytes, whatever they and the types are: each value but the fields of a variant takes
//! at least one byte, and levels are counted.

use ampoule_abi::codec::{DecodeError, MAX_DEPTH};
use ampoule_abi::schema::{Content, DataType, Variant};
use serde::de::Error;

use super::types::name;

/// Why bytes are no value of a type.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The value has a part of whose type nothing is known.
    #[error("nothing is known of the type of a part")]
    Undescribed,
}

/// Checks that bytes hold one value of a type, and nothing behind it.
pub(super) fn check(types: &[DataType], place: u32, bytes: &[u8]) -> Result<(), ReadError> {
    let mut reader = Reader::new(types, bytes);
    reader.pass(place)?;
    Ok(reader.finish()?)
}

/// Divides bytes into values of these types, behind which there is nothing.
pub(super) fn split<'a>(types: &[DataType], places: &[u32], bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, ReadError> {
    let mut reader = Reader::new(types, bytes);
    let mut parts = Vec::new();
    for place in places {
        let start = reader.at;
        reader.pass(*place)?;
        parts.push(&bytes[start..reader.at]);
    }
    reader.finish()?;
    Ok(parts)
}

/// A position in bytes, and the levels around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    types: &'a [DataType],
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Begins at the first byte.
    pub(super) fn new(types: &'a [DataType], bytes: &'a [u8]) -> Self {
        Self { types, bytes, at: 0, depth: 0 }
    }

    pub(super) fn types(&self) -> &'a [DataType] {
        self.types
    }

    /// Ends: there is nothing left.
    fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            bytes => Err(DecodeError::LeftOver { offset: self.at, bytes }),
        }
    }

    /// Goes on behind a value.
    pub(super) fn pass(&mut self, place: u32) -> Result<(), ReadError> {
        match &self.types[place as usize] {
            DataType::Unknown | DataType::Untransferable => return Err(ReadError::Undescribed),
            DataType::Unit => self.unit()?,
            DataType::Bool => self.bool().map(|_| ())?,
            DataType::Char => self.char().map(|_| ())?,
            DataType::String => self.text().map(|_| ())?,
            DataType::Bytes => self.within(|reader| Ok(reader.block().map(|_| ())?))?,
            DataType::Option(inner) => {
                if self.is_some()? {
                    self.within(|reader| reader.pass(*inner))?;
                }
            }
            DataType::Sequence(element) => self.within(|reader| {
                let count = reader.count()?;
                reader.pass_all(*element, count)
            })?,
            DataType::Array(element, count) => self.within(|reader| {
                reader.begin_fields(*count as usize)?;
                reader.pass_all(*element, *count as usize)
            })?,
            DataType::Map(key, value) => self.within(|reader| {
                let count = reader.count()?;
                (0..count).try_for_each(|_| reader.pass(*key).and_then(|()| reader.pass(*value)))
            })?,
            DataType::Tuple(elements) => self.within(|reader| {
                reader.begin_fields(elements.len())?;
                elements.iter().try_for_each(|element| reader.pass(*element))
            })?,
            DataType::Struct { fields, .. } => self.within(|reader| {
                reader.begin_fields(fields.len())?;
                fields.iter().try_for_each(|field| reader.pass(field.data_type))
            })?,
            DataType::Enum { .. } => self.within(|reader| {
                let (_, variant) = reader.variant(place)?;
                reader.pass_content(&variant.content)
            })?,
            number => self.take(size_of_number(number)).map(|_| ())?,
        }
        Ok(())
    }

    /// Goes on behind what a variant of an enum holds.
    pub(super) fn pass_content(&mut self, content: &Content) -> Result<(), ReadError> {
        match content {
            Content::Unknown => Err(ReadError::Undescribed),
            Content::Unnamed(held) => held.iter().try_for_each(|part| self.pass(*part)),
            Content::Named(fields) => fields.iter().try_for_each(|field| self.pass(field.data_type)),
        }
    }

    fn pass_all(&mut self, element: u32, count: usize) -> Result<(), ReadError> {
        match size_of_number(&self.types[element as usize]) {
            0 => (0..count).try_for_each(|_| self.pass(element)),
            size => Ok(self.take(count.saturating_mul(size)).map(|_| ())?),
        }
    }

    /// Reads what is one level deeper.
    fn within(&mut self, read: impl FnOnce(&mut Self) -> Result<(), ReadError>) -> Result<(), ReadError> {
        self.enter()?;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    /// Goes down a level.
    pub(super) fn enter(&mut self) -> Result<(), DecodeError> {
        if self.depth == MAX_DEPTH {
            return Err(DecodeError::TooDeep { offset: self.at });
        }
        self.depth += 1;
        Ok(())
    }

    /// A tuple, array or struct without fields is a zero byte.
    pub(super) fn begin_fields(&mut self, count: usize) -> Result<(), DecodeError> {
        if count == 0 { self.unit() } else { Ok(()) }
    }

    pub(super) fn unit(&mut self) -> Result<(), DecodeError> {
        match self.array()? {
            [0] => Ok(()),
            [value] => Err(DecodeError::InvalidUnit { offset: self.at - 1, value }),
        }
    }

    pub(super) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.array()? {
            [value @ (0 | 1)] => Ok(value == 1),
            [value] => Err(DecodeError::InvalidBool { offset: self.at - 1, value }),
        }
    }

    pub(super) fn is_some(&mut self) -> Result<bool, DecodeError> {
        match self.array()? {
            [value @ (0 | 1)] => Ok(value == 1),
            [value] => Err(DecodeError::InvalidOption { offset: self.at - 1, value }),
        }
    }

    pub(super) fn char(&mut self) -> Result<char, DecodeError> {
        let value = u32::from_le_bytes(self.array()?);
        char::from_u32(value).ok_or(DecodeError::InvalidChar { offset: self.at - size_of::<u32>(), value })
    }

    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.block()?;
        let start = self.at - bytes.len();
        str::from_utf8(bytes).map_err(|error| DecodeError::InvalidUtf8 { offset: start + error.valid_up_to() })
    }

    /// The bytes of a string or a byte string.
    pub(super) fn block(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.count()?;
        self.take(length)
    }

    /// A count, which at least as many bytes follow.
    pub(super) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = u32::from_le_bytes(self.array()?);
        let remaining = self.remaining();
        usize::try_from(count).ok().filter(|count| *count <= remaining).ok_or(DecodeError::CountTooLarge {
            offset: self.at - size_of::<u32>(),
            count,
            remaining,
        })
    }

    /// The index of the variant of an enum, and the variant.
    pub(super) fn variant(&mut self, place: u32) -> Result<(u32, &'a Variant), DecodeError> {
        let DataType::Enum { variants, .. } = &self.types[place as usize] else {
            return Err(DecodeError::custom("it is no enum"));
        };
        let index = u32::from_le_bytes(self.array()?);
        let variant = variants.get(index as usize).ok_or_else(|| {
            let offset = self.at - size_of::<u32>();
            DecodeError::custom(format_args!(
                "enum `{}` has no variant {index} (at offset {offset})",
                name(self.types, place)
            ))
        })?;
        Ok((index, variant))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("as many bytes were taken"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let remaining = self.remaining();
        if count > remaining {
            return Err(DecodeError::UnexpectedEnd { offset: self.at, needed: count, remaining });
        }
        let bytes = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(bytes)
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Goes on where another one has arrived.
    pub(super) fn go_to(&mut self, other: Reader<'a>) {
        self.at = other.at;
    }
}

/// Bytes of a number, any of which are one; 0 for what is no number.
fn size_of_number(data_type: &DataType) -> usize {
    match data_type {
        DataType::I8 | DataType::U8 => 1,
        DataType::I16 | DataType::U16 => 2,
        DataType::I32 | DataType::U32 | DataType::F32 => 4,
        DataType::I64 | DataType::U64 | DataType::F64 => 8,
        DataType::I128 | DataType::U128 => 16,
        _ => 0,
    }
}
