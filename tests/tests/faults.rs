//! What a fault reports.

use std::thread;
use std::time::Duration;

use ampoule::{
    Blame, Call, CallError, Fault, FaultAccess, FaultKind, FaultTarget, KillOutcome, Limits, Sandbox, Termination,
};
use ampoule_tests::{calls_builder, calls_sandbox, hostile_sandbox};

/// The fault that ended a call, and the whole message.
fn fault<R>(result: Result<R, CallError>) -> (Fault, String) {
    let error = result.err().expect("the guest faults");
    assert_eq!(error.blame(), Blame::Guest);
    match &error {
        CallError::Terminated { cause: Termination::Fault(fault), .. } => (fault.clone(), error.to_string()),
        error => panic!("not reported as a fault: {error}"),
    }
}

fn privileged(sandbox: &mut Sandbox, instruction: &str) -> (Fault, String) {
    let result = sandbox.call::<bool>("privileged", (instruction,));
    assert!(result.is_err(), "{instruction} does not fault");
    fault(result)
}

/// An instruction raises this exception, and the sandbox can be used again.
fn assert_exception(sandbox: &mut Sandbox, instruction: &str, vector: u8, name: &str) {
    let (fault, text) = privileged(sandbox, instruction);
    assert_eq!(fault.kind().vector(), Some(vector), "{instruction}: {text}");
    assert!(text.contains(name), "{instruction}: {text}");
    assert!(functions(&fault).iter().any(|name| name.contains("privileged")), "{text}");
    sandbox.reset().unwrap();
}

/// The names of the functions of a backtrace.
fn functions(fault: &Fault) -> Vec<&str> {
    fault.backtrace().frames().iter().filter_map(|frame| frame.function.as_deref()).collect()
}

#[test]
fn a_fault_is_one_line_with_what_where_and_in_which_sandbox() {
    let mut sandbox = calls_builder().name("tenant-7").build().unwrap();
    let (_, text) = fault(sandbox.call::<()>("fault", ()));
    assert_eq!(text.lines().count(), 1, "{text}");
    let start = "guest fault in `fault` of sandbox `tenant-7`: read of null pointer 0x0 in `fault` at ";
    assert!(text.starts_with(start) && text.contains("tests/guests/calls/src/main.rs:"), "{text}");
    assert!(text.ends_with("; the sandbox is poisoned: restore a snapshot or reset it"), "{text}");
}

#[test]
fn the_long_form_of_a_fault_adds_the_guests_own_calls_and_registers_in_hexadecimal() {
    let error = calls_sandbox().call::<()>("fault", ()).unwrap_err();
    let (short, long) = (error.to_string(), format!("{error:#}"));
    assert!(long.starts_with(&format!("{short}\n    0: ")), "{long}");
    for ours in ["ampoule_guest::", "std::rt", "lang_start", "__rust_begin_short_backtrace", "shim", "_start"] {
        assert!(!long.contains(ours), "{ours}: {long}");
    }
    let (fault, _) = fault::<()>(Err(error));
    assert!(long.contains(&format!("rip {:016x}", fault.registers().instruction_pointer())), "{long}");
    assert!(format!("{:#}", fault.backtrace()).contains("lang_start"), "the backtrace itself has all of them");
}

