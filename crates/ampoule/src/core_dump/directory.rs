//! Files of core dumps: what they are called, and that they are there as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{CoreDumpError, Dumped, Written};

/// Writes a file in the directory. Where that fails, no file stays.
pub(super) fn write(
    directory: &Path,
    sandbox: &str,
    dump: impl FnOnce(&mut dyn Write) -> Dumped,
) -> Result<Written, CoreDumpError> {
    let (mut file, names) = create(directory, &file_name(sandbox))
        .map_err(|reason| CoreDumpError::Create { directory: directory.into(), reason })?;
    let renamed = |omitted| match fs::rename(&names.partial, &names.complete) {
        Ok(()) => Ok(Written { path: names.complete.clone(), omitted }),
        Err(reason) => Err(CoreDumpError::Write { reason }),
    };
    let written = dump(&mut file).and_then(renamed);
    if written.is_err() {
        // What cannot be removed either is marked as incomplete by its name.
        fs::remove_file(&names.partial).ok();
    }
    written
}

/// What a file is called while it is written, and then.
struct Names {
    partial: PathBuf,
    complete: PathBuf,
}

/// Creates a file, with the first number for which there is none. Whoever writes core dumps there holds the name of the
/// unfinished file, so none overwrites another one's.
fn create(directory: &Path, name: &str) -> io::Result<(File, Names)> {
    for number in 1..=MAX_NUMBER {
        let complete = directory.join(format!("{name}.{number}.core"));
        let partial = directory.join(format!("{name}.{number}.core.partial"));
        let file = match OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&partial) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        };
        match fs::symlink_metadata(&complete) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((file, Names { partial, complete })),
            _ => fs::remove_file(&partial)?,
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// The name of a sandbox without what could lead elsewhere or be mistaken for something else.
fn file_name(sandbox: &str) -> String {
    let is_plain = |character: &char| character.is_ascii_alphanumeric() || "-_.".contains(*character);
    let plain = |character| if is_plain(&character) { character } else { '_' };
    let name: String = sandbox.chars().take(MAX_NAME).map(plain).collect();
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if name.is_empty() => "_".to_owned(),
        None => name,
    }
}

/// A guest's memory may hold secrets.
const OWNER_ONLY: u32 = 0o600;

/// How many characters of a sandbox's name are in that of a file. Linux's file systems allow 255 bytes for a name.
const MAX_NAME: usize = 100;

/// How many files there may be of sandboxes of one name.
const MAX_NUMBER: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_sandbox_cannot_lead_out_of_the_directory() {
        for (sandbox, name) in [
            ("tenant-7", "tenant-7"),
            ("../../etc/passwd", "_._.._etc_passwd"),
            (".hidden", "_hidden"),
            ("", "_"),
            ("a b\n\0\u{202e}é", "a_b____"),
        ] {
            assert_eq!(file_name(sandbox), name);
        }
        assert_eq!(file_name(&"x".repeat(1000)).len(), MAX_NAME);
    }
}
