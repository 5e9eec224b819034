//! Memory of the host's in a guest: what is mapped is seen, is what the application says, and is gone when it should be.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use ampoule::{
    Blame, Call, CallError, FaultAccess, FaultKind, HostMemory, KillOutcome, MapAccess, MapMemoryError, Mapped,
    RestoreError, Sandbox, Setting, Termination,
};
use ampoule_tests::{memory_builder, memory_image, memory_sandbox};

#[test]
fn a_guest_reads_a_file_that_is_mapped_for_it() {
    let mut sandbox = memory_sandbox();
    let file = file(&pattern(3 * PAGE as usize + 100));
    let whole = sandbox.map_file(&file, .., None, MapAccess::Read).unwrap();
    assert_eq!((whole.len(), whole.access()), (3 * PAGE + 100, MapAccess::Read));
    assert!(whole.address().is_multiple_of(PAGE) && !whole.name().is_empty(), "{whole:?}");
    let part = sandbox.map_file(&file, PAGE..2 * PAGE, None, MapAccess::Read).unwrap();
    let expected = pattern(3 * PAGE as usize + 100);
    assert_eq!(sum(&mut sandbox, whole.bytes()), total(&expected));
    assert_eq!(sum(&mut sandbox, part.bytes()), total(&expected[PAGE as usize..2 * PAGE as usize]));
    assert_eq!(sum(&mut sandbox, whole.part(5..6000).unwrap()), total(&expected[5..6000]));
    assert_eq!(sum(&mut sandbox, whole.part(7..7).unwrap()), 0);
    assert!(whole.part(..=whole.len()).is_none());
    let sums: (u64, u64) = sandbox.call("mapped_sums", (whole.bytes(), part.bytes())).unwrap();
    assert_eq!(sums, (total(&expected), total(&expected[PAGE as usize..2 * PAGE as usize])));

    // The pages are the file's, not copies.
    file.write_all_at(&[0xff], 2 * PAGE).unwrap();
    assert_eq!(byte(&mut sandbox, whole.bytes(), 2 * PAGE), 0xff);
    let names: Vec<_> = sandbox.mappings().map(|mapping| (mapping.address(), mapping.len())).collect();
    assert_eq!(names, [(whole.address(), whole.len()), (part.address(), part.len())]);
}

#[test]
fn what_is_mapped_when_a_guest_is_built_is_at_the_address_that_was_agreed_on() {
    let memory = HostMemory::copy_of(b"from the start").unwrap();
    let at = 0x7ff1_2345_6000;
    let mut sandbox = memory_builder()
        .map_memory(&memory, Some(at), MapAccess::Read)
        .map_file(file(&[7; 100]), .., None, MapAccess::Read)
        .build()
        .unwrap();
    assert_eq!(sandbox.call::<u8>("probe_read", (at + 5,)).unwrap(), memory[5]);
    let mapped: Vec<_> = sandbox.mappings().cloned().collect();
    assert_eq!(sum(&mut sandbox, mapped[1].bytes()), 700);
    sandbox.reset().unwrap();
    assert_eq!(sum(&mut sandbox, mapped[1].bytes()), 700);

    let refused = memory_builder().map_memory(&memory, Some(at + 1), MapAccess::Read).build().unwrap_err();
    assert!(refused.to_string().contains("is not a multiple of 4096"), "{refused}");
}

#[test]
fn memory_of_the_application_is_shared_and_cannot_be_changed_meanwhile() {
    let mut memory = HostMemory::new(2 * PAGE as usize).unwrap();
    memory.get_mut().unwrap()[PAGE as usize] = 9;
    let mut sandbox = memory_sandbox();
    let mapping = sandbox.map_memory(&memory, None, MapAccess::Read).unwrap();
    assert!(memory.get_mut().is_none());
    assert_eq!(sum(&mut sandbox, mapping.bytes()), 9);
    sandbox.unmap(&mapping).unwrap();
    drop(mapping);
    memory.get_mut().unwrap()[0] = 1;
    let mapping = sandbox.map_memory(&memory, None, MapAccess::Read).unwrap();
    assert_eq!(sum(&mut sandbox, mapping.bytes()), 10);

    // Memory at an address, for which the caller answers.
    // SAFETY: `memory` outlives the sandbox, and nobody changes it.
    let raw = unsafe { sandbox.map_addresses(memory.as_ptr(), PAGE as usize, None, MapAccess::Read) }.unwrap();
    assert_eq!(sum(&mut sandbox, raw.bytes()), 1);
    drop(sandbox);
}

