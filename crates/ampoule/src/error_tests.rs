//! Every variant of every error that this crate shows.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ampoule_abi::codec::{DecodeError, EncodeError};
use ampoule_abi::schema::UNNAMED;
use ampoule_error_rule::{REASON, check, each_variant, refusal};
use ampoule_vmm::hypervisor::Operation;
use ampoule_vmm::{BaselineError, Context, Entry, GuestVirt, HypervisorError, OpenError};
use serde::{de, ser};

use crate::conversation::ProtocolViolation;
use crate::core_dump::tests::failed;
use crate::error::named_path;
use crate::fault::{Fault, FaultKind, Position};
use crate::files::{FilesError, GrantError};
use crate::guest_memory::MemoryError;
use crate::image::{
    AbiVersion, ElfPart, ForeignPlatform, Image, ImageProblem, NotExecutable, RecordProblem, SegmentProblem,
};
use crate::interrupt::LimitsUnwatched;
use crate::libraries::Libraries;
use crate::limits::ExceededLimit;
use crate::machine::{CheckpointError, RestoreMachineError};
use crate::signature::{Parameters, Signature, SignatureError};
#[cfg(feature = "gdb")]
use crate::{AddressError, DebuggerAddress, ListenError};
use crate::{
    BuildError, CallError, ClockError, CoreDumpError, Difference, Executable, ExecuteError, FunctionValue, GuestPanic,
    HostFunctionSetting, InterruptSignalError, LoadError, LoadSnapshotError, MapMemoryError, OutOfRange, Payload,
    Poison, PoolError, ProfileError, ProgramError, ProgramOutput, ProgramStatus, ResetError, RestoreError,
    SaveSnapshotError, Setting, SnapshotDigest, SnapshotError, StartText, Termination, image,
};
use ampoule_symbols::Symbols;

#[test]
fn a_value_that_cannot_travel_is_named_by_its_type_where_it_has_no_field() {
    let signature: Signature = "fn(u8, &serde_json::Value) -> Anything".parse().expect("it is a signature");
    let named = |value| named_path(UNNAMED.to_owned(), value, &signature);
    assert_eq!(named(FunctionValue::Argument(1)), "&Value");
    assert_eq!(named(FunctionValue::Result), "Anything");
    assert_eq!(named_path("Order.extra".to_owned(), FunctionValue::Result, &signature), "Order.extra");
}

/// `docs/faults.md` explains every error of a call.
#[test]
fn the_document_on_faults_names_every_error_of_a_call() {
    let document = include_str!("../docs/faults.md");
    let source = include_str!("error.rs");
    let errors = source.split("pub enum CallError {").nth(1).and_then(|rest| rest.split("\n}").next());
    let is_variant = |line: &&str| line.starts_with("    ") && line[4..].starts_with(char::is_uppercase);
    let variants = errors.expect("the enum").lines().filter(is_variant);
    let names: Vec<&str> = variants.filter_map(|line| line.trim().split(" {").next()).collect();
    assert!(names.len() >= 16, "{names:?}");
    for name in names {
        assert!(
            document.contains(&format!("`{name}`")) || document.contains(&format!("`CallError::{name}`")),
            "{name}"
        );
    }
}

