//! Child processes of a test.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The wait status of a child process that runs `body` and exits with status 0 unless it panics.
///
/// # Panics
/// Where there can be no child.
pub fn in_child(body: impl FnOnce()) -> libc::c_int {
    // SAFETY: the child's only thread runs `body`, which uses nothing that another thread may have locked except the C
    // library's allocator, which can be used in a child, and never returns into the test harness. It ends after two minutes
    // at the latest.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::alarm(120);
            let status = catch_unwind(AssertUnwindSafe(body)).is_err();
            libc::_exit(status.into());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    }
}
