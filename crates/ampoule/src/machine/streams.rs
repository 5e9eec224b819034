//! The guest's standard output and standard error.

use super::budget::Budget;
use crate::output::{Output, Stream};
use crate::personality::{OutputLimitReached, Streams};

/// Where the two streams go.
#[derive(Debug)]
pub(crate) struct GuestStreams {
    stdout: Output,
    stderr: Output,
}

/// The two streams within what a call may print.
pub(super) struct BudgetedStreams<'machine> {
    streams: &'machine mut GuestStreams,
    budget: &'machine mut Budget,
}

impl GuestStreams {
    pub(crate) fn new(stdout: Output, stderr: Output) -> Self {
        Self { stdout, stderr }
    }

    pub(crate) fn stdout(&self) -> &Output {
        &self.stdout
    }

    pub(crate) fn stderr(&self) -> &Output {
        &self.stderr
    }

    pub(crate) fn set_stdout(&mut self, output: Output) {
        self.stdout.flush(Stream::Stdout);
        self.stdout = output;
    }

    pub(crate) fn set_stderr(&mut self, output: Output) {
        self.stderr.flush(Stream::Stderr);
        self.stderr = output;
    }

    pub(super) fn within<'machine>(&'machine mut self, budget: &'machine mut Budget) -> BudgetedStreams<'machine> {
        BudgetedStreams { streams: self, budget }
    }

    /// Passes on what the streams hold back.
    pub(super) fn flush(&mut self) {
        self.stdout.flush(Stream::Stdout);
        self.stderr.flush(Stream::Stderr);
    }
}

impl Streams for BudgetedStreams<'_> {
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), OutputLimitReached> {
        self.budget.print(bytes.len()).map_err(|_| OutputLimitReached)?;
        match stream {
            Stream::Stdout => self.streams.stdout.write(stream, bytes),
            Stream::Stderr => self.streams.stderr.write(stream, bytes),
        }
        Ok(())
    }
}
