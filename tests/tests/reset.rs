//! `reset` goes back to the state after the start, whatever has happened since.

use std::sync::Arc;

use ampoule::{CallError, ExecutableMemory, Sandbox};
use ampoule_vmm::count::{Counting, Method};
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::{Hypervisor, HypervisorError, Vm};

use ampoule_tests::{calls_builder, calls_sandbox, hostile_image, hostile_sandbox};

#[test]
fn state_goes_back_to_what_it_was_after_the_start() {
    let mut sandbox = calls_sandbox();
    for _ in 0..3 {
        assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), 101);
        assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), 102);
        assert!(sandbox.call::<bool>("exercise_memory", (3u32,)).unwrap());
        sandbox.reset().unwrap();
    }
}

/// A guest that has denied itself access to its memory could not load its registers itself.
#[test]
fn where_guests_can_use_protection_keys_the_hypervisor_restores_the_registers() {
    let kvm = Kvm::shared().expect("these tests need KVM");
    let mut capabilities = *kvm.capabilities();
    capabilities.protection_keys = true;
    let hypervisor = Arc::new(Counting::new(With { capabilities, kvm }));
    let mut sandbox = calls_builder().hypervisor(hypervisor.clone()).build().unwrap();
    let snapshot = sandbox.snapshot().unwrap();
    for _ in 0..3 {
        assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), 101);
        let before = hypervisor.counts();
        sandbox.restore(&snapshot).unwrap();
        assert_eq!(hypervisor.counts().since(&before).of(Method::SetFpu), 1);
    }
    let mut spawned = ampoule_tests::calls_spawn(snapshot.builder()).build().unwrap();
    assert_eq!(spawned.call::<u32>("increment", ()).unwrap(), 101);
}

/// KVM, with capabilities that it does not have.
struct With {
    capabilities: Capabilities,
    kvm: Arc<Kvm>,
}

impl Hypervisor for With {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        self.kvm.create_vm()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

#[test]
fn a_poisoned_sandbox_can_be_called_again() {
    let mut sandbox = hostile_sandbox();
    type WayToEnd = fn(&mut Sandbox) -> Result<(), CallError>;
    let ways_to_end: [WayToEnd; 9] = [
        |sandbox| sandbox.call("write", (0u64, 1u8)),
        |sandbox| sandbox.call("execute", (0u64,)),
        |sandbox| sandbox.call::<bool>("privileged", ("ud2",)).map(drop),
        |sandbox| sandbox.call::<bool>("privileged", ("int3",)).map(drop),
        |sandbox| sandbox.call::<bool>("privileged", ("hlt",)).map(drop),
        |sandbox| sandbox.call::<u64>("overflow_the_stack", (0u64,)).map(drop),
        |sandbox| sandbox.call::<usize>("allocate_for_ever", ()).map(drop),
        |sandbox| sandbox.call::<bool>("forge", (0u64, 1u32, 0u32, 0u32, 0u32)).map(drop),
        |sandbox| sandbox.call::<bool>("output_to_port", (0x10u16,)).map(drop),
    ];
    for (index, way) in ways_to_end.iter().enumerate() {
        let error = way(&mut sandbox).unwrap_err();
        assert!(error.poisons() && sandbox.poisoned().is_some(), "{index}: {error}");
        assert!(matches!(sandbox.call::<bool>("alive", ()), Err(CallError::Poisoned { .. })), "{index}");
        sandbox.reset().unwrap();
        assert!(sandbox.poisoned().is_none());
        assert!(sandbox.call::<bool>("alive", ()).unwrap(), "{index}");
    }
}

#[test]
fn a_sandbox_whose_host_function_panicked_can_be_reset() {
    let mut panics = true;
    let mut sandbox = ampoule::Sandbox::builder(&ampoule_tests::calls_image())
        .host_fn("add", move |a: u32, b: u32| if std::mem::take(&mut panics) { panic!("a bug") } else { a + b })
        .host_fn("notify", || ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap();
    let call = std::panic::AssertUnwindSafe(|| sandbox.call::<u32>("count_on_host", (1u32,)));
    assert!(std::panic::catch_unwind(call).is_err());
    sandbox.reset().unwrap();
    assert_eq!(sandbox.call::<u32>("count_on_host", (5u32,)).unwrap(), 5);
}

#[test]
fn memory_of_an_earlier_life_is_gone() {
    let mut sandbox = hostile_sandbox();
    let address: u64 = sandbox.call("address_of", ("heap",)).unwrap();
    sandbox.call::<()>("write", (address, 0x77u8)).unwrap();
    assert_eq!(sandbox.call::<u8>("read", (address,)).unwrap(), 0x77);
    sandbox.reset().unwrap();
    assert_ne!(sandbox.call::<u8>("read", (address,)).unwrap(), 0x77);
}

#[test]
fn permissions_of_an_earlier_life_are_gone() {
    let mut sandbox =
        Sandbox::builder(&hostile_image()).executable_memory(ExecutableMemory::WriteXorExecute).build().unwrap();
    for _ in 0..2 {
        assert_eq!(sandbox.call::<i32>("generate_code", ()).unwrap(), 0);
        sandbox.reset().unwrap();
    }
    let constant: u64 = sandbox.call("address_of", ("constant",)).unwrap();
    let page = constant & !0xfff;
    const MPROTECT: u64 = 10;
    const READ_WRITE: u64 = 3;
    let protect = [page, 4096, READ_WRITE, 0, 0, 0];
    assert_eq!(sandbox.call::<u64>("system_call", (MPROTECT, protect)).unwrap(), 0);
    let before: u8 = sandbox.call("read", (constant,)).unwrap();
    sandbox.call::<()>("write", (constant, !before)).unwrap();
    assert_eq!(sandbox.call::<u8>("read", (constant,)).unwrap(), !before);
    sandbox.reset().unwrap();
    assert_eq!(sandbox.call::<u8>("read", (constant,)).unwrap(), before);
    assert!(sandbox.call::<()>("write", (constant, !before)).unwrap_err().poisons());
}

#[test]
fn a_reset_in_the_middle_of_good_work_is_harmless() {
    let mut sandbox = calls_builder().build().unwrap();
    sandbox.reset().unwrap();
    sandbox.reset().unwrap();
    assert_eq!(sandbox.call::<u32>("count_on_host", (3u32,)).unwrap(), 3);
}
