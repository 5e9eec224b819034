//! Snapshots in files: what is loaded continues where it was, and what is no snapshot is refused.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ampoule::{
    Access, Blame, BuildError, Executable, Files, LoadSnapshotError, Program, ProgramSnapshot, Sandbox, SaveOptions,
    SaveSnapshotError, Snapshot, SnapshotFile,
};
use ampoule_tests::child::in_child;
use ampoule_tests::{calls_sandbox, calls_spawn, shop_image};
use tempfile::TempDir;

#[test]
fn a_sandbox_continues_where_it_was_when_it_was_stored() {
    let (directory, path) = file("calls.snap");
    let mut sandbox = calls_sandbox();
    increment(&mut sandbox);
    let taken = sandbox.snapshot().unwrap();
    let saved = taken.save(&path).unwrap();
    assert_eq!(saved.file_size, fs::metadata(&path).unwrap().len());
    drop((sandbox, taken));
    let loaded = Snapshot::load(&path).unwrap();
    drop(directory);
    for _ in 0..2 {
        let mut one = calls_spawn(loaded.builder()).build().unwrap();
        assert_eq!(increment(&mut one), 102);
        assert!(one.call::<bool>("exercise_memory", (7u32,)).unwrap());
        assert_eq!(one.call::<u32>("count_on_host", (5u32,)).unwrap(), 5);
        one.reset().unwrap();
        assert_eq!(increment(&mut one), 102);
        let next = one.snapshot().unwrap();
        assert_eq!(increment(&mut calls_spawn(next.builder()).build().unwrap()), 103);
    }
}

#[test]
fn what_is_loaded_in_another_process_continues_too() {
    let (_directory, path) = file("calls.snap");
    let saved = stored_calls(&path);
    let status = in_child(|| {
        let loaded = Snapshot::load(&path).unwrap();
        assert_eq!(increment(&mut calls_spawn(loaded.builder()).build().unwrap()), 101);
        assert_eq!(SnapshotFile::new(&path).info().unwrap().digest, saved);
    });
    assert_eq!(status, 0);
}

#[test]
fn a_guest_that_describes_its_types_does_so_from_a_file() {
    let (_directory, path) = file("shop.snap");
    let builder = || Sandbox::builder(&shop_image());
    let Ok(sandbox) = builder().build() else { return };
    let mut sandbox = sandbox;
    sandbox.snapshot().unwrap().save(&path).unwrap();
    let loaded = Snapshot::load(&path).unwrap();
    assert_eq!(loaded.image().described_types().len(), shop_image().described_types().len());
}

#[test]
fn all_that_is_loaded_from_one_file_is_one_image_and_shares_its_pages() {
    let (_directory, path) = file("calls.snap");
    stored_calls(&path);
    let copy = path.with_extension("copy");
    fs::copy(&path, &copy).unwrap();
    let [one, other] = [&path, &copy].map(|path| Snapshot::load(path).unwrap());
    assert!(one.image().is_same(other.image()));
    let mut sandbox = calls_spawn(one.builder()).build().unwrap();
    increment(&mut sandbox);
    sandbox.restore(&other).unwrap();
    assert_eq!(increment(&mut sandbox), 101);
}

#[test]
fn host_functions_are_named_again_and_missing_ones_are_reported() {
    let (_directory, path) = file("calls.snap");
    stored_calls(&path);
    let error = Snapshot::load(&path).unwrap().spawn().unwrap_err();
    assert!(matches!(error, BuildError::MissingHostFunction { .. }), "{error}");
    let error = Snapshot::load(&path).unwrap().builder().host_fn("add", |a: String| a).build().unwrap_err();
    assert!(matches!(error, BuildError::HostFunctionMismatch { .. }), "{error}");
}

#[test]
fn a_child_that_was_forked_after_a_load_makes_sandboxes_of_its_own() {
    let (_directory, path) = file("calls.snap");
    stored_calls(&path);
    for loaded in [Snapshot::load(&path).unwrap(), mapped(&path)] {
        let use_it = || {
            let mut sandbox = calls_spawn(loaded.builder()).build().unwrap();
            assert_eq!(increment(&mut sandbox), 101);
            assert!(sandbox.call::<bool>("exercise_memory", (7u32,)).unwrap());
        };
        assert_eq!(in_child(use_it), 0);
        use_it();
        assert_eq!(in_child(use_it), 0);
    }
}

