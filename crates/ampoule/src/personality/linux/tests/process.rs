use ampoule_vmm::ThreadRegister;

use super::*;

#[test]
fn exiting_gives_the_status_that_a_parent_would_see() {
    let mut guest = Guest::new();
    assert_eq!(guest.call(nr::EXIT_GROUP, [3]), Outcome::Exit { code: 3 });
    assert_eq!(guest.call(nr::EXIT, [-1_i64 as u64]), Outcome::Exit { code: 255 });
}

#[test]
fn thread_pointers_are_set_by_the_run_loop() {
    let mut guest = Guest::new();
    assert_eq!(
        guest.call(nr::ARCH_PRCTL, [0x1002, DATA]),
        Outcome::SetThreadRegister { register: ThreadRegister::Pointer, value: DATA }
    );
    assert_eq!(
        guest.call(nr::ARCH_PRCTL, [0x1001, 0x5000]),
        Outcome::SetThreadRegister { register: ThreadRegister::Second, value: 0x5000 }
    );
    guest.ok(nr::ARCH_PRCTL, [0x1003, DATA + 8]);
    assert_eq!(guest.word(DATA + 8), DATA);
    assert_eq!(guest.errno(nr::ARCH_PRCTL, [0x1002, 1 << 47]), libc::EPERM);
    assert_eq!(guest.errno(nr::ARCH_PRCTL, [0x1002, u64::MAX]), libc::EPERM);
    assert_eq!(guest.errno(nr::ARCH_PRCTL, [0x3001, 0]), libc::EINVAL);
    assert_eq!(guest.errno(nr::ARCH_PRCTL, [0x1004, UNMAPPED]), libc::EFAULT);
}

#[test]
fn the_process_is_nobody_special() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::GETPID, []), guest.ok(nr::GETTID, []));
    assert_eq!(guest.ok(nr::SET_TID_ADDRESS, [UNMAPPED]), guest.ok(nr::GETPID, []));
    assert_ne!(guest.ok(nr::GETUID, []), 0);
    assert_eq!(guest.errno(nr::SETUID, [0]), libc::EPERM);
    let user = guest.ok(nr::GETEUID, []);
    assert_eq!(guest.ok(nr::SETUID, [user]), 0);
    guest.ok(nr::GETRESUID, [DATA, DATA + 4, DATA + 8]);
    assert_eq!(u64::from(guest.half(DATA + 8)), user);
    assert_eq!(guest.ok(nr::UMASK, [0o77]), 0o22);
    assert_eq!(guest.ok(nr::UMASK, [0]), 0o77);
}

#[test]
fn processes_have_different_numbers_and_keep_them() {
    let mut guest = Guest::new();
    let id = guest.id();
    for chance in [[0; 4], [0xff; 4], *b"cast"] {
        let mut other = Guest::new();
        other.process = LinuxProcess::new(
            ProcessConfig {
                stack_size: STACK_SIZE,
                chance,
                clock: by_system_calls(Clock::Real),
                policy: Policy::all(),
            },
            Files::of_none(),
        );
        assert!((300..1 << 22).contains(&other.id()));
        assert_ne!(other.id(), id);
    }
    guest.process = guest.process.suspended();
    guest.process.resume(&guest.space);
    assert_eq!((guest.id(), guest.ok(nr::GETTID, []), guest.ok(nr::GETPGID, [0])), (id, id, id));
    assert_eq!(guest.ok(nr::GETSID, [id]), id);
    assert_eq!(guest.errno(nr::GETSID, [id + 1]), libc::ESRCH);
}

#[test]
fn the_process_can_become_nicer() {
    let mut guest = Guest::new();
    let id = guest.id();
    let user = guest.ok(nr::GETUID, []);
    let (process, group, of_user) = (0, 1, 2);
    assert_eq!(guest.ok(nr::GETPRIORITY, [process, 0]), 20);
    assert_eq!(guest.ok(nr::SETPRIORITY, [process, id, 5]), 0);
    assert_eq!(guest.ok(nr::GETPRIORITY, [group, 0]), 15);
    assert_eq!(guest.errno(nr::SETPRIORITY, [process, 0, 4]), libc::EACCES);
    assert_eq!(guest.ok(nr::SETPRIORITY, [of_user, user, 100]), 0);
    assert_eq!(guest.ok(nr::GETPRIORITY, [process, id]), 1);
    assert_eq!(guest.errno(nr::GETPRIORITY, [process, id + 1]), libc::ESRCH);
    assert_eq!(guest.errno(nr::GETPRIORITY, [of_user, 12_345]), libc::ESRCH);
    assert_eq!(guest.errno(nr::GETPRIORITY, [3, 0]), libc::EINVAL);
}

