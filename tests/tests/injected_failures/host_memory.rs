//! Memory of the host's that cannot be mapped, taken away or restored.

use std::error::Error;
use std::sync::Arc;

use ampoule::{Call, HostMemory, MapAccess, Sandbox};
use ampoule_tests::memory_builder;
use ampoule_vmm::inject::FailAt;
use ampoule_vmm::kvm::Kvm;

use crate::{Failing, MEMORY, each_failure};

/// Maps, lends, writes, unmaps and restores.
fn use_everything(sandbox: &mut Sandbox) -> Result<(), Box<dyn Error>> {
    let memory = HostMemory::copy_of(&[1; 3 << 20])?;
    let read = sandbox.map_memory(&memory, None, MapAccess::Read)?;
    let copy = sandbox.map_memory(&memory, None, MapAccess::CopyOnWrite)?;
    sandbox.call::<()>("mapped_write", (copy.bytes(), 0_u64, 2_u8))?;
    let snapshot = sandbox.snapshot()?;
    for _ in 0..2 {
        let sum: u64 = sandbox.call_lending([&memory[5..]], |[lent]| Call::new("mapped_sum", (lent,)))?;
        assert_eq!(sum, (3 << 20) - 5);
        sandbox.unmap(&read)?;
        sandbox.call::<()>("mapped_write", (copy.bytes(), 1_u64, 3_u8))?;
        sandbox.restore(&snapshot)?;
        assert_eq!(sandbox.call::<u64>("mapped_sum", (read.bytes(),))?, 3 << 20);
        assert_eq!(sandbox.call::<u64>("mapped_sum", (copy.bytes(),))?, (3 << 20) + 1);
    }
    Ok(())
}

#[test]
fn a_sandbox_is_what_it_was_built_as_once_it_is_reset_whatever_has_failed() {
    let prepare = |number| -> (Sandbox, Failing) {
        let hypervisor = Arc::new(FailAt::new(Kvm::shared().unwrap(), number));
        let sandbox = memory_builder().memory_limit(MEMORY).hypervisor(hypervisor.clone()).build().unwrap();
        (sandbox, hypervisor)
    };
    each_failure(prepare, use_everything, |number, mut sandbox, _| {
        sandbox.reset().unwrap_or_else(|error| panic!("operation {number}: {error}"));
        assert_eq!(sandbox.mappings().count(), 0, "operation {number}");
        for at in [0x7ff0_0000_0000_u64, 0x7ff0_0000_1000, 0x7ff0_0040_0000, 0x7ff0_0080_1000] {
            let read = sandbox.call::<u8>("probe_read", (at,));
            assert!(read.is_err(), "operation {number}: {at:#x}");
            sandbox.reset().unwrap();
        }
        use_everything(&mut sandbox).unwrap_or_else(|error| panic!("operation {number}: {error}"));
    });
}
