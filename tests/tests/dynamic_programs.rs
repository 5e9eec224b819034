//! Dynamically linked programs of the machine do in a sandbox what they do outside.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use ampoule::{
    Access, Blame, CoreDumps, ExecutableMemory, ExecuteError, Files, Frequency, HostMemory, Input, MapAccess, Program,
    ProgramError, ProgramOutput, ProgramStatus,
};
use tempfile::tempdir;

const PYTHON: &str = "/usr/bin/python3";

#[test]
fn interpreters_do_what_they_do_natively() {
    for (package, path, arguments) in [
        ("dash", "/usr/bin/dash", &["-c", "for i in 1 2 3; do echo $i; done; exit 3"] as &[&str]),
        ("bash", "/usr/bin/bash", &["-c", r#"a=(1 2 3); echo "${#a[@]} $((6 * 7)) ${BASH_VERSION}"; [[ x =~ ^x$ ]]"#]),
        (
            "perl-base",
            "/usr/bin/perl",
            &["-e", r#"use POSIX; print join(",", map { $_ * 2 } 1 .. 9), floor(2.7), "\n""#],
        ),
        ("jq", "/usr/bin/jq", &["-n", r#"[range(5)] | map(. * 1.5) | {sum: add, text: "\u00fc"}"#]),
        (
            "sqlite3",
            "/usr/bin/sqlite3",
            &[":memory:", "create table t(a); insert into t values (1), (2); select sum(a) from t"],
        ),
        ("libc6", "/lib64/ld-linux-x86-64.so.2", &["/lib/x86_64-linux-gnu/libc.so.6"]),
        ("libc6", "/lib64/ld-linux-x86-64.so.2", &["/no/such/program"]),
        ("python3", PYTHON, &["-c", "print(6 * 7)"]),
        ("python3", PYTHON, &["-c", IMPORTS]),
        ("python3", PYTHON, &["-c", "import os; print(open('/proc/self/comm').read(), os.readlink('/proc/self/exe'))"]),
        ("python3", PYTHON, &["-c", "import sys; print('an error', file=sys.stderr); sys.exit(4)"]),
        ("python3", PYTHON, &["-c", "import no_such_module"]),
    ] {
        require(path, package);
        let expected = Command::new(path).args(arguments).env_clear().env("HOME", "/").output().unwrap();
        let program = Program::new(path).args(arguments.iter().copied()).env("HOME", "/").files(Files::libraries());
        let output = program.run().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&output.stdout), text(&expected.stdout), "{path} {arguments:?}");
        assert_eq!(text(&output.stderr), text(&expected.stderr), "{path} {arguments:?}");
        assert_eq!(output.status.code(), expected.status.code(), "{path} {arguments:?}");
    }
}

#[test]
fn python_maps_a_file_that_is_mapped_for_it() {
    let script = "import mmap, os\n\
                  file = open('/dev/ampoule/words', 'rb')\n\
                  words = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n\
                  print(len(words), words[:5], words.find(b'needle'), os.path.getsize('/dev/ampoule/words'))\n\
                  own = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)\n\
                  own[0:5] = b'HELLO'\n\
                  print(own[:5], words[:5], file.read(5), os.listdir('/dev/ampoule'))\n\
                  print(sum('/dev/ampoule/words' in line for line in open('/proc/self/maps')))";
    let mut contents = b"hello".to_vec();
    contents.resize(100_000, b' ');
    contents.extend(b"needle");
    let words = HostMemory::copy_of(&contents).unwrap();
    let program = Program::new(PYTHON).files(Files::libraries()).args(["-c", script]);
    let output = program.map_memory(&words, "words", MapAccess::Read).run().unwrap();
    let expected = "100006 b'hello' 100000 100006\nb'HELLO' b'hello' b'hello' ['words']\n2\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn mapped_files_behave_as_on_linux() {
    let directory = tempdir().unwrap();
    fs::write(
        directory.path().join("file"),
        (0..3 * 4096 + 100).map(|at| (at / 4096 + at % 40 + 1) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    let script = MAPPINGS.replace("DIRECTORY", directory.path().to_str().unwrap());
    let native = Command::new(PYTHON).args(["-c", &script]).env_clear().output().unwrap();
    assert!(native.status.success(), "{}", String::from_utf8_lossy(&native.stderr));
    let output = python(&script, Files::libraries().dir(directory.path(), directory.path(), Access::ReadOnly));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&native.stdout));
}

#[test]
fn an_access_behind_the_end_of_a_file_is_a_bus_error() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("file"), "short").unwrap();
    let script = format!(
        "{CALLS}fd = os.open('{}/file', os.O_RDONLY)\n\
         at = call(libc.mmap, 0, 8192, 1, 2, fd, 0)\n\
         print(ctypes.string_at(at, 6), flush=True)\n\
         ctypes.string_at(at + 4096, 1)\n",
        directory.path().display()
    );
    let native = Command::new(PYTHON).args(["-c", &script]).env_clear().output().unwrap();
    assert_eq!(native.status.signal(), Some(libc::SIGBUS));
    let output = python(&script, Files::libraries().dir(directory.path(), directory.path(), Access::ReadOnly));
    assert_eq!((output.status.signal(), output.stdout), (Some(libc::SIGBUS), native.stdout));
    assert!(output.status.to_string().contains("behind the end of a mapped file"), "{}", output.status);
}

#[test]
fn a_library_that_is_cut_short_while_it_is_mapped_harms_nobody() {
    let directory = tempdir().unwrap();
    let library = directory.path().join("libm.so.6");
    fs::copy("/lib/x86_64-linux-gnu/libm.so.6", &library).unwrap();
    let script = format!(
        "import ctypes, sys\n\
         library = ctypes.CDLL('{}')\n\
         library.cos.restype = ctypes.c_double\n\
         sys.stdin.readline()\n\
         print(library.cos(ctypes.c_double(0.0)), library.sin)\n",
        library.display()
    );
    let cut = Input::reader(OnFirstRead(Some(move || {
        File::options().write(true).open(&library).unwrap().set_len(0).unwrap();
    })));
    let program = Program::new(PYTHON).args(["-c", &script]).stdin(cut);
    let output =
        program.files(Files::libraries().dir(directory.path(), directory.path(), Access::ReadOnly)).run().unwrap();
    assert!(output.stdout.starts_with(b"1.0 "), "{output:?} {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_program_that_may_not_make_code_executes_none_that_it_has_written() {
    let directory = tempdir().unwrap();
    let script = format!(
        "{CALLS}\
         fd = os.open('/tmp/code', os.O_RDWR | os.O_CREAT)\n\
         os.write(fd, b'\\xc3' * 4096)\n\
         show(libc.mmap, 0, 4096, 5, 2, fd, 0)\n\
         library = os.open('/lib/x86_64-linux-gnu/libm.so.6', os.O_RDONLY)\n\
         at = call(libc.mmap, 0, 8192, 1, 2, library, 0)\n\
         show(libc.mprotect, at, 8192, 5)\n\
         show(libc.mprotect, at, 4096, 3)\n\
         show(libc.mprotect, at, 4096, 5)\n\
         show(libc.mprotect, at + 4096, 4096, 5)\n"
    );
    let program = Program::new(PYTHON).args(["-c", &script]).files(Files::libraries().tmp(1 << 20));
    let output = program.executable_memory(ExecutableMemory::Refused).run().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let refused = libc::EACCES;
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("-1 {refused}\n0\n0\n-1 {refused}\n0\n"));
    drop(directory);
}

#[test]
fn a_c_library_that_looks_for_cached_names_is_refused_what_nobody_misses() {
    let script = "import pwd\ntry: pwd.getpwnam('nobody')\nexcept KeyError: print('unknown')\n";
    let output = Program::new(PYTHON).args(["-c", script]).files(Files::libraries()).run().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "unknown\n");
    let socket = output.refused.iter().find(|call| call.name == Some("socket")).unwrap();
    assert!(socket.count > 0 && socket.harmless == socket.count, "{socket:?}");
}

