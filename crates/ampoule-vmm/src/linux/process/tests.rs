use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::*;

#[test]
fn a_process_is_itself_and_none_of_its_children() {
    let process = Process::current().unwrap();
    assert!(process.is_current());
    assert_eq!(in_child(|| !process.is_current()), 0);
    assert!(process.is_current());
}

#[test]
fn a_child_is_told_from_its_own_children_too() {
    let process = Process::current().unwrap();
    let status = in_child(|| {
        let child = Process::current().unwrap();
        let grandchild = in_child(|| {
            let grandchild = Process::current().unwrap();
            grandchild.is_current() && !child.is_current() && !process.is_current()
        });
        grandchild == 0 && child.is_current() && !process.is_current()
    });
    assert_eq!(status, 0);
}

#[test]
fn threads_are_of_one_process() {
    let status = in_child(|| {
        // None of them has been numbered.
        let processes: Vec<Process> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Process::current().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        processes.iter().all(|process| process.is_current() && process.number == processes[0].number)
    });
    assert_eq!(status, 0);
}

#[test]
fn a_lock_that_was_held_at_the_fork_is_free_in_the_child() {
    static LOCK: PerProcess<Mutex<u32>> = PerProcess::new();
    let lock = || LOCK.get(|parents| Mutex::new(parents.map_or(1, |parents| parents.try_lock().map_or(2, |it| *it))));
    let held = lock().unwrap().lock().unwrap();
    assert_eq!(in_child(|| *lock().unwrap().lock().unwrap() == 2), 0, "it cannot be known what a lock protects");
    drop(held);
    *lock().unwrap().lock().unwrap() = 7;
    assert_eq!(in_child(|| *lock().unwrap().lock().unwrap() == 7), 0);
}

/// The wait status of a child process that exits with status 0 if `body` says so.
fn in_child(body: impl FnOnce() -> bool) -> libc::c_int {
    // SAFETY: `body` uses nothing that another thread may have locked but for the C library's own memory, which can be used
    // in a child, and never returns into the test harness. The child ends after ten seconds at the latest.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::alarm(10);
            let is_right = catch_unwind(AssertUnwindSafe(body)).unwrap_or(false);
            libc::_exit((!is_right).into());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    }
}
