//! A hypervisor that refuses: errors, and a processor that can be used again or says that it cannot.

use std::sync::Arc;

use ampoule_vmm::inject::FailAt;
use ampoule_vmm::{
    Context, Event, Hypervisor, HypervisorError, PageSet, Processor, ThreadRegister, VirtualMachines, Waiting,
};

use crate::code::*;
use crate::events::INVALID_OPCODE;
use crate::guest::{DATA, Guest, PAGES, entry, kvm};

type Step = fn(&mut dyn Processor, &Arc<Waiting>) -> Result<(), HypervisorError>;

/// All that is asked of a processor, each with what may fail.
const STEPS: [(&str, Step); 8] = [
    ("save", |processor, _| processor.save().map(drop)),
    ("load", |processor, _| processor.load(&Context::new(entry(0)))),
    ("checkpoint", |processor, _| processor.checkpoint().map(drop)),
    ("restore", |processor, waiting| processor.restore(waiting)),
    ("set_thread_register", |processor, _| processor.set_thread_register(ThreadRegister::Pointer, DATA.0)),
    ("set_single_step", |processor, _| {
        processor.set_single_step(true)?;
        processor.set_single_step(false)
    }),
    ("restore and save", |processor, waiting| {
        processor.restore(waiting)?;
        processor.save().map(drop)
    }),
    ("restore and step", |processor, waiting| {
        processor.restore(waiting)?;
        processor.set_single_step(true)?;
        processor.set_single_step(false)
    }),
];

#[test]
fn a_failure_leaves_a_processor_that_can_load_and_restore() {
    for stop in [&RING[..], &SYSCALL, &INT3, &OUT] {
        for (name, step) in STEPS {
            let failed = (0..).take_while(|number| fails(stop, name, step, *number)).count();
            println!("{name} at {stop:x?}: {failed} operations failed");
        }
    }
}

/// Whether there was an operation of this number, counted from the step on. What follows its failure works.
fn fails(stop: &[u8], name: &str, step: Step, number: u64) -> bool {
    let code = [&set_up()[..], &RING, &INC_R12, stop, &UD2].concat();
    let before = up_to_the_step(&code, u64::MAX).1.operations();
    let (mut guest, hypervisor, waiting) = up_to_the_step(&code, before + number);
    let result = step(&mut *guest.processor, &waiting);
    if hypervisor.operations() <= before + number {
        result.unwrap();
        return false;
    }
    assert!(matches!(result, Err(HypervisorError::Refused { .. })), "{name}, operation {number}");
    guest.processor.set_single_step(false).unwrap();
    guest.processor.load(&Context::new(entry(0))).unwrap();
    assert_eq!(guest.run(), Event::Doorbell, "{name}, operation {number}");
    guest.processor.restore(&waiting).unwrap();
    // On to the stop, and behind it.
    if matches!(guest.run(), Event::SystemCall(_)) {
        guest.processor.finish_system_call(0).unwrap();
    }
    assert_eq!(guest.run(), INVALID_OPCODE, "{name}, operation {number}");
    assert_eq!(guest.register("r12"), 1, "{name}, operation {number}");
    true
}

type Failing = Arc<FailAt<Arc<dyn Hypervisor>>>;

fn up_to_the_step(code: &[u8], fails_at: u64) -> (Guest, Failing, Arc<Waiting>) {
    let hypervisor: Failing = Arc::new(FailAt::new(kvm(), fails_at));
    let mut guest = Guest::on(&VirtualMachines::new(hypervisor.clone()), code).unwrap();
    assert_eq!(guest.run(), Event::Doorbell);
    let waiting = guest.processor.checkpoint().unwrap();
    guest.run();
    (guest, hypervisor, waiting)
}

#[test]
fn whatever_fails_while_a_processor_is_made_and_used_is_an_error() {
    for number in 0.. {
        let hypervisor: Failing = Arc::new(FailAt::new(kvm(), number));
        let result = life(hypervisor.clone());
        if hypervisor.operations() <= number {
            result.unwrap();
            break;
        }
        assert!(result.is_err(), "operation {number}");
    }
}

fn life(hypervisor: Failing) -> Result<(), HypervisorError> {
    let mut guest = Guest::on(&VirtualMachines::new(hypervisor), &[&set_up()[..], &RING, &WRITE].concat())?;
    guest.processor.run()?;
    let mut pages = PageSet::new(PAGES);
    guest.processor.collect_written(&mut pages)?;
    guest.processor.forget_written(&pages)?;
    let context = guest.processor.save()?;
    guest.processor.load(&context)?;
    assert!(matches!(guest.processor.run()?, Event::PageFault(_)));
    guest.processor.flush_translations()
}
