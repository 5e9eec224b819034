//! What a fault reports.

use ampoule::{Blame, CallError, Fault, FaultAccess, FaultKind, FaultTarget, Sandbox, Termination};
use ampoule_tests::{calls_sandbox, hostile_sandbox};

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
fn a_fault_reads_like_a_panic() {
    let (fault, text) = fault(calls_sandbox().call::<()>("fault", ()));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "guest fault in `fault`: read of null pointer 0x0");
    let line = lines.iter().find(|line| line.contains("tests/guests/calls/src/main.rs")).expect("the source line");
    assert!(line.contains("fault  "), "{text}");
    assert_eq!(lines.last(), Some(&"  the sandbox is poisoned: restore a snapshot or reset it"));
    assert!(!text.contains("lang_start") && !text.contains("shim"), "the runtime is left out: {text}");
    assert!(format!("{fault:#}").contains("lang_start"), "and shown where everything is asked for");
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
            "guest fault in `write`: write to read-only page at {address:#x} (.rodata of guest+0x"
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
    assert!(text.contains("more like this") && text.lines().count() < 10, "{text}");
    assert!(fault.backtrace().is_truncated() && fault.backtrace().frames().len() >= 32);
}

#[test]
fn a_guest_that_ends_itself_is_shown_with_what_it_last_said() {
    let mut sandbox = calls_sandbox();
    let mut ended = |text: &str, end: &str| {
        let ended = fault(sandbox.call::<()>("print_error_and_end", (text, end)));
        sandbox.reset().unwrap();
        ended
    };
    for end in ["exit", "abort"] {
        let (fault, text) = ended("loading\nno such \u{1b}[2Jtable", end);
        assert_eq!(fault.stderr(), "loading\nno such \u{1b}[2Jtable");
        let lines: Vec<&str> = text.lines().collect();
        let [said @ .., _] = &lines[lines.len() - 4..] else { panic!("{text}") };
        assert_eq!(said, ["  it last printed to standard error:", "    | loading", "    | no such \\u{1b}[2Jtable"]);
    }
    let (fault, text) = ended("loading\n", "fault");
    assert_eq!(fault.stderr(), "loading\n");
    assert!(!text.contains("loading"), "{text}");

    let long = "é line of some length\n".repeat(1000);
    let (fault, text) = ended(&long, "exit");
    assert!((4000..=4096).contains(&fault.stderr().len()) && long.ends_with(fault.stderr()));
    assert_eq!(text.matches("    | ").count(), 10, "{text}");
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
