//! The code is executed on the host, where it reads a page of this process.

use std::ptr;

use super::*;

#[test]
fn the_code_reads_what_the_page_says() {
    let running = TimePage { clocks: 0b11, ticks: 1 << 40, multiplier: 1 << 31, ..page() };
    for (name, given) in [
        ("running", TimePage { counter: counter(), ..running }),
        ("late", TimePage { counter: counter(), floor: 9_000 * SECOND, ..running }),
        ("behind", TimePage { counter: counter() + (1 << 39), ..running }),
        ("standing", TimePage { multiplier: 0, ..running }),
    ] {
        let vdso = Vdso::new(&given);
        for clock in [0, 1] {
            let at = |counter| given.elapsed_to(counter).unwrap().wrapping_add(given.offsets[clock as usize]);
            let before = at(counter());
            let read = vdso.clock_gettime(clock).unwrap();
            assert!((before..=at(counter())).contains(&read), "{name}, clock {clock}: {read}");
        }
        let before = vdso.clock_gettime(0).unwrap();
        let (seconds, microseconds) = vdso.gettimeofday().unwrap();
        let after = vdso.clock_gettime(0).unwrap();
        let read = seconds * 1_000_000 + microseconds;
        assert!((before / 1_000..=after / 1_000).contains(&read), "{name}: {read}");
        assert!((before / SECOND..=after / SECOND).contains(&vdso.time().unwrap()), "{name}");
    }
}

#[test]
fn the_host_is_asked_for_what_the_page_does_not_say() {
    let running = TimePage { clocks: 0b11, ticks: 1 << 30, multiplier: 1 << 31, ..page() };
    let now = counter();
    for (given, clock) in [
        (TimePage { counter: now, ..running }, 2),
        (TimePage { counter: now, ..running }, CLOCKS as i32),
        (TimePage { counter: now, ..running }, -1),
        (TimePage { counter: now - (1 << 30) - 1, ..running }, 0),
        (TimePage { counter: now + (1 << 62), ..running }, 0),
        (TimePage::default(), 0),
    ] {
        let vdso = Vdso::new(&given);
        assert_eq!(vdso.clock_gettime(clock), None, "clock {clock} of {given:?}");
        if clock == 0 {
            assert_eq!((vdso.gettimeofday(), vdso.time()), (None, None));
            assert_eq!(given.elapsed_to(counter()).filter(|_| given.clocks != 0), None);
        }
    }
}

#[test]
fn resolutions_are_known_for_the_clocks_of_the_page() {
    let vdso = Vdso::new(&TimePage { clocks: 0b11, ..page() });
    assert_eq!(vdso.clock_getres(0), Some(1));
    assert_eq!(vdso.clock_getres(1), Some(4_000_000));
    assert_eq!(vdso.clock_getres(2), None);
}

#[test]
fn there_is_one_processor() {
    let vdso = Vdso::new(&page());
    // SAFETY: both places are there to be written.
    let getcpu: extern "C" fn(*mut u32, *mut u32, usize) -> i32 = unsafe { vdso.function(Function::Getcpu) };
    let (mut processor, mut node) = (7, 7);
    assert_eq!(getcpu(&mut processor, &mut node, 0), 0);
    assert_eq!((processor, node), (0, 0));
    assert_eq!(getcpu(ptr::null_mut(), ptr::null_mut(), 0), 0);
}

#[test]
fn functions_lie_one_behind_another() {
    let code = Code::new(GuestVirt(0x1234), &FALLBACK);
    assert_eq!(code.bytes()[..8], 0x1234_u64.to_le_bytes());
    let mut end = ENTRIES;
    for function in
        [Function::ClockGettime, Function::Gettimeofday, Function::Time, Function::ClockGetres, Function::Getcpu]
    {
        let (at, len) = code.function(function);
        assert!(at >= end && at.is_multiple_of(16) && len > 0, "{function:?}");
        end = at + len;
    }
    assert!(end < code.bytes().len());
}

