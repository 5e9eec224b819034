//! Stacks that lead through libraries: the test's own, which is linked with some, and images that are no libraries.

use std::cell::RefCell;
use std::ffi::c_void;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::fixture::{PROGRAM, TEXT, code_of, image};
use super::own_stack::registers;
use crate::{Backtrace, CallStack, Images, NameCache, Registers, Symbols, walk};

#[test]
fn a_stack_leads_through_a_library_whose_exported_functions_are_named() {
    let stack = below_qsort();
    let files = Mapped::all();
    let caches: Vec<NameCache> = files.iter().map(|_| NameCache::default()).collect();
    let program = || Images::new(files[0].symbols().unwrap(), &caches[0]);
    let mut images = program();
    for (file, cache) in files.iter().zip(&caches).skip(1) {
        images.add(file.symbols().unwrap(), file.addresses.clone(), cache);
    }
    let backtrace = images.name(&stack);
    // The C library's other functions for sorting are behind this one.
    let sorts = position(&backtrace, "qsort_r").unwrap_or_else(|| panic!("{backtrace:#}"));
    let library = backtrace.frames()[sorts].place.as_ref().and_then(|place| place.library.as_deref());
    assert!(library.is_some_and(|name| name.starts_with("libc.so")), "{backtrace:#}");
    let [compares, calls] = ["compare", "below_qsort"].map(|name| position(&backtrace, name).expect(name));
    assert!(compares < sorts && sorts < calls, "{backtrace:#}");
    assert!(position(&program().name(&stack), "qsort_r").is_none());

    let instructions: Vec<u64> = stack.instructions().collect();
    let functions = images.name_instructions(&instructions);
    assert!(functions.iter().flatten().any(|frame| frame.function.as_deref() == Some("qsort_r")));
}

#[test]
fn an_address_is_that_of_the_library_that_was_added_for_it() {
    const AT: u64 = 0x7000_0000;
    let leaf = code_of(&Symbols::new(&PROGRAM, 0), "leaf");
    let executable = image(&[(".text", &[0x90; 64])]);
    let cache = [(); 2].map(|()| NameCache::default());
    let mut images = Images::new(Symbols::new(&executable, 0), &cache[0]);
    let library = Symbols::of_library(&PROGRAM, "lib\x1bx.so", AT, (leaf.start - TEXT) & !0xfff);
    let library = library.expect("the program has code there");
    let bias = AT.wrapping_sub(leaf.start & !0xfff);
    images.add(library, AT..AT + 0x1000, &cache[1]);
    let [inside, outside] = [leaf.start, leaf.start + 0x1000].map(|address| address.wrapping_add(bias));
    let frames = images.name_instructions(&[inside, outside, TEXT]);
    assert_eq!(frames[0].last().and_then(|frame| frame.function.as_deref()), Some("leaf"));
    let place = frames[0][0].place.as_ref().expect("it lies in the library").to_string();
    assert!(place.starts_with(".text of lib\u{fffd}x.so+0x"), "{place}");
    assert!(frames[1][0].place.is_none() && frames[1][0].function.is_none());
    assert_eq!(frames[2][0].place.as_ref().map(ToString::to_string).as_deref(), Some(".text of guest+0x0"));
}

#[test]
fn what_is_no_library_has_no_code_at_an_address() {
    for file in [&[][..], b"no library", &PROGRAM[..100]] {
        assert!(Symbols::of_library(file, "name", TEXT, 0).is_none());
    }
    assert!(Symbols::of_library(&PROGRAM, "name", TEXT, u64::MAX).is_none());
}

#[test]
fn however_many_libraries_a_stack_leads_to_each_is_asked_for_once() {
    let file = image(&[(".text", &[0x90; 64])]);
    let mut asked = Vec::new();
    // Each calls the one behind it, and itself.
    let callers: Vec<u64> = (1..200).flat_map(|number| [0x1_0000 * number + 8; 2]).collect();
    let frame = |index: usize| 0x7000_0000 + 16 * (index as u64 + 1);
    let words: Vec<u64> = callers.iter().enumerate().flat_map(|(index, caller)| [frame(index + 1), *caller]).collect();
    let words: Vec<u64> = [0, 0].into_iter().chain(words).chain([0; 2]).collect();
    let mut memory = |address: u64, buffer: &mut [u8]| {
        let word = (address - 0x7000_0000) as usize / 8;
        words.get(word).inspect(|word| buffer.copy_from_slice(&word.to_le_bytes())).is_some()
    };
    let mut find = |address: u64| {
        let at = address & !0xffff;
        asked.push(at);
        Some((at..at + 0x1_0000, Symbols::new(&file, at.wrapping_sub(TEXT))))
    };
    let registers = Registers { rip: 0x1_0000, rsp: 0x7000_0000, rbp: frame(0), ..Registers::default() };
    let stack = walk(&mut find, &registers, &mut memory, 300);
    assert_eq!(stack.instructions().len(), 300);
    let all = asked.len();
    asked.dedup();
    assert!(asked.len() == all && all >= 150, "{all}");
}

/// The stack at a function that a function of the C library has called.
#[inline(never)]
fn below_qsort() -> CallStack {
    thread_local! {
        static STACK: RefCell<Option<CallStack>> = const { RefCell::new(None) };
    }
    #[inline(never)]
    extern "C" fn compare(_: *const c_void, _: *const c_void) -> i32 {
        let memory = File::open("/proc/self/mem").expect("a program can read its memory");
        let files = Mapped::all();
        let mut find = |address| {
            let file = files.iter().find(|file| file.addresses.contains(&address))?;
            Some((file.addresses.clone(), file.symbols()?))
        };
        let mut read = |address, buffer: &mut [u8]| memory.read_exact_at(buffer, address).is_ok();
        let stack = walk(&mut find, &registers(), &mut read, 64);
        STACK.with_borrow_mut(|kept| *kept = Some(stack));
        0
    }
    let mut numbers = [2, 1];
    // SAFETY: these are two elements of this size, and the comparison reads neither.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 2, size_of::<i32>(), Some(compare)) };
    std::hint::black_box(numbers);
    STACK.take().expect("there is something to compare")
}

/// A file of which this process has mapped code, the program first.
struct Mapped {
    path: String,
    addresses: Range<u64>,
    offset: u64,
    bytes: Vec<u8>,
}

impl Mapped {
    fn all() -> Vec<Self> {
        let maps = fs::read_to_string("/proc/self/maps").expect("a program can read its mappings");
        let program = fs::read_link("/proc/self/exe").expect("a program has a file");
        let mut all: Vec<Self> = maps.lines().filter_map(Self::of_line).collect();
        all.sort_by_key(|file| Path::new(&file.path) != program);
        all
    }

    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (range, access, offset) = (words.next()?, words.next()?, words.next()?);
        let path = words.nth(2).filter(|path| access.contains('x') && path.starts_with('/'))?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let bytes = fs::read(path).ok()?;
        Some(Self { path: path.to_owned(), addresses: number(start)?..number(end)?, offset: number(offset)?, bytes })
    }

    fn symbols(&self) -> Option<Symbols<'_>> {
        let name = self.path.rsplit('/').next()?;
        Symbols::of_library(&self.bytes, name, self.addresses.start, self.offset)
    }
}

fn position(backtrace: &Backtrace, function: &str) -> Option<usize> {
    let is_it = |name: &str| name == function || name.ends_with(&format!("::{function}"));
    backtrace.frames().iter().position(|frame| frame.function.as_deref().is_some_and(is_it))
}