#[test]
fn what_is_unmapped_is_gone_and_its_place_is_used_again() {
    let mut sandbox = memory_sandbox();
    for round in 1..=80_u8 {
        let mapping = sandbox.map_memory(&memory_of(round), None, MapAccess::Read).unwrap();
        assert_eq!(mapping.address(), 0x7ff0_0000_0000);
        assert_eq!(byte(&mut sandbox, mapping.bytes(), 17), round);
        sandbox.unmap(&mapping).unwrap();
        assert!(matches!(sandbox.unmap(&mapping), Err(MapMemoryError::NotMapped)));
        if round % 20 == 0 {
            let fault = fault(sandbox.call::<u8>("probe_read", (mapping.address(),)));
            assert!(matches!(fault, FaultKind::PageFault { .. }), "{fault}");
            sandbox.reset().unwrap();
        }
    }
}

#[test]
fn a_wrong_access_is_a_fault_that_names_the_mapping() {
    let mut sandbox = memory_sandbox();
    let path = std::env::temp_dir().join(format!("ampoule-mapped-model-{}", std::process::id()));
    std::fs::write(&path, [1; 100]).unwrap();
    let model = File::open(&path).unwrap();
    let mapping = sandbox.map_file(&model, .., None, MapAccess::Read).unwrap();
    let initial = sandbox.snapshot().unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = sandbox.call::<()>("mapped_write", (mapping.bytes(), 3_u64, 1_u8)).unwrap_err();
    let text = error.to_string();
    let FaultKind::MappedMemory { address, access, mapping: name, start, permitted } = fault(Err::<(), _>(error))
    else {
        panic!("{text}")
    };
    assert_eq!((address, access), (mapping.address() + 3, FaultAccess::Write));
    assert_eq!((start, permitted), (mapping.address(), MapAccess::Read));
    assert!(name.contains("ampoule-mapped-model"), "{name}");
    assert!(text.contains("in the read-only mapping of `") && text.contains("ampoule-mapped-model"), "{text}");

    sandbox.restore(&initial).unwrap();
    let executed = fault(sandbox.call::<u64>("mapped_run", (mapping.bytes(),)));
    assert!(matches!(executed, FaultKind::MappedMemory { access: FaultAccess::Execute, .. }), "{executed}");
}

#[test]
fn code_can_be_mapped_and_makes_system_calls() {
    // mov eax, 42; ret. Then from 16 on: mov eax, 39 (getpid); syscall; ret
    let mut code = vec![0xb8, 42, 0, 0, 0, 0xc3];
    code.resize(16, 0xcc);
    code.extend([0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3]);
    let mut sandbox = memory_sandbox();
    let mapping = sandbox.map_memory(&HostMemory::copy_of(&code).unwrap(), None, MapAccess::ReadExecute).unwrap();
    assert_eq!(sandbox.call::<u64>("mapped_run", (mapping.bytes(),)).unwrap(), 42);
    assert!(sandbox.call::<u64>("mapped_run", (mapping.part(16..).unwrap(),)).unwrap() > 0);
    let written = fault(sandbox.call::<()>("mapped_write", (mapping.bytes(), 0_u64, 0_u8)));
    assert!(matches!(written, FaultKind::MappedMemory { permitted: MapAccess::ReadExecute, .. }), "{written}");
}

