//! What `std` offers in a sandbox, and what it does not.

use std::ffi::CString;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ampoule_guest::export;

#[export]
fn print(text: &str) {
    print!("{text}");
}

/// Prints text that need not end a line.
#[export]
fn print_and_flush(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    print!("{text}");
    std::io::stdout().flush()
}

/// Prints with C's own streams, and leaves the text in their buffer.
#[export]
fn print_by_printf_only(text: &str) {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: the format takes one string.
    unsafe { libc::printf(c"%s".as_ptr(), text.as_ptr()) };
}

/// Prints text that need not end a line, and panics.
#[export]
fn print_and_panic(text: &str) {
    print!("{text}");
    panic!("after the text");
}

#[export]
fn print_error(text: &str) {
    eprint!("{text}");
}

/// Prints lines to both streams in turn.
#[export]
fn print_lines(pairs: u32) {
    for line in 0..pairs {
        println!("line {line} of standard output");
        eprintln!("line {line} of standard error");
    }
}

/// Writes to standard output by `times` system calls, without the C library.
#[export]
fn write_by_system_call(text: &str, times: u32) {
    for _ in 0..times {
        // SAFETY: reads the text, at most its length.
        unsafe { libc::syscall(libc::SYS_write, libc::STDOUT_FILENO, text.as_ptr(), text.len()) };
    }
}

/// Writes to standard output `times` times by the C library's `write`.
#[export]
fn write_by_the_c_library(text: &str, times: u32) {
    for _ in 0..times {
        // SAFETY: reads the text, at most its length.
        unsafe { libc::write(libc::STDOUT_FILENO, text.as_ptr().cast(), text.len()) };
    }
}

/// Prints with C's own streams.
#[export]
fn print_by_printf(text: &str) {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: the format takes one string; with no stream named, all are flushed.
    unsafe {
        libc::printf(c"%s".as_ptr(), text.as_ptr());
        libc::fflush(std::ptr::null_mut());
    }
}

/// Writes a text to standard output, and then one of the same length from where nothing can be read.
#[export]
fn write_and_write_from_nowhere(text: &str) {
    write_by_the_c_library(text, 1);
    // SAFETY: none. The read is meant to fault.
    unsafe { libc::write(libc::STDOUT_FILENO, std::ptr::without_provenance(8), text.len()) };
}

/// Prints through the standard library, and in between with a system call of its own.
#[export]
fn print_between_system_calls() {
    println!("staged 1");
    write_by_system_call("system call 1\n", 1);
    eprintln!("staged 2");
    write_by_system_call("system call 2\n", 1);
    println!("staged 3");
}

/// Prints to standard output, to standard error, and again to standard output, and does not return.
#[export]
fn print_and_end(end: &str) {
    println!("first");
    eprintln!("second");
    println!("third");
    match end {
        "fault" => crate::fault(),
        "abort" => abort(),
        "panic" => panic!("after the text"),
        "second panic" => crate::panics_twice(),
        "exit" => exit(3),
        "sleep" => crate::sleep(3_600_000),
        _ => crate::spin(),
    }
}

/// What the C library's `write` returns for standard output, and `errno` after it, which is -1 before.
#[export]
fn write_and_errno(text: &[u8]) -> (i64, i32) {
    // SAFETY: reads the text, at most its length; `errno` is this thread's own.
    unsafe {
        *libc::__errno_location() = -1;
        let written = libc::write(libc::STDOUT_FILENO, text.as_ptr().cast(), text.len());
        (written as i64, *libc::__errno_location())
    }
}

/// Redirects standard output to standard error, prints to it, closes it, and prints again. Text is printed before and after
/// each of the two system calls.
#[export]
fn redirect_and_close() {
    let print = |text: &str| {
        // SAFETY: reads the text, at most its length.
        unsafe { libc::write(libc::STDOUT_FILENO, text.as_ptr().cast(), text.len()) };
    };
    print("to standard output\n");
    // SAFETY: the descriptors are used by this function only.
    unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) };
    print("redirected\n");
    // SAFETY: as above.
    unsafe { libc::close(libc::STDOUT_FILENO) };
    print("lost\n");
}

#[export]
fn close_stdout() {
    // SAFETY: nothing is printed in between.
    unsafe { libc::close(libc::STDOUT_FILENO) };
}

