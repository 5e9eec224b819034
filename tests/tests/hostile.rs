//! A guest that does its worst ends, with an error that says what it did; the host continues.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use ampoule::{
    Call, CallError, ExceededLimit, ExecutableMemory, Fault, FaultAccess, FaultKind, FaultTarget, Limits, Output,
    ProtocolViolation, Reader, Sandbox, Termination, Writer,
};
use ampoule_tests::{hostile_image, hostile_sandbox};

/// How the guest ended in a call that it cannot have survived. After that the sandbox refuses calls.
fn end<R>(sandbox: &mut Sandbox, result: Result<R, CallError>) -> Termination {
    let error = result.err().expect("the guest does not survive this");
    assert!(error.poisons(), "{error}");
    assert!(matches!(sandbox.call::<bool>("alive", ()), Err(CallError::Poisoned { .. })));
    match error {
        CallError::Terminated { cause, .. } => cause,
        error => panic!("not reported as the guest's end: {error}"),
    }
}

fn fault(termination: Termination) -> Fault {
    match termination {
        Termination::Fault(fault) => fault,
        other => panic!("not reported as a fault: {other}"),
    }
}

fn address_of(sandbox: &mut Sandbox, what: &str) -> u64 {
    sandbox.call("address_of", (what,)).unwrap()
}

#[test]
fn forged_messages_are_protocol_violations() {
    let forge = |sequence: u64, kind: u32, function: u32, length: u32, status: u32| {
        let mut sandbox = hostile_sandbox();
        let result = sandbox.call::<bool>("forge", (sequence, kind, function, length, status));
        match end(&mut sandbox, result) {
            Termination::Protocol(violation) => violation,
            other => panic!("not reported as a violation: {other}"),
        }
    };
    assert_eq!(forge(0, 1, 0, 0, 0), ProtocolViolation::ReadyTwice);
    assert_eq!(forge(9, 2, 0, 0, 0), ProtocolViolation::WrongReturn { sequence: 9, expected: 1 });
    assert_eq!(forge(1, 2, 0, 0, 77), ProtocolViolation::UnknownStatus { status: 77 });
    assert_eq!(forge(1, 3, 12345, 0, 0), ProtocolViolation::UnknownImport { function: 12345 });
    assert_eq!(forge(5, 3, 0, 0, 0), ProtocolViolation::WrongHostCall { sequence: 5, expected: 1 });
    assert_eq!(forge(1, 99, 0, 0, 0), ProtocolViolation::UnknownKind { kind: 99 });
    assert_eq!(forge(1, 2, 0, u32::MAX, 0), ProtocolViolation::Length { length: u32::MAX, capacity: 1 << 20 });
    assert_eq!(forge(1, 6, 0, u32::MAX, 0), ProtocolViolation::Length { length: u32::MAX, capacity: 1 << 20 });
    for kind in [5, 6] {
        assert_eq!(forge(2, kind, 0, 0, 0), ProtocolViolation::WrongHostCall { sequence: 2, expected: 1 });
    }
}

#[test]
fn wild_numbers_of_streams_find_nothing() {
    let mut sandbox = hostile_sandbox();
    let mut numbers: Vec<u64> = (0..2000).collect();
    numbers.extend((0..64).flat_map(|bit| [1 << bit, u64::MAX << bit, u64::MAX >> bit]));
    for call in 1..=3 {
        let mut written = 0;
        let counting = Counting(&mut written);
        let streams = (Reader::new(std::io::repeat(1)), Writer::new(counting), &numbers);
        let found: Vec<(u32, u64)> = sandbox.call("forge_streams", streams).unwrap();
        let numbers: BTreeSet<u64> = found.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers.len(), 2, "in call {call}: {found:?}");
        assert!(numbers.iter().all(|number| number >> 8 == call), "{found:?}");
        assert_eq!(written, 0, "what was written had no bytes");
    }
    assert!(sandbox.call::<bool>("alive", ()).unwrap());
}