#[test]
fn errors_of_a_build_say_everything_once() {
    let function = || "log".to_owned();
    each_variant!(BuildError {
        BuildError::Baseline(_) => BaselineError::Unsupported.into(),
        BuildError::Open(_) => OpenError::Failed { explanation: REASON.to_owned(), reason: refusal() }.into(),
        BuildError::Hypervisor(_) => BuildError::Hypervisor(refused()),
        BuildError::Memory { .. } => BuildError::Memory { what: "page tables", bytes: 1, reason: refusal() },
        BuildError::Random(_) => BuildError::Random(refusal()),
        BuildError::Setting { .. } => BuildError::Setting { setting: "stack_size", given: 1, least: 2, most: 3 },
        BuildError::MissingHostFunction { .. } =>
            missing(HostFunctionSetting::Builder, None),
        BuildError::HostFunctionMismatch { .. } =>
            BuildError::HostFunctionMismatch { function: function(), expected: signature(), given: signature() },
        BuildError::DuplicateHostFunction { .. } => BuildError::DuplicateHostFunction { function: function() },
        BuildError::DifferentData { .. } => BuildError::DifferentData {
            functions: [function(), "log".to_owned()],
            types: ["app::Request", "app::Budget"],
        },
        BuildError::DifferentTypes { .. } => BuildError::DifferentTypes {
            function: function(),
            value: FunctionValue::Argument(0),
            difference: difference(),
        },
        BuildError::Untransferable { .. } => BuildError::Untransferable {
            function: function(),
            value: FunctionValue::Result,
            path: "Order.extra".to_owned(),
        },
        BuildError::SchemaTooLarge { .. } => BuildError::SchemaTooLarge { needed: 5000 },
        BuildError::Files(_) => FilesError::Grant(GrantError::NoOpenat2 { reason: refusal() }).into(),
        BuildError::Load(_) => LoadError::Memory(refusal()).into(),
        BuildError::Signal(_) => InterruptSignalError::Refused { signal: 40, reason: refusal() }.into(),
        BuildError::LimitsUnwatched(_) => BuildError::LimitsUnwatched(refusal()),
        BuildError::Map(_) => BuildError::Map(io_refused()),
        BuildError::Profile(_) => ProfileError::NoSignal.into(),
        BuildError::Initial(_) => BuildError::Initial(SnapshotError::Memory(refusal())),
        BuildError::Start(..) => BuildError::Start(Termination::Hypervisor(refused()), None, None),
    });
    check(&BuildError::LimitsUnwatched(io::Error::from_raw_os_error(libc::EPERM)));
    check(&BuildError::Start(fault(), None, Some(failed(unwritten()))));
    check(&BuildError::Start(Termination::Killed, Some(position()), None));
    for setting in [HostFunctionSetting::Spawn, HostFunctionSetting::Pool] {
        check(&missing(setting, Some("lob".to_owned())));
    }
    each_variant!(ClockError { ClockError::HostTime => ClockError::HostTime });
    let path = || std::path::PathBuf::from("/usr/lib");
    each_variant!(FilesError {
        FilesError::Grant(_) => GrantError::NoOpenat2 { reason: refusal() }.into(),
        FilesError::Libraries { .. } => FilesError::Libraries { path: path(), reason: refusal() },
        FilesError::CurrentDirectory { .. } => {
            FilesError::CurrentDirectory { at: path(), reason: ampoule_vfs::Errno::ENOENT }
        }
    });
    each_variant!(LoadError {
        LoadError::Memory(_) => LoadError::Memory(refusal()),
        LoadError::MemoryLimit { .. } => LoadError::MemoryLimit { needed: 2, limit: 1 },
        LoadError::NoRoom { .. } => LoadError::NoRoom { address: 1, size: 2 },
        LoadError::PageTables { .. } => LoadError::PageTables { address: 1, size: 2 },
        LoadError::StackSize { .. } => LoadError::StackSize { size: 1 },
        LoadError::StartTextTooLong { .. } => LoadError::StartTextTooLong { needed: 2, limit: 1 },
        LoadError::StartText { .. } => LoadError::StartText { text: StartText::Argument { index: 1 }, character: '\0' },
        LoadError::UnnamedVariable => LoadError::UnnamedVariable,
    });
    each_variant!(ProfileError {
        ProfileError::NoSignal => ProfileError::NoSignal,
        ProfileError::Unwatched { .. } => ProfileError::Unwatched { reason: refusal() },
    });
    each_variant!(InterruptSignalError {
        InterruptSignalError::InUse { .. } => InterruptSignalError::InUse { signal: 40 },
        InterruptSignalError::AllInUse { .. } => InterruptSignalError::AllInUse { first: 40, last: 64 },
        InterruptSignalError::ReportsFaults { .. } => InterruptSignalError::ReportsFaults { signal: 11 },
        InterruptSignalError::Unusable { .. } => InterruptSignalError::Unusable { signal: 9, reason: refusal() },
        InterruptSignalError::Refused { .. } => InterruptSignalError::Refused { signal: 40, reason: refusal() },
        InterruptSignalError::Decided { .. } => InterruptSignalError::Decided { signal: None },
    });
    check(&LimitsUnwatched { reason: refusal() });
}

