//! Any file is refused with a reason, or is an image that keeps what `Image` promises.

#![no_main]

use ampoule::Image;
use ampoule::image::{ImageKind, USER_END, USER_START};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    match Image::from_bytes(file.to_vec()) {
        Ok(image) => check(&image),
        Err(error) => assert!(error.to_string().len() < MAX_REASON, "{error}"),
    }
});

fn check(image: &Image) {
    let start = if image.kind() == ImageKind::Fixed { USER_START } else { 0 };
    let mut free_from = start;
    let mut entry_is_code = false;
    for segment in image.segments() {
        let (address, size, permissions) = (segment.address(), segment.memory_size(), segment.permissions());
        assert!(address / PAGE * PAGE >= free_from, "a segment at {address:#x} shares a page or is out of order");
        assert!(!(permissions.write && permissions.execute), "{permissions:?} at {address:#x}");
        assert!(segment.bytes().len() as u64 <= size);
        free_from = (address + size).next_multiple_of(PAGE);
        entry_is_code |= permissions.execute && (address..address + size).contains(&image.entry());
    }
    assert!(entry_is_code, "the entry {:#x} is no code", image.entry());
    assert!(free_from <= USER_END, "the last segment ends at {free_from:#x}");
    assert!(image.alignment().is_power_of_two() && (PAGE..=1 << 30).contains(&image.alignment()));

    for function in image.exports() {
        let found = image.export(function.name()).expect("it has a name");
        assert_eq!(found.signature(), function.signature());
        assert!(image.export_by_number(function.number()).is_some_and(|found| found.name() == function.name()));
    }
    for function in image.imports() {
        let found = image.import(function.name()).expect("it has a name");
        assert_eq!(found.signature(), function.signature());
        assert!(image.import_by_number(function.number()).is_some_and(|found| found.name() == function.name()));
    }
}

const PAGE: u64 = 4096;

/// Bytes of the longest reason: it can have two signatures in it.
const MAX_REASON: usize = 1 << 16;
