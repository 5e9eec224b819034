//! By what open files, pipes and pairs of sockets are named within the process.

use super::OPEN_MAX;

/// Where in the table an open file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::personality::linux) struct FileId(pub(super) usize);

/// A set of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(in crate::personality::linux) struct FileSet([u64; OPEN_MAX / WORD]);

/// Which of the pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::personality::linux) struct PipeId(pub(super) usize);

/// Which of the pairs of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::personality::linux) struct PairId(pub(super) usize);

impl FileSet {
    pub(in crate::personality::linux) fn has(self, FileId(file): FileId) -> bool {
        self.0[file / WORD] >> (file % WORD) & 1 != 0
    }

    pub(super) fn insert(&mut self, FileId(file): FileId) {
        self.0[file / WORD] |= 1 << (file % WORD);
    }

    pub(in crate::personality::linux) fn with(self, others: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | others.0[word]))
    }

    pub(in crate::personality::linux) fn is_empty(self) -> bool {
        self.0 == [0; OPEN_MAX / WORD]
    }
}

impl FromIterator<FileId> for FileSet {
    fn from_iter<I: IntoIterator<Item = FileId>>(files: I) -> Self {
        let mut set = Self::default();
        files.into_iter().for_each(|file| set.insert(file));
        set
    }
}

impl FileId {
    /// The place of this number in the table.
    pub(in crate::personality::linux) fn of_number(number: u32) -> Self {
        Self(number as usize)
    }

    /// A number that no other open file has.
    pub(in crate::personality::linux) fn number(self) -> u64 {
        self.0 as u64
    }
}

impl PipeId {
    /// A number that no other pipe of the process has.
    pub(in crate::personality::linux) fn number(self) -> u64 {
        self.0 as u64
    }
}

impl PairId {
    /// A number that no other pair of the process has.
    pub(in crate::personality::linux) fn number(self) -> u64 {
        self.0 as u64
    }
}

/// Files in a word of a set.
pub(super) const WORD: usize = u64::BITS as usize;
