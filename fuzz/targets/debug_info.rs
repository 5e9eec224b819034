//! Any tables of frames and any debug information, in an otherwise intact executable.
//!
//! An input is the contents of the sections, each with its length before it, and behind them the stack.

#![no_main]

use ampoule_fuzz::elf::{SECTIONS, TEXT, executable};
use ampoule_fuzz::input::Input;
use ampoule_symbols::{Registers, Symbols};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let contents = [(); SECTIONS.len()].map(|()| input.block());
    let stack = input.0;
    let image = executable(contents);
    let symbols = Symbols::new(&image, 0);
    let code = contents[0].len().clamp(1, MAX_CODE) as u64;
    for rip in TEXT..TEXT + code {
        let registers = Registers { rip, rsp: STACK, rbp: STACK + 16, ..Registers::default() };
        let mut memory = |address: u64, buffer: &mut [u8]| {
            let offset = usize::try_from(address.wrapping_sub(STACK)).unwrap_or(usize::MAX);
            let read = stack.get(offset..).and_then(|rest| rest.get(..buffer.len()));
            read.inspect(|read| buffer.copy_from_slice(read)).is_some()
        };
        let calls = symbols.walk(&registers, &mut memory, 64);
        let backtrace = symbols.name(&calls);
        assert!((1..=256).contains(&backtrace.frames().len()));
        assert!(backtrace.frames().iter().all(|frame| frame.line != Some(0) || frame.inlined));
        assert!(format!("{backtrace:#}").len() < 1 << 20);
    }
});

/// Instructions that are looked up one by one.
const MAX_CODE: usize = 8;

const STACK: u64 = 0x7000_0000;
