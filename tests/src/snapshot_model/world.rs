//! Sandboxes and snapshots, each beside what it should be.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use ampoule::{
    Arguments, Call, CallError, Captured, KillOutcome, Output, RestoreError, Sandbox, Snapshot, SnapshotError,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Change, End, Step};
use crate::{built, tenant_builder, tenant_spawn};

/// All there is: sandboxes and snapshots, each beside what it should be.
pub struct World {
    sandboxes: Vec<Modelled>,
    snapshots: Vec<(Snapshot, Observation)>,
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
    /// One sandbox, and no snapshot.
    ///
    /// # Panics
    /// Where it cannot be built, for example because there is no `/dev/kvm`.
    pub fn new() -> Self {
        let (stdout, text) = Output::capture(usize::MAX);
        let sandbox = built(tenant_builder().memory_limit(MEMORY).stdout(stdout));
        Self { sandboxes: vec![Modelled::new(sandbox, text, Observation::default())], snapshots: Vec::new() }
    }

    /// Has a step happen, and to the model what should come of it.
    ///
    /// # Panics
    /// Where something else comes of it.
    pub fn perform(&mut self, step: &Step) {
        match *step {
            Step::Change { sandbox, ref change } => {
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
                for value in 0..u64::from(times) {
                    self.restore(sandbox, snapshot);
                    if let Some(sandbox) = self.sandbox(sandbox) {
                        sandbox.change(&Change::AddToVariable { value });
                    }
                }
            }
            Step::RestoreForeign { sandbox } => {
                if let Some(sandbox) = self.sandbox(sandbox) {
                    let error = sandbox.sandbox.restore(&foreign()).expect_err("it has other settings");
                    assert!(matches!(error, RestoreError::Setting { .. }), "{error}");
                }
            }
            Step::Reset { sandbox } => {
                if let Some(sandbox) = self.sandbox(sandbox) {
                    sandbox.sandbox.reset().expect("a reset is always possible");
                    let initial = sandbox.initial.clone();
                    sandbox.is_back_at(&initial);
                }
            }
            Step::End { sandbox, how } => {
                if let Some(sandbox) = self.sandbox(sandbox) {
                    sandbox.end(how);
                }
            }
            Step::Spawn { snapshot } => self.spawn(snapshot),
            Step::DropSandbox { sandbox } => drop(take(&mut self.sandboxes, sandbox)),
            Step::DropSnapshot { snapshot } => drop(take(&mut self.snapshots, snapshot)),
        }
    }

    /// Compares all that can be observed.
    ///
    /// # Panics
    /// When it is not what it should be.
    pub fn compare(&mut self) {
        for sandbox in &mut self.sandboxes {
            sandbox.compare();
        }
    }

    fn restore(&mut self, sandbox: usize, snapshot: usize) {
        let (sandbox, snapshot) = (chosen(&self.sandboxes, sandbox), chosen(&self.snapshots, snapshot));
        if let (Some(sandbox), Some(snapshot)) = (sandbox, snapshot) {
            let (sandbox, (snapshot, expected)) = (&mut self.sandboxes[sandbox], &self.snapshots[snapshot]);
            sandbox.sandbox.restore(snapshot).expect("it is of the same lineage");
            sandbox.is_back_at(expected);
        }
    }

    fn spawn(&mut self, snapshot: usize) {
        if let Some(snapshot) = chosen(&self.snapshots, snapshot).filter(|_| self.sandboxes.len() < MOST_SANDBOXES) {
            let (snapshot, expected) = &self.snapshots[snapshot];
            let (stdout, text) = Output::capture(usize::MAX);
            let sandbox = tenant_spawn(snapshot).stdout(stdout).build().expect("there is room for another sandbox");
            self.sandboxes.push(Modelled::new(sandbox, text, expected.clone()));
        }
    }

