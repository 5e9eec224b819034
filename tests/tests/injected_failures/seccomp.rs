//! Filters that refuse a system call, as sandboxed services install them.

use std::thread;

/// Runs `body` on a thread of its own, to which the kernel refuses this system call.
pub(crate) fn without<R: Send>(call: libc::c_long, errno: i32, body: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let alone = scope.spawn(|| {
            refuse(call, errno);
            body()
        });
        alone.join().unwrap()
    })
}

/// Makes the kernel refuse a system call to this thread, and to those that it starts from now on.
pub(crate) fn refuse(call: libc::c_long, errno: i32) {
    install(call, errno, 0);
}

/// Makes the kernel refuse a system call to all threads of the process.
pub(crate) fn refuse_to_all(call: libc::c_long, errno: i32) {
    install(call, errno, libc::SECCOMP_FILTER_FLAG_TSYNC);
}

fn install(call: libc::c_long, errno: i32, flags: libc::c_ulong) {
    let step = |code: u32, k: u32, (jt, jf): (u8, u8)| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, (0, 0)),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, (0, 1)),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, (0, 0)),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, (0, 0)),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program lives during the call. It loads the number of the call, and compares it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        assert_eq!(libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program), 0);
    }
}