#[test]
fn debug_of_an_error_is_short_and_has_addresses_in_hexadecimal() {
    let error = calls_sandbox().call::<()>("fault", ()).unwrap_err();
    let text = format!("{error:?}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.len() < 2000 && text.contains("rip: 0x") && text.contains("read of null pointer 0x0"), "{text}");
}

#[test]
fn an_error_around_a_fault_says_nothing_twice() {
    use anyhow::Context;

    let failed = || calls_sandbox().call::<()>("fault", ()).context("cannot make the thumbnail").unwrap_err();
    for text in [format!("{:#}", failed()), format!("{:?}", failed())] {
        assert!(text.starts_with("cannot make the thumbnail"), "{text}");
        for once in ["read of null pointer", "tests/guests/calls/src/main.rs", "the sandbox is poisoned"] {
            assert_eq!(text.matches(once).count(), 1, "{once}: {text}");
        }
    }
}

#[test]
fn a_kill_says_where_the_guest_was() {
    let mut sandbox = calls_sandbox();
    let mut kill_after = |pause: Duration| {
        sandbox.reset().unwrap();
        let handle = sandbox.interrupt_handle();
        let killer = thread::spawn(move || {
            while !handle.is_running() {
                thread::yield_now();
            }
            thread::sleep(pause);
            handle.kill()
        });
        let error = sandbox.call::<()>("spin", ()).unwrap_err();
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
        error
    };
    // On a busy machine a kill may come before the guest is entered.
    let mut errors = (0..16).map(|doublings| kill_after(Duration::from_millis(1 << doublings)));
    let in_spin = ": the call was killed, while the guest was in `spin` at ";
    let error = errors.find(|error| error.to_string().contains(in_spin)).expect("the position of some kill");
    let CallError::Terminated { position: Some(position), .. } = error else { panic!("{error}") };
    assert!(position.backtrace().own_frame().is_some_and(|frame| frame.line.is_some()), "{position:?}");
}

#[test]
fn a_limit_that_is_reached_in_a_host_call_says_which_function_made_it() {
    let mut sandbox = calls_sandbox();
    let call = Call::new("notify_host", (3u32,)).limits(Limits::new().host_calls(1));
    let text = sandbox.call_with::<(), _>(call).unwrap_err().to_string();
    assert!(text.contains("more than 1 host calls, while the guest was in `notify` at "), "{text}");
}

#[test]
fn a_message_of_a_megabyte_is_kept_whole_and_shown_in_part() {
    let mut sandbox = calls_builder().mailbox_size(4 << 20).build().unwrap();
    let message = "something is wrong: ".repeat(50_000);
    let error = sandbox.call::<()>("panics", (&message,)).unwrap_err();
    for shown in [error.to_string(), format!("{error:#}"), format!("{error:?}"), format!("{error:#?}")] {
        assert!(shown.len() < 10_000 && shown.contains("… (995904 more bytes)"), "{} bytes: {shown:.100}", shown.len());
    }
    let CallError::Panicked { panic, .. } = error else { panic!("{error}") };
    assert_eq!(panic.message, message);

    let error = sandbox.call::<()>("fails_with", (&message,)).unwrap_err();
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(shown.len() < 10_000 && shown.contains("… (995904 more bytes)"), "{} bytes: {shown:.100}", shown.len());
    }
    let CallError::Function { message: kept, .. } = error else { panic!("{error}") };
    assert_eq!(kept, message);
}

#[test]
fn a_fault_tells_where_in_the_image_it_touched() {
    let mut sandbox = hostile_sandbox();
    let address: u64 = sandbox.call("address_of", ("constant",)).unwrap();
    let (fault, text) = fault(sandbox.call::<()>("write", (address, 1u8)));
    let target = FaultTarget::Protected { readable: true, writable: false, executable: false };
    assert_eq!(*fault.kind(), FaultKind::PageFault { address, access: FaultAccess::Write, target });
    assert_eq!((fault.kind().vector(), fault.kind().address()), (Some(14), Some(address)));
    let place = fault.place().expect("the address lies in the image");
    assert_eq!(place.section.as_deref(), Some(".rodata"));
    assert!(
        text.starts_with(&format!(
            "guest fault in `write` of sandbox `{}`: write to read-only page at {address:#x} (.rodata of guest+0x",
            sandbox.name()
        )),
        "{text}"
    );
}

#[test]
fn the_registers_are_those_of_the_instruction() {
    let mut sandbox = hostile_sandbox();
    let (fault, _) = fault(sandbox.call::<()>("execute", (0x1234_5678_9000u64,)));
    assert_eq!(fault.registers().instruction_pointer(), 0x1234_5678_9000);
    assert!(functions(&fault).iter().any(|name| name.contains("execute")), "{:#}", fault.backtrace());
}

#[test]
fn every_exception_has_its_vector_and_name() {
    let mut sandbox = hostile_sandbox();
    for (instruction, vector, name) in [
        ("divide", 0, "divide error"),
        ("single step", 1, "debug exception"),
        ("int3", 3, "breakpoint"),
        ("ud2", 6, "invalid opcode"),
        ("hlt", 13, "general protection fault"),
        ("x87", 16, "x87 floating-point exception"),
    ] {
        assert_exception(&mut sandbox, instruction, vector, name);
    }
}

