//! Regions stay within their bounds and give memory back.

use ampoule_vmm::{OutOfRegion, PAGE_SIZE, Region, RevokeError};
use proptest::prelude::*;

const LEN: usize = 4 * PAGE_SIZE;

proptest! {
    #[test]
    fn a_region_reads_back_what_was_written(
        steps in prop::collection::vec((0..LEN + 64, 0..3 * PAGE_SIZE, any::<u8>(), 0..4), 1..24)
    ) {
        let region = Region::anonymous(LEN).unwrap();
        let mut model = vec![0; LEN];
        for (offset, len, byte, operation) in steps {
            let result = match operation {
                0 => region.fill_zero(offset, len),
                1 => region.discard(offset, len).map_err(out_of_region),
                _ => region.write(offset, &vec![byte; len]),
            };
            match model.get_mut(offset..offset + len) {
                Some(part) => {
                    prop_assert_eq!(result, Ok(()));
                    part.fill(if operation < 2 { 0 } else { byte });
                }
                None => prop_assert_eq!(result, Err(OutOfRegion { offset, len, region: LEN })),
            }
        }
        let mut content = vec![0xaa; LEN];
        region.read(0, &mut content).unwrap();
        prop_assert!(content == model);
    }
}

#[test]
fn accesses_beyond_the_end_change_nothing() {
    let region = Region::anonymous(PAGE_SIZE).unwrap();
    assert!(region.write(PAGE_SIZE - 1, &[1, 2]).is_err());
    assert!(region.write_u64(PAGE_SIZE - 7, u64::MAX).is_err());
    assert!(region.fill_zero(1, PAGE_SIZE).is_err());
    assert!(region.discard(usize::MAX, 2).is_err());
    let mut last = [9; 7];
    region.read(PAGE_SIZE - 7, &mut last).unwrap();
    assert_eq!(last, [0; 7]);
    let mut two = [5; 2];
    assert!(region.read(PAGE_SIZE - 1, &mut two).is_err());
    assert_eq!(two, [5; 2]);
    assert!(region.read_u64(usize::MAX).is_err());
    assert!(region.write(PAGE_SIZE, &[]).is_ok());
    assert!(region.write(PAGE_SIZE + 1, &[]).is_err());
}

#[test]
fn numbers_are_little_endian() {
    let region = Region::anonymous(PAGE_SIZE).unwrap();
    region.write_u64(3, 0x0102_0304_0506_0708).unwrap();
    let mut bytes = [0; 8];
    region.read(3, &mut bytes).unwrap();
    assert_eq!(bytes, [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(region.read_u64(3), Ok(0x0102_0304_0506_0708));
}

#[test]
fn only_positive_multiples_of_the_page_size_make_a_region() {
    for len in [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, usize::MAX, 1 << 62] {
        let error = Region::anonymous(len).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{len:#x}");
    }
    assert_eq!(Region::anonymous(3 << 20).unwrap().len(), 3 << 20);
}

#[test]
fn a_huge_region_costs_only_what_is_touched() {
    let region = Region::anonymous(1 << 40).unwrap();
    region.write((1 << 40) - 1, &[7]).unwrap();
    let mut last = [0; 2];
    region.read((1 << 40) - 2, &mut last).unwrap();
    assert_eq!(last, [0, 7]);
}

#[test]
fn a_revoked_range_keeps_its_content_and_stays_writable() {
    let region = Region::anonymous(LEN).unwrap();
    region.write(PAGE_SIZE, &[7; 32]).unwrap();
    region.revoke(PAGE_SIZE + 5, 1).unwrap();
    region.revoke(0, LEN).unwrap();
    region.revoke(LEN, 0).unwrap();
    region.write(PAGE_SIZE + 1, &[8]).unwrap();
    assert_eq!(region.read_u64(PAGE_SIZE), Ok(0x0707_0707_0707_0807));
    let beyond = region.revoke(LEN, 1);
    assert!(matches!(beyond, Err(RevokeError::OutOfRegion(_))));
}

#[test]
fn host_writes_wait_while_a_range_is_revoked() {
    let region = Region::anonymous(LEN).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2000 {
                region.revoke(0, LEN).unwrap();
            }
        });
        for number in 0..2000 {
            region.write_u64(PAGE_SIZE, number).unwrap();
            assert_eq!(region.read_u64(PAGE_SIZE), Ok(number));
        }
    });
}

fn out_of_region(error: RevokeError) -> OutOfRegion {
    match error {
        RevokeError::OutOfRegion(error) => error,
        error => panic!("{error}"),
    }
}
