//! The registers of user code as gdb transfers them, and the instruction that stops it.
//!
//! gdb is told which registers there are by a *target description*, and then reads and writes them all at once, in that order
//! ("Target Descriptions" and "Packets" in its manual). What it writes is checked, so that whoever debugs a guest gets no
//! further than the guest itself: flags that ring 3 cannot set keep their values, and addresses that no processor would take
//! are refused.

use std::fmt::Write;

use crate::processor::BadRegister;
use crate::x86_64::address_map::HOST_END;
use crate::x86_64::registers::{FpuState, Regs};
use crate::x86_64::shim::{GUEST_MAY_SET, TRAP_FLAG, USER_CODE, USER_DATA};

use super::context::UserContext;

/// The instruction that a debugger puts in place of another one to stop there: `int3`. It is reported behind itself.
pub(crate) const BREAKPOINT_INSTRUCTION: &[u8] = &[0xcc];

/// The exception by which it is reported.
pub(crate) const BREAKPOINT_VECTOR: u8 = 3;

/// What gdb is to know of the registers of guests that may use the state components `xcr0`.
pub(crate) fn target_description(xcr0: u64) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n\
         <architecture>i386:x86-64</architecture>\n<osabi>GNU/Linux</osabi>\n",
    );
    for feature in Feature::ALL.into_iter().filter(|feature| feature.exists(xcr0)) {
        write!(text, "<feature name=\"org.gnu.gdb.i386.{}\">\n{}", feature.name(), feature.types()).expect(INFALLIBLE);
        for (name, kind) in feature.registers() {
            let (bits, kind) = (8 * kind.bytes(), kind.gdb_name());
            writeln!(text, "<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\"/>").expect(INFALLIBLE);
        }
        text.push_str("</feature>\n");
    }
    text.push_str("</target>\n");
    text
}

