//! Programs read and map files that are too large to be kept for all: natively and in a sandbox the same comes of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use ampoule::{Access, Files, Limits, Program};
use tempfile::TempDir;

const PYTHON: &str = "/usr/bin/python3";

#[test]
fn pages_of_a_large_file_are_mapped_as_on_linux() {
    let directory = with_file();
    behaves_as_natively(&directory, MAPPINGS, 64 << 20);
}

/// Pages that were read give way to others.
#[test]
fn a_file_that_is_larger_than_the_memory_can_be_mapped_and_read() {
    for pages in [PAGES, 10_000] {
        let directory = with_file();
        File::options().write(true).open(directory.path().join("large")).unwrap().set_len(pages * PAGE + 99).unwrap();
        behaves_as_natively(&directory, SUMS, 48 << 20);
    }
}

#[test]
fn what_a_mapped_file_has_lost_is_a_bus_error() {
    let directory = with_file();
    let script = format!("{START}fd = os.open('DIRECTORY/large', os.O_RDONLY)\n{LOST}");
    let script = script.replace("DIRECTORY", directory.path().to_str().unwrap());
    let native = Command::new(PYTHON).args(["-c", &script]).env_clear().output().unwrap();
    assert_eq!(native.status.signal(), Some(libc::SIGBUS), "{native:?}");
    let again = with_file();
    let files =
        Files::libraries().dir(again.path(), "/data", Access::ReadOnly).dir(again.path(), "/same", Access::ReadWrite);
    let script =
        script.replace(&format!("'{}/large', os.O_RDWR", directory.path().display()), "'/same/large', os.O_RDWR");
    let script = script.replace(directory.path().to_str().unwrap(), "/data");
    let output = Program::new(PYTHON).args(["-c", &script]).files(files).limits(limits()).run().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&native.stdout));
}

#[test]
fn much_is_read_at_once_as_on_linux() {
    let directory = with_file();
    behaves_as_natively(&directory, READS, 64 << 20);
}

/// What a request has read and stored is gone for the next, in pages that the host has filled from the file too.
#[test]
fn requests_find_mapped_pages_and_buffers_as_they_were() {
    let directory = with_file();
    let script = format!("{START}{REQUESTS}").replace("DIRECTORY", directory.path().to_str().unwrap());
    let files = Files::libraries().dir(directory.path(), directory.path(), Access::ReadOnly);
    let python = Program::new(PYTHON).args(["-c", &script]).files(files).limits(limits()).memory_limit(64 << 20);
    let mut idle = python.start().unwrap().run_until_input().unwrap();
    let mut copy = idle.snapshot().unwrap().spawn().unwrap();
    let first = idle.input("x").run().unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    for _ in 0..3 {
        idle.reset().unwrap();
        assert_eq!(idle.input("x").run().unwrap().stdout, first.stdout);
        assert_eq!(copy.input("x").run().unwrap().stdout, first.stdout);
        copy.reset().unwrap();
    }
}

/// Runs a script natively and in a sandbox that may read the same directory.
fn behaves_as_natively(directory: &TempDir, script: &str, memory: usize) {
    let script = format!("{START}{script}").replace("DIRECTORY", directory.path().to_str().unwrap());
    let native = Command::new(PYTHON).args(["-c", &script]).env_clear().output().unwrap();
    assert!(native.status.success(), "{}", String::from_utf8_lossy(&native.stderr));
    let files = Files::libraries().dir(directory.path(), directory.path(), Access::ReadOnly);
    let python = Program::new(PYTHON).args(["-c", &script]).files(files).limits(limits()).memory_limit(memory);
    let output = python.run().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&native.stdout));
}

fn limits() -> Limits {
    Limits::new().deadline(Duration::from_secs(300))
}

/// What every script begins with.
const START: &str = "import ctypes, os, sys, zlib
libc = ctypes.CDLL('libc.so.6', use_errno=True)
for function in (libc.mmap, libc.mremap, libc.read, libc.pread, libc.preadv):
    function.restype = ctypes.c_long
def call(function, *arguments):
    result = function(*[ctypes.c_long(argument) for argument in arguments])
    return result if result != -1 else f'error {ctypes.get_errno()}'
PAGE = 4096
# The pages of the file that are not all zeros.
MARKED = range(0, 40000, 1000)
";

const MAPPINGS: &str = "fd = os.open('DIRECTORY/large', os.O_RDONLY)
size = os.fstat(fd).st_size
pages = size // PAGE + 1
def sums(at, pages):
    return [sum(ctypes.string_at(at + page * PAGE, PAGE)) for page in pages]
