//! What a signature says of what its types are made of: everything of the standard library's, and nothing of others.

use ampoule_abi::schema::{Content, DataType, UNKNOWN, Variant};

use super::Type;
use super::shape::Shape;

impl Type {
    /// Adds the type to others, of which the first is [`Unknown`](DataType::Unknown): its place among them.
    pub(crate) fn describe(&self, types: &mut Vec<DataType>) -> u32 {
        describe(self.shape(), types)
    }
}

/// The depth of a shape is bounded by that of a signature's text.
fn describe(shape: &Shape, types: &mut Vec<DataType>) -> u32 {
    let described = match shape {
        Shape::Unit => DataType::Unit,
        Shape::Bool => DataType::Bool,
        Shape::U8 => DataType::U8,
        Shape::U16 => DataType::U16,
        Shape::U32 => DataType::U32,
        Shape::U64 => DataType::U64,
        Shape::U128 => DataType::U128,
        Shape::I8 => DataType::I8,
        Shape::I16 => DataType::I16,
        Shape::I32 => DataType::I32,
        Shape::I64 => DataType::I64,
        Shape::I128 => DataType::I128,
        Shape::F32 => DataType::F32,
        Shape::F64 => DataType::F64,
        Shape::Char => DataType::Char,
        Shape::Str => DataType::String,
        Shape::Bytes => DataType::Bytes,
        Shape::Seq(element) => DataType::Sequence(describe(element, types)),
        Shape::Array(element, length) => match u32::try_from(*length) {
            Ok(length) => DataType::Array(describe(element, types), length),
            Err(_) => return UNKNOWN,
        },
        Shape::Tuple(fields) => DataType::Tuple(fields.iter().map(|field| describe(field, types)).collect()),
        Shape::Option(value) => DataType::Option(describe(value, types)),
        Shape::Map(key, value) => DataType::Map(describe(key, types), describe(value, types)),
        Shape::Result(value, error) => {
            let variants = [("Ok", value), ("Err", error)];
            let variants = variants.map(|(name, held)| Variant {
                name: name.to_owned(),
                content: Content::Unnamed(vec![describe(held, types)]),
            });
            DataType::Enum { name: "Result".to_owned(), variants: variants.into() }
        }
        Shape::Named { .. } => return UNKNOWN,
    };
    types.push(described);
    types.len() as u32 - 1
}
