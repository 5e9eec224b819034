//! Registers.

use std::ops::Range;

use ampoule::{Call, CallError, FaultKind, Sandbox, Termination};
use ampoule_tests::tenant_sandbox;
use ampoule_vmm::Hypervisor;
use ampoule_vmm::kvm::Kvm;

use crate::{WAYS_TO_THE_NEXT, end};

/// What a tenant does with its values in all registers.
const WAYS_TO_LEAVE: [fn(&mut Sandbox, u8); 3] = [
    |tenant, level| drop(exchange(tenant, SECRET, level)),
    |tenant, level| end(tenant.call::<Vec<u64>>("exchange_registers", (SECRET, level | FAULT))),
    |tenant, level| {
        let spins = Call::new("exchange_registers", (SECRET, level | SPIN));
        end(tenant.call_with::<Vec<u64>, _>(spins.deadline(std::time::Duration::from_millis(30))));
    },
];

#[test]
fn registers_are_those_of_the_snapshot() {
    let level = vector_registers();
    let mut tenant = tenant_sandbox();
    exchange(&mut tenant, OWN, level);
    let snapshot = tenant.snapshot().unwrap();
    let kept = exchange(&mut tenant, SECRET, level);
    let secret = exchange(&mut tenant, OWN, level);
    assert_all_differ(&kept, &secret, level);
    for (leave, way_to_leave) in WAYS_TO_LEAVE.iter().enumerate() {
        for (go_on, way_to_next) in WAYS_TO_THE_NEXT.iter().enumerate() {
            way_to_leave(&mut tenant, level);
            way_to_next(&mut tenant, &snapshot);
            let found = exchange(&mut tenant, OWN, level);
            assert_own(&found, &kept, &format!("way {leave} to leave, way {go_on} to go on"));
        }
    }
}

#[test]
fn each_of_two_snapshots_has_its_registers() {
    let level = vector_registers();
    let mut tenant = tenant_sandbox();
    exchange(&mut tenant, OWN, level);
    let own = tenant.snapshot().unwrap();
    let kept = exchange(&mut tenant, SECRET, level);
    let with_secret = tenant.snapshot().unwrap();
    let secret = exchange(&mut tenant, OWN, level);
    for _ in 0..2 {
        tenant.restore(&own).unwrap();
        assert_own(&exchange(&mut tenant, SECRET, level), &kept, "back to the first");
        tenant.restore(&with_secret).unwrap();
        assert_own(&exchange(&mut tenant, OWN, level), &secret, "on to the second");
        tenant.restore(&with_secret).unwrap();
        tenant.restore(&own).unwrap();
    }
}

/// All registers hold something else.
fn assert_all_differ(one: &[u64], other: &[u64], level: u8) {
    for (name, range, needed) in GROUPS {
        if level >= needed {
            assert!(one[range.clone()].iter().zip(&other[range]).all(|(one, other)| one != other), "{name}");
        }
    }
}

/// The registers are as they were when the snapshot was taken. Those that the processor does not announce, and segment
/// selectors, may also be as in a new guest.
fn assert_own(found: &[u64], kept: &[u64], when: &str) {
    for (name, range, needed) in GROUPS {
        for index in range {
            let (found, kept) = (found[index], kept[index]);
            let initial = match name {
                // Where the hypervisor does not see them, only FSGSBASE can load these two without losing their bases.
                SELECTORS if [FS, GS].contains(&index) && !sets_bases() => continue,
                SELECTORS => USER_DATA,
                _ if needed == AVX512 => 0,
                _ => kept,
            };
            assert!(found == kept || found == initial, "{name}, word {index}, {when}: {found:#x}, {kept:#x}");
        }
    }
}

fn exchange(tenant: &mut Sandbox, value: u64, level: u8) -> Vec<u64> {
    tenant.call("exchange_registers", (value, level)).unwrap()
}

fn sets_bases() -> bool {
    Kvm::shared().unwrap().capabilities().base_instructions
}

/// Which vector registers the processor has, announced or not.
fn vector_registers() -> u8 {
    let has = |level: &u8| match tenant_sandbox().call::<()>("probe", (*level,)) {
        Ok(()) => true,
        Err(CallError::Terminated { cause: Termination::Fault(fault), .. }) => {
            assert!(matches!(fault.kind(), FaultKind::Exception { vector: INVALID_OPCODE, .. }), "{fault}");
            false
        }
        Err(error) => panic!("{error}"),
    };
    let level = [AVX512, AVX, 0].into_iter().find(has).unwrap();
    println!("vector registers of level {level}");
    level
}

/// Words that the guest stores, by what they hold and what level that takes.
const GROUPS: [(&str, Range<usize>, u8); 9] = [
    ("general registers and flags", 0..16, 0),
    (SELECTORS, 16..20, 0),
    ("segment bases", 20..22, 0),
    ("x87 control", 24..25, 0),
    ("x87 stack", 28..44, 0),
    ("vector registers", 44..76, 0),
    ("vector registers of 256 bits", 88..152, AVX),
    ("vector registers of 512 bits", 152..408, AVX512),
    ("mask registers", 408..416, AVX512),
];

const SELECTORS: &str = "segment selectors";
const FS: usize = 18;
const GS: usize = 19;

/// What segment registers select in a new guest.
const USER_DATA: u64 = 0x2b;

const AVX: u8 = 1;
const AVX512: u8 = 2;
const FAULT: u8 = 4;
const SPIN: u8 = 8;

/// One is odd and the other even, which makes the guest put different values into control registers.
const OWN: u64 = 0x1357_9bdf_0246_8ace;
const SECRET: u64 = 0x5ec2_e75e_c2e7_1d0b;

/// The processor's vector for an instruction that it does not know.
const INVALID_OPCODE: u8 = 6;
