//! Files that are there in full under their names, or not at all.

use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// A file beside the one that it is to become. It is removed unless it does.
pub(crate) struct NewFile {
    file: NamedTempFile,
}

impl NewFile {
    /// One for a name in this directory.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        // As far as the process's umask lets others read.
        let permissions = Permissions::from_mode(0o666);
        let file = tempfile::Builder::new().prefix(PREFIX).permissions(permissions).tempfile_in(directory)?;
        Ok(Self { file })
    }

    /// Its path until it has its name.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Appends bytes. Pages of zeros become holes, where the file system has any.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_file_mut();
        for page in bytes.chunks(PAGE) {
            if page.iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Current(page.len() as i64))?;
            } else {
                file.write_all(page)?;
            }
        }
        Ok(())
    }

    /// All has been appended: gives it its length, with the zeros at its end.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let file = self.file.as_file_mut();
        let length = file.stream_position()?;
        file.set_len(length)
    }

    /// Gives it its name, in the directory that it is in, when all of it is on the disk.
    pub(crate) fn put(self, path: &Path) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(path).map_err(|error| error.error)?;
        File::open(directory_of(path))?.sync_all()
    }
}

/// Writes a whole file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = NewFile::create(directory_of(path))?;
    new.append(bytes)?;
    new.finish()?;
    new.put(path)
}

/// The directory that a file is in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How names begin of files that have not got theirs yet.
pub(crate) const PREFIX: &str = ".ampoule-";

/// Zeros are looked for in pieces of this size.
const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_what_was_appended_zeros_included() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes = [vec![0; 2 * PAGE], vec![1; 5], vec![0; PAGE]].concat();
        write(&path, &bytes).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        write(&path, &[0; 3]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [0; 3]);
    }

    #[test]
    fn a_file_that_gets_no_name_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut new = NewFile::create(directory.path()).unwrap();
        new.append(b"half").unwrap();
        drop(new);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }
}
