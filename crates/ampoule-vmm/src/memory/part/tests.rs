//! Pieces of every size that is copied in its own way, at every offset in a cache line.

use crate::PAGE_SIZE;
use crate::memory::Region;

#[test]
fn as_many_bytes_are_written_and_read_as_requested() {
    let region = Region::anonymous(PAGE_SIZE).unwrap();
    let bytes: Vec<u8> = (1..=250).cycle().take(400).collect();
    for len in (0..140).chain([255, 256, 257, 399, 400]) {
        for at in 0..70 {
            region.fill_zero(0, PAGE_SIZE).unwrap();
            region.part_writer(64, 500).unwrap().write(at, &bytes[..len]);
            let mut all = vec![0xff; PAGE_SIZE];
            region.read(0, &mut all).unwrap();
            let (before, rest) = all.split_at(64 + at);
            let (written, behind) = rest.split_at(len);
            assert!(written == &bytes[..len], "{len} bytes at {at}");
            assert!(before.iter().chain(behind).all(|byte| *byte == 0), "{len} bytes at {at}");

            let mut found = vec![0xff; len + 1];
            region.part_reader(64, 500).unwrap().read(at, &mut found[..len]);
            assert!(found[..len] == bytes[..len] && found[len] == 0xff, "{len} bytes at {at}");
        }
    }
}

#[test]
fn so_many_bytes_are_zeroed_as_are_asked_for() {
    let region = Region::anonymous(PAGE_SIZE).unwrap();
    for len in (0..140).chain([255, 256, 257, 399, 400]) {
        for at in 64..134 {
            region.write(0, &[0xff; PAGE_SIZE]).unwrap();
            region.fill_zero(at, len).unwrap();
            let mut all = vec![0; PAGE_SIZE];
            region.read(0, &mut all).unwrap();
            let is_right =
                |(offset, byte): (usize, &u8)| *byte == if (at..at + len).contains(&offset) { 0 } else { 0xff };
            assert!(all.iter().enumerate().all(is_right), "{len} bytes at {at}");
        }
    }
}

#[test]
fn a_part_lies_within_its_region() {
    let region = Region::anonymous(PAGE_SIZE).unwrap();
    assert!(region.part_writer(PAGE_SIZE - 8, 8).is_ok());
    assert!(region.part_writer(PAGE_SIZE - 8, 9).is_err());
    assert!(region.part_reader(PAGE_SIZE - 8, 9).is_err());
    assert!(region.part_reader(usize::MAX, 9).is_err());
}

#[test]
#[should_panic(expected = "4 bytes at offset 0x5 do not lie within a part of 8 bytes")]
fn nothing_is_written_beyond_a_part() {
    let region = Region::anonymous(PAGE_SIZE).unwrap();
    region.part_writer(0, 8).unwrap().write(5, &[1; 4]);
}

#[test]
#[should_panic(expected = "2 bytes at offset 0xffffffffffffffff do not lie within a part of 8 bytes")]
fn nothing_is_read_beyond_a_part() {
    let region = Region::anonymous(PAGE_SIZE).unwrap();
    region.part_reader(0, 8).unwrap().read(usize::MAX, &mut [1; 2]);
}