#[test]
fn errors_of_snapshot_files_say_everything_once() {
    let path = || "guest.snap".into();
    let range = OutOfRange { setting: "stack_size", given: 1, least: 2, most: 3 };
    each_variant!(SaveSnapshotError {
        SaveSnapshotError::Unstorable { .. } => SaveSnapshotError::Unstorable { what: "has locked files".to_owned() },
        SaveSnapshotError::Parent(_) =>
            SaveSnapshotError::Parent(Box::new(LoadSnapshotError::NotASnapshot { path: path() })),
        SaveSnapshotError::ForeignParent { .. } => SaveSnapshotError::ForeignParent { parent: path() },
        SaveSnapshotError::Write { .. } => SaveSnapshotError::Write { path: path(), reason: refusal() },
    });
    each_variant!(LoadSnapshotError {
        LoadSnapshotError::Read { .. } => LoadSnapshotError::Read { path: path(), reason: refusal() },
        LoadSnapshotError::NotASnapshot { .. } => LoadSnapshotError::NotASnapshot { path: path() },
        LoadSnapshotError::Version { .. } => LoadSnapshotError::Version { path: path(), found: 2 },
        LoadSnapshotError::Architecture { .. } => LoadSnapshotError::Architecture { path: path(), found: 183 },
        LoadSnapshotError::Length { .. } => LoadSnapshotError::Length { path: path(), expected: 2, found: 1 },
        LoadSnapshotError::TooLarge { .. } => LoadSnapshotError::TooLarge { path: path(), size: 2, limit: 1 },
        LoadSnapshotError::Damaged { .. } => LoadSnapshotError::Damaged { path: path(), part: "header" },
        LoadSnapshotError::State { .. } => LoadSnapshotError::State { path: path(), reason: REASON.to_owned() },
        LoadSnapshotError::Processor { .. } =>
            LoadSnapshotError::Processor { path: path(), missing: vec!["avx2".to_owned(), "fma".to_owned()] },
        LoadSnapshotError::MissingParent { .. } =>
            LoadSnapshotError::MissingParent { path: path(), parent: SnapshotDigest::of_none() },
        LoadSnapshotError::TooManyParents { .. } => LoadSnapshotError::TooManyParents { path: path(), limit: 64 },
        LoadSnapshotError::Kind { .. } => LoadSnapshotError::Kind { path: path(), is_program: true },
        LoadSnapshotError::File { .. } => LoadSnapshotError::File {
            path: path(),
            file: "/etc/passwd".to_owned(),
            reason: ampoule_vfs::Errno::ENOENT,
        },
        LoadSnapshotError::Room { .. } => LoadSnapshotError::Room {
            path: path(),
            reason: ampoule_vfs::RestoreFilesError::NoRoom { place: "/tmp".into() },
        },
        LoadSnapshotError::Image(_) =>
            Executable::from_bytes(b"text".as_slice()).expect_err("it is no executable").into(),
        LoadSnapshotError::Files(_) => FilesError::Grant(GrantError::NoOpenat2 { reason: refusal() }).into(),
        LoadSnapshotError::Setting(_) => LoadSnapshotError::Setting(range),
        LoadSnapshotError::Memory { .. } =>
            LoadSnapshotError::Memory { what: "snapshot", bytes: 1, reason: refusal() },
        LoadSnapshotError::Baseline(_) => BaselineError::Unsupported.into(),
        LoadSnapshotError::Open(_) =>
            OpenError::Failed { explanation: REASON.to_owned(), reason: refusal() }.into(),
    });
    let error = LoadSnapshotError::Kind { path: path(), is_program: false };
    assert_eq!(
        error.to_string(),
        "snapshot file `guest.snap` is of a guest that waits for a call: load it with `Snapshot::load`"
    );
}

#[test]
fn errors_of_mapping_memory_say_everything_once() {
    let (address, len) = (0x7ff0_0000_0000, 4096);
    each_variant!(MapMemoryError {
        MapMemoryError::Empty => MapMemoryError::Empty,
        MapMemoryError::Unaligned { .. } => MapMemoryError::Unaligned { what: "address", value: 1 },
        MapMemoryError::BehindFile { .. } => MapMemoryError::BehindFile { end: 2, size: 1 },
        MapMemoryError::NotAFile => MapMemoryError::NotAFile,
        MapMemoryError::NoCopy => MapMemoryError::NoCopy,
        MapMemoryError::OutsideOfAddresses { .. } => MapMemoryError::OutsideOfAddresses { address: 1, len },
        MapMemoryError::Overlaps { .. } =>
            MapMemoryError::Overlaps { address, len, name: "model.bin".to_owned(), start: address },
        MapMemoryError::InvalidName { .. } => MapMemoryError::InvalidName { name: "a/b".to_owned() },
        MapMemoryError::NameTaken { .. } => MapMemoryError::NameTaken { name: "model.bin".to_owned() },
        MapMemoryError::TooMany { .. } => MapMemoryError::TooMany { limit: 64 },
        MapMemoryError::TooMuch { .. } => MapMemoryError::TooMuch { len, mapped: 1, limit: 2 },
        MapMemoryError::NotMapped => MapMemoryError::NotMapped,
        MapMemoryError::Poisoned => MapMemoryError::Poisoned,
        MapMemoryError::Host(_) => io_refused(),
        MapMemoryError::Hypervisor(_) => MapMemoryError::Hypervisor(refused()),
    });
}

