//! What types are made of: the names and the order of fields and variants, down to numbers and text.
//!
//! Values travel without names ([`codec`](crate::codec)), so two sides that mean different things by the same name of a type
//! would read wrong values without noticing. A guest describes the types of its functions in a [`Schema`], which its host
//! compares with its own. `docs/abi.md`, section 5, has the schema's form.
//!
//! What is known of a type comes from its `serde` implementations. One that can be read is traced as a whole ([`Tracer`]):
//! its `Deserialize` is run on a deserializer that makes values up and notes what it is asked for. One that can only be
//! written shows itself in its values. So types that are read on both sides are compared with each other ([`difference`]), and
//! the values that one side writes with the type that the other one reads: those of the host one by one ([`Checker`]), those
//! of the guest by what they show ([`shown()`], [`Observed`]).

mod check;
mod compare;
mod coverage;
mod parts;
mod path;
mod reader;
mod shown;
mod trace;

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use check::Checker;
pub use compare::{Observed, difference};
pub use coverage::Coverage;
pub use path::{Difference, UNNAMED, untransferable};
pub use shown::shown;
pub use trace::Tracer;

/// The types of a guest's functions.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Schema {
    /// Types, which name each other by their places here.
    pub types: Vec<DataType>,
    /// Functions that have types with names of their own. Of others the signature says everything.
    pub functions: Vec<FunctionTypes>,
}

/// The types of a function, each by its place in [`Schema::types`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionTypes {
    /// The function number.
    pub function: u32,
    /// The types of the parameters, in order.
    pub parameters: Vec<u32>,
    /// The type of the value that the function returns.
    pub result: u32,
    /// The type of its error, where that travels as a value.
    pub error: u32,
}

