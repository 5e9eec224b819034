//! What is written is what is read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, LinkedList, VecDeque};
use std::ffi::{CString, OsString};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, Wrapping};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ampoule_abi::codec::{self, DecodeError, Decoder, Encoder};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Scalars(Scalars),
    Text(String, char),
    Bytes(Vec<u8>),
    Branch { left: Option<Box<Tree>>, middle: (Box<Tree>, ()), right: Result<Box<Tree>, String> },
    List(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
    Set(BTreeSet<Vec<u8>>),
    Wrapped(Wrapper),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scalars {
    flag: bool,
    bytes: [u8; 5],
    small: (i8, u16, i16),
    medium: [u32; 2],
    large: (i64, u64),
    huge: (i128, u128),
    float: (f32, f64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrapper(Box<Tree>);

fn scalars() -> impl Strategy<Value = Scalars> {
    let not_nan = any::<(f32, f64)>().prop_filter("NaN", |(x, y)| !x.is_nan() && !y.is_nan());
    (any::<(bool, [u8; 5], (i8, u16, i16), [u32; 2], (i64, u64), (i128, u128))>(), not_nan).prop_map(
        |((flag, bytes, small, medium, large, huge), float)| Scalars { flag, bytes, small, medium, large, huge, float },
    )
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Leaf),
        scalars().prop_map(Tree::Scalars),
        any::<(String, char)>().prop_map(|(text, end)| Tree::Text(text, end)),
        vec(any::<u8>(), 0..64).prop_map(Tree::Bytes),
        btree_set(vec(any::<u8>(), 0..4), 0..4).prop_map(Tree::Set),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let branch = (
            proptest::option::of(inner.clone()),
            inner.clone(),
            proptest::result::maybe_ok(inner.clone(), any::<String>()),
        );
        prop_oneof![
            branch.prop_map(|(left, middle, right)| Tree::Branch {
                left: left.map(Box::new),
                middle: (Box::new(middle), ()),
                right: right.map(Box::new),
            }),
            vec(inner.clone(), 0..6).prop_map(Tree::List),
            btree_map(any::<String>(), inner.clone(), 0..4).prop_map(Tree::Map),
            inner.prop_map(|tree| Tree::Wrapped(Wrapper(Box::new(tree)))),
        ]
    })
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = codec::encode(value, &mut bytes).unwrap();
    assert_eq!(length, bytes.len());
    bytes
}

proptest! {
    #[test]
    fn a_tree_survives(tree in tree()) {
        prop_assert_eq!(codec::decode::<Tree>(&encode(&tree)[..]), Ok(tree));
    }

    #[test]
    fn a_payload_that_is_cut_off_is_no_value(tree in tree(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&tree);
        let cut = cut.index(bytes.len());
        prop_assert!(codec::decode::<Tree>(&bytes[..cut]).is_err());
    }

    #[test]
    fn arguments_one_after_another_survive(first in tree(), second in any::<u16>(), third in any::<String>()) {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes);
        encoder.value(&first).unwrap();
        encoder.value(&second).unwrap();
        encoder.value(&third).unwrap();
        let length = encoder.finish().unwrap();
        let mut decoder = Decoder::new(&bytes[..length]);
        prop_assert_eq!(decoder.value::<Tree>(), Ok(first));
        prop_assert_eq!(decoder.value::<u16>(), Ok(second));
        prop_assert_eq!(decoder.value::<&str>(), Ok(&*third));
        prop_assert_eq!(decoder.finish(), Ok(()));
    }
}

#[track_caller]
fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    assert_eq!(codec::decode::<T>(&encode(&value)[..]), Ok(value));
}

