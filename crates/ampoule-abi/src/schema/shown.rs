//! What a value shows of its type.
//!
//! A type that can only be written cannot be traced, and so its guest describes the values that it returns, for as long as the
//! host asks for that.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Display};

use serde::ser::{
    self, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{Content, DataType, Field, Variant};

/// The type of a value as far as the value shows it, as types of which it is the last. `None` where its `Serialize` fails.
///
/// Of an enum only the variants are known that the value has, of an option that is absent and a sequence that is empty not
/// what they could hold.
#[must_use]
pub fn shown<T: Serialize + ?Sized>(value: &T) -> Option<Vec<DataType>> {
    let shown = value.serialize(Shower).ok()?;
    let mut types = Vec::new();
    shown.add_to(&mut types);
    Some(types)
}

#[derive(Debug)]
enum Shown {
    Unknown,
    Leaf(DataType),
    Option(Box<Shown>),
    Sequence(Box<Shown>),
    Map(Box<Shown>, Box<Shown>),
    Tuple(Vec<Shown>),
    Struct { name: &'static str, fields: Vec<NamedPart> },
    Enum { name: &'static str, variants: BTreeMap<u32, (&'static str, ShownContent)> },
}

type NamedPart = (&'static str, Shown);

#[derive(Debug)]
enum ShownContent {
    Unnamed(Vec<Shown>),
    Named(Vec<NamedPart>),
}

impl Shown {
    /// The type of both, as far as either shows it.
    fn and(self, other: Self) -> Self {
        use Shown::{Enum, Leaf, Map, Option, Sequence, Struct, Tuple, Unknown};
        match (self, other) {
            (Unknown, known) | (known, Unknown) => known,
            (Option(one), Option(other)) => Option(Box::new(one.and(*other))),
            (Sequence(one), Sequence(other)) => Sequence(Box::new(one.and(*other))),
            (Map(key, value), Map(other_key, other_value)) => {
                Map(Box::new(key.and(*other_key)), Box::new(value.and(*other_value)))
            }
            (Tuple(parts), Tuple(others)) if parts.len() == others.len() => Tuple(both(parts, others)),
            (Struct { name, fields }, Struct { fields: others, .. }) if fields.len() == others.len() => {
                Struct { name, fields: both_named(fields, others) }
            }
            (Enum { name, mut variants }, Enum { variants: others, .. }) => {
                for (index, (variant, other)) in others {
                    let content = match variants.remove(&index) {
                        Some((_, content)) => content.and(other),
                        None => other,
                    };
                    variants.insert(index, (variant, content));
                }
                Enum { name, variants }
            }
            (Leaf(one), Leaf(other)) if one == other => Leaf(one),
            _ => Unknown,
        }
    }

    /// Adds the type behind those of its parts: its place.
    fn add_to(&self, types: &mut Vec<DataType>) -> u32 {
        let named = |fields: &[NamedPart], types: &mut Vec<DataType>| {
            let field = |(name, shown): &NamedPart| Field { name: (*name).to_owned(), data_type: shown.add_to(types) };
            fields.iter().map(field).collect::<Vec<_>>()
        };
        let data_type = match self {
            Self::Unknown => DataType::Unknown,
            Self::Leaf(leaf) => leaf.clone(),
            Self::Option(inner) => DataType::Option(inner.add_to(types)),
            Self::Sequence(element) => DataType::Sequence(element.add_to(types)),
            Self::Map(key, value) => DataType::Map(key.add_to(types), value.add_to(types)),
            Self::Tuple(parts) => DataType::Tuple(parts.iter().map(|part| part.add_to(types)).collect()),
            Self::Struct { name, fields } => {
                DataType::Struct { name: (*name).to_owned(), fields: named(fields, types) }
            }
            Self::Enum { name, variants } => {
                let count = variants.keys().last().map_or(0, |last| *last as usize + 1);
                let mut all = alloc::vec![Variant { name: String::new(), content: Content::Unknown }; count];
                for (index, (name, content)) in variants {
                    let content = match content {
                        ShownContent::Unnamed(parts) => {
                            Content::Unnamed(parts.iter().map(|part| part.add_to(types)).collect())
                        }
                        ShownContent::Named(fields) => Content::Named(named(fields, types)),
                    };
                    all[*index as usize] = Variant { name: (*name).to_owned(), content };
                }
                DataType::Enum { name: (*name).to_owned(), variants: all }
            }
        };
        types.push(data_type);
        types.len() as u32 - 1
    }
}

impl ShownContent {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unnamed(parts), Self::Unnamed(others)) if parts.len() == others.len() => {
                Self::Unnamed(both(parts, others))
            }
            (Self::Named(fields), Self::Named(others)) if fields.len() == others.len() => {
                Self::Named(both_named(fields, others))
            }
            (one, _) => one,
        }
    }
}