/// All registers, in the order of the [description](target_description).
pub(crate) fn registers(context: &UserContext, xcr0: u64) -> Vec<u8> {
    let UserContext { regs, fs_base, gs_base, fpu, .. } = context;
    let mut bytes = Vec::new();
    for value in general(regs) {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend((regs.rflags as u32).to_le_bytes());
    for selector in [USER_CODE, USER_DATA, USER_DATA, USER_DATA, USER_DATA, USER_DATA] {
        bytes.extend(u32::from(selector).to_le_bytes());
    }
    let area = Area::of(fpu, xcr0);
    for index in 0..8 {
        bytes.extend(&area.bytes[ST + 16 * index..][..10]);
    }
    for value in area.x87_control() {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(&area.bytes[XMM..XMM + 256]);
    bytes.extend(&area.bytes[MXCSR..MXCSR + 4]);
    // No system call is to be made again: the register says that there is none.
    bytes.extend(u64::MAX.to_le_bytes());
    bytes.extend(fs_base.to_le_bytes());
    bytes.extend(gs_base.to_le_bytes());
    if Feature::Avx.exists(xcr0) {
        bytes.extend(&area.bytes[YMM_HIGH..YMM_HIGH + 256]);
    }
    bytes
}

/// Sets all registers, but for selectors and for what else ring 3 cannot set. Nothing has changed when this fails.
pub(crate) fn set_registers(context: &mut UserContext, xcr0: u64, bytes: &[u8]) -> Result<(), BadRegister> {
    let expected = registers(context, xcr0).len();
    if bytes.len() != expected {
        return Err(BadRegister::Size { expected, given: bytes.len() });
    }
    let mut from = Reader(bytes);
    let mut regs = context.regs;
    for register in general_mut(&mut regs) {
        *register = u64::from_le_bytes(from.take());
    }
    let settable = GUEST_MAY_SET & !TRAP_FLAG;
    regs.rflags = regs.rflags & !settable | u64::from(u32::from_le_bytes(from.take())) & settable;
    for _selector in 0..6 {
        from.take::<4>();
    }
    let mut area = Area::of(&context.fpu, xcr0);
    for index in 0..8 {
        area.bytes[ST + 16 * index..][..10].copy_from_slice(&from.take::<10>());
    }
    area.set_x87_control([(); 8].map(|()| u32::from_le_bytes(from.take())));
    area.bytes[XMM..XMM + 256].copy_from_slice(&from.take::<256>());
    area.set_mxcsr(u32::from_le_bytes(from.take()));
    let _system_call = from.take::<8>();
    let [fs_base, gs_base] = [(); 2].map(|()| u64::from_le_bytes(from.take()));
    if Feature::Avx.exists(xcr0) {
        area.bytes[YMM_HIGH..YMM_HIGH + 256].copy_from_slice(&from.take::<256>());
    }
    for (name, value) in [("rip", regs.rip), ("fs_base", fs_base), ("gs_base", gs_base)] {
        if value >= HOST_END.0 {
            return Err(BadRegister::Address { name, value });
        }
    }
    let UserContext { selectors, system_call, .. } = *context;
    *context = UserContext { regs, fs_base, gs_base, fpu: area.into_state(xcr0), selectors, system_call, xcr0 };
    Ok(())
}

/// A part of the registers that gdb knows by name ("i386 Features" in its manual).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feature {
    Core,
    Sse,
    Linux,
    Segments,
    Avx,
}

impl Feature {
    const ALL: [Feature; 5] = [Feature::Core, Feature::Sse, Feature::Linux, Feature::Segments, Feature::Avx];

    fn exists(self, xcr0: u64) -> bool {
        self != Feature::Avx || xcr0 & AVX != 0
    }

    fn name(self) -> &'static str {
        match self {
            Feature::Core => "core",
            Feature::Sse => "sse",
            Feature::Linux => "linux",
            Feature::Segments => "segments",
            Feature::Avx => "avx",
        }
    }

    /// The types of registers that gdb does not know by itself.
    fn types(self) -> String {
        match self {
            Feature::Core => flags("i386_eflags", &FLAGS),
            Feature::Sse => Self::vector_types() + &flags("i386_mxcsr", &MXCSR_FLAGS),
            Feature::Linux | Feature::Segments | Feature::Avx => String::new(),
        }
    }

    /// How the contents of a vector register can be looked at.
    fn vector_types() -> String {
        let views = [
            ("v4_float", "v4f", "ieee_single", 4),
            ("v2_double", "v2d", "ieee_double", 2),
            ("v16_int8", "v16i8", "int8", 16),
            ("v8_int16", "v8i16", "int16", 8),
            ("v4_int32", "v4i32", "int32", 4),
            ("v2_int64", "v2i64", "int64", 2),
        ];
        let mut text = String::new();
        for (_, id, element, count) in views {
            writeln!(text, "<vector id=\"{id}\" type=\"{element}\" count=\"{count}\"/>").expect(INFALLIBLE);
        }
        text.push_str("<union id=\"vec128\">\n");
        for (name, id, _, _) in views {
            writeln!(text, "<field name=\"{name}\" type=\"{id}\"/>").expect(INFALLIBLE);
        }
        text.push_str("<field name=\"uint128\" type=\"uint128\"/>\n</union>\n");
        text
    }

    fn registers(self) -> Vec<(String, Kind)> {
        let named = |names: &[&str], kind| names.iter().map(|name| ((*name).to_owned(), kind)).collect::<Vec<_>>();
        let numbered =
            |prefix, suffix, count, kind| (0..count).map(move |index| (format!("{prefix}{index}{suffix}"), kind));
        match self {
            Feature::Core => {
                let mut registers = named(&["rax", "rbx", "rcx", "rdx", "rsi", "rdi"], Kind::Int64);
                registers.extend(named(&["rbp", "rsp"], Kind::DataPointer));
                registers.extend((8..16).map(|index| (format!("r{index}"), Kind::Int64)));
                registers.extend(named(&["rip"], Kind::CodePointer));
                registers.extend(named(&["eflags"], Kind::Flags));
                registers.extend(named(&["cs", "ss", "ds", "es", "fs", "gs"], Kind::Int32));
                registers.extend(numbered("st", "", 8, Kind::X87));
                let control = ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"];
                registers.extend(named(&control, Kind::Int32));
                registers
            }
            Feature::Sse => {
                let vectors = numbered("xmm", "", 16, Kind::Vector);
                vectors.chain([("mxcsr".to_owned(), Kind::Mxcsr)]).collect()
            }
            Feature::Linux => named(&["orig_rax"], Kind::Int64),
            Feature::Segments => named(&["fs_base", "gs_base"], Kind::Int64),
            Feature::Avx => numbered("ymm", "h", 16, Kind::Uint128).collect(),
        }
    }
}

