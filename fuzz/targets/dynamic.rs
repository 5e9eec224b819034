//! Any types that a guest names, with any bytes that it sends and any argument for it: each is an error or a value, and what was
//! shown and is read again is a value, too.

#![no_main]

use ampoule::fuzzing::{dynamic_argument, dynamic_value};
use ampoule_abi::codec::Decoder;
use ampoule_abi::schema::{self, DataType};
use libfuzzer_sys::fuzz_target;
use serde_json::Deserializer;

fuzz_target!(|input: &[u8]| {
    let mut input = Decoder::new(input);
    let (Ok(place), Ok(types)) = (input.value::<u32>(), input.value::<Vec<DataType>>()) else { return };
    if schema::check(&types).is_err() || place as usize >= types.len() {
        return;
    }
    if let Ok(text) = input.value::<&str>()
        && let Err((path, reason)) = dynamic_argument(&types, place, &mut Deserializer::from_str(text))
    {
        assert!(path.len() < MAX_PATH && !reason.is_empty());
    }
    let Ok(bytes) = input.value::<Vec<u8>>() else { return };
    let Some(value) = dynamic_value(&types, place, &bytes) else { return };
    // Keys are not all text, and then they are no JSON.
    let Ok(shown) = serde_json::to_string(&value) else { return };
    let Ok(again) = dynamic_argument(&types, place, &mut Deserializer::from_str(&shown)) else { return };
    dynamic_value(&types, place, &again).expect("what was written can be read");
});

/// Bytes of the longest path: each of 128 levels may have a name.
const MAX_PATH: usize = 1 << 22;
