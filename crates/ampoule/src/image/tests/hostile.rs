//! Whatever the bytes are, they are refused without a panic, or the promises of [`Image`] hold.

use proptest::prelude::*;

use super::*;
use crate::image::segment::{MAX_MEMORY, PAGE};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_bytes_do_no_harm(
        position_independent: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), region(), byte()), 1..6),
    ) {
        let mut bytes = good(position_independent);
        for (index, region, byte) in changes {
            let region = region.of(&bytes);
            let at = region.start + index.index(region.len());
            bytes[at] = byte;
        }
        check(bytes)?;
    }

    #[test]
    fn changed_words_do_no_harm(
        position_independent: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), region(), word()), 1..4),
    ) {
        let mut bytes = good(position_independent);
        for (index, region, word) in changes {
            let region = region.of(&bytes);
            let at = region.start + 8 * index.index(region.len() / 8);
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        check(bytes)?;
    }

    #[test]
    fn cut_files_do_no_harm(position_independent: bool, length: prop::sample::Index) {
        let mut bytes = good(position_independent);
        bytes.truncate(length.index(bytes.len()));
        prop_assert!(Image::from_bytes(bytes).is_err());
    }

    #[test]
    fn any_records_do_no_harm(records in prop::collection::vec(any::<u8>(), 0..200)) {
        let records = [with_abi(&[]), records].concat();
        check(ElfFile::fixed(records).bytes())?;
    }
}

#[derive(Clone, Copy, Debug)]
enum Region {
    Headers,
    Loaded,
    Sections,
}

impl Region {
    fn of(self, file: &[u8]) -> Range<usize> {
        const DATA_START: usize = DATA as usize;
        match self {
            Self::Headers => 0..64 + 4 * 56,
            Self::Loaded => DATA_START..file.len(),
            Self::Sections => file.len() - 3 * 64..file.len(),
        }
    }
}

fn region() -> impl Strategy<Value = Region> {
    prop::sample::select(vec![Region::Headers, Region::Loaded, Region::Sections])
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 0x7f, 0xff])]
}

fn word() -> impl Strategy<Value = u64> {
    let edges = [
        0,
        1,
        8,
        64,
        PAGE,
        CODE,
        DATA,
        FUNCTIONS,
        BASE,
        USER_START.0,
        USER_END.0,
        MAX_MEMORY,
        1 << 32,
        1 << 63,
        u64::MAX,
    ];
    (prop::sample::select(edges.to_vec()), -9i64..=9).prop_map(|(edge, distance)| edge.wrapping_add_signed(distance))
}

fn good(position_independent: bool) -> Vec<u8> {
    if position_independent { ElfFile::position_independent(functions()).bytes() } else { fixed().bytes() }
}

/// Checks what the documentation promises of an image that was accepted.
fn check(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let Ok(image) = Image::from_bytes(bytes) else {
        return Ok(());
    };
    let executable = image.executable();
    let bias = executable.bias();
    // Where a position-independent image is loaded, it may end beyond the guest's addresses: then it is too large to load.
    let user = if bias == 0 { USER_START.0..USER_END.0 } else { bias..bias + USER_END.0 - USER_START.0 };
    let mut free_from = user.start;
    let mut entry_is_code = false;
    for segment in executable.segments() {
        let (start, end) = (segment.address(), segment.end());
        prop_assert!(start.page_start().0 >= free_from);
        prop_assert_eq!(end.0 - start.0, segment.memory_size());
        prop_assert!(end.0 <= user.end);
        prop_assert!(segment.bytes().len() as u64 <= segment.memory_size());
        let Permissions { write, execute, .. } = segment.permissions();
        prop_assert!(!(write && execute));
        entry_is_code |= execute && (start..end).contains(&executable.entry());
        free_from = end.0.next_multiple_of(PAGE);
    }
    prop_assert!(entry_is_code);
    prop_assert!(image.abi_version().runs_on(AbiVersion::HOST));
    for function in image.exports() {
        let position = image.export_position(function.number());
        prop_assert_eq!(position.map(|position| image.export_at(position).name()), Some(function.name()));
        prop_assert!(image.export(function.name()).is_some());
    }
    Ok(())
}
