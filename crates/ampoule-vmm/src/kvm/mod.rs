//! The backend for Linux KVM.
//!
//! Registers travel in the page that a vCPU shares with the kernel (`KVM_CAP_SYNC_REGS`), so that a call into a guest costs
//! one `KVM_RUN` and no other system call.

mod cpuid;
mod open_error;
mod registers;
mod run_page;
mod vcpu;
mod vm;

use std::fs::OpenOptions;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_CAP_EXT_CPUID, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
    KVM_CAP_SYNC_REGS, KVM_CAP_USER_MEMORY, KVM_CAP_XCRS, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, KVM_MAX_CPUID_ENTRIES,
    KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS,
};

use crate::hypervisor::{Hypervisor, HypervisorError, Vm};
use crate::x86_64::capabilities::Capabilities;
use crate::x86_64::probe::{Features, probe};

pub use open_error::{DeviceGroup, OpenError};

use vm::KvmVm;

/// KVM, opened and found usable.
#[derive(Debug)]
pub struct Kvm {
    device: Arc<Device>,
    capabilities: Capabilities,
}

impl Kvm {
    /// The path that [`open`](Kvm::open) opens.
    pub const DEVICE: &'static str = "/dev/kvm";

    /// Opens [`Kvm::DEVICE`] and tries it out, which takes some milliseconds.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong and what to do about it.
    pub fn open() -> Result<Kvm, OpenError> {
        Kvm::open_path(Path::new(Kvm::DEVICE))
    }

    /// Like [`open`](Kvm::open), for a device of another name.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong and what to do about it.
    pub fn open_path(path: &Path) -> Result<Kvm, OpenError> {
        let device = Arc::new(Device::open(path)?);
        let features = Features { fsgsbase: cpuid::has_fsgsbase(&device.cpuid), xcr0: device.xcr0 };
        let capabilities = probe(features, |supposed| Ok(Box::new(KvmVm::create(device.clone(), supposed)?)))
            .map_err(|source| OpenError::Unusable { path: path.to_owned(), source })?;
        tracing::debug!(%capabilities, "opened KVM");
        Ok(Kvm { device, capabilities })
    }

    /// The process's own KVM, opened at the first call and kept. A call that fails is not remembered: the next one tries
    /// again.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong and what to do about it.
    pub fn shared() -> Result<Arc<Kvm>, OpenError> {
        static SHARED: Mutex<Option<Arc<Kvm>>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kvm) = &*shared {
            return Ok(kvm.clone());
        }
        let kvm = Arc::new(Kvm::open()?);
        *shared = Some(kvm.clone());
        Ok(kvm)
    }
}

impl Hypervisor for Kvm {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        let vm = KvmVm::create(self.device.clone(), self.capabilities)?;
        Ok(Box::new(vm))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

/// The open device, and what is to be asked of it only once.
#[derive(Debug)]
struct Device {
    kvm: kvm_ioctls::Kvm,
    /// What guests see of the processor.
    cpuid: CpuId,
    /// The register state that guests may use; 0 without XSAVE.
    xcr0: u64,
    /// The size of a vCPU's shared page and what follows it, in bytes.
    run_page_len: usize,
}

impl Device {
    fn open(path: &Path) -> Result<Device, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| open_error::diagnose(path, source))?;
        // SAFETY: the descriptor is open, and nobody else owns it any more. That it is KVM's is checked next; until then
        // it is only asked for its version, which other devices answer by an error.
        let kvm = unsafe { kvm_ioctls::Kvm::from_raw_fd(file.into_raw_fd()) };
        check(path, &kvm)?;
        let failed = |errno: kvm_ioctls::Error| OpenError::Failed { path: path.to_owned(), source: errno.into() };
        let run_page_len = kvm.get_vcpu_mmap_size().map_err(failed)?;
        let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(failed)?;
        let xcr0 = cpuid::restrict(&mut cpuid);
        Ok(Device { kvm, cpuid, xcr0, run_page_len })
    }
}

/// Makes sure that this is KVM and can do what this backend needs.
fn check(path: &Path, kvm: &kvm_ioctls::Kvm) -> Result<(), OpenError> {
    match kvm.get_api_version() {
        found if found < 0 => {
            return Err(OpenError::NotKvm { path: path.to_owned() });
        }
        found if found as u32 != KVM_API_VERSION => {
            return Err(OpenError::ApiVersion { path: path.to_owned(), found });
        }
        _ => {}
    }
    let registers = (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS) as i32;
    let needed = [
        ("KVM_CAP_USER_MEMORY", KVM_CAP_USER_MEMORY, 1),
        ("KVM_CAP_EXT_CPUID", KVM_CAP_EXT_CPUID, 1),
        ("KVM_CAP_XCRS", KVM_CAP_XCRS, 1),
        ("KVM_CAP_SYNC_REGS", KVM_CAP_SYNC_REGS, registers),
        ("KVM_CAP_IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT, 1),
        (
            "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2",
            KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
            KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE as i32,
        ),
    ];
    for (capability, number, bits) in needed {
        if kvm.check_extension_raw(number.into()) & bits != bits {
            return Err(OpenError::MissingCapability { path: path.to_owned(), capability });
        }
    }
    Ok(())
}
