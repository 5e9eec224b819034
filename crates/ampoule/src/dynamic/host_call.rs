//! A guest's call of a host function whose types are known only at run time.

use serde::Deserializer;

use super::error::AnswerError;
use super::read::{ReadError, split};
use super::types::{FunctionTypes, Type};
use super::value::Value;
use super::write::Writer;
use crate::image::{Function, Image};

/// What a guest calls a host function with, and the type of the answer that it expects; see
/// [`Builder::dynamic_host_fn`](crate::Builder::dynamic_host_fn).
#[derive(Debug)]
pub struct HostCall {
    name: String,
    types: FunctionTypes,
    arguments: Option<Vec<Value>>,
}

impl HostCall {
    /// A call of this import with these bytes as its arguments.
    ///
    /// # Errors
    /// [`ReadError::Malformed`].
    pub(crate) fn new(image: &Image, import: &Function, arguments: &[u8]) -> Result<Self, ReadError> {
        let types = FunctionTypes::of(image, import);
        let arguments = match split(&types.types, &types.parameters, arguments) {
            Ok(parts) => {
                let values = parts.into_iter().zip(&types.parameters);
                Some(values.map(|(bytes, place)| Value::checked(&types.types, *place, bytes)).collect())
            }
            Err(ReadError::Undescribed) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { name: import.name().to_owned(), types, arguments })
    }

    /// Name of the function.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The arguments, in order; `None` where the guest does not say what the type of one is made of.
    #[must_use]
    pub fn arguments(&self) -> Option<&[Value]> {
        self.arguments.as_deref()
    }

    /// The type of the value that the guest expects.
    #[must_use]
    pub fn result(&self) -> Type {
        Type::new(&self.types.types, self.types.result)
    }

    /// An answer for the guest, whatever format it is in.
    ///
    /// # Errors
    /// Where it is not of the type that the guest expects.
    pub fn answer<'de, D: Deserializer<'de>>(&self, value: D) -> Result<Value, AnswerError> {
        let FunctionTypes { types, result, .. } = &self.types;
        let mut writer = Writer::new(types);
        match writer.value(*result, value) {
            Ok(()) => Ok(Value::checked(types, *result, &writer.finish())),
            Err((path, reason)) => Err(AnswerError { function: self.name.clone(), path, reason }),
        }
    }

    /// The bytes of an answer, if it is one to this call: of the type that the guest expects.
    pub(crate) fn bytes_of<'value>(&self, answer: &'value Value) -> Option<&'value [u8]> {
        answer.bytes_of(&self.types.types, self.types.result)
    }
}