#[test]
fn types_of_the_standard_library_survive() {
    survives(Duration::new(3, 7));
    survives(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    survives(IpAddr::V4(Ipv4Addr::LOCALHOST));
    survives(SocketAddr::from((Ipv6Addr::LOCALHOST, 80)));
    survives(PathBuf::from("/tmp/a"));
    survives(CString::from(c"text"));
    survives(OsString::from("text"));
    survives(NonZeroU16::MIN);
    survives(Wrapping(5u8));
    survives(3u8..9);
    survives((Bound::Included(3u8), Bound::<u8>::Unbounded));
    survives(VecDeque::from([1u8, 2]));
    survives(LinkedList::from([String::from("a")]));
    survives(Cow::<'static, [u8]>::Owned(vec![1, 2]));
    let heap: BinaryHeap<u8> = codec::decode(&encode(&BinaryHeap::from([1u8, 3, 2]))[..]).unwrap();
    assert_eq!(heap.into_sorted_vec(), [1, 2, 3]);
}

#[test]
fn no_arguments_are_no_bytes() {
    assert_eq!(Encoder::new(&mut [][..]).finish(), Ok(0));
    assert_eq!(Decoder::new(&[][..]).finish(), Ok(()));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Partly {
    first: u8,
    #[serde(skip)]
    local: u8,
    #[serde(rename = "other", alias = "former", alias = "oldest")]
    last: u8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct PartlyUnnamed(u8, #[serde(skip)] u8, u8);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum PartlyVariant {
    Named {
        #[serde(skip)]
        local: u8,
        #[serde(alias = "former")]
        sent: u8,
    },
    Nothing(#[serde(skip)] u8),
}

#[test]
fn skipped_fields_do_not_travel() {
    let partly = Partly { first: 1, local: 2, last: 3 };
    assert_eq!(encode(&partly), [1, 3]);
    assert_eq!(codec::decode(&[1, 3][..]), Ok(Partly { local: 0, ..partly }));
    assert_eq!(encode(&PartlyUnnamed(1, 2, 3)), [1, 3]);
    assert_eq!(codec::decode(&[1, 3][..]), Ok(PartlyUnnamed(1, 0, 3)));
    let named = PartlyVariant::Named { local: 1, sent: 2 };
    assert_eq!(encode(&named), [0, 0, 0, 0, 2]);
    assert_eq!(codec::decode(&[0, 0, 0, 0, 2][..]), Ok(PartlyVariant::Named { local: 0, sent: 2 }));
    assert_eq!(encode(&PartlyVariant::Nothing(5)), [1, 0, 0, 0]);
    assert_eq!(codec::decode(&[1, 0, 0, 0][..]), Ok(PartlyVariant::Nothing(0)));
}

/// Writes its elements with a length that is unknown, or wrong, when it begins.
struct Announced<'a>(Option<usize>, &'a [u16]);

impl Serialize for Announced<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(self.0)?;
        for element in self.1 {
            sequence.serialize_element(element)?;
        }
        sequence.end()
    }
}

struct UnknownMap;

impl Serialize for UnknownMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(&1u8, "one")?;
        map.serialize_entry(&2u8, "two")?;
        map.end()
    }
}

#[test]
fn a_count_that_is_not_known_beforehand_is_right_in_the_end() {
    for announced in [None, Some(0), Some(1), Some(3), Some(9)] {
        let bytes = encode(&(7u8, Announced(announced, &[1, 2, 3]), 8u8));
        assert_eq!(codec::decode(&bytes[..]), Ok((7u8, vec![1u16, 2, 3], 8u8)));
    }
    let map: BTreeMap<u8, &str> = BTreeMap::from([(1, "one"), (2, "two")]);
    assert_eq!(encode(&UnknownMap), encode(&map));

    struct Filtered;
    impl Serialize for Filtered {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq((0u8..10).filter(|number| number % 4 == 0))
        }
    }
    assert_eq!(encode(&Filtered), [3, 0, 0, 0, 0, 4, 8]);
}

#[test]
fn formats_that_ask_are_told_that_it_is_binary() {
    struct Asks;
    impl Serialize for Asks {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let readable = serializer.is_human_readable();
            readable.serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Asks {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            assert!(!deserializer.is_human_readable());
            bool::deserialize(deserializer).map(|_| Self)
        }
    }
    assert_eq!(encode(&Asks), [0]);
    assert!(codec::decode::<Asks>(&[0][..]).is_ok());
    assert!(matches!(codec::decode::<Asks>(&[2][..]), Err(DecodeError::InvalidBool { .. })));
}
