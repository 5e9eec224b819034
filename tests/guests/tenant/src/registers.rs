//! All registers that ring 3 can write, loaded before the guest rings and stored afterwards: the doorbell is rung by hand,
//! with no other instruction in between.

use std::arch::{asm, naked_asm};

use ampoule_abi::layout::{GuestMessageKind, MESSAGE_LEN, MessageLine};
use ampoule_guest::export;

use crate::info_page;

/// Executes one instruction of a kind that processors may not have.
#[export]
fn probe(level: u8) {
    // SAFETY: changes registers that it names. An instruction that does not exist ends the guest.
    unsafe {
        match level {
            AVX => asm!("vpxor ymm0, ymm0, ymm0", out("xmm0") _),
            AVX512 => asm!("vpxord zmm0, zmm0, zmm0", "kxorw k1, k1, k1", out("xmm0") _, out("k1") _),
            _ => {}
        }
    }
}

/// Answers this call, and every later one, with what the registers held when the doorbell returned with the call; and rings
/// with values in them that are made of `value`. The answer to the first call is empty. `level` says which vector registers
/// there are, and whether the guest faults or spins with these values instead of ringing. From the first call on, no other
/// function can be called.
#[export]
fn exchange_registers(value: u64, level: u8) -> Vec<u64> {
    let info = info_page();
    let (mut value, mut level) = (value, level);
    let mut stored: Box<Registers> = Box::default();
    let mut words: &[u64] = &[];
    loop {
        // SAFETY: the areas are the mailbox's, which nobody else uses, since this function never returns; the message is one
        // that the host expects.
        unsafe {
            let host_line: MessageLine = std::ptr::read_volatile(info.host_line as *const MessageLine);
            let outbound = info.outbound as *mut u32;
            outbound.write_unaligned(words.len() as u32);
            std::ptr::copy_nonoverlapping(words.as_ptr().cast::<u8>(), outbound.add(1).cast(), words.len() * 8);
            let line = MessageLine {
                sequence: host_line.sequence,
                kind: GuestMessageKind::Return as u32,
                length: 4 + words.len() as u32 * 8,
                ..MessageLine::default()
            };
            std::ptr::write_volatile(info.guest_line as *mut [u8; MESSAGE_LEN], line.to_bytes());
            let leave_by = match level & !LEVELS {
                FAULT => fault as *const () as u64,
                SPIN => spin as *const () as u64,
                _ => info.entry,
            };
            exchange(&Registers::made_of(value), &mut *stored, leave_by, u64::from(level & LEVELS));
            let arguments = info.inbound as *const u8;
            value = arguments.cast::<u64>().read_unaligned();
            level = arguments.add(8).read();
            words = std::slice::from_raw_parts((&raw const *stored).cast(), size_of::<Registers>() / 8);
        }
    }
}

/// What registers hold.
#[repr(C, align(64))]
struct Registers {
    /// RBX, RBP, R12 to R15, RCX, RDX, RSI, RDI, R8 to R11, RAX.
    general: [u64; 15],
    flags: u64,
    /// DS, ES, FS, GS.
    selectors: [u64; 4],
    fs_base: u64,
    gs_base: u64,
    _unused: [u64; 2],
    /// As `fxsave64` stores them: x87, MXCSR, the lower 16 bytes of the vector registers.
    fx: [u64; 64],
    ymm: [[u64; 4]; 16],
    zmm: [[u64; 8]; 32],
    opmasks: [u64; 8],
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            general: [0; 15],
            flags: 0,
            selectors: [0; 4],
            fs_base: 0,
            gs_base: 0,
            _unused: [0; 2],
            fx: [0; 64],
            ymm: [[0; 4]; 16],
            zmm: [[0; 8]; 32],
            opmasks: [0; 8],
        }
    }
}

impl Registers {
    /// Everything that can hold any value holds this one; the rest depends on its lowest bit.
    fn made_of(value: u64) -> Self {
        let odd = value & 1;
        let selector = if odd == 1 { USER_CODE } else { NULL };
        let mut fx = [value; 64];
        // The x87 control word and its status, the register tags, and the last instruction's opcode; its address; its operand's.
        fx[0] = if odd == 1 { 0x00ff_3800_0b7f } else { 0x00ff_2000_077f };
        fx[1] = value & 0x7fff_ffff_ffff;
        fx[2] = value >> 1 & 0x7fff_ffff_ffff;
        // MXCSR: all exceptions masked, and a different rounding for each value.
        fx[3] = if odd == 1 { 0x3f80 } else { 0x5f80 };
        for register in fx[4..20].chunks_exact_mut(2) {
            register[1] = value & 0x7fff;
        }
        Self {
            general: [value; 15],
            flags: if odd == 1 { 0x0020_0202 | 0x8d5 } else { 0x0000_0602 },
            selectors: [selector; 4],
            fs_base: value & 0x3fff_ffff_ffff,
            gs_base: value >> 1 & 0x3fff_ffff_ffff,
            _unused: [0; 2],
            fx,
            ymm: [[value; 4]; 16],
            zmm: [[value; 8]; 32],
            opmasks: [value & 0xffff; 8],
        }
    }
}

