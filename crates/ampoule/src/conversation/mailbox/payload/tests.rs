//! Payloads against plain slices: written and read in pieces of every size.

use ampoule_vmm::{HostOnly, PAGE_SIZE, PageSet};
use proptest::prelude::*;

use super::*;

const OFFSET: usize = 100;
const LEN: usize = 2 * PAGE_SIZE - OFFSET;

/// What the codec does: it appends, or overwrites what it has written.
#[derive(Clone, Debug)]
enum Put {
    On(Vec<u8>),
    Again(prop::sample::Index, [u8; 4]),
}

fn put() -> impl Strategy<Value = Put> {
    let few = prop::collection::vec(any::<u8>(), 0..9);
    let many = prop::collection::vec(any::<u8>(), 0..600);
    prop_oneof![
        6 => few.prop_map(Put::On),
        1 => many.prop_map(Put::On),
        1 => (any::<prop::sample::Index>(), any::<[u8; 4]>()).prop_map(|(at, bytes)| Put::Again(at, bytes)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_in_pieces_is_there_in_the_end(puts in prop::collection::vec(put(), 0..200)) {
        let region = TrackedRegion::anonymous(2 * PAGE_SIZE, HostOnly::default()).unwrap();
        let mut sink = PayloadArea::new(&region, OFFSET..OFFSET + LEN).sink();
        let mut expected = Vec::new();
        for put in puts {
            match put {
                Put::On(bytes) if expected.len() + bytes.len() <= LEN => {
                    sink.put(expected.len(), &bytes);
                    expected.extend(bytes);
                }
                Put::Again(at, bytes) if expected.len() >= 4 => {
                    let at = at.index(expected.len() - 3);
                    sink.put_again(at, &bytes);
                    expected[at..at + 4].copy_from_slice(&bytes);
                }
                _ => {}
            }
        }
        drop(sink);
        let mut found = vec![0; expected.len()];
        region.read(OFFSET, &mut found).unwrap();
        prop_assert!(found == expected);
        let mut written = PageSet::new(2);
        region.take_written(&mut written);
        let expected_pages: Vec<_> = (OFFSET / PAGE_SIZE..(OFFSET + expected.len()).div_ceil(PAGE_SIZE)).collect();
        prop_assert_eq!(written.iter().collect::<Vec<_>>(), if expected.is_empty() { vec![] } else { expected_pages });
    }

    #[test]
    fn every_byte_is_copied_out_once_whatever_pieces_it_is_read_in(
        pieces in prop::collection::vec(prop_oneof![6 => 0..9_usize, 1 => 0..600_usize], 0..200),
        length in 0..LEN,
    ) {
        let region = TrackedRegion::anonymous(2 * PAGE_SIZE, HostOnly::default()).unwrap();
        let bytes: Vec<u8> = (0..LEN).map(|at| at as u8 | 1).collect();
        region.write(OFFSET, &bytes).unwrap();
        let mut source = PayloadSource::new(&region, OFFSET, length);
        let mut at = 0;
        for piece in pieces {
            let piece = piece.min(length - at);
            let mut found = vec![0; piece];
            source.read(at, &mut found);
            prop_assert!(found == bytes[at..at + piece], "{} bytes at {}", piece, at);
            at += piece;
            // A second read of a byte would find that it has changed.
            region.write(OFFSET, &vec![0; at]).unwrap();
        }
    }
}
