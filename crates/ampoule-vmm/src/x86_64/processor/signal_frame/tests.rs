use std::cell::RefCell;

use proptest::prelude::*;

use super::super::context::Selectors;
use super::*;

/// Memory of user code: what was written last.
#[derive(Default)]
struct Memory(RefCell<Vec<(u64, Vec<u8>)>>);

impl Memory {
    fn of(frame: &SignalFrame) -> Self {
        Self(RefCell::new(vec![(frame.at.0, frame.bytes.clone())]))
    }

    fn read(&self, at: GuestVirt, into: &mut [u8]) -> bool {
        self.0.borrow().iter().any(|(start, bytes)| {
            let Some(offset) = at.0.checked_sub(*start).and_then(|offset| usize::try_from(offset).ok()) else {
                return false;
            };
            let Some(part) = offset.checked_add(into.len()).and_then(|end| bytes.get(offset..end)) else {
                return false;
            };
            into.copy_from_slice(part);
            true
        })
    }
}

fn context(xcr0: u64) -> UserContext {
    let mut fpu = FpuState::initial();
    for (index, word) in fpu.0.iter_mut().enumerate().take(832 / 4).filter(|(index, _)| *index > 8) {
        *word = 0x0101_0000 + index as u32;
    }
    fpu.0[116..128].fill(0);
    fpu.0[128..144].fill(0);
    fpu.0[128] = (xcr0 & 7) as u32;
    fpu.0[7] = 0xffff;
    let regs = Regs {
        rax: 1,
        rbx: 2,
        rcx: 3,
        rdx: 4,
        rsi: 5,
        rdi: 6,
        rsp: 0x7000_0123,
        rbp: 8,
        r8: 9,
        r9: 10,
        r10: 11,
        r11: 12,
        r12: 13,
        r13: 14,
        r14: 15,
        r15: 16,
        rip: 0x40_0000,
        rflags: 0x602,
    };
    let selectors = Selectors { cs: 0x33, ds: 0, es: 0, fs: 0, gs: 0, ss: 0x2b };
    UserContext { regs, fs_base: 25, gs_base: 26, fpu, selectors, system_call: None, xcr0, raised: None }
}

fn handler() -> SignalHandler {
    SignalHandler {
        handler: GuestVirt(0x50_0000),
        restorer: GuestVirt(0x50_1000),
        signal: 11,
        info: [7; 128],
        mask: 0x1234,
        stack_end: None,
        alternate_stack: [3; 24],
    }
}

fn state(context: &UserContext) -> Vec<u8> {
    let mut bytes = vec![0; FpuState::LEN];
    context.fpu.copy_to(&mut bytes, 0..FpuState::LEN);
    bytes
}

#[test]
fn a_handler_finds_its_arguments_and_a_stack_as_after_a_call() {
    for xcr0 in [0, 3, 7] {
        let mut user = context(xcr0);
        let before = user.regs;
        let frame = user.enter_signal_handler(&handler());
        assert_eq!(user.regs.rsp, frame.at.0);
        assert_eq!(frame.at.0 % 16, 8);
        assert!(frame.at.0 + frame.bytes.len() as u64 <= before.rsp - 128, "the red zone is left alone");
        assert_eq!((user.regs.rdi, user.regs.rax, user.regs.rip), (11, 0, 0x50_0000));
        assert_eq!(user.regs.rflags & DIRECTION_FLAG, 0);
        assert_eq!(frame.bytes[..8], 0x50_1000_u64.to_le_bytes());
        let at = |address: u64| (address - frame.at.0) as usize;
        assert_eq!(frame.bytes[at(user.regs.rsi)..][..128], [7; 128]);
        let registers = &frame.bytes[at(user.regs.rdx) + 40..];
        assert_eq!(
            (get(registers, 15 * 8), get(registers, 16 * 8), get(registers, 13 * 8)),
            (before.rsp, before.rip, 1)
        );
        assert_eq!(get(registers, offset_of!(Sigcontext, fpstate)) % 64, 0);
    }
}

#[test]
fn the_end_of_another_stack_is_where_the_frame_goes() {
    let mut user = context(7);
    let end = GuestVirt(0x2000_0000);
    let frame = user.enter_signal_handler(&SignalHandler { stack_end: Some(end), ..handler() });
    let frame_end = frame.at.0 + frame.bytes.len() as u64;
    assert!(frame_end <= end.0 && end.0 - frame_end < 64, "{frame_end:#x}");
}