fn io_refused() -> MapMemoryError {
    refusal().into()
}

#[test]
fn errors_of_a_program_say_everything_once() {
    let range = OutOfRange { setting: "stack_size", given: 1, least: 2, most: 3 };
    each_variant!(ProgramError {
        ProgramError::Image(_) => Executable::from_bytes(b"text".as_slice()).expect_err("it is no executable").into(),
        ProgramError::Setting(_) => ProgramError::Setting(range),
        ProgramError::Execute(_) => ExecuteError::ScriptLine { script: "script".into() }.into(),
        ProgramError::Baseline(_) => BaselineError::Unsupported.into(),
        ProgramError::Open(_) => OpenError::Failed { explanation: REASON.to_owned(), reason: refusal() }.into(),
        ProgramError::Hypervisor(_) => ProgramError::Hypervisor(refused()),
        ProgramError::Memory { .. } => ProgramError::Memory { what: "page tables", bytes: 1, reason: refusal() },
        ProgramError::Random(_) => ProgramError::Random(refusal()),
        ProgramError::Map(_) => ProgramError::Map(MapMemoryError::Empty),
        ProgramError::Files(_) => FilesError::Grant(GrantError::NoOpenat2 { reason: refusal() }).into(),
        ProgramError::Load(_) => LoadError::Memory(refusal()).into(),
        ProgramError::Signal(_) => InterruptSignalError::Refused { signal: 40, reason: refusal() }.into(),
        ProgramError::LimitsUnwatched(_) => ProgramError::LimitsUnwatched(refusal()),
        ProgramError::Terminated { .. } => ProgramError::Terminated {
            program: "sort-1".to_owned(),
            cause: Termination::Hypervisor(refused()),
            position: None,
            printed: Box::default(),
            core_dump: None,
            profile: None,
        },
        ProgramError::EndedBeforeInput { .. } => ProgramError::EndedBeforeInput {
            program: "sort-1".to_owned(),
            output: Box::new(ProgramOutput {
                status: ProgramStatus::Exited(3),
                stdout: Vec::new(),
                stderr: Vec::new(),
                core_dump: None,
                profile: None,
                refused: Vec::new(),
                missing_library: None,
            }),
        },
        ProgramError::NotIdle { .. } => ProgramError::NotIdle { program: "sort-1".to_owned(), by_panic: true },
        ProgramError::Snapshot(_) => ProgramError::Snapshot(refusal()),
        ProgramError::Reset(_) => ResetError::Memory(refusal().into()).into(),
        ProgramError::Profile(_) => ProfileError::NoSignal.into(),
    });
    for (cause, position) in [(fault(), None), (Termination::Killed, Some(position()))] {
        let (program, printed) = ("sort-1".to_owned(), Box::default());
        check(&ProgramError::Terminated { program, cause, position, printed, core_dump: None, profile: None });
    }
    each_variant!(ResetError {
        ResetError::Hypervisor(_) => ResetError::Hypervisor(refused()),
        ResetError::Memory(_) => ResetError::Memory(refusal().into()),
    });
}

