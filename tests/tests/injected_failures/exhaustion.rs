//! A host that has run out of something. Each test runs alone in a process of its own.

use std::process::Command;

use ampoule::{BuildError, RestoreError, Sandbox, SnapshotError};
use ampoule_tests::{memory_builder, tenant_builder, tenant_spawn};

use crate::{MEMORY, alone, assert_refuses_calls, descriptors, disturb, state};

#[test]
fn without_descriptors_a_snapshot_fails_and_changes_nothing() {
    in_a_process_of_its_own("exhaustion::without_descriptors_a_snapshot_fails_and_changes_nothing", || {
        let mut sandbox = tenant_builder().memory_limit(MEMORY).build().unwrap();
        let first = sandbox.snapshot().unwrap();
        let at_first = state(&mut sandbox);
        disturb(&mut sandbox);
        let disturbed = state(&mut sandbox);
        let before = descriptors();
        // One remaining descriptor is not enough either: a snapshot takes two.
        for left in 0..2 {
            let limit = Descriptors::leave(left);
            let error = sandbox.snapshot().unwrap_err();
            assert!(matches!(error, SnapshotError::Memory(_)), "{error}");
            assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
            assert_eq!(state(&mut sandbox), disturbed);
            sandbox.restore(&first).unwrap();
            assert_eq!(state(&mut sandbox), at_first);
            disturb(&mut sandbox);
            let error = sandbox.snapshot().unwrap_err();
            assert!(matches!(error, SnapshotError::Memory(_)), "{error}");
            drop(limit);
            sandbox.restore(&first).unwrap();
            assert_eq!(descriptors(), before);
            disturb(&mut sandbox);
        }
        let second = sandbox.snapshot().unwrap();
        sandbox.restore(&first).unwrap();
        sandbox.restore(&second).unwrap();
        assert_eq!(state(&mut sandbox), disturbed);
        assert_eq!(state(&mut tenant_spawn(&second).build().unwrap()), disturbed);
    });
}

#[test]
fn registers_do_not_survive_a_snapshot_that_failed() {
    in_a_process_of_its_own("exhaustion::registers_do_not_survive_a_snapshot_that_failed", || {
        const OWN: u64 = 0x1357_9bdf_0246_8ace;
        const SECRET: u64 = 0x5ec2_e75e_c2e7_1d0b;
        let exchange = |sandbox: &mut Sandbox, value: u64| -> Vec<u64> {
            sandbox.call("exchange_registers", (value, 0u8)).unwrap()
        };
        let mut sandbox = tenant_builder().build().unwrap();
        exchange(&mut sandbox, OWN);
        let own = sandbox.snapshot().unwrap();
        let kept = exchange(&mut sandbox, SECRET);
        for left in 0..2 {
            let limit = Descriptors::leave(left);
            sandbox.snapshot().unwrap_err();
            drop(limit);
            sandbox.restore(&own).unwrap();
            let found = exchange(&mut sandbox, SECRET);
            for vector_registers in [0..16, 28..76] {
                assert_eq!(found[vector_registers.clone()], kept[vector_registers]);
            }
        }
    });
}

#[test]
fn without_descriptors_a_spawn_fails() {
    in_a_process_of_its_own("exhaustion::without_descriptors_a_spawn_fails", || {
        let mut sandbox = tenant_builder().memory_limit(MEMORY).build().unwrap();
        disturb(&mut sandbox);
        let snapshot = sandbox.snapshot().unwrap();
        let expected = state(&mut sandbox);
        let before = descriptors();
        for left in 0.. {
            let limit = Descriptors::leave(left);
            match tenant_spawn(&snapshot).build() {
                Err(error) => {
                    assert!(matches!(error, BuildError::Hypervisor(_) | BuildError::Memory { .. }), "{error}");
                    let text = error.to_string();
                    assert!(text.contains("Too many open files") && text.contains("`ulimit -n`"), "{text}");
                    assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
                }
                Ok(mut spawned) => {
                    assert!(left > 0);
                    assert_eq!(state(&mut spawned), expected);
                    break;
                }
            }
            drop(limit);
            assert_eq!(descriptors(), before, "{left} left");
        }
    });
}

#[test]
fn without_mappings_a_restore_that_needs_some_fails_and_can_be_repeated() {
    in_a_process_of_its_own("exhaustion::without_mappings_a_restore_that_needs_some_fails_and_can_be_repeated", || {
        let mut sandbox = tenant_builder().memory_limit(MEMORY).build().unwrap();
        let near = sandbox.snapshot().unwrap();
        let at_near = state(&mut sandbox);
        sandbox.call::<()>("map_region", (2u8, 3000u32, 5u64)).unwrap();
        // In many pieces.
        for page in (0u32..3000).step_by(500) {
            sandbox.call::<()>("write_region", (2u8, page, u64::from(page))).unwrap();
            sandbox.snapshot().unwrap();
        }
        let far = sandbox.snapshot().unwrap();
        let at_far = state(&mut sandbox);
        let mut failures = 0;
        for left in (0..24).step_by(2) {
            for (target, expected, present) in [(&near, &at_near, &far), (&far, &at_far, &near)] {
                sandbox.restore(present).unwrap();
                let hog = Mappings::leave(left);
                match sandbox.restore(target) {
                    Ok(()) => assert_eq!(state(&mut sandbox), *expected),
                    Err(error) => {
                        assert!(matches!(error, RestoreError::Memory(_)), "{error}");
                        assert_refuses_calls(&mut sandbox);
                        failures += 1;
                    }
                }
                drop(hog);
                // Whichever snapshot the guest goes back to, it is complete.
                for (again, expected) in [(&near, &at_near), (&far, &at_far)] {
                    sandbox.restore(again).unwrap();
                    assert_eq!(state(&mut sandbox), *expected, "{left} mappings were left");
                }
            }
        }
        assert!(failures > 0, "no restore needed a mapping");
    });
}

