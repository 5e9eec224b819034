//! Every variant of every error that this crate shows.

use ampoule_error_rule::{check, each_variant, refusal};

use crate::hypervisor::Operation;
use crate::kvm;
use crate::kvm::{DeviceAccess, DeviceGroup};
use crate::linux::advice::named;
use crate::processor::{self, BadRegister, BadSignalFrame};
use crate::x86_64::paging::OutOfTables;
use crate::x86_64::probe::{Outcome, ProbeError};
use crate::x86_64::shim::{BadReturn, Forgery, ResumeError};
use crate::{
    Baseline, BaselineError, GuestVirt, HypervisorError, MapExhausted, MemoryLost, OpenError, OutOfRegion,
    ParseBaselineError, PrepareError, RevokeError,
};

#[test]
fn errors_of_the_hypervisor_say_everything_once() {
    each_variant!(HypervisorError {
        HypervisorError::Refused { .. } => refused(),
        HypervisorError::SlotInUse { .. } => HypervisorError::SlotInUse { slot: 1 },
        HypervisorError::SlotEmpty { .. } => HypervisorError::SlotEmpty { slot: 1 },
        HypervisorError::WritesNotTracked { .. } => HypervisorError::WritesNotTracked { slot: 1 },
        HypervisorError::SlotSize { .. } => HypervisorError::SlotSize { slot: 1, pages: 2, given: 3 },
        HypervisorError::RegisterRefused { .. } => HypervisorError::RegisterRefused { index: 0xc000_0081 },
        HypervisorError::LostMemory { .. } => HypervisorError::LostMemory { reason: refusal() },
        HypervisorError::Forked => HypervisorError::Forked,
    });
    each_variant!(ProbeError {
        ProbeError::Hypervisor(_) => ProbeError::Hypervisor(refused()),
        ProbeError::Memory(_) => ProbeError::Memory(refusal()),
        ProbeError::NoPort => ProbeError::NoPort,
        ProbeError::SystemCall { .. } => ProbeError::SystemCall { outcome: Outcome::Shutdown },
        ProbeError::SystemCallReturn { .. } => ProbeError::SystemCallReturn { outcome: Outcome::Shutdown },
        ProbeError::Cpuid { .. } => ProbeError::Cpuid { outcome: Outcome::Shutdown },
        ProbeError::Read { .. } => ProbeError::Read { outcome: Outcome::Shutdown },
        ProbeError::Revoke(_) => ProbeError::Revoke(RevokeError::Protect(refusal())),
        ProbeError::PageTables => ProbeError::PageTables,
    });
}

#[test]
fn errors_of_an_open_say_everything_once() {
    let detection =
        || Box::new(kvm::Detection { api_version: 12, extensions: Vec::new(), processor: None, trials: None });
    let path = || "/dev/kvm".into();
    let group = DeviceGroup { name: "kvm".to_owned(), id: 100, effective: false, listed: false };
    let access = DeviceAccess { mode: 0o660, owner: "root".to_owned(), group, permitted: false };
    each_variant!(kvm::OpenError {
        kvm::OpenError::Missing { .. } => kvm::OpenError::Missing { path: path() },
        kvm::OpenError::PermissionDenied { .. } => kvm::OpenError::PermissionDenied { path: path(), access },
        kvm::OpenError::NotKvm { .. } => kvm::OpenError::NotKvm { path: path() },
        kvm::OpenError::ApiVersion { .. } => kvm::OpenError::ApiVersion { path: path(), found: 11 },
        kvm::OpenError::MissingCapability { .. } =>
            kvm::OpenError::MissingCapability { path: path(), capability: "KVM_CAP_XCRS", detection: detection() },
        kvm::OpenError::Unusable { .. } =>
            kvm::OpenError::Unusable { path: path(), detection: detection(), reason: refused().into() },
        kvm::OpenError::Exhausted { .. } => kvm::OpenError::Exhausted { path: path(), reason: refused().into() },
        kvm::OpenError::Undescribed { .. } =>
            kvm::OpenError::Undescribed { path: path(), detection: detection(), reason: refusal() },
        kvm::OpenError::Failed { .. } => kvm::OpenError::Failed { path: path(), reason: refusal() },
    });
    let failed = kvm::OpenError::Failed { path: path(), reason: refusal() };
    let exhausted = kvm::OpenError::Exhausted { path: path(), reason: refused().into() };
    each_variant!(OpenError {
        OpenError::Missing { .. } => kvm::OpenError::Missing { path: path() }.into(),
        OpenError::PermissionDenied { .. } => OpenError::PermissionDenied { explanation: "no".to_owned() },
        OpenError::Unsuitable { .. } => kvm::OpenError::NotKvm { path: path() }.into(),
        OpenError::Exhausted { .. } => exhausted.into(),
        OpenError::Failed { .. } => failed.into(),
    });
}