#[export]
fn arguments() -> Vec<String> {
    std::env::args().collect()
}

/// The name of the program's file, according to its auxiliary vector.
#[export]
fn executed_file() -> String {
    // SAFETY: an entry of this type is the address of a string, and a sandbox has one.
    unsafe { std::ffi::CStr::from_ptr(std::ptr::with_exposed_provenance(libc::getauxval(libc::AT_EXECFN) as usize)) }
        .to_string_lossy()
        .into_owned()
}

#[export]
fn variables() -> Vec<(String, String)> {
    std::env::vars().collect()
}

#[export]
fn open_file(path: &str) -> Result<(), std::io::Error> {
    std::fs::File::open(path).map(drop)
}

#[export]
fn create_file(path: &str) -> Result<(), std::io::Error> {
    std::fs::File::create(path).map(drop)
}

/// Reads exactly this many bytes of a file.
#[export]
fn read_file(path: &str, len: u32) -> Result<Vec<u8>, std::io::Error> {
    let mut bytes = vec![0xaa; len as usize];
    std::io::Read::read_exact(&mut std::fs::File::open(path)?, &mut bytes)?;
    Ok(bytes)
}

/// Writes a text to a file that exists.
#[export]
fn write_file(path: &str, text: &str) -> Result<(), std::io::Error> {
    let mut file = std::fs::File::options().write(true).truncate(true).open(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())
}

thread_local! {
    static KEPT_OPEN: std::cell::RefCell<Vec<std::fs::File>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Opens a file, keeps it open, and returns how many are kept open.
#[export]
fn keep_open(path: &str) -> Result<usize, std::io::Error> {
    let file = std::fs::File::open(path)?;
    Ok(KEPT_OPEN.with_borrow_mut(|files| {
        files.push(file);
        files.len()
    }))
}

/// Eight bytes from the one of the files kept open that was opened last.
#[export]
fn read_kept() -> Result<[u8; 8], std::io::Error> {
    let mut bytes = [0; 8];
    KEPT_OPEN.with_borrow_mut(|files| match files.last_mut() {
        Some(file) => std::io::Read::read_exact(file, &mut bytes),
        None => Err(std::io::ErrorKind::NotFound.into()),
    })?;
    Ok(bytes)
}

/// Goes to a directory, and returns the name of the working directory afterwards.
#[export]
fn enter(directory: &str) -> Result<String, std::io::Error> {
    std::env::set_current_dir(directory)?;
    Ok(std::env::current_dir()?.display().to_string())
}

/// What kind of file a path leads to.
#[export]
fn kind_of(path: &str) -> Result<&'static str, std::io::Error> {
    use std::os::unix::fs::FileTypeExt;
    let kind = std::fs::metadata(path)?.file_type();
    Ok(match kind {
        _ if kind.is_dir() => "directory",
        _ if kind.is_char_device() => "character device",
        _ if kind.is_file() => "file",
        _ => "other",
    })
}

#[export]
fn process_id() -> u32 {
    std::process::id()
}

/// What the functions of the vsyscall page say: the time in seconds twice, by `time` and `gettimeofday`, and a number by which a
/// thread could know its processor.
#[export]
fn vsyscalls() -> Result<(i64, i64, u32), String> {
    // SAFETY: at these addresses programs find functions of these types (Linux's `arch/x86/include/uapi/asm/vsyscall.h`).
    let (gettimeofday, time, getcpu) = unsafe {
        (
            std::mem::transmute::<usize, extern "C" fn(*mut libc::timeval, usize) -> i64>(0xffff_ffff_ff60_0000),
            std::mem::transmute::<usize, extern "C" fn(*mut i64) -> i64>(0xffff_ffff_ff60_0400),
            std::mem::transmute::<usize, extern "C" fn(*mut u32, *mut u32, usize) -> i64>(0xffff_ffff_ff60_0800),
        )
    };
    let (mut stored, mut cpu, mut node) = (0, u32::MAX, u32::MAX);
    let mut of_day = libc::timeval { tv_sec: 0, tv_usec: -1 };
    let now = time(&mut stored);
    let results = (gettimeofday(&mut of_day, 0), getcpu(&mut cpu, &mut node, 0));
    if results != (0, 0) || now != stored || !(0..1_000_000).contains(&of_day.tv_usec) || node == u32::MAX {
        return Err(format!("{results:?} {now} {stored} {} {node}", of_day.tv_usec));
    }
    Ok((now, of_day.tv_sec, cpu))
}

