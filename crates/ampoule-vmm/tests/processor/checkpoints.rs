//! Going back to user code that waits in the doorbell or in a system call.

use std::sync::Arc;

use ampoule_vmm::processor::BadReturn;
use ampoule_vmm::{
    Backend, Context, DOORBELL, Event, GuestVirt, HostOnly, MapCheckpoint, PAGE_SIZE, Prepared, SystemCall,
    ThreadRegister, TrackedRegion, Waiting,
};

use crate::code::*;
use crate::events::INVALID_OPCODE;
use crate::guest::{DATA, Guest, PAGES, backend, entry};

/// Rings with all kinds of registers in use, stores what it has in them, and ends.
fn program() -> Vec<u8> {
    let fill = [&set_up()[..], &mov_rax(21), &RAX_TO_XMM0, &RAX_TO_XMM1, &INC_R12, &LOAD_MXCSR, &STC];
    let store = [&RING[..], &ADD_CARRY, &READ_FS, &ADD_XMM, &STORE_XMM, &STORE_CONTROL, &UD2];
    [fill.concat(), store.concat()].concat()
}

/// That guest, waiting.
fn waiting() -> (Guest, Arc<Waiting>, MapCheckpoint) {
    let mut guest = Guest::new(&program());
    guest.set_data(0, 0x9f80 << 32);
    guest.set_data(64, 5);
    guest.processor.set_thread_register(ThreadRegister::Pointer, DATA.0 + 64).unwrap();
    assert_eq!(guest.run(), Event::Doorbell);
    let waiting = guest.processor.checkpoint().unwrap();
    let map = guest.pages.checkpoint().unwrap();
    (guest, waiting, map)
}

/// It goes on from where it waits, with all its registers.
fn goes_on(guest: &mut Guest, after: &str) {
    // Its own stack was written, and the host puts memory back.
    let pointer = guest.register("rsp");
    let return_address = crate::guest::CODE.0 + (program().len() - 2 - 6 - 5 - 4 - 9 - 4) as u64;
    let offset = pointer - crate::guest::STACK.0;
    guest.memory.write_u64(PAGE_SIZE + offset as usize, return_address).unwrap();
    assert_eq!(guest.run(), INVALID_OPCODE, "{after}");
    let found = [guest.register("r12"), guest.register("r13"), guest.register("r14"), guest.register("rax")];
    assert_eq!(found, [1, 5, 1, 21], "{after}");
    assert_eq!([guest.data(16), guest.data(0)], [42, 0x9f80_0000_037f], "{after}");
}

#[test]
fn it_can_be_gone_back_to_from_every_kind_of_stop() {
    let (mut guest, waiting, map) = waiting();
    goes_on(&mut guest, "no restore");
    let at = program().len();
    for stop in [&RING[..], &SYSCALL, &UD2, &INT3, &WRITE, &OUT, &IN] {
        let other = [&set_up()[..], &mov_rax(3), &RAX_TO_XMM0, &RAX_TO_XMM1, stop].concat();
        guest.memory.write(at, &other).unwrap();
        guest.processor.load(&Context::new(entry(at))).unwrap();
        guest.run();
        guest.processor.restore(&waiting).unwrap();
        guest.pages.restore(&map);
        goes_on(&mut guest, &format!("{stop:x?}"));
    }
}

#[test]
fn it_goes_on_from_another_processor() {
    let (guest, waiting, map) = waiting();
    let memory = TrackedRegion::anonymous(PAGES * PAGE_SIZE, HostOnly::default()).unwrap();
    let mut bytes = vec![0; memory.len()];
    guest.memory.read(0, &mut bytes).unwrap();
    memory.write(0, &bytes).unwrap();
    drop(guest);
    let Prepared { pages, processor } = backend().prepare_like(&map).unwrap();
    let processor = processor.resume(&memory, &waiting).unwrap();
    let mut other = Guest { memory, pages, processor };
    goes_on(&mut other, "on another");
    other.processor.restore(&waiting).unwrap();
    other.pages.restore(&map);
    goes_on(&mut other, "and again");
}

#[test]
fn what_was_restored_and_has_not_run_can_be_looked_at_saved_and_changed() {
    for interrupts in [false, true] {
        let (mut guest, waiting, map) = waiting();
        let expected = guest.processor.registers();
        goes_on(&mut guest, "the run before");
        guest.processor.restore(&waiting).unwrap();
        guest.pages.restore(&map);
        if interrupts {
            let interrupter = guest.processor.interrupter();
            interrupter.request();
            assert_eq!(guest.run(), Event::Interrupted);
            interrupter.clear();
        }
        assert_eq!(guest.processor.registers(), expected);
        assert!(Arc::ptr_eq(&guest.processor.checkpoint().unwrap(), &waiting));
        let context = guest.processor.save().unwrap();
        assert_eq!(context.registers(), expected);

        // Another state to resume with takes its place.
        guest.processor.load(&Context::new(entry(0))).unwrap();
        assert_eq!(guest.run(), Event::Doorbell);
        guest.processor.checkpoint().unwrap();
        guest.processor.load(&context).unwrap();
        goes_on(&mut guest, "the saved context");
    }
}