/// A type of 32 flags, of which these have names.
fn flags(id: &str, names: &[(&str, u8)]) -> String {
    let mut text = format!("<flags id=\"{id}\" size=\"4\">\n");
    for (name, bit) in names {
        writeln!(text, "<field name=\"{name}\" start=\"{bit}\" end=\"{bit}\"/>").expect(INFALLIBLE);
    }
    text + "</flags>\n"
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flags,
    Mxcsr,
    Int32,
    Int64,
    DataPointer,
    CodePointer,
    X87,
    Vector,
    Uint128,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::Flags | Kind::Mxcsr | Kind::Int32 => 4,
            Kind::Int64 | Kind::DataPointer | Kind::CodePointer => 8,
            Kind::X87 => 10,
            Kind::Vector | Kind::Uint128 => 16,
        }
    }

    fn gdb_name(self) -> &'static str {
        match self {
            Kind::Flags => "i386_eflags",
            Kind::Mxcsr => "i386_mxcsr",
            Kind::Int32 => "int32",
            Kind::Int64 => "int64",
            Kind::DataPointer => "data_ptr",
            Kind::CodePointer => "code_ptr",
            Kind::X87 => "i387_ext",
            Kind::Vector => "vec128",
            Kind::Uint128 => "uint128",
        }
    }
}

/// The registers of the first feature that have 64 bits, in its order.
fn general(regs: &Regs) -> [u64; 17] {
    let mut regs = *regs;
    general_mut(&mut regs).map(|register| *register)
}

fn general_mut(regs: &mut Regs) -> [&mut u64; 17] {
    let Regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, .. } = regs;
    [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip]
}

/// The part of an XSAVE area that gdb knows, in which no component is in its initial state unawares: what the header says to
/// be unused is filled in.
struct Area {
    bytes: [u8; AREA_LEN],
}

impl Area {
    fn of(fpu: &FpuState, xcr0: u64) -> Area {
        let mut bytes = [0; AREA_LEN];
        fpu.copy_to(&mut bytes, 0..AREA_LEN);
        // Without XSAVE there is no header, and all of it is in use.
        let used = if xcr0 == 0 { X87 | SSE } else { fpu.word(HEADER) };
        if used & X87 == 0 {
            bytes[..MXCSR].fill(0);
            bytes[ST..XMM].fill(0);
            bytes[..2].copy_from_slice(&INITIAL_CONTROL_WORD.to_le_bytes());
        }
        if used & SSE == 0 {
            bytes[XMM..XMM + 256].fill(0);
        }
        if used & AVX == 0 {
            bytes[YMM_HIGH..].fill(0);
        }
        if used & (SSE | AVX) == 0 {
            bytes[MXCSR..MXCSR + 4].copy_from_slice(&INITIAL_MXCSR.to_le_bytes());
        }
        Area { bytes }
    }

    /// The area, with all components that gdb knows in use.
    fn into_state(mut self, xcr0: u64) -> FpuState {
        if xcr0 != 0 {
            let used = self.u64_at(HEADER) | X87 | SSE | xcr0 & AVX;
            self.bytes[HEADER..HEADER + 8].copy_from_slice(&used.to_le_bytes());
        }
        FpuState::of_bytes(&self.bytes)
    }

    /// `fctrl`, `fstat`, `ftag`, `fiseg`, `fioff`, `foseg`, `fooff` and `fop`.
    fn x87_control(&self) -> [u32; 8] {
        let halves = |at| {
            let pointer = self.u64_at(at);
            [(pointer >> 32) as u32 & 0xffff, pointer as u32]
        };
        let [fiseg, fioff] = halves(INSTRUCTION_POINTER);
        let [foseg, fooff] = halves(DATA_POINTER);
        let [fctrl, fstat, fop] = [0, STATUS_WORD, OPCODE].map(|at| u32::from(self.u16_at(at)));
        [fctrl, fstat, self.full_tags().into(), fiseg, fioff, foseg, fooff, fop & OPCODE_BITS]
    }

    fn set_x87_control(&mut self, [fctrl, fstat, ftag, fiseg, fioff, foseg, fooff, fop]: [u32; 8]) {
        let mut tags = 0;
        for register in 0..8 {
            if ftag >> (2 * register) & TAG != EMPTY {
                tags |= 1 << register;
            }
        }
        self.bytes[TAGS] = tags;
        for (at, value) in [(0, fctrl), (STATUS_WORD, fstat), (OPCODE, fop & OPCODE_BITS)] {
            self.bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        }
        for (at, segment, offset) in [(INSTRUCTION_POINTER, fiseg, fioff), (DATA_POINTER, foseg, fooff)] {
            let pointer = u64::from(segment & 0xffff) << 32 | u64::from(offset);
            // The upper half of a 64-bit pointer is all that gdb does not know, and it is kept.
            let kept = self.u64_at(at) & !0xffff_ffff_ffff;
            self.bytes[at..at + 8].copy_from_slice(&(kept | pointer).to_le_bytes());
        }
    }

