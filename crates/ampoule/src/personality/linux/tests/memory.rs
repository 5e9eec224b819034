use super::super::memory::mincore;
use super::*;
use crate::address_space::Watch;

const RW: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const ANONYMOUS: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
const FIXED: u64 = ANONYMOUS | libc::MAP_FIXED as u64;
const NO_FILE: u64 = u64::MAX;

#[test]
fn mmap_gives_zeros_that_can_be_written() {
    let mut guest = Guest::new();
    let at = guest.ok(nr::MMAP, [0, 5000, RW, ANONYMOUS, NO_FILE, 0]);
    assert_eq!(guest.bytes(at + 2 * PAGE - 8), [0; 8]);
    guest.put(at, b"data");
    assert_eq!(guest.ok(nr::MUNMAP, [at, 5000]), 0);
    assert!(guest.space.read_u64(GuestVirt(at)).is_err());
}

#[test]
fn mmap_refuses_with_linuxs_error_numbers() {
    let mut guest = Guest::new();
    let exec = (libc::PROT_READ | libc::PROT_EXEC) as u64;
    let no_replace = ANONYMOUS | libc::MAP_FIXED_NOREPLACE as u64;
    for (arguments, errno) in [
        ([0, 0, RW, ANONYMOUS, NO_FILE, 0], libc::EINVAL),
        ([0, PAGE, RW, libc::MAP_ANONYMOUS as u64, NO_FILE, 0], libc::EINVAL),
        ([0, PAGE, RW, ANONYMOUS, NO_FILE, 1], libc::EINVAL),
        ([DATA + 1, PAGE, RW, FIXED, NO_FILE, 0], libc::EINVAL),
        ([0, PAGE, RW, libc::MAP_PRIVATE as u64, NO_FILE, 0], libc::EBADF),
        ([0, PAGE, RW, libc::MAP_PRIVATE as u64, 0, 0], libc::ENODEV),
        ([0, PAGE, exec, ANONYMOUS, NO_FILE, 0], libc::EACCES),
        ([0, PAGE, RW | exec, ANONYMOUS, NO_FILE, 0], libc::EACCES),
        ([0, u64::MAX, RW, ANONYMOUS, NO_FILE, 0], libc::ENOMEM),
        ([0, 1 << 50, 0, ANONYMOUS, NO_FILE, 0], libc::ENOMEM),
        ([0, (FRAMES as u64 + 1) * PAGE, RW, ANONYMOUS, NO_FILE, 0], libc::ENOMEM),
        ([1 << 47, PAGE, RW, FIXED, NO_FILE, 0], libc::ENOMEM),
        ([0, PAGE, RW, FIXED, NO_FILE, 0], libc::EPERM),
        ([DATA, PAGE, RW, no_replace, NO_FILE, 0], libc::EEXIST),
        ([0, PAGE, RW, ANONYMOUS | libc::MAP_HUGETLB as u64, NO_FILE, 0], libc::ENOMEM),
    ] {
        assert_eq!(guest.errno(nr::MMAP, arguments), errno, "{arguments:x?}");
    }
}

#[test]
fn mmap_takes_a_hint_where_the_place_is_free() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::MMAP, [UNMAPPED + 5, PAGE, RW, ANONYMOUS, NO_FILE, 0]), UNMAPPED);
    let elsewhere = guest.ok(nr::MMAP, [DATA, PAGE, RW, ANONYMOUS, NO_FILE, 0]);
    assert!(elsewhere > HEAP);
}

#[test]
fn mprotect_takes_permissions_away_and_gives_them_back() {
    let mut guest = Guest::new();
    guest.put(DATA, b"kept");
    assert_eq!(guest.ok(nr::MPROTECT, [DATA, 1, libc::PROT_NONE as u64]), 0);
    assert_eq!(guest.errno(nr::UNAME, [DATA]), libc::EFAULT);
    assert_eq!(guest.ok(nr::MPROTECT, [DATA, PAGE, RW]), 0);
    assert_eq!(&guest.bytes(DATA), b"kept");
    assert_eq!(guest.ok(nr::MPROTECT, [DATA, 0, RW]), 0);
    for (arguments, errno) in [
        ([DATA + 1, PAGE, RW], libc::EINVAL),
        ([DATA, PAGE, 0x100], libc::EINVAL),
        ([DATA, 3 * PAGE, RW], libc::ENOMEM),
        ([DATA, u64::MAX, RW], libc::ENOMEM),
        ([DATA, PAGE, (libc::PROT_READ | libc::PROT_EXEC) as u64], libc::EACCES),
    ] {
        assert_eq!(guest.errno(nr::MPROTECT, arguments), errno, "{arguments:x?}");
    }
}