fn both(parts: Vec<Shown>, others: Vec<Shown>) -> Vec<Shown> {
    parts.into_iter().zip(others).map(|(part, other)| part.and(other)).collect()
}

fn both_named(fields: Vec<NamedPart>, others: Vec<NamedPart>) -> Vec<NamedPart> {
    fields.into_iter().zip(others).map(|((name, field), (_, other))| (name, field.and(other))).collect()
}

/// The value's own `Serialize` failed.
#[derive(Debug)]
struct NotShown;

impl Display for NotShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value cannot be written")
    }
}

impl core::error::Error for NotShown {}

impl ser::Error for NotShown {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// Takes a value, and gives what it shows.
struct Shower;

fn variant(enum_name: &'static str, index: u32, name: &'static str, content: ShownContent) -> Shown {
    if index > MAX_VARIANT {
        return Shown::Unknown;
    }
    Shown::Enum { name: enum_name, variants: BTreeMap::from([(index, (name, content))]) }
}

macro_rules! leaves {
    ($($method:ident($type:ty) $data_type:ident)*) => {
        $(
            fn $method(self, _: $type) -> Result<Shown, NotShown> {
                Ok(Shown::Leaf(DataType::$data_type))
            }
        )*
    };
}

impl Serializer for Shower {
    type Ok = Shown;
    type Error = NotShown;
    type SerializeSeq = Elements;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Entries;
    type SerializeStruct = NamedParts;
    type SerializeStructVariant = NamedParts;

    leaves! {
        serialize_bool(bool) Bool
        serialize_i8(i8) I8
        serialize_i16(i16) I16
        serialize_i32(i32) I32
        serialize_i64(i64) I64
        serialize_i128(i128) I128
        serialize_u8(u8) U8
        serialize_u16(u16) U16
        serialize_u32(u32) U32
        serialize_u64(u64) U64
        serialize_u128(u128) U128
        serialize_f32(f32) F32
        serialize_f64(f64) F64
        serialize_char(char) Char
        serialize_str(&str) String
        serialize_bytes(&[u8]) Bytes
    }

