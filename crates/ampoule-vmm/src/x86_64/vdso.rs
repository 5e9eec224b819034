//! Code with which a guest reads its clocks without leaving: the functions of a virtual dynamic shared object, and the page
//! from which they read.
//!
//! The processor counts, and the host writes into a [`TimePage`] how to come from that count to the time of each clock. The
//! code applies this, and where the page does not say it, or not any more, it makes the system call that the function stands
//! for. So the code is never wrong, only slower at times.
//!
//! Only the host writes the page, and only while the guest stands still; the guest can read it. What has to be the same on
//! both sides is checked by executing the code on the host.

use std::arch::global_asm;
use std::ptr;
use std::slice;

use crate::address::GuestVirt;

/// How many clocks a [`TimePage`] has room for: their numbers are below this.
pub const CLOCKS: usize = 12;

/// The clock whose time `gettimeofday` and `time` give.
pub const TIME_OF_DAY: usize = 0;

/// The kernel's name for a clock source that is this processor's counter.
pub(crate) const CLOCK_SOURCE: &str = "tsc";

/// What the code reads. A time is in nanoseconds, and wraps at 2^64.
///
/// The time of a clock is `floor`, or if that is later, `base` and what has passed since; and its offset is added to that.
/// What has passed is `multiplier` times the ticks since `counter`, divided by 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TimePage {
    /// Differs from what it was before whenever anything else does, so that a reader who was stopped in the middle begins
    /// again.
    pub sequence: u64,
    /// One bit for each clock whose time stands here, by its number. The host is asked for all others.
    pub clocks: u64,
    /// The processor's count at `base`. One that is somewhat lower is taken for this.
    pub counter: u64,
    /// How many ticks from `counter` on the page is good for.
    pub ticks: u64,
    /// The length of a tick in nanoseconds, times 2^32. Where it is 0 the clocks stand, and nobody looks at the count.
    pub multiplier: u64,
    /// The time at `counter`.
    pub base: u64,
    /// The least time.
    pub floor: u64,
    /// What is added for each clock, by its number.
    pub offsets: [u64; CLOCKS],
}

impl TimePage {
    /// Bytes of the page that are used.
    pub const LEN: usize = size_of::<u64>() * WORDS;

    /// The page as it stands in memory, at a multiple of 8.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let Self { sequence, clocks, counter, ticks, multiplier, base, floor, offsets } = *self;
        let words = [sequence, clocks, counter, ticks, multiplier, base, floor].into_iter().chain(offsets);
        let mut bytes = [0; Self::LEN];
        for (place, word) in bytes.chunks_exact_mut(size_of::<u64>()).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The time without the offset of a clock, when the processor has counted to `counter`; `None` where the page does not
    /// say it any more.
    pub fn elapsed_to(&self, counter: u64) -> Option<u64> {
        let mut passed = 0;
        if self.multiplier != 0 {
            let ticks = counter.wrapping_sub(self.counter);
            passed = if (ticks as i64) >= 0 {
                (ticks <= self.ticks).then(|| nanoseconds(ticks, self.multiplier))?
            } else {
                ((ticks.wrapping_add(self.ticks) as i64) >= 0).then_some(0)?
            };
        }
        Some(self.base.wrapping_add(passed).max(self.floor))
    }
}

/// So many ticks, by a [`TimePage`]'s multiplier.
pub fn nanoseconds(ticks: u64, multiplier: u64) -> u64 {
    ((u128::from(ticks) * u128::from(multiplier)) >> 32) as u64
}

/// The processor's counter, as the host reads it. Where guests read it too
/// ([`Behaviour::shares_counter`](crate::Behaviour::shares_counter)), they find the same count, or one that is lower by what
/// it takes to set it.
pub fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, which has no effect but its result.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The system calls that the code makes where it cannot answer, by their numbers, and what it knows without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Of `clock_gettime`.
    pub clock_gettime: u32,
    /// Of `gettimeofday`.
    pub gettimeofday: u32,
    /// Of `time`.
    pub time: u32,
    /// Of `clock_getres`.
    pub clock_getres: u32,
    /// The resolution of each clock, in nanoseconds, for those whose time stands in the [`TimePage`].
    pub resolutions: [u32; CLOCKS],
}

