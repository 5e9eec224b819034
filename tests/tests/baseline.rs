//! A guest that is limited to a baseline finds that of the processor, and so do those that continue from it.
//!
//! Some hypervisors cannot hide anything: they let `cpuid` go to the processor. There the tests make sure that this is so.

use std::path::Path;
use std::sync::Arc;

use ampoule::{
    Baseline, BaselineError, BuildError, Executable, LoadSnapshotError, Program, ProgramError, RestoreError, Sandbox,
    Snapshot, SnapshotFile,
};
use ampoule_tests::native::Native;
use ampoule_tests::{calls_builder, calls_spawn};
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::{Hypervisor, HypervisorError, Vm};

const PROGRAM: &[u8] = include_bytes!(env!("PROCESSOR"));

/// Leaf, subleaf, register and bit of some features (AMD64 Architecture Programmer's Manual, volume 3, appendix E).
const FEATURES: [(&str, &str, &str, usize, u32); 14] = [
    ("pni", "1", "0", 2, 0),
    ("ssse3", "1", "0", 2, 9),
    ("fma", "1", "0", 2, 12),
    ("sse4_2", "1", "0", 2, 20),
    ("popcnt", "1", "0", 2, 23),
    ("aes", "1", "0", 2, 25),
    ("xsave", "1", "0", 2, 26),
    ("avx", "1", "0", 2, 28),
    ("rdrand", "1", "0", 2, 30),
    ("fsgsbase", "7", "0", 1, 0),
    ("avx2", "7", "0", 1, 5),
    ("bmi2", "7", "0", 1, 8),
    ("lahf_lm", "80000001", "0", 2, 0),
    ("abm", "80000001", "0", 2, 5),
];

fn baseline(text: &str) -> Baseline {
    text.parse().unwrap()
}

fn arguments() -> Vec<&'static str> {
    FEATURES.iter().flat_map(|(_, leaf, subleaf, ..)| [*leaf, *subleaf]).collect()
}

/// Which of the [`FEATURES`] a program has found.
fn found(output: &[u8]) -> Vec<&'static str> {
    let lines = str::from_utf8(output).unwrap().lines();
    let registers =
        lines.map(|line| line.split(' ').map(|hex| u32::from_str_radix(hex, 16).unwrap()).collect::<Vec<_>>());
    let of_each = FEATURES.into_iter().zip(registers);
    of_each
        .filter(|((.., register, bit), found)| found[*register] >> bit & 1 != 0)
        .map(|((name, ..), _)| name)
        .collect()
}

fn program(arguments: &[&str]) -> Program {
    Program::of(&Executable::from_bytes(PROGRAM).unwrap()).args(arguments.iter().copied())
}

fn natively() -> Vec<&'static str> {
    found(&Native::new(PROGRAM).command().args(arguments()).output().unwrap().stdout)
}

#[test]
fn a_guest_finds_its_baseline_and_no_more() {
    for (text, has_avx) in [("x86-64-v1", false), ("x86-64-v2", false), ("x86-64-v2+aes", false), ("x86-64-v3", true)] {
        let baseline = baseline(text);
        match program(&arguments()).baseline(baseline).run() {
            Ok(output) => {
                let has = |name: &&str| baseline.features().contains(name);
                let expected: Vec<_> = FEATURES.iter().map(|(name, ..)| *name).filter(has).collect();
                assert_eq!(found(&output.stdout), expected, "{text}");
                let output = program(&["avx"]).baseline(baseline).run().unwrap();
                assert_eq!(output.stdout == b"AVX\n", has_avx, "{text}");
            }
            Err(ProgramError::Baseline(BaselineError::NotHidden { features, .. })) => {
                let seen = found(&program(&arguments()).run().unwrap().stdout);
                assert_eq!(seen, natively(), "the processor itself answers");
                assert!(seen.iter().filter(|name| !baseline.features().contains(name)).all(|it| features.contains(it)));
            }
            Err(other) => panic!("{text}: {other}"),
        }
    }
}

#[test]
fn a_baseline_that_the_processor_does_not_have_is_refused() {
    // One vendor has the one, the other one the other.
    let error = calls_builder().baseline(baseline("x86-64-v1+tbm+waitpkg")).build().unwrap_err();
    let BuildError::Baseline(BaselineError::Missing { features, .. }) = error else { panic!("{error}") };
    assert!(features.contains(&"tbm") || features.contains(&"waitpkg"));
}

/// KVM, which says that guests find no more than a baseline.
struct Limited {
    capabilities: Capabilities,
    kvm: Arc<Kvm>,
}

impl Limited {
    fn to(baseline: Baseline) -> Arc<Self> {
        let kvm = Kvm::shared().unwrap();
        let mut capabilities = *kvm.capabilities();
        capabilities.baseline = Some(baseline);
        Arc::new(Self { capabilities, kvm })
    }
}

impl Hypervisor for Limited {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        self.kvm.create_vm()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

#[test]
fn a_stored_snapshot_needs_no_more_than_its_baseline_and_is_limited_to_it_where_that_can_be() {
    let baseline = baseline("x86-64-v3+fsgsbase");
    let (prepared, is_hidden) = match calls_builder().baseline(baseline).build() {
        Ok(sandbox) => (sandbox, true),
        Err(BuildError::Baseline(BaselineError::NotHidden { .. })) => {
            (calls_builder().hypervisor(Limited::to(baseline)).build().unwrap(), false)
        }
        Err(other) => panic!("{other}"),
    };
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    saved(prepared, &first);
    let info = SnapshotFile::new(&first).info().unwrap();
    assert_eq!(
        (info.baseline, info.features),
        (Some(baseline), baseline.features().into_iter().map(String::from).collect())
    );

    let snapshot = Snapshot::load(&first).unwrap();
    let mut spawned = calls_spawn(snapshot.builder()).build().unwrap();
    assert_eq!(spawned.call::<u32>("increment", ()).unwrap(), 101);
    // Where nothing is hidden it may have found everything meanwhile.
    saved(spawned, &second);
    let info = SnapshotFile::new(&second).info().unwrap();
    assert_eq!(info.baseline, is_hidden.then_some(baseline));
    assert_eq!(info.features.len() > baseline.features().len(), !is_hidden);
}

#[test]
fn a_guest_that_may_have_found_more_does_not_continue_within_a_baseline() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.snap");
    saved(calls_builder().build().unwrap(), &path);
    let limited = || SnapshotFile::new(&path).hypervisor(Limited::to(baseline("x86-64-v1")));
    let error = limited().snapshot().unwrap_err();
    let LoadSnapshotError::Processor { missing, .. } = error else { panic!("{error}") };
    assert!(missing.contains(&"sse4_2".to_owned()), "{missing:?}");
    limited().any_processor().snapshot().unwrap();
}

#[test]
fn a_snapshot_does_not_go_back_into_a_sandbox_with_another_baseline() {
    let [mut one, mut other] = ["x86-64-v3", "x86-64-v3+aes"]
        .map(|text| calls_builder().hypervisor(Limited::to(baseline(text))).build().unwrap());
    let snapshot = one.snapshot().unwrap();
    let error = other.restore(&snapshot).unwrap_err();
    let RestoreError::ForeignHypervisor { snapshot, sandbox } = error else { panic!("{error}") };
    assert!(snapshot.ends_with("; no more than x86-64-v3") && sandbox.ends_with("; no more than x86-64-v3+aes"));
}

fn saved(mut sandbox: Sandbox, path: &Path) {
    sandbox.snapshot().unwrap().save(path).unwrap();
}
