//! Stacks that a guest made up.

use proptest::prelude::*;

use super::fixture::{PROGRAM, TEXT, code_of, image};
use crate::call_stack::CallStack;
use crate::{Registers, Symbols};

const STACK: u64 = 0x7000_0000;
const LIMIT: usize = 64;

#[test]
fn a_stack_that_cannot_be_read_ends_at_once() {
    let symbols = Symbols::new(&PROGRAM, 0);
    let registers = Registers { rip: code_of(&symbols, "leaf").start, rsp: STACK, rbp: STACK, ..Registers::default() };
    let stack = symbols.walk(&registers, &mut |_, _| false, LIMIT);
    assert_eq!(addresses(&stack), [registers.rip]);
}

#[test]
fn a_function_that_has_just_been_called_has_its_caller() {
    let symbols = Symbols::new(&PROGRAM, 0);
    let (called, caller) = (code_of(&symbols, "leaf").start, code_of(&symbols, "branch").start + 4);
    let registers = Registers { rip: called, rsp: STACK, ..Registers::default() };
    assert_eq!(addresses(&walk(&symbols, &registers, &[caller]))[..2], [called, caller]);
}

#[test]
fn a_call_through_a_null_pointer_has_its_caller() {
    let symbols = Symbols::new(&PROGRAM, 0);
    let caller = code_of(&symbols, "branch").start + 4;
    let registers = Registers { rip: 0, rsp: STACK, ..Registers::default() };
    let stack = walk(&symbols, &registers, &[caller]);
    assert_eq!(addresses(&stack)[..2], [0, caller]);
    assert_eq!(symbols.name(&stack).frames()[1].function.as_deref(), Some("branch"));
}

#[test]
fn code_made_at_run_time_is_left_by_its_frame_pointers() {
    let symbols = Symbols::new(&PROGRAM, 0);
    let (made, caller) = (0x9000_0000, code_of(&symbols, "branch").start + 4);
    let registers = Registers { rip: made, rsp: STACK, rbp: STACK + 8, ..Registers::default() };
    // What looks like a return address is one only for code that has just been called.
    let decoy = code_of(&symbols, "leaf").start + 1;
    let stack = walk(&symbols, &registers, &[0, STACK + 24, made + 16, decoy, caller]);
    assert_eq!(addresses(&stack)[..3], [made, made + 16, caller]);
}

#[test]
fn frame_pointers_in_a_circle_end() {
    let symbols = Symbols::new(&PROGRAM, 0);
    let registers = Registers { rip: 0x9000_0000, rsp: STACK, rbp: STACK, ..Registers::default() };
    let stack = walk(&symbols, &registers, &[STACK, 0x9000_0001]);
    assert_eq!(addresses(&stack), [0x9000_0000, 0x9000_0001]);
}

#[test]
fn endless_frames_end_at_the_limit() {
    let symbols = Symbols::new(&PROGRAM, 0);
    let registers = Registers { rip: 0x9000_0000, rsp: STACK, rbp: STACK, ..Registers::default() };
    let mut memory = |address: u64, buffer: &mut [u8]| {
        buffer.copy_from_slice(&(address + 16).to_le_bytes()[..buffer.len()]);
        true
    };
    let stack = symbols.walk(&registers, &mut memory, LIMIT);
    assert_eq!(stack.frames.len(), LIMIT);
    assert!(stack.truncated);
}

#[test]
fn a_description_that_stays_in_place_ends() {
    // The frame address is the stack pointer, and the return address is the function's own.
    let image = image(&[(".text", &[0x90; 64]), (".eh_frame", &described(&[0x0c, 7, 0, 0x14, 16, 0, 0x09, 16, 0]))]);
    let symbols = Symbols::new(&image, 0);
    let registers = Registers { rip: TEXT, rax: TEXT + 1, rsp: STACK, ..Registers::default() };
    assert_eq!(addresses(&walk(&symbols, &registers, &[])), [TEXT]);
}

#[test]
fn a_description_that_computes_for_ever_ends() {
    // The frame address is an expression that reads what the stack pointer points to, drops it, and goes back.
    let rules = [0x0f, 7, 0x77, 0, 0x06, 0x13, 0x2f, 0xf9, 0xff, 0x90, 1];
    let image = image(&[(".text", &[0x90; 64]), (".eh_frame", &described(&rules))]);
    let registers = Registers { rip: TEXT, rsp: STACK, ..Registers::default() };
    let mut reads = 0;
    let mut memory = |_, _: &mut [u8]| {
        reads += 1;
        true
    };
    let stack = Symbols::new(&image, 0).walk(&registers, &mut memory, LIMIT);
    assert_eq!(addresses(&stack), [TEXT]);
    assert!((1..=256).contains(&reads), "{reads}");
}

#[test]
fn a_description_with_an_expression_is_followed() {
    // Frame address: stack pointer + 16. Return address: at 8 below it.
    let rules = [0x0f, 2, 0x77, 16, 0x90, 1];
    let image = image(&[(".text", &[0x90; 64]), (".eh_frame", &described(&rules))]);
    let symbols = Symbols::new(&image, 0);
    let registers = Registers { rip: TEXT, rsp: STACK, ..Registers::default() };
    let stack = walk(&symbols, &registers, &[0, TEXT + 9, 0, TEXT + 17]);
    assert_eq!(addresses(&stack), [TEXT, TEXT + 9, TEXT + 17]);
}

proptest! {
    #[test]
    fn any_stack_ends(
        rip in 0_u64..4096,
        words in prop::collection::vec(prop_oneof![any::<u64>(), 0..64_u64, STACK..STACK + 512, TEXT..TEXT + 0x2000], 64),
        rbp in STACK..STACK + 512,
    ) {
        let symbols = Symbols::new(&PROGRAM, 0);
        let text = symbols.elf.code_start();
        let registers = Registers { rip: text + rip, rsp: STACK, rbp, ..Registers::default() };
        let stack = walk(&symbols, &registers, &words);
        prop_assert!((1..=LIMIT).contains(&stack.frames.len()));
        prop_assert!(symbols.name(&stack).frames().len() >= stack.frames.len());
    }
}

/// `.eh_frame` with one description, of the first 64 bytes of `.text`.
fn described(rules: &[u8]) -> Vec<u8> {
    let entry = |content: &[u8]| {
        let mut content = content.to_vec();
        content.resize(content.len().next_multiple_of(8) + 4, 0);
        [(content.len() as u32).to_le_bytes().as_slice(), &content].concat()
    };
    // Version 1, no augmentation, factors 1 and -8, return address in column 16.
    let common = entry(&[0, 0, 0, 0, 1, 0, 1, 0x78, 16]);
    let to_common = (common.len() as u32 + 4).to_le_bytes();
    let function = entry(&[&to_common, &TEXT.to_le_bytes()[..], &64_u64.to_le_bytes(), rules].concat());
    [common, function, vec![0; 4]].concat()
}

/// Walks a stack that holds these words, and nothing beyond.
fn walk(symbols: &Symbols<'_>, registers: &Registers, words: &[u64]) -> CallStack {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut memory = |address: u64, buffer: &mut [u8]| {
        let offset = address.checked_sub(STACK).and_then(|offset| usize::try_from(offset).ok());
        let found = offset.and_then(|offset| bytes.get(offset..)?.get(..buffer.len()));
        found.inspect(|found| buffer.copy_from_slice(found)).is_some()
    };
    symbols.walk(registers, &mut memory, LIMIT)
}

fn addresses(stack: &CallStack) -> Vec<u64> {
    stack.frames.iter().map(|frame| frame.address).collect()
}
