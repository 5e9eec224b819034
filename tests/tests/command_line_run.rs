//! `ampoule run`, and what `ampoule` shows of a guest that runs.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ampoule_tests::native::write_executable;

#[test]
fn a_program_has_the_standard_streams_and_its_exit_code_is_its_own() {
    let done = run(&["upper"], b"a line\nand another");
    assert_eq!((done.stdout.as_str(), done.stderr.as_str(), done.code), ("A LINE\nAND ANOTHER", "", 0));
    let done = run(&["both"], b"");
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("to stdout without an end", "to stderr\n"));
    assert_eq!(run(&["exit", "7"], b"").code, 7);
    let input = vec![b'x'; 3 << 20];
    assert_eq!(run(&["cat"], &input).stdout.len(), input.len());
}

#[test]
fn what_stands_behind_the_program_is_its_own() {
    let done = run(&["list", "--deadline", "-x", "--", "1"], b"");
    assert_eq!(done.stdout, "[program]\n[list]\n[--deadline]\n[-x]\n[--]\n[1]\n");
    for option in ["--help", "-v", "--name", "--", "--tmp=1"] {
        let done = finish(command().arg("run").arg(program()).args([option, "list"]), b"");
        assert_eq!((done.stdout, done.code), (format!("[program]\n[{option}]\n[list]\n"), 0));
    }
    let done = run_with(&["--env", "A=b"], &["list"], b"");
    assert_eq!(done.stdout, "[program]\n[list]\nA=b\n");
}

#[test]
fn a_program_whose_output_nobody_reads_ends() {
    let mut yes = command();
    yes.args(["run", "--deadline", "30s"]).arg(program()).arg("yes").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = yes.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 1000]).unwrap();
    drop(stdout);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(141), "128 and SIGPIPE");
    assert_eq!(String::from_utf8_lossy(&done.stderr), "", "shells do not mention it either");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = command().arg("run").arg(program()).arg("yes").stdout(full).status().unwrap();
    assert_eq!(done.code(), Some(libc::ENOSPC));
}

#[test]
fn a_program_that_dies_has_the_exit_code_of_a_shell_and_a_line() {
    for (mode, code, message) in [
        ("null", 139, "read of null pointer"),
        ("abort", 134, "abort"),
        ("divide", 136, "divide"),
        ("illegal", 132, ""),
    ] {
        let done = run(&[mode], b"");
        assert_eq!(done.code, code, "{mode}: {}", done.stderr);
        assert!(done.stderr.starts_with("ampoule: ") && done.stderr.contains(message), "{mode}: {}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{mode}: {}", done.stderr);
    }
    assert!(run_with(&["-v"], &["null"], b"").stderr.contains("registers:"));
}

