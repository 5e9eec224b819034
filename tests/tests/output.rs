//! What a guest prints arrives complete, once, and in the order in which it was printed, however the call ends.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ampoule::{Builder, Call, CallError, ExceededLimit, FaultKind, Limits, Output, Sandbox, Termination};
use ampoule_tests::{calls_builder, calls_spawn};

/// Both streams in one text.
#[derive(Clone, Default)]
struct Both(Arc<Mutex<Vec<u8>>>);

impl Both {
    fn text(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }

    fn of(&self, builder: Builder) -> Sandbox {
        builder.stdout(Output::writer(self.clone())).stderr(Output::writer(self.clone())).build().unwrap()
    }
}

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn sandbox() -> (Sandbox, Both) {
    let both = Both::default();
    (both.of(calls_builder()), both)
}

fn termination(error: CallError) -> Termination {
    match error {
        CallError::Terminated { cause, .. } => cause,
        error => panic!("not reported as the guest's end: {error}"),
    }
}

fn fault(error: CallError) -> FaultKind {
    match termination(error) {
        Termination::Fault(fault) => fault.kind().clone(),
        cause => panic!("not reported as a fault: {cause}"),
    }
}

#[test]
fn text_of_both_streams_keeps_its_order() {
    let (mut sandbox, both) = sandbox();
    sandbox.call::<()>("print_lines", (3u32,)).unwrap();
    let line = |number| format!("line {number} of standard output\nline {number} of standard error\n");
    assert_eq!(both.text(), [line(0), line(1), line(2)].concat());
}

#[test]
fn text_that_waits_comes_before_text_that_is_too_long_to_wait_and_before_a_system_calls() {
    let (mut sandbox, both) = sandbox();
    let long = "long ".repeat(10_000) + "\n";
    for part in ["short\n", &long, "short again\n"] {
        sandbox.call::<()>("print", (part,)).unwrap();
    }
    assert_eq!(both.text(), format!("short\n{long}short again\n"));

    sandbox.call::<()>("print_lines", (1000u32,)).unwrap();
    let lines = both.text();
    let numbers: Vec<u32> = lines.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..1000).flat_map(|number| [number, number]).collect::<Vec<u32>>());

    for part in ["short\n", &long, "short again\n"] {
        sandbox.call::<()>("print_by_printf", (part,)).unwrap();
    }
    assert_eq!(both.text(), format!("short\n{long}short again\n"));

    sandbox.call::<()>("print_between_system_calls", ()).unwrap();
    assert_eq!(both.text(), "staged 1\nsystem call 1\nstaged 2\nsystem call 2\nstaged 3\n");
}

#[test]
fn text_arrives_before_a_host_function_runs() {
    let both = Both::default();
    let seen = both.clone();
    let order = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&order);
    let builder = Sandbox::builder(&ampoule_tests::calls_image())
        .host_fn("add", |a: u32, b: u32| a + b)
        .host_fn("notify", move || noted.lock().unwrap().push(seen.text()))
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>);
    let mut sandbox = both.of(builder);
    sandbox.call::<()>("print_and_notify", (2u32,)).unwrap();
    assert_eq!(*order.lock().unwrap(), ["notification 0\n", "notification 1\n"]);
}

const TEXT: &str = "first\nsecond\nthird\n";

#[test]
fn text_before_the_guests_end_arrives_and_the_end_is_told_for_what_it_is() {
    let (mut sandbox, both) = sandbox();
    let mut ends_in = |end: &str| {
        let error = sandbox.call::<()>("print_and_end", (end,)).unwrap_err();
        // Where the standard library aborts, it prints a line of its own.
        let said = if end == "second panic" { "thread caused non-unwinding panic. aborting.\n" } else { "" };
        assert_eq!(both.text(), format!("{TEXT}{said}"), "{end}: {error}");
        sandbox.reset().unwrap();
        assert_eq!(both.text(), "", "{end}");
        error
    };
    assert!(matches!(fault(ends_in("fault")), FaultKind::PageFault { address: 0, .. }));
    assert!(matches!(fault(ends_in("abort")), FaultKind::Aborted { .. }));
    assert!(matches!(fault(ends_in("exit")), FaultKind::Exited { code: 3 }));
    assert!(matches!(fault(ends_in("second panic")), FaultKind::Panicked(panic) if panic.message == "while unwinding"));
    let CallError::Panicked { panic, .. } = ends_in("panic") else { panic!("not reported as a panic") };
    assert_eq!(panic.message, "after the text");
}

