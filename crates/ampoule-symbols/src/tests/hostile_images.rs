//! Image files that were damaged, or made to keep their reader busy.

use proptest::prelude::*;

use super::fixture::{PROGRAM, TEXT, code_of, image};
use crate::budget::Budget;
use crate::call_stack::{CallStack, CodeAddress};
use crate::debug_info::{DebugInfo, Sections};
use crate::{Backtrace, Registers, Symbols};

#[test]
fn nesting_does_not_use_up_the_hosts_stack() {
    // A function, and in it a hundred thousand functions, each inlined into the one before.
    let abbreviations = [ranged(1, COMPILE_UNIT), ranged(2, INLINED), ranged(3, FUNCTION)].concat();
    let inlined = [&[2][..], &range()].concat();
    let entries = [&[1][..], &range(), &[3], &range(), &inlined.repeat(100_000)].concat();
    let frames = name(&debug_image(&abbreviations, &unit(&entries)));
    assert_eq!(frames.frames().len(), 64);
}

#[test]
fn entries_that_take_no_bytes_still_cost() {
    // Thirty thousand attributes that are there by being mentioned, and a million entries of one byte that have them.
    let attributes = [0x3f, 0x19].repeat(30_000);
    let abbreviations = [&ranged(1, COMPILE_UNIT)[..], &[2, FUNCTION, 0], &attributes, &[0, 0]].concat();
    let entries = [&[1][..], &range(), &[2; 1_000_000]].concat();
    assert!(is_too_much(&debug_image(&abbreviations, &unit(&entries))));
}

#[test]
fn units_that_share_their_tables_cost_each_time() {
    // A hundred thousand units, each of which needs the same eight thousand abbreviations.
    let unused = (0x80..0x2080).flat_map(|code: u16| [code as u8 | 0x80, (code >> 7) as u8 & 0x7f, FUNCTION, 0, 0, 0]);
    let abbreviations = [&ranged(1, COMPILE_UNIT)[..], &unused.collect::<Vec<u8>>()].concat();
    let units = unit(&[&[1][..], &[0; 16]].concat()).repeat(100_000);
    assert!(is_too_much(&debug_image(&abbreviations, &units)));
}

#[test]
fn a_unit_can_have_only_so_many_abbreviations() {
    let function_after = |unused: u16| {
        let unused =
            (0x80..0x80 + unused).flat_map(|code| [code as u8 | 0x80, (code >> 7) as u8 | 0x80, 0, FUNCTION, 0, 0, 0]);
        let named = [2, FUNCTION, 0, 0x11, 0x01, 0x12, 0x07, 0x03, 0x08, 0, 0];
        let abbreviations = [&ranged(1, COMPILE_UNIT)[..], &unused.collect::<Vec<u8>>(), &named].concat();
        let entries = [&[1][..], &range(), &[2], &range(), b"main\0\0"].concat();
        name(&debug_image(&abbreviations, &unit(&entries))).frames()[0].function.clone()
    };
    assert_eq!(function_after(10), Some("main".to_string()));
    assert_eq!(function_after(16_000), None);
}

#[test]
fn a_table_of_lines_can_have_only_so_many_files() {
    let line_with = |directories| {
        let abbreviations = [1, COMPILE_UNIT, 0, 0x11, 0x01, 0x12, 0x07, 0x10, 0x17, 0, 0, 0];
        let entries = [&[1][..], &range(), &[0; 4]].concat();
        let image = image(&[
            (".text", &[0x90; 64]),
            (".debug_abbrev", &abbreviations),
            (".debug_info", &unit(&entries)),
            (".debug_line", &lines(directories)),
        ]);
        name(&image).frames()[0].line
    };
    assert_eq!(line_with(10), Some(1));
    assert_eq!(line_with(1_000_000), None);
}

#[test]
fn a_function_that_is_an_instance_of_itself_has_no_name() {
    // Its origin is the entry that it is.
    let abbreviations =
        [&ranged(1, COMPILE_UNIT)[..], &[2, FUNCTION, 0, 0x11, 0x01, 0x12, 0x07, 0x31, 0x13, 0, 0, 0]].concat();
    let start = (HEADER + 1 + range().len()) as u32;
    let entries = [&[1][..], &range(), &[2], &range(), &start.to_le_bytes(), &[0]].concat();
    let frames = name(&debug_image(&abbreviations, &unit(&entries)));
    assert_eq!(frames.frames().len(), 1);
    assert_eq!(frames.frames()[0].function, None);
}

#[test]
fn names_that_are_slow_to_read_cost() {
    // A function and what was inlined into it, all with one name of four thousand bytes.
    let named = |code, tag| [code, tag, 1, 0x11, 0x01, 0x12, 0x07, 0x6e, 0x0e, 0, 0];
    let abbreviations = [&ranged(1, COMPILE_UNIT)[..], &named(2, FUNCTION), &named(3, INLINED), &[0]].concat();
    let inlined = [&[3][..], &range(), &[0; 4]].concat();
    let entries = [&[1][..], &range(), &[2], &range(), &[0; 4], &inlined.repeat(63)].concat();
    assert!(is_too_much(&image(&[
        (".text", &[0x90; 64]),
        (".debug_abbrev", &abbreviations),
        (".debug_info", &unit(&entries)),
        (".debug_str", &[&[b'x'; 4000][..], b"\0"].concat()),
    ])));
}

