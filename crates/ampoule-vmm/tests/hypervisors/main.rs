//! What differs between hypervisors is as `docs/hypervisors.md` says.

mod behaviours;
mod guest;

use std::collections::BTreeMap;
use std::fmt::Write;

use ampoule_vmm::Hypervisor;
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::{PortAccess, SyscallRing};

use behaviours::BEHAVIOURS;

/// A hypervisor that is in no column may differ where the columns differ among themselves, and nowhere else.
#[test]
fn guests_behave_as_documented() {
    let table = table();
    let column = column();
    let (mut differences, mut observed) = (String::new(), String::new());
    for (name, observe) in BEHAVIOURS {
        let found = observe();
        let documented = match (table.get(name), column) {
            (Some(cells), Some(column)) => cells[column],
            (Some([one, other]), None) if one != other => &found,
            (Some([both, _]), None) => both,
            (None, _) => "no row",
        };
        if found != documented {
            writeln!(differences, "{name}: {found}, and documented is: {documented}").unwrap();
        }
        writeln!(observed, "| {name} | {found} |").unwrap();
    }
    println!("{}\n{observed}", column.map_or("a hypervisor that is in no column", |column| COLUMNS[column]));
    assert!(differences.is_empty(), "{differences}\ndocs/hypervisors.md would need a column with:\n{observed}");
}

/// The column of the hypervisor that this runs on, as far as two of its behaviours tell. How `kvm_amd` pages makes none of
/// its own.
fn column() -> Option<usize> {
    let kvm = Kvm::shared().expect("these tests need KVM");
    let capabilities = kvm.capabilities();
    match (capabilities.syscall, capabilities.ports) {
        (SyscallRing::Ring3, PortAccess::Bitmap) => Some(0),
        (SyscallRing::Ring0, PortAccess::BitmapOfAvailableTask) => Some(1),
        _ => None,
    }
}

#[test]
fn every_row_is_observed() {
    let mut rows: Vec<&str> = table().into_keys().collect();
    let mut observed: Vec<&str> = BEHAVIOURS.iter().map(|(name, _)| *name).collect();
    rows.sort_unstable();
    observed.sort_unstable();
    assert_eq!(rows, observed);
}

/// The cells of the table, by the first cell of their row.
fn table() -> BTreeMap<&'static str, [&'static str; COLUMNS.len()]> {
    let cells = |line: &'static str| -> Option<[&'static str; 1 + COLUMNS.len()]> {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        line.split(" | ").collect::<Vec<_>>().try_into().ok()
    };
    let mut lines = HYPERVISORS.lines().skip_while(|line| cells(line).is_none_or(|cells| cells[1..] != COLUMNS));
    assert!(lines.next().is_some(), "docs/hypervisors.md has a table with the columns {COLUMNS:?}");
    let mut rows = BTreeMap::new();
    // Behind the header, the line that ends it.
    for [name, first, second] in
        lines.skip(1).take_while(|line| line.starts_with('|')).map(|line| cells(line).expect(line))
    {
        assert!(rows.insert(name, [first, second]).is_none(), "`{name}` is there twice");
    }
    rows
}

const COLUMNS: [&str; 2] = ["software KVM", "KVM on emulated SVM"];

const HYPERVISORS: &str = include_str!("../../../../docs/hypervisors.md");
