//! A process without a conversation: no mailbox, no calls, a `main` that runs to its end.

use std::collections::BTreeMap;

use ampoule_vmm::{DOORBELL, VirtualMachines, default_hypervisor};
use tracing::level_filters::LevelFilter;

use super::*;
use crate::clock::Clock;
use crate::executable_memory::ExecutableMemory;
use crate::fault::FaultKind;
use crate::guest_log::GuestLog;
use crate::limits::{ExceededLimit, Limits};
use crate::output::{Captured, Origin, Output};
use crate::policy::Policy;
use crate::termination::Termination;

#[test]
fn a_process_without_a_mailbox_runs_its_main_to_the_end() {
    let (mut machine, captured) = machine();
    assert!(matches!(run(&mut machine, Limits::new()), Ok(Stop::Doorbell)));
    assert_eq!(captured.take_string(), "before\n");
    assert_eq!(exit_code(run(&mut machine, Limits::new())), 7);
    assert_eq!(captured.take_string(), "behind\n");
}

#[test]
fn it_is_restored_and_copied_like_any_other() {
    let (mut machine, captured) = machine();
    assert!(matches!(run(&mut machine, Limits::new()), Ok(Stop::Doorbell)));
    let waiting = machine.checkpoint(0..0).unwrap();
    for _ in 0..3 {
        assert_eq!(exit_code(run(&mut machine, Limits::new())), 7);
        machine.restore(&waiting).unwrap();
    }
    assert_eq!(captured.take_string(), "before\nbehind\nbehind\nbehind\n");

    let (stdout, captured) = Output::capture(1000);
    let streams = GuestStreams::new(stdout, Output::discard(), GuestLog::new(LevelFilter::OFF), Origin::of_a_test());
    let mut copy = Machine::of_checkpoint(&*backend(), &executable(), &waiting, streams).unwrap();
    assert_eq!(exit_code(run(&mut copy, Limits::new())), 7);
    assert_eq!(captured.take_string(), "behind\n");
}

#[test]
fn its_limits_hold() {
    let (mut machine, _captured) = machine();
    let ended = run(&mut machine, Limits::new().system_calls(0));
    assert!(matches!(ended, Err(Termination::LimitExceeded(ExceededLimit::SystemCalls(0)))), "{ended:?}");
}

/// Runs the guest until it rings or ends. Ringing means nothing to this process.
fn run(machine: &mut Machine, limits: Limits) -> Result<Stop, Termination> {
    let guard = machine.begin_call(limits).unwrap();
    machine.answered();
    let stopped = loop {
        match machine.run() {
            Ok(Stop::SystemCall(call)) => match machine.serve(&call) {
                Ok(Served::Answered { .. } | Served::Again | Served::AwaitsInput) => {}
                Ok(Served::Abort { signal }) => break Err(machine.aborted(signal, None)),
                Err(termination) => break Err(termination),
            },
            stopped => break stopped,
        }
    };
    machine.end_call(guard, stopped)
}

fn exit_code(ended: Result<Stop, Termination>) -> i32 {
    match ended {
        Err(Termination::Fault(fault)) => match fault.kind() {
            FaultKind::Exited { code } => *code,
            kind => panic!("{kind}"),
        },
        ended => panic!("{ended:?}"),
    }
}

fn machine() -> (Machine, Captured) {
    let (stdout, captured) = Output::capture(1000);
    let config = MachineConfig {
        program: None,
        interpreter: None,
        files: crate::files::Files::of_none(),
        shape: Shape {
            memory_limit: 1 << 20,
            stack_size: 64 << 10,
            executable_memory: ExecutableMemory::Refused,
            mapped_limit: 0,
            shared: None,
        },
        arguments: vec!["program".to_owned()],
        environment: BTreeMap::new(),
        clock: Clock::Real,
        policy: Policy::all(),
        profile_memory: false,
    };
    let streams = GuestStreams::new(stdout, Output::discard(), GuestLog::new(LevelFilter::OFF), Origin::of_a_test());
    (Machine::new(&*backend(), &executable(), &config, streams).unwrap(), captured)
}

fn backend() -> Box<dyn Backend> {
    Box::new(VirtualMachines::new(default_hypervisor().expect("these tests need KVM")))
}

/// A program that prints a line, rings, prints another line, and exits with status 7.
fn executable() -> Executable {
    let mut code = print(b"before\n");
    code.extend([0x48, 0xb8]); // mov rax, DOORBELL
    code.extend(DOORBELL.0.to_le_bytes());
    code.extend([0xff, 0xd0]); // call rax
    code.extend(print(b"behind\n"));
    code.extend([0xb8, 231, 0, 0, 0, 0xbf, 7, 0, 0, 0, 0x0f, 0x05]); // mov eax, exit_group; mov edi, 7; syscall
    Executable::check("program".into(), elf(&code).into()).unwrap()
}

/// Code that prints a text of seven bytes, which follows it.
fn print(text: &[u8; 7]) -> Vec<u8> {
    let mut code = vec![0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0]; // mov eax, write; mov edi, 1
    code.extend([0x48, 0x8d, 0x35, 9, 0, 0, 0]); // lea rsi, [rip + 9]
    code.extend([0xba, 7, 0, 0, 0, 0x0f, 0x05, 0xeb, 7]); // mov edx, 7; syscall; jmp behind the text
    code.extend(text);
    code
}

/// An executable with one segment: its headers, and the code behind them.
fn elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let len = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // ET_EXEC, EM_X86_64, EV_CURRENT
    file.extend([BASE + HEADERS, 64, 0].iter().flat_map(|word: &u64| word.to_le_bytes())); // entry, program headers
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]); // flags; sizes and numbers of headers
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, PF_R | PF_X
    file.extend([0, BASE, BASE, len, len, PAGE_SIZE as u64].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(code);
    file
}