at = call(libc.mmap, 0, size, 1, 2, fd, 0)
print(sums(at, MARKED), sums(at, [1, 500, pages - 1]), sums(at, reversed(MARKED)))
end = size // PAGE * PAGE
other = call(libc.mmap, 0, 2 * PAGE, 3, 2, fd, 39000 * PAGE)
print(sums(other, [0, 1]))
ctypes.memset(other, 7, 10)
print(sums(other, [0, 1]), sums(at, [39000]))
print(call(libc.madvise, other, 2 * PAGE, 4), sums(other, [0, 1]))
print(call(libc.mprotect, at + 1000 * PAGE, PAGE, 3))
ctypes.memset(at + 1000 * PAGE, 9, PAGE)
print(sums(at, [0, 1000]), call(libc.madvise, at, size, 4), sums(at, [0, 1000, 2000]))
moved = call(libc.mremap, other, 2 * PAGE, 1000 * PAGE, 1)
print(sums(moved, [0, 1, 999]))
print(call(libc.mmap, at + PAGE, PAGE, 1, 0x12, fd, 3000 * PAGE) == at + PAGE, sums(at, [0, 1, 2]))
print(call(libc.mprotect, at, PAGE, 0), call(libc.mprotect, at, PAGE, 1), sums(at, [0]))
hidden = call(libc.mmap, 0, 2 * PAGE, 0, 2, fd, 5000 * PAGE)
print(call(libc.mprotect, hidden, 2 * PAGE, 1), sums(hidden, [0, 1]))
shared = call(libc.mmap, 0, PAGE, 1, 1, fd, 6000 * PAGE)
print(sums(shared, [0]), call(libc.mprotect, shared, PAGE, 3))
# The kernel reads and writes such pages for the program.
copy = call(libc.mmap, 0, size, 3, 2, fd, 0)
sys.stdout.flush()
os.write(1, ctypes.string_at(copy + 7000 * PAGE, 4)[:0])
print(libc.write(1, ctypes.c_void_p(copy + 7000 * PAGE), 0), call(libc.pread, fd, copy + 8000 * PAGE - 10, 20, 9000 * PAGE))
print(sums(copy, [7000, 7999, 8000, 8001]))
reader, writer = os.pipe()
print(libc.write(writer, ctypes.c_void_p(copy + 10000 * PAGE), PAGE + 5), zlib.crc32(os.read(reader, 10000)))
os.write(writer, b'from a pipe')
print(libc.read(reader, ctypes.c_void_p(copy + 11000 * PAGE - 5), 100), sums(copy, [10999, 11000]))
print(call(libc.munmap, at, size), call(libc.munmap, copy, size))
";

const SUMS: &str = "import mmap
fd = os.open('DIRECTORY/large', os.O_RDONLY)
whole = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
for _ in range(2):
    print(zlib.crc32(whole), [whole[at] for at in reversed(range(0, len(whole), 1000 * PAGE))])
kept = mmap.mmap(-1, 16 << 20)
kept[::PAGE] = b'x' * (len(kept) // PAGE)
print(zlib.crc32(whole), kept[0])
";

const LOST: &str = "other = os.open('DIRECTORY/large', os.O_RDWR)
size = os.fstat(fd).st_size
at = call(libc.mmap, 0, size, 1, 2, fd, 0)
print(ctypes.string_at(at + 1000 * PAGE, 4), flush=True)
os.ftruncate(other, 2000 * PAGE + 1)
print(ctypes.string_at(at + 2000 * PAGE, 4), flush=True)
reader, writer = os.pipe()
print(call(libc.write, writer, at + 2001 * PAGE, 1), flush=True)
ctypes.string_at(at + 3000 * PAGE, 1)
";

const READS: &str = "fd = os.open('DIRECTORY/large', os.O_RDONLY)
size = os.fstat(fd).st_size
LEN = 1 << 20
at = call(libc.mmap, 0, 2 * LEN, 3, 0x22, -1, 0)
def show(count):
    print(count, zlib.crc32(ctypes.string_at(at, LEN)))
print(call(libc.munmap, at + LEN, LEN))
show(call(libc.read, fd, at, LEN))
show(call(libc.pread, fd, at + 1, LEN - 1, 1000 * PAGE - 77))
show(call(libc.pread, fd, at, 100_000, size - 1234))
show(call(libc.pread, fd, at, LEN, size))
show(call(libc.pread, fd, at, LEN, size + 1))
# Over the end of what is mapped, and over a hole.
show(call(libc.pread, fd, at, 2 * LEN, 0))
print(call(libc.munmap, at + LEN // 2, PAGE))
print(call(libc.pread, fd, at, LEN, 2000 * PAGE), zlib.crc32(ctypes.string_at(at, LEN // 2)))
print(call(libc.pread, fd, at + LEN // 2, LEN // 4, 0))
print(call(libc.mprotect, at, LEN // 4, 1), call(libc.pread, fd, at, LEN // 4, 0))
buffers = [bytearray(100_000), bytearray(70_001), bytearray(5), bytearray(1 << 18)]
print(os.preadv(fd, buffers, 3000 * PAGE - 5), [zlib.crc32(buffer) for buffer in buffers])
print(os.preadv(fd, buffers, size - 150_000), [zlib.crc32(buffer) for buffer in buffers])
total = 0
os.lseek(fd, 0, os.SEEK_SET)
while piece := os.read(fd, 1_000_003):
    total = zlib.crc32(piece, total)
print(total, os.lseek(fd, 0, os.SEEK_CUR) == size)
";

const REQUESTS: &str = "import mmap
fd = os.open('DIRECTORY/large', os.O_RDONLY)
private = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
buffer = mmap.mmap(-1, 1 << 20)
buffer[5000:5004] = b'mine'
before = private[1000 * PAGE]
sys.stdin.read()
print(before, private[0], private[1000 * PAGE], private[2000 * PAGE], zlib.crc32(buffer))
private[0], private[1000 * PAGE], private[3000 * PAGE] = 1, 2, 3
print(os.preadv(fd, [buffer], 4000 * PAGE), zlib.crc32(buffer), zlib.crc32(private[:5000 * PAGE]))
";

/// A directory with a sparse file of somewhat more than 160 MB.
fn with_file() -> TempDir {
    let directory = TempDir::new().unwrap();
    let file = File::create(directory.path().join("large")).unwrap();
    file.set_len(PAGES * PAGE + 1234).unwrap();
    for page in (0..PAGES).step_by(1000) {
        let bytes: Vec<u8> = (0..2 * PAGE).map(|at| (1 + page / 1000 + at % 100) as u8).collect();
        file.write_all_at(&bytes, page * PAGE).unwrap();
    }
    directory
}

const PAGE: u64 = 4096;

/// So many that the file is not kept for all who map it.
const PAGES: u64 = 40_000;
