//! Where in a type something is, and how two types differ there.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Content, DataType};
use crate::text::printable_name;

/// The first place at which the types of guest and host differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is {guest} in the guest and {host} in the host")]
pub struct Difference {
    /// Where: `Order.price`.
    pub path: String,
    /// What the guest has there.
    pub guest: String,
    /// What the host has there.
    pub host: String,
}

/// How a type is reached from the one that it is a part of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// It is what everything else is a part of.
    Root,
    /// It is what an option holds.
    Inner,
    Element,
    Key,
    Value,
    /// It is a field of the type, or of this variant of it.
    Field {
        variant: Option<usize>,
        index: usize,
    },
}

/// Where the first type within `root` is that cannot travel.
#[must_use]
pub fn untransferable(types: &[DataType], root: u32) -> Option<String> {
    let mut seen = BTreeSet::new();
    let mut places = [(root, Step::Root, 0)].to_vec();
    let mut ahead = [0].to_vec();
    while let Some(place) = ahead.pop() {
        let data_type = places[place].0;
        match &types[data_type as usize] {
            DataType::Untransferable => return Some(path(types, &chain(&places, place))),
            other if seen.insert(data_type) => {
                let first = places.len();
                places.extend(steps(other).into_iter().map(|(part, step)| (part, step, place)));
                ahead.extend((first..places.len()).rev());
            }
            _ => {}
        }
    }
    None
}

/// The parts of a type, with the steps to them.
fn steps(data_type: &DataType) -> Vec<(u32, Step)> {
    let fields = |variant: Option<usize>, fields: Vec<u32>| {
        fields.into_iter().enumerate().map(move |(index, field)| (field, Step::Field { variant, index }))
    };
    match data_type {
        DataType::Option(inner) => [(*inner, Step::Inner)].into(),
        DataType::Sequence(element) | DataType::Array(element, _) => [(*element, Step::Element)].into(),
        DataType::Map(key, value) => [(*key, Step::Key), (*value, Step::Value)].into(),
        DataType::Enum { variants, .. } => {
            let variants = variants.iter().enumerate();
            variants.flat_map(|(variant, is)| fields(Some(variant), is.content.parts())).collect()
        }
        other => fields(None, other.parts()).collect(),
    }
}

/// The types from the root to a place, of places that know which one they were reached from.
fn chain(places: &[(u32, Step, usize)], mut place: usize) -> Vec<(u32, Step)> {
    let mut chain = Vec::new();
    loop {
        let (data_type, step, from) = places[place];
        chain.push((data_type, step));
        if matches!(step, Step::Root) {
            chain.reverse();
            return chain;
        }
        place = from;
    }
}

/// The path of the last type of a chain, from the first one on that has a name: `Order.lines[].price`.
pub(super) fn path(types: &[DataType], chain: &[(u32, Step)]) -> String {
    let name = |data_type: u32| match &types[data_type as usize] {
        DataType::Struct { name, .. } | DataType::Enum { name, .. } => Some(printable_name(name).to_string()),
        _ => None,
    };
    let named = chain.iter().position(|(data_type, _)| name(*data_type).is_some());
    let Some(first) = named else {
        return chain.last().map_or_else(String::new, |(data_type, _)| type_name(&types[*data_type as usize]));
    };
    let mut path = name(chain[first].0).unwrap_or_default();
    for (before, (_, step)) in chain[first..].iter().zip(&chain[first + 1..]) {
        if path.len() > MAX_PATH {
            path.push('…');
            break;
        }
        path.push_str(&segment(&types[before.0 as usize], *step));
    }
    path
}

/// What a step adds to a path.
pub(super) fn segment(from: &DataType, step: Step) -> String {
    let Step::Field { variant, index } = step else {
        return match step {
            Step::Element => "[]",
            Step::Key => "[key]",
            Step::Value => "[value]",
            _ => "",
        }
        .to_owned();
    };
    let field = |name: Option<&String>| match name {
        Some(name) if !name.is_empty() => format!(".{}", printable_name(name)),
        _ => format!(".{index}"),
    };
    match (from, variant) {
        (DataType::Struct { fields, .. }, _) => field(fields.get(index).map(|field| &field.name)),
        (DataType::Enum { variants, .. }, Some(variant)) => match variants.get(variant) {
            Some(found) => {
                let name = match &found.content {
                    Content::Named(fields) => fields.get(index).map(|field| &field.name),
                    _ => None,
                };
                format!("::{}{}", printable_name(&found.name), field(name))
            }
            None => format!("::{variant}{}", field(None)),
        },
        _ => field(None),
    }
}

/// A field in a sentence.
pub(super) fn named_field(name: &str) -> String {
    format!("the field `{}`", printable_name(name))
}

/// An enum in a sentence, by one of its variants.
pub(super) fn named_variant(it: &str, index: usize, name: &str) -> String {
    format!("{it} whose variant {index} is `{}`", printable_name(name))
}

/// A type in a sentence.
pub(super) fn described(data_type: &DataType) -> String {
    match data_type {
        DataType::Option(_) => "an option".to_owned(),
        DataType::Sequence(_) => "a sequence".to_owned(),
        DataType::Map(..) => "a map".to_owned(),
        DataType::Tuple(elements) => format!("a tuple of {}", elements.len()),
        DataType::Array(_, length) => format!("a tuple of {length}"),
        DataType::Struct { name, .. } => format!("the struct `{}`", printable_name(name)),
        DataType::Enum { name, .. } => format!("the enum `{}`", printable_name(name)),
        DataType::Unit => "a unit".to_owned(),
        DataType::Bytes => "a byte string".to_owned(),
        other => format!("`{}`", type_name(other)),
    }
}

fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Bool => "bool",
        DataType::I8 => "i8",
        DataType::I16 => "i16",
        DataType::I32 => "i32",
        DataType::I64 => "i64",
        DataType::I128 => "i128",
        DataType::U8 => "u8",
        DataType::U16 => "u16",
        DataType::U32 => "u32",
        DataType::U64 => "u64",
        DataType::U128 => "u128",
        DataType::F32 => "f32",
        DataType::F64 => "f64",
        DataType::Char => "char",
        DataType::String => "String",
        _ => UNNAMED,
    };
    name.to_owned()
}

/// Bytes after which a path is cut.
const MAX_PATH: usize = 512;

/// How a type is called that has no name.
pub const UNNAMED: &str = "the value";