#[test]
fn errors_of_a_call_say_everything_once() {
    let function = || "greet".to_owned();
    let panic = || GuestPanic { message: "no".to_owned(), file: "main.rs".to_owned(), line: 1, column: 2 };
    each_variant!(CallError {
        CallError::UnknownFunction { .. } =>
            CallError::UnknownFunction { image: "guest".to_owned(), function: function(), exports: Vec::new() },
        CallError::WrongArguments { .. } => CallError::WrongArguments {
            function: function(),
            expected: signature(),
            given: Parameters::new(Vec::new()),
        },
        CallError::WrongResult { .. } =>
            CallError::WrongResult { function: function(), expected: signature(), given: "u8".to_owned() },
        CallError::DifferentTypes { .. } => CallError::DifferentTypes {
            function: function(),
            value: FunctionValue::Argument(0),
            difference: difference(),
        },
        CallError::Untransferable { .. } => CallError::Untransferable {
            function: function(),
            value: FunctionValue::Error,
            path: "Order.extra".to_owned(),
        },
        CallError::Undescribed { .. } => CallError::Undescribed {
            function: function(),
            signature: signature(),
            value: FunctionValue::Result,
        },
        CallError::WrongData { .. } => CallError::WrongData {
            function: function(),
            host_function: "price".to_owned(),
            expected: "app::Request",
            given: Some("app::Budget"),
        },
        CallError::ForeignFunction { .. } => CallError::ForeignFunction { function: function() },
        CallError::PayloadTooLarge { .. } => CallError::PayloadTooLarge {
            function: function(),
            what: Payload::Result,
            needed: 2,
            mailbox_size: 1,
        },
        CallError::Encode { .. } =>
            CallError::Encode { function: function(), reason: <EncodeError as ser::Error>::custom(REASON) },
        CallError::Decode { .. } =>
            CallError::Decode { function: function(), reason: <DecodeError as de::Error>::custom(REASON) },
        CallError::ArgumentsRefused { .. } =>
            CallError::ArgumentsRefused { function: function(), message: REASON.to_owned() },
        CallError::Function { .. } => CallError::Function { function: function(), message: REASON.to_owned() },
        CallError::Panicked { .. } => CallError::Panicked { function: function(), panic: panic() },
        CallError::LimitsUnwatched { .. } => CallError::LimitsUnwatched { function: function(), reason: refusal() },
        CallError::Lending { .. } => CallError::Lending { reason: io_refused() },
        CallError::Terminated { .. } =>
            terminated(Termination::Hypervisor(refused()), None),
        CallError::Poisoned { .. } =>
            CallError::Poisoned { cause: Poison::Ended(Termination::Hypervisor(refused())) },
    });
    each_variant!(Termination {
        Termination::Fault(_) => fault(),
        Termination::Protocol(_) => Termination::Protocol(ProtocolViolation::Text),
        Termination::Killed => Termination::Killed,
        Termination::LimitExceeded(_) =>
            Termination::LimitExceeded(ExceededLimit::Deadline(Duration::from_millis(20))),
        Termination::Hypervisor(_) => Termination::Hypervisor(refused()),
    });
    each_variant!(Poison {
        Poison::Ended(_) => Poison::Ended(fault()),
        Poison::HostFunctionPanicked => Poison::HostFunctionPanicked,
        Poison::RestoreFailed(_) => Poison::RestoreFailed(RestoreError::Memory(Arc::new(refusal()))),
    });
    check(&terminated(fault(), None));
    let (function, sandbox) = ("greet".to_owned(), "guest-1".to_owned());
    let core_dump = Some(failed(unwritten()));
    check(&CallError::Terminated { function, sandbox, cause: fault(), position: None, core_dump });
    check(&terminated(Termination::Killed, Some(position())));
    check(&CallError::Poisoned { cause: Poison::Ended(fault()) });
    each_variant!(ProtocolViolation {
        ProtocolViolation::UnknownKind { .. } => ProtocolViolation::UnknownKind { kind: 9 },
        ProtocolViolation::UnknownStatus { .. } => ProtocolViolation::UnknownStatus { status: 9 },
        ProtocolViolation::Length { .. } => ProtocolViolation::Length { length: 2, capacity: 1 },
        ProtocolViolation::ExtraLength { .. } => ProtocolViolation::ExtraLength { length: 2, left: 1 },
        ProtocolViolation::Schema => ProtocolViolation::Schema,
        ProtocolViolation::ReadyTwice => ProtocolViolation::ReadyTwice,
        ProtocolViolation::ReturnWithoutCall { .. } => ProtocolViolation::ReturnWithoutCall { sequence: 1 },
        ProtocolViolation::WrongReturn { .. } => ProtocolViolation::WrongReturn { sequence: 1, expected: 2 },
        ProtocolViolation::WrongHostCall { .. } => ProtocolViolation::WrongHostCall { sequence: 1, expected: 2 },
        ProtocolViolation::UnknownImport { .. } => ProtocolViolation::UnknownImport { function: 1 },
        ProtocolViolation::OutputLength { .. } => ProtocolViolation::OutputLength { length: 2, capacity: 1 },
        ProtocolViolation::OutputRecord { .. } => ProtocolViolation::OutputRecord { offset: 1, needed: 3, left: 2 },
        ProtocolViolation::UnknownStream { .. } => ProtocolViolation::UnknownStream { stream: 3 },
        ProtocolViolation::LogRecord { .. } => ProtocolViolation::LogRecord { offset: 4 },
        ProtocolViolation::SpanRecord { .. } => ProtocolViolation::SpanRecord { offset: 4 },
        ProtocolViolation::AllocationRecord { .. } => ProtocolViolation::AllocationRecord { offset: 4 },
        ProtocolViolation::Text => ProtocolViolation::Text,
    });
}

