//! Buffers of bytes and of other numbers move as one block, and are borrowed where they can be.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use ampoule_abi::codec::{self, DecodeError, Sink, Source};
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Counts how often it is written.
#[derive(Default)]
struct CountingSink {
    bytes: Vec<u8>,
    puts: usize,
}

impl Sink for CountingSink {
    fn capacity(&self) -> usize {
        usize::MAX
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.puts += 1;
        self.bytes.put(at, bytes);
    }
}

/// Memory that must be copied out. Panics if a byte is read twice.
struct CopyingSource<'a> {
    bytes: &'a [u8],
    position: usize,
    reads: &'a Cell<usize>,
}

impl<'de> Source<'de> for CopyingSource<'_> {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) {
        assert!(at >= self.position, "byte {at} is read again");
        self.position = at + buffer.len();
        self.reads.set(self.reads.get() + 1);
        buffer.copy_from_slice(&self.bytes[at..at + buffer.len()]);
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Message {
    Picture(Picture),
    Named(BTreeMap<String, Option<Picture>>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Picture {
    width: u32,
    pixels: Vec<u8>,
    mask: Box<[u8]>,
    icon: Cow<'static, [u8]>,
}

fn picture() -> Picture {
    Picture {
        width: 1024,
        pixels: (0..1 << 20).map(|i| (i % 251) as u8).collect(),
        mask: vec![5; 1 << 16].into(),
        icon: vec![6; 1 << 16].into(),
    }
}

#[test]
fn buffers_deep_within_a_value_are_copied_in_one_piece() {
    let message = Message::Named(BTreeMap::from([("a".into(), Some(picture()))]));
    let mut sink = CountingSink::default();
    codec::encode(&message, &mut sink).unwrap();
    assert!(sink.puts < 20, "{} writes", sink.puts);

    let reads = Cell::new(0);
    let source = CopyingSource { bytes: &sink.bytes, position: 0, reads: &reads };
    assert_eq!(codec::decode(source), Ok(message));
    assert!(reads.get() < 20, "{} reads", reads.get());
}

#[test]
fn every_form_of_bytes_is_written_in_one_piece() {
    #[track_caller]
    fn one_piece<T: Serialize + ?Sized>(bytes: &T) {
        let mut sink = CountingSink::default();
        codec::encode(bytes, &mut sink).unwrap();
        assert_eq!(sink.puts, 2, "the length and the bytes");
        assert_eq!(sink.bytes, [&4096u32.to_le_bytes()[..], &[7; 4096]].concat());
    }
    let bytes = vec![7u8; 4096];
    one_piece(&bytes);
    one_piece(&bytes[..]);
    one_piece(&&&bytes[..]);
    one_piece(&Cow::Borrowed(&bytes[..]));
    one_piece(&bytes.into_boxed_slice());
}

#[test]
fn numbers_of_every_kind_move_in_one_piece() {
    #[track_caller]
    fn one_piece<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(numbers: Vec<T>, encoded: &[u8]) {
        let mut sink = CountingSink::default();
        codec::encode(&numbers, &mut sink).unwrap();
        assert_eq!(sink.puts, 2, "the count and the numbers");
        assert_eq!(sink.bytes, [&3u32.to_le_bytes()[..], encoded].concat());

        let reads = Cell::new(0);
        let source = CopyingSource { bytes: &sink.bytes, position: 0, reads: &reads };
        assert_eq!(codec::decode(source), Ok(numbers));
        assert_eq!(reads.get(), 2, "the count and the numbers");
    }
    macro_rules! one_piece {
        ($($number:ty)*) => {
            $(
                let numbers: [$number; 3] = [1 as $number, <$number>::MIN, <$number>::MAX];
                one_piece(numbers.to_vec(), &numbers.map(<$number>::to_le_bytes).concat());
            )*
        };
    }
    one_piece! { u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64 }
}

#[test]
fn numbers_that_are_cut_off_are_missed_where_they_would_stand() {
    let payload = [3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0];
    let missing = DecodeError::UnexpectedEnd { offset: 8, needed: 4, remaining: 3 };
    assert_eq!(codec::decode::<Vec<u32>>(&payload[..]), Err(missing.clone()));
    assert_eq!(codec::decode::<Box<[f32]>>(&payload[..]), Err(missing));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Borrowing<'a> {
    name: &'a str,
    body: &'a [u8],
    #[serde(borrow)]
    note: Cow<'a, str>,
}

#[test]
fn reading_from_a_slice_borrows() {
    let value = Borrowing { name: "name", body: &[1, 2, 3], note: Cow::Borrowed("note") };
    let mut payload = Vec::new();
    codec::encode(&Some(value), &mut payload).unwrap();
    let decoded = codec::decode::<Option<Borrowing>>(&payload[..]).unwrap().unwrap();
    assert_eq!(decoded.name.as_ptr(), payload[5..].as_ptr());
    assert_eq!(decoded.body.as_ptr(), payload[13..].as_ptr());
    let Cow::Borrowed(note) = decoded.note else {
        panic!("the note was copied");
    };
    assert_eq!(note.as_ptr(), payload[20..].as_ptr());
    assert_eq!((decoded.name, decoded.body, note), ("name", &[1, 2, 3][..], "note"));
}

#[test]
fn what_cannot_be_borrowed_is_refused_and_not_leaked() {
    let payload = [2, 0, 0, 0, b'h', b'i'];
    let reads = Cell::new(0);
    let source = || CopyingSource { bytes: &payload, position: 0, reads: &reads };
    assert_eq!(codec::decode::<String>(source()), Ok("hi".into()));
    let error = codec::decode::<&str>(source()).unwrap_err();
    assert!(error.to_string().contains("expected a borrowed string"), "{error}");
}

/// Holds bytes, but reads and writes them in a way of its own.
#[derive(Debug, PartialEq, Deserialize)]
struct Transformed {
    #[serde(deserialize_with = "from_u16s")]
    narrowed: Vec<u8>,
    #[serde(deserialize_with = "doubled")]
    doubled: Vec<u8>,
    plain: Vec<u8>,
}

fn from_u16s<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let numbers = Vec::<u16>::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(|number| (number >> 8) as u8).collect())
}

fn doubled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct Doubling;

    impl<'de> Visitor<'de> for Doubling {
        type Value = Vec<u8>;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("numbers to double")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vec<u8>, A::Error> {
            let mut doubled = Vec::new();
            while let Some(number) = numbers.next_element::<u8>()? {
                doubled.push(2 * number);
            }
            Ok(doubled)
        }
    }

    deserializer.deserialize_seq(Doubling)
}

#[test]
fn a_visitor_that_makes_a_byte_vector_in_its_own_way_is_asked() {
    let mut payload = Vec::new();
    codec::encode(&(vec![0x0100u16, 0x0200], vec![1u8, 2], vec![1u8, 2]), &mut payload).unwrap();
    assert_eq!(
        codec::decode(&payload[..]),
        Ok(Transformed { narrowed: vec![1, 2], doubled: vec![2, 4], plain: vec![1, 2] })
    );
}

#[test]
fn elements_that_only_resemble_bytes_keep_their_encoding() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Byte(u8);

    let mut payload = Vec::new();
    codec::encode(&(vec![Byte(1), Byte(2)], vec![true, false], vec![-1i8]), &mut payload).unwrap();
    assert_eq!(payload, [2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0xff]);
    assert_eq!(codec::decode(&payload[..]), Ok((vec![Byte(1), Byte(2)], vec![true, false], vec![-1i8])));
}