/// Loads all registers, rings, and stores them.
///
/// # Safety
///
/// The host expects the message in the guest's line, and `entry` is its doorbell. The processor has the vector registers of
/// `level`.
#[unsafe(naked)]
unsafe extern "C" fn exchange(load: *const Registers, store: *mut Registers, entry: u64, level: u64) {
    naked_asm!(
        "push rbx; push rbp; push r12; push r13; push r14; push r15",
        // The thread's control block begins with its own address.
        "push qword ptr fs:[0]",
        "push rsi; push rcx; push rdx; sub rsp, 8",
        "mov r15, rdi",
        "fxrstor64 [r15 + 192]",
        "cmp ecx, 1; jb 3f; je 2f",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "vmovdqu64 zmm\\n, [r15 + 1216 + 64 * \\n]",
        ".endr",
        ".irp n, 0,1,2,3,4,5,6,7",
        "kmovw k\\n, [r15 + 3264 + 8 * \\n]",
        ".endr",
        "jmp 3f",
        "2:",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vmovups ymm\\n, [r15 + 704 + 32 * \\n]",
        ".endr",
        "3:",
        "mov ds, word ptr [r15 + 128]; mov es, word ptr [r15 + 136]; mov fs, word ptr [r15 + 144]; mov gs, word ptr [r15 + 152]",
        "mov eax, 158; mov edi, 0x1002; mov rsi, [r15 + 160]; syscall",
        "mov eax, 158; mov edi, 0x1001; mov rsi, [r15 + 168]; syscall",
        "push qword ptr [r15 + 120]; popfq",
        "mov rbx, [r15]; mov rbp, [r15 + 8]; mov r12, [r15 + 16]; mov r13, [r15 + 24]; mov r14, [r15 + 32]",
        "mov rcx, [r15 + 48]; mov rdx, [r15 + 56]; mov rsi, [r15 + 64]; mov rdi, [r15 + 72]",
        "mov r8, [r15 + 80]; mov r9, [r15 + 88]; mov r10, [r15 + 96]; mov r11, [r15 + 104]; mov rax, [r15 + 112]",
        "mov r15, [r15 + 40]",
        "call [rsp + 8]",
        "pushfq",
        "push rax",
        "mov rax, [rsp + 40]",
        "mov [rax], rbx; mov [rax + 8], rbp; mov [rax + 16], r12; mov [rax + 24], r13; mov [rax + 32], r14",
        "mov [rax + 40], r15; mov [rax + 48], rcx; mov [rax + 56], rdx; mov [rax + 64], rsi; mov [rax + 72], rdi",
        "mov [rax + 80], r8; mov [rax + 88], r9; mov [rax + 96], r10; mov [rax + 104], r11",
        "mov r15, rax",
        "pop [r15 + 112]",
        "pop [r15 + 120]",
        "cld",
        "xor eax, eax",
        "mov ax, ds; mov [r15 + 128], rax; mov ax, es; mov [r15 + 136], rax",
        "mov ax, fs; mov [r15 + 144], rax; mov ax, gs; mov [r15 + 152], rax",
        "fxsave64 [r15 + 192]",
        "mov rcx, [rsp + 16]",
        "cmp ecx, 1; jb 3f; je 2f",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "vmovdqu64 [r15 + 1216 + 64 * \\n], zmm\\n",
        ".endr",
        ".irp n, 0,1,2,3,4,5,6,7",
        "kmovw [r15 + 3264 + 8 * \\n], k\\n",
        ".endr",
        "2:",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vmovups [r15 + 704 + 32 * \\n], ymm\\n",
        ".endr",
        "vzeroupper",
        "3:",
        "fninit",
        "push 0x1f80; ldmxcsr [rsp]; pop rax",
        "mov eax, 158; mov edi, 0x1003; lea rsi, [r15 + 160]; syscall",
        "mov eax, 158; mov edi, 0x1004; lea rsi, [r15 + 168]; syscall",
        "mov eax, 158; mov edi, 0x1002; mov rsi, [rsp + 32]; syscall",
        "add rsp, 40",
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
        "ret"
    )
}

#[unsafe(naked)]
extern "C" fn fault() {
    naked_asm!("ud2")
}

#[unsafe(naked)]
extern "C" fn spin() {
    naked_asm!("2: jmp 2b")
}

const AVX: u8 = 1;
const AVX512: u8 = 2;
const LEVELS: u8 = 3;

/// What can be added to a level.
const FAULT: u8 = 4;
const SPIN: u8 = 8;

/// Selectors that ring 3 may load: the user's code segment, and none.
const USER_CODE: u64 = 0x33;
const NULL: u64 = 0;
