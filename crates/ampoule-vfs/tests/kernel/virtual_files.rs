//! The side of the virtual file system.

use ampoule_vfs::{
    Allocation, Context, Errno, File, FileType, Follow, Location, Metadata, NoProcess, NodeKind, TimeChange, Timestamp,
    USER_ID, Vfs,
};
use linux_raw_sys::general::{O_DIRECTORY, O_NONBLOCK, O_PATH, O_RDONLY};

use crate::native::reopen_flags;
use crate::steps::{At, Outcome, SLOTS, Side, Status, Step, Value};
use crate::tree::{Entry, Numbers, Tree};

#[derive(Clone)]
pub(crate) struct Virtual {
    vfs: Vfs,
    base: Option<File>,
    /// How much is free while nothing is there.
    free: (u64, u64),
    slots: [Option<File>; SLOTS],
}

const CONTEXT: Context<'static> =
    Context { now: Timestamp { seconds: 1_700_000_000, nanoseconds: 0 }, process: &NoProcess };

impl Virtual {
    pub(crate) fn new(vfs: Vfs) -> Self {
        let free = free(&vfs);
        Self { vfs, base: None, free, slots: Default::default() }
    }

    /// With a base that exists.
    pub(crate) fn at(vfs: Vfs, base: &str) -> Self {
        let mut files = Self::new(vfs);
        files.open_base(base);
        files
    }

    pub(crate) fn make_base(&mut self, path: &str) {
        for (slash, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
            let root = self.vfs.root();
            self.vfs.create_directory(&CONTEXT, &root, &path.as_bytes()[..slash], 0o755).unwrap();
        }
        self.open_base(path);
    }

    pub(crate) fn tree(&self) -> Tree {
        let mut vfs = self.vfs.clone();
        let (mut tree, mut numbers) = (Tree::default(), Numbers::default());
        add(&mut vfs, self.base.as_ref().unwrap().location(), b"", &mut tree, &mut numbers);
        tree
    }

    pub(crate) fn close_all(&mut self) {
        for slot in 0..SLOTS {
            self.set(slot, None);
        }
    }

    /// Empties the tree, after which nothing must be left on its account.
    pub(crate) fn check_account(&mut self) {
        self.close_all();
        if let Some(base) = self.base.take() {
            self.vfs.close(base);
        }
        let root = self.vfs.root();
        remove_all(&mut self.vfs, &root);
        assert_eq!(free(&self.vfs), self.free);
    }

    fn open_base(&mut self, path: &str) {
        let root = self.vfs.root();
        self.base = Some(self.vfs.open(&CONTEXT, &root, path.as_bytes(), O_PATH | O_DIRECTORY, 0).unwrap());
    }

    fn set(&mut self, slot: usize, file: Option<File>) {
        if let Some(before) = std::mem::replace(&mut self.slots[slot], file) {
            self.vfs.close(before);
        }
    }

    fn file(&self, slot: usize) -> Result<File, Errno> {
        self.slots[slot].clone().ok_or(Errno::EBADF)
    }

    fn at_place(&self, at: &At) -> Result<(Location, Vec<u8>), Errno> {
        let directory = match at.slot {
            Some(slot) => self.file(slot)?,
            None => self.base.clone().unwrap(),
        };
        Ok((directory.location().clone(), at.path.clone().into_bytes()))
    }

    fn find(&self, at: &At, follow: bool) -> Result<Location, Errno> {
        let (base, path) = self.at_place(at)?;
        self.vfs.resolve(&CONTEXT, &base, &path, if follow { Follow::Always } else { Follow::Never })
    }

