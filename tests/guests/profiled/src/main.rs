//! A guest of whose functions it is known how much of its time each takes, how much memory, and what calls it.

use std::alloc::{GlobalAlloc, Layout, System, alloc, alloc_zeroed, dealloc, realloc};
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

/// Allocates a block of this size: where it is.
#[export]
fn take_block(size: usize) -> u64 {
    block(size)
}

/// The same from elsewhere, and with zeros in the block.
#[export]
fn take_zeros(size: usize) -> u64 {
    // SAFETY: the size is not 0.
    black_box(unsafe { alloc_zeroed(layout(size)) } as u64)
}

/// The same from this many calls deep.
#[export]
fn take_block_below(depth: u32, size: usize) -> u64 {
    match depth {
        0 => block(size),
        _ => below(depth, size),
    }
}

#[inline(never)]
fn below(depth: u32, size: usize) -> u64 {
    black_box(take_block_below(black_box(depth - 1), size)) + u64::from(black_box(0u32))
}

#[inline(never)]
fn block(size: usize) -> u64 {
    // SAFETY: the size is not 0.
    black_box(unsafe { alloc(layout(size)) } as u64)
}

/// Gives a block another size: where it is then.
#[export]
fn resize(address: u64, before: usize, size: usize) -> u64 {
    // SAFETY: the test passes a block that it has got, with its size.
    black_box(unsafe { realloc(address as *mut u8, layout(before), size) } as u64)
}

#[export]
fn release(address: u64, size: usize) {
    // SAFETY: the test passes a block that it has got, with its size.
    unsafe { dealloc(address as *mut u8, layout(size)) }
}

/// Allocates so many blocks of this size, and frees each at once.
#[export]
fn churn(rounds: u32, size: usize) {
    for _ in 0..rounds {
        release(block(size), size);
    }
}

/// The same, from this many calls deep, by the program's allocator or by the one below it.
#[export]
fn churn_below(depth: u32, rounds: u32, size: usize, is_reported: bool) {
    match depth {
        0 if is_reported => churn_in(&Global, rounds, size),
        0 => churn_in(&System, rounds, size),
        _ => descend_and_churn(depth, rounds, size, is_reported),
    }
}

#[inline(never)]
fn descend_and_churn(depth: u32, rounds: u32, size: usize, is_reported: bool) {
    churn_below(black_box(depth - 1), rounds, size, is_reported);
    black_box(());
}

#[inline(never)]
fn churn_in(allocator: &impl GlobalAlloc, rounds: u32, size: usize) {
    for _ in 0..rounds {
        // SAFETY: the size is not 0, and the block is freed with its layout.
        unsafe { allocator.dealloc(black_box(allocator.alloc(layout(size))), layout(size)) };
    }
}

/// The program's allocator.
struct Global;

// SAFETY: passes everything on.
unsafe impl GlobalAlloc for Global {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { dealloc(block, layout) }
    }
}

/// The same as `churn`, and prints a line for each.
#[export]
fn churn_and_print(rounds: u32, size: usize) {
    for round in 0..rounds {
        release(block(size), size);
        println!("{round}");
    }
}

/// Keeps what it allocates until all memory is taken.
#[export]
fn take_all_memory(size: usize) {
    loop {
        let address = block(size);
        assert!(address != 0, "no memory is left");
        // SAFETY: the block has that many bytes.
        unsafe { std::ptr::write_bytes(address as *mut u8, 1, size) };
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("the test asks for sizes that there are")
}

/// Keeps a block that it has prepared before the first call.
fn prepare() {
    prepared_block();
}

#[inline(never)]
fn prepared_block() {
    black_box(block(PREPARED));
}

#[export]
fn spin() {
    loop {
        black_box(());
    }
}

ampoule_guest::main!(prepare);

/// Bytes of the block that is prepared.
const PREPARED: usize = 12_345;

/// Steps that take some tens of microseconds.
const UNIT: u32 = 10_000;