/// The lowest address and the size of this thread's stack as the C library tells them, and an address on it.
#[export]
fn stack_bounds() -> Result<(u64, u64, u64), std::io::Error> {
    let mut attributes = std::mem::MaybeUninit::uninit();
    let mut start = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: the attributes are read and destroyed only where they have been made.
    let error = unsafe {
        let error = libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr());
        if error == 0 {
            libc::pthread_attr_getstack(attributes.as_ptr(), &mut start, &mut size);
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
        }
        error
    };
    match error {
        0 => Ok((start.addr() as u64, size as u64, (&raw const error).addr() as u64)),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}

/// What `select` and `pselect` return for no files and this many milliseconds, and whether that time passed in each.
#[export]
fn select_as_sleep(milliseconds: u64) -> ([i32; 2], [bool; 2]) {
    let null = std::ptr::null_mut();
    let timed = |wait: &dyn Fn() -> i32| {
        let start = Instant::now();
        (wait(), start.elapsed() >= Duration::from_millis(milliseconds))
    };
    // SAFETY: there are no sets, and the time lives during the call.
    let (first, first_slept) = timed(&|| unsafe {
        let mut time = libc::timeval { tv_sec: 0, tv_usec: 1000 * milliseconds as i64 };
        libc::select(0, null, null, null, &mut time)
    });
    // SAFETY: as above.
    let (second, second_slept) = timed(&|| unsafe {
        let time = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 * milliseconds as i64 };
        libc::pselect(0, null, null, null, &time, std::ptr::null())
    });
    ([first, second], [first_slept, second_slept])
}

/// How often a handler has run, and the signal with which it did so last.
static HANDLED: [AtomicI32; 2] = [AtomicI32::new(0), AtomicI32::new(0)];

extern "C" fn count(signal: i32) {
    HANDLED[0].fetch_add(1, Ordering::Relaxed);
    HANDLED[1].store(signal, Ordering::Relaxed);
}

/// Sends itself a signal and returns how often that was handled in all calls so far.
#[export]
fn raise_handled(signal: i32) -> i32 {
    // SAFETY: the handler changes nothing but counters.
    unsafe {
        libc::signal(signal, count as *const () as libc::sighandler_t);
        libc::raise(signal);
    }
    HANDLED[0].load(Ordering::Relaxed)
}

/// Faults by a null pointer.
#[export]
fn fault_without_handlers() -> i32 {
    // SAFETY: none. It is to fault.
    unsafe { std::ptr::null::<i32>().read_volatile() }
}

/// Lets the code continue behind an instruction of two bytes.
extern "C" fn skip(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    count(signal);
    // SAFETY: what the kernel gives a handler, which runs alone.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_RIP as usize] += 2;
}

extern "C" fn give_up(_: i32) {
    eprintln!("the guest gives up");
    // SAFETY: it ends the process.
    unsafe { libc::abort() }
}

/// Faults by `ud2`, or by a null pointer, with handlers that skip the instruction, and returns the signal.
#[export]
fn fault_with_handlers(by_instruction: i32) -> i32 {
    // SAFETY: the handler skips the instruction, which is two bytes long.
    unsafe {
        for signal in [libc::SIGILL, libc::SIGSEGV] {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = skip as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
        if by_instruction != 0 {
            std::arch::asm!("ud2");
        } else {
            std::arch::asm!("mov eax, [rdi]", in("rdi") 8, out("eax") _);
        }
    }
    HANDLED[1].load(Ordering::Relaxed)
}

/// Faults by a null pointer, with a handler that aborts.
#[export]
fn fault_and_abort() -> i32 {
    // SAFETY: none. It is to fault.
    unsafe {
        libc::signal(libc::SIGSEGV, give_up as *const () as libc::sighandler_t);
        std::ptr::null::<i32>().read_volatile()
    }
}

/// Computes until a timer has gone off so often, every millisecond, and returns how often it has done so by then.
#[export]
fn compute_for_ticks(ticks: i32) -> i32 {
    let every = |micros| {
        let time = libc::timeval { tv_sec: 0, tv_usec: micros };
        let timer = libc::itimerval { it_interval: time, it_value: time };
        // SAFETY: the handler changes nothing but counters, and the timer lives until it has been read.
        unsafe {
            libc::signal(libc::SIGALRM, count as *const () as libc::sighandler_t);
            libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &timer, std::ptr::null_mut::<libc::c_void>());
        }
    };
    let before = HANDLED[0].load(Ordering::Relaxed);
    every(1000);
    while HANDLED[0].load(Ordering::Relaxed) - before < ticks {
        std::hint::spin_loop();
    }
    every(0);
    HANDLED[0].load(Ordering::Relaxed) - before
}