#[test]
fn what_was_interrupted_continues_with_all_its_registers() {
    for xcr0 in [0, 3, 7] {
        let mut user = context(xcr0);
        let before = user.clone();
        let memory = Memory::of(&user.enter_signal_handler(&handler()));
        // What the handler leaves behind.
        user.fpu = FpuState::initial();
        user.fpu.0[7] = 0xffff;
        user.regs = Regs { rsp: user.regs.rsp + 8, rax: 15, rbx: 77, ..Regs::default() };
        let left = user.leave_signal_handler(|at, into| memory.read(at, into)).unwrap();
        assert_eq!((left.mask, left.alternate_stack), (0x1234, [3; 24]));
        assert_eq!(Regs { rflags: 0, ..user.regs }, Regs { rflags: 0, ..before.regs });
        assert_eq!(user.regs.rflags & DIRECTION_FLAG, DIRECTION_FLAG);
        let end = if xcr0 == 7 { YMM_HIGH.end } else { 416 };
        assert_eq!(state(&user)[..416], state(&before)[..416]);
        if xcr0 == 7 {
            assert_eq!(state(&user)[HEADER.start..end], state(&before)[HEADER.start..end]);
        }
    }
}

#[test]
fn registers_that_no_user_code_can_have_are_refused() {
    let registers_at = CONTEXT + offset_of!(Ucontext, registers);
    let area = |bytes: &[u8], at: u64| (get(bytes, registers_at + offset_of!(Sigcontext, fpstate)) - at) as usize;
    type Change = fn(&mut Vec<u8>, usize, usize);
    let changes: [(&str, Change); 8] = [
        ("a program counter that is no address", |bytes, registers, _| put(bytes, registers + 16 * 8, 1 << 47)),
        ("another code segment", |bytes, registers, _| bytes[registers + offset_of!(Sigcontext, cs)] = 0x23),
        ("another stack segment", |bytes, registers, _| bytes[registers + offset_of!(Sigcontext, ss)] = 0x33),
        ("reserved bits of MXCSR", |bytes, _, area| bytes[area + 26] = 1),
        ("components that guests may not use", |bytes, _, area| bytes[area + HEADER.start] = 0xff),
        ("a compacted area", |bytes, _, area| bytes[area + HEADER.start + 15] = 0x80),
        ("reserved bytes of the header", |bytes, _, area| bytes[area + HEADER.start + 20] = 1),
        ("an area that is not aligned", |bytes, registers, _| bytes[registers + offset_of!(Sigcontext, fpstate)] += 16),
    ];
    for (what, change) in changes {
        let mut user = context(7);
        let mut frame = user.enter_signal_handler(&handler());
        let area = area(&frame.bytes, frame.at.0);
        change(&mut frame.bytes, registers_at, area);
        let memory = Memory::of(&frame);
        user.regs.rsp += 8;
        let before = user.regs;
        let refused = user.leave_signal_handler(|at, into| memory.read(at, into));
        assert_eq!(refused, Err(BadSignalFrame { at: frame.at }), "{what}");
        assert_eq!(user.regs, before);
    }
}

#[test]
fn without_a_floating_point_state_the_registers_become_initial() {
    let mut user = context(7);
    let mut frame = user.enter_signal_handler(&handler());
    put(&mut frame.bytes, CONTEXT + offset_of!(Ucontext, registers) + offset_of!(Sigcontext, fpstate), 0);
    let memory = Memory::of(&frame);
    user.regs.rsp += 8;
    user.leave_signal_handler(|at, into| memory.read(at, into)).unwrap();
    let mut initial = vec![0; FpuState::LEN];
    FpuState::initial().copy_to(&mut initial, 0..FpuState::LEN);
    assert_eq!(state(&user)[..28], initial[..28]);
    assert_eq!(state(&user)[32..416], initial[32..416]);
    assert_eq!(user.fpu.word(HEADER.start), 0);
}

proptest! {
    /// Whatever is in a frame, either nothing changes or no register is what user code cannot have.
    #[test]
    fn no_frame_gives_registers_that_no_user_code_can_have(
        xcr0 in prop_oneof![Just(0_u64), Just(3), Just(7)],
        changes in prop::collection::vec((0_usize..1500, any::<u8>()), 0..40),
    ) {
        let mut user = context(xcr0);
        let mut frame = user.enter_signal_handler(&handler());
        for (at, byte) in changes {
            let len = frame.bytes.len();
            frame.bytes[at % len] = byte;
        }
        let memory = Memory::of(&frame);
        user.regs.rsp += 8;
        let before = user.clone();
        match user.leave_signal_handler(|at, into| memory.read(at, into)) {
            Err(_) => prop_assert_eq!(user.regs, before.regs),
            Ok(_) => {
                prop_assert!(is_canonical(user.regs.rip));
                prop_assert_eq!(user.regs.rflags & !RESTORED_FLAGS, before.regs.rflags & !RESTORED_FLAGS);
                prop_assert_eq!(user.fpu.word(HEADER.start) & !(xcr0 & 7), 0);
                prop_assert_eq!(user.fpu.word(HEADER.start + 8), 0);
                prop_assert_eq!(user.fpu.word(MXCSR.start) as u32 & !0xffff, 0);
            }
        }
    }
}
