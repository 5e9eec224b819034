//! How often one system call of a guest makes the host call its own kernel.
//!
//! A filter makes each `madvise` and `mprotect` of a thread arrive as a signal, whose handler counts it and makes the call.

use std::cell::Cell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;

use ampoule::Sandbox;
use ampoule_tests::memory_builder;

/// A call of the guest's on memory of this size costs at most this many: one for each of 64 pieces, and two for the span of
/// many.
const MOST: u64 = 64 + 2;

/// The same where each piece can lie partly in one of 96 extents of the snapshot.
const MOST_OF_A_SNAPSHOT: u64 = 512;

const ONE: u64 = 0x1_0000_0000;
const OTHER: u64 = 0x2_0000_0000;

#[test]
fn memory_in_many_pieces_costs_no_more_calls_than_memory_in_few() {
    counting(|| {
        for (function, what) in [("unmap", "munmap"), ("discard", "madvise(MADV_DONTNEED)")] {
            for pieces in [8, 64, 65, 1000, 2000] {
                let mut sandbox = sandbox();
                sandbox.call::<()>("interleave", (ONE, OTHER, pieces as u64, true)).unwrap();
                let calls = calls_of(|| sandbox.call::<()>(function, (ONE, pieces as u64)).unwrap());
                assert!(calls <= MOST, "{what} of {pieces} pieces: {calls} calls of the host's kernel");
                assert_eq!(sandbox.call::<u64>("count_others", (OTHER, pieces as u64, 1_u8)).unwrap(), 0);
            }
        }
    });
}

#[test]
fn memory_of_a_snapshot_in_many_pieces_costs_a_bounded_number_of_calls_too() {
    counting(|| {
        const PIECES: u64 = 200;
        let mut origin = sandbox();
        origin.call::<()>("interleave", (ONE, OTHER, PIECES, true)).unwrap();
        let snapshot = origin.snapshot().unwrap();
        for (function, what) in [("unmap", "munmap"), ("discard", "madvise(MADV_DONTNEED)")] {
            for pieces in [1, 60, PIECES] {
                let mut spawned = snapshot.spawn().unwrap();
                let calls = calls_of(|| spawned.call::<()>(function, (ONE, pieces)).unwrap());
                assert!(calls <= MOST_OF_A_SNAPSHOT, "{what} of {pieces} pieces: {calls} calls of the host's kernel");
                assert_eq!(spawned.call::<u64>("count_others", (OTHER, PIECES, 1_u8)).unwrap(), 0);
                assert_eq!(
                    spawned.call::<u64>("count_others", (ONE + pieces * 4096, PIECES - pieces, 1_u8)).unwrap(),
                    0
                );
            }
        }
    });
}

#[test]
fn memory_that_is_mapped_and_unmapped_in_turn_costs_one_call_each_time() {
    counting(|| {
        let mut sandbox = sandbox();
        sandbox.call::<()>("map_two_pages_often", (4_u64,)).unwrap();
        let few = calls_of(|| sandbox.call::<()>("map_two_pages_often", (4_u64,)).unwrap());
        let many = calls_of(|| sandbox.call::<()>("map_two_pages_often", (104_u64,)).unwrap());
        assert_eq!(many - few, 100);
    });
}

#[test]
fn a_reset_after_memory_was_mapped_and_unmapped_makes_no_call() {
    counting(|| {
        let mut sandbox = sandbox();
        for _ in 0..2 {
            sandbox.call::<()>("map_and_unmap", (32_u64 << 20,)).unwrap();
            let calls = calls_of(|| sandbox.reset().unwrap());
            assert_eq!(calls, 0);
        }
    });
}

fn sandbox() -> Sandbox {
    memory_builder().memory_limit(64 << 20).build().expect("these tests need KVM")
}

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn calls_of(operation: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    operation();
    CALLS.get() - before
}

/// Does something on a thread whose calls are counted. The thread never ends, because the C library makes its last calls for
/// a thread where no handler can run.
fn counting(what: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    // KVM is opened, once for the process, with all signals blocked.
    drop(sandbox());
    keep_heaps();
    thread::spawn(move || {
        // Grows the heap of this thread, if that has less room than this.
        drop(std::array::from_fn::<_, 64, _>(|_| Vec::<u8>::with_capacity(32 << 10)));
        count_host_calls();
        done.send(panic::catch_unwind(AssertUnwindSafe(what))).expect("the test waits");
        loop {
            thread::park();
        }
    });
    if let Err(panic) = is_done.recv().expect("the thread does not end") {
        panic::resume_unwind(panic);
    }
}

/// Lets the C library's heaps grow by so much that they do so once, and never shrink: it grows those of threads by `mprotect`, and
/// gives their memory back by `madvise`.
fn keep_heaps() {
    for (parameter, bytes) in [(libc::M_TOP_PAD, 16 << 20), (libc::M_TRIM_THRESHOLD, 1 << 30)] {
        // SAFETY: both are parameters that take a number of bytes.
        assert_eq!(unsafe { libc::mallopt(parameter, bytes) }, 1);
    }
}

/// From now on, the calls of this thread are counted.
fn count_host_calls() {
    // SAFETY: the handler is a function of the kind that the flags announce, and does only what is allowed in a handler.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = make_and_count as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(installed, 0, "{}", io::Error::last_os_error());
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, k, jt, jf };
    let load = |at: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0);
    let equal = |k: u32, jt: u8, jf: u8| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, jt, jf);
    let answer = |k: u32| statement(libc::BPF_RET | libc::BPF_K, k, 0, 0);
    let mut filter = [
        load(NUMBER),
        equal(libc::SYS_madvise as u32, 1, 0),
        equal(libc::SYS_mprotect as u32, 0, 2),
        load(LAST_ARGUMENT),
        equal(MARK as u32, 0, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_TRAP),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is as long as it says and lives during the calls, which concern only this thread.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        ]
    };
    assert_eq!(results, [0, 0], "{}", io::Error::last_os_error());
}

/// Makes the call that the filter has held back, with the mark that makes the filter let it pass.
extern "C" fn make_and_count(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    CALLS.set(CALLS.get() + 1);
    // SAFETY: the kernel passes the interrupted registers, which nobody else touches during the handler.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let register = |index: libc::c_int| registers[index as usize];
    let (number, at, len, how) =
        (register(libc::REG_RAX), register(libc::REG_RDI), register(libc::REG_RSI), register(libc::REG_RDX));
    let result: i64;
    // SAFETY: it is the call that was to be made; neither `madvise` nor `mprotect` looks at arguments beyond its third.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") at, in("rsi") len, in("rdx") how, in("r9") MARK,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    registers[libc::REG_RAX as usize] = result;
}

/// In the last argument of a call that the handler makes.
const MARK: u64 = 0xa1b2_c3d4;

// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const LAST_ARGUMENT: u32 = 16 + 5 * 8;