#[test]
fn a_program_finds_its_own_file_in_the_list_of_its_memory() {
    // Where each part of the file lies in it, and what it may do there.
    let script = "\
        import os\n\
        own = os.readlink('/proc/self/exe')\n\
        inode = str(os.stat('/proc/self/exe').st_ino)\n\
        for line in open('/proc/self/maps'):\n    \
            part = line.split()\n    \
            if part[5:] == [own]:\n        \
                print(part[1], part[2], part[4] == inode)\n";
    let native = Command::new(PYTHON).args(["-c", script]).output().unwrap();
    let output = Program::new(PYTHON).args(["-c", script]).files(Files::libraries()).run().unwrap();
    let native = String::from_utf8_lossy(&native.stdout).into_owned();
    assert!(native.contains("r-xp"), "{native}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), native);
}

#[test]
fn a_profile_names_functions_of_libraries_and_what_calls_them() {
    let script = "import zlib\nfor i in range(20): zlib.compress(bytes(range(256)) * 4000, 9)\n";
    let program = Program::new(PYTHON).args(["-c", script]).files(Files::libraries());
    let profile = program.profile(Frequency::default()).run().unwrap().profile.unwrap();
    let mut folded = Vec::new();
    profile.folded(&mut folded).unwrap();
    let folded = String::from_utf8(folded).unwrap();
    let compresses = |line: &str| {
        let functions: Vec<&str> = line.rsplit_once(' ').unwrap().0.split(';').collect();
        let position = |name: &str| functions.iter().position(|function| *function == name);
        // Of the program, of the C library, and of zlib: the stack leads through all of them.
        let expected = ["_start", "__libc_start_main", "Py_RunMain", "deflate"].map(position);
        expected.iter().all(Option::is_some) && expected.is_sorted()
    };
    assert!(folded.lines().any(compresses), "{folded}");
    let mut pprof = Vec::new();
    profile.pprof(&mut pprof).unwrap();
    let names = |name: &str| pprof.windows(name.len()).any(|window| window == name.as_bytes());
    assert!(names("python3") && names("/libz.so.1") && names("/libc.so.6"));
}

#[test]
fn what_ends_a_program_in_a_library_has_a_backtrace_and_a_core_dump_with_its_names() {
    let directory = tempdir().unwrap();
    let program = Program::new(PYTHON).args(["-c", "import os; os.abort()"]).files(Files::libraries());
    let output = program.core_dumps(CoreDumps::to_dir(directory.path())).run().unwrap();
    let ProgramStatus::Signaled { fault, .. } = &output.status else { panic!("{:?}", output.status) };
    let named = |name: &str| fault.backtrace().frames().iter().find(|frame| frame.function.as_deref() == Some(name));
    let aborts = named("abort").unwrap_or_else(|| panic!("{:#}", fault.backtrace()));
    let library = aborts.place.as_ref().and_then(|place| place.library.as_deref());
    assert_eq!(library, Some("libc.so.6"));
    assert!(named("Py_RunMain").is_some_and(|frame| frame.place.as_ref().is_some_and(|place| place.library.is_none())));

    let core = output.core_dump.unwrap().path().unwrap().to_owned();
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off", PYTHON]).arg(core).args(["-ex", "backtrace"]);
    let said = String::from_utf8_lossy(&gdb.output().unwrap().stdout).into_owned();
    assert!(said.contains("abort ()") && said.contains("Py_RunMain ()"), "{said}");
}

#[test]
fn a_script_starts_its_interpreter() {
    let directory = tempdir().unwrap();
    let script = directory.path().join("script");
    fs::write(&script, "#!/usr/bin/perl -w\nprint join('|', @ARGV), qq(\\n);\n").unwrap();
    let program = || Program::new(&script).args(["one", "two words"]);
    let output = program().files(Files::libraries().dir("/usr/bin", "/usr/bin", Access::ReadOnly)).run().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one|two words\n");

    let error = program().files(Files::libraries()).run().unwrap_err();
    assert!(matches!(&error, ProgramError::Execute(ExecuteError::ScriptInterpreter { .. })), "{error}");
    assert!(error.to_string().contains("`/usr/bin/perl`"), "{error}");
}

#[test]
fn what_is_missing_is_named_with_the_grant_that_would_help() {
    let error = Program::new(PYTHON).args(["-c", "pass"]).run().unwrap_err();
    assert!(matches!(&error, ProgramError::Execute(ExecuteError::Interpreter { .. })), "{error}");
    assert_eq!(error.blame(), Blame::Caller);
    for part in ["ld-linux-x86-64.so.2", "`Files::libraries`", "`--libs`"] {
        assert!(error.to_string().contains(part), "{error}");
    }

    // The loader is there, and a library is not.
    let root = tempdir().unwrap();
    fs::create_dir_all(root.path().join("lib64")).unwrap();
    fs::copy("/lib64/ld-linux-x86-64.so.2", root.path().join("lib64/ld-linux-x86-64.so.2")).unwrap();
    fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    fs::copy(PYTHON, root.path().join("usr/bin/python3")).unwrap();
    let output = Program::new(PYTHON).files(Files::none().root(root.path())).run().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("error while loading shared libraries"), "{message}");
}

