//! What a program sees of files: the grants of the application.

mod error;
mod layout;

use std::path::PathBuf;

pub use self::error::{FilesError, GrantError};

/// What a program sees of files. What is not granted is not there.
///
/// `/dev` has the devices that programs take for granted, `/proc` what a process can read about itself and its system, all of it
/// the sandbox's own. Everything else is granted here: host directories, which are read where they are, and room in memory,
/// which belongs to the sandbox, is part of its snapshots and goes with it.
///
/// ```
/// use ampoule::{Access, Files};
///
/// # let (data, results) = (std::env::temp_dir(), std::env::temp_dir());
/// let files = Files::libraries()
///     .dir(data, "/data", Access::ReadOnly)
///     .dir(results, "/results", Access::ReadWrite)
///     .tmp(64 << 20);
/// ```
///
/// A granted directory is a capability: nothing leads out of it, neither `..` nor symbolic links, whether they were there or the
/// program has made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    root: Option<PathBuf>,
    libraries: bool,
    directories: Vec<Granted>,
    tmp: Option<u64>,
    memory: u64,
    inodes: u64,
    open_files: u32,
}

/// What a program may do with the files of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read and execute them. An attempt to change anything gives `EROFS`.
    ReadOnly,
    /// Change them, and create and remove others, as far as this process itself may.
    ReadWrite,
}

/// A directory of the host's, and where the program finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Granted {
    host: PathBuf,
    at: PathBuf,
    access: Access,
}

impl Files {
    /// Nothing but `/dev` and `/proc`. The default.
    pub fn none() -> Self {
        Self {
            root: None,
            libraries: false,
            directories: Vec::new(),
            tmp: None,
            memory: DEFAULT_MEMORY,
            inodes: DEFAULT_INODES,
            open_files: MOST_OPEN_FILES,
        }
    }

    /// Read-only what dynamically linked programs and interpreters need of the host to start: `/lib*`, `/usr/lib*`,
    /// `/usr/local/lib*`, `/usr/share` and the cache of the dynamic loader, and the program itself where it lies. Nothing of
    /// home directories, and nothing else of `/etc`.
    pub fn libraries() -> Self {
        Self::none().with_libraries()
    }

    /// Adds what [`libraries`](Self::libraries) grants.
    pub fn with_libraries(mut self) -> Self {
        self.libraries = true;
        self
    }

    /// Makes a host directory what the program sees as `/`. It is only read: what the program changes there is kept in
    /// [memory](Self::memory_limit), and nobody else sees it.
    pub fn root(mut self, directory: impl Into<PathBuf>) -> Self {
        self.root = Some(directory.into());
        self
    }

    /// Lets the program see a host directory at a place of its own, which is an absolute path. The place need not exist.
    pub fn dir(mut self, host: impl Into<PathBuf>, at: impl Into<PathBuf>, access: Access) -> Self {
        self.directories.push(Granted { host: host.into(), at: at.into(), access });
        self
    }

    /// Gives the program a `/tmp` of its own in memory, which holds so many bytes.
    pub fn tmp(mut self, bytes: u64) -> Self {
        self.tmp = Some(bytes);
        self
    }

    /// How much the program may keep in memory beyond [`tmp`](Self::tmp), in bytes: what it changes below
    /// [`root`](Self::root), and files that have no name. It is memory of the host's, besides that of
    /// [`Program::memory_limit`](crate::Program::memory_limit), and taken only as it is used.
    ///
    /// Default: 64 MiB.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// How many files and directories the program may have in memory, in each of the places that it can write.
    ///
    /// Default: 65,536.
    pub fn file_limit(mut self, files: u64) -> Self {
        self.inodes = files;
        self
    }

    /// How many files the program may have open at once (`RLIMIT_NOFILE`): at most 1,024, and three at least, its standard
    /// streams. One more fails with `EMFILE`.
    ///
    /// Each of them that is the host's takes a descriptor of this process, so that with the default, a program can use up those
    /// that Linux lets a process have that asks for no more. Who runs several programs at once raises this process's limit, or
    /// lowers theirs. Where this process has none left, the program gets `ENFILE`, and the log has a warning. Files of the host
    /// that are mapped take a descriptor too, or two while they have not been read as a whole, one file for all programs
    /// together; of a program at most 256 do, which this does not bound.
    ///
    /// Default: 1,024.
    pub fn open_files(mut self, files: u32) -> Self {
        self.open_files = files.clamp(STREAMS, MOST_OPEN_FILES);
        self
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::none()
    }
}

const DEFAULT_MEMORY: u64 = 64 << 20;
const DEFAULT_INODES: u64 = 1 << 16;

/// As many as Linux lets a process have that asks for no more (`INR_OPEN_CUR` of `include/uapi/linux/fs.h`).
const MOST_OPEN_FILES: u32 = 1024;

/// Standard input, standard output and standard error.
const STREAMS: u32 = 3;
