//! Sandboxes and snapshots of one image.

use std::rc::Rc;
use std::time::Duration;

use ampoule::{Output, SaveOptions, SnapshotFile};
use ampoule_memory_model::{Model, Random};
use ampoule_tests::memory_builder;
use tempfile::TempDir;

use crate::step::{Kind, Step};
use crate::tenant::{Difference, Kept, Tenant};

/// All sandboxes and snapshots.
pub(crate) struct World {
    sandboxes: Vec<Tenant>,
    snapshots: Vec<Rc<Kept>>,
    /// Where snapshots are stored, and how many were.
    directory: TempDir,
    stored: usize,
}

impl World {
    pub(crate) fn new() -> Self {
        let (stdout, shown) = Output::capture(usize::MAX);
        let sandbox = memory_builder().memory_limit(MEMORY).stdout(stdout).build();
        let sandbox = sandbox.unwrap_or_else(|error| panic!("the tests need a working hypervisor: {error}"));
        let directory = tempfile::tempdir().expect("a directory");
        let sandboxes = vec![Tenant::new(sandbox, shown, Model::new())];
        Self { sandboxes, snapshots: Vec::new(), directory, stored: 0 }
    }

    pub(crate) fn perform(&mut self, step: Step) -> Result<(), Difference> {
        let Step { kind, seed, .. } = step;
        let mut random = Random::new(seed);
        let snapshot = chosen(&self.snapshots, step.snapshot).cloned();
        let index = step.sandbox % self.sandboxes.len();
        let sandbox = &mut self.sandboxes[index];
        match kind {
            Kind::Run { operations } => sandbox.run(seed, operations),
            Kind::Kill { operations, microseconds } => {
                let ended = sandbox.run_for(seed, operations, Duration::from_micros(microseconds))?;
                match snapshot.filter(|_| random.percent(50)) {
                    Some(snapshot) => sandbox.restore(&snapshot),
                    None if ended && random.percent(30) => sandbox.reset(),
                    None => sandbox.go_back(),
                }
            }
            Kind::Snapshot => {
                let kept = sandbox.snapshot()?;
                if self.snapshots.len() < MOST_SNAPSHOTS {
                    self.snapshots.push(kept);
                }
                Ok(())
            }
            Kind::GoBack => sandbox.go_back(),
            Kind::GoBackOften { times } => {
                for _ in 0..times {
                    sandbox.run(random.next(), 2)?;
                    sandbox.go_back()?;
                }
                Ok(())
            }
            Kind::Restore => snapshot.map_or(Ok(()), |snapshot| sandbox.restore(&snapshot)),
            Kind::Reset => sandbox.reset(),
            Kind::Probe { times } => sandbox.probe(&mut random, times),
            Kind::UseHost { times } => sandbox.use_host(&mut random, times),
            Kind::Spawn => snapshot.map_or(Ok(()), |snapshot| self.spawn(&snapshot)),
            Kind::Store => snapshot.map_or(Ok(()), |snapshot| self.store(&snapshot, &mut random)),
            Kind::DropSandbox => {
                if self.sandboxes.len() > 1 {
                    self.sandboxes.swap_remove(index);
                }
                Ok(())
            }
            Kind::DropSnapshot => {
                if !self.snapshots.is_empty() {
                    self.snapshots.swap_remove(step.snapshot % self.snapshots.len());
                }
                Ok(())
            }
        }
    }

    fn spawn(&mut self, kept: &Kept) -> Result<(), Difference> {
        if self.sandboxes.len() == MOST_SANDBOXES {
            return Ok(());
        }
        let (stdout, shown) = Output::capture(usize::MAX);
        let spawned = kept.snapshot.builder().stdout(stdout).stderr(Output::discard()).build();
        let spawned = spawned.map_err(|error| format!("no sandbox of the snapshot: {error}"))?;
        let mut spawned = Tenant::new(spawned, shown, kept.model.clone());
        spawned.verify()?;
        self.sandboxes.push(spawned);
        Ok(())
    }
}

impl World {
    /// Saves a snapshot, whole or as a difference from one that was saved before, and loads it, copied or mapped.
    fn store(&mut self, kept: &Kept, random: &mut Random) -> Result<(), Difference> {
        let file = |number: usize| self.directory.path().join(format!("{number}.snap"));
        let mut options = SaveOptions::new();
        if self.stored > 0 && random.percent(50) {
            options = options.parent(file(random.below(self.stored)));
        }
        if random.percent(20) {
            options = options.compressed();
        }
        let path = file(self.stored);
        kept.snapshot.save_with(&path, &options).map_err(|error| format!("no file: {error}"))?;
        self.stored += 1;
        let stored = SnapshotFile::new(path);
        let stored = if random.percent(50) { stored.mapped() } else { stored };
        let snapshot = stored.snapshot().map_err(|error| format!("no snapshot of the file: {error}"))?;
        let loaded = Rc::new(Kept { snapshot, model: kept.model.clone() });
        if self.snapshots.len() == MOST_SNAPSHOTS {
            self.snapshots.swap_remove(random.below(MOST_SNAPSHOTS));
        }
        self.snapshots.push(Rc::clone(&loaded));
        if self.sandboxes.len() == MOST_SANDBOXES {
            self.sandboxes.swap_remove(random.below(MOST_SANDBOXES));
        }
        self.spawn(&loaded)
    }
}

fn chosen<T>(of: &[T], number: usize) -> Option<&T> {
    of.get(number.checked_rem(of.len())?)
}

/// A guest's memory: enough for the largest mapping that the model makes.
pub(crate) const MEMORY: usize = 320 << 20;

const MOST_SANDBOXES: usize = 4;
const MOST_SNAPSHOTS: usize = 6;
