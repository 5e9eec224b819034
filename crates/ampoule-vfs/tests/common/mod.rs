//! What the tests of the tree have in common.

#![allow(dead_code, reason = "each test uses a part of it")]

use ampoule_vfs::{Context, Descriptor, File, NoProcess, ProcessView, Quota, Timestamp, Vfs};
use linux_raw_sys::general::{O_DIRECTORY, O_PATH, O_RDONLY};

pub(crate) const CONTEXT: Context<'static> =
    Context { now: Timestamp { seconds: 1_700_000_000, nanoseconds: 0 }, process: &NoProcess };

pub(crate) const SMALL: Quota = Quota { bytes: 1 << 20, inodes: 100 };

/// A process whose working directory is also its file 3, and whose files 0 to 2 are in no file system.
pub(crate) struct Process {
    pub(crate) directory: File,
}

impl Process {
    pub(crate) fn new(vfs: &mut Vfs, directory: &str) -> Self {
        Self { directory: open(vfs, directory, O_PATH | O_DIRECTORY) }
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context { process: self, ..CONTEXT }
    }
}

impl ProcessView for Process {
    fn id(&self) -> u32 {
        4321
    }

    fn descriptors(&self) -> Vec<u32> {
        vec![0, 1, 2, 3]
    }

    fn descriptor(&self, number: u32) -> Option<Descriptor<'_>> {
        match number {
            0..=2 => Some(Descriptor::Other(format!("pipe:[{number}]").into_bytes())),
            3 => Some(Descriptor::File(&self.directory)),
            _ => None,
        }
    }

    fn executable(&self) -> Option<&File> {
        None
    }

    fn directory(&self) -> Option<&File> {
        Some(&self.directory)
    }
}

pub(crate) fn open(vfs: &mut Vfs, path: &str, flags: u32) -> File {
    let root = vfs.root();
    vfs.open(&CONTEXT, &root, path.as_bytes(), flags, 0o644).unwrap_or_else(|errno| panic!("{path}: {errno:?}"))
}

pub(crate) fn read(vfs: &mut Vfs, path: &str) -> Vec<u8> {
    let file = open(vfs, path, O_RDONLY);
    let mut content = vec![0; vfs.len(&file).unwrap() as usize];
    let count = vfs.read_at(&file, &mut content, 0).unwrap();
    vfs.close(file);
    content.truncate(count);
    content
}

pub(crate) fn names(vfs: &mut Vfs, path: &str) -> Vec<String> {
    let file = open(vfs, path, O_RDONLY | O_DIRECTORY);
    let names = names_in(vfs, &CONTEXT, &file);
    vfs.close(file);
    names
}

/// The names in a directory without `.` and `..`, in their order.
pub(crate) fn names_in(vfs: &Vfs, context: &Context<'_>, directory: &File) -> Vec<String> {
    let mut names = Vec::new();
    vfs.read_directory(context, directory, 0, &mut |entry| {
        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        true
    })
    .unwrap();
    names.retain(|name| name != "." && name != "..");
    names
}
