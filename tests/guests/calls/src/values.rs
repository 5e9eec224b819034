//! Arguments and results of every kind.

use std::collections::{BTreeMap, HashMap};

use ampoule_guest::export;
use serde::{Deserialize, Serialize};

/// A bitmap, as a decoder would return it.
#[derive(Serialize, Deserialize)]
struct Picture {
    name: String,
    size: (u32, u32),
    pixels: Vec<u8>,
    tags: BTreeMap<String, Vec<u16>>,
}

#[derive(Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(f64),
    Named { name: String, inner: Option<Box<Shape>> },
}

type Bytes = Vec<u8>;

/// As many parameters as a function may have.
#[export]
#[rustfmt::skip]
#[expect(clippy::too_many_arguments, reason = "that is what is tried")]
fn in_order(
    p1: u32, p2: u32, p3: u32, p4: u32, p5: u32, p6: u32, p7: u32, p8: u32,
    p9: u32, p10: u32, p11: u32, p12: u32, p13: u32, p14: u32, p15: u32, p16: u32,
    p17: u32, p18: u32, p19: u32, p20: u32, p21: u32, p22: u32, p23: u32, p24: u32,
    p25: u32, p26: u32, p27: u32, p28: u32, p29: u32, p30: u32, p31: u32, p32: u32,
) -> [u32; 32] {
    [p1, p2, p3, p4, p5, p6, p7, p8,
     p9, p10, p11, p12, p13, p14, p15, p16,
     p17, p18, p19, p20, p21, p22, p23, p24,
     p25, p26, p27, p28, p29, p30, p31, p32,]
}

#[export]
fn echo_number(a: i8, b: u64, c: i128, d: f32, e: bool, f: char) -> (i8, u64, i128, f32, bool, char) {
    (a, b, c, d, e, f)
}

#[export]
fn echo_text(text: &str) -> String {
    text.to_owned()
}

#[export]
fn echo_numbers(numbers: Vec<u32>) -> Vec<u32> {
    numbers
}

#[export]
fn echo_bytes(bytes: &[u8]) -> Bytes {
    bytes.to_vec()
}

#[export]
fn invert_picture(mut picture: Picture) -> Picture {
    for pixel in &mut picture.pixels {
        *pixel = !*pixel;
    }
    picture
}

#[export]
fn wrap_shape(shape: Shape) -> Shape {
    Shape::Named { name: "wrapped".to_owned(), inner: Some(Box::new(shape)) }
}

#[export]
fn count_words(text: &str) -> HashMap<String, u32> {
    let mut words = HashMap::new();
    for word in text.split_whitespace() {
        *words.entry(word.to_owned()).or_insert(0) += 1;
    }
    words
}

#[export]
fn first(values: &[u32], default: Option<u32>) -> Option<u32> {
    values.first().copied().or(default)
}

/// Where the borrowed bytes lie: two calls that get their bytes in the same place have not copied them.
#[export]
fn address_of_argument(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

#[export]
fn make_bytes(len: u32) -> Vec<u8> {
    (0..len).map(|index| index as u8).collect()
}

#[export]
fn sum_of_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// How many bytes there are, and the first and the last of them.
#[export]
fn ends(bytes: &[u8]) -> (u64, u8, u8) {
    (bytes.len() as u64, bytes[0], bytes[bytes.len() - 1])
}

/// Takes bytes and does not look at them.
#[export]
fn take_bytes(_bytes: &[u8]) {}

/// Gives bytes that take no time to make.
#[export]
fn give_bytes(len: u32) -> Vec<u8> {
    vec![0; len as usize]
}
