//! The command line's own guest: two functions, `add(u32, u32) -> u32` and `spin()`, which never returns. With it a machine is
//! tried out and measured without a guest of anybody's.

use std::slice;

/// Its image.
pub(crate) fn image() -> &'static [u8] {
    let (start, end) = (&raw const AMPOULE_GUEST_IMAGE, &raw const AMPOULE_GUEST_END);
    // SAFETY: the two symbols are the beginning and the end of one block of constant bytes in the assembly below, which is part
    // of the program.
    unsafe { slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

unsafe extern "C" {
    static AMPOULE_GUEST_IMAGE: u8;
    static AMPOULE_GUEST_END: u8;
}

// An ELF executable of one segment, as docs/abi.md wants it: headers, the records of `add` and `spin`, and code. It takes the
// host's messages in turn. A call of `spin` never returns; any other is `add`, which returns the sum of two numbers.
std::arch::global_asm!(
    r#"
    .pushsection .rodata.ampoule_guest, "a", @progbits
    .balign 8
    .globl AMPOULE_GUEST_IMAGE
    .globl AMPOULE_GUEST_END

AMPOULE_GUEST_IMAGE:
    .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0
    .zero 8
    .short 2, 62                                  // ET_EXEC, EM_X86_64
    .long 1
    .quad 0x400000 + .Lentry - AMPOULE_GUEST_IMAGE
    .quad .Lsegments - AMPOULE_GUEST_IMAGE
    .quad .Lsections - AMPOULE_GUEST_IMAGE
    .long 0
    .short 64, 56, 2, 64, 3, 2                    // sizes and counts of headers; the names are section 2
.Lsegments:
    .long 1, 5                                    // PT_LOAD, readable and executable
    .quad 0, 0x400000, 0x400000
    .quad .Lsections - AMPOULE_GUEST_IMAGE, .Lsections - AMPOULE_GUEST_IMAGE, 0x1000
    .long 0x6474e551, 6                           // PT_GNU_STACK, readable and writable
    .quad 0, 0, 0, 0, 0, 16
.Lrecords:
    .long 32                                      // the version of the ABI: 1.0
    .short 1, 0
    .quad 1 << 32
    .long 0, 0
    .quad 0
.Ladd:
    .long 48
    .short 2, 0
    .quad 0
    .long 3, 19
    .ascii "addfn(u32, u32) -> u32"
    .zero 2
.Lspin:
    .long 32
    .short 2, 0
    .quad 0
    .long 4, 4
    .ascii "spinfn()"
.Lcode:
.Lentry:
    mov rsi, rsp
    lodsq                                         // the number of arguments
    lea rsi, [rsi + 8 * rax + 8]
2:  lodsq                                         // the environment
    test rax, rax
    jnz 2b
3:  lodsq                                         // the auxiliary vector
    mov rdx, rax
    lodsq
    cmp rdx, 0x414d5001                           // AT_AMPOULE
    jne 3b
    mov rbx, rax                                  // the info page
    mov rdi, [rbx + 32]                           // the guest's line
    xor eax, eax
    mov [rdi], rax
    mov qword ptr [rdi + 8], 1                    // ready
    mov [rdi + 16], rax
    mov [rdi + 24], rax
4:  call [rbx + 16]                               // the doorbell
    mov rsi, [rbx + 24]                           // the host's line
    cmp dword ptr [rsi + 12], 32 + 48             // the number of `spin`: where its record begins
    je 5f
    mov rax, [rsi]
    mov rdi, [rbx + 32]
    mov [rdi], rax                                // the call's number
    mov qword ptr [rdi + 8], 2                    // return
    mov qword ptr [rdi + 16], 4                   // done, with four bytes
    mov qword ptr [rdi + 24], 0
    mov rsi, [rbx + 40]                           // the arguments
    mov eax, [rsi]
    add eax, [rsi + 4]
    mov rdi, [rbx + 56]                           // the result
    mov [rdi], eax
    jmp 4b
5:  pause
    jmp 5b
    .balign 8
.Lsections:
    .zero 64
    .long 1, 1                                    // ampoule_fns, SHT_PROGBITS
    .quad 2, 0x400000 + .Lrecords - AMPOULE_GUEST_IMAGE
    .quad .Lrecords - AMPOULE_GUEST_IMAGE, .Lcode - .Lrecords
    .long 0, 0
    .quad 8, 0
    .long 13, 3                                   // .shstrtab, SHT_STRTAB
    .quad 0, 0
    .quad .Lnames - AMPOULE_GUEST_IMAGE, AMPOULE_GUEST_END - .Lnames
    .long 0, 0
    .quad 1, 0
.Lnames:
    .asciz "", "ampoule_fns", ".shstrtab"
AMPOULE_GUEST_END:
    .popsection
    "#
);

#[cfg(test)]
mod tests {
    use ampoule::Image;

    use super::*;

    #[test]
    fn the_guest_is_an_image_like_any_other() {
        let image = Image::from_bytes(image()).unwrap();
        let exports: Vec<String> = image.exports().map(|it| format!("{}{}", it.name(), it.signature())).collect();
        assert_eq!(exports, ["add(u32, u32) -> u32", "spin()"]);
    }
}
