//! What the log says of a guest's system calls: a bounded amount for each call that the host makes, because the guest
//! decides how often there is something to log. Level TRACE has all of them.

use super::groups;

/// What the log may still say in the call that is being made.
#[derive(Clone, Debug)]
pub(super) struct Log {
    left: u32,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { left: MAX_EVENTS }
    }

    /// Logs a system call on a path.
    pub(super) fn path(&mut self, call: &str, path: &[u8]) {
        if self.admits() {
            let (shown, cut) = match path.get(..MAX_PATH) {
                Some(beginning) if path.len() > MAX_PATH => (beginning, "…"),
                _ => (path, ""),
            };
            let path = shown.escape_ascii();
            tracing::debug!(call, path = %format_args!("{path}{cut}"), "a guest asks for a path that is not there");
        }
    }

    /// Logs a system call that the guest does not have, and what it would need for it.
    pub(super) fn refused(&mut self, number: u64, needs: Option<&str>) {
        if self.admits() {
            let name = groups::name(number);
            tracing::debug!(number, name, needs, "a guest makes a system call that it does not have");
        }
    }

    /// Logs that a file could not be opened, as the host's process has no descriptor left.
    pub(super) fn no_descriptor(&mut self) {
        if self.admits() {
            tracing::warn!(
                "this process has no descriptor left for a file that a guest opens: raise its limit (`ulimit -n`), or let \
                 guests have fewer files open (`Files::open_files`)"
            );
        }
    }

    /// Whether there may be another event. In place of the first that may not be logged, the log says that there are no
    /// more.
    fn admits(&mut self) -> bool {
        let admitted = self.left > 1;
        if self.left == 1 {
            tracing::debug!("a guest makes more such system calls in this call; they are not logged");
        }
        self.left = self.left.saturating_sub(1);
        admitted
    }
}

/// The most events of a call, including the one that says that there are no more.
const MAX_EVENTS: u32 = 101;

/// How much of a path is logged, in bytes. Escaped, each of them is at most four characters.
const MAX_PATH: usize = 64;