#[test]
fn a_hostile_interpreter_is_refused_or_runs_as_sealed_as_any_program() {
    let root = tempdir().unwrap();
    fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    fs::copy("/usr/bin/dash", root.path().join("usr/bin/dash")).unwrap();
    fs::create_dir_all(root.path().join("lib64")).unwrap();
    let loader = fs::read("/lib64/ld-linux-x86-64.so.2").unwrap();
    let interpreter = root.path().join("lib64/ld-linux-x86-64.so.2");
    let run = |bytes: &[u8]| {
        fs::write(&interpreter, bytes).unwrap();
        Program::new("/usr/bin/dash").args(["-c", "exit 5"]).files(Files::none().root(root.path())).run()
    };
    for bytes in [b"" as &[u8], b"\x7fELF", &loader[..1000], &fs::read(PYTHON).unwrap()[..100]] {
        let error = run(bytes).unwrap_err();
        assert!(matches!(&error, ProgramError::Image(_)), "{error}");
    }
    // It begins with bytes that are no code of its own, or none at all.
    for (offset, value) in [(24, 0x40_u64), (24, u64::MAX), (24, 0)] {
        let mut bytes = loader.clone();
        bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        match run(&bytes) {
            Ok(output) => assert!(!output.status.success(), "{}", output.status),
            Err(error) => assert!(matches!(&error, ProgramError::Image(_)), "{error}"),
        }
    }
    // A directory, and nothing.
    fs::remove_file(&interpreter).unwrap();
    for _ in 0..2 {
        let program = Program::new("/usr/bin/dash").files(Files::none().root(root.path()));
        let error = program.run().unwrap_err();
        assert!(matches!(&error, ProgramError::Execute(ExecuteError::Interpreter { .. })), "{error}");
        fs::create_dir(&interpreter).unwrap_or_default();
    }
}