#[test]
fn alignment_and_simd_exceptions_have_theirs() {
    let mut sandbox = hostile_sandbox();
    assert_exception(&mut sandbox, "misaligned", 17, "alignment check");
    assert_exception(&mut sandbox, "simd", 19, "SIMD floating-point exception");
}

#[test]
fn recursion_shows_its_frames_up_to_a_limit() {
    let (fault, text) = fault(hostile_sandbox().call::<u64>("overflow_the_stack", (0u64,)));
    assert!(matches!(fault.kind(), FaultKind::StackOverflow { .. }));
    assert!(text.contains("stack overflow") && text.contains("Builder::stack_size"), "{text}");
    let text = format!("{fault:#}");
    assert!(text.contains("more like this") && text.lines().count() < 16, "{text}");
    assert!(fault.backtrace().is_truncated() && fault.backtrace().frames().len() >= 32);
}

#[test]
fn a_guest_that_ends_itself_is_shown_with_what_it_last_said() {
    let mut sandbox = calls_sandbox();
    let mut ended = |text: &str, end: &str| {
        let (fault, text) = fault(sandbox.call::<()>("print_error_and_end", (text, end)));
        sandbox.reset().unwrap();
        let long = format!("{fault:#}");
        (fault, text, long)
    };
    for end in ["exit", "abort"] {
        let (fault, text, long) = ended("loading\nno such \u{1b}[2Jtable", end);
        assert_eq!(fault.stderr(), "loading\nno such \u{1b}[2Jtable");
        assert!(
            text.contains("; it last printed to standard error: no such \\u{1b}[2Jtable; the sandbox is"),
            "{text}"
        );
        let said = ["\n  it last printed to standard error:", "\n    | loading", "\n    | no such \\u{1b}[2Jtable"];
        assert!(long.ends_with(&said.concat()), "{long}");
    }
    let (fault, _, long) = ended("loading\n", "fault");
    assert_eq!(fault.stderr(), "loading\n");
    assert!(!long.contains("loading"), "{long}");

    let printed = "é line of some length\n".repeat(1000);
    let (fault, _, long) = ended(&printed, "exit");
    assert!((4000..=4096).contains(&fault.stderr().len()) && printed.ends_with(fault.stderr()));
    assert_eq!(long.matches("    | ").count(), 10, "{long}");
}

#[test]
fn what_an_earlier_call_said_is_not_shown() {
    let mut sandbox = calls_sandbox();
    sandbox.call::<()>("print_error", ("said before",)).unwrap();
    let (fault, _) = fault(sandbox.call::<()>("exit", (3,)));
    assert_eq!(fault.stderr(), "");
    sandbox.reset().unwrap();
    sandbox.call::<()>("print_error_and_end", ("said before the reset", "exit")).unwrap_err();
    sandbox.reset().unwrap();
    let (fault, _) = self::fault(sandbox.call::<()>("exit", (3,)));
    assert_eq!(fault.stderr(), "");
}

#[test]
fn aborts_and_exits_show_where_they_came_from() {
    let (fault, text) = fault(calls_sandbox().call::<()>("abort", ()));
    assert!(functions(&fault).iter().any(|name| name.contains("process::abort")), "{text}");
    let (exit, text) = self::fault(calls_sandbox().call::<()>("exit", (7i32,)));
    assert_eq!(*exit.kind(), FaultKind::Exited { code: 7 });
    assert!(text.contains("environment.rs"), "{text}");
}

#[test]
fn a_protection_fault_and_the_end_of_memory_say_what_they_usually_are() {
    let (_, text) = privileged(&mut hostile_sandbox(), "hlt");
    assert!(text.contains("usually a privileged instruction, a stray pointer"), "{text}");
    let (fault, text) = fault(calls_sandbox().call::<()>("catches_a_panic_and_ends", ("memory",)));
    assert!(matches!(fault.kind(), FaultKind::OutOfMemory { .. }), "{text}");
    assert!(text.contains("look for what it keeps without need") && text.contains("Builder::memory_limit"), "{text}");
}