#[test]
fn text_before_a_kill_or_a_deadline_arrives() {
    let (mut sandbox, both) = sandbox();
    for end in ["spin", "sleep"] {
        let call = Call::new("print_and_end", (end,)).deadline(Duration::from_millis(30));
        let cause = termination(sandbox.call_with::<(), _>(call).unwrap_err());
        assert!(matches!(cause, Termination::LimitExceeded(ExceededLimit::Deadline(_))), "{end}: {cause}");
        assert_eq!(both.text(), TEXT, "{end}");
        sandbox.reset().unwrap();
    }
    for end in ["spin", "sleep"] {
        let handle = sandbox.interrupt_handle();
        let killer = thread::spawn(move || {
            while !handle.is_running() {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(30));
            handle.kill()
        });
        let cause = termination(sandbox.call::<()>("print_and_end", (end,)).unwrap_err());
        assert!(matches!(cause, Termination::Killed), "{end}: {cause}");
        killer.join().unwrap();
        assert_eq!(both.text(), TEXT, "{end}");
        sandbox.reset().unwrap();
    }
}

#[test]
fn the_output_limit_counts_text_that_waits() {
    let (mut sandbox, both) = sandbox();
    let print = |bytes| Call::new("print_and_end", ("exit",)).limits(Limits::new().output(bytes));
    for (limit, printed) in [(5, ""), (6, "first\n"), (12, "first\n"), (13, "first\nsecond\n"), (18, "first\nsecond\n")]
    {
        let cause = termination(sandbox.call_with::<(), _>(print(limit)).unwrap_err());
        assert!(
            matches!(cause, Termination::LimitExceeded(ExceededLimit::Output(reached)) if reached == limit),
            "{cause}"
        );
        assert_eq!(both.text(), printed, "{limit}");
        sandbox.reset().unwrap();
    }
    let error = sandbox.call_with::<(), _>(print(19)).unwrap_err();
    assert!(matches!(fault(error), FaultKind::Exited { code: 3 }));
    assert_eq!(both.text(), TEXT);
}

#[test]
fn a_fault_is_told_as_such_where_its_text_is_beyond_the_limit() {
    let (mut sandbox, both) = sandbox();
    let call = Call::new("print_and_end", ("fault",)).limits(Limits::new().output(13));
    let error = sandbox.call_with::<(), _>(call).unwrap_err();
    assert!(matches!(fault(error), FaultKind::PageFault { address: 0, .. }));
    assert_eq!(both.text(), "first\nsecond\n");
}

#[test]
fn text_that_a_fault_cuts_off_does_not_arrive_and_nothing_old_does_in_its_place() {
    let (mut sandbox, both) = sandbox();
    sandbox.call::<()>("write_by_the_c_library", ("old text", 2u32)).unwrap();
    assert_eq!(both.text(), "old textold text");
    let error = sandbox.call::<()>("write_and_write_from_nowhere", ("new text",)).unwrap_err();
    assert!(matches!(fault(error), FaultKind::PageFault { address: 8, .. }));
    assert_eq!(both.text(), "new text");
}

#[test]
fn text_of_a_guests_preparation_arrives() {
    let both = Both::default();
    let sandbox = both.of(calls_builder().env("PRINT_AT_START", "prepared\n"));
    assert_eq!(both.text(), "prepared\n");
    drop(sandbox);
    let sandbox = calls_builder()
        .env("PRINT_AT_START", "prepared\n")
        .env("SPIN_AT_START", "1")
        .limits(Limits::new().deadline(Duration::from_millis(100)))
        .stdout(Output::writer(both.clone()));
    sandbox.build().unwrap_err();
    assert_eq!(both.text(), "prepared\n");
}

