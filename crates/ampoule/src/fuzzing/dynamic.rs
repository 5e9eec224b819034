//! Values without Rust types: bytes that a guest has sent, and arguments for it, by types that it has named.

use ampoule_abi::schema::DataType;
use serde::{Deserializer, Serialize};

use crate::dynamic::{Value, Writer};

/// The bytes as a value of the type in this place, if they are one.
///
/// # Panics
/// Where there is no such type, or one names another that is not there.
pub fn dynamic_value(types: &[DataType], place: u32, bytes: &[u8]) -> Option<impl Serialize> {
    Value::new(types.into(), place, bytes.to_vec()).ok()
}

/// The bytes of an argument of the type in this place.
///
/// # Errors
/// Where it is none: the place in it, and why.
///
/// # Panics
/// Where there is no such type, or one names another that is not there.
pub fn dynamic_argument<'de, D: Deserializer<'de>>(
    types: &[DataType],
    place: u32,
    argument: D,
) -> Result<Vec<u8>, (String, String)> {
    let mut writer = Writer::new(types);
    writer.value(place, argument)?;
    Ok(writer.finish())
}
