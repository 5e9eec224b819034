//! Values that cannot be written, and bytes that are no value.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

use ampoule_abi::codec::{self, DecodeError, EncodeError, Encoder, MAX_DEPTH};
use serde::de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn encoded<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_does_not_fit_is_measured_exactly_and_nothing_is_written_beyond() {
    let value = (vec![String::from("one"), String::from("two")], vec![9u8; 100], BTreeMap::from([(1, 2)]));
    let whole = encoded(&value);
    let mut memory = vec![0xaa; whole.len() + 1];
    for capacity in 0..whole.len() {
        let error = codec::encode(&value, &mut memory[..capacity]).unwrap_err();
        assert_eq!(error, EncodeError::TooLarge { needed: whole.len(), capacity });
        assert!(memory[capacity..].iter().all(|&byte| byte == 0xaa));
    }
    assert_eq!(codec::encode(&value, &mut memory[..whole.len()]), Ok(whole.len()));
    assert_eq!(memory[..whole.len()], whole);
}

#[test]
fn arguments_that_do_not_fit_are_measured_together() {
    let mut memory = [0; 4];
    let mut encoder = Encoder::new(&mut memory[..]);
    encoder.value(&[1u16, 2, 3]).unwrap();
    encoder.value(&vec![0u64; 1000]).unwrap();
    let error = encoder.finish().unwrap_err();
    assert_eq!(error, EncodeError::TooLarge { needed: 6 + 4 + 8000, capacity: 4 });
    assert_eq!(error.to_string(), "the values take 8010 bytes where 4 bytes fit");
}

#[test]
fn a_count_of_more_than_32_bits_is_refused() {
    let length = 1usize << 32;
    let units = vec![(); length];
    let mut memory = [0; 64];
    assert_eq!(codec::encode(&units, &mut memory[..]), Err(EncodeError::TooLong { length }));
}

#[derive(Debug, Serialize)]
struct Conditional {
    first: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe: Option<u8>,
}

#[test]
fn a_field_that_is_left_out_depending_on_its_value_is_refused() {
    let present = Conditional { first: 1, maybe: Some(2) };
    assert_eq!(encoded(&present), [1, 1, 2]);
    let absent = Conditional { maybe: None, ..present };
    let error = codec::encode(&absent, &mut Vec::new()).unwrap_err();
    assert_eq!(error, EncodeError::SkippedField { name: "maybe" });
}

