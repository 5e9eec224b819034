//! A sandbox that serves one tenant after the other.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::imports::Imports;
use super::restore::RestoreError;
use super::snapshot::Snapshot;
use super::spawn::Spawn;
use super::{Sandbox, Termination};
use crate::error::BuildError;
use crate::output::{Output, Stream};

/// A sandbox, and what every tenant finds in it.
#[derive(Debug)]
pub(crate) struct Recyclable {
    pub(crate) sandbox: Sandbox,
    snapshot: Snapshot,
    stdout: Sink,
    stderr: Sink,
}

impl Recyclable {
    /// Makes a sandbox that is what the settings say.
    pub(crate) fn spawn(mut settings: Spawn) -> Result<Self, BuildError> {
        let stdout = Sink::around(&mut settings.stdout, Stream::Stdout);
        let stderr = Sink::around(&mut settings.stderr, Stream::Stderr);
        let sandbox = settings.build()?;
        Ok(Self { snapshot: sandbox.initial.clone(), sandbox, stdout, stderr })
    }

    /// Makes the sandbox what it was before its first tenant. Of this tenant nothing stays: no state of the guest, no output
    /// that it has set, and no power over later calls.
    pub(crate) fn recycle(&mut self) -> Result<(), RestoreError> {
        self.sandbox.machine.interruptor.renew();
        if !self.stdout.is_in_use() {
            self.sandbox.set_stdout(self.stdout.output());
        }
        if !self.stderr.is_in_use() {
            self.sandbox.set_stderr(self.stderr.output());
        }
        self.sandbox.restore(&self.snapshot)
    }

    /// Whether the sandbox is of no more use: what could not be restored once is in no known state.
    pub(crate) fn is_spoiled(&self) -> bool {
        matches!(self.sandbox.poison, Some(Termination::RestoreFailed(_)))
    }

    /// Whether going back to the snapshot is not enough: a host function or an output that has panicked may have left its own
    /// data half changed. A tenant that has reset the sandbox since does not make up for that.
    pub(crate) fn needs_refit(&self) -> bool {
        self.sandbox.imports.has_panicked
    }

    /// Gives the sandbox the host functions, outputs and limits of these settings. To be [recycled](Self::recycle) then, which
    /// puts the outputs in use.
    pub(crate) fn refit(&mut self, mut settings: Spawn) -> Result<(), BuildError> {
        self.stdout = Sink::around(&mut settings.stdout, Stream::Stdout);
        self.stderr = Sink::around(&mut settings.stderr, Stream::Stderr);
        let Spawn { snapshot, host_functions, limits, .. } = settings;
        let imports = Imports::resolve(&self.sandbox.image, host_functions)?;
        imports.check(snapshot.host_functions()).map_err(BuildError::Snapshot)?;
        self.sandbox.imports = imports;
        self.sandbox.matching = snapshot.identity();
        self.sandbox.limits = limits;
        self.sandbox.initial = snapshot.clone();
        self.snapshot = snapshot;
        Ok(())
    }

    /// From when on `cancelled` is set, every call of this tenant ends before the guest is entered. See
    /// [`Interruptor::cancel_by`](crate::interrupt::Interruptor::cancel_by).
    #[cfg(feature = "tokio")]
    pub(crate) fn cancel_by(&mut self, cancelled: Arc<std::sync::atomic::AtomicBool>) {
        self.sandbox.machine.interruptor.cancel_by(cancelled);
    }
}

/// An output that outlives its replacement by another one.
#[derive(Clone, Debug)]
struct Sink {
    output: Arc<Mutex<Output>>,
    stream: Stream,
}

impl Sink {
    /// Puts itself in the place of an output, and keeps that one.
    fn around(output: &mut Output, stream: Stream) -> Self {
        let kept = std::mem::replace(output, Output::discard());
        let sink = Self { output: Arc::new(Mutex::new(kept)), stream };
        *output = sink.output();
        sink
    }

    /// The output, as a sandbox takes it.
    fn output(&self) -> Output {
        Output::writer(self.clone())
    }

    /// Whether a sandbox still has it.
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.output) > 1
    }

    fn with(&self, action: impl FnOnce(&mut Output)) {
        action(&mut self.output.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|output| output.write(self.stream, bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(|output| output.flush(self.stream));
        Ok(())
    }
}
