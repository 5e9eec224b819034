//! Executables put together from sections, for the readers of what is in them.

/// Where [`executable`] puts `.text`, which is its first section.
pub const TEXT: u64 = 0x40_0000;

/// Where it puts what is loaded beside it.
pub const TABLES: u64 = 0x50_0000;

/// The sections that [`executable`] is made of, in the order in which their contents are given.
pub const SECTIONS: [&str; 12] = [
    ".text",
    ".eh_frame",
    ".eh_frame_hdr",
    ".debug_abbrev",
    ".debug_info",
    ".debug_line",
    ".debug_str",
    ".debug_line_str",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_addr",
    ".debug_str_offsets",
];

/// A static executable of these contents.
pub fn executable(contents: [&[u8]; SECTIONS.len()]) -> Vec<u8> {
    let mut names = vec![0];
    let mut headers = vec![0; SECTION_HEADER];
    let mut bytes = Vec::new();
    let mut add = |name: &str, data: Option<&[u8]>| {
        let name_at = names.len() as u32;
        names.extend(name.bytes().chain([0]));
        let data = data.unwrap_or(&names);
        let (flags, address) = match name {
            ".text" => (ALLOC | EXECUTABLE, TEXT),
            ".eh_frame" => (ALLOC, TABLES),
            ".eh_frame_hdr" => (ALLOC, TABLES + 0x1_0000),
            _ => (0, 0),
        };
        headers.extend(name_at.to_le_bytes());
        headers.extend(PROGBITS.to_le_bytes());
        for field in [flags, address, CONTENTS + bytes.len() as u64, data.len() as u64, 0, 1, 0] {
            headers.extend(field.to_le_bytes());
        }
        bytes.extend_from_slice(data);
    };
    for (name, data) in SECTIONS.into_iter().zip(contents) {
        add(name, Some(data));
    }
    add(".shstrtab", None);

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for field in [TEXT, FILE_HEADER as u64, CONTENTS + bytes.len() as u64] {
        file.extend(field.to_le_bytes());
    }
    file.extend([0; 4]);
    let sections = headers.len() / SECTION_HEADER;
    for count in [FILE_HEADER, PROGRAM_HEADER, 1, SECTION_HEADER, sections, sections - 1] {
        file.extend((count as u16).to_le_bytes());
    }
    file.extend([LOAD, READ | WRITE | EXECUTE].map(u32::to_le_bytes).concat());
    for field in [0, TEXT, TEXT, 0x20_0000, 0x20_0000, 0x1000_u64] {
        file.extend(field.to_le_bytes());
    }
    [file, bytes, headers].concat()
}

// Sizes and values of the ELF-64 Object File Format.
const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
const CONTENTS: u64 = (FILE_HEADER + PROGRAM_HEADER) as u64;
const PROGBITS: u32 = 1;
const ALLOC: u64 = 2;
const EXECUTABLE: u64 = 4;
const LOAD: u32 = 1;
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;
