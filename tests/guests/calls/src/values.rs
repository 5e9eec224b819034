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

#[export]
fn echo_number(a: i8, b: u64, c: i128, d: f32, e: bool, f: char) -> (i8, u64, i128, f32, bool, char) {
    (a, b, c, d, e, f)
}

#[export]
fn echo_text(text: &str) -> String {
    text.to_owned()
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

/// Takes bytes and does not look at them.
#[export]
fn take_bytes(_bytes: &[u8]) {}

/// Gives bytes that take no time to make.
#[export]
fn give_bytes(len: u32) -> Vec<u8> {
    vec![0; len as usize]
}

#[derive(Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
    label: u32,
    visible: bool,
}

#[export]
fn echo_numbers(numbers: Vec<u32>) -> Vec<u32> {
    numbers
}

#[export]
fn echo_points(points: Vec<Point>) -> Vec<Point> {
    points
}

#[export]
fn echo_texts(texts: Vec<String>) -> Vec<String> {
    texts
}

#[export]
fn echo_maps(maps: BTreeMap<String, BTreeMap<String, u64>>) -> BTreeMap<String, BTreeMap<String, u64>> {
    maps
}
