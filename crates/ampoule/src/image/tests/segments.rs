//! Segments that cannot be loaded.

use super::builder::*;
use super::*;
use crate::image::segment::{MAX_MEMORY, PAGE};

#[test]
fn an_image_has_something_to_load() {
    let mut nothing_loadable = fixed();
    nothing_loadable.program_headers.drain(..2);
    let mut no_headers = fixed();
    no_headers.program_headers.clear();
    let mut no_table = fixed();
    no_table.program_header_offset = 0;

    for file in [nothing_loadable, no_headers, no_table] {
        assert_eq!(refusal(&file), "has no loadable segments");
    }
}

#[test]
fn a_segment_without_memory_is_left_out() {
    let mut file = fixed();
    let mut empty = file.program_headers[TEXT].clone();
    (empty.file_size, empty.memory_size) = (0, 0);
    file.program_headers.insert(0, empty);
    let image = Image::from_bytes(file.bytes()).expect("the image is good");
    assert_eq!(image.executable().segments().len(), 2);
}

#[test]
fn a_segment_lies_within_the_file() {
    for offset in [0x10_0000, u64::MAX - 0xfff] {
        let problem = data_refusal(|data| (data.offset, data.file_size) = (offset, 0x1000));
        assert_eq!(problem, format!("its 4096 bytes at offset {offset:#x} are not within the file"));
    }
}

#[test]
fn a_segment_of_zeros_has_no_place_in_the_file() {
    let mut file = fixed();
    let mut zeros = file.program_headers[WRITABLE].clone();
    (zeros.address, zeros.offset, zeros.file_size) = (BASE + 0x10_0008, u64::MAX, 0);
    file.program_headers.push(zeros);
    let image = Image::from_bytes(file.bytes()).expect("the image is good");
    let last = image.executable().segments().last().expect("there are segments");
    assert_eq!(last.address(), GuestVirt(BASE + 0x10_0008));
    assert_eq!(last.bytes(), b"");
}

#[test]
fn a_segment_is_not_larger_in_the_file_than_in_memory() {
    assert_eq!(
        data_refusal(|data| (data.file_size, data.memory_size) = (0x110, 0x10f)),
        "it has 272 bytes in the file and only 271 in memory"
    );
}

#[test]
fn a_fixed_segment_lies_within_the_users_addresses() {
    for (address, memory_size) in [
        (0, 0x1000),
        (USER_START.0 - PAGE, 0x1000),
        (USER_END.0 - PAGE, 0x1001),
        (USER_END.0, 0x1000),
        (0x8000_0000_0000, 0x1000),
        (u64::MAX - 0xfff, 0x1000),
        (u64::MAX - 0xfff, u64::MAX),
    ] {
        let problem = data_refusal(|data| {
            (data.address, data.file_size, data.memory_size) = (address, 0x100, memory_size);
        });
        assert_eq!(
            problem,
            format!("its {memory_size} bytes are not within the guest's addresses 0x10000 to 0x7f8000000000")
        );
    }
}

#[test]
fn a_position_independent_image_fits_the_users_addresses() {
    let mut file = ElfFile::position_independent(functions());
    file.program_headers[WRITABLE].address = USER_END.0 - USER_START.0;
    assert!(
        refusal(&file).ends_with("are not within the guest's addresses 0x0 to 0x7f7fffff0000"),
        "{}",
        refusal(&file)
    );
}

#[test]
fn pages_of_a_segment_are_pages_of_the_file() {
    assert_eq!(
        data_refusal(|data| data.address += 8),
        "its file offset 0x1000 and its address differ by less than whole pages"
    );
}

#[test]
fn an_alignment_is_a_power_of_two() {
    for alignment in [3, 0x1001, 1 << 31, u64::MAX] {
        assert_eq!(
            data_refusal(|data| data.alignment = alignment),
            format!("its alignment {alignment:#x} is not a power of two up to 0x40000000")
        );
    }
}

#[test]
fn a_position_independent_image_is_loaded_where_each_segment_is_aligned() {
    for (alignment, bias) in [(0, 0x40_0000), (1, 0x40_0000), (0x20_0000, 0x40_0000), (0x100_0000, 0x100_0000)] {
        let mut file = ElfFile::position_independent(functions());
        file.program_headers[WRITABLE].alignment = alignment;
        let image = Image::from_bytes(file.bytes()).expect("the image is good");
        assert_eq!(image.executable().bias(), bias);
    }
}

#[test]
fn no_segment_is_writable_and_executable() {
    assert_eq!(data_refusal(|data| data.flags = PF_R | PF_W | PF_X), "it is writable and executable");
    assert_eq!(data_refusal(|data| data.flags = PF_W | PF_X), "it is writable and executable");
}

#[test]
fn segments_ascend() {
    assert_eq!(
        data_refusal(|data| data.address = BASE - DATA),
        "it is not above the segment before it, which ends at 0x401000"
    );
    assert_eq!(
        data_refusal(|data| data.address = BASE),
        "it is not above the segment before it, which ends at 0x401000"
    );
}

#[test]
fn segments_share_no_page() {
    let mut file = fixed();
    file.program_headers[TEXT].memory_size += 1;
    let data = &mut file.program_headers[WRITABLE];
    data.address += 0x10;
    data.offset += 0x10;
    assert_eq!(
        refusal(&file),
        "has a bad segment at 0x401010 (program header 1): \
         it shares a page with the segment before it, which ends at 0x401001"
    );
}

#[test]
fn the_memory_of_all_segments_is_bounded() {
    let mut file = fixed();
    file.program_headers[WRITABLE].memory_size = MAX_MEMORY;
    assert_eq!(refusal(&file), "needs 1099511631872 bytes of memory for its segments; the most is 1099511627776");
}

#[test]
fn a_program_starts_in_its_code() {
    for entry in [0, BASE - 1, BASE + DATA, u64::MAX] {
        let mut file = fixed();
        file.entry = entry;
        assert_eq!(refusal(&file), format!("starts at {entry:#x}, which is not in an executable segment"));
    }
}

#[test]
fn program_headers_outside_of_the_segments_have_no_address() {
    let mut file = fixed();
    let code = &mut file.program_headers[TEXT];
    code.offset = DATA;
    code.file_size = 0x100;
    let image = Image::from_bytes(file.bytes()).expect("the image is good");
    assert_eq!(image.executable().program_headers(), None);
}

/// What the data segment of a good image is refused for after a change.
fn data_refusal(change: impl FnOnce(&mut ProgramHeader)) -> String {
    let mut file = fixed();
    change(&mut file.program_headers[WRITABLE]);
    let error = Image::from_bytes(file.bytes()).expect_err("the segment is bad");
    match error.problem() {
        ImageProblem::Segment { index: WRITABLE, problem, .. } => problem.to_string(),
        other => panic!("{other}"),
    }
}