/// The functions, in the order in which they lie in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `int clock_gettime(clockid_t, struct timespec *)`
    ClockGettime,
    /// `int gettimeofday(struct timeval *, struct timezone *)`
    Gettimeofday,
    /// `time_t time(time_t *)`
    Time,
    /// `int clock_getres(clockid_t, struct timespec *)`
    ClockGetres,
    /// `int getcpu(unsigned *, unsigned *, void *)`: processor 0 of node 0.
    Getcpu,
}

/// Position-independent code, for any multiple of 16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    bytes: Vec<u8>,
}

impl Code {
    /// Code that reads the [`TimePage`] at `page`.
    pub fn new(page: GuestVirt, fallback: &Fallback) -> Code {
        let mut bytes = template().to_vec();
        let Fallback { clock_gettime, gettimeofday, time, clock_getres, resolutions } = *fallback;
        bytes[..NUMBERS].copy_from_slice(&page.0.to_le_bytes());
        let words = [clock_gettime, gettimeofday, time, clock_getres].into_iter().chain(resolutions);
        for (place, word) in bytes[NUMBERS..ENTRIES].chunks_exact_mut(size_of::<u32>()).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Code { bytes }
    }

    /// The bytes, all of which are to be executable.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where in the bytes a function begins, and how many it has.
    pub fn function(&self, function: Function) -> (usize, usize) {
        let word = |index: usize| {
            let at = ENTRIES + index * size_of::<u32>();
            let word = self.bytes[at..at + size_of::<u32>()].try_into().expect("a word has four bytes");
            u32::from_le_bytes(word) as usize
        };
        let first = function as usize;
        (word(first), word(first + 1) - word(first))
    }
}

/// The code as it was assembled, with zeros for what [`Code::new`] fills in.
fn template() -> &'static [u8] {
    let (start, end) = (&raw const ampoule_vdso_start, &raw const ampoule_vdso_end);
    // SAFETY: the two symbols are the bounds of one run of read-only bytes in this program, defined below, which stay as
    // they are as long as the program runs.
    unsafe { slice::from_raw_parts(start.cast(), ptr::addr_of!(*end).addr() - start.addr()) }
}

unsafe extern "C" {
    static ampoule_vdso_start: [u8; 0];
    static ampoule_vdso_end: [u8; 0];
}