#[test]
fn the_reason_of_a_type_that_refuses_is_kept() {
    struct Refusing;
    impl Serialize for Refusing {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    let error = codec::encode(&[Refusing], &mut Vec::new()).unwrap_err();
    assert_eq!(error, EncodeError::Custom("not today".into()));
    let error = codec::decode::<std::num::NonZeroU8>(&[0][..]).unwrap_err();
    assert_eq!(error.to_string(), "invalid value: integer `0`, expected a nonzero u8");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Deep<T> {
    Here(T),
    Down(Box<Deep<T>>),
}

fn wrap<T>(value: T, levels: usize) -> Deep<T> {
    (1..levels).fold(Deep::Here(value), |inner, _| Deep::Down(Box::new(inner)))
}

/// A value that is `levels` levels deep itself can be written and read exactly up to the limit.
#[track_caller]
fn deepest<T>(value: T, levels: usize)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + Clone,
{
    let around = MAX_DEPTH - levels;
    let fitting = wrap(value.clone(), around);
    assert_eq!(codec::decode(&encoded(&fitting)[..]), Ok(fitting));

    let too_deep = wrap(value.clone(), around + 1);
    assert_eq!(codec::encode(&too_deep, &mut Vec::new()), Err(EncodeError::TooDeep));
    let mut bytes = [1, 0, 0, 0].repeat(around);
    bytes.extend([0, 0, 0, 0]);
    bytes.extend(encoded(&value));
    let error = codec::decode::<Deep<T>>(&bytes[..]).unwrap_err();
    assert!(matches!(error, DecodeError::TooDeep { .. }), "{error}");
}

#[test]
fn writing_and_reading_agree_on_what_is_too_deep() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Newtype(u8);
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Named {
        field: u8,
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Plain {
        Unit,
        Tuple(u8, u8),
        Struct { field: u8 },
    }
    deepest(vec![1u8], 1);
    deepest(VecDeque::from([1u8]), 1);
    deepest(Vec::<u16>::new(), 1);
    deepest(BTreeMap::from([(1u8, 2u8)]), 1);
    deepest(Some(1u8), 1);
    deepest((1u8, 2u8), 1);
    deepest([0u8; 0], 1);
    deepest(Newtype(1), 1);
    deepest(Named { field: 1 }, 1);
    deepest(Plain::Unit, 1);
    deepest(Plain::Tuple(1, 2), 1);
    deepest(Plain::Struct { field: 1 }, 1);
    deepest(c"text".to_owned(), 1);
    deepest(vec![vec![1u8]], 2);
    deepest(BTreeMap::from([(vec![1u8], Some(Newtype(1)))]), 3);

    let leaves = wrap((1u8, 'a', (), String::from("text"), None::<u8>), MAX_DEPTH - 1);
    assert_eq!(codec::decode(&encoded(&leaves)[..]), Ok(leaves));
}

#[track_caller]
fn rejects<'de, T: Deserialize<'de> + Debug>(bytes: &'de [u8], expected: DecodeError) {
    assert_eq!(codec::decode::<T>(bytes).unwrap_err(), expected);
}

#[test]
fn invalid_bytes_are_told_apart_and_located() {
    rejects::<(u8, bool)>(&[0, 2], DecodeError::InvalidBool { offset: 1, value: 2 });
    rejects::<(u8, Option<u8>)>(&[0, 2, 0], DecodeError::InvalidOption { offset: 1, value: 2 });
    rejects::<Vec<()>>(&[1, 0, 0, 0, 9], DecodeError::InvalidUnit { offset: 4, value: 9 });
    rejects::<[u8; 0]>(&[1], DecodeError::InvalidUnit { offset: 0, value: 1 });
    rejects::<char>(&[0, 0xd8, 0, 0], DecodeError::InvalidChar { offset: 0, value: 0xd800 });
    rejects::<char>(&[0, 0, 0x11, 0], DecodeError::InvalidChar { offset: 0, value: 0x11_0000 });
    rejects::<(u8, &str)>(&[0, 2, 0, 0, 0, b'a', 0xff], DecodeError::InvalidUtf8 { offset: 6 });
    rejects::<String>(&[1, 0, 0, 0, 0x80], DecodeError::InvalidUtf8 { offset: 4 });
    rejects::<(u8, u32)>(&[0, 1, 2], DecodeError::UnexpectedEnd { offset: 1, needed: 4, remaining: 2 });
    rejects::<(u8, Deep<u8>)>(&[0, 2, 0, 0, 0], DecodeError::UnknownVariant { offset: 1, name: "Deep", index: 2 });
}

#[test]
fn bytes_left_over_are_refused() {
    rejects::<u8>(&[1, 2, 3], DecodeError::LeftOver { offset: 1, bytes: 2 });
    rejects::<String>(&[0, 0, 0, 0, 0], DecodeError::LeftOver { offset: 4, bytes: 1 });
}

#[test]
fn a_type_that_does_not_read_all_elements_is_refused() {
    #[derive(Debug)]
    struct First;
    impl<'de> Deserialize<'de> for First {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct TakesOne;
            impl<'de> Visitor<'de> for TakesOne {
                type Value = First;
                fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                    formatter.write_str("a number")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<First, A::Error> {
                    sequence.next_element::<u8>().map(|_| First)
                }
            }
            deserializer.deserialize_seq(TakesOne)
        }
    }
    rejects::<First>(&[3, 0, 0, 0, 7, 8, 9], DecodeError::UnreadElements { offset: 5, elements: 2 });
}

#[test]
fn types_that_need_self_describing_data_are_refused() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Number { value: u8 },
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Inner {
        value: u8,
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Flattened {
        #[serde(flatten)]
        inner: Inner,
    }
    rejects::<Untagged>(&encoded(&Untagged::Number(1)), DecodeError::NotSelfDescribing);
    rejects::<Tagged>(&encoded(&Tagged::Number { value: 1 }), DecodeError::NotSelfDescribing);
    rejects::<Flattened>(&encoded(&Flattened { inner: Inner { value: 1 } }), DecodeError::NotSelfDescribing);
    rejects::<IgnoredAny>(&[0], DecodeError::NotSelfDescribing);
}
