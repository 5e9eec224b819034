//! Any file with any stack ends in a backtrace of bounded size.
//!
//! An input is a file, and behind it the registers and the stack.

#![no_main]

use ampoule_fuzz::input::Input;
use ampoule_symbols::{Images, NameCache, Registers, Symbols, walk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (image, state) = input.split_at(input.len().saturating_sub(STATE));
    let mut state = Input(state);
    let [rip, rsp, rbp, rbx, rax, load_bias] = [(); 6].map(|()| state.u64());
    let registers = Registers { rip, rsp, rbp, rbx, rax, ..Registers::default() };
    let stack = state.0;

    let mut memory = |address: u64, buffer: &mut [u8]| {
        let offset = usize::try_from(address.wrapping_sub(rsp)).unwrap_or(usize::MAX);
        let read = stack.get(offset..).and_then(|rest| rest.get(..buffer.len()));
        read.inspect(|read| buffer.copy_from_slice(read)).is_some()
    };
    let symbols = Symbols::new(image, load_bias);
    let calls = symbols.walk(&registers, &mut memory, MAX_CALLS);
    let backtrace = symbols.name(&calls);
    assert!((1..=256).contains(&backtrace.frames().len()));
    assert_eq!(backtrace.frames()[0].address, rip);
    assert!(format!("{backtrace:#}{backtrace}").len() < MAX_TEXT);
    let instructions: Vec<u64> = calls.instructions().collect();
    let named = symbols.name_instructions(&instructions);
    assert_eq!(named.len(), instructions.len());
    assert!(named.iter().all(|frames| (1..=MAX_INLINED).contains(&frames.len())));
    // The same file as a library, of which a part is mapped where the guest is.
    let mapped = |_| Some((rip..rip.saturating_add(1 << 20), Symbols::of_library(image, "library", rip, load_bias)?));
    let calls = walk(&mut { mapped }, &registers, &mut memory, MAX_CALLS);
    let caches = [NameCache::default(), NameCache::default()];
    let mut images = Images::new(symbols.clone(), &caches[0]);
    if let Some((addresses, library)) = mapped(rip) {
        images.add(library, addresses, &caches[1]);
    }
    assert!((1..=256).contains(&images.name(&calls).frames().len()));
    for address in [rip, rsp, rbp] {
        if let Some(place) = symbols.place(address) {
            assert!(place.to_string().len() < 512);
        }
    }
});

/// Bytes of the registers and the stack.
const STATE: usize = 256;

const MAX_CALLS: usize = 64;

/// The most functions at one address.
const MAX_INLINED: usize = 64;

/// 256 frames, twice, each with a name and a path of at most half a kilobyte and its dots.
const MAX_TEXT: usize = 2 * 256 * 2048;