/// Counts what is written.
struct Counting<'a>(&'a mut usize);

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        *self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn forged_output_is_a_protocol_violation_that_names_it() {
    let capacity = 16_384;
    let cut = |offset, needed, left| ProtocolViolation::OutputRecord { offset, needed, left };
    let cases: [(&[u8], u32, ProtocolViolation); 8] = [
        (&[], capacity + 1, ProtocolViolation::OutputLength { length: capacity + 1, capacity: capacity as usize }),
        (&[], u32::MAX, ProtocolViolation::OutputLength { length: u32::MAX, capacity: capacity as usize }),
        (&[1, 0, 2, 0, b'x'], 5, cut(0, 6, 5)),
        (&[1, 0, 0xff, 0xff], capacity, cut(0, 4 + 65_535, capacity as usize)),
        (&[2, 0, 1, 0, b'x', 1, 0], 7, cut(5, 4, 2)),
        (&[0, 0, 0, 0], 4, ProtocolViolation::UnknownStream { stream: 0 }),
        (&[1, 0, 1, 0, b'x', 9, 0, 1, 0, b'y'], 10, ProtocolViolation::UnknownStream { stream: 9 }),
        (&[1, 0, 1, 0, b'x', 3, 0, 1, 0, b'y'], 10, ProtocolViolation::LogRecord { offset: 5 }),
    ];
    for (records, claimed, expected) in cases {
        for then in ["return", "system call"] {
            let mut sandbox = hostile_sandbox();
            let result = sandbox.call::<()>("forge_output", (records, claimed, then));
            let Termination::Protocol(violation) = end(&mut sandbox, result) else {
                panic!("not reported: {expected}")
            };
            assert_eq!(violation, expected, "{then}");
            sandbox.reset().unwrap();
            assert!(sandbox.call::<bool>("alive", ()).unwrap());
        }
        let mut sandbox = hostile_sandbox();
        let result = sandbox.call::<()>("forge_output", (records, claimed, "fault"));
        let kind = fault(end(&mut sandbox, result)).kind().clone();
        assert!(matches!(kind, FaultKind::PageFault { address: 0, .. }), "{kind}");
    }
}

#[test]
fn output_that_is_forged_for_ever_ends_at_the_limit() {
    let (stdout, out) = Output::capture(usize::MAX);
    let mut sandbox = Sandbox::builder(&hostile_image()).stdout(stdout).stderr(Output::discard()).build().unwrap();
    let text = [&[1, 0, 0xe8, 3][..], &[b'x'; 1000]].concat();
    let limits = Limits::new().output(100_500).deadline(Duration::from_secs(60));
    let call = Call::new("forge_output_for_ever", (&text[..],)).limits(limits);
    let result = sandbox.call_with::<(), _>(call);
    let cause = end(&mut sandbox, result);
    assert!(matches!(cause, Termination::LimitExceeded(ExceededLimit::Output(100_500))), "{cause}");
    assert_eq!(out.take().len(), 100_000);
}

#[test]
fn a_result_that_cannot_be_decoded_is_an_error() {
    let huge_count = [0xff, 0xff, 0xff, 0xff];
    for payload in [&huge_count[..], &[], &[1, 0, 0, 0, 9, 0, 0, 0, b'x'], &[1, 0, 0, 0, 1, 0, 0, 0, 0xff]] {
        let mut sandbox = hostile_sandbox();
        let arguments = (1u64, 0u32, payload, payload.len() as u32);
        let error = sandbox.call::<Vec<String>>("answer_with", arguments).unwrap_err();
        assert!(matches!(error, CallError::Decode { .. }), "{error}");
    }
}

