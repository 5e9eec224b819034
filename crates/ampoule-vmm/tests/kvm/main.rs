//! What is special to KVM: how it is opened. That it passes as a backend is tested by `ampoule-conformance`.

mod fork;
mod signals;

use std::sync::Arc;

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
fn the_process_shares_one_kvm() {
    let (one, other) = (Kvm::shared().unwrap(), Kvm::shared().unwrap());
    assert!(Arc::ptr_eq(&one, &other));
}