#[test]
fn a_register_of_threads_can_be_set_after_a_restore() {
    let (mut guest, waiting, map) = waiting();
    goes_on(&mut guest, "the run before");
    guest.processor.restore(&waiting).unwrap();
    guest.pages.restore(&map);
    guest.processor.set_thread_register(ThreadRegister::Pointer, DATA.0 + 128).unwrap();
    guest.set_data(64, 0);
    guest.set_data(128, 5);
    goes_on(&mut guest, "another base of FS");
}

#[test]
fn the_map_goes_back_too() {
    let (mut guest, waiting, map) = waiting();
    guest.pages.unmap(DATA, 1);
    guest.memory.revoke(2 * PAGE_SIZE, PAGE_SIZE).unwrap();
    assert!(guest.pages.translate(DATA).is_none());
    assert!(matches!(guest.run(), Event::PageFault(_)));
    guest.processor.restore(&waiting).unwrap();
    guest.pages.restore(&map);
    assert!(guest.pages.translate(DATA).is_some());
    goes_on(&mut guest, "the map");
}

/// That guest, waiting in a system call, for whose result it looks.
fn waiting_in_a_system_call() -> (Guest, Arc<Waiting>, MapCheckpoint) {
    let store = [&SYSCALL[..], &RAX_TO_XMM0, &ADD_XMM, &STORE_XMM, &INC_R12, &UD2].concat();
    let program = [&set_up()[..], &mov_rax(39), &RAX_TO_XMM1, &store].concat();
    let mut guest = Guest::new(&program);
    assert!(matches!(guest.run(), Event::SystemCall(SystemCall { number: 39, .. })));
    let waiting = guest.processor.checkpoint().unwrap();
    let map = guest.pages.checkpoint().unwrap();
    assert_eq!(waiting.context().registers(), guest.processor.registers());
    let again = guest.processor.checkpoint().unwrap();
    assert_eq!(again.context().registers(), waiting.context().registers());
    (guest, waiting, map)
}

/// It goes on with this result, and with all its other registers.
fn gets(guest: &mut Guest, result: u64) {
    guest.processor.finish_system_call(result).unwrap();
    assert_eq!(guest.run(), INVALID_OPCODE);
    assert_eq!([guest.register("rax"), guest.register("r12"), guest.data(16)], [result, 1, result + 39]);
}

#[test]
fn a_system_call_that_waits_gets_its_result_after_each_restore() {
    let (mut guest, waiting, map) = waiting_in_a_system_call();
    gets(&mut guest, 7);
    for result in [0, 5, u64::MAX - 40] {
        guest.processor.restore(&waiting).unwrap();
        guest.pages.restore(&map);
        assert!(Arc::ptr_eq(&guest.processor.checkpoint().unwrap(), &waiting));
        gets(&mut guest, result);
    }
}

#[test]
fn a_system_call_that_waits_gets_its_result_on_another_processor() {
    let (guest, waiting, map) = waiting_in_a_system_call();
    let memory = TrackedRegion::anonymous(PAGES * PAGE_SIZE, HostOnly::default()).unwrap();
    let mut bytes = vec![0; memory.len()];
    guest.memory.read(0, &mut bytes).unwrap();
    memory.write(0, &bytes).unwrap();
    drop(guest);
    let Prepared { pages, processor } = backend().prepare_like(&map).unwrap();
    let processor = processor.resume(&memory, &waiting).unwrap();
    gets(&mut Guest { memory, pages, processor }, 3);
}

#[test]
fn a_result_that_was_given_and_not_taken_yet_is_part_of_the_state() {
    for interrupts in [false, true] {
        let (mut guest, waiting, map) = waiting_in_a_system_call();
        gets(&mut guest, 7);
        guest.processor.restore(&waiting).unwrap();
        guest.pages.restore(&map);
        guest.processor.finish_system_call(9).unwrap();
        if interrupts {
            let interrupter = guest.processor.interrupter();
            interrupter.request();
            assert_eq!(guest.run(), Event::Interrupted);
            interrupter.clear();
        }
        assert_eq!(guest.register("rax"), 9);
        assert_eq!(guest.processor.save().unwrap().registers().get("rax"), Some(9));
        let later = guest.processor.checkpoint().unwrap();
        assert_eq!(later.context().registers().get("rax"), Some(9));
        assert_eq!(guest.run(), INVALID_OPCODE);
        assert_eq!([guest.register("rax"), guest.data(16)], [9, 48]);
    }
}

#[test]
fn a_system_call_that_waits_and_would_not_return_to_the_guest_is_refused_its_result() {
    // It jumps to the stub that `syscall` enters, with an address of the host's to return to.
    let (system_call, host) = (DOORBELL.0 - PAGE_SIZE as u64, 1 << 63);
    let mov_rcx = [&[0x48, 0xb9][..], &u64::to_le_bytes(host)].concat();
    let mut guest = Guest::new(&[&mov_rcx[..], &[0x49, 0xba], &system_call.to_le_bytes(), &JUMP].concat());
    assert!(matches!(guest.run(), Event::SystemCall(_)));
    let waiting = guest.processor.checkpoint().unwrap();
    let map = guest.pages.checkpoint().unwrap();
    for restores in [false, true] {
        if restores {
            guest.processor.restore(&waiting).unwrap();
            guest.pages.restore(&map);
        }
        assert_eq!(guest.processor.finish_system_call(0), Err(BadReturn { address: GuestVirt(host) }));
    }
}
