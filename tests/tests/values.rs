//! Arguments and results of every kind travel in both directions.

use std::collections::{BTreeMap, HashMap};

use ampoule::Borrowed;
use ampoule_tests::{calls_builder, calls_sandbox};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Picture {
    name: String,
    size: (u32, u32),
    pixels: Vec<u8>,
    tags: BTreeMap<String, Vec<u16>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(f64),
    Named { name: String, inner: Option<Box<Shape>> },
}

#[test]
fn numbers_of_every_width() {
    let mut sandbox = calls_sandbox();
    let values = (i8::MIN, u64::MAX, i128::MIN, 1.5f32, true, 'ß');
    let echoed: (i8, u64, i128, f32, bool, char) = sandbox.call("echo_number", values).unwrap();
    assert_eq!(echoed, values);
}

#[test]
fn thirty_two_arguments_arrive_each_in_its_place() {
    let mut sandbox = calls_sandbox();
    #[rustfmt::skip]
    let arguments = (
        1u32, 2u32, 3u32, 4u32, 5u32, 6u32, 7u32, 8u32, 9u32, 10u32, 11u32, 12u32, 13u32, 14u32, 15u32, 16u32,
        17u32, 18u32, 19u32, 20u32, 21u32, 22u32, 23u32, 24u32, 25u32, 26u32, 27u32, 28u32, 29u32, 30u32, 31u32, 32u32,
    );
    let order: [u32; 32] = std::array::from_fn(|index| index as u32 + 1);
    assert_eq!(sandbox.call::<[u32; 32]>("in_order", arguments).unwrap(), order);
}

#[test]
fn text_and_bytes_of_all_sizes() {
    let mut sandbox = calls_sandbox();
    for text in ["", "plain", "Grüße, 世界 🦀"] {
        assert_eq!(sandbox.call::<String>("echo_text", (text,)).unwrap(), text);
    }
    for size in [0, 1, 4095, 4096, 4097, 100_000, 1_000_000] {
        let bytes: Vec<u8> = (0..size).map(|index| (index * 31) as u8).collect();
        assert_eq!(sandbox.call::<Vec<u8>>("echo_bytes", (&bytes,)).unwrap(), bytes);
    }
}

#[test]
fn structs_enums_maps_and_options() {
    let mut sandbox = calls_sandbox();
    let picture = Picture {
        name: "p".into(),
        size: (2, 1),
        pixels: vec![0, 255, 7],
        tags: BTreeMap::from([("a".into(), vec![1, 2]), ("b".into(), vec![])]),
    };
    let inverted: Picture = sandbox.call("invert_picture", (&picture,)).unwrap();
    assert_eq!(inverted, Picture { pixels: vec![255, 0, 248], ..picture });

    let wrapped: Shape = sandbox.call("wrap_shape", (Shape::Circle(0.5),)).unwrap();
    assert_eq!(wrapped, Shape::Named { name: "wrapped".into(), inner: Some(Box::new(Shape::Circle(0.5))) });
    let wrapped: Shape = sandbox.call("wrap_shape", (Shape::Nothing,)).unwrap();
    assert_eq!(wrapped, Shape::Named { name: "wrapped".into(), inner: Some(Box::new(Shape::Nothing)) });

    let words: HashMap<String, u32> = sandbox.call("count_words", ("a b a",)).unwrap();
    assert_eq!(words, HashMap::from([("a".into(), 2), ("b".into(), 1)]));
    let words: BTreeMap<String, u32> = sandbox.call("count_words", ("",)).unwrap();
    assert!(words.is_empty());

    assert_eq!(sandbox.call::<Option<u32>>("first", (vec![3u32, 4], None::<u32>)).unwrap(), Some(3));
    assert_eq!(sandbox.call::<Option<u32>>("first", (&[] as &[u32], Some(9u32))).unwrap(), Some(9));
    assert_eq!(sandbox.call::<Option<u32>>("first", (&[] as &[u32], None::<u32>)).unwrap(), None);
}

#[test]
fn the_guest_borrows_bytes_from_the_mailbox_instead_of_copying_them() {
    let mut sandbox = calls_builder().mailbox_size(8 << 20).build().unwrap();
    let small: u64 = sandbox.call("address_of_argument", (&[1u8; 10] as &[u8],)).unwrap();
    let large: u64 = sandbox.call("address_of_argument", (vec![1u8; 7 << 20],)).unwrap();
    assert_eq!(small, large);
}

