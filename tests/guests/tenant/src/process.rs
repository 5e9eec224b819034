//! What system calls change.

use std::mem::MaybeUninit;
use std::ptr;

use ampoule_guest::export;

/// Everything that system calls report about the process.
#[export]
pub(crate) fn describe_process() -> Vec<(String, u64)> {
    // SAFETY: every call writes to a value of the type that it is made for, or changes nothing.
    unsafe {
        let mask = libc::umask(0);
        libc::umask(mask);
        let mut name = [0u8; 16];
        libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr());
        let mut stack = MaybeUninit::<libc::stack_t>::zeroed().assume_init();
        libc::sigaltstack(ptr::null(), &mut stack);
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        libc::sigaction(libc::SIGUSR1, ptr::null(), &mut action);
        let mut blocked = [0u64; 16];
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), blocked.as_mut_ptr().cast());
        let mut system = MaybeUninit::<libc::sysinfo>::zeroed().assume_init();
        libc::sysinfo(&mut system);
        let mut values = vec![
            ("umask", u64::from(mask)),
            ("name", u64::from_le_bytes(name[..8].try_into().unwrap_or_default())),
            ("alternate stack", stack.ss_sp as u64),
            ("alternate stack's size", stack.ss_size as u64),
            ("signal action", action.sa_sigaction as u64),
            ("signals blocked", blocked[0]),
            ("program break", libc::sbrk(0) as u64),
            ("free memory", system.freeram),
        ];
        for (name, descriptor) in [("standard input", 0), ("standard output", 1)] {
            values.push((name, libc::fcntl(descriptor, libc::F_GETFD) as u64));
        }
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Changes all of that.
#[export]
fn change_process() {
    extern "C" fn handler(_: libc::c_int) {}
    static mut STACK: [u8; 16384] = [0; 16384];
    // SAFETY: what is changed here is not used otherwise; no signal is ever delivered.
    unsafe {
        libc::umask(0o77);
        libc::prctl(libc::PR_SET_NAME, c"changed".as_ptr());
        let stack = libc::stack_t { ss_sp: (&raw mut STACK).cast(), ss_flags: 0, ss_size: 16384 };
        assert_eq!(libc::sigaltstack(&stack, ptr::null_mut()), 0);
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()), 0);
        let blocked = [1u64 << 11; 16];
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, blocked.as_ptr().cast(), ptr::null_mut()), 0);
        assert_ne!(libc::sbrk(1 << 20), usize::MAX as *mut _);
        assert_eq!(libc::close(0), 0);
        assert_eq!(libc::close(1), 0);
    }
}

/// Takes all memory that there is, and returns how many pages that was.
#[export]
fn take_all_memory() -> u64 {
    crate::secrets::take_all_memory().iter().map(|words| words.len() as u64 * 8 / 4096).sum()
}

/// Maps a page, writes it, and takes a permission away again; returns where it is.
#[export]
fn map_page(protection: i32) -> u64 {
    // SAFETY: the page is new, and written while it can be.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        ptr::write_bytes(page.cast::<u8>(), 0x5a, 4096);
        assert_eq!(libc::mprotect(page, 4096, protection), 0);
        page as u64
    }
}

/// Changes the protection of a page.
#[export]
fn protect_page(at: u64, protection: i32) -> bool {
    // SAFETY: the page is one of `map_page`.
    unsafe { libc::mprotect(at as *mut _, 4096, protection) == 0 }
}

#[export]
fn unmap_page(at: u64) -> bool {
    // SAFETY: the page is one of `map_page`.
    unsafe { libc::munmap(at as *mut _, 4096) == 0 }
}

#[export]
fn is_mapped(at: u64) -> bool {
    let mut resident = 0;
    // SAFETY: writes one byte.
    unsafe { libc::mincore(at as *mut _, 4096, &mut resident) == 0 }
}

#[export]
fn read_byte(at: u64) -> u8 {
    // SAFETY: none. The read may fault.
    unsafe { ptr::read_volatile(at as *const u8) }
}

#[export]
fn write_byte(at: u64, value: u8) {
    // SAFETY: none. The write may fault.
    unsafe { ptr::write_volatile(at as *mut u8, value) };
}
