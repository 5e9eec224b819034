//! What a function has returned.

use std::fmt;
use std::sync::Arc;

use ampoule_abi::schema::DataType;
use serde::{Serialize, Serializer};

use super::read::{ReadError, check};
use super::show::Part;
use super::types::Type;
use crate::guest_text;

/// A value of a guest's type that the host knows only at run time: a result, an argument of a host function, or an answer to it.
/// It is a [`Serialize`] value, whatever the format.
///
/// It is as long as the guest's message, and may be much longer where it is shown: the names of fields and variants are the
/// guest's, have up to 4 KiB each, and come with every value. Whoever writes what an untrusted guest returns bounds what is
/// written.
#[derive(Clone)]
pub struct Value {
    types: Arc<[DataType]>,
    place: u32,
    /// They hold a value of the type, and nothing behind it.
    bytes: Box<[u8]>,
}

impl Value {
    /// These bytes, if they are a value of the type.
    pub(crate) fn new(types: Arc<[DataType]>, place: u32, bytes: Vec<u8>) -> Result<Self, ReadError> {
        check(&types, place, &bytes)?;
        Ok(Self { types, place, bytes: bytes.into() })
    }

    /// These bytes, which are known to be a value of the type.
    pub(super) fn checked(types: &Arc<[DataType]>, place: u32, bytes: &[u8]) -> Self {
        Self { types: Arc::clone(types), place, bytes: bytes.into() }
    }

    /// The bytes, if they are of this type.
    pub(super) fn bytes_of(&self, types: &Arc<[DataType]>, place: u32) -> Option<&[u8]> {
        let is_same = self.place == place && (Arc::ptr_eq(&self.types, types) || self.types == *types);
        is_same.then_some(&*self.bytes)
    }

    /// Its type, as far as that is known.
    #[must_use]
    pub fn data_type(&self) -> Type {
        Type::new(&self.types, self.place)
    }

    /// The bytes that it holds, where it is a sequence of bytes such as a `Vec<u8>`.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        let is_byte = |element: u32| self.types[element as usize] == DataType::U8;
        match self.types[self.place as usize] {
            DataType::Bytes => {}
            DataType::Sequence(element) if is_byte(element) => {}
            _ => return None,
        }
        // They follow their number.
        self.bytes.get(size_of::<u32>()..)
    }

    /// Whether it is the value of `()` or of a unit struct.
    #[must_use]
    pub fn is_unit(&self) -> bool {
        self.types[self.place as usize] == DataType::Unit
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Part::whole(&self.types, self.place, &self.bytes).serialize(serializer)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({}, {} bytes)", self.data_type(), self.bytes.len())
    }
}

/// The error that a function has returned. It is displayed as its text.
#[derive(Clone)]
pub struct Failure {
    message: String,
    value: Option<Value>,
}

impl Failure {
    pub(crate) fn new(message: String, value: Option<Value>) -> Self {
        Self { message, value }
    }

    /// The error's text, as the guest has sent it: untrusted, and as long as the mailbox allows.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error's value, if it has come with one. An error that is a string has none: its text says it all.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        self.value.as_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", guest_text::lines(&self.message))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("message", &guest_text::quoted(&self.message))
            .field("value", &self.value)
            .finish()
    }
}