#[test]
fn what_a_guest_writes_to_a_copy_is_its_own() {
    let contents = pattern(3 * PAGE as usize);
    let file = file(&contents);
    let mut sandbox = memory_sandbox();
    let mapping = sandbox.map_file(&file, .., None, MapAccess::CopyOnWrite).unwrap();
    let other = sandbox.map_file(&file, .., None, MapAccess::CopyOnWrite).unwrap();
    write(&mut sandbox, mapping.bytes(), PAGE + 1, 200);
    assert_eq!(byte(&mut sandbox, mapping.bytes(), PAGE + 1), 200);
    assert_eq!(byte(&mut sandbox, other.bytes(), PAGE + 1), contents[PAGE as usize + 1]);
    let mut byte_of_file = [0];
    file.read_exact_at(&mut byte_of_file, PAGE + 1).unwrap();
    assert_eq!(byte_of_file[0], contents[PAGE as usize + 1]);

    let refused = sandbox.map_memory(&memory_of(1), None, MapAccess::Read);
    let memory = memory_of(2);
    // SAFETY: it is refused.
    let raw = unsafe { sandbox.map_addresses(memory.as_ptr(), PAGE as usize, None, MapAccess::CopyOnWrite) };
    assert!(refused.is_ok() && matches!(raw, Err(MapMemoryError::NoCopy)));
}

#[test]
fn a_snapshot_keeps_what_is_mapped_and_a_restore_unmaps_what_came_later() {
    let mut sandbox = memory_sandbox();
    let file = file(&[5; 2 * PAGE as usize]);
    let kept = sandbox.map_file(&file, .., None, MapAccess::CopyOnWrite).unwrap();
    let read = sandbox.map_file(&file, .., None, MapAccess::Read).unwrap();
    write(&mut sandbox, kept.bytes(), 0, 6);
    let snapshot = sandbox.snapshot().unwrap();

    let later = sandbox.map_memory(&memory_of(8), None, MapAccess::Read).unwrap();
    write(&mut sandbox, kept.bytes(), 0, 7);
    write(&mut sandbox, kept.bytes(), PAGE, 7);
    sandbox.unmap(&read).unwrap();
    assert_eq!(sum(&mut sandbox, later.bytes()), 8 * PAGE);

    sandbox.restore(&snapshot).unwrap();
    assert_eq!([0, 1, PAGE].map(|at| byte(&mut sandbox, kept.bytes(), at)), [6, 5, 5]);
    assert_eq!(sum(&mut sandbox, read.bytes()), 10 * PAGE);
    assert_eq!(sandbox.mappings().count(), 2);
    assert!(matches!(sandbox.unmap(&later), Err(MapMemoryError::NotMapped)));
    let gone = fault(sandbox.call::<u64>("mapped_sum", (later.bytes(),)));
    assert!(matches!(gone, FaultKind::PageFault { .. }), "{gone}");

    // Whoever comes from the snapshot shares the file's pages, and has what was written.
    let mut spawned = snapshot.spawn().unwrap();
    assert_eq!([0, 1, PAGE].map(|at| byte(&mut spawned, kept.bytes(), at)), [6, 5, 5]);
    write(&mut spawned, kept.bytes(), 1, 9);
    assert_eq!(sum(&mut spawned, read.bytes()), 10 * PAGE);
    spawned.reset().unwrap();
    assert_eq!(byte(&mut spawned, kept.bytes(), 1), 5);

    // The first state had no mapping.
    sandbox.reset().unwrap();
    assert_eq!(sandbox.mappings().count(), 0);
    sandbox.restore(&snapshot).unwrap();
    assert_eq!(byte(&mut sandbox, kept.bytes(), 0), 6);
    let mut other = memory_sandbox();
    let mismatch = other.restore(&snapshot).err();
    assert!(mismatch.is_none(), "{mismatch:?}");
    assert_eq!(byte(&mut other, kept.bytes(), 0), 6);
    let mut small = memory_builder().mapped_limit(0).build().unwrap();
    assert!(matches!(
        small.restore(&snapshot),
        Err(RestoreError::Setting { setting: Setting::MappedLimit, sandbox: 0, .. })
    ));
}