#[test]
fn errors_of_core_dumps_say_everything_once() {
    each_variant!(CoreDumpError {
        CoreDumpError::TooMany { .. } => CoreDumpError::TooMany { limit: 100 },
        CoreDumpError::Create { .. } => unwritten(),
        CoreDumpError::Write { .. } => CoreDumpError::Write { reason: refusal() },
        CoreDumpError::Hypervisor(_) => CoreDumpError::Hypervisor(refused()),
        CoreDumpError::UnknownState => CoreDumpError::UnknownState,
    });
}

#[test]
fn errors_of_snapshots_say_everything_once() {
    let name = || "guest".to_owned();
    each_variant!(SnapshotError {
        SnapshotError::Poisoned { .. } =>
            SnapshotError::Poisoned { cause: Poison::Ended(Termination::Hypervisor(refused())) },
        SnapshotError::Hypervisor(_) => SnapshotError::Hypervisor(refused()),
        SnapshotError::Memory(_) => SnapshotError::Memory(refusal()),
    });
    each_variant!(RestoreError {
        RestoreError::ForeignImage { .. } => RestoreError::ForeignImage { snapshot: name(), sandbox: name() },
        RestoreError::Setting { .. } =>
            RestoreError::Setting { setting: Setting::StackSize, snapshot: 1, sandbox: 2 },
        RestoreError::ForeignHypervisor { .. } => RestoreError::ForeignHypervisor { snapshot: name(), sandbox: name() },
        RestoreError::Hypervisor(_) => RestoreError::Hypervisor(refused()),
        RestoreError::Memory(_) => RestoreError::Memory(Arc::new(refusal())),
    });
    each_variant!(MemoryError {
        MemoryError::Hypervisor(_) => MemoryError::Hypervisor(refused_plainly()),
        MemoryError::Host(_) => MemoryError::Host(refusal()),
    });
    each_variant!(CheckpointError {
        CheckpointError::Hypervisor(_) => CheckpointError::Hypervisor(refused_plainly()),
        CheckpointError::Host(_) => CheckpointError::Host(refusal()),
    });
    each_variant!(RestoreMachineError {
        RestoreMachineError::Hypervisor(_) => RestoreMachineError::Hypervisor(refused_plainly()),
        RestoreMachineError::Memory(_) => RestoreMachineError::Memory(refusal()),
    });
}

#[test]
fn errors_of_a_pool_say_everything_once() {
    let unheard = || CallError::LimitsUnwatched { function: "load".to_owned(), reason: refusal() };
    each_variant!(PoolError {
        PoolError::Exhausted { .. } => PoolError::Exhausted { size: 1 },
        PoolError::TimedOut { .. } => PoolError::TimedOut { size: 1, waited: Duration::from_secs(1) },
        PoolError::Spawn(_) => PoolError::Spawn(BuildError::Hypervisor(refused())),
        PoolError::WarmUp(_) => PoolError::WarmUp(unheard()),
        PoolError::Restore(_) => PoolError::Restore(RestoreError::Hypervisor(refused())),
        PoolError::SpawnProgram(_) => PoolError::SpawnProgram(ProgramError::Hypervisor(refused())),
        PoolError::WarmUpProgram(_) => PoolError::WarmUpProgram(ProgramError::Hypervisor(refused())),
        PoolError::ResetProgram(_) => PoolError::ResetProgram(ResetError::Hypervisor(refused())),
        PoolError::Forked => PoolError::Forked,
        PoolError::NoSize => PoolError::NoSize,
        PoolError::RuntimeStopped => PoolError::RuntimeStopped,
    });
}