#[test]
fn mremap_moves_contents_with_the_range() {
    let mut guest = Guest::new();
    guest.put(DATA, b"moved");
    assert_eq!(guest.errno(nr::MREMAP, [DATA, PAGE, 2 * PAGE, 0]), libc::ENOMEM);
    let at = guest.ok(nr::MREMAP, [DATA, PAGE, 2 * PAGE, libc::MREMAP_MAYMOVE as u64]);
    assert_eq!(&guest.bytes(at), b"moved");
    assert_eq!(guest.bytes(at + PAGE), [0; 8]);
    let fixed = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
    assert_eq!(guest.ok(nr::MREMAP, [at, 2 * PAGE, PAGE, fixed, READ_ONLY]), READ_ONLY);
    assert_eq!(&guest.bytes(READ_ONLY), b"moved");
    assert_eq!(guest.ok(nr::MREMAP, [READ_ONLY, PAGE, 2 * PAGE, 0]), READ_ONLY);
    for (arguments, errno) in [
        ([HEAP, PAGE, 2 * PAGE, 0, 0], libc::EFAULT),
        ([READ_ONLY + 1, PAGE, PAGE, 0, 0], libc::EINVAL),
        ([READ_ONLY, PAGE, 0, 0, 0], libc::EINVAL),
        ([READ_ONLY, 0, PAGE, 0, 0], libc::EINVAL),
        ([READ_ONLY, PAGE, u64::MAX, 0, 0], libc::EINVAL),
        ([READ_ONLY, PAGE, PAGE, libc::MREMAP_FIXED as u64, DATA], libc::EINVAL),
        ([READ_ONLY, PAGE, 1 << 50, libc::MREMAP_MAYMOVE as u64, 0], libc::ENOMEM),
        ([READ_ONLY, 2 * PAGE, PAGE, fixed, READ_ONLY], libc::EINVAL),
    ] {
        assert_eq!(guest.errno(nr::MREMAP, arguments), errno, "{arguments:x?}");
    }
}

/// musl finds the stack's size by asking whether the page below can be grown into: `ENOMEM` while it is mapped.
#[test]
fn the_used_part_of_the_stack_ends_where_mremap_says_efault() {
    let mut guest = Guest::new();
    let top = ampoule_vmm::address_map::USER_END.0 - PAGE;
    guest.put(top - 3 * PAGE, b"used");
    let mut page = top - 2 * PAGE;
    while guest.errno(nr::MREMAP, [page, PAGE, 2 * PAGE, 0]) == libc::ENOMEM {
        page -= PAGE;
    }
    assert!(page < top - 3 * PAGE);
    assert_eq!(guest.errno(nr::MREMAP, [page, PAGE, 2 * PAGE, 0]), libc::EFAULT);
}

#[test]
fn brk_answers_with_where_the_heap_ends() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::BRK, [0]), HEAP);
    assert_eq!(guest.ok(nr::BRK, [HEAP + 100]), HEAP + 100);
    guest.put(HEAP, b"heap");
    assert_eq!(guest.ok(nr::BRK, [u64::MAX]), HEAP + 100);
    assert_eq!(guest.ok(nr::BRK, [HEAP + (FRAMES as u64 + 1) * PAGE]), HEAP + 100);
    assert_eq!(guest.ok(nr::BRK, [HEAP]), HEAP);
    assert_eq!(guest.errno(nr::UNAME, [HEAP]), libc::EFAULT);
}

#[test]
fn madvise_dontneed_gives_zeros() {
    let mut guest = Guest::new();
    guest.put(DATA, b"gone");
    assert_eq!(guest.ok(nr::MADVISE, [DATA, PAGE, libc::MADV_DONTNEED as u64]), 0);
    assert_eq!(guest.bytes(DATA), [0; 4]);
    assert_eq!(guest.ok(nr::MADVISE, [DATA, PAGE, libc::MADV_HUGEPAGE as u64]), 0);
    assert_eq!(guest.errno(nr::MADVISE, [HEAP, PAGE, libc::MADV_DONTNEED as u64]), libc::ENOMEM);
    assert_eq!(guest.errno(nr::MADVISE, [HEAP, PAGE, libc::MADV_HUGEPAGE as u64]), libc::ENOMEM);
    assert_eq!(guest.errno(nr::MADVISE, [DATA + 1, PAGE, libc::MADV_DONTNEED as u64]), libc::EINVAL);
    assert_eq!(guest.errno(nr::MADVISE, [DATA, PAGE, 12_345]), libc::EINVAL);
    assert_eq!(guest.errno(nr::MADVISE, [DATA, PAGE, libc::MADV_HWPOISON as u64]), libc::EINVAL);
}

#[test]
fn mincore_tells_mapped_from_unmapped() {
    let mut guest = Guest::new();
    assert_eq!(guest.ok(nr::MINCORE, [DATA, 2 * PAGE, DATA + 16]), 0);
    assert_eq!(guest.bytes(DATA + 16), [1, 1, 0]);
    assert_eq!(guest.errno(nr::MINCORE, [DATA, 3 * PAGE, DATA]), libc::ENOMEM);
    assert_eq!(guest.errno(nr::MINCORE, [DATA, PAGE, READ_ONLY]), libc::EFAULT);
    assert_eq!(guest.errno(nr::MINCORE, [DATA + 1, PAGE, DATA]), libc::EINVAL);
}