#[test]
fn a_file_that_shrinks_ends_the_guest_that_touches_it_and_never_the_host() {
    for access in [MapAccess::Read, MapAccess::CopyOnWrite] {
        let mut sandbox = memory_sandbox();
        let file = file(&[1; 4 * PAGE as usize]);
        let mapping = sandbox.map_file(&file, .., None, access).unwrap();
        let mapped = sandbox.snapshot().unwrap();
        assert_eq!(sum(&mut sandbox, mapping.bytes()), 4 * PAGE);
        if access == MapAccess::CopyOnWrite {
            write(&mut sandbox, mapping.bytes(), 3 * PAGE, 2);
        }
        file.set_len(2 * PAGE).unwrap();
        assert_eq!(sum(&mut sandbox, mapping.part(..2 * PAGE).unwrap()), 2 * PAGE);
        // The host reads it for a system call: `write` to standard output.
        for (at, len, result) in [(0, 10, 10), (2 * PAGE, 10, EFAULT), (2 * PAGE - 4, 8, EFAULT)] {
            let arguments = (libc::SYS_write as u64, 1_u64, mapping.bytes(), at, len as u64, 0_u64);
            assert_eq!(sandbox.call::<i64>("mapped_call", arguments).unwrap(), result, "{at} {len}");
        }
        let error = sandbox.call::<u64>("mapped_sum", (mapping.bytes(),)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("has lost") && text.contains("the file was cut short"), "{text}");
        assert_eq!(error.blame(), Blame::Caller);
        let FaultKind::LostMemory { start, .. } = fault(Err::<(), _>(error)) else { panic!("{text}") };
        assert_eq!(start, mapping.address());

        // Nothing of it is left.
        sandbox.restore(&mapped).unwrap();
        assert_eq!(sum(&mut sandbox, mapping.part(..2 * PAGE).unwrap()), 2 * PAGE);
        let spawned = mapped.spawn().unwrap().call::<u64>("mapped_sum", (mapping.bytes(),));
        assert!(matches!(fault(spawned), FaultKind::LostMemory { .. }));
        file.set_len(4 * PAGE).unwrap();
        assert_eq!(sum(&mut sandbox, mapping.bytes()), 2 * PAGE);
    }
}

#[test]
fn system_calls_read_and_write_mapped_memory_as_the_guest_could() {
    let mut sandbox = memory_sandbox();
    let file = file(&[1; 2 * PAGE as usize]);
    let read = sandbox.map_file(&file, .., None, MapAccess::Read).unwrap();
    let copy = sandbox.map_file(&file, .., None, MapAccess::CopyOnWrite).unwrap();
    let random = |sandbox: &mut Sandbox, bytes: Mapped<'static>| -> i64 {
        // `clock_gettime`, which writes 16 bytes.
        let arguments = (libc::SYS_clock_gettime as u64, 0_u64, bytes, PAGE - 8, 0_u64, 0_u64);
        sandbox.call("mapped_call", arguments).unwrap()
    };
    assert_eq!(random(&mut sandbox, read.bytes()), EFAULT);
    let before = sandbox.snapshot().unwrap();
    assert_eq!(random(&mut sandbox, copy.bytes()), 0);
    assert_ne!(sum(&mut sandbox, copy.bytes()), 2 * PAGE);
    // What the host has written is taken back as well.
    sandbox.restore(&before).unwrap();
    assert_eq!(sum(&mut sandbox, copy.bytes()), 2 * PAGE);

    // The guest cannot change how it is mapped.
    for (call, third) in [(libc::SYS_munmap, 0), (libc::SYS_mprotect, 3), (libc::SYS_mmap, 3), (libc::SYS_madvise, 4)] {
        let result: i64 = sandbox.call("mapped_change", (call as u64, copy.bytes(), PAGE, third as u64)).unwrap();
        assert!((-4095..0).contains(&result), "{call}: {result}");
    }
    assert_eq!(sum(&mut sandbox, copy.bytes()), 2 * PAGE);
}

