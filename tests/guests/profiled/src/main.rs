//! A guest of whose functions it is known how much of its time each takes, and what calls it.

use std::arch::asm;
use std::hint::black_box;
use std::time::Duration;

use ampoule_guest::{export, import};

/// Takes its time on the host.
#[import]
fn work();

/// Spends three quarters of its time in one function, and a quarter in another.
#[export]
fn three_to_one(rounds: u32) -> u64 {
    let mut state = 1;
    for _ in 0..rounds {
        state = three(state);
        state = one(state);
    }
    state
}

#[inline(never)]
fn three(state: u64) -> u64 {
    black_box(mix(state, 3 * UNIT))
}

#[inline(never)]
fn one(state: u64) -> u64 {
    black_box(mix(state, UNIT))
}

/// Has no code of its own: it is a part of whoever calls it.
#[inline(always)]
fn mix(mut state: u64, steps: u32) -> u64 {
    for _ in 0..steps {
        state = black_box(state ^ (state << 13) ^ (state >> 7));
    }
    state
}

/// Calls itself so often before it spends its time.
#[export]
fn recurse(depth: u32, rounds: u32) -> u64 {
    descend(depth, rounds)
}

#[inline(never)]
fn descend(depth: u32, rounds: u32) -> u64 {
    match depth {
        0 => (0..rounds).fold(1, |state, _| one(state)),
        // Something is left to do behind the call, so that it needs a frame.
        _ => black_box(descend(black_box(depth - 1), rounds)) + 1,
    }
}

/// Spends its time in a function of the host.
#[export]
fn on_host(rounds: u32) {
    for _ in 0..rounds {
        work();
    }
}

#[export]
fn sleep(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Takes a path of its own in each round, `turns` calls deep, to where it spends a little time.
#[export]
fn many_stacks(turns: u32, rounds: u32) -> u64 {
    (0..rounds).fold(0, |state, round| state ^ left(round.wrapping_mul(0x9e37_79b9), turns))
}

#[inline(never)]
fn left(path: u32, turns: u32) -> u64 {
    black_box(turn(path, turns)) + 1
}

#[inline(never)]
fn right(path: u32, turns: u32) -> u64 {
    black_box(turn(path, turns)) + 2
}

#[inline(always)]
fn turn(path: u32, turns: u32) -> u64 {
    match turns {
        0 => mix(u64::from(path), UNIT / 16),
        _ if path & 1 == 0 => left(path >> 1, turns - 1),
        _ => right(path >> 1, turns - 1),
    }
}

/// Spends its time with this frame pointer and this stack pointer; 0 stands for a stack that leads to itself.
#[export]
fn wild_stack(frame_pointer: u64, stack_pointer: u64, rounds: u64) {
    let mut cycle = [0u64; 512];
    let first = cycle.as_ptr() as u64;
    for pair in cycle.chunks_exact_mut(2) {
        pair[0] = first;
        pair[1] = wild_stack as fn(u64, u64, u64) as usize as u64 + 16;
    }
    let or_cycle = |address| if address == 0 { black_box(cycle.as_ptr()) as u64 } else { address };
    // SAFETY: both registers have their values again when the instructions are over, between which nothing uses the stack: this
    // process runs no signal handler.
    unsafe {
        asm!(
            "mov {saved_frame}, rbp",
            "mov {saved_stack}, rsp",
            "mov rbp, {frame}",
            "mov rsp, {stack}",
            "2:",
            "dec {rounds}",
            "jnz 2b",
            "mov rsp, {saved_stack}",
            "mov rbp, {saved_frame}",
            frame = in(reg) or_cycle(frame_pointer),
            stack = in(reg) or_cycle(stack_pointer),
            rounds = inout(reg) rounds.max(1) => _,
            saved_frame = out(reg) _,
            saved_stack = out(reg) _,
        );
    }
}

/// Faults behind some work.
#[export]
fn work_and_abort(rounds: u32) {
    three_to_one(rounds);
    std::process::abort();
}

#[export]
fn spin() {
    loop {
        black_box(());
    }
}

ampoule_guest::main!();

/// Steps that take some tens of microseconds.
const UNIT: u32 = 10_000;