/// A type as `serde` describes it. Newtype structs are what they hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataType {
    /// Nothing is known of it, so nothing is compared.
    Unknown,
    /// It wants to learn its type from the data (`flatten`, `untagged`, dynamic types), and cannot travel.
    Untransferable,
    /// Nothing, as of `()` and unit structs.
    Unit,
    /// `bool`
    Bool,
    /// `i8`
    I8,
    /// `i16`
    I16,
    /// `i32`
    I32,
    /// `i64`
    I64,
    /// `i128`
    I128,
    /// `u8`
    U8,
    /// `u16`
    U16,
    /// `u32`
    U32,
    /// `u64`
    U64,
    /// `u128`
    U128,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`
    Char,
    /// Text.
    String,
    /// A byte string, which travels as a sequence of `u8`.
    Bytes,
    /// A value or none.
    Option(u32),
    /// A sequence or set of this type.
    Sequence(u32),
    /// A map from the first type to the second.
    Map(u32, u32),
    /// A tuple or tuple struct.
    Tuple(Vec<u32>),
    /// A tuple of one type this many times.
    Array(u32, u32),
    /// A struct with named fields.
    Struct {
        /// Its name, for messages.
        name: String,
        /// Its fields, in order.
        fields: Vec<Field>,
    },
    /// An enum.
    Enum {
        /// Its name, for messages.
        name: String,
        /// Its variants, in the order of their indexes.
        variants: Vec<Variant>,
    },
}

/// A field of a struct or of a variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name, or nothing where that is not known.
    pub name: String,
    /// Its type, by its place in [`Schema::types`].
    pub data_type: u32,
}

/// A variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Its name, or nothing where that is not known.
    pub name: String,
    /// What it holds.
    pub content: Content,
}

/// What a variant of an enum holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Nothing is known of it.
    Unknown,
    /// Fields without names; none for a unit variant.
    Unnamed(Vec<u32>),
    /// Fields with names.
    Named(Vec<Field>),
}

/// Why a schema is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// It has too many types.
    #[error("it has {types} types, more than {MAX_TYPES}")]
    TooManyTypes {
        /// How many.
        types: usize,
    },
    /// A type, a field or a variant has a name that is too long.
    #[error("it has a name of {length} bytes, more than {MAX_NAME_LEN}")]
    NameTooLong {
        /// Bytes of the name.
        length: usize,
    },
    /// It names a type that it does not have.
    #[error("it names type {named} of {types}")]
    MissingType {
        /// The place of the type.
        named: u32,
        /// How many types there are.
        types: usize,
    },
}

/// Whether types name only each other and keep the bounds of a [`Schema`].
///
/// # Errors
///
/// What is wrong.
pub fn check(types: &[DataType]) -> Result<(), SchemaError> {
    let count = types.len();
    if count > MAX_TYPES {
        return Err(SchemaError::TooManyTypes { types: count });
    }
    let mut names = types.iter().flat_map(DataType::names);
    if let Some(length) = names.find(|name| name.len() > MAX_NAME_LEN).map(str::len) {
        return Err(SchemaError::NameTooLong { length });
    }
    are_there(count, types.iter().flat_map(DataType::parts))
}

fn are_there(types: usize, mut named: impl Iterator<Item = u32>) -> Result<(), SchemaError> {
    match named.find(|named| *named as usize >= types) {
        Some(named) => Err(SchemaError::MissingType { named, types }),
        None => Ok(()),
    }
}

impl Schema {
    /// Whether every type is there that is named, and no more than may be.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), SchemaError> {
        check(&self.types)?;
        let of_functions = self
            .functions
            .iter()
            .flat_map(|function| function.parameters.iter().copied().chain([function.result, function.error]));
        are_there(self.types.len(), of_functions)
    }

    /// The types of the function of this number, if they are described.
    #[must_use]
    pub fn function(&self, number: u32) -> Option<&FunctionTypes> {
        self.functions.iter().find(|function| function.function == number)
    }
}

impl DataType {
    /// The types that values of this one have in them, from the first to the last.
    #[must_use]
    pub fn parts(&self) -> Vec<u32> {
        match self {
            Self::Option(inner) | Self::Sequence(inner) | Self::Array(inner, _) => [*inner].into(),
            Self::Map(key, value) => [*key, *value].into(),
            Self::Tuple(elements) => elements.clone(),
            Self::Struct { fields, .. } => fields.iter().map(|field| field.data_type).collect(),
            Self::Enum { variants, .. } => variants.iter().flat_map(|variant| variant.content.parts()).collect(),
            _ => Vec::new(),
        }
    }

    /// All names in it.
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Struct { name, fields } => [&[name.as_str()], &names_of(fields)[..]].concat(),
            Self::Enum { name, variants } => {
                let of_variants = variants.iter().flat_map(|variant| {
                    let fields = match &variant.content {
                        Content::Named(fields) => names_of(fields),
                        Content::Unknown | Content::Unnamed(_) => Vec::new(),
                    };
                    [&[variant.name.as_str()], &fields[..]].concat()
                });
                [name.as_str()].into_iter().chain(of_variants).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether its values have others in them.
    fn has_parts(&self) -> bool {
        use DataType::{Array, Enum, Map, Option, Sequence, Struct, Tuple};
        matches!(self, Option(_) | Sequence(_) | Map(..) | Tuple(_) | Array(..) | Struct { .. } | Enum { .. })
    }
}

impl Content {
    fn parts(&self) -> Vec<u32> {
        match self {
            Self::Unknown => Vec::new(),
            Self::Unnamed(fields) => fields.clone(),
            Self::Named(fields) => fields.iter().map(|field| field.data_type).collect(),
        }
    }
}

fn names_of(fields: &[Field]) -> Vec<&str> {
    fields.iter().map(|field| field.name.as_str()).collect()
}

/// The place of a type of which nothing is known, in the schemas that a [`Tracer`] makes.
pub const UNKNOWN: u32 = 0;

/// The most types that a schema may have.
pub const MAX_TYPES: usize = 1 << 14;

/// The longest name in a schema, in bytes.
pub const MAX_NAME_LEN: usize = 1 << 12;

/// The longest schema that a host takes, in bytes.
pub const MAX_LEN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use ampoule_error_rule::each_variant;

    use super::*;

    #[test]
    fn all_errors_say_everything_once() {
        each_variant!(SchemaError {
            SchemaError::TooManyTypes { .. } => SchemaError::TooManyTypes { types: 20_000 },
            SchemaError::NameTooLong { .. } => SchemaError::NameTooLong { length: 5000 },
            SchemaError::MissingType { .. } => SchemaError::MissingType { named: 2, types: 1 },
        });
    }
}
