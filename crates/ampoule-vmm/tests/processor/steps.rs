//! Single steps.

use ampoule_vmm::{Event, GuestVirt};

use crate::code::*;
use crate::events::INVALID_OPCODE;
use crate::guest::{CODE, Guest};

#[test]
fn every_instruction_of_a_straight_line_is_one_step_and_the_last_one_is_no_longer() {
    let mut guest = Guest::new(&[&INC_R12[..], &NOP, &INC_R12, &INC_R12, &UD2].concat());
    guest.processor.set_single_step(true).unwrap();
    for at in [3, 4, 7] {
        assert_eq!(guest.run(), Event::Step);
        assert_eq!(guest.pc(), CODE.0 + at);
    }
    guest.processor.set_single_step(false).unwrap();
    assert_eq!(guest.run(), INVALID_OPCODE);
    assert_eq!(guest.register("r12"), 3);
}

#[test]
fn steps_go_across_a_system_call_and_the_doorbell() {
    let code = [&set_up()[..], &SYSCALL, &NOP, &NOP, &RING, &NOP, &UD2].concat();
    let mut guest = Guest::new(&code);
    guest.processor.set_single_step(true).unwrap();
    let mut events = Vec::new();
    loop {
        let event = guest.run();
        match event {
            Event::SystemCall(_) => guest.processor.finish_system_call(0).unwrap(),
            INVALID_OPCODE => break,
            _ => (),
        }
        events.push((event == Event::Step, guest.pc() - CODE.0));
    }
    let (step, other) = (true, false);
    // Processors differ in whether the return of a system call is a step of its own.
    events.retain(|event| *event != (step, 32));
    let doorbell = ampoule_vmm::DOORBELL.0 - CODE.0;
    let expected = [
        (step, 10),
        (step, 20),
        (step, 30),
        (other, 32),
        // What follows a system call belongs to its step.
        (step, 33),
        (step, 34),
        (step, doorbell),
        (other, doorbell + 2),
        // The doorbell's return.
        (step, 37),
        (step, 38),
    ];
    assert_eq!(events, expected);
}

#[test]
fn steps_survive_faults_and_end_at_every_kind_of_stop() {
    for stop in [&RING[..], &SYSCALL, &INT3, &OUT, &WRITE] {
        let mut guest = Guest::new(&[&set_up()[..], stop, &NOP, &NOP, &UD2].concat());
        guest.processor.set_single_step(true).unwrap();
        let mut event = guest.run();
        while event == Event::Step {
            event = guest.run();
        }
        if matches!(event, Event::PageFault(_)) {
            assert_eq!(guest.run(), event);
        }
        guest.processor.set_single_step(false).unwrap();
        match event {
            Event::SystemCall(_) => guest.processor.finish_system_call(0).unwrap(),
            Event::PageFault(_) => guest.skip(3),
            _ => (),
        }
        assert_eq!(guest.run(), INVALID_OPCODE, "{stop:x?}");
    }
}

#[test]
fn no_context_carries_the_steps() {
    let mut guest = Guest::new(&[&NOP[..], &NOP, &NOP, &UD2].concat());
    guest.processor.set_single_step(true).unwrap();
    assert_eq!(guest.run(), Event::Step);
    let context = guest.processor.save().unwrap();
    guest.processor.load(&context).unwrap();
    assert_eq!(guest.run(), Event::Step);
    assert_eq!(guest.pc(), CODE.0 + 2);
    guest.processor.set_single_step(false).unwrap();
    guest.processor.load(&context).unwrap();
    assert_eq!(guest.run(), INVALID_OPCODE);
}

#[test]
fn steps_begin_with_the_guest_s_own_instructions_after_a_restore() {
    let mut guest = Guest::new(&[&set_up()[..], &RING, &NOP, &NOP, &UD2].concat());
    for steps_before in [false, true] {
        guest.processor.set_single_step(steps_before).unwrap();
        guest.processor.load(&ampoule_vmm::Context::new(crate::guest::entry(0))).unwrap();
        while guest.run() != Event::Doorbell {}
        let waiting = guest.processor.checkpoint().unwrap();
        let map = guest.pages.checkpoint().unwrap();
        // Neither a restore switches the steps off, nor does it matter which is first.
        for restores_first in [false, true] {
            guest.processor.set_single_step(false).unwrap();
            assert_eq!(guest.run(), INVALID_OPCODE);
            if restores_first {
                guest.processor.restore(&waiting).unwrap();
                guest.processor.set_single_step(true).unwrap();
            } else {
                guest.processor.set_single_step(true).unwrap();
                guest.processor.restore(&waiting).unwrap();
            }
            guest.pages.restore(&map);
            for at in [33, 34, 35] {
                assert_eq!(guest.run(), Event::Step);
                assert_eq!(GuestVirt(guest.pc()), GuestVirt(CODE.0 + at));
            }
            guest.processor.set_single_step(false).unwrap();
            guest.processor.restore(&waiting).unwrap();
            guest.pages.restore(&map);
            assert_eq!(guest.run(), INVALID_OPCODE);
        }
        guest.processor.restore(&waiting).unwrap();
    }
}