#[test]
fn mincore_of_much_memory_ends_when_the_call_is_interrupted() {
    #[derive(Debug)]
    struct Interrupted;

    impl Watch for Interrupted {
        fn is_interrupted(&self) -> bool {
            true
        }
    }

    let mut guest = Guest::new();
    let len = 1 << 46;
    let at = guest.ok(nr::MMAP, [0, len, 0, ANONYMOUS, NO_FILE, 0]);
    let mut space = guest.space.watched(Arc::new(Interrupted));
    assert_eq!(mincore(&mut space, at, len, DATA), Err(Errno::EINTR));
}

#[test]
fn a_reservation_of_terabytes_does_not_keep_the_host_busy() {
    let mut guest = Guest::new();
    let len = 1 << 46;
    let at = guest.ok(nr::MMAP, [0, len, 0, ANONYMOUS, NO_FILE, 0]);
    assert_eq!(guest.errno(nr::MINCORE, [at, len, DATA]), libc::EFAULT);
    assert_eq!(guest.errno(nr::MPROTECT, [at, len, RW]), libc::ENOMEM);
    assert_eq!(guest.ok(nr::MADVISE, [at, len, libc::MADV_DONTNEED as u64]), 0);
    assert_eq!(guest.ok(nr::MPROTECT, [at, PAGE, RW]), 0);
    assert_eq!(guest.ok(nr::MUNMAP, [at, len]), 0);
}

#[test]
fn locking_memory_is_not_permitted_and_unlocking_does_nothing() {
    let mut guest = Guest::new();
    assert_eq!(guest.errno(nr::MLOCK, [DATA, PAGE]), libc::EPERM);
    assert_eq!(guest.ok(nr::MUNLOCK, [DATA, PAGE]), 0);
}

#[test]
fn mapping_the_device_of_zeros_gives_memory() {
    let mut guest = Guest::new();
    guest.put(DATA, b"/dev/zero\0");
    let file = guest.ok(nr::OPEN, [DATA, libc::O_RDONLY as u64]);
    let at = guest.ok(nr::MMAP, [0, PAGE, RW, libc::MAP_PRIVATE as u64, file, 0]);
    guest.put(at, b"own");
    assert_eq!(&guest.bytes(at), b"own\0");
    assert_eq!(guest.errno(nr::MMAP, [0, PAGE, RW, libc::MAP_SHARED as u64, file, 0]), libc::EACCES);
    assert_eq!(guest.errno(nr::MMAP, [0, PAGE, RW, libc::MAP_PRIVATE as u64, 1, 0]), libc::EACCES);
}

/// What the C library does to abort: it unblocks the signal, and sends it to its thread.
fn abort(guest: &mut Guest) -> bool {
    let id = guest.id();
    guest.ok(nr::RT_SIGPROCMASK, [libc::SIG_UNBLOCK as u64, 0, 0, 8]);
    let end = guest.call(nr::TGKILL, [id, id, libc::SIGABRT as u64]);
    assert_eq!(end, Outcome::Abort { signal: libc::SIGABRT });
    guest.process.aborts_for_memory(&guest.printed)
}

#[test]
fn an_abort_comes_from_a_refusal_where_nothing_but_a_message_comes_between() {
    let refusals: [fn(&mut Guest); 2] = [
        |guest| {
            let too_much = HEAP + 2 * FRAMES as u64 * PAGE;
            assert_eq!(guest.ok(nr::BRK, [too_much]), HEAP);
        },
        |guest| assert_eq!(guest.errno(nr::MMAP, [0, 2 * FRAMES as u64 * PAGE, 3, 0x22, u64::MAX, 0]), libc::ENOMEM),
    ];
    let complain = |guest: &mut Guest| assert_eq!(guest.ok(nr::WRITE, [2, DATA, 4]), 4);
    for refuse in refusals {
        let mut guest = Guest::new();
        refuse(&mut guest);
        assert!(!abort(&mut guest), "without a message");
        refuse(&mut guest);
        complain(&mut guest);
        assert!(abort(&mut guest));

        guest.ok(nr::SCHED_YIELD, []);
        complain(&mut guest);
        assert!(!abort(&mut guest), "it has gone on");

        refuse(&mut guest);
        guest.process.answered();
        complain(&mut guest);
        assert!(!abort(&mut guest), "it has called the host");

        refuse(&mut guest);
        guest.ok(nr::MMAP, [0, PAGE, 3, 0x22, u64::MAX, 0]);
        complain(&mut guest);
        assert!(!abort(&mut guest), "it has got memory");
    }
}
