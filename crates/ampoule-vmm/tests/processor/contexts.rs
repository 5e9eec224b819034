//! Contexts that take turns, against a model.

use ampoule_vmm::processor::Exception;
use ampoule_vmm::{Context, Event, FaultAccess, GuestVirt, ThreadRegister};
use proptest::prelude::*;

use crate::code::*;
use crate::events::INVALID_OPCODE;
use crate::guest::{DATA, Guest, NOWHERE, entry};

const CONTEXTS: usize = 3;
const CODE_SIZE: usize = 0x180;
const DATA_SIZE: usize = 0x100;

/// What a program of these tests stops by, one after the other.
const STOPS: [&[u8]; 7] = [&RING, &SYSCALL, &UD2, &WRITE, &INT3, &OUT, &READ];

/// Counts in general and vector registers, memory and by the base of FS, between the stops. It leaves out the carry flag: when a
/// program sets it and stops soon after its context was loaded, a software hypervisor has been seen to lose it before the host
/// sees anything (`stc; syscall` arrives without it in R11). [`flags_are_a_part_of_a_context`] looks at it by itself.
fn program(number: usize) -> Vec<u8> {
    let at = number * CODE_SIZE;
    let one = number as u64 + 1;
    let data = DATA.0 + (number * DATA_SIZE) as u64;
    let mut code = [&set_up()[..], &mov_rdi(data), &mov_rax(one), &RAX_TO_XMM0].concat();
    let start = code.len();
    for stop in STOPS {
        code.extend([&INC_R12[..], &ADD_FS, &ADD_XMM, &STORE_XMM, &INC_MEMORY, stop].concat());
    }
    code.extend(jump(at + code.len(), at + start));
    assert!(code.len() <= CODE_SIZE);
    code
}

struct Turns {
    guest: Guest,
    contexts: Vec<Context>,
    /// How often each has stopped.
    stops: [u64; CONTEXTS],
    current: usize,
}

impl Turns {
    fn new() -> Turns {
        let code: Vec<u8> = (0..CONTEXTS)
            .flat_map(|number| {
                let mut code = program(number);
                code.resize(CODE_SIZE, 0xf4);
                code
            })
            .collect();
        let mut guest = Guest::new(&code);
        let contexts = (0..CONTEXTS).map(|number| {
            guest.set_data(number * DATA_SIZE + 64, number as u64 + 10);
            guest.processor.load(&Context::new(entry(number * CODE_SIZE))).unwrap();
            let base = DATA.0 + (number * DATA_SIZE + 64) as u64;
            guest.processor.set_thread_register(ThreadRegister::Pointer, base).unwrap();
            guest.processor.save().unwrap()
        });
        let contexts: Vec<Context> = contexts.collect();
        guest.processor.load(&contexts[0]).unwrap();
        Turns { guest, contexts, stops: [0; CONTEXTS], current: 0 }
    }

    fn switch(&mut self, to: usize) {
        self.contexts[self.current] = self.guest.processor.save().unwrap();
        self.guest.processor.load(&self.contexts[to]).unwrap();
        self.current = to;
    }

    /// Runs up to the next stop, and checks it.
    fn step(&mut self, switches_to: Option<usize>) {
        let kind = self.stops[self.current] as usize % STOPS.len();
        let event = self.guest.run();
        self.stops[self.current] += 1;
        self.check();
        let behind = match (kind, event) {
            (0, Event::Doorbell) | (4, BREAKPOINT) | (5, Event::Forged { port: 0x11 }) => 0,
            (1, Event::SystemCall(_)) => {
                // One that is saved unfinished is over, with the result 0.
                if switches_to.is_none() {
                    self.guest.processor.finish_system_call(0).unwrap();
                }
                0
            }
            (2, INVALID_OPCODE) => UD2.len() as u64,
            (3, Event::PageFault(fault)) if (fault.address, fault.access) == (NOWHERE, FaultAccess::Write) => 3,
            (6, Event::PageFault(fault)) if (fault.address, fault.access) == (NOWHERE, FaultAccess::Read) => 3,
            other => panic!("{other:?}"),
        };
        if behind != 0 {
            self.guest.skip(behind);
        }
        if let Some(to) = switches_to {
            self.switch(to);
        }
    }

    fn check(&self) {
        let (number, stops) = (self.current as u64, self.stops[self.current]);
        let data = self.current * DATA_SIZE;
        let found = [self.guest.register("r12"), self.guest.register("r13"), self.guest.data(data)];
        assert_eq!(found, [stops, stops * (number + 10), stops], "context {number}");
        let sum = [self.guest.data(data + 16), self.guest.data(data + 24)];
        assert_eq!(sum, [stops * (number + 1), 0], "context {number}");
    }
}

