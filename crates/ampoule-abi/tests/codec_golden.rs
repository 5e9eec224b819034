//! The bytes of every row of the table in `docs/abi.md`, section 5, both ways.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;
use std::marker::PhantomData;

use ampoule_abi::codec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, bytes: &[u8]) {
    let mut encoded = Vec::new();
    assert_eq!(codec::encode(&value, &mut encoded), Ok(bytes.len()));
    assert_eq!(encoded, bytes);
    assert_eq!(codec::decode::<T>(bytes), Ok(value));
}

#[test]
fn bool_is_one_byte() {
    golden(false, &[0]);
    golden(true, &[1]);
}

#[test]
fn integers_are_fixed_width_little_endian_twos_complement() {
    golden(0x12u8, &[0x12]);
    golden(0x1234u16, &[0x34, 0x12]);
    golden(0x1234_5678u32, &[0x78, 0x56, 0x34, 0x12]);
    golden(0x0102_0304_0506_0708u64, &[8, 7, 6, 5, 4, 3, 2, 1]);
    golden(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10u128, &[16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    golden(-2i8, &[0xfe]);
    golden(-2i16, &[0xfe, 0xff]);
    golden(-2i32, &[0xfe, 0xff, 0xff, 0xff]);
    golden(-2i64, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    golden(i128::MIN, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    golden(7usize, &[7, 0, 0, 0, 0, 0, 0, 0]);
    golden(-1isize, &[0xff; 8]);
}

#[test]
fn floats_are_ieee_754() {
    golden(1.0f32, &[0, 0, 0x80, 0x3f]);
    golden(-0.5f64, &[0, 0, 0, 0, 0, 0, 0xe0, 0xbf]);
    let signalling_nan = [0x01, 0, 0xa0, 0x7f];
    let decoded: f32 = codec::decode(&signalling_nan[..]).unwrap();
    assert_eq!(decoded.to_bits(), 0x7fa0_0001);
}

#[test]
fn char_is_its_scalar_value() {
    golden('a', &[0x61, 0, 0, 0]);
    golden('\u{10ffff}', &[0xff, 0xff, 0x10, 0]);
}

#[test]
fn string_is_a_length_and_utf8() {
    golden(String::from("né"), &[3, 0, 0, 0, b'n', 0xc3, 0xa9]);
    golden(String::new(), &[0, 0, 0, 0]);
}

#[test]
fn byte_string_is_a_length_and_bytes_however_it_is_held() {
    let bytes = [3, 0, 0, 0, 7, 8, 9];
    golden(vec![7u8, 8, 9], &bytes);
    golden(vec![7u8, 8, 9].into_boxed_slice(), &bytes);
    golden(VecDeque::from([7u8, 8, 9]), &bytes);
    golden(BTreeSet::from([7u8, 8, 9]), &bytes);
    assert_eq!(codec::decode(&bytes[..]), Ok(&[7u8, 8, 9][..]));
    let mut encoded = Vec::new();
    codec::encode(&[7u8, 8, 9][..], &mut encoded).unwrap();
    assert_eq!(encoded, bytes);
}

#[test]
fn sequence_and_set_are_a_count_and_elements() {
    golden(vec![1u16, 2], &[2, 0, 0, 0, 1, 0, 2, 0]);
    golden(Vec::<u16>::new(), &[0, 0, 0, 0]);
    golden(BTreeSet::from([1i8, 2]), &[2, 0, 0, 0, 1, 2]);
    golden(vec![(), ()], &[2, 0, 0, 0, 0, 0]);
}

#[test]
fn map_is_a_count_and_keys_and_values_in_turn() {
    golden(BTreeMap::from([(1u8, 0x10u16), (2, 0x20)]), &[2, 0, 0, 0, 1, 0x10, 0, 2, 0x20, 0]);
    golden(HashMap::from([(1u8, 2u8)]), &[1, 0, 0, 0, 1, 2]);
}

#[test]
fn option_is_a_byte_and_the_value() {
    golden(None::<u16>, &[0]);
    golden(Some(5u16), &[1, 5, 0]);
    golden(Some(None::<u16>), &[1, 0]);
    golden(Some(()), &[1, 0]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: u8,
    y: u16,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pair(u8, u16);

#[test]
fn tuple_array_and_struct_are_their_fields() {
    golden((1u8, 2u16), &[1, 2, 0]);
    golden([1u8, 2, 3], &[1, 2, 3]);
    golden([0x0201u16, 0x0403], &[1, 2, 3, 4]);
    golden(Point { x: 1, y: 2 }, &[1, 2, 0]);
    golden(Pair(1, 2), &[1, 2, 0]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct NoNamedFields {}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct NoUnnamedFields();

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct NothingToSend {
    #[serde(skip)]
    local: u8,
}

#[test]
fn without_fields_they_are_a_zero_byte() {
    golden([0u16; 0], &[0]);
    golden(NoNamedFields {}, &[0]);
    golden(NoUnnamedFields(), &[0]);
    golden(NothingToSend { local: 0 }, &[0]);
    golden((NoNamedFields {}, 5u8, [0u8; 0]), &[0, 5, 0]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[test]
fn unit_and_unit_struct_are_a_zero_byte() {
    golden((), &[0]);
    golden(Unit, &[0]);
    golden(PhantomData::<u32>, &[0]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Meters(u32);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Transparent {
    value: u16,
}

#[test]
fn newtype_struct_is_the_value_within() {
    golden(Meters(6), &[6, 0, 0, 0]);
    golden(Transparent { value: 6 }, &[6, 0]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(u8),
    Rectangle(u8, u8),
    Polygon { corners: Vec<u16> },
    EmptyTuple(),
    EmptyStruct {},
}

#[test]
fn enum_is_the_index_of_the_variant_and_its_fields() {
    golden(Shape::Nothing, &[0, 0, 0, 0]);
    golden(Shape::Circle(9), &[1, 0, 0, 0, 9]);
    golden(Shape::Rectangle(8, 9), &[2, 0, 0, 0, 8, 9]);
    golden(Shape::Polygon { corners: vec![7] }, &[3, 0, 0, 0, 1, 0, 0, 0, 7, 0]);
    golden(Shape::EmptyTuple(), &[4, 0, 0, 0]);
    golden(Shape::EmptyStruct {}, &[5, 0, 0, 0]);
    golden(Ok::<u8, ()>(3), &[0, 0, 0, 0, 3]);
}
