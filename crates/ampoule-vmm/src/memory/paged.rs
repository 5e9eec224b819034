//! Files of the host's that are too large to be kept for all who map them: each guest has pages of its own, which are read when
//! it touches them.
//!
//! What a page holds is what the file holds at that moment. Who changes the file, or cuts it short, changes what is still to be
//! read, as he does on Linux, but nothing that has been, and nobody gets a signal: the file itself is never mapped.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use super::TrackedRegion;
use super::file::Version;

/// A file whose pages are read when they are needed.
#[derive(Debug)]
pub struct PagedFile {
    file: File,
    version: Version,
}

impl PagedFile {
    /// The file behind an open descriptor that can be read.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for anything but a regular file; what the host reports when it has no descriptor for it.
    pub fn open(file: BorrowedFd<'_>) -> io::Result<PagedFile> {
        let file = File::from(file.try_clone_to_owned()?);
        let version = Version::of(&file)?;
        Ok(PagedFile { file, version })
    }

    /// The size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.version.size()
    }

    /// Whether it is the same file as another, and was not changed between the moments at which the two were opened.
    pub fn is_same(&self, other: &PagedFile) -> bool {
        self.version == other.version
    }

    /// Reads bytes from `at` on and returns how many there were: fewer at the end of the file.
    ///
    /// # Errors
    ///
    /// What the host reports when it cannot read the file.
    pub fn read(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Reads the bytes from `at` on to `len` bytes of a region, from `offset` on, and returns how many there were; like
    /// [`TrackedRegion::read_file`].
    ///
    /// # Errors
    ///
    /// As for [`TrackedRegion::read_file`].
    pub fn read_to(&self, region: &TrackedRegion, offset: usize, len: usize, at: u64) -> io::Result<usize> {
        region.read_file(offset, len, self.file.as_fd(), at)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::memory::HostOnly;

    #[test]
    fn what_is_read_is_what_the_file_holds_at_that_moment() {
        let path = std::env::temp_dir().join(format!("ampoule-paged-file-{}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        file.write_all_at(&[1; 6000], 0).unwrap();
        let paged = PagedFile::open(file.as_fd()).unwrap();
        assert!(paged.is_same(&PagedFile::open(file.as_fd()).unwrap()));
        let region = TrackedRegion::anonymous(8192, HostOnly::default()).unwrap();
        assert_eq!(paged.read_to(&region, 0, 4096, 0).unwrap(), 4096);

        file.write_all_at(&[2; 6000], 0).unwrap();
        file.set_len(5000).unwrap();
        assert!(!paged.is_same(&PagedFile::open(file.as_fd()).unwrap()));
        assert_eq!(paged.size(), 6000);
        assert_eq!(paged.read_to(&region, 4096, 4096, 4096).unwrap(), 5000 - 4096);
        let mut bytes = [0; 8192];
        region.read(0, &mut bytes).unwrap();
        assert!(bytes[..4096].iter().all(|byte| *byte == 1) && bytes[4096..5000].iter().all(|byte| *byte == 2));
        assert_eq!(paged.read(4990, &mut bytes).unwrap(), 10);
        assert_eq!(paged.read(6000, &mut bytes).unwrap(), 0);
        assert_eq!(PagedFile::open(File::open("/").unwrap().as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