#[test]
fn without_mappings_a_permission_is_taken_away_all_the_same() {
    in_a_process_of_its_own("exhaustion::without_mappings_a_permission_is_taken_away_all_the_same", || {
        const AT: u64 = 0x1_0000_0000;
        const PAGES: u64 = 64;
        let mut sandbox = memory_builder().memory_limit(MEMORY).build().unwrap();
        for changed in [0, 1, PAGES / 2, PAGES - 1].map(|page| AT + page * PAGE as u64) {
            assert_eq!(sandbox.call::<u64>("fill", (AT, PAGES, 1_u8)).unwrap(), 0);
            let hog = Mappings::leave(0);
            sandbox.call::<()>("protect", (changed, 1_u64, libc::PROT_READ)).unwrap();
            let error = sandbox.call::<()>("probe_write", (changed, 2_u8)).unwrap_err();
            drop(hog);
            assert!(error.to_string().contains(&format!("write to read-only page at {changed:#x}")), "{error}");
            sandbox.reset().unwrap();
        }
    });
}

#[test]
fn a_limit_of_data_below_what_is_in_use_keeps_no_permission_from_being_taken_away() {
    let name = "exhaustion::a_limit_of_data_below_what_is_in_use_keeps_no_permission_from_being_taken_away";
    in_a_process_of_its_own(name, || {
        const AT: u64 = 0x1_0000_0000;
        let mut sandbox = memory_builder().memory_limit(MEMORY).build().unwrap();
        assert_eq!(sandbox.call::<u64>("fill", (AT, 64_u64, 1_u8)).unwrap(), 0);
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes the limit.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_DATA, &mut limit) }, 0);
        let low = libc::rlimit { rlim_cur: 1 << 20, ..limit };
        // SAFETY: reads the limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &low) }, 0);
        let protected = sandbox.call::<()>("protect", (AT, 64_u64, libc::PROT_READ));
        let error = sandbox.call::<()>("probe_write", (AT, 2_u8)).unwrap_err();
        // SAFETY: reads the limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }, 0);
        protected.unwrap();
        assert!(error.to_string().contains(&format!("write to read-only page at {AT:#x}")), "{error}");
        sandbox.reset().unwrap();
        assert_eq!(sandbox.call::<u64>("fill", (AT, 64_u64, 1_u8)).unwrap(), 0);
    });
}

#[test]
fn without_mappings_a_reset_takes_permissions_away_all_the_same() {
    in_a_process_of_its_own("exhaustion::without_mappings_a_reset_takes_permissions_away_all_the_same", || {
        const AT: u64 = 0x1_0000_0000;
        let mut sandbox = memory_builder().memory_limit(MEMORY).build().unwrap();
        for _ in 0..3 {
            assert_eq!(sandbox.call::<u64>("fill", (AT, 64_u64, 1_u8)).unwrap(), 0);
            let hog = Mappings::leave(0);
            sandbox.reset().unwrap();
            let error = sandbox.call::<u8>("probe_read", (AT,)).unwrap_err();
            drop(hog);
            assert!(error.to_string().contains(&format!("read of unmapped address {AT:#x}")), "{error}");
            sandbox.reset().unwrap();
        }
    });
}

/// Runs `test`, the test of this name, in a process of its own.
pub(crate) fn in_a_process_of_its_own(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INNER).is_some() {
        return test();
    }
    let _alone = alone();
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this).args(["--exact", name, "--nocapture"]).env(INNER, "").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{}\n{text}", output.status);
}

/// A limit on open files, until it is dropped.
pub(crate) struct Descriptors(libc::rlimit);

impl Descriptors {
    /// Lets this many more be opened.
    pub(crate) fn leave(more: usize) -> Self {
        // SAFETY: asks whether a descriptor is open.
        let free = (0..).filter(|number| unsafe { libc::fcntl(*number, libc::F_GETFD) } == -1);
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes the limit.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
        let rlim_cur = free.take(more + 1).last().expect("few are open") as u64;
        // SAFETY: reads the limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &libc::rlimit { rlim_cur, ..limit }) }, 0);
        Self(limit)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: reads the limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &self.0) };
    }
}

/// So many mappings that the process can have few more.
struct Mappings {
    at: *mut libc::c_void,
    len: usize,
}

impl Mappings {
    /// Lets this many more be made.
    fn leave(more: usize) -> Self {
        let most: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
        let len = 2 * most * PAGE;
        let (fresh, flags) = (std::ptr::null_mut(), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping touches no other memory.
        let at = unsafe { libc::mmap(fresh, len, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        let protect = |page: usize, protection| {
            // SAFETY: the page is one of the new mapping's, which nothing uses.
            unsafe { libc::mprotect(at.byte_add(page * PAGE), PAGE, protection) == 0 }
        };
        let mut split = (1..2 * most).step_by(2).take_while(|page| protect(*page, libc::PROT_READ)).last();
        // Each page that becomes like its neighbours again saves two mappings.
        for _ in 0..more.div_ceil(2) {
            let page = split.expect("some pages could be set apart");
            assert!(protect(page, libc::PROT_NONE));
            split = page.checked_sub(2);
        }
        Self { at, len }
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's, and nothing uses it.
        unsafe { libc::munmap(self.at, self.len) };
    }
}

/// Set in the process that runs one test.
const INNER: &str = "AMPOULE_TEST_RUNS_ALONE";

const PAGE: usize = 4096;
