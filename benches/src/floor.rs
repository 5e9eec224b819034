//! The floor: an `out` in ring 3 and back, with nothing around it but the ioctl.

use std::error::Error;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use ampoule_vmm::kvm::Kvm as Backend;
use ampoule_vmm::x86_64::paging::Access;
use ampoule_vmm::x86_64::shim::{self, System};
use ampoule_vmm::{GuestPhys, GuestVirt, Hypervisor, PAGE_SIZE};
use kvm_bindings::{kvm_regs, kvm_sregs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

/// A virtual machine whose guest executes `out` forever.
///
/// Its memory lives as long as the process.
pub(crate) struct Floor {
    vcpu: VcpuFd,
    _vm: VmFd,
}

impl Floor {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let capabilities = *Backend::shared()?.capabilities();
        let (system, mut tables) = System::new(16)?;
        let user_code = Access { write: false, execute: true, user: true };
        tables.map(CODE_VIRT, CODE_PHYS, 1, user_code)?;

        let mut memory = vec![0; system.region().len()];
        system.region().read(0, &mut memory)?;
        let mut code = vec![0; PAGE_SIZE];
        code[..OUT_FOR_EVER.len()].copy_from_slice(&OUT_FOR_EVER);

        let kvm = Kvm::new()?;
        let vm = kvm.create_vm()?;
        for (slot, at, bytes) in [(0, shim::SYSTEM_BASE, memory), (1, CODE_PHYS, code)] {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: at.0,
                memory_size: bytes.len() as u64,
                userspace_addr: leak_pages(&bytes)? as u64,
            };
            // SAFETY: the memory is mapped for as long as the process lives, and nothing else uses it.
            unsafe { vm.set_user_memory_region(region)? };
        }
        let vcpu = vm.create_vcpu(0)?;
        let mut sregs = kvm_sregs::from(&system.initial_special_regs(&capabilities, tables.root()));
        sregs.cr4 &= !CR4_OSXSAVE;
        vcpu.set_sregs(&sregs)?;
        let rflags = shim::initial_flags(&capabilities);
        vcpu.set_regs(&kvm_regs { rip: CODE_VIRT.0, rflags, ..kvm_regs::default() })?;
        let mut floor = Self { vcpu, _vm: vm };
        floor.exit();
        let exit_reason = floor.vcpu.get_kvm_run().exit_reason;
        if exit_reason != kvm_bindings::KVM_EXIT_IO {
            return Err(format!("the floor's guest left with exit {exit_reason} instead of an `out`").into());
        }
        Ok(floor)
    }

    /// One exit: how long it took.
    pub(crate) fn exit(&mut self) -> Duration {
        let start = Instant::now();
        // SAFETY: KVM_RUN takes no argument, and writes only to the run page and to the guest's memory.
        let result = unsafe { libc::ioctl(self.vcpu.as_raw_fd(), KVM_RUN, 0) };
        let time = start.elapsed();
        assert_eq!(result, 0, "KVM_RUN: {}", io::Error::last_os_error());
        time
    }
}

/// Copies bytes to whole pages that are never unmapped.
fn leak_pages(bytes: &[u8]) -> io::Result<*mut u8> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let pages = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes.len(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if pages == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is new, writable, and as long as the bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pages.cast(), bytes.len()) };
    Ok(pages.cast())
}

/// `out 0x11, al; jmp` back to it.
const OUT_FOR_EVER: [u8; 4] = [0xe6, shim::DOORBELL_PORT as u8, 0xeb, 0xfc];

const CODE_VIRT: GuestVirt = GuestVirt(0x40_0000);
const CODE_PHYS: GuestPhys = GuestPhys(0x1_0000_0000);

/// `_IO(KVMIO, 0x80)` (Linux, include/uapi/linux/kvm.h).
const KVM_RUN: libc::c_ulong = 0xae80;

/// The floor's vCPU has no CPUID table, so it may not switch XSAVE on (AMD64 Architecture Programmer's Manual, volume 2,
/// section 3.1.3).
const CR4_OSXSAVE: u64 = 1 << 18;
