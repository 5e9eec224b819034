//! Headers that are damaged, or those of something else than a guest.

use super::builder::*;
use super::*;

#[test]
fn only_elf_files_are_images() {
    for bytes in [&b""[..], b"\x7fEL", b"MZ\x90\0"] {
        assert_eq!(refusal_of(bytes.to_vec()), "is not an ELF file; a guest is a static Linux executable");
    }
}

#[test]
fn a_file_that_ends_within_its_header_is_damaged() {
    let bytes = fixed().bytes();
    assert_eq!(refusal_of(bytes[..63].to_vec()), "is damaged: its ELF header is not within its 63 bytes");
}

#[test]
fn programs_for_other_platforms_are_refused() {
    let cases: [(Change<ElfFile>, &str); 6] = [
        (|file| file.ident[4] = 1, "is a 32-bit program"),
        (|file| file.ident[5] = 2, "is a big-endian program"),
        (|file| file.ident[6] = 7, "is of the unknown ELF version 7"),
        (|file| file.ident[7] = 9, "is a program for another system (ELF OS ABI 9)"),
        (|file| file.machine = 183, "is a program for AArch64"),
        (|file| file.machine = 243, "is a program for ELF machine 243"),
    ];
    for (change, platform) in cases {
        let mut file = fixed();
        change(&mut file);
        assert_eq!(refusal(&file), format!("{platform}; build it for x86_64-unknown-linux"));
    }
}

#[test]
fn programs_with_gnu_extensions_are_accepted() {
    let mut file = fixed();
    file.ident[7] = 3;
    assert!(Image::from_bytes(file.bytes()).is_ok());
}

#[test]
fn files_that_are_no_executables_are_refused() {
    for (elf_type, found) in
        [(1, "an object file that is not linked yet"), (4, "a core dump"), (0xfe00, "an ELF file of type 65024")]
    {
        let mut file = fixed();
        file.elf_type = elf_type;
        assert_eq!(refusal(&file), format!("is {found}; a guest is a static Linux executable"));
    }
}

#[test]
fn a_shared_library_is_told_from_an_executable_that_its_linker_has_not_marked() {
    let mut unmarked = ElfFile::position_independent(functions());
    unmarked.dynamic.clear();
    assert!(Image::from_bytes(unmarked.bytes()).is_ok());
    let changes: [Change<ElfFile>; 3] =
        [|file| file.entry = 0, |file| file.dynamic.push((DT_SONAME, 1)), |file| file.dynamic.push((DT_NEEDED, 1))];
    for change in changes {
        let mut library = unmarked.clone();
        change(&mut library);
        assert_eq!(refusal(&library), "is a shared library; a guest is a static Linux executable");
    }
}

#[test]
fn a_file_without_section_headers_is_told_what_removes_them() {
    let mut file = fixed();
    file.sections.clear();
    let text = refusal(&file);
    assert!(text.starts_with("has no section headers") && text.contains("--strip-section-headers"), "{text}");
}

#[test]
fn dynamically_linked_programs_are_refused() {
    let mut with_interpreter = ElfFile::position_independent(functions());
    with_interpreter.program_headers[STACK].kind = PT_INTERP;
    let mut with_library = ElfFile::position_independent(functions());
    with_library.dynamic.push((DT_NEEDED, 1));

    for file in [with_interpreter, with_library] {
        let error = Image::from_bytes(file.bytes()).expect_err("it is dynamically linked");
        assert_eq!(
            error.to_string(),
            "guest image `in memory` is dynamically linked; \
             link it statically (Rust: -C target-feature=+crt-static with --target, C: -static)"
        );
    }
}

#[test]
fn programs_that_change_their_code_are_refused() {
    for entry in [(DT_TEXTREL, 0), (DT_FLAGS, DF_TEXTREL)] {
        let mut file = ElfFile::position_independent(functions());
        file.dynamic.push(entry);
        assert_eq!(refusal(&file), "relocates its own code; compile all of it as position-independent code (C: -fPIE)");
    }
}

#[test]
fn a_dynamic_section_ends_at_its_null_entry() {
    let mut file = ElfFile::position_independent(functions());
    file.dynamic.extend([(0, 0), (DT_NEEDED, 1)]);
    assert!(Image::from_bytes(file.bytes()).is_ok());
}

