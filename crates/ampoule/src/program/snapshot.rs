//! Snapshots of programs that wait for their input, and programs made from them.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use ampoule_vmm::{Backend, PAGE_SIZE};

use super::host_side::{HostSide, host_side_settings};
use super::process::Runner;
use super::{IdleProgram, ProgramError};
use crate::core_dump::CoreDumpError;
use crate::image::Executable;
use crate::input::Input;
use crate::limits::Limits;
use crate::machine::{Checkpoint, Machine};
use crate::metrics::{Operation, Stopwatch};
use crate::spans;
use crate::stored::{
    Guest, LoadSnapshotError, SaveOptions, SaveSnapshotError, Saved, SavedSnapshot, SnapshotFile, Stored,
};

/// What a program was while it waited for its input: to make others [from](Self::spawn), each of which waits likewise.
///
/// Clones share it. It costs the memory of the pages that the program had written, and two file descriptors.
///
/// What the program had drawn from random sources before, its copies have in common: the seeds of its hash tables, the random
/// bytes with which every process starts (`AT_RANDOM`, from which C libraries make the guards of stacks), the state of a
/// generator that was seeded early. What it asks for later (`getrandom`, `/dev/urandom`) is new in each copy and after each
/// reset. The host's clocks go on meanwhile; its processor time does not.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ampoule::{Pool, Program};
///
/// let ready = Program::new("./filter").start()?.run_until_input()?.snapshot()?;
/// let pool = Pool::new(&ready, 8)?;
///
/// let answer = pool.take()?.input("some text").run()?; // then it is reset, and ready for somebody else
/// assert!(answer.status.success());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ProgramSnapshot(Arc<State>);

struct State {
    executable: Executable,
    backend: Arc<dyn Backend>,
    limits: Limits,
    checkpoint: Checkpoint,
    /// The file that it comes from, so that all that is loaded from it shares its pages.
    _stored: Option<Arc<Stored>>,
}

impl ProgramSnapshot {
    /// Remembers what a program is that waits for its input.
    pub(super) fn take(runner: &mut Runner) -> Result<Self, ProgramError> {
        let Runner { machine, executable, backend, limits, .. } = runner;
        let span = spans::snapshot(machine.origin()).entered();
        let snapshot = Stopwatch::start();
        let checkpoint = snapshot.ended(Operation::Snapshot, machine.checkpoint(0..0)).map_err(ProgramError::from);
        spans::failed(&span, &checkpoint);
        let checkpoint = checkpoint?;
        span.record("stored_pages", checkpoint.stored_pages());
        let (executable, backend) = (executable.clone(), Arc::clone(backend));
        Ok(Self(Arc::new(State { executable, backend, limits: *limits, checkpoint, _stored: None })))
    }

    /// A snapshot that was loaded from a file.
    pub(crate) fn of_stored(
        executable: Executable,
        backend: Arc<dyn Backend>,
        limits: Limits,
        checkpoint: Checkpoint,
        stored: Arc<Stored>,
    ) -> Self {
        Self(Arc::new(State { executable, backend, limits, checkpoint, _stored: Some(stored) }))
    }

    /// Saves the snapshot, with the program, in a file that [`SnapshotFile::program`] makes it from again; like
    /// [`Snapshot::save`](crate::Snapshot::save). The files that the program was granted are not in it: it finds those that
    /// it is granted again.
    ///
    /// # Errors
    /// A [`SaveSnapshotError`]; no file is left behind.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<SavedSnapshot, SaveSnapshotError> {
        self.save_with(path, &SaveOptions::new())
    }

    /// The same with options: compressed, or as a difference from another snapshot.
    ///
    /// # Errors
    /// As for [`save`](Self::save).
    pub fn save_with(&self, path: impl AsRef<Path>, options: &SaveOptions) -> Result<SavedSnapshot, SaveSnapshotError> {
        let State { executable, limits, checkpoint, backend, .. } = &*self.0;
        let guest = checkpoint.record().map(Guest::program);
        let behaviour = backend.behaviour();
        Saved { guest, executable, limits: *limits, machine: checkpoint, behaviour }.save(path.as_ref(), options)
    }

    /// The snapshot that was [saved](Self::save) in a file, of a program that needs no files. [`SnapshotFile`] has settings for
    /// others.
    ///
    /// # Errors
    /// A [`LoadSnapshotError`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadSnapshotError> {
        SnapshotFile::new(path.as_ref()).program()
    }

    /// A new program in the state of the snapshot. It shares all pages with the snapshot, and with the other programs that come
    /// from it, until it writes them. Its output is part of [what it has done](crate::ProgramOutput).
    ///
    /// # Errors
    /// A [`ProgramError`].
    pub fn spawn(&self) -> Result<IdleProgram, ProgramError> {
        self.builder().build()
    }

    /// Settings of a new program in the state of the snapshot.
    pub fn builder(&self) -> ProgramSpawn {
        ProgramSpawn { snapshot: self.clone(), host: HostSide::new(self.0.limits) }
    }

    /// Bytes of the program's memory that the snapshot holds, alone or together with the snapshots before it.
    pub fn stored_bytes(&self) -> u64 {
        (self.0.checkpoint.stored_pages() * PAGE_SIZE) as u64
    }

    /// Writes a core dump of the program as it was when the snapshot was taken; see
    /// [`Sandbox::core_dump`](crate::Sandbox::core_dump).
    ///
    /// # Errors
    /// [`CoreDumpError::Write`].
    pub fn core_dump(&self, mut sink: impl Write) -> Result<(), CoreDumpError> {
        self.0.checkpoint.core_dump(&self.0.executable, &mut sink).map(drop)
    }

    /// The name of the program's executable.
    pub(crate) fn executable_name(&self) -> &str {
        self.0.executable.name()
    }

    /// Whether it is this very snapshot.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.0.checkpoint
    }
}

impl fmt::Debug for ProgramSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramSnapshot")
            .field("executable", &self.executable_name())
            .field("stored_bytes", &self.stored_bytes())
            .finish_non_exhaustive()
    }
}

/// Settings of a new program that is made from a [`ProgramSnapshot`]; made by [`ProgramSnapshot::builder`].
///
/// Memory, arguments, environment and clock are the snapshot's. Outputs, limits and what looks at the program are its own.
#[must_use = "a program is made only when `build` is called"]
pub struct ProgramSpawn {
    snapshot: ProgramSnapshot,
    host: HostSide,
}

impl ProgramSpawn {
    host_side_settings! {
        /// Limits of every run. Where these set none, those of the snapshot's program apply.
        limits,
        /// Samples the program's first run so often; see [`IdleProgram::profile`] for others.
        profile,
    }

    /// Makes the program. It does not run.
    ///
    /// # Errors
    /// A [`ProgramError`].
    pub fn build(self) -> Result<IdleProgram, ProgramError> {
        let span = spans::spawn(self.snapshot.executable_name()).entered();
        let spawn = Stopwatch::start();
        let spawned = spawn.ended(Operation::Spawn, self.make());
        spans::failed(&span, &spawned);
        spawned
    }

    fn make(self) -> Result<IdleProgram, ProgramError> {
        let Self { snapshot, host } = self;
        let State { executable, backend, checkpoint, .. } = &*snapshot.0;
        let (streams, host) = host.open(executable, Input::later());
        let machine = Machine::of_checkpoint(&**backend, executable, checkpoint, streams)?;
        let runner = Runner::new(machine, executable.clone(), Arc::clone(backend), host)?;
        Ok(IdleProgram::of_snapshot(runner, snapshot))
    }
}

impl fmt::Debug for ProgramSpawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramSpawn").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}