#[test]
fn the_system_calls_itself_linux() {
    let mut guest = Guest::new();
    guest.ok(nr::UNAME, [DATA]);
    assert_eq!(&guest.bytes(DATA), b"Linux\0");
    assert_eq!(&guest.bytes(DATA + 4 * 65), b"x86_64\0");
    assert_eq!(guest.errno(nr::UNAME, [READ_ONLY]), libc::EFAULT);
    guest.ok(nr::SYSINFO, [DATA]);
    let total = std::mem::offset_of!(libc::sysinfo, totalram) as u64;
    assert_eq!(guest.word(DATA + total), FRAMES as u64 * PAGE);
    assert_eq!(guest.half(DATA + std::mem::offset_of!(libc::sysinfo, mem_unit) as u64), 1);
}

#[test]
fn limits_can_be_lowered_and_are_told_back() {
    let mut guest = Guest::new();
    let stack = u64::from(libc::RLIMIT_STACK);
    guest.ok(nr::PRLIMIT64, [0, stack, 0, DATA]);
    assert_eq!((guest.word(DATA), guest.word(DATA + 8)), (STACK_SIZE, STACK_SIZE));
    assert_eq!(guest.ok(nr::SETRLIMIT, [stack, DATA]), 0);
    guest.put_words(DATA, &[STACK_SIZE * 2, STACK_SIZE * 2]);
    assert_eq!(guest.errno(nr::SETRLIMIT, [stack, DATA]), libc::EPERM);
    guest.put_words(DATA, &[4096, 8192]);
    assert_eq!(guest.ok(nr::PRLIMIT64, [0, stack, DATA, DATA + 16]), 0);
    assert_eq!((guest.word(DATA + 16), guest.word(DATA + 24)), (STACK_SIZE, STACK_SIZE));
    assert_eq!(guest.ok(nr::GETRLIMIT, [stack, DATA]), 0);
    assert_eq!((guest.word(DATA), guest.word(DATA + 8)), (4096, 8192));
    guest.put_words(DATA, &[8193, 8192]);
    assert_eq!(guest.errno(nr::SETRLIMIT, [stack, DATA]), libc::EINVAL);
    guest.put_words(DATA, &[8192, 8192]);
    assert_eq!(guest.ok(nr::SETRLIMIT, [stack, DATA]), 0);
    guest.ok(nr::GETRLIMIT, [u64::from(libc::RLIMIT_AS), DATA]);
    assert_eq!(guest.word(DATA), u64::MAX);
    assert_eq!(guest.errno(nr::PRLIMIT64, [0, 16, 0, DATA]), libc::EINVAL);
    assert_eq!(guest.errno(nr::PRLIMIT64, [1, stack, 0, DATA]), libc::ESRCH);
    assert_eq!(guest.errno(nr::PRLIMIT64, [0, stack, 0, READ_ONLY]), libc::EFAULT);
}

#[test]
fn a_lower_limit_of_descriptors_holds_and_takes_none_away() {
    let mut guest = Guest::new();
    let descriptors = u64::from(libc::RLIMIT_NOFILE);
    assert_eq!(guest.ok(nr::DUP2, [1, 20]), 20);
    guest.put_words(DATA, &[4, 21]);
    assert_eq!(guest.ok(nr::SETRLIMIT, [descriptors, DATA]), 0);
    assert_eq!(guest.ok(nr::DUP, [20]), 3);
    assert_eq!(guest.errno(nr::DUP, [20]), libc::EMFILE);
    assert_eq!(guest.errno(nr::DUP2, [1, 4]), libc::EBADF);
    guest.put_words(DATA, &[21, 21]);
    assert_eq!(guest.ok(nr::SETRLIMIT, [descriptors, DATA]), 0);
    assert_eq!(guest.ok(nr::DUP, [20]), 4);
    assert_eq!(guest.ok(nr::CLOSE, [20]), 0);
}