#[test]
fn copies_of_a_program_share_its_libraries() {
    let program =
        || Program::new(PYTHON).args(["-c", "import json, sys; sys.stdin.readline(); print(json.dumps([1]))"]);
    let mut idle = program().files(Files::libraries()).start().unwrap().run_until_input().unwrap();
    let stats = idle.stats().unwrap();
    assert!(stats.shared_bytes > 8 << 20, "{stats:?}");

    let snapshot = idle.snapshot().unwrap();
    let mut copy = snapshot.spawn().unwrap();
    let stats = copy.stats().unwrap();
    assert!(stats.owned_bytes < 1 << 20, "{stats:?}");
    for idle in [&mut idle, &mut copy] {
        for _ in 0..2 {
            assert_eq!(idle.input("\n").run().unwrap().stdout, b"[1]\n");
            idle.reset().unwrap();
        }
    }
}

/// The standard library's modules that are made of machine code, and some others.
const IMPORTS: &str =
    "import array, bz2, ctypes, datetime, decimal, hashlib, json, lzma, math, random, re, sqlite3, zlib
print(json.dumps({'pi': math.pi, 'sum': hashlib.sha256(b'text').hexdigest()}))
print(decimal.Decimal(1) / 7, zlib.crc32(b'text'), len(lzma.compress(b'x' * 1000)))
print(sqlite3.connect(':memory:').execute('select 1 + 1').fetchall(), re.findall('[a-c]+', 'abcxabc'))";

/// Calls of the C library's, of which the result is shown, or the error.
const CALLS: &str = "import ctypes, os
libc = ctypes.CDLL('libc.so.6', use_errno=True)
for function in (libc.mmap, libc.mremap):
    function.restype = ctypes.c_long
def call(function, *arguments):
    return function(*[ctypes.c_long(argument) for argument in arguments])
def show(function, *arguments):
    result = call(function, *arguments)
    print(result if result != -1 else f'-1 {ctypes.get_errno()}')
";

/// A file's pages read, written, moved, cut and given back.
const MAPPINGS: &str = "import ctypes, os
libc = ctypes.CDLL('libc.so.6', use_errno=True)
for function in (libc.mmap, libc.mremap):
    function.restype = ctypes.c_long
def call(function, *arguments):
    result = function(*[ctypes.c_long(argument) for argument in arguments])
    return result if result != -1 else f'error {ctypes.get_errno()}'
fd = os.open('DIRECTORY/file', os.O_RDONLY)
PAGE = 4096
def sums(at, pages):
    return [sum(ctypes.string_at(at + page * PAGE, PAGE)) for page in range(pages)]