#[test]
fn what_cannot_be_mapped_is_refused_and_the_error_says_why() {
    let mut sandbox = memory_builder().mapped_limit(1 << 20).build().unwrap();
    let file = file(&[1; 2 * PAGE as usize]);
    let first = 0x7ff0_0000_0000;
    let mapping = sandbox.map_file(&file, .., Some(first + PAGE), MapAccess::Read).unwrap();
    let mut map =
        |range: std::ops::Range<u64>, at: Option<u64>| sandbox.map_file(&file, range, at, MapAccess::Read).unwrap_err();
    assert!(matches!(map(0..0, None), MapMemoryError::Empty));
    let backwards = std::ops::Range { start: PAGE, end: 0 };
    assert!(matches!(map(backwards, None), MapMemoryError::Empty));
    assert!(matches!(map(1..PAGE, None), MapMemoryError::Unaligned { value: 1, .. }));
    assert!(matches!(map(0..PAGE, Some(first + 8)), MapMemoryError::Unaligned { .. }));
    assert!(matches!(map(0..2 * PAGE + 1, None), MapMemoryError::BehindFile { end: 8193, size: 8192 }));
    for outside in [0, 0x1_0000, first - PAGE, 0x7fff_ffe0_0000, 0x8000_0000_0000, u64::MAX - PAGE + 1] {
        assert!(matches!(map(0..PAGE, Some(outside)), MapMemoryError::OutsideOfAddresses { .. }), "{outside:#x}");
    }
    for at in [first, first + PAGE, first + 2 * PAGE] {
        let error = map(0..2 * PAGE, Some(at));
        assert!(matches!(error, MapMemoryError::Overlaps { start, .. } if start == first + PAGE), "{error}");
    }
    let large = HostMemory::new(1 << 20).unwrap();
    let error = sandbox.map_memory(&large, None, MapAccess::Read).unwrap_err();
    assert!(matches!(error, MapMemoryError::TooMuch { mapped: 8192, limit: 0x10_0000, .. }), "{error}");
    let (pipe, _other_end) = io::pipe().unwrap();
    assert!(matches!(sandbox.map_file(pipe.as_fd(), .., None, MapAccess::Read), Err(MapMemoryError::NotAFile)));
    assert_eq!(HostMemory::new(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    sandbox.map_file(&file, .., Some(first + 3 * PAGE), MapAccess::Read).unwrap();
    let mut other = memory_sandbox();
    assert!(matches!(other.unmap(&mapping), Err(MapMemoryError::NotMapped)));

    let mut many = memory_sandbox();
    for _ in 0..64 {
        many.map_file(&file, .., None, MapAccess::Read).unwrap();
    }
    assert!(matches!(many.map_file(&file, .., None, MapAccess::Read), Err(MapMemoryError::TooMany { limit: 64 })));
    let last = many.mappings().last().unwrap().bytes();
    assert_eq!(sum(&mut many, last), 2 * PAGE);
    fault(many.call::<u8>("probe_read", (8_u64,)));
    assert!(matches!(many.map_file(&file, .., None, MapAccess::Read), Err(MapMemoryError::Poisoned)));
}

#[test]
fn a_slice_is_lent_for_one_call_wherever_it_begins_and_ends() {
    let mut sandbox = memory_sandbox();
    let bytes = pattern(5 << 20);
    for (start, len) in [
        (0, 0),
        (3, 1000),
        (1, (1 << 20) - 1),
        (0, 1 << 20),
        (4095, 3 << 20),
        (777, (2 << 20) + 5),
        (PAGE as usize, 4 << 20),
    ] {
        let slice = &bytes[start..start + len];
        let sum: u64 = sandbox.call_lending([slice], |[lent]| Call::new("mapped_sum", (lent,))).unwrap();
        assert_eq!(sum, total(slice), "{start} {len}");
    }
    // Several at once, and the same one twice.
    let (one, other) = (&bytes[10..3 << 20], &bytes[10..400]);
    let sums: (u64, u64) =
        sandbox.call_lending([one, other], |lent| Call::new("mapped_sums", (lent[0], lent[1]))).unwrap();
    assert_eq!(sums, (total(one), total(other)));
    let sums: (u64, u64) =
        sandbox.call_lending([one, one], |lent| Call::new("mapped_sums", (lent[0], lent[1]))).unwrap();
    assert_eq!(sums, (total(one), total(one)));
    assert_eq!(sandbox.mappings().count(), 0);
}

#[test]
fn nothing_beside_a_lent_slice_is_seen() {
    let mut sandbox = memory_sandbox();
    let bytes = vec![0x5a; 4 << 20];
    let slice = &bytes[100..(3 << 20) + 100];
    let address: u64 = sandbox.call_lending([slice], |[lent]| Call::new("mapped_address", (lent,))).unwrap();
    for at in [address - 1, address - address % PAGE, address + slice.len() as u64] {
        let seen: Result<u8, _> = sandbox.call_lending([slice], |[_]| Call::new("probe_read", (at,)));
        assert_eq!(seen.unwrap(), 0, "{at:#x}");
    }
    let written = sandbox.call_lending([slice], |[lent]| Call::new("mapped_write", (lent, 5000_u64, 0_u8)));
    assert!(matches!(fault::<()>(written), FaultKind::PageFault { access: FaultAccess::Write, .. }));
    assert!(bytes.iter().all(|byte| *byte == 0x5a));
}

#[test]
fn a_later_call_cannot_read_what_was_lent_however_the_call_has_ended() {
    let bytes = pattern((2 << 20) + 4000);
    let slice = &bytes[50..];
    for how in ["return", "panic", "fault", "deadline", "kill"] {
        let mut sandbox = memory_sandbox();
        let handle = sandbox.interrupt_handle();
        let result: Result<u64, CallError> = thread::scope(|scope| {
            let deadline = if how == "deadline" { Duration::from_millis(50) } else { Duration::from_secs(60) };
            if how == "kill" {
                scope.spawn(|| {
                    while handle.kill() == KillOutcome::NotRunning {
                        thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            sandbox.call_lending([slice], |[lent]| Call::new("mapped_end", (lent, how)).deadline(deadline))
        });
        match (how, &result) {
            ("return", Ok(sum)) => assert_eq!(*sum, total(slice)),
            ("panic", Err(CallError::Panicked { .. })) => {}
            ("fault", Err(CallError::Terminated { cause: Termination::Fault(_), .. })) => {}
            ("deadline", Err(CallError::Terminated { cause: Termination::LimitExceeded(_), .. })) => {}
            ("kill", Err(CallError::Terminated { cause: Termination::Killed, .. })) => {}
            other => panic!("{other:?}"),
        }
        // The place is always the same one, since nothing else is mapped: as far behind the start of a huge page as the slice.
        let address = 0x7ff0_0000_0000 + slice.as_ptr().addr() as u64 % (2 << 20);
        for at in [address, address + PAGE, address + slice.len() as u64 - 1] {
            if sandbox.poisoned().is_some() {
                sandbox.reset().unwrap();
            }
            let read = sandbox.call::<u8>("probe_read", (at,));
            assert!(matches!(fault(read), FaultKind::PageFault { .. }), "{how} {at:#x}");
        }
    }
}

#[test]
fn a_panic_of_the_application_takes_back_what_was_lent() {
    let mut sandbox = memory_sandbox();
    let bytes = vec![1; 2 << 20];
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let call = |_| -> Call<'_, ()> { panic!("while the slice is lent") };
        sandbox.call_lending::<(), _, 1>([&bytes], call)
    }));
    assert!(panicked.is_err());
    let address = 0x7ff0_0000_0000 + bytes.as_ptr().addr() as u64 % (2 << 20);
    drop(bytes);
    let read = sandbox.call::<u8>("probe_read", (address + PAGE,));
    assert!(matches!(fault(read), FaultKind::PageFault { .. }));
}

#[test]
fn what_was_copied_instead_of_lent_is_wiped() {
    let mut sandbox = memory_sandbox();
    let secret = vec![0xa5; 100_000];
    let address: u64 = sandbox.call_lending([&secret], |[lent]| Call::new("mapped_address", (lent,))).unwrap();
    for at in [address + 50_000, address + 99_999] {
        assert_eq!(sandbox.call::<u8>("probe_read", (at,)).unwrap(), 0, "{at:#x}");
    }
}

#[test]
fn more_than_can_be_lent_is_refused_before_the_guest_runs() {
    let mut sandbox = memory_builder().mapped_limit(2 << 20).build().unwrap();
    let bytes = vec![1; 3 << 20];
    let refused = sandbox.call_lending([&bytes], |[lent]| Call::new("mapped_sum", (lent,)));
    let error: CallError = refused.map(|_: u64| ()).unwrap_err();
    assert!(matches!(&error, CallError::Lending { reason: MapMemoryError::TooMuch { .. } }), "{error}");
    assert!(error.to_string().contains("Builder::mapped_limit"), "{error}");
    assert_eq!(error.blame(), Blame::Caller);
    let half: u64 = sandbox.call_lending([&bytes[..3 << 19]], |[lent]| Call::new("mapped_sum", (lent,))).unwrap();
    assert_eq!(half, 3 << 19);

    let mut sandbox = memory_sandbox();
    let lent: [&[u8]; 17] = [&bytes; 17];
    let refused = sandbox.call_lending(lent, |lent| Call::new("mapped_sum", (lent[0],)));
    assert!(matches!(
        refused.map(|_: u64| ()),
        Err(CallError::Lending { reason: MapMemoryError::TooMany { limit: 16 } })
    ));
    let sum: u64 = sandbox.call_lending([&bytes; 16], |lent| Call::new("mapped_sum", (lent[15],))).unwrap();
    assert_eq!(sum, 3 << 20);
}

#[test]
fn a_function_that_takes_mapped_memory_is_called_with_nothing_else() {
    let mut sandbox = memory_sandbox();
    let wrong = sandbox.call::<u64>("mapped_sum", (vec![1_u8],)).unwrap_err();
    assert!(matches!(wrong, CallError::WrongArguments { .. }), "{wrong}");
    let sum = sandbox.typed_fn::<(Mapped<'static>,), u64>("mapped_sum").unwrap();
    let mapping = sandbox.map_memory(&memory_of(3), None, MapAccess::Read).unwrap();
    assert_eq!(sum.call(&mut sandbox, (mapping.bytes(),)).unwrap(), 3 * PAGE);
    assert!(memory_image().export("mapped_sum").unwrap().signature().to_string().contains("Mapped"));
}

fn sum(sandbox: &mut Sandbox, bytes: Mapped<'_>) -> u64 {
    sandbox.call("mapped_sum", (bytes,)).unwrap()
}

fn byte(sandbox: &mut Sandbox, bytes: Mapped<'_>, at: u64) -> u8 {
    sandbox.call::<Option<u8>>("mapped_byte", (bytes, at)).unwrap().unwrap()
}

fn write(sandbox: &mut Sandbox, bytes: Mapped<'_>, at: u64, value: u8) {
    sandbox.call::<()>("mapped_write", (bytes, at, value)).unwrap();
}

/// How a call has ended the guest.
fn fault<T>(result: Result<T, CallError>) -> FaultKind {
    match result {
        Err(CallError::Terminated { cause: Termination::Fault(fault), .. }) => fault.kind().clone(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the guest went on"),
    }
}

fn total(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// A page of this value.
fn memory_of(value: u8) -> HostMemory {
    HostMemory::copy_of(&[value; PAGE as usize]).unwrap()
}

/// A file without a name.
fn file(contents: &[u8]) -> File {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("ampoule-host-memory-{}-{number}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all_at(contents, 0).unwrap();
    file
}

const PAGE: u64 = 4096;
const EFAULT: i64 = -(libc::EFAULT as i64);
