//! Guest code, written in assembly and taken as bytes.

/// Assembles lines (string literals) into position-independent bytes for a guest. In this process they are data, never
/// executed.
///
/// Labels are numbers below 90. `[0x400ff8]` is [`DOORBELL_POINTER`](crate::guest::DOORBELL_POINTER).
macro_rules! assemble {
    ($($line:literal),+ $(,)?) => {{
        let (start, end): (*const u8, *const u8);
        // SAFETY: executes two `lea`, which only load the addresses of the two labels.
        unsafe {
            std::arch::asm!(
                ".pushsection .rodata",
                "90:",
                $($line,)+
                "91:",
                ".popsection",
                "lea {start}, [rip + 90b]",
                "lea {end}, [rip + 91b]",
                start = out(reg) start,
                end = out(reg) end,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        // SAFETY: the labels enclose bytes in read-only data that live as long as the program.
        let code: &'static [u8] = unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) };
        code
    }};
}

pub(crate) use assemble;