#[test]
fn errors_of_images_say_everything_once() {
    let (name, part) = (|| "greet".into(), ElfPart::ProgramHeaders);
    let (program, interpreter) = (|| "program".into(), || "ld.so".into());
    let reason = ampoule_vfs::Errno::ENOENT;
    each_variant!(ExecuteError {
        ExecuteError::Program { .. } => ExecuteError::Program { program: program(), reason },
        ExecuteError::Image(_) => Executable::from_bytes(b"text".as_slice()).expect_err("it is no executable").into(),
        ExecuteError::Interpreter { .. } => ExecuteError::Interpreter { program: program(), interpreter: interpreter(), reason },
        ExecuteError::ScriptInterpreter { .. } => ExecuteError::ScriptInterpreter { script: program(), interpreter: interpreter(), reason },
        ExecuteError::ScriptLine { .. } => ExecuteError::ScriptLine { script: program() },
        ExecuteError::TooManyScripts { .. } => ExecuteError::TooManyScripts { program: program(), limit: 5 },
    });
    each_variant!(ImageProblem {
        ImageProblem::Read { .. } => ImageProblem::Read { reason: refusal() },
        ImageProblem::NotAFile => ImageProblem::NotAFile,
        ImageProblem::TooLarge { .. } => ImageProblem::TooLarge { limit: 1 },
        ImageProblem::NotElf => ImageProblem::NotElf,
        ImageProblem::Truncated { .. } => ImageProblem::Truncated { part, size: 1 },
        ImageProblem::Foreign { .. } => ImageProblem::Foreign { platform: ForeignPlatform::BigEndian },
        ImageProblem::NotExecutable { .. } => ImageProblem::NotExecutable { found: NotExecutable::CoreDump },
        ImageProblem::DynamicallyLinked => ImageProblem::DynamicallyLinked,
        ImageProblem::InterpreterPath => ImageProblem::InterpreterPath,
        ImageProblem::TextRelocations => ImageProblem::TextRelocations,
        ImageProblem::ExecutableStack => ImageProblem::ExecutableStack,
        ImageProblem::EntrySize { .. } => ImageProblem::EntrySize { part, size: 1, expected: 2 },
        ImageProblem::TooManyEntries { .. } => ImageProblem::TooManyEntries { part, limit: 1 },
        ImageProblem::TwoDynamicSections => ImageProblem::TwoDynamicSections,
        ImageProblem::NoSegments => ImageProblem::NoSegments,
        ImageProblem::Segment { .. } =>
            ImageProblem::Segment { index: 1, address: 2, problem: SegmentProblem::WritableAndExecutable },
        ImageProblem::TooMuchMemory { .. } => ImageProblem::TooMuchMemory { size: 2, limit: 1 },
        ImageProblem::EntryNotExecutable { .. } => ImageProblem::EntryNotExecutable { entry: 1 },
        ImageProblem::NotAGuest => ImageProblem::NotAGuest,
        ImageProblem::NoSectionHeaders => ImageProblem::NoSectionHeaders,
        ImageProblem::TwoFunctionsSections => ImageProblem::TwoFunctionsSections,
        ImageProblem::FunctionsNotLoaded => ImageProblem::FunctionsNotLoaded,
        ImageProblem::FunctionsMisaligned { .. } => ImageProblem::FunctionsMisaligned { address: 1 },
        ImageProblem::FunctionsTooLarge { .. } => ImageProblem::FunctionsTooLarge { size: 2, limit: 1 },
        ImageProblem::TooManyFunctions { .. } => ImageProblem::TooManyFunctions { limit: 1 },
        ImageProblem::NoAbiRecord => ImageProblem::NoAbiRecord,
        ImageProblem::TwoAbiRecords => ImageProblem::TwoAbiRecords,
        ImageProblem::AbiVersion { .. } => ImageProblem::AbiVersion {
            image: AbiVersion { major: 2, minor: 0 },
            host: AbiVersion { major: 1, minor: 2 },
        },
        ImageProblem::Record { .. } => ImageProblem::Record { offset: 8, problem: RecordProblem::AbiText },
        ImageProblem::Signature { .. } => ImageProblem::Signature {
            name: name(),
            signature: "fn(".into(),
            reason: SignatureError::Unexpected { position: 1, expected: "`,`", found: REASON.to_owned() },
        },
        ImageProblem::DuplicateExport { .. } => ImageProblem::DuplicateExport { name: name() },
        ImageProblem::ConflictingImports { .. } =>
            ImageProblem::ConflictingImports { name: name(), first: signature(), second: signature() },
    });
    check(&Image::from_file("/nowhere/guest").expect_err("there is no such file"));
    each_variant!(SegmentProblem {
        SegmentProblem::OutsideFile { .. } => SegmentProblem::OutsideFile { offset: 1, size: 2 },
        SegmentProblem::LargerInFile { .. } => SegmentProblem::LargerInFile { in_file: 2, in_memory: 1 },
        SegmentProblem::OutsideUserMemory { .. } =>
            SegmentProblem::OutsideUserMemory { size: 1, lowest: 2, end: 3 },
        SegmentProblem::OffsetNotCongruent { .. } => SegmentProblem::OffsetNotCongruent { offset: 1 },
        SegmentProblem::Alignment { .. } => SegmentProblem::Alignment { alignment: 3, limit: 4 },
        SegmentProblem::WritableAndExecutable => SegmentProblem::WritableAndExecutable,
        SegmentProblem::NotAscending { .. } => SegmentProblem::NotAscending { previous_end: 1 },
        SegmentProblem::SharedPage { .. } => SegmentProblem::SharedPage { previous_end: 1 },
    });
    each_variant!(RecordProblem {
        RecordProblem::Truncated { .. } => RecordProblem::Truncated { left: 1 },
        RecordProblem::Size { .. } => RecordProblem::Size { size: 1, left: 2 },
        RecordProblem::Kind { .. } => RecordProblem::Kind { kind: 9 },
        RecordProblem::Reserved { .. } => RecordProblem::Reserved { value: 1 },
        RecordProblem::ImportValue { .. } => RecordProblem::ImportValue { value: 1 },
        RecordProblem::AbiText => RecordProblem::AbiText,
        RecordProblem::NameLength { .. } => RecordProblem::NameLength { length: 0 },
        RecordProblem::SignatureLength { .. } => RecordProblem::SignatureLength { length: 1 << 20 },
        RecordProblem::TextLength { .. } => RecordProblem::TextLength { length: 2, space: 1 },
        RecordProblem::NameEncoding => RecordProblem::NameEncoding,
        RecordProblem::NameCharacter { .. } => RecordProblem::NameCharacter { character: '\n' },
        RecordProblem::SignatureEncoding => RecordProblem::SignatureEncoding,
        RecordProblem::Padding => RecordProblem::Padding,
    });
}

