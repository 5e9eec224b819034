//! What can be written is read as what it was; what has been cut, or given less room, is not.

#![no_main]

use std::fmt::Debug;

use ampoule_abi::codec::{self, DecodeError, EncodeError};
use ampoule_fuzz::values::{Collections, Value};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Arbitrary, Debug)]
struct Input {
    value: Value,
    collections: Collections,
    arguments: (String, Vec<Value>, Option<Collections>),
    /// Where the payload is cut.
    cut: u16,
}

fuzz_target!(|input: Input| {
    round_trip(&input.value, input.cut);
    round_trip(&input.collections, input.cut);
    round_trip(&input.arguments, input.cut);
});

fn round_trip<T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &T, cut: u16) {
    let mut payload = vec![0; ROOM];
    let len = match codec::encode(value, &mut payload[..]) {
        Ok(len) => len,
        Err(EncodeError::TooDeep) => return,
        Err(error) => panic!("{error}: {value:?}"),
    };
    payload.truncate(len);
    assert_eq!(codec::decode::<T>(&payload[..]).as_ref(), Ok(value));

    let cut = usize::from(cut) % len.max(1);
    if cut < len {
        assert!(codec::decode::<T>(&payload[..cut]).is_err(), "cut at {cut}: {value:?}");
        let mut room = vec![0; cut];
        let too_large = EncodeError::TooLarge { needed: len, capacity: cut };
        assert_eq!(codec::encode(value, &mut room[..]), Err(too_large));
    }
    payload.push(0);
    assert_eq!(codec::decode::<T>(&payload[..]), Err(DecodeError::LeftOver { offset: len, bytes: 1 }));
}

/// Enough for every value that an input of this target's length can describe.
const ROOM: usize = 1 << 20;