#[test]
fn a_program_is_dumped_and_profiled_where_it_was_asked_for() {
    let directory = std::env::temp_dir().join(format!("ampoule-run-looks-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let of_directory = ["--core-dir", directory.to_str().unwrap(), "--name", "dies"];
    let done = run_with(&of_directory, &["null"], b"");
    let core = directory.join("dies.1.core");
    assert!(done.stderr.contains(&format!("; core dump: {}", core.display())), "{}", done.stderr);
    assert!(fs::read(&core).unwrap().starts_with(b"\x7fELF"));
    assert_eq!(run_with(&of_directory, &["exit", "1"], b"").stderr, "");

    let profile = directory.join("spin.folded");
    let done = run_with(&["--profile", profile.to_str().unwrap(), "--deadline", "200ms"], &["spin"], b"");
    assert_eq!(done.code, 124, "{}", done.stderr);
    assert!(fs::read_to_string(&profile).unwrap().contains("main"));
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_program_that_fails_is_told_what_it_was_refused() {
    let done = run(&["refused", "3"], b"");
    assert_eq!(done.code, 3);
    assert_eq!(
        done.stderr,
        "ampoule: the program has made calls that were refused: socket (network), clone (threads or processes)\n"
    );
    assert_eq!(run(&["refused", "0"], b"").stderr, "");
    assert_eq!((run(&["names", "3"], b"").code, run(&["names", "3"], b"").stderr), (3, String::new()));
    let done = run_with(&["--without", "files,time", "--trace"], &["refused", "3"], b"");
    assert!(done.stderr.contains("openat (files)"), "{}", done.stderr);
    assert!(done.stderr.contains("\"/etc/passwd\", O_RDONLY) = -1 EACCES (files) <"), "{}", done.stderr);
    let done = run_with(&["--without", "network"], &["cat"], b"");
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("there is no group of system calls called `network`"), "{}", done.stderr);
}

#[test]
fn limits_and_what_cannot_be_run_have_exit_codes_of_their_own() {
    let done = run_with(&["--deadline", "50ms"], &["spin"], b"");
    assert_eq!(done.code, 124, "{}", done.stderr);
    assert!(done.stderr.contains("deadline of 50ms"), "{}", done.stderr);
    let done = run_with(&["--output-limit", "1K"], &["cat"], &[b'x'; 5000]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    let done = run_with(&["--memory", "5"], &["cat"], b"");
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("`--memory` of 5 bytes is out of range"), "{}", done.stderr);
    let missing = finish(command().args(["run", "/nonexistent/program"]), b"");
    assert_eq!(missing.code, 127, "{}", missing.stderr);
    let text = directory().join("text");
    fs::write(&text, "#!/bin/sh\n").unwrap();
    assert_eq!(finish(command().arg("run").arg(text), b"").code, 126);
}

#[test]
fn a_name_is_looked_for_in_the_path() {
    program();
    let done = finish(command().args(["run", "program", "exit", "3"]).env("PATH", directory()), b"");
    assert_eq!(done.code, 3, "{}", done.stderr);
    let done = finish(command().args(["run", "program"]).env("PATH", "/nonexistent"), b"");
    assert_eq!(done.code, 127, "{}", done.stderr);
}

#[test]
fn a_trace_shows_what_the_program_asks_for() {
    let done = run_with(&["--trace"], &["exit", "7"], b"");
    assert!(done.stderr.contains("exit_group(7)"), "{}", done.stderr);
    let file = directory().join("trace");
    let done = run_with(&[&format!("--trace={}", file.display())], &["cat"], b"some input");
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("some input", ""));
    let trace = fs::read_to_string(file).unwrap();
    assert!(trace.contains("read(0, \"some input\"") && trace.contains("write(1, \"some input\""), "{trace}");
}

#[test]
fn a_call_is_sampled_into_the_form_that_the_name_of_the_file_asks_for() {
    let guest = ampoule::include_guest!("calls");
    let image = directory().join("calls");
    fs::write(&image, guest.bytes()).unwrap();
    for (name, begins) in [("flames.svg", "<?xml"), ("profile.folded", "")] {
        let file = directory().join(name);
        let mut call = command();
        call.args(["call", image.to_str().unwrap(), "spin", "--cpu", "300ms", "--profile"]).arg(&file).args(HOST);
        let done = finish(&mut call, b"");
        assert_eq!(done.code, 124, "{}", done.stderr);
        let profile = fs::read_to_string(file).unwrap();
        assert!(profile.starts_with(begins) && profile.contains("spin"), "{profile}");
    }
}

#[test]
fn the_memory_of_a_call_is_profiled_by_the_measure_and_in_the_form_that_were_asked_for() {
    let guest = ampoule::include_guest!("profiled");
    let image = directory().join("profiled");
    fs::write(&image, guest.bytes()).unwrap();
    let profiled = |file: &str, more: &[&str]| {
        let file = directory().join(file);
        let mut call = command();
        call.args(["call", image.to_str().unwrap(), "take_block", "1000", "--host-fn", "work=null"]);
        let done = finish(call.arg("--memory-profile").arg(&file).args(more), b"");
        assert_eq!(done.code, 0, "{}", done.stderr);
        fs::read(file).unwrap()
    };
    let bytes_of = |folded: &[u8], function: &str| -> u64 {
        let lines = String::from_utf8(folded.to_vec()).unwrap();
        let of = lines.lines().filter(|line| line.contains(function));
        of.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    };
    // What the guest prepares before its first call is in it.
    for measure in [&[][..], &["--memory-measure", "total"], &["--memory-measure", "live"]] {
        let folded = profiled("memory.folded", measure);
        assert_eq!([bytes_of(&folded, "take_block"), bytes_of(&folded, "prepared_block")], [1000, 12_345]);
    }
    assert!(profiled("memory.svg", &[]).starts_with(b"<?xml"));
    // The first field of `profile.proto` is a message, the type of a value.
    assert_eq!(profiled("memory.pb", &[])[0], 0x0a);

    let without =
        finish(command().args(["call", image.to_str().unwrap(), "take_block", "1", "--memory-measure", "live"]), b"");
    assert_eq!(without.code, 2, "{}", without.stderr);
    assert!(without.stderr.contains("--memory-profile"), "{}", without.stderr);
}

#[test]
fn gdb_attaches_to_a_program() {
    let socket = directory().join("gdb");
    let mut call = command();
    call.args(["run", "--gdb", &format!("unix:{}", socket.display()), program().to_str().unwrap(), "exit", "5"]);
    let child = call.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let gdb = Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"])
        .args(["-ex", "set tcp connect-timeout 60", "-ex", &format!("target remote {}", socket.display())])
        .args(["-ex", "break main", "-ex", "continue", "-ex", "print $_exitcode", "-ex", "continue"])
        .output()
        .expect("the tests need gdb");
    let shown = String::from_utf8_lossy(&gdb.stdout);
    assert!(shown.contains("Breakpoint 1, "), "{shown}\n{}", String::from_utf8_lossy(&gdb.stderr));
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(5), "{shown}\n{}", String::from_utf8_lossy(&done.stderr));
}

const PROGRAM: &[u8] = include_bytes!(env!("PROGRAM"));

struct Done {
    stdout: String,
    stderr: String,
    code: i32,
}

fn run(arguments: &[&str], input: &[u8]) -> Done {
    run_with(&[], arguments, input)
}

fn run_with(options: &[&str], arguments: &[&str], input: &[u8]) -> Done {
    finish(command().arg("run").args(options).arg(program()).args(arguments), input)
}

fn finish(command: &mut Command, input: &[u8]) -> Done {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // It may end before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Done {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().expect("the command line exits"),
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ampoule-command-line"))
}

/// The file of a program that knows nothing of Ampoule.
fn program() -> PathBuf {
    let path = directory().join("program");
    // Tests that run at the same time find either nothing or all of it.
    if !fs::read(&path).is_ok_and(|bytes| bytes == PROGRAM) {
        let new = path.with_extension(format!("{:?}", std::thread::current().id()));
        write_executable(&new, PROGRAM);
        fs::rename(&new, &path).unwrap();
    }
    path
}

fn directory() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("command-line-run");
    fs::create_dir_all(&path).unwrap();
    path
}

/// Answers for all that the guest `calls` imports.
const HOST: [&str; 8] =
    ["--host-fn", "add=5", "--host-fn", "notify=null", "--host-fn", "parse=6", "--host-fn", "transform=[]"];