    fn try_run(&mut self, step: &Step) -> Result<Value, Errno> {
        match step {
            Step::Open { slot, at, flags, mode } => {
                let (base, path) = self.at_place(at)?;
                let opened = self.vfs.open(&CONTEXT, &base, &path, flags | O_NONBLOCK, *mode)?;
                self.set(*slot, Some(opened));
            }
            Step::Reopen { slot, from, flags } => {
                let from = self.file(*from)?;
                let flags = reopen_flags(*flags).bits();
                let opened = self.vfs.open_location(&CONTEXT, from.location(), flags)?;
                self.set(*slot, Some(opened));
            }
            Step::Close(slot) => self.set(*slot, None),
            Step::Read { slot, offset, len } => {
                let mut bytes = vec![0; *len];
                let count = self.vfs.read_at(&self.file(*slot)?, &mut bytes, *offset)?;
                bytes.truncate(count);
                return Ok(Value::Bytes(bytes));
            }
            Step::Write { slot, offset, len, byte } => {
                let file = self.file(*slot)?;
                return Ok(Value::Count(self.vfs.write_at(&CONTEXT, &file, &vec![*byte; *len], *offset)? as u64));
            }
            Step::Append { slot, len, byte } => {
                let file = self.file(*slot)?;
                return Ok(Value::Count(self.vfs.append(&CONTEXT, &file, &vec![*byte; *len])?.0 as u64));
            }
            Step::SetLen { slot, len } => {
                let file = self.file(*slot)?;
                self.vfs.set_len(&CONTEXT, &file, *len)?;
            }
            Step::Allocate { slot, kind, offset, len } => {
                let file = self.file(*slot)?;
                let kinds = [
                    Allocation::Reserve { keep_size: false },
                    Allocation::Reserve { keep_size: true },
                    Allocation::PunchHole,
                    Allocation::Zero { keep_size: false },
                    Allocation::Zero { keep_size: true },
                ];
                self.vfs.allocate(&CONTEXT, &file, kinds[*kind], [*offset, *len])?;
            }
            Step::StatOpen(slot) => return Ok(status(self.vfs.metadata(self.file(*slot)?.location())?)),
            Step::ListOpen(slot) => return self.list(&self.file(*slot)?).map(Value::Names),
            Step::PathOpen(slot) => {
                let file = self.file(*slot)?;
                return Ok(self.vfs.path(file.location()).map_or(Value::Nothing, Value::Bytes));
            }
            Step::LinkOpen { slot, to } => {
                let file = self.file(*slot)?;
                let (base, path) = self.at_place(to)?;
                self.vfs.link(&CONTEXT, file.location(), &base, &path)?;
            }
            Step::Stat { at, follow } => return Ok(status(self.vfs.metadata(&self.find(at, *follow)?)?)),
            Step::Access { at, wanted } => self.vfs.check_access(&self.find(at, true)?, *wanted)?,
            Step::Truncate { at, len } => {
                let location = self.find(at, true)?;
                self.vfs.truncate(&CONTEXT, &location, *len)?;
            }
            Step::MakeDirectory { at, mode } => {
                let (base, path) = self.at_place(at)?;
                self.vfs.create_directory(&CONTEXT, &base, &path, *mode)?;
            }
            Step::RemoveDirectory(at) => {
                let (base, path) = self.at_place(at)?;
                self.vfs.remove_directory(&CONTEXT, &base, &path)?;
            }
            Step::Remove(at) => {
                let (base, path) = self.at_place(at)?;
                self.vfs.remove_file(&CONTEXT, &base, &path)?;
            }
            Step::Rename { from, to, flags } => {
                let ((from, old), (to, new)) = (self.at_place(from)?, self.at_place(to)?);
                self.vfs.rename(&CONTEXT, (&from, &old), (&to, &new), *flags)?;
            }
            Step::Link { from, to, follow } => {
                self.at_place(to)?;
                let file = self.find(from, *follow)?;
                let (base, path) = self.at_place(to)?;
                self.vfs.link(&CONTEXT, &file, &base, &path)?;
            }
            Step::MakeSymlink { at, target } => {
                let (base, path) = self.at_place(at)?;
                self.vfs.create_symlink(&CONTEXT, target.as_bytes(), &base, &path)?;
            }
            Step::ReadLink(at) => {
                return Ok(Value::Bytes(self.vfs.read_link(&CONTEXT, &self.find(at, false)?)?));
            }
            Step::MakeNode { at, mode } => {
                let (base, path) = self.at_place(at)?;
                self.vfs.create_node(&CONTEXT, &base, &path, NodeKind::Regular, *mode)?;
            }
            Step::SetPermissions { at, mode } => {
                let location = self.find(at, true)?;
                self.vfs.set_permissions(&CONTEXT, &location, *mode)?;
            }
            Step::SetTimes { at, seconds, follow } => {
                let location = self.find(at, *follow)?;
                let time = TimeChange::At(Timestamp { seconds: *seconds, nanoseconds: 5 });
                self.vfs.set_times(&CONTEXT, &location, time, time)?;
                return Ok(Value::Count(self.vfs.metadata(&location)?.modified.seconds as u64));
            }
        }
        Ok(Value::Nothing)
    }