    /// Sets MXCSR, but for bits that the processor does not have: to load these would fault.
    fn set_mxcsr(&mut self, value: u32) {
        let mask = match u32::from_le_bytes(self.array_at(MXCSR_MASK)) {
            0 => DEFAULT_MXCSR_MASK,
            mask => mask,
        };
        self.bytes[MXCSR..MXCSR + 4].copy_from_slice(&(value & mask).to_le_bytes());
    }

    /// Two bits for each physical register, where the area has one. What a register holds is looked up in it, by the number
    /// that it has on the stack.
    fn full_tags(&self) -> u16 {
        let top = self.u16_at(STATUS_WORD) >> 11 & 7;
        (0..8).fold(0, |tags, register| {
            let tag = if self.bytes[TAGS] >> register & 1 == 0 {
                EMPTY
            } else {
                let at = ST + 16 * usize::from((register + 8 - top) & 7);
                tag(self.u64_at(at), self.u16_at(at + 8))
            };
            tags | (tag as u16) << (2 * register)
        })
    }

    fn array_at<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes[at..at + N].try_into().expect("the slice has this length")
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array_at(at))
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array_at(at))
    }
}

/// The tag of a register with this significand, exponent and sign (AMD64 Architecture Programmer's Manual, volume 1, section
/// 6.2.4).
fn tag(significand: u64, exponent: u16) -> u32 {
    match (exponent & 0x7fff, significand) {
        (0, 0) => ZERO,
        (0 | 0x7fff, _) => SPECIAL,
        _ if significand >> 63 == 0 => SPECIAL,
        _ => VALID,
    }
}

/// Takes registers from what gdb has sent, whose length has been checked.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self.0.split_first_chunk().expect("the length was checked against the description");
        self.0 = rest;
        *first
    }
}

/// The flags of RFLAGS by their bits (AMD64 Architecture Programmer's Manual, volume 2, section 3.1.6).
const FLAGS: [(&str, u8); 15] = [
    ("CF", 0),
    ("PF", 2),
    ("AF", 4),
    ("ZF", 6),
    ("SF", 7),
    ("TF", 8),
    ("IF", 9),
    ("DF", 10),
    ("OF", 11),
    ("NT", 14),
    ("RF", 16),
    ("AC", 18),
    ("VIF", 19),
    ("VIP", 20),
    ("ID", 21),
];

/// The flags of MXCSR by their bits (AMD64 Architecture Programmer's Manual, volume 1, section 4.2.2).
const MXCSR_FLAGS: [(&str, u8); 14] = [
    ("IE", 0),
    ("DE", 1),
    ("ZE", 2),
    ("OE", 3),
    ("UE", 4),
    ("PE", 5),
    ("DAZ", 6),
    ("IM", 7),
    ("DM", 8),
    ("ZM", 9),
    ("OM", 10),
    ("UM", 11),
    ("PM", 12),
    ("FZ", 15),
];

// Tags of x87 registers.
const TAG: u32 = 0b11;
const VALID: u32 = 0;
const ZERO: u32 = 1;
const SPECIAL: u32 = 2;
const EMPTY: u32 = 3;

// Offsets in an XSAVE area (AMD64 Architecture Programmer's Manual, volume 2, section 11.5). The control word is at its start.
const STATUS_WORD: usize = 2;
const TAGS: usize = 4;
const OPCODE: usize = 6;
const INSTRUCTION_POINTER: usize = 8;
const DATA_POINTER: usize = 16;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
const ST: usize = 32;
const XMM: usize = 160;
const HEADER: usize = 512;
const YMM_HIGH: usize = 576;
const AREA_LEN: usize = 832;

/// The last opcode has eleven bits.
const OPCODE_BITS: u32 = 0x7ff;

// State components, as bits of XCR0 and of the area's header.
const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;

const INITIAL_CONTROL_WORD: u16 = 0x37f;
const INITIAL_MXCSR: u32 = 0x1f80;

/// The bits of MXCSR on a processor that does not say which it has.
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;

