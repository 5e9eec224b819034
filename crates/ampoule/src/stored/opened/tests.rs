use std::fs;

use proptest::prelude::*;

use super::*;
use crate::stored::assembled_snapshot;

const STATE: usize = 5000;
const IMAGE: usize = 40 * HEAD_CHUNK_BYTES + 1234;

/// An image in which every four bytes differ from all others.
fn image() -> Vec<u8> {
    (0..IMAGE as u32 / 4 + 1).flat_map(u32::to_le_bytes).take(IMAGE).collect()
}

/// The head of a file with that image, after `change`.
fn head(change: impl FnOnce(&mut Vec<u8>)) -> HeadInFile {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.snap");
    let mut file = assembled_snapshot(&[7; STATE], &image(), &[1; 3 * PAGE_SIZE]);
    change(&mut file);
    fs::write(&path, file).unwrap();
    HeadInFile::new(Opened::open(&path, u64::MAX).unwrap())
}

fn ranges() -> impl Strategy<Value = Vec<Range<usize>>> {
    let lengths = prop_oneof![0..100usize, 0..3 * HEAD_CHUNK_BYTES, 0..IMAGE];
    let range = (0..IMAGE, lengths).prop_map(|(start, len)| start..(start + len).min(IMAGE));
    proptest::collection::vec(range, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_parts_of_an_image_are_what_they_are_in_the_image(ranges in ranges()) {
        let (head, image) = (head(|_| {}), image());
        for range in ranges {
            prop_assert_eq!(head.bytes(range.clone()), &image[range]);
        }
        prop_assert!(head.damage().is_none());
        prop_assert_eq!(head.bytes(0..IMAGE), &image[..]);
    }
}

#[test]
fn a_damaged_part_is_zeros_and_is_reported_by_whoever_needs_it() {
    let head = head(|file| {
        let last = file.len() - 3 * PAGE_SIZE - PAGE_SIZE;
        file[last] ^= 1;
    });
    assert_eq!(head.bytes(0..100), &image()[..100]);
    assert_eq!(head.state().unwrap(), [7; STATE]);
    assert!(head.damage().is_none());
    let end = IMAGE - 4..IMAGE;
    assert_eq!(head.bytes(end), [0; 4]);
    assert!(matches!(head.damage(), Some(LoadSnapshotError::Damaged { .. })));
    assert_eq!(head.bytes(0..IMAGE).len(), IMAGE);
}