    fn sandbox(&mut self, number: usize) -> Option<&mut Modelled> {
        chosen(&self.sandboxes, number).map(|index| &mut self.sandboxes[index])
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
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
                call::<()>(sandbox, "set_value", (*key, *words, *value));
                guest.values.insert(*key, vec![*value; *words as usize]);
            }
            Change::RemoveValue { key } => {
                call::<()>(sandbox, "remove_value", (*key,));
                guest.values.remove(key);
            }
            Change::AddToVariable { value } => {
                call::<()>(sandbox, "add_to_variable", (*value,));
                guest.variable = guest.variable.wrapping_add(*value);
            }
            Change::MapRegion { slot, pages, value } => {
                call::<()>(sandbox, "map_region", (*slot, *pages, *value));
                guest.regions.insert(*slot, (true, vec![(*value, *value); *pages as usize]));
            }
            Change::UnmapRegion { slot } => {
                call::<()>(sandbox, "unmap_region", (*slot,));
                guest.regions.remove(slot);
            }
            Change::ProtectRegion { slot, writable } => {
                call::<()>(sandbox, "protect_region", (*slot, *writable));
                if let Some(region) = guest.regions.get_mut(slot) {
                    region.0 = *writable;
                }
            }
            Change::WriteRegion { slot, page, value } => {
                call::<()>(sandbox, "write_region", (*slot, *page, *value));
                if let Some((true, pages)) = guest.regions.get_mut(slot) {
                    let page = *page as usize % pages.len();
                    pages[page] = (*value, *value);
                }
            }
            Change::GrowHeap { pages, value } => {
                call::<()>(sandbox, "grow_heap", (*pages, *value));
                guest.heap.extend(vec![*value; *pages as usize]);
            }
            Change::AskHost { step } => {
                self.ticks += step;
                assert_eq!(call::<u64>(sandbox, "ask_host", (*step,)), self.ticks);
                guest.heard.push(self.ticks);
            }
            Change::Print { text } => {
                call::<()>(sandbox, "print", (text,));
                self.printed.push_str(text);
            }
            Change::Panic => {
                let error = sandbox.call::<()>("panic", ("on purpose",)).expect_err("it panics");
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
            End::Kill => spin_until_killed(sandbox),
            End::WriteProtected { slot } if guest.regions.get(&slot).is_some_and(|(writable, _)| !writable) => {
                sandbox.call("force_region", (slot, 0u32, 1u64))
            }
            End::Exit | End::WriteProtected { .. } => sandbox.call("exit", ()),
            End::ChangeAndFault { value } => {
                self.ticks += 1;
                sandbox.call("change_and_fault", (value,))
            }
        };
        let error = ended.expect_err("the guest ends");
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

/// Calls a function that does what it should.
fn call<R: DeserializeOwned>(sandbox: &mut Sandbox, function: &str, arguments: impl Arguments) -> R {
    sandbox.call(function, arguments).unwrap_or_else(|error| panic!("{function}: {error}"))
}

/// Kills the call of `spin` that comes next.
fn spin_until_killed(sandbox: &mut Sandbox) -> Result<(), CallError> {
    let handle = sandbox.interrupt_handle();
    thread::scope(|scope| {
        scope.spawn(|| while handle.kill() != KillOutcome::Killed {});
        sandbox.call("spin", ())
    })
}

/// A snapshot of a sandbox with other settings.
fn foreign() -> Snapshot {
    static FOREIGN: LazyLock<Snapshot> = LazyLock::new(|| {
        built(tenant_builder().memory_limit(2 * MEMORY)).snapshot().expect("a sandbox that waits can be kept")
    });
    FOREIGN.clone()
}

/// Which one a number means, if there is any.
fn chosen<T>(of: &[T], number: usize) -> Option<usize> {
    number.checked_rem(of.len())
}

fn take<T>(from: &mut Vec<T>, number: usize) -> Option<T> {
    chosen(from, number).map(|index| from.swap_remove(index))
}

const MEMORY: usize = 32 << 20;
const MOST_SANDBOXES: usize = 4;
const MOST_SNAPSHOTS: usize = 8;