    fn serialize_none(self) -> Result<Shown, NotShown> {
        Ok(Shown::Option(Box::new(Shown::Unknown)))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Shown, NotShown> {
        Ok(Shown::Option(Box::new(value.serialize(Self)?)))
    }

    fn serialize_unit(self) -> Result<Shown, NotShown> {
        Ok(Shown::Leaf(DataType::Unit))
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Shown, NotShown> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        enum_name: &'static str,
        index: u32,
        name: &'static str,
    ) -> Result<Shown, NotShown> {
        Ok(variant(enum_name, index, name, ShownContent::Unnamed(Vec::new())))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Shown, NotShown> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        enum_name: &'static str,
        index: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Shown, NotShown> {
        let content = ShownContent::Unnamed([value.serialize(self)?].into());
        Ok(variant(enum_name, index, name, content))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements, NotShown> {
        Ok(Elements(Shown::Unknown))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts, NotShown> {
        Ok(Parts { of: None, parts: Vec::new() })
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Parts, NotShown> {
        self.serialize_tuple(length)
    }

    fn serialize_tuple_variant(
        self,
        enum_name: &'static str,
        index: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Parts, NotShown> {
        Ok(Parts { of: Some((enum_name, index, name)), parts: Vec::new() })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, NotShown> {
        Ok(Entries { key: Shown::Unknown, value: Shown::Unknown })
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<NamedParts, NotShown> {
        Ok(NamedParts { name, of: None, fields: Vec::new() })
    }

    fn serialize_struct_variant(
        self,
        enum_name: &'static str,
        index: u32,
        name: &'static str,
        _: usize,
    ) -> Result<NamedParts, NotShown> {
        Ok(NamedParts { name, of: Some((enum_name, index)), fields: Vec::new() })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence, as one type. Where that has no parts, the first one shows all.
struct Elements(Shown);

impl SerializeSeq for Elements {
    type Ok = Shown;
    type Error = NotShown;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotShown> {
        if !matches!(self.0, Shown::Leaf(_)) {
            let before = core::mem::replace(&mut self.0, Shown::Unknown);
            self.0 = before.and(value.serialize(Shower)?);
        }
        Ok(())
    }

    fn end(self) -> Result<Shown, NotShown> {
        Ok(Shown::Sequence(Box::new(self.0)))
    }
}

/// The entries of a map, as two types.
struct Entries {
    key: Shown,
    value: Shown,
}

impl SerializeMap for Entries {
    type Ok = Shown;
    type Error = NotShown;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NotShown> {
        let before = core::mem::replace(&mut self.key, Shown::Unknown);
        self.key = before.and(key.serialize(Shower)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotShown> {
        let before = core::mem::replace(&mut self.value, Shown::Unknown);
        self.value = before.and(value.serialize(Shower)?);
        Ok(())
    }

    fn end(self) -> Result<Shown, NotShown> {
        Ok(Shown::Map(Box::new(self.key), Box::new(self.value)))
    }
}

/// Parts without names, of a tuple or of a variant.
struct Parts {
    of: Option<(&'static str, u32, &'static str)>,
    parts: Vec<Shown>,
}

macro_rules! unnamed_parts {
    ($($part:ident::$method:ident)*) => {
        $(
            impl $part for Parts {
                type Ok = Shown;
                type Error = NotShown;

                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotShown> {
                    self.parts.push(value.serialize(Shower)?);
                    Ok(())
                }

                fn end(self) -> Result<Shown, NotShown> {
                    Ok(match self.of {
                        Some((enum_name, index, name)) => {
                            variant(enum_name, index, name, ShownContent::Unnamed(self.parts))
                        }
                        None => Shown::Tuple(self.parts),
                    })
                }
            }
        )*
    };
}

unnamed_parts! {
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

/// Fields with names, of a struct or of a variant, and its name.
struct NamedParts {
    name: &'static str,
    of: Option<(&'static str, u32)>,
    fields: Vec<NamedPart>,
}

macro_rules! named_parts {
    ($($part:ident)*) => {
        $(
            impl $part for NamedParts {
                type Ok = Shown;
                type Error = NotShown;

                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    name: &'static str,
                    value: &T,
                ) -> Result<(), NotShown> {
                    self.fields.push((name, value.serialize(Shower)?));
                    Ok(())
                }

                fn end(self) -> Result<Shown, NotShown> {
                    Ok(match self.of {
                        Some((enum_name, index)) => {
                            variant(enum_name, index, self.name, ShownContent::Named(self.fields))
                        }
                        None => Shown::Struct { name: self.name, fields: self.fields },
                    })
                }
            }
        )*
    };
}

named_parts! { SerializeStruct SerializeStructVariant }

/// The largest index of a variant that is shown.
const MAX_VARIANT: u32 = 4095;