    /// Lists a directory a few names at a time.
    fn list(&self, file: &File) -> Result<Vec<(Vec<u8>, u8)>, Errno> {
        let (mut names, mut from) = (Vec::new(), 0);
        loop {
            let mut room = 3;
            self.vfs.read_directory(&CONTEXT, file, from, &mut |entry| {
                if room > 0 {
                    names.push((entry.name.to_vec(), entry.file_type.directory_entry_type()));
                    from = entry.next;
                }
                room -= 1;
                room > 0
            })?;
            if room == 3 {
                names.sort();
                return Ok(names);
            }
        }
    }
}

impl Side for Virtual {
    fn run(&mut self, step: &Step) -> Outcome {
        self.try_run(step).map_err(Errno::raw)
    }
}

fn status(metadata: Metadata) -> Value {
    Value::Status(Status {
        mode: metadata.mode(),
        links: metadata.links,
        is_own: metadata.user == USER_ID,
        size: (metadata.file_type != FileType::Directory).then_some(metadata.size),
    })
}

fn free(vfs: &Vfs) -> (u64, u64) {
    let status = vfs.file_system(&vfs.root()).unwrap();
    (status.blocks_free, status.files_free)
}

fn names(vfs: &mut Vfs, directory: &Location) -> Vec<Vec<u8>> {
    let Ok(file) = vfs.open_location(&CONTEXT, directory, O_RDONLY | O_DIRECTORY) else { return Vec::new() };
    let mut names = Vec::new();
    vfs.read_directory(&CONTEXT, &file, 0, &mut |entry| {
        names.push(entry.name.to_vec());
        true
    })
    .unwrap();
    vfs.close(file);
    names.retain(|name| name != b"." && name != b"..");
    names.sort();
    names
}

fn add(vfs: &mut Vfs, directory: &Location, prefix: &[u8], tree: &mut Tree, numbers: &mut Numbers) {
    for name in names(vfs, directory) {
        let path = [prefix, b"/", &name].concat();
        let Ok(location) = vfs.resolve(&CONTEXT, directory, &name, Follow::Never) else { continue };
        let metadata = vfs.metadata(&location).unwrap();
        let content = match metadata.file_type {
            FileType::Symlink => vfs.read_link(&CONTEXT, &location).ok(),
            FileType::Regular => read(vfs, &location),
            _ => None,
        };
        tree.numbers.insert(path.clone(), numbers.of((metadata.device.minor.into(), metadata.inode)));
        tree.files.insert(path.clone(), Entry { mode: metadata.mode(), links: metadata.links, content });
        if metadata.file_type == FileType::Directory {
            add(vfs, &location, &path, tree, numbers);
        }
    }
}

fn read(vfs: &mut Vfs, location: &Location) -> Option<Vec<u8>> {
    let file = vfs.open_location(&CONTEXT, location, O_RDONLY).ok()?;
    let mut content = vec![0; vfs.len(&file).unwrap() as usize];
    assert_eq!(vfs.read_at(&file, &mut content, 0), Ok(content.len()));
    vfs.close(file);
    Some(content)
}

fn remove_all(vfs: &mut Vfs, directory: &Location) {
    let _ = vfs.set_permissions(&CONTEXT, directory, 0o755);
    for name in names(vfs, directory) {
        let location = vfs.resolve(&CONTEXT, directory, &name, Follow::Never).unwrap();
        // Another mount is there.
        if name == b"dev" || name == b"proc" {
            continue;
        }
        if vfs.file_type(&location) == Ok(FileType::Directory) {
            remove_all(vfs, &location);
            vfs.remove_directory(&CONTEXT, directory, &name).unwrap();
        } else {
            vfs.remove_file(&CONTEXT, directory, &name).unwrap();
        }
    }
}