#[test]
fn what_the_budget_does_not_reach_is_left_out() {
    let symbols = Symbols::new(&PROGRAM, 0);
    let leaf: Vec<u64> = code_of(&symbols, "leaf").collect();
    let lines_within = |steps| {
        let (budget, sections) = (Budget::new(steps), Sections::read(&symbols.elf));
        let sites = DebugInfo::new(&sections, symbols.elf.code_start(), &budget).look_up(None, &leaf);
        sites.iter().flatten().filter(|site| site.line.line.is_some()).count()
    };
    let all = lines_within(1 << 20);
    assert!(all >= leaf.len());
    assert_eq!(lines_within(0), 0);
    for steps in 0..3000 {
        assert!(lines_within(steps) <= all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_damage_is_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut image = PROGRAM.clone();
        for (index, byte) in changes {
            *index.get_mut(&mut image) = byte;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        look_at_all(&image);
    }

    #[test]
    fn any_tables_are_survived(
        info in prop::collection::vec(any::<u8>(), 0..64),
        abbreviations in prop::collection::vec(0_u8..0x40, 0..64),
        line in prop::collection::vec(any::<u8>(), 0..128),
        frames in prop::collection::vec(any::<u8>(), 0..64),
        index in prop::collection::vec(any::<u8>(), 0..32),
    ) {
        look_at_all(&image(&[
            (".text", &[0x90; 64]),
            (".debug_abbrev", &[&ranged(1, COMPILE_UNIT)[..], &abbreviations].concat()),
            (".debug_info", &unit(&[&[1][..], &range(), &info].concat())),
            (".debug_line", &line),
            (".eh_frame", &frames),
            (".eh_frame_hdr", &[&[1, 0x1b, 3, 0x3b, 0, 0, 0, 0, 4, 0, 0, 0][..], &index].concat()),
        ]));
    }
}

/// Asks everything about an image that can be asked.
fn look_at_all(image: &[u8]) {
    let symbols = Symbols::new(image, 0);
    let intact = Symbols::new(&PROGRAM, 0);
    let branch = code_of(&intact, "branch");
    for rip in [code_of(&intact, "leaf").start, branch.start, TEXT] {
        let registers = Registers { rip, rsp: 0x7000_0000, rbp: 0x7000_0000, ..Registers::default() };
        let mut memory = |address: u64, buffer: &mut [u8]| {
            let word = if address % 16 == 8 { branch.start + 9 } else { address + 16 };
            buffer.copy_from_slice(&word.to_le_bytes()[..buffer.len()]);
            true
        };
        let stack = symbols.walk(&registers, &mut memory, 64);
        let backtrace = symbols.name(&stack);
        assert!(backtrace.frames().len() >= stack.frames.len());
        assert!(format!("{backtrace}{backtrace:#}").len() < 1 << 20);
        symbols.place(rip);
    }
}

/// Names the first instruction of `.text`.
fn name(image: &[u8]) -> Backtrace {
    let frames = vec![CodeAddress { address: TEXT, is_return: false }];
    Symbols::new(image, 0).name(&CallStack { frames, truncated: false })
}

/// Whether it takes more than a million steps to look up the first instruction of `.text`.
fn is_too_much(image: &[u8]) -> bool {
    let (budget, symbols) = (Budget::new(1 << 20), Symbols::new(image, 0));
    DebugInfo::new(&Sections::read(&symbols.elf), symbols.elf.code_start(), &budget).look_up(None, &[TEXT]);
    budget.spend(1).is_err()
}

fn debug_image(abbreviations: &[u8], info: &[u8]) -> Vec<u8> {
    image(&[(".text", &[0x90; 64]), (".debug_abbrev", &[abbreviations, &[0]].concat()), (".debug_info", info)])
}

/// The abbreviation `code` of entries that have children and a range of addresses.
fn ranged(code: u8, tag: u8) -> [u8; 9] {
    [code, tag, 1, 0x11, 0x01, 0x12, 0x07, 0, 0]
}

/// The attributes of such an entry: the first 64 bytes of `.text`.
fn range() -> [u8; 16] {
    let mut attributes = [0; 16];
    attributes[..8].copy_from_slice(&TEXT.to_le_bytes());
    attributes[8] = 64;
    attributes
}

/// A unit of version 4 whose abbreviations are the first.
fn unit(entries: &[u8]) -> Vec<u8> {
    let length = (HEADER - 4 + entries.len()) as u32;
    [&length.to_le_bytes(), &[4, 0, 0, 0, 0, 0, 8][..], entries].concat()
}

/// A table of lines, version 4: the first 64 bytes of `.text` are of line 1.
fn lines(directories: usize) -> Vec<u8> {
    let parameters = [1, 1, 1, 0xfb, 14, 10, 0, 1, 1, 1, 1, 0, 0, 0, 1];
    let file = b"\0main.c\0\0\0\0\0";
    let header = [&parameters[..], &b"d\0".repeat(directories), file].concat();
    let program = [&[0, 9, 2][..], &TEXT.to_le_bytes(), &[1, 2, 64, 0, 1, 1]].concat();
    let rest = [&(header.len() as u32).to_le_bytes(), &header[..], &program].concat();
    [&(rest.len() as u32 + 2).to_le_bytes(), &[4, 0][..], &rest].concat()
}

/// Bytes of a unit's header.
const HEADER: usize = 11;

const COMPILE_UNIT: u8 = 0x11;
const INLINED: u8 = 0x1d;
const FUNCTION: u8 = 0x2e;