#[test]
fn the_process_has_no_capabilities_and_can_have_none() {
    const VERSION_3: u64 = 0x2008_0522;
    let mut guest = Guest::new();
    let id = guest.id();
    let (header, sets) = (DATA, DATA + 64);
    for process in [0, id] {
        guest.put_words(header, &[process << 32 | VERSION_3]);
        guest.put_words(sets, &[u64::MAX; 3]);
        assert_eq!(guest.errno(nr::CAPSET, [header, sets]), libc::EPERM);
        assert_eq!(guest.ok(nr::CAPGET, [header, sets]), 0);
        assert_eq!([0, 8, 16].map(|at| guest.word(sets + at)), [0; 3]);
        assert_eq!(guest.ok(nr::CAPSET, [header, sets]), 0);
    }
    // What no capability is means nothing.
    guest.put_words(sets, &[0, 0x8000_0000 << 32, 0]);
    assert_eq!(guest.ok(nr::CAPSET, [header, sets]), 0);
    guest.put_words(header, &[(id + 1) << 32 | VERSION_3]);
    assert_eq!(guest.errno(nr::CAPGET, [header, sets]), libc::ESRCH);
    assert_eq!(guest.errno(nr::CAPSET, [header, sets]), libc::EPERM);
    guest.put_words(header, &[0]);
    assert_eq!(guest.errno(nr::CAPGET, [header, sets]), libc::EINVAL);
    assert_eq!(guest.word(header), VERSION_3, "it learns the version");
    guest.put_words(header, &[0]);
    assert_eq!(guest.ok(nr::CAPGET, [header, 0]), 0);
    assert_eq!(guest.errno(nr::CAPGET, [UNMAPPED, sets]), libc::EFAULT);
}

#[test]
fn a_priority_for_input_and_output_is_told_back() {
    let mut guest = Guest::new();
    let (process, of_user) = (1, 3);
    let (best_effort, idle, real_time) = (2 << 13, 3 << 13, 1 << 13);
    assert_eq!(guest.ok(nr::IOPRIO_GET, [process, 0]), 0);
    assert_eq!(guest.ok(nr::IOPRIO_GET, [of_user, 0]), best_effort | 4);
    assert_eq!(guest.ok(nr::IOPRIO_SET, [process, 0, best_effort | 7]), 0);
    assert_eq!(guest.ok(nr::IOPRIO_GET, [of_user, 0]), best_effort | 7);
    assert_eq!(guest.ok(nr::IOPRIO_SET, [process, 0, idle]), 0);
    assert_eq!(guest.ok(nr::IOPRIO_GET, [process, 0]), idle);
    assert_eq!(guest.errno(nr::IOPRIO_SET, [process, 0, real_time]), libc::EPERM);
    assert_eq!(guest.errno(nr::IOPRIO_SET, [process, 0, best_effort | 8]), libc::EINVAL);
    assert_eq!(guest.errno(nr::IOPRIO_SET, [0, 0, idle]), libc::EINVAL);
    assert_eq!(guest.errno(nr::IOPRIO_GET, [process, 1]), libc::ESRCH);
}

#[test]
fn there_is_one_processor() {
    let mut guest = Guest::new();
    guest.put_words(DATA, &[u64::MAX, u64::MAX]);
    assert_eq!(guest.ok(nr::SCHED_GETAFFINITY, [0, 128, DATA]), 8);
    assert_eq!(guest.word(DATA), 1);
    assert_eq!(guest.errno(nr::SCHED_GETAFFINITY, [0, 7, DATA]), libc::EINVAL);
    assert_eq!(guest.errno(nr::SCHED_GETAFFINITY, [5, 8, DATA]), libc::ESRCH);
    assert_eq!(guest.ok(nr::SCHED_SETAFFINITY, [0, 8, DATA]), 0);
    guest.put_words(DATA, &[2]);
    assert_eq!(guest.errno(nr::SCHED_SETAFFINITY, [0, 8, DATA]), libc::EINVAL);
    guest.ok(nr::GETCPU, [DATA, 0]);
    assert_eq!(guest.half(DATA), 0);
    assert_eq!(guest.ok(nr::SCHED_GET_PRIORITY_MAX, [libc::SCHED_FIFO as u64]), 99);
    assert_eq!(guest.ok(nr::SCHED_YIELD, []), 0);
}

