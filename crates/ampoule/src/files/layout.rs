//! From grants to the tree of files that a process starts with.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ampoule_vfs::{Builder, Context, Errno, File, NoProcess, Quota, Timestamp, Vfs};
use linux_raw_sys::general::{O_DIRECTORY, O_PATH, O_RDONLY};

use super::{Access, Files, FilesError};
use crate::personality::linux::{ProcessFiles, TerminalStreams};

impl Files {
    /// The files of a process that runs this program, if it has a path, in this directory.
    pub(crate) fn mount(&self, program: Option<&Path>, directory: &Path) -> Result<ProcessFiles, FilesError> {
        let mut tree = Tree::new(self);
        if self.libraries {
            tree.add_libraries()?;
            if let Some(program) = program {
                tree.add_program(program)?;
            }
        }
        let mut vfs = tree.build()?;
        let directory = open_directory(&mut vfs, directory)?;
        let executable = program.and_then(|program| open_executable(&mut vfs, program));
        let descriptors = self.open_files as usize;
        Ok(ProcessFiles { vfs, directory, executable, descriptors, terminal: TerminalStreams::None })
    }

    /// The files of a process that is granted none.
    pub(crate) fn of_none() -> ProcessFiles {
        static NONE: OnceLock<ProcessFiles> = OnceLock::new();
        let mount = || Self::none().mount(None, Path::new("/")).expect("nothing of the host is needed");
        NONE.get_or_init(mount).clone()
    }
}

/// What is mounted.
struct Tree {
    builder: Builder,
    /// Whether the root is memory in which nothing else can be.
    is_bare: bool,
    /// Where something is granted, so that nothing is granted twice by itself.
    places: Vec<PathBuf>,
}

impl Tree {
    fn new(files: &Files) -> Self {
        let quota = Quota { bytes: files.memory, inodes: files.inodes };
        let mut builder = Builder::new().anonymous_quota(quota).open_files(files.open_files + HELD);
        let mut places = Vec::new();
        if let Some(root) = &files.root {
            builder = builder.overlay("/", root, quota);
        }
        for granted in &files.directories {
            builder = match granted.access {
                Access::ReadOnly => builder.host_read_only(&granted.at, &granted.host),
                Access::ReadWrite => builder.host_read_write(&granted.at, &granted.host),
            };
            places.push(granted.at.clone());
        }
        if let Some(bytes) = files.tmp {
            builder = builder.memory("/tmp", Quota { bytes, inodes: files.inodes });
            places.push("/tmp".into());
        }
        let is_bare = files.root.is_none() && !places.iter().any(|place| place == Path::new("/"));
        if is_bare {
            builder = builder.memory("/", Quota { bytes: 0, inodes: 0 });
        }
        Self { builder, is_bare, places }
    }

    /// Grants what dynamically linked programs and interpreters need. Where the host has a link to such a directory, as with
    /// `/lib` on most systems, there is the same link.
    fn add_libraries(&mut self) -> Result<(), FilesError> {
        for above in ["/", "/usr", "/usr/local"] {
            for name in names_in(Path::new(above))? {
                if name.starts_with("lib") || above == "/usr" && name == "share" {
                    self.add(&Path::new(above).join(name))?;
                }
            }
        }
        for link in ["/bin", "/sbin"].map(Path::new) {
            if link.is_symlink() {
                self.add(link)?;
            }
        }
        self.add_file(Path::new(LOADER_CACHE));
        Ok(())
    }

    /// Grants a program where it lies, and the links by which it was found.
    fn add_program(&mut self, program: &Path) -> Result<(), FilesError> {
        let mut path = absolute(program)?;
        for _ in 0..MOST_LINKS {
            let Ok(target) = fs::read_link(&path) else { break };
            self.link(&path, &target);
            path = absolute(&path.parent().unwrap_or(Path::new("/")).join(target))?;
        }
        self.add_file(&path);
        Ok(())
    }

    /// Grants a directory, or the link that it is, where it lies.
    fn add(&mut self, path: &Path) -> Result<(), FilesError> {
        if self.is_granted(path) {
            return Ok(());
        }
        let failed = |reason| FilesError::Libraries { path: path.to_owned(), reason };
        let kind = fs::symlink_metadata(path).map_err(failed)?.file_type();
        if kind.is_symlink() {
            self.link(path, &fs::read_link(path).map_err(failed)?);
        } else if kind.is_dir() {
            self.builder = std::mem::take(&mut self.builder).host_read_only(path, path);
            self.places.push(path.to_owned());
        }
        Ok(())
    }

    /// Grants a file where it lies, if it is there and not granted otherwise.
    fn add_file(&mut self, path: &Path) {
        if path.is_file() && !self.is_granted(path) {
            self.builder = std::mem::take(&mut self.builder).host_file(path, path);
        }
    }

    fn link(&mut self, path: &Path, target: &Path) {
        self.builder = std::mem::take(&mut self.builder).symlink(path, target);
    }

    fn is_granted(&self, path: &Path) -> bool {
        self.places.iter().any(|place| path.starts_with(place))
    }

    fn build(self) -> Result<Vfs, FilesError> {
        let mut vfs = self.builder.build()?;
        if self.is_bare {
            let context = Context { now: Timestamp::default(), process: &NoProcess };
            let root = vfs.root();
            vfs.set_permissions(&context, &root, 0o555).expect("the root is in memory");
        }
        Ok(vfs)
    }
}

fn open_directory(vfs: &mut Vfs, directory: &Path) -> Result<File, FilesError> {
    let context = Context { now: Timestamp::default(), process: &NoProcess };
    let failed = |reason| FilesError::CurrentDirectory { at: directory.to_owned(), reason };
    if !directory.is_absolute() {
        return Err(failed(Errno::ENOENT));
    }
    let root = vfs.root();
    let path = directory.as_os_str().as_bytes();
    let opened = vfs.open(&context, &root, path, O_PATH | O_DIRECTORY, 0).map_err(failed)?;
    vfs.check_access(opened.location(), EXECUTE).map_err(failed)?;
    Ok(opened)
}

/// The program as the process finds it in `/proc/self/exe`, if it is there.
fn open_executable(vfs: &mut Vfs, program: &Path) -> Option<File> {
    let context = Context { now: Timestamp::default(), process: &NoProcess };
    let path = absolute(program).ok()?;
    let root = vfs.root();
    vfs.open(&context, &root, path.as_os_str().as_bytes(), O_RDONLY, 0).ok()
}

fn names_in(directory: &Path) -> Result<Vec<String>, FilesError> {
    let failed = |reason| FilesError::Libraries { path: directory.to_owned(), reason };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        entries.filter_map(|entry| name(entry).transpose()).collect::<Result<_, _>>().map_err(failed)?;
    names.sort_unstable();
    Ok(names)
}

/// Where a program of the host lies, which may be a link, while what leads there has none.
fn absolute(program: &Path) -> Result<PathBuf, FilesError> {
    let failed = |reason| FilesError::Libraries { path: program.to_owned(), reason };
    let path = std::path::absolute(program).map_err(failed)?;
    match (path.parent(), path.file_name()) {
        (Some(directory), Some(name)) => Ok(directory.canonicalize().map_err(failed)?.join(name)),
        _ => path.canonicalize().map_err(failed),
    }
}

/// What the dynamic loader looks up libraries in.
const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// How many links lead to a program at most (Linux's `include/linux/namei.h`, `MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// What a process has open without a descriptor: its program, its working directory and, on the way there, the next one.
const HELD: u32 = 3;

/// The permission to search a directory.
const EXECUTE: u32 = 1;