#[test]
fn borrowed_arguments_stay_as_they_are_during_host_calls() {
    let mut sandbox = calls_sandbox();
    let bytes = vec![0x5au8; 20_000];
    assert!(sandbox.call::<bool>("arguments_survive_host_calls", (bytes,)).unwrap());
}

#[test]
fn a_typed_function_is_resolved_once_and_used_often() {
    let mut sandbox = calls_sandbox();
    let divide = sandbox.typed_fn::<(u32, u32), u32>("divide").unwrap();
    for divisor in 1..5 {
        assert_eq!(divide.call(&mut sandbox, (60, divisor)).unwrap(), 60 / divisor);
    }
    let echo = sandbox.typed_fn::<(Borrowed<str>,), String>("echo_text").unwrap();
    for text in ["a", "b"].map(String::from) {
        assert_eq!(echo.call(&mut sandbox, (&text,)).unwrap(), text);
    }
}

#[test]
fn a_typed_function_works_in_every_sandbox_of_its_image_and_no_other() {
    let (mut first, mut second) = (calls_sandbox(), calls_sandbox());
    let increment = first.typed_fn::<(), u32>("increment").unwrap();
    assert_eq!(increment.call(&mut first, ()).unwrap(), 101);
    assert_eq!(increment.call(&mut first, ()).unwrap(), 102);
    assert_eq!(increment.call(&mut second, ()).unwrap(), 101);

    let mut other = ampoule_tests::hostile_sandbox();
    let error = increment.call(&mut other, ()).unwrap_err();
    assert!(matches!(error, ampoule::CallError::ForeignFunction { .. }), "{error}");
    assert!(other.call::<bool>("alive", ()).unwrap());
}

#[test]
fn functions_can_be_renamed() {
    let mut sandbox = calls_sandbox();
    assert_eq!(sandbox.call::<String>("renamed-function", ()).unwrap(), "renamed");
    assert_eq!(sandbox.call::<String>("renamed.shortly", ()).unwrap(), "renamed shortly");
}

#[test]
fn payloads_at_the_edge_of_the_mailbox() {
    let mut sandbox = calls_builder().mailbox_size(8192).build().unwrap();
    const LENGTH_PREFIX: usize = 4;
    let fits = vec![1u8; 8192 - LENGTH_PREFIX];
    assert_eq!(sandbox.call::<u64>("sum_of_bytes", (&fits,)).unwrap(), fits.len() as u64);
    assert_eq!(sandbox.call::<Vec<u8>>("make_bytes", (fits.len() as u32,)).unwrap().len(), fits.len());

    let error = sandbox.call::<u64>("sum_of_bytes", (vec![1u8; fits.len() + 1],)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "arguments of guest function `sum_of_bytes`: payload of 8193 bytes does not fit the 8192-byte mailbox; \
         raise it with `Builder::mailbox_size`"
    );
    let error = sandbox.call::<Vec<u8>>("make_bytes", (fits.len() as u32 + 1,)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "result of guest function `make_bytes`: payload of 8193 bytes does not fit the 8192-byte mailbox; \
         raise it with `Builder::mailbox_size`"
    );
    assert!(!error.poisons());
    assert_eq!(sandbox.call::<u64>("sum_of_bytes", (&fits,)).unwrap(), fits.len() as u64);
}

#[test]
fn megabytes_travel_whole_in_both_directions() {
    const LENGTH_PREFIX: usize = 4;
    let mut sandbox = calls_builder().mailbox_size(256 << 20).build().unwrap();
    let bytes: Vec<u8> = (0..16 << 20).map(|index: u32| (index.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
    assert!(sandbox.call::<Vec<u8>>("echo_bytes", (&bytes,)).unwrap() == bytes);

    // As many as there can be; to return them all would take long.
    let mut most = vec![0_u8; (256 << 20) - LENGTH_PREFIX];
    let last = most.len() - 1;
    (most[0], most[last]) = (0x5a, 0xa5);
    assert_eq!(sandbox.call::<(u64, u8, u8)>("ends", (&most,)).unwrap(), (most.len() as u64, 0x5a, 0xa5));
}