at = call(libc.mmap, 0, 4 * PAGE, 1, 2, fd, 0)
print(sums(at, 4))
other = call(libc.mmap, 0, 2 * PAGE, 3, 2, fd, 2 * PAGE)
print(sums(other, 2))
ctypes.memset(other, 7, 10)
print(sums(other, 2), sums(at, 4))
print(call(libc.madvise, other, 2 * PAGE, 4), sums(other, 2))
print(call(libc.mprotect, at + PAGE, PAGE, 3))
ctypes.memset(at + PAGE, 9, PAGE)
print(sums(at, 4), call(libc.madvise, at, 4 * PAGE, 4), sums(at, 4))
moved = call(libc.mremap, other, 2 * PAGE, PAGE, 1)
print(moved == other, sums(moved, 1))
print(call(libc.mmap, at + PAGE, PAGE, 1, 0x12, fd, 3 * PAGE) == at + PAGE, sums(at, 4))
print(call(libc.mprotect, at, PAGE, 0), call(libc.mprotect, at, PAGE, 1), sums(at, 1))
hidden = call(libc.mmap, 0, 2 * PAGE, 0, 2, fd, PAGE)
print(call(libc.mprotect, hidden, 2 * PAGE, 1), sums(hidden, 2))
shared = call(libc.mmap, 0, PAGE, 1, 1, fd, 0)
print(sums(shared, 1), call(libc.mprotect, shared, PAGE, 3))
print(call(libc.mmap, 0, PAGE, 3, 1, fd, 0), call(libc.mmap, 0, PAGE, 1, 2, fd, 5), call(libc.mmap, 0, 0, 1, 2, fd, 0))
low = call(libc.mmap, 0, PAGE, 1, 0x42, fd, 0)
print(0 < low < 1 << 31, sums(low, 1))
for line in open('/proc/self/maps'):
    if line.endswith('DIRECTORY/file\\n') and int(line.split('-')[0], 16) == moved:
        print(line.split()[1:3])
os.close(fd)
print(sums(moved, 1), call(libc.munmap, moved, PAGE))";

/// `libffi` maps a file in memory twice for the code by which C calls Python.
#[test]
fn functions_of_python_are_called_back_by_c() {
    let output = python(QSORT, Files::libraries());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[1, 5, 7, 33, 99]\n", "{output:?}");
}

const QSORT: &str = "
import ctypes
libc = ctypes.CDLL(None)
Compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
values = (ctypes.c_int * 5)(5, 1, 7, 33, 99)
libc.qsort(values, len(values), ctypes.sizeof(ctypes.c_int), Compare(lambda one, other: one[0] - other[0]))
print(list(values))";

fn python(script: &str, files: Files) -> ProgramOutput {
    require(PYTHON, "python3");
    Program::new(PYTHON).args(["-c", script]).files(files).run().unwrap()
}

/// Fails where a program is not installed that a test is about.
#[test]
fn a_library_that_is_missing_is_named_with_the_grants_that_would_help() {
    let directory = std::env::temp_dir().join(format!("ampoule-missing-library-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    fs::copy("/lib64/ld-linux-x86-64.so.2", directory.join("ld-linux-x86-64.so.2")).unwrap();
    let files = Files::none().dir(&directory, "/lib64", Access::ReadOnly);
    let output = Program::new("/usr/bin/dash").args(["-c", "true"]).files(files).run().unwrap();
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(output.status.code(), Some(127));
    let missing = output.missing_library.expect("it has no libraries");
    assert_eq!(missing.name, "libc.so.6");
    assert!(missing.to_string().contains("`libc.so.6`") && missing.to_string().contains("`--libs`"), "{missing}");
    // A program may exit so for reasons of its own.
    let output = Program::new("/usr/bin/dash").args(["-c", "exit 127"]).files(Files::libraries()).run().unwrap();
    assert_eq!((output.status.code(), output.missing_library), (Some(127), None));
}

fn require(path: &str, package: &str) {
    assert!(Path::new(path).exists(), "{path} is missing: install the Debian package `{package}`");
}

/// Does something when it is read for the first time, and is empty.
struct OnFirstRead<F>(Option<F>);

impl<F: FnOnce()> Read for OnFirstRead<F> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        if let Some(act) = self.0.take() {
            act();
        }
        Ok(0)
    }
}