#[test]
fn text_goes_where_the_descriptor_goes_at_that_moment() {
    let (stdout, out) = Output::capture(1 << 20);
    let (stderr, err) = Output::capture(1 << 20);
    let mut sandbox = calls_builder().stdout(stdout).stderr(stderr).build().unwrap();
    sandbox.call::<()>("redirect_and_close", ()).unwrap();
    assert_eq!((out.take_string(), err.take_string()), ("to standard output\n".into(), "redirected\n".into()));
    sandbox.reset().unwrap();
    sandbox.call::<()>("print", ("again\n",)).unwrap();
    assert_eq!((out.take_string(), err.take_string()), ("again\n".into(), String::new()));
}

#[test]
fn a_write_returns_what_it_wrote_and_leaves_errno_alone() {
    let (mut sandbox, both) = sandbox();
    for len in [0, 1, 5000, 16_380, 16_381, 65_535, 65_536] {
        let text = vec![b'x'; len];
        assert_eq!(sandbox.call::<(i64, i32)>("write_and_errno", (&text[..],)).unwrap(), (len as i64, -1), "{len}");
        assert_eq!(both.text().len(), len);
    }
    sandbox.call::<()>("close_stdout", ()).unwrap();
    let text = vec![b'x'; 65_536];
    assert_eq!(sandbox.call::<(i64, i32)>("write_and_errno", (&text[..],)).unwrap(), (-1, libc::EBADF));
}

#[test]
fn a_short_text_writes_one_page_more_than_a_silent_call() {
    let pages = |texts: u32| {
        let (mut sandbox, both) = sandbox();
        sandbox.call::<()>("write_by_the_c_library", ("x".repeat(1000), texts)).unwrap();
        sandbox.reset().unwrap();
        assert_eq!(both.text().len(), 1000 * texts as usize);
        sandbox.stats().unwrap().pages_restored
    };
    let silent = pages(0);
    for (texts, more) in [(1, 1), (4, 1), (5, 2)] {
        assert_eq!(pages(texts), silent + more, "{texts} texts of 1,000 bytes");
    }
}

#[test]
fn spawned_sandboxes_print_their_own_text_only() {
    let (mut original, both) = sandbox();
    original.call::<()>("print", ("before the snapshot\nand no end",)).unwrap();
    let snapshot = original.snapshot().unwrap();
    assert_eq!(both.text(), "before the snapshot\nand no end");
    original.call::<()>("print_and_end", ("fault",)).unwrap_err();
    assert_eq!(both.text(), TEXT);
    for _ in 0..2 {
        let (stdout, out) = Output::capture(1 << 20);
        let mut sibling = calls_spawn(snapshot.builder()).stdout(stdout).build().unwrap();
        sibling.call::<()>("print_lines", (1u32,)).unwrap();
        assert_eq!(out.take_string(), "line 0 of standard output\n");
    }
    original.restore(&snapshot).unwrap();
    assert_eq!(both.text(), "");
}

#[test]
fn a_line_without_its_end_arrives_when_its_call_returns_and_stands_before_no_other_calls_text() {
    let (mut sandbox, both) = sandbox();
    for function in ["print", "print_and_flush", "print_by_printf_only"] {
        sandbox.call::<()>(function, ("begun",)).unwrap();
        assert_eq!(both.text(), "begun", "{function}");
        sandbox.call::<()>("print", ("whole\n",)).unwrap();
        assert_eq!(both.text(), "whole\n", "{function}");
        sandbox.call::<()>(function, ("begun",)).unwrap();
        sandbox.reset().unwrap();
        sandbox.call::<()>(function, ("begun again",)).unwrap();
        assert_eq!(both.text(), "begunbegun again", "{function}");
    }
    let error = sandbox.call::<()>("print_and_panic", ("begun",)).unwrap_err();
    assert!(matches!(error, CallError::Panicked { .. }), "{error}");
    assert_eq!(both.text(), "begun");
}
