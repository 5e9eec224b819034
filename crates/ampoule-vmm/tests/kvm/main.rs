//! What is special to KVM: how it is opened. That it passes as a backend is tested by `ampoule-conformance`.

mod fork;
mod signals;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use ampoule_vmm::Hypervisor;
use ampoule_vmm::kvm::{Kvm, OpenError};

#[test]
fn opening_something_else_is_explained() {
    let missing = Kvm::open_path("/dev/no-such-device".as_ref()).unwrap_err();
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    assert!(missing.to_string().starts_with("/dev/no-such-device: no such device"));
    let other = Kvm::open_path("/dev/null".as_ref()).unwrap_err();
    assert!(matches!(other, OpenError::NotKvm { .. }), "{other}");
    let directory = Kvm::open_path("/dev".as_ref()).unwrap_err();
    assert!(matches!(directory, OpenError::Failed { .. }), "{directory}");
}

#[test]
fn a_device_that_is_open_already_can_be_handed_in() {
    let device = File::options().read(true).write(true).open(Kvm::DEVICE).unwrap();
    let kvm = Kvm::from_fd(device.into()).unwrap();
    assert_eq!(kvm.capabilities(), Kvm::open().unwrap().capabilities());
    kvm.create_vm().unwrap();
}

#[test]
fn something_else_that_is_open_is_refused_by_its_number() {
    let other = OwnedFd::from(File::open("/dev/null").unwrap());
    let number = other.as_raw_fd();
    let error = Kvm::from_fd(other).unwrap_err();
    assert!(matches!(error, OpenError::NotKvm { .. }), "{error}");
    assert_eq!(error.to_string(), format!("/proc/self/fd/{number}: not a KVM device"));
}

#[test]
fn the_process_shares_one_kvm() {
    let (one, other) = (Kvm::shared().unwrap(), Kvm::shared().unwrap());
    assert!(Arc::ptr_eq(&one, &other));
}
