use super::*;

fn denied(effective: bool, listed: bool) -> String {
    let group = DeviceGroup { name: "kvm".to_owned(), effective, listed };
    OpenError::PermissionDenied { path: "/dev/kvm".into(), group }.to_string()
}

#[test]
fn a_stranger_to_the_group_is_told_to_join_it() {
    assert_eq!(
        denied(false, false),
        "/dev/kvm: permission denied; the device belongs to group `kvm`: \
         add your user to it (`sudo usermod -aG kvm $USER`) and log in again"
    );
}

#[test]
fn a_new_member_of_the_group_is_told_to_log_in_again() {
    let message = denied(false, true);
    assert!(message.ends_with("log in again"), "{message}");
    assert!(!message.contains("usermod"), "{message}");
}

#[test]
fn a_member_of_the_group_is_told_about_the_mode() {
    let message = denied(true, true);
    assert!(message.contains("permission to read and write"), "{message}");
}

#[test]
fn a_refused_open_names_the_group_that_owns_the_device() {
    let refused = io::Error::from_raw_os_error(libc::EACCES);
    let device = std::env::current_exe().unwrap();
    let gid = device.metadata().unwrap().gid();
    let error = diagnose(&device, refused);
    let OpenError::PermissionDenied { path, group } = error else {
        panic!("{error:?}");
    };
    assert_eq!(path, device);
    let name = group_entry(gid).map_or_else(|| gid.to_string(), |(name, _)| name);
    assert_eq!(group.name, name);
    assert_eq!(group.effective, process_groups().unwrap().contains(&gid));
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
