use super::*;

impl Guest {
    /// Makes a system call, and shows it as a trace does.
    pub(super) fn traced(&mut self, number: u64, arguments: impl Into<Vec<u64>>) -> (Outcome, String) {
        let mut given: Vec<u64> = arguments.into();
        given.resize(6, 0);
        let call = SystemCall { number, arguments: given.try_into().unwrap() };
        let mut line = self.process.show_entered(&call, &self.space);
        let outcome = self.process.system_call(&call, &mut self.space, &mut self.printed);
        let result = match outcome {
            Outcome::Return(result) => Some(result),
            Outcome::SetThreadRegister { .. } => Some(0),
            _ => None,
        };
        self.process.show_left(&call, result, &self.space, &mut line);
        (outcome, line)
    }

    fn line(&mut self, number: u64, arguments: impl Into<Vec<u64>>) -> String {
        self.traced(number, arguments).1
    }
}

const HERE: u64 = libc::AT_FDCWD as u64;

#[test]
fn what_a_guest_gives_is_shown_by_its_type() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/dev/null\0hello\n\x1b\0");
    assert_eq!(
        guest.line(nr::OPENAT, [HERE, DATA, (libc::O_RDWR | libc::O_CLOEXEC) as u64, 0o644]),
        r#"openat(AT_FDCWD, "/dev/null", O_RDWR|O_CLOEXEC) = 3"#
    );
    let creates = (libc::O_RDWR | libc::O_CREAT) as u64;
    assert_eq!(guest.line(nr::OPEN, [DATA, creates, 0o644]), r#"open("/dev/null", O_RDWR|O_CREAT, 0644) = 4"#);
    assert_eq!(guest.line(nr::WRITE, [1, DATA + 10, 8]), r#"write(1, "hello\n\x1b\x00", 8) = 8"#);
    assert_eq!(guest.line(nr::LSEEK, [0, -5i64 as u64, 1]), "lseek(0, -5, SEEK_CUR) = -1 ESPIPE");
    guest.put(DATA + 100, b"hello\n");
    guest.put_words(DATA, &[DATA + 100, 5, DATA + 105, 1]);
    let both = r#"writev(2, [{iov_base="hello", iov_len=5}, {iov_base="\n", iov_len=1}], 2) = 6"#;
    assert_eq!(guest.line(nr::WRITEV, [2, DATA, 2]), both);
    guest.put_words(DATA, &[0, 5]);
    assert_eq!(
        guest.line(nr::CLOCK_NANOSLEEP, [1, 0, DATA, 0]),
        "clock_nanosleep(CLOCK_MONOTONIC, 0x0, {tv_sec=0, tv_nsec=5}, NULL) = ?"
    );
}

#[test]
fn what_the_call_fills_in_is_shown_when_it_is_over() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/proc/self/maps\0what was there before");
    let file = guest.ok(nr::OPEN, [DATA, 0]);
    let line = guest.line(nr::READ, [file, DATA + 16, 9]);
    assert!(line.starts_with(r#"read(3, ""#) && line.ends_with("\", 9) = 9") && !line.contains("what"), "{line}");
    assert_eq!(guest.line(nr::PIPE2, [DATA, libc::O_CLOEXEC as u64]), "pipe2([4, 5], O_CLOEXEC) = 0");
    // Where it fails, nothing was filled in.
    assert_eq!(guest.line(nr::READ, [99, DATA + 16, 9]), format!("read(99, {:#x}, 9) = -1 EBADF", DATA + 16));
    assert_eq!(guest.line(nr::PIPE2, [UNMAPPED, 0]), format!("pipe2({UNMAPPED:#x}, 0x0) = -1 EFAULT"));
}

#[test]
fn flags_are_named_and_what_has_no_name_is_a_number() {
    let mut guest = Guest::new();
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let line = guest.line(nr::MMAP, [0, 8192, protection as u64, flags as u64, u64::MAX, 0]);
    let (shown, at) = line.split_once(" = 0x").unwrap();
    assert_eq!(shown, "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, NULL)");
    let at = u64::from_str_radix(at, 16).unwrap();
    assert_eq!(guest.line(nr::MPROTECT, [at, 4096, 0]), format!("mprotect({at:#x}, 4096, PROT_NONE) = 0"));
    assert_eq!(
        guest.line(nr::MPROTECT, [at, 4096, 0x101]),
        format!("mprotect({at:#x}, 4096, PROT_READ|0x100) = -1 EINVAL")
    );
    let wake = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as u64;
    assert_eq!(
        guest.line(nr::FUTEX, [DATA, wake, 1]),
        format!("futex({DATA:#x}, FUTEX_WAKE|FUTEX_PRIVATE_FLAG, 1, NULL, NULL, NULL) = 0")
    );
    assert_eq!(guest.line(nr::FCNTL, [1, 77, 0]), "fcntl(1, 0x4d, 0) = -1 EINVAL");
    assert_eq!(guest.line(1000, [1, 2]), "syscall_0x3e8(0x1, 0x2, NULL, NULL, NULL, NULL) = -1 ENOSYS (a newer Linux)");
    assert_eq!(guest.line(nr::EXIT_GROUP, [3]), "exit_group(3) = ?");
}

#[test]
fn of_a_long_or_hostile_argument_a_bounded_part_is_shown() {
    let mut guest = Guest::new();
    guest.put(DATA, &[b'x'; 4096]);
    let long = format!("\"{}\"...", "x".repeat(64));
    assert_eq!(guest.line(nr::WRITE, [1, DATA, 4096]), format!("write(1, {long}, 4096) = 4096"));
    assert_eq!(guest.line(nr::CHDIR, [DATA]), format!("chdir({long}) = -1 ENAMETOOLONG"));
    assert_eq!(guest.line(nr::CHDIR, [UNMAPPED]), format!("chdir({UNMAPPED:#x}) = -1 EFAULT"));
    let (end, len) = (UNMAPPED - 8, u64::MAX);
    assert_eq!(guest.line(nr::WRITE, [1, end, len]), format!("write(1, {end:#x}, {len}) = -1 EFAULT"));
    // A list of buffers that leads to itself, and says that it is long.
    guest.put_words(DATA, &[DATA, len, DATA, len, DATA, len, DATA, len, DATA, len]);
    let line = guest.line(nr::WRITEV, [1, DATA, 1024]);
    assert!(line.len() < 2048 && line.contains("}, ...], 1024)"), "{line}");
}
