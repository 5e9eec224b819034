//! A small C program to look at, and images put together section by section.

use std::ops::Range;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use crate::Symbols;
use crate::budget::Budget;

/// Freestanding, so that it takes a moment to build and is small enough to change every byte of.
const SOURCE: &str = r#"
static inline __attribute__((always_inline)) int scaled(volatile int *at) {
    return *at * 3; /* line 3 */
}
__attribute__((noinline)) int leaf(volatile int *at) {
    return scaled(at) + 1; /* line 6 */
}
__attribute__((noinline)) int branch(volatile int *at) {
    return leaf(at) + leaf(at + 1); /* line 9 */
}
void _start(void) {
    volatile int numbers[2] = {1, 2};
    branch(numbers);
    for (;;) {}
}
"#;

/// The program as a static executable with debug information of the newest version.
pub(super) static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| compile(&["-gdwarf-5"]));

/// Compiles the program.
pub(super) fn compile(arguments: &[&str]) -> Vec<u8> {
    static COMPILED: AtomicU32 = AtomicU32::new(0);
    let number = COMPILED.fetch_add(1, Ordering::Relaxed);
    let name = format!("ampoule-symbols-{}-{number}{}", process::id(), arguments.concat());
    let source = env::temp_dir().join(format!("{name}.c"));
    let program = env::temp_dir().join(name);
    fs::write(&source, SOURCE).expect("the source can be written");
    let status = Command::new("cc")
        .args(["-O1", "-static", "-nostdlib", "-fno-stack-protector", "-fasynchronous-unwind-tables"])
        .args(["-Wl,--eh-frame-hdr", "-o"])
        .args([&program, &source])
        .args(arguments)
        .status()
        .expect("`cc`, which Rust links with, runs");
    assert!(status.success(), "cc failed: {status}");
    let bytes = fs::read(&program).expect("the program can be read");
    for file in [source, program] {
        fs::remove_file(file).expect("the files can be removed");
    }
    bytes
}

/// The image addresses of a function's code.
pub(super) fn code_of(symbols: &Symbols<'_>, function: &str) -> Range<u64> {
    let text = symbols.elf.section(".text").expect("there is code");
    let addresses: Vec<u64> = (text.address..).take(text.data.len()).collect();
    let names = symbols.elf.function_symbols(&addresses, &Budget::new(1 << 20));
    let is_it = |name: &&Option<&[u8]>| **name == Some(function.as_bytes());
    let start = names.iter().position(|name| is_it(&name)).expect("there is such a function");
    let size = names[start..].iter().take_while(is_it).count();
    addresses[start]..addresses[start + size - 1] + 1
}

/// An executable of these sections, where `.text` is code at [`TEXT`] and all others are at [`TABLES`].
pub(super) fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut names = vec![0];
    let mut headers = vec![[0; SECTION_HEADER]];
    let mut contents = Vec::new();
    let contents_at = (FILE_HEADER + PROGRAM_HEADER) as u64;
    for &(name, data) in sections.iter().chain([&(".shstrtab", &[][..])]) {
        let is_names = name == ".shstrtab";
        let name_at = names.len() as u32;
        names.extend(name.bytes().chain([0]));
        let data = if is_names { &names } else { data };
        let (flags, address): (u64, u64) = match name {
            ".text" => (6, TEXT),
            name if name.starts_with(".eh") => (2, TABLES),
            _ => (0, 0),
        };
        let fields = [flags, address, contents_at + contents.len() as u64, data.len() as u64, 0, 1, 0];
        let mut header = [0; SECTION_HEADER];
        header[..4].copy_from_slice(&name_at.to_le_bytes());
        header[4..8].copy_from_slice(&1_u32.to_le_bytes());
        for (place, field) in header[8..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        headers.push(header);
        contents.extend_from_slice(data);
    }

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for field in [TEXT, FILE_HEADER as u64, contents_at + contents.len() as u64] {
        file.extend(field.to_le_bytes());
    }
    file.extend([0; 4]);
    let counts = [FILE_HEADER, PROGRAM_HEADER, 1, SECTION_HEADER, headers.len(), headers.len() - 1];
    file.extend(counts.iter().flat_map(|&count| (count as u16).to_le_bytes()));
    file.extend([1_u32.to_le_bytes(), 7_u32.to_le_bytes()].concat());
    for field in [0, TEXT, TEXT, 0x1000, 0x1000, 0x1000_u64] {
        file.extend(field.to_le_bytes());
    }
    file.extend(contents);
    file.extend(headers.concat());
    file
}

pub(super) const TEXT: u64 = 0x40_0000;
pub(super) const TABLES: u64 = 0x50_0000;

const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
