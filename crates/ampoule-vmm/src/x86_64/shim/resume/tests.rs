use super::*;
use crate::x86_64::capabilities::{Paging, PortAccess, SyscallRing};

const AVX_GUEST: Capabilities = Capabilities {
    ports: PortAccess::Bitmap,
    syscall: SyscallRing::Ring0,
    fsgsbase: true,
    base_instructions: true,
    umip: true,
    paging: Paging::Nested,
    protection_keys: false,
    counter: true,
    xcr0: 7,
    baseline: None,
};

/// An area in which every word holds its own offset, and whose header says that `in_use` is in use.
fn state(in_use: u64) -> FpuState {
    let mut words: Box<[u32; 1024]> = Box::new(std::array::from_fn(|at| 0x0101_0101 * (at as u32 % 255 + 1)));
    words[HEADER.start / 4..HEADER.end / 4].fill(0);
    words[128] = in_use as u32;
    words[129] = (in_use >> 32) as u32;
    FpuState(words)
}

fn header(area: &[u8]) -> u64 {
    u64::from_le_bytes(area[512..520].try_into().unwrap())
}

#[test]
fn components_in_use_are_copied_and_all_else_is_zero() {
    let area = xsave_area(&AVX_GUEST, &state(0b101)).unwrap();
    assert_eq!(header(&area), 0b101);
    for (at, byte) in area.iter().enumerate() {
        let expected = match at {
            0..28 | 32..160 | 576..832 => (at / 4 % 255 + 1) as u8,
            512 => 0b101,
            _ => 0,
        };
        assert_eq!(*byte, expected, "byte {at}");
    }
}

#[test]
fn components_that_guests_may_not_use_are_initial() {
    let hidden = 0b111 << 5 | 1 << 9 | 0b11 << 17 | 1 << 62;
    let area = xsave_area(&AVX_GUEST, &state(0b111 | hidden)).unwrap();
    assert_eq!(header(&area), 0b111);

    let sse_guest = Capabilities { xcr0: 0b11, ..AVX_GUEST };
    let area = xsave_area(&sse_guest, &state(0b111 | hidden)).unwrap();
    assert_eq!(header(&area), 0b11);
    assert_eq!(area[AVX], [0; 256]);

    let larger_guest = Capabilities { xcr0: u64::MAX, ..AVX_GUEST };
    let area = xsave_area(&larger_guest, &state(0b111 | hidden)).unwrap();
    assert_eq!(header(&area), 0b111, "nothing that is not in the area");
}

#[test]
fn mxcsr_is_copied_though_sse_is_not_in_use() {
    let area = xsave_area(&AVX_GUEST, &state(0)).unwrap();
    assert_eq!(area[24..28], [7; 4]);
    assert_eq!(area.iter().filter(|byte| **byte != 0).count(), 4);
}

#[test]
fn every_word_of_the_header_but_the_first_has_to_be_zero() {
    let compacted = 1 << 63 | 7;
    for at in (8..64).step_by(8) {
        let mut state = state(7);
        state.0[(512 + at) / 4] = compacted as u32;
        state.0[(512 + at) / 4 + 1] = (compacted >> 32) as u32;
        assert_eq!(xsave_area(&AVX_GUEST, &state), Err(ResumeError::UnknownFormat { at, word: compacted }));
    }
}