#[test]
fn errors_of_baselines_say_everything_once() {
    let baseline: Baseline = "x86-64-v2".parse().unwrap();
    let failed = || OpenError::Failed { explanation: refusal().to_string(), reason: refusal() };
    each_variant!(BaselineError {
        BaselineError::Unsupported => BaselineError::Unsupported,
        BaselineError::Missing { .. } => BaselineError::Missing { baseline, features: vec!["popcnt", "pni"] },
        BaselineError::NotHidden { .. } => BaselineError::NotHidden { baseline, features: vec!["avx"] },
        BaselineError::Open(_) => failed().into(),
    });
    each_variant!(ParseBaselineError {
        ParseBaselineError::Level { .. } => ParseBaselineError::Level { given: "i386".to_owned() },
        ParseBaselineError::Feature { .. } => ParseBaselineError::Feature { given: "mpx".to_owned() },
    });
}

#[test]
fn errors_of_memory_say_everything_once() {
    check(&MemoryLost { offset: 4096 });
    let beyond = OutOfRegion { offset: 1, len: 2, region: 3 };
    each_variant!(RevokeError {
        RevokeError::OutOfRegion(_) => RevokeError::OutOfRegion(beyond),
        RevokeError::Protect(_) => RevokeError::Protect(refusal()),
    });
    check(&beyond);
    check(&OutOfTables { needed: 2, available: 1 });
    check(&named::<()>("mmap", Err(refusal())).unwrap_err());
}

#[test]
fn errors_of_ring_0_say_everything_once() {
    check(&Forgery { port: 1, rip: 2 });
    check(&BadReturn { rip: 1 });
    each_variant!(ResumeError {
        ResumeError::NoXsave => ResumeError::NoXsave,
        ResumeError::ProtectionKeys => ResumeError::ProtectionKeys,
        ResumeError::UnknownFormat { .. } => ResumeError::UnknownFormat { at: 8, word: 1 },
        ResumeError::SingleStep => ResumeError::SingleStep,
        ResumeError::SegmentBase { .. } => ResumeError::SegmentBase { base: 1 << 63 },
        ResumeError::StackPointer { .. } => ResumeError::StackPointer { rsp: 1 << 63 },
    });
}

#[test]
fn errors_of_processors_say_everything_once() {
    check(&PrepareError { bytes: 4096, reason: refusal() });
    check(&MapExhausted { needed: 2, available: 1 });
    check(&processor::BadReturn { address: GuestVirt(1 << 63) });
    check(&BadSignalFrame { at: GuestVirt(1) });
    each_variant!(BadRegister {
        BadRegister::Size { .. } => BadRegister::Size { expected: 2, given: 1 },
        BadRegister::Address { .. } => BadRegister::Address { name: "rip", value: 1 << 63 },
        BadRegister::Value { .. } => BadRegister::Value { name: "mxcsr", value: 1 << 31 },
    });
}

fn refused() -> HypervisorError {
    HypervisorError::Refused { operation: Operation::Run, reason: refusal() }
}
