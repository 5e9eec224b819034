//! Sandboxes and snapshots, each beside what it should be.

use std::collections::BTreeMap;
use std::time::Duration;

use ampoule::{Call, CallError, Captured, Output, RestoreError, Sandbox, Snapshot, SnapshotError};
use ampoule_tests::{tenant_builder, tenant_spawn};
use proptest::sample::Index;
use serde::Deserialize;

use crate::step::{Change, End, Step};

/// All sandboxes and snapshots.
pub(crate) struct World {
    sandboxes: Vec<Modelled>,
    snapshots: Vec<(Snapshot, Observation)>,
    /// A snapshot of a sandbox with other settings.
    foreign: Snapshot,
}

/// A sandbox and what it should be.
struct Modelled {
    sandbox: Sandbox,
    /// What the guest should report of itself.
    guest: Observation,
    /// What it goes back to when it is reset.
    initial: Observation,
    poisoned: bool,
    /// The host's own count, which does not go back.
    ticks: u64,
    stdout: Captured,
    /// What should have been printed since that was last looked at.
    printed: String,
}

/// Everything that can be observed of a guest.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Observation {
    values: BTreeMap<u8, Vec<u64>>,
    variable: u64,
    regions: BTreeMap<u8, (bool, Vec<(u64, u64)>)>,
    heap: Vec<u64>,
    heard: Vec<u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (stdout, text) = Output::capture(usize::MAX);
        let sandbox = tenant_builder().memory_limit(MEMORY).stdout(stdout).build().unwrap();
        let foreign = tenant_builder().memory_limit(2 * MEMORY).build().unwrap().snapshot().unwrap();
        Self { sandboxes: vec![Modelled::new(sandbox, text, Observation::default())], snapshots: Vec::new(), foreign }
    }

    pub(crate) fn perform(&mut self, step: &Step) {
        match step {
            Step::Change { sandbox, change } => {
                if let Some(sandbox) = self.sandbox(sandbox) {
                    sandbox.change(change);
                }
            }
            Step::Snapshot { sandbox } => {
                let taken = self.sandbox(sandbox).and_then(Modelled::snapshot);
                if self.snapshots.len() < MOST_SNAPSHOTS {
                    self.snapshots.extend(taken);
                }
            }
            Step::Restore { sandbox, snapshot } => self.restore(sandbox, snapshot),
            Step::RestoreOften { sandbox, snapshot, times } => {
                for value in 0..u64::from(*times) {
                    self.restore(sandbox, snapshot);
                    if let Some(sandbox) = self.sandbox(sandbox) {
                        sandbox.change(&Change::AddToVariable { value });
                    }
                }
            }
            Step::RestoreForeign { sandbox } => {
                let foreign = self.foreign.clone();
                if let Some(sandbox) = self.sandbox(sandbox) {
                    let error = sandbox.sandbox.restore(&foreign).unwrap_err();
                    assert!(matches!(error, RestoreError::Setting { .. }), "{error}");
                }
            }
            Step::Reset { sandbox } => {
                if let Some(sandbox) = self.sandbox(sandbox) {
                    sandbox.sandbox.reset().unwrap();
                    let initial = sandbox.initial.clone();
                    sandbox.is_back_at(&initial);
                }
            }
            Step::End { sandbox, how } => {
                if let Some(sandbox) = self.sandbox(sandbox) {
                    sandbox.end(*how);
                }
            }
            Step::Spawn { snapshot } => self.spawn(snapshot),
            Step::DropSandbox { sandbox } => drop(take(&mut self.sandboxes, sandbox)),
            Step::DropSnapshot { snapshot } => drop(take(&mut self.snapshots, snapshot)),
        }
    }

    /// Compares everything that can be observed.
    pub(crate) fn compare(&mut self) {
        for sandbox in &mut self.sandboxes {
            sandbox.compare();
        }
    }

    fn restore(&mut self, sandbox: &Index, snapshot: &Index) {
        if self.sandboxes.is_empty() || self.snapshots.is_empty() {
            return;
        }
        let (snapshot, expected) = snapshot.get(&self.snapshots);
        let sandbox = sandbox.get_mut(&mut self.sandboxes);
        sandbox.sandbox.restore(snapshot).unwrap();
        sandbox.is_back_at(expected);
    }

    fn spawn(&mut self, snapshot: &Index) {
        if self.snapshots.is_empty() || self.sandboxes.len() == MOST_SANDBOXES {
            return;
        }
        let (snapshot, expected) = snapshot.get(&self.snapshots);
        let (stdout, text) = Output::capture(usize::MAX);
        let sandbox = tenant_spawn(snapshot).stdout(stdout).build().unwrap();
        self.sandboxes.push(Modelled::new(sandbox, text, expected.clone()));
    }

    fn sandbox(&mut self, index: &Index) -> Option<&mut Modelled> {
        if self.sandboxes.is_empty() { None } else { Some(index.get_mut(&mut self.sandboxes)) }
    }
}

impl Modelled {
    fn new(sandbox: Sandbox, stdout: Captured, guest: Observation) -> Self {
        let initial = guest.clone();
        Self { sandbox, guest, initial, poisoned: false, ticks: 0, stdout, printed: String::new() }
    }