#[test]
fn a_dynamic_section_outside_of_the_file_is_damage() {
    let mut file = ElfFile::position_independent(functions());
    file.program_headers[3].offset = u64::MAX - 8;
    let size = file.bytes().len();
    assert_eq!(refusal(&file), format!("is damaged: its dynamic section is not within its {size} bytes"));
}

#[test]
fn two_dynamic_sections_are_damage() {
    let mut file = ElfFile::position_independent(functions());
    file.add_dynamic(&[]);
    assert_eq!(refusal(&file), "is damaged: it has two dynamic sections");
}

#[test]
fn an_executable_stack_is_refused() {
    let mut file = fixed();
    file.program_headers[STACK].flags |= PF_X;
    assert_eq!(
        refusal(&file),
        "asks for an executable stack; mark its assembly as not needing one (linker: -z noexecstack)"
    );
}

#[test]
fn program_headers_are_64_bit_ones_within_the_file() {
    let mut other_size = fixed();
    other_size.program_header_size = 32;
    assert_eq!(refusal(&other_size), "is damaged: an entry of its program header table has 32 bytes instead of 56");

    let mut outside = fixed();
    outside.program_header_offset = u64::MAX - 7;
    let size = outside.bytes().len();
    assert_eq!(refusal(&outside), format!("is damaged: its program header table is not within its {size} bytes"));

    let mut many = fixed();
    let stack = many.program_headers[STACK].clone();
    many.program_headers.resize(257, stack);
    assert_eq!(refusal(&many), "has more than 256 entries in its program header table");
}

#[test]
fn section_headers_are_within_the_file() {
    const SECTION_HEADER_OFFSET: usize = 40;
    let mut bytes = fixed().bytes();
    let size = bytes.len();
    bytes[SECTION_HEADER_OFFSET..][..8].copy_from_slice(&(size as u64).to_le_bytes());
    assert_eq!(refusal_of(bytes), format!("is damaged: its section header table is not within its {size} bytes"));

    let mut names_missing = fixed();
    names_missing.section_names = 9;
    let size = names_missing.bytes().len();
    assert_eq!(refusal(&names_missing), format!("is damaged: its section name table is not within its {size} bytes"));

    let mut names_outside = fixed();
    names_outside.sections[NAMES_SECTION].offset = size as u64;
    assert_eq!(refusal(&names_outside), format!("is damaged: its section name table is not within its {size} bytes"));
}

#[test]
fn the_number_of_sections_is_bounded() {
    let mut file = fixed();
    let section = file.sections[0].clone();
    file.sections.resize(0xff01, section);
    assert_eq!(refusal(&file), "has more than 65280 entries in its section header table");
}

#[test]
fn a_program_without_function_records_is_no_guest() {
    let message = "is not an Ampoule guest: it has no section `ampoule_fns`; \
                   link the crate ampoule-guest and call `ampoule_guest::main!()`";

    for name in ["ampoule_fn", "ampoule_fns2", ".data"] {
        let mut file = fixed();
        file.sections[FUNCTIONS_SECTION].name = name;
        assert_eq!(refusal(&file), message);
    }
}

#[test]
fn two_functions_sections_are_refused() {
    let mut file = fixed();
    file.sections.push(file.sections[FUNCTIONS_SECTION].clone());
    assert_eq!(refusal(&file), "has two sections `ampoule_fns`");
}

#[test]
fn function_records_are_loaded_from_the_file() {
    let cases: [Change<Section>; 5] = [
        |section| section.flags = 0,
        |section| section.kind = SHT_NOBITS,
        |section| section.address += 8,
        |section| section.size += 8,
        |section| section.offset = u64::MAX - 7,
    ];
    for change in cases {
        let mut file = fixed();
        change(&mut file.sections[FUNCTIONS_SECTION]);
        assert_eq!(refusal(&file), "does not load its section `ampoule_fns` from the file into memory");
    }
}

#[test]
fn function_records_are_aligned() {
    let mut file = fixed();
    file.sections[FUNCTIONS_SECTION].address += 4;
    file.sections[FUNCTIONS_SECTION].offset += 4;
    file.sections[FUNCTIONS_SECTION].size -= 8;
    assert_eq!(refusal(&file), "has its section `ampoule_fns` at 0x401104, not at a multiple of 8");
}

#[test]
fn the_functions_section_is_bounded() {
    let file = ElfFile::fixed(vec![0; 0x10_0008]);
    assert_eq!(refusal(&file), "has a section `ampoule_fns` of 1048584 bytes; the most is 1048576");
}