#[test]
fn what_becomes_of_the_file_later_harms_nobody() {
    let (_directory, path) = file("calls.snap");
    stored_calls(&path);
    let loaded = Snapshot::load(&path).unwrap();
    let mut before = calls_spawn(loaded.builder()).build().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let mut after = calls_spawn(loaded.builder()).build().unwrap();
    for sandbox in [&mut before, &mut after] {
        assert_eq!(increment(sandbox), 101);
        assert!(sandbox.call::<bool>("exercise_memory", (7u32,)).unwrap());
    }
    assert!(matches!(Snapshot::load(&path), Err(LoadSnapshotError::NotASnapshot { .. })));
}

#[test]
fn a_mapped_file_continues_as_one_that_is_read_does() {
    let (_directory, path) = file("calls.snap");
    stored_calls(&path);
    let loaded = mapped(&path);
    for _ in 0..2 {
        let mut one = calls_spawn(loaded.builder()).build().unwrap();
        assert_eq!(increment(&mut one), 101);
        assert!(one.call::<bool>("exercise_memory", (7u32,)).unwrap());
        assert_eq!(one.call::<u32>("count_on_host", (5u32,)).unwrap(), 5);
        one.reset().unwrap();
        assert_eq!(increment(&mut one), 101);
        let next = one.snapshot().unwrap();
        assert_eq!(increment(&mut calls_spawn(next.builder()).build().unwrap()), 102);
        one.restore(&loaded).unwrap();
        assert_eq!(increment(&mut one), 101);
    }
    // A file that is replaced is another one, and what was loaded has the one before.
    let mut sandbox = calls_sandbox();
    increment(&mut sandbox);
    sandbox.snapshot().unwrap().save(&path).unwrap();
    assert_eq!(increment(&mut calls_spawn(loaded.builder()).build().unwrap()), 101);
    assert_eq!(increment(&mut calls_spawn(mapped(&path).builder()).build().unwrap()), 102);
}

#[test]
fn a_mapped_file_that_is_cut_short_ends_the_guest_that_touches_it_and_never_the_host() {
    let (_directory, path) = file("calls.snap");
    stored_calls(&path);
    let loaded = mapped(&path);
    let mut touched = calls_spawn(loaded.builder()).build().unwrap();
    assert_eq!(increment(&mut touched), 101);
    fs::File::options().write(true).open(&path).unwrap().set_len(8192).unwrap();
    let untouched = calls_spawn(loaded.builder()).build();
    for mut sandbox in [Ok(touched), untouched].into_iter().flatten() {
        let error = sandbox.call::<u32>("increment", ()).unwrap_err();
        assert_eq!(error.blame(), Blame::Caller, "{error}");
        let text = error.to_string();
        assert!(text.contains("memory that its snapshot file has lost"), "{text}");
    }
    let error = SnapshotFile::new(&path).mapped().snapshot().unwrap_err();
    assert!(matches!(error, LoadSnapshotError::Length { .. }), "{error}");
}

#[test]
fn a_changed_page_of_a_mapped_file_is_found_by_verifying_it() {
    let (_directory, path) = file("calls.snap");
    let mut sandbox = calls_sandbox();
    sandbox.call::<()>("prepare_pages", (200u32, 7u8)).unwrap();
    sandbox.snapshot().unwrap().save(&path).unwrap();
    let kept = Snapshot::load(&path).unwrap();
    let end = fs::metadata(&path).unwrap().len();
    let changed = fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    changed.read_exact_at(&mut byte, end - 4096).unwrap();
    changed.write_all_at(&[byte[0] ^ 1], end - 4096).unwrap();
    SnapshotFile::new(&path).mapped().snapshot().unwrap();
    let error = SnapshotFile::new(&path).mapped().verify().unwrap_err();
    assert!(matches!(error, LoadSnapshotError::Damaged { .. }), "{error}");
    drop(kept);
}

#[test]
fn a_mapped_difference_and_a_compressed_file_are_as_good() {
    let (directory, path) = file("first.snap");
    let mut sandbox = calls_sandbox();
    sandbox.snapshot().unwrap().save(&path).unwrap();
    increment(&mut sandbox);
    let next = directory.path().join("next.snap");
    sandbox.snapshot().unwrap().save_with(&next, &SaveOptions::new().parent(&path)).unwrap();
    assert_eq!(increment(&mut calls_spawn(mapped(&next).builder()).build().unwrap()), 102);
    let compressed = directory.path().join("compressed.snap");
    mapped(&next).save_with(&compressed, &SaveOptions::new().compressed()).unwrap();
    assert_eq!(increment(&mut calls_spawn(mapped(&compressed).builder()).build().unwrap()), 102);
    let difference = directory.path().join("difference.snap");
    let saved = mapped(&next).save_with(&difference, &SaveOptions::new().parent(&path)).unwrap();
    assert_eq!(saved.file_size, fs::metadata(&next).unwrap().len());
}

