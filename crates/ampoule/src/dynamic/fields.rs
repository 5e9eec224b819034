//! The parts of a value that is written, and the names by which they and variants are given.

use std::fmt;
use std::ops::Range;

use ampoule_abi::schema::{DataType, Field, Variant};
use ampoule_abi::text::printable_name;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};

use super::write::{Slot, Step, Writer};
use crate::nearest::nearest;

/// The parts of a tuple, an array, a struct or a variant.
#[derive(Clone, Copy)]
pub(super) enum Fields<'a> {
    Unnamed(&'a [u32]),
    Repeated(u32, u32),
    Named(&'a [Field]),
}

impl Fields<'_> {
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Unnamed(types) => types.len(),
            Self::Repeated(_, count) => *count as usize,
            Self::Named(fields) => fields.len(),
        }
    }

    fn place(&self, index: usize) -> u32 {
        match self {
            Self::Unnamed(types) => types[index],
            Self::Repeated(element, _) => *element,
            Self::Named(fields) => fields[index].data_type,
        }
    }
}

/// Takes the parts.
pub(super) struct FieldsTaker<'w, 'a> {
    writer: &'w mut Writer<'a>,
    fields: Fields<'a>,
}

impl<'w, 'a> FieldsTaker<'w, 'a> {
    /// Those of a value of its own: of a tuple, array or struct. One that has none is a zero byte.
    pub(super) fn of_value(writer: &'w mut Writer<'a>, fields: Fields<'a>) -> Self {
        if fields.count() == 0 {
            writer.put(&[0]);
        }
        Self { writer, fields }
    }

    /// Those of a variant, of which nothing remains where there are none.
    pub(super) fn of_variant(writer: &'w mut Writer<'a>, fields: Fields<'a>) -> Self {
        Self { writer, fields }
    }
}

impl<'de> Visitor<'de> for FieldsTaker<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fields.count() {
            1 => f.write_str("1 value"),
            count => write!(f, "{count} values"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        for index in 0..self.fields.count() {
            let place = self.fields.place(index);
            let is_there =
                self.writer.part(Step::Element(index), |writer| values.next_element_seed(Slot { writer, place }))?;
            if !is_there {
                return Err(A::Error::invalid_length(index, &self));
            }
        }
        match values.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::invalid_length(self.fields.count() + 1, &self)),
            None => Ok(()),
        }
    }

    /// Fields come in any order, and are put into that of the type.
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Fields::Named(fields) = self.fields else {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        };
        let writer = self.writer;
        let start = writer.bytes.len();
        let mut written: Vec<Option<Range<usize>>> = vec![None; fields.len()];
        while let Some(index) = entries.next_key_seed(FieldName { fields })? {
            let Field { name, data_type } = &fields[index];
            if written[index].is_some() {
                return Err(A::Error::custom(format_args!("duplicate field `{}`", printable_name(name))));
            }
            let at = writer.bytes.len();
            writer.part(Step::Field(name), |writer| {
                entries.next_value_seed(Slot { writer, place: *data_type }).map(Some)
            })?;
            written[index] = Some(at..writer.bytes.len());
        }
        let mut ordered = Vec::with_capacity(writer.bytes.len() - start);
        for (field, range) in fields.iter().zip(written) {
            match range {
                Some(range) => ordered.extend_from_slice(&writer.bytes[range]),
                None if matches!(writer.types[field.data_type as usize], DataType::Option(_)) => ordered.push(0),
                None => return Err(A::Error::custom(format_args!("missing field `{}`", printable_name(&field.name)))),
            }
        }
        writer.bytes.truncate(start);
        writer.put(&ordered);
        Ok(())
    }
}

/// Reads which field comes next.
struct FieldName<'a> {
    fields: &'a [Field],
}

impl<'de> DeserializeSeed<'de> for FieldName<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<usize, D::Error> {
        name.deserialize_identifier(Name { kind: "field", names: self.fields.iter().map(|field| &*field.name) })
    }
}

/// Reads which variant comes.
pub(super) struct VariantName<'a> {
    pub(super) variants: &'a [Variant],
}

impl<'de> DeserializeSeed<'de> for VariantName<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<usize, D::Error> {
        name.deserialize_identifier(Name { kind: "variant", names: self.variants.iter().map(|variant| &*variant.name) })
    }
}

/// Finds one of these names.
struct Name<N> {
    kind: &'static str,
    names: N,
}

impl<'de, 'a, N: Iterator<Item = &'a str> + Clone> Visitor<'de> for Name<N> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of a {}", self.kind)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        self.names.clone().position(|known| known == name).ok_or_else(|| {
            let meant = nearest(name, self.names.clone());
            let meant = meant.map(|meant| format!("did you mean `{}`?", printable_name(meant)));
            let known = || {
                let names = self.names.clone().take(MAX_LISTED + 1);
                let names: Vec<String> = names.map(|name| format!("`{}`", printable_name(name))).collect();
                match names.len() {
                    0 => "there is none".to_owned(),
                    1..=MAX_LISTED => format!("there is {}", names.join(", ")),
                    _ => format!("there is {} and others", names[..MAX_LISTED].join(", ")),
                }
            };
            let kind = self.kind;
            E::custom(format_args!("unknown {kind} `{}`; {}", printable_name(name), meant.unwrap_or_else(known)))
        })
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<usize, E> {
        match str::from_utf8(name) {
            Ok(name) => self.visit_str(name),
            Err(_) => Err(E::invalid_value(Unexpected::Bytes(name), &self)),
        }
    }
}

/// How many names a message lists.
const MAX_LISTED: usize = 24;
