//! The system calls that the guide lists are enough, beside those of any Rust program. The only test of its process.

use std::collections::BTreeSet;
use std::error::Error;
use std::thread;
use std::time::Duration;

use ampoule::{Call, Image, KillOutcome, Output, Pool, Sandbox};

#[test]
fn the_system_calls_that_the_guide_lists_are_enough() {
    let page = include_str!("../../pages/processes.md");
    let rows =
        page.lines().skip_while(|line| !line.starts_with("| system call")).take_while(|line| line.starts_with('|'));
    let first_cells = rows.skip(2).map(|row| row.split('|').nth(1).expect("a cell"));
    let listed: BTreeSet<&str> = first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert_eq!(listed, BTreeSet::from(SANDBOXES.map(|(name, _)| name)));

    let filtered = thread::spawn(|| {
        allow_only(SANDBOXES.map(|(_, number)| number).iter().chain(&PROGRAMS));
        use_everything().map_err(|error| error.to_string())
    });
    assert_eq!(filtered.join().expect("no panic under the filter"), Ok(()));
}

fn use_everything() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("rules"))?;
    let mut sandbox =
        Sandbox::builder(&image).host_fn("list_price", |_item: String| 250u64).stderr(Output::discard()).build()?;
    sandbox.call::<u64>("ticket", ())?;
    sandbox.call::<usize>("takes_memory", (40usize,))?;
    let spinning = || Call::new("spins", ()).deadline(Duration::from_millis(20));
    assert!(sandbox.call_with::<(), _>(spinning()).is_err());
    sandbox.reset()?;

    let handle = sandbox.interrupt_handle();
    let killer = thread::spawn(move || while handle.kill() != KillOutcome::Killed {});
    assert!(sandbox.call::<()>("spins", ()).is_err());
    killer.join().map_err(|_| "the killer panicked")?;
    sandbox.reset()?;

    let snapshot = sandbox.snapshot()?;
    let pool = Pool::builder(&snapshot)
        .size(2)
        .spawn_with(|spawn| spawn.host_fn("list_price", |_item: String| 250u64).stderr(Output::discard()))
        .build()?;
    for _ in 0..4 {
        // A thread of the pool resets what has ended.
        assert!(pool.take()?.call::<()>("aborts", ()).is_err());
    }
    assert_eq!(pool.take()?.call::<String>("greet", ("World",))?, "Hello, World!");
    Ok(())
}

/// Has the kernel refuse all other system calls to this thread, and to those that it starts from now on.
fn allow_only<'a>(calls: impl Iterator<Item = &'a libc::c_long>) {
    let step = |code: u32, k: u32, (jt, jf): (u8, u8)| libc::sock_filter { code: code as u16, jt, jf, k };
    let allow = step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, (0, 0));
    let refuse = step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, (0, 0));
    // The number of a call is at the start of the kernel's `struct seccomp_data`.
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, (0, 0))];
    for &call in calls {
        filter.extend([step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, (0, 1)), allow]);
    }
    filter.push(refuse);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program lives during the call. It loads the number of the call, and compares it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program), 0);
    }
}

/// What the guide lists.
const SANDBOXES: [(&str, libc::c_long); 17] = [
    ("openat", libc::SYS_openat),
    ("ioctl", libc::SYS_ioctl),
    ("memfd_create", libc::SYS_memfd_create),
    ("ftruncate", libc::SYS_ftruncate),
    ("pwrite64", libc::SYS_pwrite64),
    ("fcntl", libc::SYS_fcntl),
    ("mmap", libc::SYS_mmap),
    ("munmap", libc::SYS_munmap),
    ("mprotect", libc::SYS_mprotect),
    ("madvise", libc::SYS_madvise),
    ("getrandom", libc::SYS_getrandom),
    ("tgkill", libc::SYS_tgkill),
    ("rt_sigaction", libc::SYS_rt_sigaction),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    ("rt_sigpending", libc::SYS_rt_sigpending),
    ("clone3", libc::SYS_clone3),
    ("clone", libc::SYS_clone),
];

/// What the standard library and the C library use in any program with threads.
const PROGRAMS: [libc::c_long; 28] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_mremap,
    libc::SYS_newfstatat,
    libc::SYS_poll,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
];
