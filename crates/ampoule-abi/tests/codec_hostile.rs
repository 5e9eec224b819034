//! Bytes from someone who wants to do harm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;

use ampoule_abi::codec::{self, DecodeError};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Adds up what each thread asks for.
struct CountingAllocator;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator; counting neither allocates nor panics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get().wrapping_add(layout.size()));
        // SAFETY: the caller keeps to the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Decodes, and tells how many bytes of memory were asked for meanwhile.
fn decode_counting<T: DeserializeOwned>(bytes: &[u8]) -> (Result<T, DecodeError>, usize) {
    let before = ALLOCATED.get();
    let result = codec::decode(bytes);
    (result, ALLOCATED.get().wrapping_sub(before))
}

#[track_caller]
fn impossible_count<T: DeserializeOwned + Debug>() {
    for following in [0, 1, 3, 100] {
        for count in [following as u32 + 1, u32::MAX] {
            let mut bytes = count.to_le_bytes().to_vec();
            bytes.resize(4 + following, 0);
            let (result, allocated) = decode_counting::<T>(&bytes);
            assert_eq!(result.unwrap_err(), DecodeError::CountTooLarge { offset: 0, count, remaining: following });
            assert_eq!(allocated, 0);
        }
    }
}

#[test]
fn an_impossible_count_is_refused_before_anything_is_allocated() {
    impossible_count::<Vec<u8>>();
    impossible_count::<Box<[u8]>>();
    impossible_count::<String>();
    impossible_count::<Vec<String>>();
    impossible_count::<Vec<()>>();
    impossible_count::<VecDeque<[u64; 32]>>();
    impossible_count::<HashMap<u32, u64>>();
    impossible_count::<HashSet<u8>>();
    impossible_count::<BTreeMap<(), ()>>();
}

#[derive(Debug, Deserialize)]
struct Node {
    children: Vec<Node>,
    #[expect(dead_code, reason = "makes the node large in memory")]
    weight: [u64; 32],
}

#[test]
fn nested_counts_cannot_each_reserve_for_all_that_follows() {
    const PAYLOAD: usize = 4096;
    let mut bytes = Vec::new();
    while bytes.len() < PAYLOAD {
        let following = PAYLOAD - bytes.len() - 4;
        bytes.extend((following as u32).to_le_bytes());
    }
    let (result, allocated) = decode_counting::<Node>(&bytes);
    assert!(matches!(result.map(|node| node.children.len()), Err(DecodeError::TooDeep { .. })));
    let elements = 2 * PAYLOAD;
    assert!(allocated <= elements * size_of::<Node>(), "{allocated} bytes for {PAYLOAD}");
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only read")]
enum Anything {
    Unit,
    Scalars(bool, i8, u16, char, f32, i128),
    Text(String),
    Bytes(Vec<u8>),
    Path(std::path::PathBuf),
    Option(Option<Box<Anything>>),
    List(Vec<Anything>),
    Deque(VecDeque<(Anything, ())>),
    Sorted(BTreeMap<u8, Anything>),
    Hashed(HashMap<Vec<u8>, Anything>),
    Struct { array: [Box<Anything>; 2], result: Result<u8, std::time::Duration> },
}

/// Bytes that often make sense: mostly small numbers, and the little-endian `u32` of small numbers.
fn plausible_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => (0u32..12).prop_map(|number| number.to_le_bytes().to_vec()),
        2 => vec(0u8..3, 1..4),
        1 => vec(any::<u8>(), 1..8),
    ];
    vec(piece, 0..200).prop_map(|pieces| pieces.concat())
}

fn harmless<T: DeserializeOwned>(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (_, allocated) = decode_counting::<T>(bytes);
    // A tree node has room for 11 entries, and a table that grows is reallocated: 32 elements' room for each byte.
    let bound = 32 * bytes.len() * size_of::<T>() + LONGEST_MESSAGE;
    prop_assert!(allocated <= bound, "{} bytes for {}", allocated, bytes.len());
    Ok(())
}

/// A message is at most 512 bytes long and grows by doubling.
const LONGEST_MESSAGE: usize = 4 * 512;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn plausible_bytes_do_no_harm(bytes in plausible_bytes()) {
        harmless::<Anything>(&bytes)?;
        harmless::<Vec<Anything>>(&bytes)?;
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..64)) {
        harmless::<Anything>(&bytes)?;
        harmless::<(u32, String, Option<char>)>(&bytes)?;
        harmless::<HashMap<String, Vec<Vec<u8>>>>(&bytes)?;
        harmless::<Vec<(bool, Option<()>)>>(&bytes)?;
    }
}

#[derive(Debug, Deserialize)]
struct OptionChain(#[expect(dead_code, reason = "only read")] Option<Box<OptionChain>>);

#[derive(Debug, Deserialize)]
struct NewtypeChain(#[expect(dead_code, reason = "only read")] Box<NewtypeChain>);

#[derive(Debug, Deserialize)]
struct TupleChain(
    #[expect(dead_code, reason = "only read")] Box<TupleChain>,
    #[expect(dead_code, reason = "only read")] u8,
);

#[derive(Debug, Deserialize)]
enum EnumChain {
    #[expect(dead_code, reason = "only read")]
    Next(Box<EnumChain>),
}

#[derive(Debug, Deserialize)]
struct ListChain(#[expect(dead_code, reason = "only read")] Vec<ListChain>);

#[test]
fn bottomless_values_are_refused() {
    #[track_caller]
    fn too_deep<T: DeserializeOwned + Debug>(bytes: &[u8]) {
        let error = codec::decode::<T>(bytes).unwrap_err();
        assert!(matches!(error, DecodeError::TooDeep { .. }), "{error}");
    }
    too_deep::<OptionChain>(&[1; 1 << 20]);
    too_deep::<NewtypeChain>(&[]);
    too_deep::<TupleChain>(&[]);
    too_deep::<EnumChain>(&[0; 1 << 20]);
    too_deep::<ListChain>(&[1, 0, 0, 0].repeat(1 << 18));
}

#[test]
fn a_message_does_not_quote_the_whole_payload() {
    let mut bytes = 100_000u32.to_le_bytes().to_vec();
    bytes.resize(4 + 100_000, b'x');
    bytes[100] = 0xc3;
    bytes[101] = 0xa9;
    #[derive(Debug)]
    struct Refusing;
    impl<'de> Deserialize<'de> for Refusing {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = <&str>::deserialize(deserializer)?;
            Err(serde::de::Error::custom(format_args!("bad value {text}, and {text}")))
        }
    }
    let error = codec::decode::<Refusing>(&bytes[..]).unwrap_err().to_string();
    assert!(error.starts_with("bad value xxx"), "{error}");
    assert!(error.ends_with("x ..."), "{error}");
    assert_eq!(error.len(), 512);
}
