//! The types of a function as far as the image and its guest say what they are made of.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::sync::Arc;

use ampoule_abi::schema::{Content, DataType, Field, UNKNOWN};
use ampoule_abi::text::printable_name;

use crate::image::{Function, Image};

/// The types of a function, by their places in one table.
#[derive(Clone, Debug)]
pub(crate) struct FunctionTypes {
    pub(crate) types: Arc<[DataType]>,
    pub(crate) parameters: Box<[u32]>,
    pub(crate) result: u32,
    /// The type of the error, where that may travel as a value.
    pub(crate) error: u32,
}

impl FunctionTypes {
    /// What the guest says of the types of this function, or else what its signature does.
    pub(crate) fn of(image: &Image, function: &Function) -> Self {
        let described = image.described().and_then(|all| Some((all, all.function(function.number())?)));
        match described {
            Some((all, described)) => Self {
                types: all.shared_types(),
                parameters: described.parameters.clone(),
                result: described.result,
                error: described.error,
            },
            None => Self::of_signature(function),
        }
    }

    fn of_signature(function: &Function) -> Self {
        let signature = function.signature();
        let mut types = vec![DataType::Unknown];
        let parameters = signature.parameters().iter().map(|parameter| parameter.describe(&mut types)).collect();
        let result = signature.result().describe(&mut types);
        let error = signature.error().map_or(UNKNOWN, |error| error.describe(&mut types));
        Self { types: types.into(), parameters, result, error }
    }

    /// Whether the result has a part of which nothing is known, so that the guest is to describe each.
    pub(crate) fn is_result_unknown(&self) -> bool {
        let mut seen = HashSet::from([self.result]);
        let mut ahead = vec![self.result];
        while let Some(place) = ahead.pop() {
            let data_type = &self.types[place as usize];
            match data_type {
                DataType::Unknown => return true,
                DataType::Enum { variants, .. }
                    if variants.iter().any(|variant| variant.content == Content::Unknown) =>
                {
                    return true;
                }
                _ => ahead.extend(data_type.parts().into_iter().filter(|part| seen.insert(*part))),
            }
        }
        false
    }
}

/// A type of a guest's. It is displayed like Rust's: `Vec<Order>`, `_` where nothing is known of it.
#[derive(Clone)]
pub struct Type {
    types: Arc<[DataType]>,
    place: u32,
}

impl Type {
    pub(crate) fn new(types: &Arc<[DataType]>, place: u32) -> Self {
        Self { types: Arc::clone(types), place }
    }

    /// The structs and enums among the first so many types.
    pub(crate) fn definitions(types: &Arc<[DataType]>, count: usize) -> Vec<Self> {
        let is_defined = |data_type: &DataType| matches!(data_type, DataType::Struct { .. } | DataType::Enum { .. });
        let places = types.iter().take(count).enumerate().filter(|(_, data_type)| is_defined(data_type));
        places.map(|(place, _)| Self::new(types, place as u32)).collect()
    }

    /// Its definition as Rust would write it, if it is a struct or an enum: `struct Order { quantity: u64, price: u64 }`. One
    /// of more than 4 KiB is cut, which `…` shows.
    pub fn definition(&self) -> Option<String> {
        let mut text = Bounded { text: String::new(), limit: MAX_DEFINITION };
        let written = match &self.types[self.place as usize] {
            DataType::Struct { name, fields } => {
                write!(text, "struct {}", printable_name(name)).and_then(|()| self.fields(fields, &mut text))
            }
            DataType::Enum { name, variants } => write!(text, "enum {} {{", printable_name(name)).and_then(|()| {
                for (index, variant) in variants.iter().enumerate() {
                    let separator = if index == 0 { " " } else { ", " };
                    write!(text, "{separator}{}", printable_name(&variant.name))?;
                    match &variant.content {
                        Content::Unnamed(parts) if parts.is_empty() => {}
                        Content::Unnamed(parts) => held(&self.types, parts, &mut text)?,
                        Content::Named(fields) => self.fields(fields, &mut text)?,
                        Content::Unknown => text.write_str("(…)")?,
                    }
                }
                text.write_str(" }")
            }),
            _ => return None,
        };
        Some(text.finish(written))
    }

