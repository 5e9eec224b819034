//! Operations that succeed without the kernel.

use std::{io, thread};

use ampoule_tests::calls_builder;

#[test]
fn a_warm_restore_makes_no_system_call() {
    let mut sandbox = calls_builder().build().expect("these tests need KVM");
    let snapshot = sandbox.snapshot().unwrap();
    for _ in 0..2 {
        assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), 101);
        sandbox.restore(&snapshot).unwrap();
    }
    assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), 101);
    let restored = thread::scope(|scope| {
        let restorer = scope.spawn(|| {
            refuse_system_calls();
            // SAFETY: the call has no effect except its result, and none at all where it is refused.
            let probe = unsafe { libc::syscall(libc::SYS_getppid) };
            assert_eq!(probe, -1, "the filter is in force");
            sandbox.restore(&snapshot)
        });
        restorer.join().expect("the restore does without system calls")
    });
    restored.unwrap();
    assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), 101);
}

/// From now on, every system call of this thread fails with `EPERM`, except those with which a thread ends.
fn refuse_system_calls() {
    let of_the_end = [libc::SYS_exit, libc::SYS_futex, libc::SYS_madvise, libc::SYS_munmap, libc::SYS_sigaltstack];
    let allowed = [&of_the_end[..], &[libc::SYS_rt_sigprocmask]].concat();
    let statement = |code, k, jt| libc::sock_filter { code, k, jt, jf: 0 };
    let (load, equal, answer) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_RET);
    // The number of the call is the first field of what the filter looks at.
    let mut filter = vec![statement(load as u16, 0, 0)];
    for (index, number) in allowed.iter().enumerate() {
        let to_allow = (allowed.len() - index) as u8;
        filter.push(statement((equal | libc::BPF_K) as u16, *number as u32, to_allow));
    }
    filter.push(statement((answer | libc::BPF_K) as u16, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0));
    filter.push(statement((answer | libc::BPF_K) as u16, libc::SECCOMP_RET_ALLOW, 0));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is as long as it says and lives during the calls, which concern only this thread.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        ]
    };
    assert_eq!(results, [0, 0], "{}", io::Error::last_os_error());
}