#[test]
fn answering_twice_is_found_out_at_the_next_call() {
    let mut sandbox = hostile_sandbox();
    let empty: &[u8] = &[0, 0, 0, 0];
    assert_eq!(sandbox.call::<Vec<String>>("answer_with", (1u64, 0u32, empty, 4u32)).unwrap(), Vec::<String>::new());
    let result = sandbox.call::<bool>("alive", ());
    let cause = end(&mut sandbox, result);
    assert!(matches!(cause, Termination::Protocol(ProtocolViolation::WrongReturn { .. })), "{cause}");
}

#[test]
fn a_panic_record_that_is_none_is_a_violation() {
    for length in [0u32, 5, 1 << 20] {
        let mut sandbox = hostile_sandbox();
        let result = sandbox.call::<()>("stage_garbage_panic", (length,));
        let cause = end(&mut sandbox, result);
        assert!(matches!(cause, Termination::Protocol(ProtocolViolation::Text)), "{cause}");
    }
}

#[test]
fn memory_that_is_not_the_guests_faults() {
    let cases: [(&str, u64, FaultAccess, FaultTarget); 7] = [
        ("read", 0, FaultAccess::Read, FaultTarget::Null),
        ("write", 8, FaultAccess::Write, FaultTarget::Null),
        ("execute", 0, FaultAccess::Execute, FaultTarget::Null),
        ("read", 0x1234_5678_9000, FaultAccess::Read, FaultTarget::Unmapped),
        ("read", 0x7f80_0000_0000, FaultAccess::Read, FaultTarget::Host),
        ("write", 0x7f80_0000_3000, FaultAccess::Write, FaultTarget::Host),
        ("execute", 0x7f80_0000_3000, FaultAccess::Execute, FaultTarget::Host),
    ];
    for (function, address, access, target) in cases {
        let mut sandbox = hostile_sandbox();
        let result = match function {
            "read" => sandbox.call::<u8>("read", (address,)).map(drop),
            "write" => sandbox.call::<()>("write", (address, 1u8)),
            _ => sandbox.call::<()>("execute", (address,)),
        };
        let fault = fault(end(&mut sandbox, result));
        assert_eq!(*fault.kind(), FaultKind::PageFault { address, access, target }, "{function} {address:#x}");
    }
}

#[test]
fn code_cannot_be_written_and_data_cannot_be_executed() {
    for what in ["code", "constant", "info page"] {
        let mut sandbox = hostile_sandbox();
        let address = address_of(&mut sandbox, what);
        let result = sandbox.call::<()>("write", (address, 0xccu8));
        let FaultKind::PageFault { access: FaultAccess::Write, .. } = fault(end(&mut sandbox, result)).kind().clone()
        else {
            panic!("{what} was written");
        };
    }
    for what in ["constant", "variable", "stack", "heap", "info page"] {
        let mut sandbox = hostile_sandbox();
        let address = address_of(&mut sandbox, what);
        let result = sandbox.call::<()>("execute", (address,));
        let FaultKind::PageFault { access: FaultAccess::Execute, .. } = fault(end(&mut sandbox, result)).kind().clone()
        else {
            panic!("{what} was executed");
        };
    }
}

#[test]
fn run_time_code_needs_the_builders_leave() {
    let mut sandbox = hostile_sandbox();
    assert_eq!(sandbox.call::<i32>("generate_code", ()).unwrap(), 13, "EACCES");
    let mut sandbox =
        Sandbox::builder(&hostile_image()).executable_memory(ExecutableMemory::WriteXorExecute).build().unwrap();
    assert_eq!(sandbox.call::<i32>("generate_code", ()).unwrap(), 0);
}

#[test]
fn a_stack_overflow_is_told_apart() {
    let mut sandbox = hostile_sandbox();
    let result = sandbox.call::<u64>("overflow_the_stack", (0u64,));
    let termination = end(&mut sandbox, result);
    assert!(termination.to_string().contains("stack overflow"), "{termination}");
    let kind = fault(termination).kind().clone();
    assert!(matches!(kind, FaultKind::StackOverflow { .. }), "{kind}");
}

