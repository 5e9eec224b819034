//! Any operations with hostile paths, in memory, an overlay, and host directories: nothing beside these is read or changed, nor
//! what is only read, quotas hold, and clones of a tree stay as they are.

#![no_main]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ampoule_fuzz::input::Input;
use ampoule_vfs::{
    Allocation, Builder, Context, Descriptor, File, FileType, Follow, Location, NodeKind, ProcessView, Quota, Seek,
    TimeChange, Timestamp, Vfs,
};
use libfuzzer_sys::fuzz_target;
use linux_raw_sys::general::O_TMPFILE;
use tempfile::TempDir;

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let host = Host::new();
    let mut tree = Tree { vfs: host.tree(), open: Vec::new() };
    let mut copy: Option<(Tree, Vec<u8>)> = None;
    for _ in 0..MOST_STEPS {
        if input.0.is_empty() {
            break;
        }
        let [kind] = input.array();
        match kind {
            // What one of them has open, the other has too.
            250.. => {
                let cloned = Tree { vfs: tree.vfs.clone(), open: tree.open.clone() };
                let seen = cloned.seen();
                copy = Some((cloned, seen));
            }
            kind => tree.perform(kind, &mut input),
        }
        tree.check();
    }
    if let Some((copy, seen)) = copy {
        assert!(copy.seen() == seen, "a clone has changed");
    }
    host.check();
});

/// The directories that are granted, and beside them what is not.
struct Host {
    directory: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { directory: TempDir::new().expect("temporary files can be made") };
        for name in [READ_ONLY, LOWER, WRITABLE, OUTSIDE] {
            let at = host.path(name);
            fs::create_dir_all(at.join("a/b")).expect("the directory is ours");
            for (name, contents) in [("c", "granted"), ("a/c", "granted too"), ("a/b/c", "deep")] {
                fs::write(at.join(name), if at.ends_with(OUTSIDE) { SECRET } else { contents }).expect("it is ours");
            }
            for (name, target) in [("l", "/proc/self/root"), ("a/l", "../../outside"), ("a/b/l", "..")] {
                symlink(target, at.join(name)).expect("the directory is ours");
            }
        }
        host
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn tree(&self) -> Vfs {
        Builder::new()
            .memory("/", QUOTA)
            .host_read_only("/r", self.path(READ_ONLY))
            .overlay("/o", self.path(LOWER), QUOTA)
            .memory("/o/a/b", QUOTA)
            .host_read_write("/w", self.path(WRITABLE))
            .host_read_only("/w/a/b", self.path(READ_ONLY))
            .anonymous_quota(QUOTA)
            .open_files(MOST_OPEN)
            .build()
            .expect("all of it is there")
    }