// Arguments, results and the registers that a function may change are those of the System V ABI for x86-64, section 3.2.3; a
// system call takes its arguments where these functions have them.
global_asm!(
    r#"
    .pushsection .rodata.ampoule_vdso, "a", @progbits
    .balign 16
    .hidden ampoule_vdso_start
    .globl ampoule_vdso_start
ampoule_vdso_start:
.Lampoule_vdso_page:
    .quad 0
.Lampoule_vdso_numbers:
    .long 0, 0, 0, 0
.Lampoule_vdso_resolutions:
    .fill {clocks}, 4, 0
    .long .Lampoule_vdso_clock_gettime - .Lampoule_vdso_page
    .long .Lampoule_vdso_gettimeofday - .Lampoule_vdso_page
    .long .Lampoule_vdso_time - .Lampoule_vdso_page
    .long .Lampoule_vdso_clock_getres - .Lampoule_vdso_page
    .long .Lampoule_vdso_getcpu - .Lampoule_vdso_page
    .long .Lampoule_vdso_read - .Lampoule_vdso_page

    .balign 16, 0xcc
.Lampoule_vdso_clock_gettime:
    mov ecx, edi
    call .Lampoule_vdso_read
    jc 2f
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov [rsi], rax
    mov [rsi + 8], rdx
    xor eax, eax
    ret
2:  mov eax, dword ptr [rip + .Lampoule_vdso_numbers]
    syscall
    ret

    .balign 16, 0xcc
.Lampoule_vdso_gettimeofday:
    test rdi, rdi
    jz 3f
    mov ecx, {time_of_day}
    call .Lampoule_vdso_read
    jc 2f
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov [rdi], rax
    mov eax, edx
    xor edx, edx
    mov ecx, 1000
    div ecx
    mov [rdi + 8], rax
3:  test rsi, rsi
    jz 4f
    mov qword ptr [rsi], 0
4:  xor eax, eax
    ret
2:  mov eax, dword ptr [rip + .Lampoule_vdso_numbers + 4]
    syscall
    ret

    .balign 16, 0xcc
.Lampoule_vdso_time:
    mov ecx, {time_of_day}
    call .Lampoule_vdso_read
    jc 2f
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    test rdi, rdi
    jz 3f
    mov [rdi], rax
3:  ret
2:  mov eax, dword ptr [rip + .Lampoule_vdso_numbers + 8]
    syscall
    ret

    .balign 16, 0xcc
.Lampoule_vdso_clock_getres:
    mov ecx, edi
    cmp ecx, {clocks}
    jae 2f
    mov r8, [rip + .Lampoule_vdso_page]
    mov rax, [r8 + {at_clocks}]
    bt rax, rcx
    jnc 2f
    test rsi, rsi
    jz 3f
    lea rdx, [rip + .Lampoule_vdso_resolutions]
    mov eax, dword ptr [rdx + 4 * rcx]
    mov qword ptr [rsi], 0
    mov [rsi + 8], rax
3:  xor eax, eax
    ret
2:  mov eax, dword ptr [rip + .Lampoule_vdso_numbers + 12]
    syscall
    ret

    .balign 16, 0xcc
.Lampoule_vdso_getcpu:
    xor eax, eax
    test rdi, rdi
    jz 2f
    mov dword ptr [rdi], eax
2:  test rsi, rsi
    jz 3f
    mov dword ptr [rsi], eax
3:  ret

    # The time of the clock ECX in RAX, or the carry flag where the page does not say it. Changes RDX and R8 to R10.
    .balign 16, 0xcc
.Lampoule_vdso_read:
    cmp ecx, {clocks}
    jae 4f
    mov r8, [rip + .Lampoule_vdso_page]
2:  mov r9, [r8 + {at_sequence}]
    mov rax, [r8 + {at_clocks}]
    bt rax, rcx
    jnc 4f
    xor eax, eax
    mov r10, [r8 + {at_multiplier}]
    test r10, r10
    jz 3f
    # The count is not to be read before the page.
    lfence
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, [r8 + {at_counter}]
    jns 5f
    add rax, [r8 + {at_ticks}]
    js 4f
    xor eax, eax
5:  cmp rax, [r8 + {at_ticks}]
    ja 4f
    mul r10
    shrd rax, rdx, 32
3:  add rax, [r8 + {at_base}]
    mov rdx, [r8 + {at_floor}]
    cmp rax, rdx
    cmovb rax, rdx
    add rax, [r8 + 8 * rcx + {at_offsets}]
    cmp r9, [r8 + {at_sequence}]
    jne 2b
    clc
    ret
4:  stc
    ret
    .hidden ampoule_vdso_end
    .globl ampoule_vdso_end
ampoule_vdso_end:
    .popsection
    "#,
    clocks = const CLOCKS,
    time_of_day = const TIME_OF_DAY,
    at_sequence = const 0,
    at_clocks = const 8,
    at_counter = const 16,
    at_ticks = const 24,
    at_multiplier = const 32,
    at_base = const 40,
    at_floor = const 48,
    at_offsets = const 56,
);

/// The words of a [`TimePage`].
const WORDS: usize = 7 + CLOCKS;

// Offsets in the code's bytes: the address of the page stands first.
const NUMBERS: usize = 8;
const ENTRIES: usize = NUMBERS + size_of::<u32>() * (4 + CLOCKS);

#[cfg(test)]
mod tests;
