//! Threads of the host that have little stack. What does not suffice ends the process.

use std::thread;

use super::fixture::{PROGRAM, TEXT, code_of, image};
use crate::{Backtrace, Registers, Symbols};

#[test]
fn a_small_stack_is_enough() {
    let backtrace = on_small_stack(|| {
        let symbols = Symbols::new(&PROGRAM, 0);
        let caller = code_of(&symbols, "branch").start + 4;
        let registers = Registers { rip: code_of(&symbols, "leaf").start, rsp: 0x7000_0000, ..Registers::default() };
        let mut memory = |_, buffer: &mut [u8]| {
            buffer.copy_from_slice(&caller.to_le_bytes()[..buffer.len()]);
            true
        };
        symbols.name(&symbols.walk(&registers, &mut memory, 64))
    });
    assert!(backtrace.to_string().contains("leaf"), "{backtrace}");
    assert!(backtrace.frames().iter().any(|frame| frame.line.is_some()));
}

#[test]
fn no_name_is_too_deep_for_a_small_stack() {
    let nested = |open: &str, within: &str, close: &str, depth| open.repeat(depth) + within + &close.repeat(depth);
    for depth in [20, 45, 100, 450, 1000] {
        for name in [
            format!("_R{}", nested("Nv", "C1a", "1b", depth)),
            format!("_RINvC1a1f{}E", nested("R", "h", "", depth)),
            format!("_RINvC1a1f{}E", nested("T", "h", "E", depth)),
            format!("_RINvC1a1f{}E", nested("FE", "u", "", depth)),
            format!("_R{}", nested("I", "NvC1a1f", "hE", depth)),
            format!("_Z1fI{}E", nested("P", "i", "", depth)),
            format!("_Z1fI{}E", nested("1aI", "i", "E", depth)),
            format!("_Z1fI{}E", nested("N1aI", "i", "EE", depth)),
            format!("_Z1fI{}E", nested("Z1fI", "i", "EvvE1x", depth)),
            format!("_Z1fI{}E", nested("L_Z1fI", "i", "EvvE", depth)),
        ] {
            let image = named(&name);
            let frames = on_small_stack(|| {
                let symbols = Symbols::new(&image, 0);
                let registers = Registers { rip: TEXT, ..Registers::default() };
                symbols.name(&symbols.walk(&registers, &mut |_, _| false, 1))
            });
            assert!(frames.frames()[0].function.is_some(), "{name}");
        }
    }
}

/// An image whose code is a function of this name.
fn named(name: &str) -> Vec<u8> {
    let abbreviations =
        [1, 0x11, 1, 0x11, 0x01, 0x12, 0x07, 0, 0, 2, 0x2e, 0, 0x11, 0x01, 0x12, 0x07, 0x6e, 0x08, 0, 0, 0];
    let range = [TEXT.to_le_bytes(), 64_u64.to_le_bytes()].concat();
    let entries = [&[1], &range[..], &[2], &range, name.as_bytes(), &[0, 0]].concat();
    let length = (entries.len() as u32 + 7).to_le_bytes();
    let info = [&length, &[4, 0, 0, 0, 0, 0, 8][..], &entries].concat();
    image(&[(".text", &[0x90; 64]), (".debug_abbrev", &abbreviations), (".debug_info", &info)])
}

fn on_small_stack(work: impl FnOnce() -> Backtrace + Send) -> Backtrace {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(SMALL_STACK).spawn_scoped(scope, work);
        thread.expect("a thread can be started").join().expect("it does not panic")
    })
}

/// Bytes of the smallest stacks that hosts give their threads.
const SMALL_STACK: usize = 24 << 10;