/// Sets a timer that goes off after so many milliseconds, with a handler that counts, and does not wait for it.
#[export]
fn set_timer(milliseconds: i32) {
    let value = libc::timeval { tv_sec: 0, tv_usec: i64::from(milliseconds) * 1000 };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: as above.
    unsafe {
        libc::signal(libc::SIGALRM, count as *const () as libc::sighandler_t);
        libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &timer, std::ptr::null_mut::<libc::c_void>());
    }
}

/// How often handlers have run.
#[export]
fn handled() -> i32 {
    HANDLED[0].load(Ordering::Relaxed)
}

/// Raises a signal that is blocked and returns whether it is pending, and which signal a wait for it finds.
#[export]
fn raise_blocked(signal: i32) -> (i32, i32) {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut pending = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the sets are made by the C library before they are used.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::raise(signal);
        libc::sigpending(pending.as_mut_ptr());
        let is_pending = libc::sigismember(pending.as_ptr(), signal);
        (is_pending, libc::sigwaitinfo(set.as_ptr(), std::ptr::null_mut()))
    }
}

/// What `alarm` returns; then waits for its signal.
#[export]
fn alarm_and_pause(seconds: i32) -> i32 {
    // SAFETY: no memory is touched.
    let before = unsafe { libc::alarm(seconds.unsigned_abs()) } as i32;
    println!("alarm returned {before}");
    // SAFETY: as above.
    unsafe { libc::pause() };
    before
}

/// Whether standard output stays non-blocking when it was made so.
#[export]
fn stays_non_blocking() -> bool {
    // SAFETY: no memory is touched.
    unsafe {
        let before = libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL);
        libc::fcntl(libc::STDOUT_FILENO, libc::F_SETFL, before | libc::O_NONBLOCK);
        libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) == before | libc::O_NONBLOCK
    }
}

/// How nice the process is after it has become this much nicer.
#[export]
fn nice(more: i32) -> Result<(i32, i32), std::io::Error> {
    // SAFETY: no memory is touched but `errno`, which is this thread's own.
    unsafe {
        let nice = libc::nice(more);
        *libc::__errno_location() = 0;
        let found = libc::getpriority(libc::PRIO_PROCESS, 0);
        match *libc::__errno_location() {
            0 => Ok((nice, found)),
            error => Err(std::io::Error::from_raw_os_error(error)),
        }
    }
}

/// Fills a large static, tells the kernel that the pages within it are no longer needed, and returns the sum of what they
/// hold then.
#[export]
fn discard_static() -> Result<u64, std::io::Error> {
    const PAGE: usize = 4096;
    static PAGES: [std::sync::atomic::AtomicU8; 8 * PAGE] = [const { std::sync::atomic::AtomicU8::new(0) }; 8 * PAGE];
    for byte in &PAGES {
        byte.store(1, std::sync::atomic::Ordering::Relaxed);
    }
    let skipped = PAGES.as_ptr().align_offset(PAGE);
    let whole = &PAGES[skipped..skipped + 7 * PAGE];
    // SAFETY: the bytes are atomic, so something other than the program may change them.
    let result = unsafe { libc::madvise(whole.as_ptr().cast_mut().cast(), whole.len(), libc::MADV_DONTNEED) };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(whole.iter().map(|byte| u64::from(byte.load(std::sync::atomic::Ordering::Relaxed))).sum())
}

#[export]
fn connect(address: &str) -> Result<(), std::io::Error> {
    std::net::TcpStream::connect(address).map(drop)
}