const INFALLIBLE: &str = "a `String` takes everything";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::GuestVirt;
    use crate::processor::Entry;

    const WITH_AVX: u64 = X87 | SSE | AVX;

    fn context() -> UserContext {
        UserContext::new(Entry { instruction: GuestVirt(0x40_1000), stack_pointer: GuestVirt(0x7f00) })
    }

    #[test]
    fn what_is_transferred_is_as_long_as_the_description_says() {
        for xcr0 in [0, X87 | SSE, WITH_AVX] {
            let description = target_description(xcr0);
            let bits = description
                .split("bitsize=\"")
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap().parse::<usize>().unwrap());
            assert_eq!(registers(&context(), xcr0).len() * 8, bits.sum::<usize>());
        }
    }

    #[test]
    fn what_was_read_and_is_written_again_changes_nothing() {
        for xcr0 in [0, X87 | SSE, WITH_AVX] {
            let mut context = context();
            let before = registers(&context, xcr0);
            set_registers(&mut context, xcr0, &before).unwrap();
            assert_eq!(registers(&context, xcr0), before);
        }
    }

    #[test]
    fn every_byte_that_is_written_is_read_but_for_those_that_ring_3_cannot_set() {
        let mut context = context();
        let fixed: Vec<_> = (136..164).chain(fpu_control()).chain(532..536).chain(orig_rax()).collect();
        let mut bytes = registers(&context, WITH_AVX);
        let written: Vec<u8> = (0..bytes.len()).map(|at| (at * 7 + 1) as u8).collect();
        for (at, byte) in bytes.iter_mut().enumerate().filter(|(at, _)| !fixed.contains(at)) {
            *byte = written[at];
        }
        // Addresses that a processor takes.
        for register in [128, 544, 552] {
            bytes[register + 6..register + 8].fill(0);
            bytes[register + 5] = 0x7f;
        }
        set_registers(&mut context, WITH_AVX, &bytes).unwrap();
        assert_eq!(registers(&context, WITH_AVX), bytes);
        assert_eq!(context.regs.rbp, u64::from_le_bytes(bytes[48..56].try_into().unwrap()));
        assert_eq!(context.regs.rsp, u64::from_le_bytes(bytes[56..64].try_into().unwrap()));
    }

    /// Some of their bits do not exist.
    fn fpu_control() -> std::ops::Range<usize> {
        244..276
    }

    fn orig_rax() -> std::ops::Range<usize> {
        536..544
    }

    #[test]
    fn no_register_takes_what_the_processor_would_refuse() {
        let mut context = context();
        let bytes = registers(&context, WITH_AVX);
        for (at, name) in [(128, "rip"), (544, "fs_base"), (552, "gs_base")] {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].fill(0xff);
            let error = set_registers(&mut context, WITH_AVX, &bytes).unwrap_err();
            assert_eq!(error, BadRegister::Address { name, value: u64::MAX });
        }
        assert_eq!(registers(&context, WITH_AVX), bytes);
        let mut all = bytes.clone();
        all[136..140].fill(0xff);
        all[532..536].fill(0xff);
        set_registers(&mut context, WITH_AVX, &all).unwrap();
        assert_eq!(context.regs.rflags & TRAP_FLAG, 0);
        assert_eq!(context.regs.rflags & 3 << 12, 0, "the privilege level of I/O");
        assert_eq!(registers(&context, WITH_AVX)[532..536], DEFAULT_MXCSR_MASK.to_le_bytes());
        assert!(matches!(set_registers(&mut context, WITH_AVX, &bytes[1..]), Err(BadRegister::Size { .. })));
    }

    #[test]
    fn x87_registers_have_the_tags_of_what_they_hold() {
        let mut area = Area { bytes: [0; AREA_LEN] };
        // The stack begins at the sixth register: it holds 1.0, infinity and zero.
        area.bytes[STATUS_WORD + 1] = 6 << 3;
        area.bytes[TAGS] = 0b1100_0001;
        for (index, (significand, exponent)) in [(1 << 63, 0x3fff), (1 << 63, 0x7fff), (0, 0_u16)].iter().enumerate() {
            let at = ST + 16 * index;
            area.bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(*significand));
            area.bytes[at + 8..at + 10].copy_from_slice(&exponent.to_le_bytes());
        }
        assert_eq!(area.full_tags(), 0b10_00_11_11_11_11_11_01);
        let control = area.x87_control();
        area.bytes[TAGS] = 0;
        area.set_x87_control(control);
        assert_eq!(area.x87_control(), control);
    }
}