    fn is_back_at(&mut self, state: &Observation) {
        self.guest.clone_from(state);
        self.poisoned = false;
    }

    fn snapshot(&mut self) -> Option<(Snapshot, Observation)> {
        match self.sandbox.snapshot() {
            Ok(snapshot) => {
                assert!(!self.poisoned);
                Some((snapshot, self.guest.clone()))
            }
            Err(error) => {
                assert!(self.poisoned && matches!(error, SnapshotError::Poisoned { .. }), "{error}");
                None
            }
        }
    }

    fn change(&mut self, change: &Change) {
        if self.poisoned {
            return;
        }
        let Self { sandbox, guest, .. } = self;
        match change {
            Change::SetValue { key, words, value } => {
                sandbox.call::<()>("set_value", (*key, *words, *value)).unwrap();
                guest.values.insert(*key, vec![*value; *words as usize]);
            }
            Change::RemoveValue { key } => {
                sandbox.call::<()>("remove_value", (*key,)).unwrap();
                guest.values.remove(key);
            }
            Change::AddToVariable { value } => {
                sandbox.call::<()>("add_to_variable", (*value,)).unwrap();
                guest.variable = guest.variable.wrapping_add(*value);
            }
            Change::MapRegion { slot, pages, value } => {
                sandbox.call::<()>("map_region", (*slot, *pages, *value)).unwrap();
                guest.regions.insert(*slot, (true, vec![(*value, *value); *pages as usize]));
            }
            Change::UnmapRegion { slot } => {
                sandbox.call::<()>("unmap_region", (*slot,)).unwrap();
                guest.regions.remove(slot);
            }
            Change::ProtectRegion { slot, writable } => {
                sandbox.call::<()>("protect_region", (*slot, *writable)).unwrap();
                if let Some(region) = guest.regions.get_mut(slot) {
                    region.0 = *writable;
                }
            }
            Change::WriteRegion { slot, page, value } => {
                sandbox.call::<()>("write_region", (*slot, *page, *value)).unwrap();
                if let Some((true, pages)) = guest.regions.get_mut(slot) {
                    let page = *page as usize % pages.len();
                    pages[page] = (*value, *value);
                }
            }
            Change::GrowHeap { pages, value } => {
                sandbox.call::<()>("grow_heap", (*pages, *value)).unwrap();
                guest.heap.extend(vec![*value; *pages as usize]);
            }
            Change::AskHost { step } => {
                self.ticks += step;
                assert_eq!(sandbox.call::<u64>("ask_host", (*step,)).unwrap(), self.ticks);
                guest.heard.push(self.ticks);
            }
            Change::Print { text } => {
                sandbox.call::<()>("print", (text,)).unwrap();
                self.printed.push_str(text);
            }
            Change::Panic => {
                let error = sandbox.call::<()>("panic", ("on purpose",)).unwrap_err();
                assert!(matches!(error, CallError::Panicked { .. }), "{error}");
            }
        }
    }

    fn end(&mut self, how: End) {
        if self.poisoned {
            return;
        }
        let Self { sandbox, guest, .. } = self;
        let ended = match how {
            End::Fault => sandbox.call::<()>("fault", ()),
            End::Deadline => sandbox.call_with(Call::new("spin", ()).deadline(Duration::from_millis(2))),
            End::WriteProtected { slot } if guest.regions.get(&slot).is_some_and(|(writable, _)| !writable) => {
                sandbox.call("force_region", (slot, 0u32, 1u64))
            }
            End::Exit | End::WriteProtected { .. } => sandbox.call("exit", ()),
            End::ChangeAndFault { value } => {
                self.ticks += 1;
                sandbox.call("change_and_fault", (value,))
            }
        };
        let error = ended.unwrap_err();
        assert!(matches!(error, CallError::Terminated { .. }), "{error}");
        self.poisoned = true;
    }

    fn compare(&mut self) {
        assert_eq!(self.stdout.take_string(), std::mem::take(&mut self.printed));
        match self.sandbox.call::<Observation>("observe", ()) {
            Ok(observed) => {
                assert!(!self.poisoned);
                assert!(
                    observed == self.guest,
                    "the guest is not as it should be: {}",
                    self.guest.difference(&observed)
                );
            }
            Err(error) => assert!(self.poisoned && matches!(error, CallError::Poisoned { .. }), "{error}"),
        }
    }
}

impl Observation {
    /// What is not as it should be, in a few words.
    fn difference(&self, observed: &Self) -> String {
        let regions: Vec<_> =
            self.regions.keys().filter(|slot| self.regions.get(slot) != observed.regions.get(slot)).collect();
        let values: Vec<_> =
            self.values.keys().filter(|key| self.values.get(key) != observed.values.get(key)).collect();
        format!(
            "regions {regions:?}, values {values:?}, heap {:?} {:?}, variable {} {}, heard {:?} {:?}",
            self.heap, observed.heap, self.variable, observed.variable, self.heard, observed.heard
        )
    }
}

fn take<T>(from: &mut Vec<T>, index: &Index) -> Option<T> {
    if from.is_empty() { None } else { Some(from.swap_remove(index.index(from.len()))) }
}

const MEMORY: usize = 32 << 20;
const MOST_SANDBOXES: usize = 4;
const MOST_SNAPSHOTS: usize = 8;
