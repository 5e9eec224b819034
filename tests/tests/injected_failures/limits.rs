//! Limits of the process's resources that are reached. The error says which limit it was, and what to do about it.

use ampoule::{BuildError, Image, Sandbox, SnapshotError};
use ampoule_tests::{calls_image, tenant_builder};
use ampoule_vmm::kvm::{Kvm, OpenError};

use crate::exhaustion::{Descriptors, in_a_process_of_its_own};
use crate::{MEMORY, disturb, state};

#[test]
fn a_limit_of_file_sizes_is_an_error_that_names_it_and_nothing_is_lost() {
    in_a_process_of_its_own("limits::a_limit_of_file_sizes_is_an_error_that_names_it_and_nothing_is_lost", || {
        let mut sandbox = tenant_builder().memory_limit(MEMORY).build().unwrap();
        let first = sandbox.snapshot().unwrap();
        let at_first = state(&mut sandbox);
        disturb(&mut sandbox);
        let disturbed = state(&mut sandbox);
        for bytes in [0, 4096, 16384] {
            let limit = Limit::set(libc::RLIMIT_FSIZE, bytes);
            let error = sandbox.snapshot().unwrap_err();
            assert!(matches!(error, SnapshotError::Memory(_)), "{error}");
            let text = error.to_string();
            assert!(text.contains(&format!("files of {bytes} bytes (RLIMIT_FSIZE)")), "{text}");
            assert!(text.contains("`ulimit -f`") && !text.contains("open files"), "{text}");
            assert_eq!(state(&mut sandbox), disturbed);
            sandbox.restore(&first).unwrap();
            assert_eq!(state(&mut sandbox), at_first);
            let error = tenant_builder().memory_limit(MEMORY).build().unwrap_err();
            assert!(error.to_string().contains("`ulimit -f`"), "{error}");
            drop(limit);
            disturb(&mut sandbox);
        }
        let second = sandbox.snapshot().unwrap();
        sandbox.restore(&first).unwrap();
        sandbox.restore(&second).unwrap();
        assert_eq!(state(&mut sandbox), disturbed);
    });
}

#[test]
fn a_limit_of_file_sizes_keeps_an_image_from_being_loaded_and_no_more() {
    in_a_process_of_its_own("limits::a_limit_of_file_sizes_keeps_an_image_from_being_loaded_and_no_more", || {
        let limit = Limit::set(libc::RLIMIT_FSIZE, 4096);
        let image = Image::embedded(ampoule::include_guest!("hostile")).unwrap();
        let error = Sandbox::builder(&image).build().unwrap_err();
        assert!(matches!(error, BuildError::Load(_)), "{error}");
        assert!(error.to_string().contains("`ulimit -f`"), "{error}");
        drop(limit);
        assert!(Sandbox::builder(&image).build().unwrap().call::<bool>("alive", ()).unwrap());
    });
}

#[test]
fn a_limit_of_address_space_is_named_where_memory_is_refused() {
    in_a_process_of_its_own("limits::a_limit_of_address_space_is_named_where_memory_is_refused", || {
        Kvm::shared().unwrap();
        calls_image();
        let limit = Limit::set(libc::RLIMIT_AS, 0);
        let error = tenant_builder().build().unwrap_err();
        drop(limit);
        assert!(matches!(error, BuildError::Memory { .. } | BuildError::Load(_)), "{error}");
        assert!(error.to_string().contains("`ulimit -v`"), "{error}");
        tenant_builder().build().unwrap();
    });
}

#[test]
fn without_descriptors_the_hypervisor_is_not_blamed() {
    in_a_process_of_its_own("limits::without_descriptors_the_hypervisor_is_not_blamed", || {
        for left in 0.. {
            let limit = Descriptors::leave(left);
            let opened = Kvm::open();
            drop(limit);
            let Err(error) = opened else {
                assert!(left > 1, "the device and a virtual machine take one each");
                break;
            };
            assert!(matches!(error, OpenError::Exhausted { .. } | OpenError::Failed { .. }), "{left} left: {error}");
            let text = error.to_string();
            assert!(text.contains("Too many open files") && text.contains("`ulimit -n`"), "{left} left: {text}");
            assert_eq!(text.lines().count(), 1, "{left} left: {text}");
        }
    });
}

/// A limit on the process, until it is dropped.
struct Limit {
    resource: libc::__rlimit_resource_t,
    before: libc::rlimit,
}

impl Limit {
    fn set(resource: libc::__rlimit_resource_t, to: u64) -> Self {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes and reads the limit.
        unsafe {
            assert_eq!(libc::getrlimit(resource, &raw mut before), 0);
            assert_eq!(libc::setrlimit(resource, &libc::rlimit { rlim_cur: to, ..before }), 0);
        }
        Self { resource, before }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // SAFETY: reads the limit.
        unsafe { libc::setrlimit(self.resource, &raw const self.before) };
    }
}
