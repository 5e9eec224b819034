//! System calls that a filter refuses to the process, where what is to be done about it is told.

use ampoule::SnapshotError;
use ampoule_tests::tenant_builder;

use crate::exhaustion::in_a_process_of_its_own;
use crate::seccomp::without;
use crate::{MEMORY, disturb, state};

#[test]
fn a_filter_that_refuses_files_in_memory_is_told_as_such() {
    in_a_process_of_its_own("refusals::a_filter_that_refuses_files_in_memory_is_told_as_such", || {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let mut sandbox = tenant_builder().memory_limit(MEMORY).build().unwrap();
            disturb(&mut sandbox);
            let before = state(&mut sandbox);
            let error = without(libc::SYS_memfd_create, errno, || sandbox.snapshot().unwrap_err());
            assert!(matches!(error, SnapshotError::Memory(_)), "{error}");
            let text = error.to_string();
            assert!(text.contains("`memfd_create`: ") && text.contains("seccomp"), "{text}");
            assert!(!text.contains("ulimit"), "{text}");
            assert_eq!(state(&mut sandbox), before);
            sandbox.snapshot().unwrap();
        }
    });
}
