//! Any file, which is refused with a reason or is an image that keeps what `Executable` and `Image` promise.

use ampoule_vmm::PAGE_SIZE;
use ampoule_vmm::address_map::{USER_END, USER_START};

use crate::image::{Executable, Image};

/// Checks a file as an image, and what the checks promise if it is one.
///
/// # Panics
/// Where a promise is not kept.
pub fn image(file: &[u8]) {
    match Image::from_bytes(file.to_vec()) {
        Ok(image) => {
            check_executable(image.executable());
            check_functions(&image);
        }
        Err(error) => assert!(error.to_string().len() < MAX_REASON, "{error}"),
    }
    // What is dynamically linked, and what links it.
    for check in [Executable::check_program, Executable::check_interpreter] {
        match check("in memory".into(), file.to_vec().into(), None) {
            Ok(executable) => check_executable(&executable),
            Err(error) => assert!(error.to_string().len() < MAX_REASON, "{error}"),
        }
    }
}

fn check_executable(executable: &Executable) {
    let bias = executable.bias();
    assert!(executable.interpreter().is_none_or(|path| !path.is_empty() && !path.contains(&0)));
    assert!(bias.is_multiple_of(PAGE), "{bias:#x} is not the start of a page");
    let start = if bias == 0 { USER_START.0 } else { bias };
    let mut free_from = start;
    let mut entry_is_code = false;
    for segment in executable.segments() {
        let (address, end, permissions) = (segment.address(), segment.end(), segment.permissions());
        assert!(address.page_start().0 >= free_from, "a segment at {address} shares a page or is out of order");
        assert!(!(permissions.write && permissions.execute), "{permissions:?} at {address}");
        assert!(segment.bytes().len() as u64 <= segment.memory_size());
        free_from = end.0.next_multiple_of(PAGE);
        entry_is_code |= permissions.execute && (address..end).contains(&executable.entry());
    }
    assert!(entry_is_code, "the entry {} is no code", executable.entry());
    assert!(free_from - bias <= USER_END.0, "the last segment ends at {free_from:#x}");
}

fn check_functions(image: &Image) {
    for function in image.exports() {
        let found = image.export(function.name()).expect("it has a name");
        assert_eq!(found.signature(), function.signature());
        let position = image.export_position(function.number()).expect("it has a number");
        assert_eq!(image.export_at(position).name(), function.name());
    }
}

const PAGE: u64 = PAGE_SIZE as u64;

/// Bytes of the longest reason: it can have two signatures in it.
const MAX_REASON: usize = 1 << 16;
