//! The calls that have led to where the program is, by its unwind tables.
//!
//! The compiler has made the tables, for panics among other things, and the library that the standard library unwinds with
//! reads them: no code has to keep a frame pointer for it. Code without a table ends the walk.
//!
//! A step of such a walk takes a good part of a microsecond, and most of the calls are those of the walk before. So that one
//! is [remembered](Memory), and a new walk ends where it meets it.

mod remembered;

use std::ffi::{c_int, c_void};

use remembered::{Call, Memory, Walk};

/// What was found of the callers.
pub(super) struct Callers {
    /// How many there are, as far as they had room.
    pub(super) count: usize,
    /// Whether there are more.
    pub(super) are_missing: bool,
}

/// Finds the callers of the function in whose frame `room` lies: their return addresses, innermost first. The program's own
/// stack goes on above `base`.
#[inline(never)]
pub(super) fn find(room: &mut [[u8; 8]], base: usize) -> Callers {
    let Some(mut memory) = Memory::take() else { return Callers { count: 0, are_missing: true } };
    let mut walk = memory.walk(room.as_ptr().addr(), base);
    if !walk.is_over() {
        // SAFETY: the function is the C++ ABI's, and calls the other one with this argument for as long as it runs.
        unsafe { _Unwind_Backtrace(note, (&raw mut walk).cast()) };
    }
    let found = walk.finish();
    let calls = found.calls().iter().zip(&mut *room);
    let count = calls.map(|(call, room)| *room = (call.address as u64).to_le_bytes()).count();
    Callers { count, are_missing: found.are_missing() || count < found.calls().len() }
}

/// Takes note of one frame.
extern "C" fn note(frame: *mut Frame, walk: *mut c_void) -> c_int {
    // SAFETY: `find` passes its walk, and touches it only when that is over.
    let walk = unsafe { &mut *walk.cast::<Walk<'_>>() };
    // SAFETY: the unwinding library passes a frame.
    let (address, stack_pointer) = unsafe { (_Unwind_GetIP(frame), _Unwind_GetCFA(frame)) };
    if address == 0 {
        return END_OF_STACK;
    }
    // A call has pushed its return address right below where the stack pointer is after the return.
    walk.add(Call { address, at: stack_pointer.wrapping_sub(size_of::<usize>()) });
    if walk.is_over() { END_OF_STACK } else { NO_REASON }
}

/// A frame, as the unwinding library describes it to itself.
#[repr(C)]
struct Frame {
    _opaque: [u8; 0],
}

// "C++ ABI for Itanium: Exception Handling", section 1.2, and what all its implementations have beside that.
unsafe extern "C" {
    /// Calls `note` for each frame from that of the caller on, for as long as it returns `NO_REASON`.
    fn _Unwind_Backtrace(note: extern "C" fn(*mut Frame, *mut c_void) -> c_int, argument: *mut c_void) -> c_int;

    /// Where the frame's function continues.
    fn _Unwind_GetIP(frame: *mut Frame) -> usize;

    /// Its stack pointer there.
    fn _Unwind_GetCFA(frame: *mut Frame) -> usize;
}

/// `_URC_NO_REASON`: continue.
const NO_REASON: c_int = 0;

/// `_URC_END_OF_STACK`: nothing more is to be done.
const END_OF_STACK: c_int = 5;

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// What a walk from here finds, if it remembers the ones before and if it does not.
    #[inline(never)]
    fn compare(base: usize) -> usize {
        let [mut remembering, mut forgetful] = [[[0; 8]; 128]; 2];
        let with = find(&mut remembering, base);
        Memory::forget();
        let without = find(&mut forgetful, base);
        assert_eq!((with.count, with.are_missing), (without.count, without.are_missing));
        assert_eq!(remembering, forgetful);
        with.count
    }

    /// Walks from here, so that the next walk has something to remember.
    #[inline(never)]
    fn walk(base: usize) {
        find(&mut [[0; 8]; 128], base);
    }

    #[inline(never)]
    fn left(path: u32, turns: u32, base: usize) -> usize {
        black_box(turn(path, turns, base)) + 1
    }

    #[inline(never)]
    fn right(path: u32, turns: u32, base: usize) -> usize {
        // Another frame than the other's.
        let frame = black_box([path; 9]);
        black_box(turn(frame[4], turns, base)) + 1
    }

    #[inline(never)]
    fn turn(path: u32, turns: u32, base: usize) -> usize {
        if path & 2 == 0 {
            walk(base);
        }
        match turns {
            0 => compare(base),
            _ if path & 1 == 0 => left(path >> 1, turns - 1, base),
            _ => right(path >> 1, turns - 1, base),
        }
    }

    #[test]
    fn a_walk_that_remembers_the_one_before_finds_what_one_without_does() {
        let base = black_box(0u64);
        for path in 0..2000u32 {
            let turns = path % 12;
            let found = turn(path.wrapping_mul(0x9e37_79b9) >> 7, turns, (&raw const base).addr());
            assert!(found > turns as usize, "{found}");
        }
    }

    #[test]
    fn calls_that_are_too_many_are_the_innermost_ones() {
        let base = black_box(0u64);
        for turns in [100, 200, 150, 700, 699, 690, 200, 701, 20] {
            turn(0x5555_5551, turns, (&raw const base).addr());
        }
    }

    #[test]
    fn what_is_on_another_stack_is_not_relied_on() {
        let base = black_box(0u64);
        let above = (&raw const base).addr();
        for base in [0, 1, above - (1 << 20), above, above + (2 << 30), usize::MAX] {
            walk(base);
            compare(base);
            walk(above);
            compare(base);
        }
    }
}
