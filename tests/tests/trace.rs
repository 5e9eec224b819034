//! A trace has a line for each request of a guest, and for its end.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use ampoule::{Pool, Sandbox, Trace};
use ampoule_tests::{calls_builder, calls_sandbox, calls_spawn, hostile_sandbox};

#[test]
fn each_request_has_a_line_with_its_arguments_its_result_and_the_time() {
    let (mut sandbox, lines) = traced();
    sandbox.call::<()>("open_file", ("/etc/shadow",)).unwrap_err();
    sandbox.call::<()>("write_by_system_call", ("to the host\n", 2u32)).unwrap();
    assert_eq!(
        lines.take(),
        [
            r#"openat(AT_FDCWD, "/etc/shadow", O_RDONLY|O_CLOEXEC) = -1 ENOENT"#,
            r#"write(1, "to the host\n", 12) = 12"#,
            r#"write(1, "to the host\n", 12) = 12"#,
        ]
    );
    sandbox.call::<u32>("count_on_host", (1u32,)).unwrap();
    sandbox.call::<String>("parse_or_reason", ("no number",)).unwrap();
    assert_eq!(
        lines.take(),
        [
            "host add(u32, u32) -> u32, 8 bytes = 4 bytes",
            "host parse(String) -> Result<u32, ParseIntError>, 13 bytes = error"
        ]
    );
    // What is printed is no request.
    sandbox.call::<()>("print", ("waits in the mailbox\n",)).unwrap();
    assert_eq!(lines.take(), [""; 0]);
}

#[test]
fn the_end_of_a_guest_is_the_last_line() {
    let (mut sandbox, lines) = traced();
    sandbox.call::<()>("exit", (3i32,)).unwrap_err();
    let ended = lines.take();
    assert_eq!(ended[ended.len() - 2], "exit_group(3) = ?");
    assert!(ended[ended.len() - 1].starts_with("--- ") && ended[ended.len() - 1].contains('3'), "{ended:?}");
    sandbox.reset().unwrap();

    sandbox.call::<()>("fault", ()).unwrap_err();
    let ended = lines.take();
    assert!(ended.len() == 1 && ended[0].contains("null"), "{ended:?}");

    let mut hostile = hostile_sandbox();
    hostile.set_trace(lines.trace());
    hostile.call::<bool>("privileged", ("hlt",)).unwrap_err();
    assert_eq!(lines.take().len(), 1);
}

#[test]
fn a_trace_is_switched_on_and_off_between_calls() {
    let (mut sandbox, lines) = (calls_sandbox(), Lines::default());
    let call = |sandbox: &mut Sandbox| sandbox.call::<()>("write_by_system_call", ("text", 1u32)).unwrap();
    call(&mut sandbox);
    sandbox.set_trace(lines.trace());
    call(&mut sandbox);
    sandbox.set_trace(Trace::off());
    call(&mut sandbox);
    assert_eq!(lines.take().len(), 1);
}

#[test]
fn a_trace_shows_the_start_of_a_guest_and_is_whole() {
    let lines = Lines::default();
    let mut sandbox = calls_builder().trace(lines.trace()).build().unwrap();
    let start = lines.take();
    assert!(start.iter().any(|line| line.starts_with("arch_prctl(ARCH_SET_FS, 0x")), "{start:?}");

    sandbox.call::<()>("write_by_system_call", ("x", 5000u32)).unwrap();
    assert_eq!(lines.take(), [r#"write(1, "x", 1) = 1"#; 5000]);
}

#[test]
fn sandboxes_that_share_a_trace_are_told_apart_by_their_names() {
    let lines = Lines::default();
    let trace = lines.trace().with_names();
    for name in ["one", "two"] {
        let mut sandbox = calls_builder().name(name).build().unwrap();
        sandbox.set_trace(trace.clone());
        sandbox.call::<()>("write_by_system_call", ("x", 1u32)).unwrap();
    }
    assert_eq!(
        lines.take(),
        [r#"[one write_by_system_call] write(1, "x", 1) = 1"#, r#"[two write_by_system_call] write(1, "x", 1) = 1"#]
    );
}

#[test]
fn a_trace_that_somebody_has_set_does_not_follow_a_sandbox_to_the_next_one() {
    let snapshot = calls_sandbox().snapshot().unwrap();
    let (of_pool, of_tenant) = (Lines::default(), Lines::default());
    let trace = of_pool.trace();
    let with_trace = move |spawn| calls_spawn(spawn).trace(trace.clone());
    let pool = Pool::builder(&snapshot).size(1).spawn_with(with_trace).build().unwrap();
    let call = |sandbox: &mut Sandbox| sandbox.call::<()>("write_by_system_call", ("text", 1u32)).unwrap();
    let mut tenant = pool.take().unwrap();
    tenant.set_trace(of_tenant.trace());
    call(&mut tenant);
    drop(tenant);
    call(&mut pool.take().unwrap());
    assert_eq!((of_tenant.take().len(), of_pool.take().len()), (1, 1));
}

#[test]
fn a_guest_does_not_notice_a_writer_that_fails() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sandbox = calls_builder().trace(Trace::writer(Full)).build().unwrap();
    sandbox.call::<()>("write_by_system_call", ("text", 3u32)).unwrap();
}

#[test]
fn a_trace_costs_no_exit() {
    let (mut sandbox, lines) = traced();
    let mut exits = |trace: Trace| {
        sandbox.set_trace(trace);
        let before = sandbox.stats().unwrap();
        sandbox.call::<()>("write_by_system_call", ("text", 3u32)).unwrap();
        sandbox.stats().unwrap().exits - before.exits
    };
    assert_eq!([exits(Trace::off()), exits(lines.trace())], [4, 4]);
}

/// A sandbox of the well-behaved guest that is traced from its first call on.
fn traced() -> (Sandbox, Lines) {
    let (mut sandbox, lines) = (calls_sandbox(), Lines::default());
    sandbox.set_trace(lines.trace());
    (sandbox, lines)
}

/// A trace in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn trace(&self) -> Trace {
        Trace::writer(self.clone())
    }

    /// Takes the lines, without the times, of which each line of a request has one.
    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(without_time).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn without_time(line: &str) -> String {
    if line.starts_with("--- ") && line.ends_with(" ---") {
        return line.to_owned();
    }
    let (request, time) = line.rsplit_once(" <").unwrap_or_else(|| panic!("{line}"));
    let seconds = time.strip_suffix('>').and_then(|time| time.split_once('.')).unwrap_or_else(|| panic!("{line}"));
    assert!(seconds.0.parse::<u64>().is_ok() && seconds.1.len() == 6, "{line}");
    request.to_owned()
}