/// Whether it is interrupted first, and whom it gives the turn to.
fn schedule() -> impl Strategy<Value = Vec<(bool, Option<usize>, Option<usize>)>> {
    let turn = || prop::option::weighted(0.6, 0..CONTEXTS);
    prop::collection::vec((prop::bool::weighted(0.3), turn(), turn()), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn contexts_that_take_turns_keep_all_they_have(schedule in schedule()) {
        let mut turns = Turns::new();
        let interrupter = turns.guest.processor.interrupter();
        for (interrupts, while_interrupted, then) in schedule {
            if interrupts {
                interrupter.request();
                prop_assert_eq!(turns.guest.run(), Event::Interrupted);
                interrupter.clear();
                if let Some(to) = while_interrupted {
                    turns.switch(to);
                }
            }
            turns.step(then);
        }
    }
}

#[test]
fn flags_are_a_part_of_a_context() {
    for (set, carried) in [(&STC[..], 1), (&[], 0)] {
        let mut guest = Guest::new(&[set, &SYSCALL, &ADD_CARRY, &UD2].concat());
        assert!(matches!(guest.run(), Event::SystemCall(_)));
        let context = guest.processor.save().unwrap();
        guest.processor.load(&Context::new(entry(0))).unwrap();
        guest.processor.load(&context).unwrap();
        assert_eq!(guest.run(), INVALID_OPCODE);
        assert_eq!(guest.register("r14"), carried);
    }
}

#[test]
fn a_saved_system_call_gets_the_result_that_the_context_is_given() {
    let mut guest = Guest::new(&[&mov_rax(5)[..], &SYSCALL, &UD2].concat());
    assert!(matches!(guest.run(), Event::SystemCall(_)));
    let mut context = guest.processor.save().unwrap();
    assert_eq!(context.registers().get("rax"), Some(0));
    context.set_result(77);
    guest.processor.load(&context).unwrap();
    assert_eq!(guest.run(), INVALID_OPCODE);
    assert_eq!(guest.register("rax"), 77);
}

#[test]
fn a_context_can_be_made_to_return_from_a_function_that_is_not_there() {
    let mut guest = Guest::new(&[&mov_rdi(5)[..], &READ, &UD2].concat());
    let behind = entry(mov_rdi(5).len() + READ.len());
    assert!(matches!(guest.run(), Event::PageFault(_)));
    assert_eq!(guest.processor.registers().arguments()[0], 5);
    let mut context = guest.processor.save().unwrap();
    context.set_instruction_pointer(behind.instruction);
    context.set_stack_pointer(GuestVirt(0x5000));
    guest.processor.load(&context).unwrap();
    assert_eq!(guest.run(), INVALID_OPCODE);
    assert_eq!((guest.pc(), guest.register("rsp")), (behind.instruction.0, 0x5000));
}

#[test]
fn a_context_that_stands_before_the_doorbell_rings_when_it_is_loaded_while_another_waits_there() {
    let code = [&set_up()[..], &INC_R12, &RING, &UD2].concat();
    let mut guest = Guest::new(&code);
    guest.processor.set_single_step(true).unwrap();
    while guest.pc() != ampoule_vmm::DOORBELL.0 {
        assert_eq!(guest.run(), Event::Step);
    }
    let before = guest.processor.save().unwrap();
    guest.processor.set_single_step(false).unwrap();
    guest.processor.load(&Context::new(entry(0))).unwrap();
    assert_eq!(guest.run(), Event::Doorbell);
    guest.processor.load(&before).unwrap();
    assert_eq!(guest.run(), Event::Doorbell);
    assert_eq!(guest.run(), INVALID_OPCODE);
}

#[test]
fn a_breakpoint_is_replaced_and_user_code_goes_on_with_the_instruction() {
    let mut guest = Guest::new(&[&INC_R12[..], &INC_R12, &UD2].concat());
    guest.memory.write(3, &INT3).unwrap();
    assert_eq!(guest.run(), BREAKPOINT);
    assert_eq!(guest.register("r12"), 1);
    guest.memory.write(3, &INC_R12[..1]).unwrap();
    let mut context = guest.processor.save().unwrap();
    let behind = context.registers().instruction_pointer();
    context.set_instruction_pointer(GuestVirt(behind - 1));
    guest.processor.load(&context).unwrap();
    assert_eq!(guest.run(), INVALID_OPCODE);
    assert_eq!(guest.register("r12"), 2);
}

const BREAKPOINT: Event = Event::Exception(Exception { vector: 3, error_code: None });
