//! The test's own stack, seen through its own executable, must look as the standard library sees it.

use std::arch::asm;
use std::fs::{self, File};
use std::hint::black_box;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;

use object::LittleEndian as LE;
use object::elf::FileHeader64;

use crate::{Backtrace, Frame, Memory, Registers, Symbols};

#[test]
fn callers_are_named_as_the_standard_library_names_them() {
    let (ours, theirs) = outermost();
    let ours: Vec<_> = ours.frames().iter().skip_while(|frame| !function(frame).ends_with("::innermost")).collect();
    let theirs: Vec<_> = theirs.iter().skip_while(|(name, _)| !name.ends_with("innermost")).collect();

    let in_program = ours[1..].iter().take_while(|frame| frame.place.is_some());
    let mut names = Vec::new();
    for (ours, (name, line)) in in_program.zip(&theirs[1..]) {
        names.push(name.rsplit("::").next().unwrap_or_default());
        // With line tables only, the standard library has but the last part of a name.
        let is_same = function(ours) == name || !short(name).contains("::") && function(ours).contains(short(name));
        assert!(is_same, "{} {name}", function(ours));
        let at = ours.file.as_ref().zip(ours.line).map(|(file, line)| format!("{file}:{line}"));
        assert!(is_same_line(at.as_deref().unwrap_or_default(), line), "{name}: {at:?} {line}");
    }
    // Up to the start of the thread, through code that was compiled without frame pointers.
    assert_eq!(names[..3], ["inlined", "middle", "outermost"]);
    assert!(names.len() > 10, "{names:?}");
}

#[test]
fn what_was_inlined_has_a_frame_of_its_own() {
    let (backtrace, _) = outermost();
    let frames = backtrace.frames();
    let inlined = frames.iter().position(|frame| function(frame).ends_with("inlined")).expect("there is such a frame");
    assert!(frames[inlined].inlined && !frames[inlined + 1].inlined);
    assert_eq!(frames[inlined].address, frames[inlined + 1].address);
    assert!(function(&frames[inlined + 1]).ends_with("::middle"));
}

#[test]
fn the_instructions_of_many_stacks_have_the_names_that_those_of_one_have() {
    let (one, many) = with_own_stack(|symbols, registers, memory| {
        let stack = symbols.walk(registers, memory, 64);
        let instructions: Vec<u64> = stack.instructions().collect();
        assert_eq!(instructions[0], registers.rip);
        assert!(instructions[1..].iter().zip(&stack.frames[1..]).all(|(within, frame)| within + 1 == frame.address));
        // More than are looked up at once, in no order, most of them no code.
        let strange = (0..2000).map(|address| address * 0x1_0001);
        let many: Vec<u64> = instructions.iter().rev().copied().chain(strange).collect();
        (symbols.name(&stack), symbols.name_instructions(&many))
    });
    let calls = many[..].iter().rev().skip(2000).flatten();
    let text = |frame: &Frame| (frame.function.clone(), frame.file.clone(), frame.line, frame.inlined);
    assert_eq!(calls.map(text).collect::<Vec<_>>(), one.frames().iter().map(text).collect::<Vec<_>>());
    assert!(many.iter().all(|frames| !frames.is_empty()));
}

#[test]
fn the_walk_stops_at_the_limit() {
    let walk = |limit| with_own_stack(|symbols, registers, memory| symbols.walk(registers, memory, limit));
    let (all, some) = (walk(64), walk(3));
    assert!(!all.truncated);
    assert!(some.truncated);
    assert_eq!(some.frames.len(), 3);
}

/// This stack as we see it, and as the standard library does: names, and what it prints below them.
#[inline(never)]
fn outermost() -> (Backtrace, Vec<(String, String)>) {
    black_box(middle())
}

#[inline(never)]
fn middle() -> (Backtrace, Vec<(String, String)>) {
    black_box(inlined())
}

#[inline(always)]
fn inlined() -> (Backtrace, Vec<(String, String)>) {
    black_box(innermost())
}

#[inline(never)]
fn innermost() -> (Backtrace, Vec<(String, String)>) {
    let theirs = std::backtrace::Backtrace::force_capture().to_string();
    let ours = with_own_stack(|symbols, registers, memory| symbols.name(&symbols.walk(registers, memory, 64)));
    let mut frames: Vec<(String, String)> = Vec::new();
    for line in theirs.lines() {
        match (line.split_once(": "), frames.last_mut()) {
            (None, Some((_, at))) => at.push_str(line.trim()),
            (Some((_, name)), _) => frames.push((name.to_string(), String::new())),
            (None, None) => {}
        }
    }
    (ours, frames)
}

/// Hands over this program's symbols, the registers as they are here, and a way to read this program's memory.
#[inline(always)]
fn with_own_stack<T>(look: impl FnOnce(&Symbols<'_>, &Registers, &mut Memory<'_>) -> T) -> T {
    let image = fs::read("/proc/self/exe").expect("a program can read itself");
    // SAFETY: it reads the auxiliary vector.
    let program_headers = unsafe { libc::getauxval(libc::AT_PHDR) };
    // They stand behind the file's header, and linkers load that first.
    let load_bias = program_headers - size_of::<FileHeader64<LE>>() as u64 - Symbols::new(&image, 0).elf.memory().start;

    let memory = File::open("/proc/self/mem").expect("a program can read its memory");
    let registers = registers();
    look(&Symbols::new(&image, load_bias), &registers, &mut |address, buffer| {
        memory.read_exact_at(buffer, address).is_ok()
    })
}

/// The registers of the function that this is inlined into.
#[inline(always)]
pub(super) fn registers() -> Registers {
    let mut registers = Registers::default();
    // SAFETY: it writes to fields of the registers, which are borrowed for it, and to RAX.
    unsafe {
        asm!(
            "mov [rcx + {rbx}], rbx", "mov [rcx + {rbp}], rbp", "mov [rcx + {rsp}], rsp",
            "mov [rcx + {r12}], r12", "mov [rcx + {r13}], r13", "mov [rcx + {r14}], r14", "mov [rcx + {r15}], r15",
            "lea rax, [rip]", "mov [rcx + {rip}], rax",
            in("rcx") &raw mut registers,
            out("rax") _,
            rbx = const offset_of!(Registers, rbx), rbp = const offset_of!(Registers, rbp), rsp = const offset_of!(Registers, rsp),
            r12 = const offset_of!(Registers, r12), r13 = const offset_of!(Registers, r13), r14 = const offset_of!(Registers, r14),
            r15 = const offset_of!(Registers, r15), rip = const offset_of!(Registers, rip),
            options(nostack, preserves_flags),
        );
    }
    registers
}

/// The standard library has a column as well, and directories that differ.
fn is_same_line(ours: &str, theirs: &str) -> bool {
    let theirs = theirs.trim_start_matches("at ").trim_start_matches("./");
    let theirs = theirs.rsplit_once(':').map_or(theirs, |(line, _)| line);
    ours.is_empty() == theirs.is_empty() && (ours.ends_with(theirs) || theirs.ends_with(ours))
}

/// Without type arguments.
fn short(name: &str) -> &str {
    name.split('<').next().unwrap_or(name)
}

fn function(frame: &Frame) -> &str {
    frame.function.as_deref().unwrap_or_default()
}