#[test]
fn what_somebody_has_mapped_vouches_for_nothing() {
    let (directory, path) = file("first.snap");
    let mut sandbox = calls_sandbox();
    sandbox.call::<()>("prepare_pages", (200u32, 7u8)).unwrap();
    let whole = sandbox.snapshot().unwrap().save(&path).unwrap();
    increment(&mut sandbox);
    let difference = directory.path().join("difference.snap");
    sandbox.snapshot().unwrap().save_with(&difference, &SaveOptions::new().parent(&path).compressed()).unwrap();
    drop(sandbox);
    let changed = fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    changed.read_exact_at(&mut byte, whole.file_size - 4096).unwrap();
    changed.write_all_at(&[byte[0] ^ 1], whole.file_size - 4096).unwrap();

    // A compressed difference shows its parent's pages, but nobody else gets those who does not ask for that.
    let (of_difference, of_parent) = (mapped(&difference), mapped(&path));
    let error = SnapshotFile::new(&difference).snapshot().unwrap_err();
    assert!(matches!(error, LoadSnapshotError::Damaged { .. }), "{error}");
    // Nor is what differs found out by comparing with them.
    let another = calls_sandbox().snapshot().unwrap();
    let error =
        another.save_with(directory.path().join("another.snap"), &SaveOptions::new().parent(&path)).unwrap_err();
    assert!(matches!(error, SaveSnapshotError::Parent(_)), "{error}");
    drop((of_difference, of_parent));
}

#[test]
fn a_mapped_program_answers() {
    let (_directory, path) = file("tiny.snap");
    tiny_program().save(&path).unwrap();
    let loaded = SnapshotFile::new(&path).mapped().program().unwrap();
    let output = loaded.spawn().unwrap().input("a").run().unwrap();
    assert_eq!(output.stdout, b"d");
}

#[test]
fn zeros_and_pages_of_the_image_are_not_stored() {
    let (_directory, path) = file("calls.snap");
    stored_calls(&path);
    let info = SnapshotFile::new(&path).info().unwrap();
    assert!(info.stored_bytes < info.used_bytes / 2, "{info:?}");
    assert_eq!(info.image_size, ampoule_tests::calls_image().bytes().len());
}

#[test]
fn a_compressed_file_is_smaller_and_the_same_snapshot() {
    let (_directory, path) = file("calls.snap");
    let digest = stored_calls(&path);
    let compressed = path.with_extension("compressed");
    let saved = Snapshot::load(&path).unwrap().save_with(&compressed, &SaveOptions::new().compressed()).unwrap();
    assert!(saved.file_size < fs::metadata(&path).unwrap().len() * 2 / 3, "{saved:?}");
    let _ = digest;
    let loaded = Snapshot::load(&compressed).unwrap();
    assert_eq!(increment(&mut calls_spawn(loaded.builder()).build().unwrap()), 101);
    assert!(SnapshotFile::new(&compressed).verify().unwrap().is_compressed);
}

#[test]
fn a_difference_needs_its_parent_under_whatever_name() {
    let (directory, path) = file("first.snap");
    let mut sandbox = calls_sandbox();
    let first = sandbox.snapshot().unwrap();
    let whole = first.save(&path).unwrap();
    let mut chain = vec![path.clone()];
    for generation in 0..3 {
        increment(&mut sandbox);
        let next = directory.path().join(format!("{generation}.snap"));
        let options = SaveOptions::new().parent(chain.last().unwrap());
        let saved = sandbox.snapshot().unwrap().save_with(&next, &options).unwrap();
        assert!(saved.file_size < whole.file_size / 4, "{saved:?}");
        chain.push(next);
    }
    let load = |path: &PathBuf| Snapshot::load(path).map(|loaded| calls_spawn(loaded.builder()).build().unwrap());
    for (generation, path) in chain.iter().enumerate() {
        assert_eq!(increment(&mut load(path).unwrap()), 101 + generation as u32);
    }
    let moved = directory.path().join("elsewhere");
    fs::create_dir(&moved).unwrap();
    let moved = moved.join("parent");
    fs::rename(&chain[2], &moved).unwrap();
    let error = load(&chain[3]).unwrap_err();
    assert!(matches!(error, LoadSnapshotError::MissingParent { .. }), "{error}");
    let named = SnapshotFile::new(&chain[3]).parent(&moved).parent(&chain[1]).parent(&chain[0]).snapshot().unwrap();
    assert_eq!(increment(&mut calls_spawn(named.builder()).build().unwrap()), 104);
}

