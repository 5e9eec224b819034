//! All that is in a tree: what two sides must have in common in the end.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

/// Files by their paths. Those that are one file have one number, counted from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<Vec<u8>, Entry>,
    pub(crate) numbers: BTreeMap<Vec<u8>, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mode: u32,
    pub(crate) links: u32,
    /// What a file contains, or where a link leads; of what cannot be read, nothing.
    pub(crate) content: Option<Vec<u8>>,
}

/// Counts the files of a tree by their inodes.
#[derive(Debug, Default)]
pub(crate) struct Numbers(BTreeMap<(u64, u64), usize>);

impl Numbers {
    pub(crate) fn of(&mut self, inode: (u64, u64)) -> usize {
        let next = self.0.len();
        *self.0.entry(inode).or_insert(next)
    }
}

impl Tree {
    /// What is in a host directory. What the user may not read is left out.
    pub(crate) fn of_host(directory: impl AsRef<Path>) -> Self {
        let (mut tree, mut numbers) = (Self::default(), Numbers::default());
        tree.add_host(directory.as_ref(), b"", &mut numbers);
        tree
    }

    fn add_host(&mut self, directory: &Path, prefix: &[u8], numbers: &mut Numbers) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let path = [prefix, b"/", name.as_bytes()].concat();
            let host = directory.join(&name);
            let Ok(status) = fs::symlink_metadata(&host) else { continue };
            let content = if status.is_symlink() {
                fs::read_link(&host).ok().map(|target| target.as_os_str().as_bytes().to_vec())
            } else if status.is_file() {
                fs::read(&host).ok()
            } else {
                None
            };
            self.numbers.insert(path.clone(), numbers.of((status.dev(), status.ino())));
            self.files.insert(path.clone(), Entry { mode: status.mode(), links: status.nlink() as u32, content });
            if status.is_dir() {
                self.add_host(&host, &path, numbers);
            }
        }
    }
}

/// A descriptor of a directory to begin with.
pub(crate) fn open_directory(path: &Path) -> rustix::fd::OwnedFd {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}