#[export]
fn start_thread() -> Result<(), std::io::Error> {
    std::thread::Builder::new().spawn(|| ()).map(drop)
}

#[export]
fn start_process(program: &str) -> Result<(), std::io::Error> {
    std::process::Command::new(program).spawn().map(drop)
}

#[export]
fn read_stdin() -> Result<usize, std::io::Error> {
    std::io::Read::read(&mut std::io::stdin(), &mut [0; 16])
}

/// Seconds since 1970, and whether the monotonic clock goes forward over a sleep of `sleep_ms`.
#[export]
fn clocks(sleep_ms: u64) -> (u64, bool) {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(sleep_ms));
    let advanced = start.elapsed() >= Duration::from_millis(sleep_ms);
    (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(), advanced)
}

/// Allocates so many blocks, and frees each at once.
#[export]
fn allocate_and_free(blocks: u32) {
    for size in 1..=blocks as usize {
        drop(std::hint::black_box(Vec::<u64>::with_capacity(size)));
    }
}

/// Fills blocks of memory of many sizes and checks them.
#[export]
fn exercise_memory(rounds: u32) -> bool {
    (0..rounds).all(|round| {
        let blocks: Vec<Vec<u8>> =
            [16, 1000, 70_000, 300_000].map(|size| vec![round as u8; size + round as usize]).to_vec();
        blocks.iter().all(|block| block.iter().all(|byte| *byte == round as u8))
    })
}

/// Asks for more memory than there is, and survives.
#[export]
fn allocate_too_much() -> bool {
    let mut huge: Vec<u8> = Vec::new();
    huge.try_reserve(1 << 40).is_err()
}

/// Takes all the memory that it can get, in blocks of every size, and keeps it.
#[export]
fn take_all_memory() {
    let mut size = 1 << 20;
    while size >= 8 {
        // SAFETY: the memory is not touched.
        while !std::hint::black_box(unsafe { libc::malloc(size) }).is_null() {}
        size /= 2;
    }
}

/// Is refused memory, continues in some way, and aborts.
#[export]
fn abort_after_a_refusal(going_on: &str) {
    assert!(allocate_too_much());
    match going_on {
        "system call" => drop(std::hint::black_box(std::env::current_dir())),
        "memory" => {
            std::hint::black_box(vec![1u8; 1 << 20]);
        }
        "host call" => crate::notify(),
        "silence" => abort(),
        _ => {}
    }
    eprintln!("an assertion does not hold");
    abort();
}

/// Prints to standard error, and ends.
#[export]
fn print_error_and_end(text: &str, end: &str) {
    eprint!("{text}");
    match end {
        "exit" => exit(3),
        "abort" => abort(),
        _ => crate::fault(),
    }
}

/// Panics with a message that needs no memory.
#[export]
fn panic_plainly() {
    panic!("a plain panic");
}

/// Panics with no memory left.
#[export]
fn panic_without_memory() {
    take_all_memory();
    panic_plainly();
}

/// A number that depends on the hasher's random keys.
#[export]
fn hasher_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(1)
}

#[export]
fn exit(code: i32) {
    std::process::exit(code);
}

#[export]
fn abort() {
    std::process::abort();
}

#[export]
fn read_text_file(path: &str) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

/// The names in a directory, in order.
#[export]
fn list_directory(path: &str) -> std::io::Result<Vec<String>> {
    let name =
        |entry: std::io::Result<std::fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names = std::fs::read_dir(path)?.map(name).collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

static OPEN: std::sync::Mutex<Option<std::fs::File>> = std::sync::Mutex::new(None);

/// Keeps a new file open.
#[export]
fn keep_file_open(path: &str) -> std::io::Result<()> {
    *OPEN.lock().unwrap() = Some(std::fs::File::create(path)?);
    Ok(())
}

/// Writes to it, and returns where in it the next text goes.
#[export]
fn write_to_kept_file(text: &str) -> std::io::Result<u64> {
    use std::io::{Seek, Write};
    let mut open = OPEN.lock().unwrap();
    let file = open.as_mut().ok_or_else(|| std::io::Error::other("no file is open"))?;
    file.write_all(text.as_bytes())?;
    file.stream_position()
}
