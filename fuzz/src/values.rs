//! A type that has all that a value can be made of.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

/// A value of any form and depth, whose encoding is the only one it has.
#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    Unit,
    Bool(bool),
    Small(u8, i8, u16, i16),
    Large { unsigned: (u32, u64, u128), signed: (i32, i64, i128) },
    Float(Bits32, Bits64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Boxed(Box<[u8]>),
    Array([u16; 3]),
    Nothing([u8; 0]),
    Option(Option<Box<Value>>),
    Sequence(Vec<Value>),
    Units(Vec<()>),
    Flags(Vec<bool>),
    Pair(Box<(Value, Value)>),
    Newtype(Newtype),
    Struct(Box<Struct>),
    Result(Result<Box<Value>, String>),
}

/// A struct of one field without a name.
#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Newtype(pub Vec<Vec<u8>>);

/// A struct with fields of its own.
#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Struct {
    pub name: String,
    pub next: Option<Value>,
    pub marker: Marker,
    pub words: Vec<u64>,
}

/// A struct without fields.
#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marker;

/// A collection, of which a hostile payload can have several encodings.
#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collections {
    pub map: BTreeMap<String, Vec<Value>>,
    pub numbers: BTreeMap<u32, BTreeMap<u8, char>>,
    pub set: BTreeSet<Vec<u8>>,
    pub values: Vec<Value>,
}

/// What borrows from the payload.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Borrowing<'a> {
    pub text: &'a str,
    pub bytes: &'a [u8],
    #[serde(borrow)]
    pub list: Vec<(&'a str, Cow<'a, str>)>,
}

macro_rules! bits {
    ($name:ident, $float:ty) => {
        /// A floating-point number that is equal to one with the same bits.
        #[derive(Arbitrary, Clone, Copy, Debug, Serialize, Deserialize)]
        pub struct $name(pub $float);

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.to_bits() == other.0.to_bits()
            }
        }
    };
}

bits!(Bits32, f32);
bits!(Bits64, f64);
