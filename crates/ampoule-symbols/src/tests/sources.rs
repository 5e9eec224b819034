//! Functions and lines of a C program.

use super::fixture::{PROGRAM, TEXT, code_of, compile, image};
use crate::call_stack::{CallStack, CodeAddress};
use crate::{Frame, NameCache, Symbols};

#[test]
fn every_version_of_debug_information_is_read() {
    for version in ["-gdwarf-2", "-gdwarf-3", "-gdwarf-4", "-gdwarf-5"] {
        let image = compile(&[version]);
        assert_leaf_is_named(&Symbols::new(&image, 0), 0);
    }
}

#[test]
fn debug_information_of_the_64_bit_format_is_read() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let image = compile(&[version, "-gdwarf64"]);
        assert_leaf_is_named(&Symbols::new(&image, 0), 0);
    }
}

#[test]
fn compressed_debug_information_is_read() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let image = compile(&[version, "-gz=zlib"]);
        let symbols = Symbols::new(&image, 0);
        assert_leaf_is_named(&symbols, 0);
    }
}

#[test]
fn what_a_cache_gives_is_what_the_image_says() {
    for arguments in [&["-gdwarf-5"][..], &["-gdwarf-4"], &["-g0"], &["-gdwarf-4", "-gz=zlib"]] {
        let image = compile(arguments);
        let (symbols, cache) = (Symbols::new(&image, 0), NameCache::default());
        let code = code_of(&symbols, "leaf").start..code_of(&symbols, "branch").end;
        for address in code.clone().chain(code).chain([0x7fff_0000]) {
            let frames = [address, address + 1].map(|address| CodeAddress { address, is_return: false });
            let stack = CallStack { frames: frames.to_vec(), truncated: false };
            assert_eq!(symbols.name_with(&stack, &cache), symbols.name(&stack), "{address:#x} {arguments:?}");
        }
    }
}

#[test]
fn an_image_can_be_loaded_elsewhere() {
    let image = compile(&["-gdwarf-5", "-static-pie"]);
    assert_leaf_is_named(&Symbols::new(&image, 0x7000_0000), 0x7000_0000);
}

#[test]
fn without_debug_information_symbols_give_the_names() {
    let image = compile(&["-g0"]);
    let symbols = Symbols::new(&image, 0);
    let frames = name(&symbols, code_of(&symbols, "leaf").start);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].function.as_deref(), Some("leaf"));
    assert_eq!((&frames[0].file, frames[0].line), (&None, None));
    assert!(frames[0].to_string().starts_with("leaf  .text of guest+0x1"), "{}", frames[0]);
}

#[test]
fn without_symbols_the_place_in_the_image_is_left() {
    let image = compile(&["-g0", "-s"]);
    let address = code_of(&Symbols::new(&PROGRAM, 0), "leaf").start;
    let frame = &name(&Symbols::new(&image, 0), address)[0];
    assert!(frame.to_string().starts_with("<unknown>  .text of guest+0x1"), "{frame}");
}

#[test]
fn an_address_outside_of_the_image_is_left_as_it_is() {
    let symbols = Symbols::new(&PROGRAM, 0);
    assert_eq!(name(&symbols, 0x7fff_0000)[0].to_string(), "<unknown>  0x7fff0000");
    assert_eq!(symbols.place(0x7fff_0000), None);
}

#[test]
fn a_place_is_counted_from_the_start_of_the_image() {
    let symbols = Symbols::new(&PROGRAM, 0x1000_0000);
    let memory = symbols.elf.memory();
    let text = symbols.elf.section(".text").expect("there is code").address;
    let place = symbols.place(text + 0x1000_0000).expect("it is in the image");
    assert_eq!(place.to_string(), format!(".text of guest+{:#x}", text - memory.start));
    let first = symbols.place(memory.start + 0x1000_0000).expect("it is in the image");
    assert_eq!(first.offset, 0);
    assert_eq!(symbols.place(memory.end + 0x1000_0000), None);
}

#[test]
fn the_last_instruction_of_a_function_can_be_a_call() {
    let symbols = Symbols::new(&PROGRAM, 0);
    let behind = code_of(&symbols, "leaf").end;
    let frames = vec![CodeAddress { address: behind, is_return: true }];
    let backtrace = symbols.name(&CallStack { frames, truncated: false });
    assert_eq!(backtrace.frames()[0].function.as_deref(), Some("leaf"));
    assert_eq!(backtrace.frames()[0].address, behind);
}

#[test]
fn what_is_left_of_dropped_functions_is_not_believed() {
    // A function of which the linker has left the debug information, moved to address 0 and longer than what lies between.
    let name_at = |start: u64| {
        let range = [start.to_le_bytes(), (TEXT + 64 - start).to_le_bytes()].concat();
        let unit_range = [TEXT.to_le_bytes(), 64_u64.to_le_bytes()].concat();
        let entries = [&[1], &unit_range[..], &[2], &range, b"main\0\0"].concat();
        let length = (entries.len() as u32 + 7).to_le_bytes();
        let info = [&length, &[4, 0, 0, 0, 0, 0, 8][..], &entries].concat();
        let abbreviations =
            [1, 0x11, 1, 0x11, 0x01, 0x12, 0x07, 0, 0, 2, 0x2e, 0, 0x11, 0x01, 0x12, 0x07, 0x03, 0x08, 0, 0, 0];
        let image = image(&[(".text", &[0x90; 64]), (".debug_abbrev", &abbreviations), (".debug_info", &info)]);
        name(&Symbols::new(&image, 0), TEXT)[0].function.clone()
    };
    assert_eq!(name_at(TEXT), Some("main".to_string()));
    assert_eq!(name_at(0), None);
}

/// Some instruction of `leaf` is of `scaled` in the source.
fn assert_leaf_is_named(symbols: &Symbols<'_>, load_bias: u64) {
    let expected = [(Some("scaled"), Some(3), true), (Some("leaf"), Some(6), false)];
    let found = code_of(symbols, "leaf").any(|address| {
        let frames = name(symbols, address + load_bias);
        let seen: Vec<_> = frames.iter().map(|it| (it.function.as_deref(), it.line, it.inlined)).collect();
        seen == expected && frames.iter().all(|it| it.file.as_ref().is_some_and(|file| file.ends_with(".c")))
    });
    assert!(found, "{:?}", code_of(symbols, "leaf").map(|it| name(symbols, it + load_bias)).collect::<Vec<_>>());
}

fn name(symbols: &Symbols<'_>, address: u64) -> Vec<Frame> {
    let frames = vec![CodeAddress { address, is_return: false }];
    symbols.name(&CallStack { frames, truncated: false }).frames().to_vec()
}