#[test]
fn the_policy_of_the_scheduler_is_the_ordinary_one() {
    let mut guest = Guest::new();
    let [ordinary, batch, real_time] =
        [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_RR].map(|policy| policy as u64);
    guest.put_words(DATA, &[0]);
    assert_eq!(guest.ok(nr::SCHED_SETSCHEDULER, [0, ordinary, DATA]), 0);
    assert_eq!(guest.ok(nr::SCHED_SETSCHEDULER, [0, batch, DATA]), 0);
    assert_eq!(guest.ok(nr::SCHED_GETSCHEDULER, [0]), ordinary);
    assert_eq!(guest.ok(nr::SCHED_SETPARAM, [0, DATA]), 0);
    assert_eq!(guest.errno(nr::SCHED_SETSCHEDULER, [0, real_time, DATA]), libc::EINVAL);
    guest.put_words(DATA, &[1]);
    assert_eq!(guest.errno(nr::SCHED_SETSCHEDULER, [0, real_time, DATA]), libc::EPERM);
    assert_eq!(guest.errno(nr::SCHED_SETSCHEDULER, [0, ordinary, DATA]), libc::EINVAL);
    assert_eq!(guest.errno(nr::SCHED_SETPARAM, [0, DATA]), libc::EINVAL);
    assert_eq!(guest.errno(nr::SCHED_SETSCHEDULER, [0, 77, DATA]), libc::EINVAL);
    assert_eq!(guest.errno(nr::SCHED_SETSCHEDULER, [0, ordinary, UNMAPPED]), libc::EFAULT);
    guest.put_words(DATA, &[1, 1]);
    assert_eq!(guest.ok(nr::SCHED_RR_GET_INTERVAL, [0, DATA]), 0);
    assert_eq!((guest.word(DATA), guest.word(DATA + 8)), (0, 0));
    for number in [nr::SCHED_SETSCHEDULER, nr::SCHED_SETPARAM, nr::SCHED_RR_GET_INTERVAL] {
        assert_eq!(guest.errno(number, [1, DATA, DATA]), libc::ESRCH);
    }
    assert_eq!(guest.errno(nr::SETGROUPS, [0, 0]), libc::EPERM);
}

#[test]
fn the_thread_keeps_its_name() {
    let mut guest = Guest::new();
    guest.put(DATA, b"a name that is too long\0");
    guest.ok(nr::PRCTL, [libc::PR_SET_NAME as u64, DATA]);
    guest.ok(nr::PRCTL, [libc::PR_GET_NAME as u64, DATA + 64]);
    assert_eq!(&guest.bytes(DATA + 64), b"a name that is \0");
    guest.put(DATA, b"short\0");
    guest.ok(nr::PRCTL, [libc::PR_SET_NAME as u64, DATA]);
    guest.ok(nr::PRCTL, [libc::PR_GET_NAME as u64, DATA + 64]);
    assert_eq!(&guest.bytes(DATA + 64), b"short\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(guest.errno(nr::PRCTL, [libc::PR_SET_NAME as u64, UNMAPPED]), libc::EFAULT);
    assert_eq!(guest.errno(nr::PRCTL, [12_345]), libc::EINVAL);
}

#[test]
fn start_up_calls_of_the_c_libraries_succeed_or_fail_as_expected() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::SET_ROBUST_LIST, [DATA, 24]), 0);
    assert_eq!(guest.errno(nr::SET_ROBUST_LIST, [DATA, 23]), libc::EINVAL);
    assert_eq!(guest.errno(nr::RSEQ, [DATA, 32, 0, 0]), libc::ENOSYS);
    let query = guest.ok(nr::MEMBARRIER, [0]);
    assert_ne!(query, 0);
    assert_eq!(guest.ok(nr::MEMBARRIER, [8]), 0);
    assert_eq!(guest.errno(nr::MEMBARRIER, [3]), libc::EINVAL);
}
