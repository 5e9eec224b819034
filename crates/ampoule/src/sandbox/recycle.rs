//! A sandbox that serves one tenant after the other.

#[cfg(feature = "tokio")]
use std::sync::{Arc, atomic::AtomicBool};

use super::restore::RestoreError;
use super::snapshot::{Snapshot, SnapshotIdentity};
use super::spawn::Spawn;
use super::{Poison, Sandbox};
use crate::error::BuildError;
use crate::output::{Output, SharedOutput};

/// A sandbox, and what every tenant finds in it.
#[derive(Debug)]
pub(crate) struct Recyclable {
    pub(crate) sandbox: Sandbox,
    snapshot: Snapshot,
    stdout: SharedOutput,
    stderr: SharedOutput,
}

impl Recyclable {
    /// Makes a sandbox that is what the settings say.
    pub(crate) fn spawn(mut settings: Spawn) -> Result<Self, BuildError> {
        let stdout = share(&mut settings.host.stdout);
        let stderr = share(&mut settings.host.stderr);
        let sandbox = settings.build()?;
        Ok(Self { snapshot: sandbox.initial.clone(), sandbox, stdout, stderr })
    }

    /// Makes the sandbox what it was before its first tenant. Of this tenant nothing stays: no state of the guest, no output
    /// that it has set, and no power over later calls.
    pub(crate) fn recycle(&mut self) -> Result<(), RestoreError> {
        let machine = self.sandbox.conversation.machine_mut();
        machine.interruptor_mut().renew();
        let streams = machine.streams_mut();
        if !streams.stdout().is(&self.stdout) {
            streams.set_stdout(Output::shared(&self.stdout));
        }
        if !streams.stderr().is(&self.stderr) {
            streams.set_stderr(Output::shared(&self.stderr));
        }
        self.sandbox.restore(&self.snapshot)
    }

    /// Whether the sandbox is of no more use: what could not be restored once is in no known state.
    pub(crate) fn is_spoiled(&self) -> bool {
        matches!(self.sandbox.poisoned(), Some(Poison::RestoreFailed(_)))
    }

    /// Whether going back to the snapshot is not enough: a host function or an output that has panicked may have left its own
    /// data half changed. A tenant that has reset the sandbox since does not make up for that.
    pub(crate) fn needs_refit(&self) -> bool {
        self.sandbox.imports.has_panicked()
    }

    /// Gives the sandbox the host functions, outputs and limits of these settings. To be [recycled](Self::recycle) then, which
    /// puts the outputs in use.
    pub(crate) fn refit(&mut self, mut settings: Spawn) -> Result<(), BuildError> {
        self.stdout = share(&mut settings.host.stdout);
        self.stderr = share(&mut settings.host.stderr);
        let Spawn { snapshot, host } = settings;
        // The outputs are shared ones, which are set when the sandbox is recycled.
        let (imports, _, limits) = host.resolve(&self.sandbox.image)?;
        self.sandbox.imports = imports;
        // Somebody can have swapped a sandbox in that does not match the snapshot.
        self.sandbox.matching = SnapshotIdentity::of_none();
        self.sandbox.limits = limits;
        self.sandbox.initial = snapshot.clone();
        self.snapshot = snapshot;
        Ok(())
    }

    /// From when on `cancelled` is set, every call of this tenant ends before the guest is entered. See
    /// [`Interruptor::cancel_by`](crate::interrupt::Interruptor::cancel_by).
    #[cfg(feature = "tokio")]
    pub(crate) fn cancel_by(&mut self, cancelled: Arc<AtomicBool>) {
        self.sandbox.conversation.machine_mut().interruptor_mut().cancel_by(cancelled);
    }
}

/// Puts a shared output in the place of an output, which it leads to.
fn share(output: &mut Output) -> SharedOutput {
    let shared = SharedOutput::new(std::mem::replace(output, Output::discard()));
    *output = Output::shared(&shared);
    shared
}