#[test]
fn a_frame_that_is_larger_than_the_stack_is_an_overflow_however_large_it_is() {
    let mut sandbox = hostile_sandbox();
    sandbox.call::<()>("use_a_frame", (7u64 << 20,)).unwrap();
    for bytes in [8u64 << 20, 9 << 20, 16 << 20, 1 << 30, 1 << 40, 1 << 45] {
        let result = sandbox.call::<()>("use_a_frame", (bytes,));
        let kind = fault(end(&mut sandbox, result)).kind().clone();
        assert!(matches!(kind, FaultKind::StackOverflow { .. }), "{bytes:#x}: {kind}");
        sandbox.reset().unwrap();
    }
    let stack = sandbox.call::<u64>("address_of", ("stack",)).unwrap();
    let result = sandbox.call::<()>("write", (stack - (16 << 20), 1u8));
    let kind = fault(end(&mut sandbox, result)).kind().clone();
    assert!(matches!(kind, FaultKind::PageFault { target: FaultTarget::Unmapped, .. }), "a stray pointer: {kind}");
}

#[test]
fn nothing_of_the_hosts_pages_can_be_read_but_stubs_and_the_state_to_resume_with() {
    const HOST: u64 = 0x7f80_0000_0000;
    const READABLE: [u64; 5] = [HOST + 0x5000, HOST + 0x6000, HOST + 0x7000, HOST + 0x8000, HOST + 0x9000];
    let mut sandbox = hostile_sandbox();
    for page in (0..64).map(|index| HOST + index * 4096) {
        match sandbox.call::<u8>("read", (page,)) {
            Ok(_) => assert!(READABLE.contains(&page), "{page:#x} was read"),
            Err(error) => {
                assert!(error.poisons() && !READABLE.contains(&page), "{page:#x}: {error}");
                sandbox.reset().unwrap();
            }
        }
        let result = sandbox.call::<()>("write", (page, 0u8));
        assert!(result.unwrap_err().poisons(), "{page:#x} was written");
        sandbox.reset().unwrap();
    }
}

#[test]
fn a_call_of_a_vsyscall_returns_to_the_guest_or_not_at_all() {
    const TIME: u64 = 0xffff_ffff_ff60_0400;
    let mut sandbox = hostile_sandbox();
    sandbox.call::<()>("execute", (TIME,)).unwrap();
    for address in [0x7f80_0000_0000, 0x7f80_0000_4000, 1 << 47, TIME, u64::MAX] {
        let result = sandbox.call::<()>("jump", (TIME, Some(address)));
        let kind = fault(end(&mut sandbox, result)).kind().clone();
        assert_eq!(kind, FaultKind::SystemCallReturn { address });
        sandbox.reset().unwrap();
    }
    let refused = |sandbox: &mut Sandbox, result: Result<(), CallError>, accessed: FaultAccess| {
        let kind = fault(end(sandbox, result)).kind().clone();
        let FaultKind::PageFault { access, target: FaultTarget::Host, .. } = kind else { panic!("{kind}") };
        assert_eq!(access, accessed);
        sandbox.reset().unwrap();
    };
    let result = sandbox.call::<()>("jump", (TIME, None::<u64>));
    refused(&mut sandbox, result, FaultAccess::Execute);
    for address in [TIME - 1, TIME + 1, TIME + 0x800, 0xffff_ffff_ff60_0000 - 0x1000] {
        let result = sandbox.call::<()>("execute", (address,));
        refused(&mut sandbox, result, FaultAccess::Execute);
    }
    let result = sandbox.call::<u8>("read", (TIME,)).map(drop);
    refused(&mut sandbox, result, FaultAccess::Read);
}

#[test]
fn a_vsyscall_is_counted_as_a_system_call() {
    let mut sandbox = hostile_sandbox();
    let call = Call::new("execute", (0xffff_ffff_ff60_0400_u64,)).limits(Limits::new().system_calls(0));
    let result = sandbox.call_with::<(), _>(call);
    let termination = end(&mut sandbox, result);
    assert!(matches!(termination, Termination::LimitExceeded(ExceededLimit::SystemCalls(0))), "{termination}");
}