#[test]
fn of_a_parent_that_the_process_has_no_more_than_the_header_is_read() {
    let (directory, path) = file("first.snap");
    let mut sandbox = calls_sandbox();
    let first = sandbox.snapshot().unwrap();
    let whole = first.save(&path).unwrap();
    // What is loaded and dropped again makes it no less known.
    Snapshot::load(&path).unwrap();
    increment(&mut sandbox);
    let next = sandbox.snapshot().unwrap();
    let changed = fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    changed.read_exact_at(&mut byte, whole.file_size / 2).unwrap();
    let flip = |bit: u8| changed.write_all_at(&[byte[0] ^ bit], whole.file_size / 2).unwrap();
    flip(1);
    let saved = directory.path().join("next.snap");
    let options = SaveOptions::new().parent(&path);
    next.save_with(&saved, &options).unwrap();
    drop((sandbox, first, next));
    let another = calls_sandbox().snapshot().unwrap();
    let error = another.save_with(directory.path().join("another.snap"), &options).unwrap_err();
    assert!(matches!(error, SaveSnapshotError::Parent(_)), "{error}");
    flip(0);
    assert_eq!(increment(&mut calls_spawn(Snapshot::load(&saved).unwrap().builder()).build().unwrap()), 102);
}

#[test]
fn a_difference_from_another_guest_is_refused() {
    let (directory, path) = file("calls.snap");
    stored_calls(&path);
    let tiny = directory.path().join("tiny.snap");
    let error = tiny_program().save_with(&tiny, &SaveOptions::new().parent(&path)).unwrap_err();
    assert!(matches!(error, SaveSnapshotError::ForeignParent { .. }), "{error}");
    assert!(!tiny.exists());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_program_answers_from_a_file() {
    let (_directory, path) = file("tiny.snap");
    tiny_program().save(&path).unwrap();
    let loaded = ProgramSnapshot::load(&path).unwrap();
    for (given, expected) in [("a", "d"), ("x", "{")] {
        let output = loaded.spawn().unwrap().input(given).run().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, expected.as_bytes());
    }
    let error = Snapshot::load(&path).unwrap_err();
    assert!(matches!(error, LoadSnapshotError::Kind { is_program: true, .. }), "{error}");
}

#[test]
fn no_changed_byte_of_a_file_is_overlooked() {
    for options in [SaveOptions::new(), SaveOptions::new().compressed()] {
        let (_directory, path) = file("tiny.snap");
        tiny_program().save_with(&path, &options).unwrap();
        let digest = SnapshotFile::new(&path).info().unwrap().digest;
        let good = fs::read(&path).unwrap();
        let changed = fs::File::options().write(true).open(&path).unwrap();
        for at in 0..good.len() {
            changed.write_all_at(&[good[at] ^ 1 << (at % 8)], at as u64).unwrap();
            match (at, SnapshotFile::new(&path).info()) {
                (0..8, Err(LoadSnapshotError::NotASnapshot { .. }))
                | (8..12, Err(LoadSnapshotError::Version { .. }))
                | (12..16, Err(LoadSnapshotError::Architecture { .. }))
                | (16.., Err(_)) => {}
                // Not every bit of what is compressed has a meaning.
                (16.., Ok(info)) if info.is_compressed => assert_eq!(info.digest, digest),
                (_, result) => panic!("a changed byte at {at}: {result:?}"),
            }
            changed.write_all_at(&good[at..=at], at as u64).unwrap();
        }
        drop(changed);
        for len in (0..good.len()).step_by(61).chain([good.len() - 1]) {
            fs::write(&path, &good[..len]).unwrap();
            SnapshotFile::new(&path).program().expect_err("a shorter file is refused");
        }
        fs::write(&path, [&good[..], &[0]].concat()).unwrap();
        let error = SnapshotFile::new(&path).program().unwrap_err();
        assert!(matches!(error, LoadSnapshotError::Length { .. }), "{error}");
    }
}