#[cfg(feature = "gdb")]
#[test]
fn errors_of_debuggers_say_everything_once() {
    let address: DebuggerAddress = "tcp:1234".parse().expect("it is an address");
    check(&AddressError { text: "tcp:\n".to_owned() });
    each_variant!(ListenError {
        ListenError::Address { .. } => ListenError::Address { address: address.clone(), reason: refusal() },
        ListenError::Thread { .. } => ListenError::Thread { reason: refusal() },
    });
}

#[test]
fn errors_of_signatures_say_everything_once() {
    each_variant!(SignatureError {
        SignatureError::TooLong { .. } => SignatureError::TooLong { length: 1 << 20 },
        SignatureError::TooDeep { .. } => SignatureError::TooDeep { position: 1 },
        SignatureError::UnexpectedCharacter { .. } =>
            SignatureError::UnexpectedCharacter { position: 1, character: '\n' },
        SignatureError::Unexpected { .. } =>
            SignatureError::Unexpected { position: 1, expected: "a type", found: "(".to_owned() },
        SignatureError::UnexpectedEnd { .. } => SignatureError::UnexpectedEnd { expected: "a type" },
    });
}

fn difference() -> Difference {
    Difference { path: "Order.price".to_owned(), guest: "`u64`".to_owned(), host: "`f64`".to_owned() }
}

fn signature() -> Signature {
    "fn(u8) -> String".parse().expect("it is a signature")
}

fn refused() -> Arc<HypervisorError> {
    Arc::new(refused_plainly())
}

fn refused_plainly() -> HypervisorError {
    HypervisorError::Refused { operation: Operation::Run, reason: refusal() }
}

fn missing(setting: HostFunctionSetting, similar: Option<String>) -> BuildError {
    let (image, function, signature) = ("guest".to_owned(), "log".to_owned(), signature());
    BuildError::MissingHostFunction { image, function, signature, setting, similar }
}

fn terminated(cause: Termination, position: Option<Position>) -> CallError {
    let (function, sandbox) = ("greet".to_owned(), "guest-1".to_owned());
    CallError::Terminated { function, sandbox, cause, position, core_dump: None }
}

fn unwritten() -> CoreDumpError {
    CoreDumpError::Create { directory: "/var/crash".into(), reason: refusal() }
}

fn fault() -> Termination {
    Fault::new(FaultKind::Aborted { signal: 6 }, position()).into()
}

pub(crate) fn position() -> Position {
    let executable = image::tests::image().executable().clone();
    let entry = Entry { instruction: GuestVirt(0x40_1000), stack_pointer: GuestVirt(0x7000) };
    let registers = Context::new(entry).registers();
    let mut unreadable = |_, _: &mut [u8]| false;
    let stack = Symbols::new(executable.file(), executable.bias()).walk(
        &ampoule_symbols::Registers::default(),
        &mut unreadable,
        1,
    );
    Position::new(registers, stack, (executable, Libraries::new()))
}
