//! A sandbox that serves one tenant after another.

#[cfg(feature = "tokio")]
use std::sync::{Arc, atomic::AtomicBool};

use super::restore::RestoreError;
use super::snapshot::{Snapshot, SnapshotIdentity};
use super::spawn::Spawn;
use super::{Poison, Sandbox};
use crate::core_dump::CoreDumps;
use crate::error::BuildError;
use crate::output::{Output, SharedOutput};
use crate::trace::Trace;

/// A sandbox, and what every tenant finds in it.
#[derive(Debug)]
pub struct RecyclableSandbox {
    pub(crate) sandbox: Sandbox,
    snapshot: Snapshot,
    stdout: SharedOutput,
    stderr: SharedOutput,
    trace: Trace,
    core_dumps: Option<CoreDumps>,
}

impl RecyclableSandbox {
    /// Makes a sandbox with these settings.
    pub(crate) fn spawn(mut settings: Spawn) -> Result<Self, BuildError> {
        let stdout = share(&mut settings.host.stdout);
        let stderr = share(&mut settings.host.stderr);
        let trace = settings.host.trace.clone();
        let core_dumps = settings.host.core_dumps.clone();
        let sandbox = settings.build()?;
        Ok(Self { snapshot: sandbox.initial.clone(), sandbox, stdout, stderr, trace, core_dumps })
    }

    /// Returns the sandbox to its state before its first tenant. Nothing of this tenant stays: no state of the guest, no
    /// output, core dumps or profile that it has asked for, and no handle that reaches later calls.
    pub(crate) fn recycle(&mut self) -> Result<(), RestoreError> {
        let machine = self.sandbox.conversation.machine_mut();
        drop(machine.take_profile());
        machine.forget_allocations();
        machine.interruptor_mut().renew();
        let streams = machine.streams_mut();
        if !streams.stdout().is(&self.stdout) {
            streams.set_stdout(Output::shared(&self.stdout));
        }
        if !streams.stderr().is(&self.stderr) {
            streams.set_stderr(Output::shared(&self.stderr));
        }
        if !streams.trace().is(&self.trace) {
            streams.set_trace(self.trace.clone());
        }
        self.sandbox.core_dumps.clone_from(&self.core_dumps);
        self.sandbox.restore(&self.snapshot)
    }

    /// Whether the sandbox is no longer usable: after a failed restore its state is unknown.
    pub(crate) fn is_spoiled(&self) -> bool {
        matches!(self.sandbox.poisoned(), Some(Poison::RestoreFailed(_)))
    }

    /// Whether going back to the snapshot is not enough: a host function or an output that has panicked may have left its
    /// own data half changed. A reset by the tenant does not mend that.
    pub(crate) fn needs_new_host_side(&self) -> bool {
        self.sandbox.imports.has_panicked()
    }

    /// Gives the sandbox the host functions, outputs and limits of these settings. To be [recycled](Self::recycle) then, which
    /// puts the outputs in use.
    pub(crate) fn renew_host_side(&mut self, mut settings: Spawn) -> Result<(), BuildError> {
        self.stdout = share(&mut settings.host.stdout);
        self.stderr = share(&mut settings.host.stderr);
        self.trace = settings.host.trace.clone();
        let Spawn { snapshot, mut host, .. } = settings;
        self.core_dumps = host.core_dumps.take();
        // The outputs are shared ones, which are set when the sandbox is recycled.
        let (imports, _, limits) = host.resolve(&self.sandbox.image)?;
        self.sandbox.imports = imports;
        // Somebody may have swapped in a sandbox that does not match the snapshot.
        self.sandbox.matching = SnapshotIdentity::of_none();
        self.sandbox.limits = limits;
        self.sandbox.initial = snapshot.clone();
        self.snapshot = snapshot;
        Ok(())
    }

    /// Once `cancelled` is set, every call of this tenant ends before the guest is entered. See
    /// [`Interruptor::cancel_by`](crate::interrupt::Interruptor::cancel_by).
    #[cfg(feature = "tokio")]
    pub(crate) fn cancel_by(&mut self, cancelled: Arc<AtomicBool>) {
        self.sandbox.conversation.machine_mut().interruptor_mut().cancel_by(cancelled);
    }
}

/// Replaces an output by a shared one that leads to it.
fn share(output: &mut Output) -> SharedOutput {
    let shared = SharedOutput::new(std::mem::replace(output, Output::discard()));
    *output = Output::shared(&shared);
    shared
}
