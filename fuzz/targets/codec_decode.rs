//! Any payload is refused, or is the encoding of the value that it is read as; memory that changes is read once.

#![no_main]

use std::fmt::Debug;

use ampoule_abi::codec::{self, DecodeError, Source};
use ampoule_fuzz::values::{Borrowing, Collections, Newtype, Struct, Value};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, payload)) = input.split_first() else { return };
    match choice % 8 {
        0 => only_encoding::<Value>(payload),
        1 => only_encoding::<Vec<Value>>(payload),
        2 => only_encoding::<Struct>(payload),
        3 => only_encoding::<Newtype>(payload),
        4 => only_encoding::<(String, u32, Vec<Vec<(u64, u64)>>)>(payload),
        5 => only_encoding::<Vec<[u64; 32]>>(payload),
        6 => borrowed(payload),
        _ => drop(decode::<Collections>(payload)),
    }
});

/// Types whose values have one encoding each.
fn only_encoding<T: Serialize + DeserializeOwned + Debug + PartialEq>(payload: &[u8]) {
    if let Ok(value) = decode::<T>(payload) {
        let mut again = vec![0; payload.len()];
        assert_eq!(codec::encode(&value, &mut again[..]), Ok(payload.len()), "{value:?}");
        assert_eq!(again, payload, "{value:?}");
    }
}

fn borrowed(payload: &[u8]) {
    if let Ok(value) = codec::decode::<Borrowing<'_>>(payload) {
        let mut again = vec![0; payload.len()];
        assert_eq!(codec::encode(&value, &mut again[..]), Ok(payload.len()), "{value:?}");
        assert_eq!(again, payload, "{value:?}");
    }
}

/// Decodes what can be borrowed and what cannot; both must come to the same.
fn decode<T: DeserializeOwned + Debug + PartialEq>(payload: &[u8]) -> Result<T, DecodeError> {
    let value = codec::decode(payload);
    assert_eq!(codec::decode(ReadOnce { bytes: payload, read: 0 }), value);
    if let Err(error) = &value {
        assert!(error.to_string().len() < 4096, "{error}");
    }
    value
}

/// Memory that is not to be read twice, nor backwards.
struct ReadOnce<'a> {
    bytes: &'a [u8],
    read: usize,
}

impl<'de> Source<'de> for ReadOnce<'_> {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) {
        assert!(at >= self.read, "{at} is read again");
        self.read = at + buffer.len();
        buffer.copy_from_slice(&self.bytes[at..at + buffer.len()]);
    }
}