    fn check(&self) {
        let mut names: Vec<_> = names_in(self.directory.path());
        names.sort();
        assert_eq!(names, [LOWER, OUTSIDE, READ_ONLY, WRITABLE]);
        for name in [READ_ONLY, LOWER, OUTSIDE] {
            let at = self.path(name);
            let mut names: Vec<_> = ["", "a", "a/b"].iter().flat_map(|below| names_in(&at.join(below))).collect();
            names.sort();
            assert_eq!(names, ["a", "b", "c", "c", "c", "l", "l", "l"], "{name}");
            let expected = if name == OUTSIDE { SECRET } else { "granted" };
            assert_eq!(fs::read_to_string(at.join("c")).expect("it is there"), expected);
        }
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    entries.map(|entry| entry.expect("it is there").file_name().to_string_lossy().into_owned()).collect()
}

struct Tree {
    vfs: Vfs,
    open: Vec<File>,
}

impl Tree {
    fn perform(&mut self, kind: u8, input: &mut Input<'_>) {
        // Paths in `/proc/self` lead to what is open.
        let process = Process(self.open.clone());
        let context = Context { now: Timestamp { seconds: 1, nanoseconds: 0 }, process: &process };
        let base = self.base(input);
        let path = path(input);
        let [which, small] = input.array();
        let file = self.open.get(usize::from(which) % self.open.len().max(1)).cloned();
        let vfs = &mut self.vfs;
        let found = |vfs: &Vfs| vfs.resolve(&context, &base, &path, follow(small));
        match (kind % 32, file) {
            (0..=5, _) => {
                let flags = u32::from_le_bytes(input.array()) & (0o3 | 0o3300 | 0o600000 | 0o10000000 | O_TMPFILE);
                self.open.extend(vfs.open(&context, &base, &path, flags, mode(small)));
            }
            (6, Some(_)) => vfs.close(self.open.swap_remove(usize::from(which) % self.open.len())),
            (7, _) => ignore(vfs.create_directory(&context, &base, &path, mode(small))),
            (8, _) => ignore(vfs.create_symlink(&context, &self::path(input), &base, &path)),
            (9, _) => {
                let kinds = [NodeKind::Regular, NodeKind::Fifo, NodeKind::Socket];
                ignore(vfs.create_node(&context, &base, &path, kinds[usize::from(small) % 3], mode(small)));
            }
            (10, _) => {
                if let Ok(found) = found(vfs) {
                    ignore(vfs.link(&context, &found, &base, &self::path(input)));
                }
            }
            (11, _) => ignore(vfs.remove_file(&context, &base, &path)),
            (12, _) => ignore(vfs.remove_directory(&context, &base, &path)),
            (13..=15, _) => {
                let to = self::path(input);
                ignore(vfs.rename(&context, (&base, &path), (&base, &to), u32::from(small % 5)));
            }
            (16, _) => ignore(found(vfs).and_then(|it| vfs.set_permissions(&context, &it, mode(small)))),
            (17, _) => ignore(found(vfs).and_then(|it| vfs.set_owner(&context, &it, Some(1000), None))),
            (18, _) => {
                let time = TimeChange::At(Timestamp { seconds: input.u64() as i64, nanoseconds: 5 });
                ignore(found(vfs).and_then(|it| vfs.set_times(&context, &it, TimeChange::Now, time)));
            }
            (19, _) => ignore(found(vfs).and_then(|it| vfs.truncate(&context, &it, size(input)))),
            (20, _) => {
                if let Ok(found) = found(vfs) {
                    assert!(vfs.read_link(&context, &found).is_ok_and(|it| !it.is_empty()) || !is_link(vfs, &found));
                    ignore((vfs.metadata(&found), vfs.path(&found), vfs.special(&found)));
                }
            }
            (21..=23, Some(file)) => {
                ignore(vfs.write_at(&context, &file, input.bytes(usize::from(small) * 40), size(input)))
            }
            (24, Some(file)) => ignore(vfs.append(&context, &file, input.bytes(small.into()))),
            (25, Some(file)) => {
                let mut bytes = vec![0; 100];
                if let Ok(count) = vfs.read_at(&file, &mut bytes, size(input)) {
                    assert!(!bytes[..count].windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes()));
                }
            }
            (26, Some(file)) => ignore(vfs.set_len(&context, &file, size(input))),
            (27, Some(file)) => {
                let keep_size = small & 1 != 0;
                // What is reserved on the host takes room there.
                let (allocation, len) = match small % 3 {
                    0 => (Allocation::Reserve { keep_size }, size(input) % (1 << 20)),
                    1 => (Allocation::Zero { keep_size }, size(input) % (1 << 20)),
                    _ => (Allocation::PunchHole, size(input)),
                };
                ignore(vfs.allocate(&context, &file, allocation, [size(input), len]));
            }
            (28, Some(file)) => {
                let seek = if small & 1 == 0 { Seek::Data } else { Seek::Hole };
                ignore(vfs.seek(&file, seek, size(input)));
            }
            (29, Some(file)) => {
                let (mut left, from) = (small, size(input));
                ignore(vfs.read_directory(&context, &file, from, &mut |_| {
                    left = left.saturating_sub(1);
                    left > 0
                }));
            }
            (30, Some(file)) => ignore(vfs.retain(&file).map(|file| self.open.push(file))),
            (31, _) => self.open.extend(vfs.open_anonymous(&context, mode(small))),
            _ => {}
        }
        self.check_paths(&context);
    }

    /// A directory that a path starts at.
    fn base(&self, input: &mut Input<'_>) -> Location {
        let [which] = input.array();
        self.open.get(usize::from(which)).map_or_else(|| self.vfs.root(), |file| file.location().clone())
    }

    /// The quotas hold, and what is used is no more than was given.
    fn check(&self) {
        assert!(self.open.len() <= MOST_OPEN as usize);
        for path in ["/", "/o", "/o/a/b"] {
            // What is mounted in the overlay can have been moved.
            let Ok(found) = self.vfs.resolve(&nobody(), &self.vfs.root(), path.as_bytes(), Follow::Never) else {
                continue;
            };
            let Ok(status) = self.vfs.file_system(&found) else { continue };
            assert!(status.blocks_free <= status.blocks && status.files_free <= status.files, "{path}: {status:?}");
        }
    }

    /// What is shown as the path of something open leads to it.
    fn check_paths(&self, context: &Context<'_>) {
        for file in &self.open {
            let path = self.vfs.path_of(context, file);
            if path.ends_with(b" (deleted)") || path.windows(6).any(|it| it == b"/proc/") {
                continue;
            }
            if let Ok(found) = self.vfs.resolve(context, &self.vfs.root(), &path, Follow::Never) {
                let number = |at| self.vfs.metadata(at).map(|metadata| (metadata.mount, metadata.inode));
                assert_eq!(number(&found), number(file.location()), "{}", path.escape_ascii());
            }
        }
    }

    /// All that is in memory: names, and contents of regular files.
    fn seen(&self) -> Vec<u8> {
        let mut seen = Vec::new();
        for mount in ["/", "/o"] {
            if let Ok(found) = self.vfs.resolve(&nobody(), &self.vfs.root(), mount.as_bytes(), Follow::Never) {
                self.see(&found, 0, &mut seen);
            }
        }
        seen
    }