#[test]
fn a_file_that_takes_more_than_the_limit_is_refused() {
    let (_directory, path) = file("tiny.snap");
    tiny_program().save(&path).unwrap();
    let error = SnapshotFile::new(&path).size_limit(4096).program().unwrap_err();
    assert!(matches!(error, LoadSnapshotError::TooLarge { limit: 4096, .. }), "{error}");
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let (directory, path) = file("tiny.snap");
    fs::create_dir(&path).unwrap();
    let error = tiny_program().save(&path).unwrap_err();
    assert!(matches!(error, SaveSnapshotError::Write { .. }), "{error}");
    let error = tiny_program().save(directory.path().join("none/tiny.snap")).unwrap_err();
    assert!(matches!(error, SaveSnapshotError::Write { .. }), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_program_waits_from_a_file_however_it_waited() {
    let executable = Executable::from_bytes(include_bytes!(env!("PREPARED")).as_slice()).unwrap();
    for how in ["read", "readv", "poll", "hour", "select", "epoll", "edge"] {
        let (_directory, path) = file("prepared.snap");
        let mut idle = Program::of(&executable).arg(how).start().unwrap().run_until_input().unwrap();
        idle.input("add 5\nfill 9\ndirectory\nmask 0\nvariable\npipe\nclose 2\n").run_until_input().unwrap();
        idle.snapshot().unwrap().save(&path).unwrap();
        let mut loaded = ProgramSnapshot::load(&path).unwrap().spawn().unwrap();
        let output = loaded.input("show\n").run().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.ends_with("sum 5, table 36864, in /dev, mask 0, next 2, variable yes\n"), "{how}: {shown}");
    }
}

#[test]
fn what_a_program_has_open_and_in_memory_is_in_the_file() {
    let (directory, path) = file("python.snap");
    let granted = TempDir::new().unwrap();
    fs::write(granted.path().join("data"), "0123456789").unwrap();
    let files = || Files::libraries().tmp(1 << 20).dir(granted.path(), "/granted", Access::ReadOnly);
    let python = Program::new("/usr/bin/python3").files(files()).args(["-I", "-c", PREPARES]);
    python.start().unwrap().run_until_input().unwrap().snapshot().unwrap().save(&path).unwrap();
    for _ in 0..2 {
        let loaded = SnapshotFile::new(&path).files(files()).program().unwrap();
        let output = loaded.spawn().unwrap().input("\n").run().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "all is there\n", "{errors}");
    }
    let refused = |files| SnapshotFile::new(&path).files(files).program().unwrap_err();
    let error = refused(Files::libraries().tmp(1 << 20));
    assert!(matches!(&error, LoadSnapshotError::File { file, .. } if file == "/granted/data"), "{error}");
    let error = refused(Files::libraries().dir(granted.path(), "/granted", Access::ReadOnly));
    assert!(matches!(error, LoadSnapshotError::Room { .. }), "{error}");
    drop(directory);
}

/// Opens and makes all kinds of things, waits, and looks at them.
const PREPARES: &str = r#"
import os, select, signal, socket, sys, time
os.makedirs('/tmp/a/b'); open('/tmp/a/b/text', 'w').write('kept'); os.link('/tmp/a/b/text', '/tmp/link')
os.symlink('a/b', '/tmp/short'); os.chmod('/tmp/a', 0o700)
gone = open('/tmp/gone', 'w+'); gone.write('x' * 5000 + 'end'); gone.flush(); os.unlink('/tmp/gone')
sparse = os.open('/tmp/sparse', os.O_RDWR | os.O_CREAT); os.pwrite(sparse, b'far', 1 << 30)
memory = os.memfd_create('m', os.MFD_ALLOW_SEALING); os.write(memory, b'sealed')
import fcntl; fcntl.fcntl(memory, 1033, 8)
data = open('/granted/data', 'rb', buffering=0); data.read(3)
null = os.open('/dev/null', os.O_WRONLY)
reader, writer = os.pipe(); os.write(writer, b'in the pipe')
one, other = socket.socketpair(); one.send(b'first'); one.send(b'second')
poll = select.epoll(); poll.register(reader, select.EPOLLIN)
caught = []
signal.signal(signal.SIGUSR1, lambda *_: caught.append(1)); signal.signal(signal.SIGALRM, lambda *_: caught.append(2))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.kill(os.getpid(), signal.SIGUSR1)
signal.setitimer(signal.ITIMER_REAL, 3600)
os.chdir('/tmp/a')
before, inode = time.monotonic(), os.stat('/tmp/link').st_ino
sys.stdin.readline()
assert open('b/text').read() == 'kept' and os.getcwd() == '/tmp/a' and os.stat('/tmp/link').st_ino == inode
assert os.stat('/tmp/link').st_nlink == 2 and os.readlink('/tmp/short') == 'a/b' and os.stat('.').st_mode & 0o777 == 0o700
assert sorted(os.listdir('/tmp')) == ['a', 'link', 'short', 'sparse'], os.listdir('/tmp')
gone.seek(0); assert gone.read() == 'x' * 5000 + 'end'
assert os.pread(sparse, 3, 1 << 30) == b'far' and os.fstat(sparse).st_blocks < 64
assert os.pread(memory, 9, 0) == b'sealed'
try:
    os.write(memory, b'!'); raise SystemExit('not sealed')
