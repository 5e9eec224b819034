use super::*;
use crate::hypervisor::{HypervisorError, Operation};
use crate::x86_64::probe::Trials;

fn denied(mode: u32, group: DeviceGroup) -> String {
    let access = DeviceAccess { mode, owner: "root".to_owned(), group, permitted: false };
    OpenError::PermissionDenied { path: "/dev/kvm".into(), access }.to_string()
}

fn kvm(effective: bool, listed: bool) -> DeviceGroup {
    DeviceGroup { name: "kvm".to_owned(), id: 104, effective, listed }
}

#[test]
fn a_stranger_to_the_group_is_told_to_join_it() {
    assert_eq!(
        denied(0o660, kvm(false, false)),
        "/dev/kvm: permission denied; the device belongs to group `kvm`: \
         add your user to it (`sudo usermod -aG kvm $USER`) and log in again"
    );
}

#[test]
fn a_new_member_of_the_group_is_told_to_log_in_again() {
    let message = denied(0o660, kvm(false, true));
    assert!(message.ends_with("log in again"), "{message}");
    assert!(!message.contains("usermod"), "{message}");
}

#[test]
fn nobody_is_sent_into_a_group_that_the_mode_keeps_out() {
    let root = |effective| DeviceGroup { name: "root".to_owned(), id: 0, effective, listed: false };
    for group in [root(false), root(true), kvm(true, true), kvm(false, false)] {
        let message = denied(0o600, group);
        assert!(message.contains("mode 0600 lets nobody but its owner `root`"), "{message}");
        assert!(message.contains("chmod 660 /dev/kvm") && !message.contains("-aG root"), "{message}");
    }
    // Even where the mode lets the group in, nobody should join root's.
    let message = denied(0o660, root(false));
    assert!(message.contains("chgrp kvm /dev/kvm") && !message.contains("-aG root"), "{message}");
}

#[test]
fn where_the_mode_lets_the_process_in_something_else_is_looked_for() {
    let group = kvm(true, true);
    let access = DeviceAccess { mode: 0o660, owner: "root".to_owned(), group, permitted: true };
    let message = OpenError::PermissionDenied { path: "/dev/kvm".into(), access }.to_string();
    assert!(message.contains("something else refuses") && !message.contains("usermod"), "{message}");
}

#[test]
fn a_refused_open_names_owner_group_and_mode_of_the_device() {
    let device = std::env::current_exe().unwrap();
    let metadata = device.metadata().unwrap();
    let error = diagnose(&device, io::Error::from_raw_os_error(libc::EACCES));
    let OpenError::PermissionDenied { path, access } = error else {
        panic!("{error:?}");
    };
    assert_eq!(path, device);
    let name = group_entry(metadata.gid()).map_or_else(|| metadata.gid().to_string(), |(name, _)| name);
    assert_eq!(access.group.name, name);
    assert_eq!(access.group.effective, process_groups().unwrap().contains(&metadata.gid()));
    assert_eq!(access.mode, metadata.mode() & 0o777);
    // Whoever runs this has made the file.
    assert!(access.permitted, "{access:?}");
}

#[test]
fn a_refusal_comes_with_its_reason_and_with_what_to_do() {
    let error = diagnose(Path::new("/dev/kvm"), io::Error::from_raw_os_error(libc::EMFILE)).to_string();
    assert!(error.contains("Too many open files") && error.contains("`ulimit -n`"), "{error}");
}

#[test]
fn a_device_without_a_driver_counts_as_missing() {
    for errno in [libc::ENOENT, libc::ENODEV, libc::ENXIO] {
        let error = diagnose(Path::new("/dev/kvm"), io::Error::from_raw_os_error(errno));
        assert!(matches!(error, OpenError::Missing { .. }), "{error:?}");
    }
}

#[test]
fn the_root_group_has_its_name_and_an_unknown_group_none() {
    assert_eq!(group_entry(0).map(|(name, _)| name).as_deref(), Some("root"));
    assert_eq!(group_entry(u32::MAX - 7), None);
}

#[test]
fn a_missing_capability_is_named_and_all_that_was_found_out_listed() {
    let detection = Detection::begin(12, |number| match number {
        kvm_bindings::KVM_CAP_XCRS => 0,
        kvm_bindings::KVM_CAP_DIRTY_LOG_RING => 1 << 20,
        _ => 3,
    });
    let capability = detection.missing().unwrap();
    let error = OpenError::MissingCapability { path: "/dev/kvm".into(), capability, detection: detection.into() };
    assert_eq!(
        error.to_string(),
        "/dev/kvm: KVM lacks KVM_CAP_XCRS; Linux 5.11 or newer on x86-64 is needed\n  \
           what was found out:\n    \
             KVM's API version: 12\n    \
             KVM_CAP_USER_MEMORY: present (0x3)\n    \
             KVM_CAP_EXT_CPUID: present (0x3)\n    \
             KVM_CAP_XCRS: missing\n    \
             KVM_CAP_SYNC_REGS: present (0x3)\n    \
             KVM_CAP_IMMEDIATE_EXIT: present (0x3)\n    \
             KVM_CAP_DIRTY_LOG_RING: present (0x100000)\n    \
             KVM_CAP_BINARY_STATS_FD: present (0x3)\n    \
             processor: not asked for\n    \
             trial guest: not run"
    );
}

#[test]
fn an_unusable_hypervisor_is_described_by_what_was_tried() {
    let mut detection = Detection::begin(12, |_| 3);
    detection.trials = Some(Trials::default());
    let error =
        OpenError::Unusable { path: "/dev/kvm".into(), detection: detection.into(), reason: ProbeError::NoPort };
    let text = error.to_string();
    assert!(text.starts_with("/dev/kvm: KVM does not run a trial guest: ring 3 of a guest cannot reach"), "{text}");
    assert!(text.contains("\n    `out` in ring 3: the I/O bitmap: not tried; "), "{text}");
}

#[test]
fn a_device_that_answers_all_but_one_question_is_described() {
    let reason = io::Error::from_raw_os_error(libc::E2BIG);
    let detection = Detection::begin(12, |_| 3).into();
    let error = OpenError::Undescribed { path: "/dev/kvm".into(), detection, reason };
    assert!(error.to_string().contains("\n    trial guest: not run"), "{error}");
}

#[test]
fn who_knows_of_no_backend_gets_the_same_text_and_the_systems_answer() {
    let path = || "/dev/kvm".into();
    let (missing, other) = (OpenError::Missing { path: path() }, OpenError::NotKvm { path: path() });
    let text = missing.to_string();
    let neutral = hypervisor::OpenError::from(missing);
    assert!(matches!(&neutral, hypervisor::OpenError::Missing { explanation } if *explanation == text), "{neutral}");
    assert!(matches!(other.into(), hypervisor::OpenError::Unsuitable { .. }));

    let answer = || io::Error::from_raw_os_error(libc::EMFILE);
    let tried = HypervisorError::Refused { operation: Operation::CreateVm, reason: answer() };
    for error in [
        OpenError::Failed { path: path(), reason: answer() },
        OpenError::Exhausted { path: path(), reason: tried.into() },
    ] {
        let text = error.to_string();
        let neutral = hypervisor::OpenError::from(error);
        assert!(neutral.to_string() == text && text.contains("`ulimit -n`"), "{neutral}");
        let hypervisor::OpenError::Exhausted { reason, .. } = neutral else { panic!("{neutral}") };
        assert_eq!(reason.raw_os_error(), Some(libc::EMFILE));
    }
}