#[test]
fn a_smashed_stack_ends_the_guest() {
    for value in [0u8, 0x41, 0xff] {
        let mut sandbox = hostile_sandbox();
        let result = sandbox.call::<()>("smash_the_stack", (value,));
        end(&mut sandbox, result);
        sandbox.reset().unwrap();
        assert!(sandbox.call::<bool>("alive", ()).unwrap());
    }
}

#[test]
fn privileged_instructions_fault() {
    for instruction in [
        "hlt",
        "cli",
        "sti",
        "in",
        "mov from cr0",
        "mov to cr3",
        "mov to dr7",
        "rdmsr",
        "wrmsr",
        "lgdt",
        "lidt",
        "ltr",
        "invlpg",
        "invd",
        "wbinvd",
        "clts",
        "swapgs",
        "sysretq",
        "iretq to ring 0",
        "xsetbv",
        "int 0x20",
        "non-canonical",
    ] {
        let mut sandbox = hostile_sandbox();
        let result = sandbox.call::<bool>("privileged", (instruction,));
        assert!(result.is_err(), "the guest survives `{instruction}`");
        let fault = fault(end(&mut sandbox, result));
        let refused = matches!(fault.kind(), FaultKind::Exception { vector: 6 | 13, .. });
        let forged = *fault.kind() == FaultKind::ForgedExit { port: 0x10 };
        assert!(refused || (instruction == "in" && forged), "{instruction}: {fault}");
    }
}

#[test]
fn exceptions_are_told_by_their_vectors() {
    for (instruction, vector) in [("divide", 0), ("int3", 3), ("ud2", 6)] {
        let mut sandbox = hostile_sandbox();
        let result = sandbox.call::<bool>("privileged", (instruction,));
        let fault = fault(end(&mut sandbox, result));
        assert!(matches!(fault.kind(), FaultKind::Exception { vector: found, .. } if *found == vector), "{fault}");
    }
}

#[test]
fn ports_are_closed_except_to_the_hosts_own_code() {
    for port in [0x10u16, 0x11, 0x20, 0x2e, 0x3f, 0x60, 0x80, 0x3f8, 0xcf8, 0xffff] {
        let mut sandbox = hostile_sandbox();
        let result = sandbox.call::<bool>("output_to_port", (port,));
        let fault = fault(end(&mut sandbox, result));
        let refused = matches!(fault.kind(), FaultKind::Exception { vector: 13, .. });
        let forged = *fault.kind() == FaultKind::ForgedExit { port };
        assert!(refused || forged, "port {port:#x}: {fault}");
    }
}

#[test]
fn io_privilege_cannot_be_had_by_a_system_call() {
    let mut sandbox = hostile_sandbox();
    let flags: u64 = sandbox.call("raise_io_privilege", ()).unwrap();
    assert_eq!(flags & 0x3000, 0, "{flags:#x}");
}

#[test]
fn every_system_call_with_wild_arguments_leaves_the_host_well() {
    let mut sandbox = hostile_sandbox();
    let wild: [[u64; 6]; 4] = [
        [0; 6],
        [u64::MAX; 6],
        [0x7f80_0000_0000, 0x7f80_4000_0000, 1 << 40, 4096, 3, 0],
        [1, 0x1_0000, u64::MAX - 4095, 0x22, u64::MAX, 0],
    ];
    for number in (0..470).chain([1 << 20, 1 << 63, u64::MAX]) {
        for arguments in wild {
            if sandbox.poisoned().is_some() {
                sandbox = hostile_sandbox();
            }
            match sandbox.call::<u64>("system_call", (number, arguments)) {
                Ok(_) => {}
                Err(error) => assert!(error.poisons(), "system call {number}: {error}"),
            }
        }
    }
}