except PermissionError:
    pass
assert data.read() == b'3456789'
assert os.write(null, b'nothing') == 7
assert [fd for fd, _ in poll.poll(0)] == [reader] and os.read(reader, 99) == b'in the pipe'
assert other.recv(99) == b'firstsecond'
assert caught == []
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1]); assert caught == [1]
assert 3000 < signal.getitimer(signal.ITIMER_REAL)[0] <= 3600 and time.monotonic() >= before
open('/tmp/new', 'w').write('y'); os.rename('/tmp/new', '/tmp/short/new'); assert os.listdir('b') == ['text', 'new']
print('all is there')
"#;

#[test]
fn the_command_line_prepares_continues_and_inspects() {
    let (directory, path) = file("tiny.snap");
    let tiny = directory.path().join("tiny");
    fs::write(&tiny, include_bytes!(env!("TINY"))).unwrap();
    let tiny = tiny.to_str().unwrap();
    let snap = path.to_str().unwrap();
    assert_eq!(command(&["prepare", "-o", snap, "--memory", "1M", tiny], ""), (0, String::new(), String::new()));
    for (given, expected) in [("a", "d"), ("b", "e")] {
        assert_eq!(command(&["run", snap], given), (0, expected.to_owned(), String::new()));
    }
    let (code, shown, _) = command(&["inspect", snap], "");
    assert!(code == 0 && shown.contains("of program `tiny`, which waits for its input"), "{shown}");
    let (code, _, said) = command(&["call", snap, "greet"], "");
    assert!(code == 2 && said.contains("`ampoule run` continues it"), "{code}: {said}");
    let (code, _, said) = command(&["run", snap, "argument"], "");
    assert!(code == 2 && said.contains("leave out `argument`"), "{said}");

    let guest = directory.path().join("calls");
    fs::write(&guest, ampoule_tests::calls_image().bytes()).unwrap();
    let guest = guest.to_str().unwrap();
    assert_eq!(command(&["prepare", "-o", snap, "--compress", guest], "").0, 0);
    let answers = ["add=1", "notify=null", "parse=1", "transform=[]"].map(|answer| format!("--host-fn={answer}"));
    let call: Vec<&str> = ["call", snap, "increment"].into_iter().chain(answers.iter().map(String::as_str)).collect();
    assert_eq!(command(&call, ""), (0, "101\n".to_owned(), String::new()));
    let (code, shown, _) = command(&["inspect", "--json", snap], "");
    let report: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert!(code == 0 && report["kind"] == "guest" && report["compressed"] == true, "{report}");
    fs::write(&path, b"\x7fAMPOULE and more").unwrap();
    assert_eq!(command(&["run", snap], "").0, 126);
}

/// The exit code of the command line, and what it has printed.
fn command(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule-command-line"));
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // What takes no input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn file(name: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(name);
    (directory, path)
}

fn mapped(path: &PathBuf) -> Snapshot {
    SnapshotFile::new(path).mapped().snapshot().unwrap()
}

fn stored_calls(path: &PathBuf) -> ampoule::SnapshotDigest {
    calls_sandbox().snapshot().unwrap().save(path).unwrap().digest
}

fn tiny_program() -> ProgramSnapshot {
    let executable = Executable::from_bytes(include_bytes!(env!("TINY")).as_slice()).unwrap();
    let program = Program::of(&executable).files(Files::none()).memory_limit(1 << 20);
    program.start().unwrap().run_until_input().unwrap().snapshot().unwrap()
}

fn increment(sandbox: &mut Sandbox) -> u32 {
    sandbox.call("increment", ()).unwrap()
}