    fn see(&self, directory: &Location, depth: u32, seen: &mut Vec<u8>) {
        let mut tree = self.vfs.clone();
        let Ok(listed) = tree.open_location(&nobody(), directory, 0) else { return };
        let mut names = Vec::new();
        let emit = &mut |entry: ampoule_vfs::DirectoryEntry<'_>| {
            names.push(entry.name.to_vec());
            true
        };
        ignore(tree.read_directory(&nobody(), &listed, 0, emit));
        for name in names.iter().filter(|name| !matches!(&name[..], b"." | b".." | b"w" | b"proc" | b"dev")) {
            seen.extend_from_slice(name);
            let Ok(found) = tree.resolve(&nobody(), directory, name, Follow::Never) else { continue };
            match tree.file_type(&found) {
                Ok(FileType::Directory) if depth < 8 => self.see(&found, depth + 1, seen),
                Ok(FileType::Regular) => {
                    let mut bytes = vec![0; 1 << 14];
                    let read = tree.open_location(&nobody(), &found, 0).and_then(|it| tree.read_at(&it, &mut bytes, 0));
                    seen.extend_from_slice(&bytes[..read.unwrap_or(0)]);
                }
                _ => {}
            }
        }
    }
}

/// What an operation comes to is not known here, but what holds after it.
fn ignore<T>(_: T) {}

fn is_link(vfs: &Vfs, at: &Location) -> bool {
    vfs.file_type(at) == Ok(FileType::Symlink)
}

/// A path of up to eight names.
fn path(input: &mut Input<'_>) -> Vec<u8> {
    let [shape] = input.array();
    let mut path = Vec::new();
    if shape & 0x80 != 0 {
        path.extend_from_slice(b"/");
    }
    for index in 0..shape & 7 {
        let [name] = input.array();
        if index > 0 {
            path.extend_from_slice(if shape & 0x40 != 0 { b"//" } else { b"/" });
        }
        match NAMES.get(usize::from(name) % 32) {
            Some(name) => path.extend_from_slice(name),
            None if name % 32 == 30 => path.extend_from_slice(&[b'n'; 255]),
            None if name % 32 == 31 => path.extend_from_slice(&[b'n'; 256]),
            None => path.extend_from_slice(input.bytes(3)),
        }
    }
    if shape & 0x20 != 0 {
        path.extend_from_slice(b"/");
    }
    path
}

fn follow(choice: u8) -> Follow {
    if choice & 1 == 0 { Follow::Always } else { Follow::Never }
}

/// Permissions with which the directories of the host can be removed again.
fn mode(choice: u8) -> u32 {
    0o700 | u32::from(choice) << 4 & 0o7077
}

/// A place in a file, or a length: near the beginning or near an end.
fn size(input: &mut Input<'_>) -> u64 {
    let [kind, low, high] = input.array();
    let near = u64::from(u16::from_le_bytes([low, high]));
    match kind % 8 {
        0..=4 => near,
        5 => near << 12,
        6 => (i64::MAX as u64).saturating_sub(near),
        _ => near << 47 | near,
    }
}

/// A process that has these files open.
struct Process(Vec<File>);

impl ProcessView for Process {
    fn id(&self) -> u32 {
        7
    }

    fn descriptors(&self) -> Vec<u32> {
        (0..self.0.len() as u32).collect()
    }

    fn descriptor(&self, number: u32) -> Option<Descriptor<'_>> {
        self.0.get(number as usize).map(Descriptor::File)
    }

    fn executable(&self) -> Option<&File> {
        self.0.first()
    }

    fn directory(&self) -> Option<&File> {
        self.0.last()
    }
}

fn nobody() -> Context<'static> {
    Context { now: Timestamp { seconds: 1, nanoseconds: 0 }, process: &ampoule_vfs::NoProcess }
}

const NAMES: [&[u8]; 26] = [
    b"a",
    b"b",
    b"c",
    b"l",
    b"m",
    b"n",
    b".",
    b"..",
    b"r",
    b"o",
    b"w",
    b"r/a",
    b"o/a",
    b"w/a",
    b"proc/self/fd/0",
    b"proc/self/fd/1",
    b"proc/self/cwd",
    b"proc/self/exe",
    b"proc/self/root",
    b"proc",
    b"dev",
    b"dev/fd",
    b"outside",
    b"a/b",
    b"",
    b"\xff\n",
];

const READ_ONLY: &str = "read-only";
const LOWER: &str = "lower";
const WRITABLE: &str = "writable";
const OUTSIDE: &str = "outside";
const SECRET: &str = "not granted to anybody";

const QUOTA: Quota = Quota { bytes: 1 << 16, inodes: 24 };
const MOST_OPEN: u32 = 20;
const MOST_STEPS: usize = 200;
