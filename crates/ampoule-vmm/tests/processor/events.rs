//! What stops user code, and how it goes on.

use ampoule_vmm::processor::{BadReturn, Exception, PageFault};
use ampoule_vmm::{Event, FaultAccess, GuestVirt, PageAccess, PageSet, SystemCall, ThreadRegister};

use crate::code::*;
use crate::guest::{CODE, DATA, Guest, NOWHERE, PAGES, STACK, WRITE as WRITABLE, backend, entry, phys};

#[test]
fn the_doorbell_returns_to_its_caller() {
    let mut guest = Guest::new(&[&set_up()[..], &RING, &INC_R12, &RING].concat());
    let stack = entry(0).stack_pointer.0;
    assert_eq!(guest.register("rsp"), stack);
    for rings in 0..2 {
        assert_eq!(guest.run(), Event::Doorbell);
        assert_eq!(guest.register("r12"), rings);
        assert_eq!(guest.processor.registers().stack_pointer(), stack - 8);
    }
}

#[test]
fn a_system_call_has_a_number_and_arguments_and_gets_its_result() {
    let arguments = [0x11_u64, 0x22, 0x33, 0x44, 0x55, 1 << 63];
    let movs = [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
    let mut code = Vec::new();
    for (mov, argument) in movs.into_iter().zip(arguments) {
        code.extend([&mov[..], &argument.to_le_bytes()].concat());
    }
    code.extend([&mov_rax(39)[..], &STC, &SYSCALL, &ADD_CARRY, &UD2].concat());
    let behind = CODE.0 + code.len() as u64 - 6;
    let mut guest = Guest::new(&code);
    assert_eq!(guest.run(), Event::SystemCall(SystemCall { number: 39, arguments }));
    assert_eq!((guest.pc(), guest.register("r9")), (behind, 1 << 63));
    guest.processor.finish_system_call(u64::MAX - 1).unwrap();
    assert_eq!((guest.pc(), guest.register("rax")), (behind, u64::MAX - 1));
    assert!(matches!(guest.run(), Event::Exception(_)));
    assert_eq!((guest.register("rax"), guest.register("r14")), (u64::MAX - 1, 1));
}

#[test]
fn a_system_call_that_would_return_to_the_host_is_refused() {
    // mov rcx, ..; push the stub's address by way of a register; jmp: a guest that enters the stub by itself.
    let address = 1_u64 << 63;
    let stub = stub_of_system_calls();
    let code = [&[0x48, 0xb9][..], &address.to_le_bytes(), &mov_rax(stub), &[0xff, 0xe0]].concat();
    let mut guest = Guest::new(&code);
    assert!(matches!(guest.run(), Event::SystemCall(_)));
    assert_eq!(guest.processor.finish_system_call(0), Err(BadReturn { address: GuestVirt(address) }));
    // It can be replaced.
    guest.memory.write(0, &UD2).unwrap();
    guest.processor.load(&ampoule_vmm::Context::new(entry(0))).unwrap();
    assert!(matches!(guest.run(), Event::Exception(_)));
}

/// Where a system call arrives: the guest sees it where the instruction stays in ring 3, and can know it anyway.
fn stub_of_system_calls() -> u64 {
    ampoule_vmm::DOORBELL.0 - 0x1000
}

#[test]
fn a_page_fault_says_where_and_how_and_is_retried() {
    for (code, access) in [(READ, FaultAccess::Read), (WRITE, FaultAccess::Write), (JUMP, FaultAccess::Execute)] {
        let mut guest = Guest::new(&[&set_up()[..], &code, &UD2].concat());
        let fault = Event::PageFault(PageFault { address: NOWHERE, access, by_own_denial: false });
        assert_eq!(guest.run(), fault);
        let at = if access == FaultAccess::Execute { NOWHERE.0 } else { CODE.0 + 30 };
        assert_eq!(guest.pc(), at);
        assert_eq!(guest.run(), fault, "it is retried");
        guest.memory.write(3 * 4096, &UD2).unwrap();
        guest.pages.map(NOWHERE, phys(3), 1, PageAccess { write: true, execute: true }).unwrap();
        assert_eq!(guest.run(), INVALID_OPCODE);
        assert_eq!(guest.pc(), if access == FaultAccess::Execute { NOWHERE.0 } else { CODE.0 + 33 });
    }
}

#[test]
fn a_page_that_may_not_be_written_or_executed_faults() {
    let mut guest = Guest::new(&[&mov_rdi(CODE.0)[..], &INC_MEMORY].concat());
    let event = guest.run();
    let denied = |address, access| Event::PageFault(PageFault { address, access, by_own_denial: false });
    assert_eq!(event, denied(CODE, FaultAccess::Write));
    let mut guest = Guest::new(&[&mov_rax(DATA.0)[..], &[0xff, 0xe0]].concat());
    assert_eq!(guest.run(), denied(DATA, FaultAccess::Execute));
}

#[test]
fn a_guest_that_writes_many_pages_stops_now_and_then_and_goes_on() {
    const MANY: usize = 3000;
    for reloads in [false, true] {
        let to_all = [mov_rdi(NOWHERE.0), mov_ecx(MANY as u32), WRITE_TO_PAGES.to_vec()].concat();
        let code = [&set_up()[..], &to_all, &RING].concat();
        let mut guest = Guest::with_pages(&backend(), &code, PAGES + MANY).unwrap();
        guest.pages.map(NOWHERE, phys(PAGES as u64), MANY, WRITABLE).unwrap();
        let mut written = PageSet::new(PAGES + MANY);
        let mut stops = 0;
        loop {
            match guest.run() {
                Event::ManyWritten => stops += 1,
                event => break assert_eq!(event, Event::Doorbell),
            }
            let listed = written.len();
            guest.processor.collect_written(&mut written).unwrap();
            assert!(written.len() >= listed + LEAST_LISTED, "{listed} pages, then {}", written.len());
            if reloads {
                let context = guest.processor.save().unwrap();
                guest.processor.load(&context).unwrap();
            }
        }
        assert!(stops > 0);
        guest.processor.collect_written(&mut written).unwrap();
        assert!((PAGES..PAGES + MANY).all(|page| written.contains(page)));
    }
}

#[test]
fn other_exceptions_have_their_vector_and_are_raised_at_the_instruction() {
    let division = Event::Exception(Exception { vector: 0, error_code: None });
    let protection = Event::Exception(Exception { vector: 13, error_code: Some(0) });
    let hlt = [0xf4];
    for (code, before, event) in [(&UD2[..], 0, INVALID_OPCODE), (&DIVIDE_BY_ZERO, 4, division), (&hlt, 0, protection)]
    {
        let mut guest = Guest::new(code);
        for _ in 0..2 {
            assert_eq!(guest.run(), event);
            assert_eq!(guest.pc(), CODE.0 + before);
        }
    }
}

#[test]
fn a_forged_exit_is_seen_and_is_not_repeated_when_its_context_is_loaded() {
    for instruction in [OUT, IN] {
        for reloads in [false, true] {
            let mut guest = Guest::new(&[&instruction[..], &INC_R12, &UD2].concat());
            assert_eq!(guest.run(), Event::Forged { port: 0x11 });
            if reloads {
                let context = guest.processor.save().unwrap();
                assert_eq!(context.registers().instruction_pointer(), CODE.0 + 2);
                guest.processor.load(&context).unwrap();
            }
            assert_eq!(guest.run(), INVALID_OPCODE);
            assert_eq!(guest.register("r12"), 1);
        }
    }
}

#[test]
fn registers_of_threads_can_be_set_at_every_kind_of_stop() {
    for stop in [&RING[..], &SYSCALL, &INT3, &OUT] {
        let mut guest = Guest::new(&[&set_up()[..], stop, &READ_FS, &READ_GS, &UD2].concat());
        guest.set_data(64, 7);
        guest.set_data(128, 9);
        if matches!(guest.run(), Event::SystemCall(_)) {
            guest.processor.finish_system_call(0).unwrap();
        }
        guest.processor.set_thread_register(ThreadRegister::Pointer, DATA.0 + 64).unwrap();
        guest.processor.set_thread_register(ThreadRegister::Second, DATA.0 + 128).unwrap();
        assert_eq!(guest.run(), INVALID_OPCODE);
        assert_eq!((guest.register("r13"), guest.register("r14")), (7, 9), "{stop:x?}");
    }
}

#[test]
fn a_program_begins_with_zeros_and_the_initial_control_words() {
    let code = [&UD2[..], &set_up(), &STORE_CONTROL, &UD2].concat();
    for loads in [false, true] {
        let mut guest = Guest::new(&code);
        if loads {
            guest.run();
            guest.processor.load(&ampoule_vmm::Context::new(entry(0))).unwrap();
        }
        let registers = guest.processor.registers();
        assert!(registers.iter().all(|(name, value)| value == 0 || ["rip", "rsp", "rflags"].contains(&name)));
        assert_eq!((registers.get("rip"), registers.get("rsp")), (Some(CODE.0), Some(entry(0).stack_pointer.0)));
        assert_eq!(registers.get("nothing"), None);
        assert!(matches!(guest.run(), Event::Exception(_)));
        guest.skip(2);
        assert_eq!(guest.run(), INVALID_OPCODE);
        assert_eq!(guest.data(0), 0x1f80_0000_037f);
    }
}

#[test]
fn written_pages_are_reported_once_and_again_when_they_were_forgotten() {
    let code = [&set_up()[..], &INC_MEMORY, &RING].concat();
    let code = [&code[..], &jump(code.len(), 30)].concat();
    let mut guest = Guest::new(&code);
    guest.pages.map(NOWHERE, phys(3), 1, WRITABLE).unwrap();
    let mut pages = PageSet::new(PAGES);
    assert_eq!(guest.run(), Event::Doorbell);
    guest.processor.collect_written(&mut pages).unwrap();
    assert!(pages.contains(1) && pages.contains(2), "{STACK:?} and {DATA:?}");
    assert!(!pages.contains(3) && !pages.contains(4));
    guest.processor.forget_written(&pages).unwrap();
    pages.clear();
    guest.processor.collect_written(&mut pages).unwrap();
    assert!(pages.is_empty());
    assert_eq!(guest.run(), Event::Doorbell);
    guest.processor.collect_written(&mut pages).unwrap();
    assert!(pages.contains(2));
    assert!(guest.processor.collect_written(&mut PageSet::new(PAGES + 1)).is_err());
}

pub(crate) const INVALID_OPCODE: Event = Event::Exception(Exception { vector: 6, error_code: None });

/// A guest writes this many pages at least before it stops for them (docs/specification.md).
const LEAST_LISTED: usize = 448;