/// A page on which clock 0 is ahead of clock 1.
fn page() -> TimePage {
    let mut offsets = [0; CLOCKS];
    offsets[0] = 1_700_000_000 * SECOND;
    TimePage { sequence: 1, base: 5_000 * SECOND, floor: 4_000 * SECOND, offsets, ..TimePage::default() }
}

/// The code in executable memory, and its page.
struct Vdso {
    code: Code,
    at: *mut u8,
    _page: Box<[u64; WORDS]>,
}

impl Vdso {
    fn new(page: &TimePage) -> Self {
        let mut words = Box::new([0; WORDS]);
        for (word, bytes) in words.iter_mut().zip(page.to_bytes().chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap());
        }
        let code = Code::new(GuestVirt(words.as_ptr().expose_provenance() as u64), &FALLBACK);
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, anywhere.
        let at = unsafe { libc::mmap(ptr::null_mut(), code.bytes().len(), protection, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        // SAFETY: the memory is as long as the code, and nobody else's.
        unsafe { ptr::copy_nonoverlapping(code.bytes().as_ptr(), at.cast(), code.bytes().len()) };
        Self { code, at: at.cast(), _page: words }
    }

    /// # Safety
    /// `F` is the type of this function, which is not called after this is dropped, and with places that can be written.
    unsafe fn function<F: Copy>(&self, function: Function) -> F {
        assert_eq!(size_of::<F>(), size_of::<usize>());
        let at = self.at.wrapping_add(self.code.function(function).0);
        // SAFETY: by the caller's promise; a function pointer is as large as an address.
        unsafe { std::mem::transmute_copy(&at) }
    }

    /// The time in nanoseconds; `None` where the system call was made.
    fn clock_gettime(&self, clock: i32) -> Option<u64> {
        // SAFETY: the place is there to be written.
        let function: extern "C" fn(i32, *mut [u64; 2]) -> i32 = unsafe { self.function(Function::ClockGettime) };
        let mut time = [0; 2];
        let result = function(clock, &mut time);
        (result == 0).then(|| time[0] * SECOND + time[1])
    }

    fn clock_getres(&self, clock: i32) -> Option<u64> {
        // SAFETY: the place is there to be written.
        let function: extern "C" fn(i32, *mut [u64; 2]) -> i32 = unsafe { self.function(Function::ClockGetres) };
        let mut time = [0; 2];
        assert_eq!(function(clock, ptr::null_mut()) == 0, function(clock, &mut time) == 0);
        (time[1] != 0).then_some(time[1])
    }

    /// Seconds and microseconds.
    fn gettimeofday(&self) -> Option<(u64, u64)> {
        // SAFETY: the places are there to be written.
        let function: extern "C" fn(*mut [u64; 2], *mut u64) -> i32 = unsafe { self.function(Function::Gettimeofday) };
        let (mut time, mut zone) = ([0; 2], 1);
        let result = function(&mut time, &mut zone);
        if result != 0 {
            return None;
        }
        assert_eq!(zone, 0);
        assert_eq!(function(ptr::null_mut(), ptr::null_mut()), 0);
        Some((time[0], time[1]))
    }

    fn time(&self) -> Option<u64> {
        // SAFETY: the place is there to be written.
        let function: extern "C" fn(*mut u64) -> i64 = unsafe { self.function(Function::Time) };
        let mut time = 0;
        let result = u64::try_from(function(&mut time)).ok()?;
        assert_eq!(result, time);
        Some(time)
    }
}

impl Drop for Vdso {
    fn drop(&mut self) {
        // SAFETY: the memory was mapped with this length, and nobody executes it any more.
        unsafe { libc::munmap(self.at.cast(), self.code.bytes().len()) };
    }
}

/// A number that no system call has, so that the kernel answers with an error.
const NONE: u32 = 0x3fff_ffff;

const FALLBACK: Fallback = {
    let mut resolutions = [1; CLOCKS];
    resolutions[1] = 4_000_000;
    Fallback { clock_gettime: NONE, gettimeofday: NONE, time: NONE, clock_getres: NONE, resolutions }
};

const SECOND: u64 = 1_000_000_000;