    fn fields(&self, fields: &[Field], text: &mut impl Write) -> fmt::Result {
        text.write_str(" {")?;
        for (index, field) in fields.iter().enumerate() {
            write!(text, "{} {}: ", if index == 0 { "" } else { "," }, printable_name(&field.name))?;
            short(&self.types, field.data_type, 1, text)?;
        }
        text.write_str(" }")
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(&self.types, self.place))
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Type({self})")
    }
}

/// What a type is called in a message.
pub(super) fn name(types: &[DataType], place: u32) -> String {
    let mut text = Bounded { text: String::new(), limit: MAX_NAME };
    let written = short(types, place, 0, &mut text);
    text.finish(written)
}

/// Types may have themselves in them, so both the depth and the length have bounds.
fn short(types: &[DataType], place: u32, depth: usize, text: &mut impl Write) -> fmt::Result {
    if depth > MAX_NESTING {
        return text.write_str("…");
    }
    let (before, inner, behind) = match &types[place as usize] {
        DataType::Option(inner) => ("Option<", *inner, ">"),
        DataType::Sequence(element) => ("Vec<", *element, ">"),
        DataType::Array(element, count) => ("[", *element, &*format!("; {count}]")),
        DataType::Map(key, value) => {
            text.write_str("HashMap<")?;
            short(types, *key, depth + 1, text)?;
            (", ", *value, ">")
        }
        DataType::Tuple(elements) => return tuple(types, elements, depth, text),
        DataType::Struct { name, .. } | DataType::Enum { name, .. } => return write!(text, "{}", printable_name(name)),
        leaf => return text.write_str(leaf_name(leaf)),
    };
    text.write_str(before)?;
    short(types, inner, depth + 1, text)?;
    text.write_str(behind)
}

fn tuple(types: &[DataType], elements: &[u32], depth: usize, text: &mut impl Write) -> fmt::Result {
    text.write_str("(")?;
    for (index, element) in elements.iter().enumerate() {
        text.write_str(if index == 0 { "" } else { ", " })?;
        short(types, *element, depth + 1, text)?;
    }
    text.write_str(if elements.len() == 1 { ",)" } else { ")" })
}

/// What a variant of an enum holds.
fn held(types: &[DataType], parts: &[u32], text: &mut impl Write) -> fmt::Result {
    text.write_str("(")?;
    for (index, part) in parts.iter().enumerate() {
        text.write_str(if index == 0 { "" } else { ", " })?;
        short(types, *part, 1, text)?;
    }
    text.write_str(")")
}

fn leaf_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Unit => "()",
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
        DataType::Bytes => "Vec<u8>",
        _ => "_",
    }
}

/// Whether fields can be told apart by their names. Those of a guest that leaves names out, or gives one twice, cannot.
pub(super) fn are_named(fields: &[Field]) -> bool {
    let mut names = HashSet::new();
    fields.iter().all(|field| !field.name.is_empty() && names.insert(field.name.as_str()))
}

/// Text that ends where there is too much of it.
struct Bounded {
    text: String,
    limit: usize,
}

impl Bounded {
    fn finish(mut self, written: fmt::Result) -> String {
        if written.is_err() {
            self.text.push('…');
        }
        self.text
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fitting = text.floor_char_boundary(self.limit - self.text.len());
        self.text.push_str(&text[..fitting]);
        if fitting == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Levels of a type's name that are shown.
const MAX_NESTING: usize = 8;
/// Bytes after which the name of a type is cut.
const MAX_NAME: usize = 256;
/// Bytes after which the definition of a type is cut.
const MAX_DEFINITION: usize = 4096;
