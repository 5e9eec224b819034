//! What the host reads in a guest's image.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

use ampoule_abi::layout::{ABI_MAJOR, RECORD_HEADER_LEN, RecordHeader, RecordKind};
use ampoule_guest::{HostError, export, import};
use serde::{Deserialize, Serialize};

use crate::fake_host::{functions, section};

type Bytes = Vec<u8>;
type Table<'a> = HashMap<Cow<'a, str>, Box<[Bytes]>>;
type Text = Box<str>;
type Pair = (u8, Option<[bool; SIDE * SIDE]>);
type Photos = Vec<Photo>;
type PhotoResult<T> = Result<T, PhotoError>;

const SIDE: usize = 4;

#[derive(Serialize, Deserialize)]
struct Photo(u8);

#[derive(Serialize, Deserialize)]
struct PhotoError;

#[derive(Serialize, Deserialize)]
struct Wrapped<T> {
    value: T,
}

mod shapes {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(crate) struct Point<const DIMENSIONS: usize>;
}

macro_rules! identity {
    ($name:ident, $type:ty) => {
        #[export]
        fn $name(value: $type) -> $type {
            value
        }
    };
}

#[export]
fn plain() {}

#[export]
fn numbers(_a: u8, _b: i128, _c: f64, _d: usize) -> char {
    'x'
}

#[export]
fn aliases(_bytes: Bytes, _table: Table<'_>, text: &Text, _pair: Pair) -> Text {
    text.clone()
}

#[export]
fn composites(_tuple: ((), (u8,), (Photo, Bytes)), array: [Bytes; SIDE]) -> Wrapped<[Bytes; SIDE]> {
    Wrapped { value: array }
}

#[export]
fn paths(_set: std::collections::BTreeSet<String>, _other: BTreeSet<u8>, point: shapes::Point<3>) -> shapes::Point<3> {
    point
}

#[export]
fn lifetimes<'a>(one: &'a str, _two: Cow<'a, str>, _three: &[&str]) -> Cow<'a, str> {
    one.into()
}

#[export]
fn own_alias(_photos: Photos) {}

#[export]
fn fallible() -> Result<Bytes, Box<dyn std::error::Error + Send>> {
    Ok(Vec::new())
}

#[export]
fn aliased_result() -> std::io::Result<()> {
    Ok(())
}

#[export]
fn own_aliased_result() -> PhotoResult<Bytes> {
    Err(PhotoError)
}

#[export]
fn own_value_of_aliased_result() -> PhotoResult<Photo> {
    Err(PhotoError)
}

#[export]
fn value_result() -> Option<Result<u8, String>> {
    None
}

#[export(name = "a name: ~°")]
fn renamed() {}

#[export]
fn r#type(r#fn: u8) -> u8 {
    r#fn
}

identity!(from_macro, Vec<&str>);
identity!(unit, ());

#[import]
fn fetch(url: &str, headers: &[(&str, Bytes)]) -> Result<Option<Bytes>, HostError>;

#[import(name = "log.write")]
fn log(message: fmt::Arguments<'_>);

#[test]
fn the_section_is_a_sequence_of_records_with_one_of_the_abi() {
    let mut versions = Vec::new();
    let mut offset = 0;
    while offset < section().len() {
        let bytes = section()[offset..].first_chunk::<RECORD_HEADER_LEN>().expect("a header");
        let header = RecordHeader::from_bytes(bytes);
        assert!(header.size >= 32 && header.size.is_multiple_of(8) && header.reserved == 0, "{header:?}");
        if RecordKind::from_u16(header.kind) == Some(RecordKind::Abi) {
            versions.push(header.value);
            assert_eq!((header.name_len, header.signature_len), (0, 0));
        }
        offset += header.size as usize;
    }
    assert_eq!(offset, section().len());
    assert_eq!(versions, [u64::from(ABI_MAJOR) << 32], "hosts of every minor version can run the guest");
}

#[test]
fn signatures_are_as_written_with_the_aliases_of_standard_types_resolved() {
    for (name, signature) in [
        ("plain", "fn()"),
        ("unit", "fn(())"),
        ("numbers", "fn(u8, i128, f64, usize) -> char"),
        ("aliases", "fn(Vec<u8>, HashMap<Cow<str>, Box<[Vec<u8>]>>, &Box<str>, (u8, Option<[bool; 16]>)) -> Box<str>"),
        ("composites", "fn(((), (u8,), (Photo, Vec<u8>)), [Vec<u8>; 4]) -> Wrapped<[Vec<u8>; 4]>"),
        ("paths", "fn(BTreeSet<String>, BTreeSet<u8>, shapes::Point<3>) -> shapes::Point<3>"),
        ("lifetimes", "fn(&str, Cow<str>, &[&str]) -> Cow<str>"),
        ("own_alias", "fn(Photos)"),
        ("fallible", "fn() -> Result<Vec<u8>, Box<dyn std::error::Error + Send>>"),
        ("aliased_result", "fn() -> std::io::Result<()>"),
        ("own_aliased_result", "fn() -> Result<Vec<u8>, _>"),
        ("own_value_of_aliased_result", "fn() -> Result<_, _>"),
        ("value_result", "fn() -> Option<Result<u8, String>>"),
        ("a name: ~°", "fn()"),
        ("type", "fn(u8) -> u8"),
        ("from_macro", "fn(Vec<&str>) -> Vec<&str>"),
    ] {
        assert_eq!(signature_of(RecordKind::Export, name), signature, "{name}");
    }
}

#[test]
fn imports_have_records_whether_they_are_called_or_not() {
    assert_eq!(
        signature_of(RecordKind::Import, "fetch"),
        "fn(&str, &[(&str, Vec<u8>)]) -> Result<Option<Vec<u8>>, HostError>"
    );
    assert_eq!(signature_of(RecordKind::Import, "log.write"), "fn(fmt::Arguments)");
}

fn signature_of(kind: RecordKind, name: &str) -> String {
    let found: Vec<_> = functions().into_iter().filter(|function| function.0 == kind && function.2 == name).collect();
    assert_eq!(found.len(), 1, "{name}");
    found[0].3.clone()
}
