//! Programs that a test runs natively, beside a sandbox.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::child::in_child;

/// A program as a file that can be executed at once, which is removed in the end.
pub struct Native(PathBuf);

impl Native {
    /// Writes the program to a place of its own.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn new(program: &[u8]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ampoule-native-{}-{number}", process::id()));
        write_executable(&path, program);
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The command that runs it without arguments, and with the signals' default actions.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        with_default_actions(&mut command);
        command
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// Has a program find the signals' default actions, as a sealed one does: signals that the test ignores, because it was started in
/// the background or to go on without its terminal, would be ignored in its children, too.
pub fn with_default_actions(command: &mut Command) {
    // SAFETY: only calls of the system, in the child. Those for numbers that are none, or that are not to be changed, fail.
    unsafe {
        command.pre_exec(|| {
            for signal in 1..=libc::SIGRTMAX() {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

/// Writes a program, so that it can be executed at once.
///
/// A child writes it: a process that another thread is about to start holds a copy of every descriptor of ours until it
/// executes its own program, and nobody may execute a file that is open for writing.
///
/// # Panics
/// Where the file cannot be written.
pub fn write_executable(path: &Path, program: &[u8]) {
    let status = in_child(|| {
        fs::write(path, program).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    });
    assert_eq!(status, 0, "{} cannot be written", path.display());
}
