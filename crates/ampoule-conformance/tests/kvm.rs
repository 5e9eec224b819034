//! The backend for KVM passes the suite.

use ampoule_vmm::kvm::Kvm;

ampoule_conformance::tests!(Kvm::shared().expect("these tests need KVM"));
