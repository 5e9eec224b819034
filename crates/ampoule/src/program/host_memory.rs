//! Memory of the host's that a program finds as files.

use std::ops::RangeBounds;
use std::os::fd::AsFd;

use super::Program;
use crate::host_memory::{HostMemory, MapAccess, MapAt, Source};
use crate::machine::{Shape, ToMap};

impl Program {
    /// Shows the program a range of bytes of a file as `/dev/ampoule/` and this name. Where the program maps that (`mmap`), it
    /// gets the very pages of the host's cache, which all programs and processes share, instead of a copy in its memory; how and
    /// with which exceptions is said at [`MapAt`]. Otherwise like [`Builder::map_file`](crate::Builder::map_file).
    ///
    /// ```no_run
    /// use std::fs::File;
    ///
    /// use ampoule::{Files, MapAccess, Program};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let output = Program::new("/usr/bin/python3")
    ///     .files(Files::libraries())
    ///     .map_file(File::open("words.bin")?, .., "words.bin", MapAccess::Read)
    ///     .args(["search.py", "/dev/ampoule/words.bin"])
    ///     .run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// What is mapped is no part of [`memory_limit`](Self::memory_limit), and can be 32 GiB and 64 mappings at most.
    pub fn map_file(
        mut self,
        file: impl AsFd,
        range: impl RangeBounds<u64>,
        at: impl Into<MapAt>,
        access: MapAccess,
    ) -> Self {
        self.mapped.push(ToMap { source: Source::of_file(file.as_fd(), range), at: at.into(), access });
        self
    }

    /// Shows the program memory of the application's, like [`map_file`](Self::map_file).
    pub fn map_memory(mut self, memory: &HostMemory, at: impl Into<MapAt>, access: MapAccess) -> Self {
        self.mapped.push(ToMap { source: Source::of_memory(memory), at: at.into(), access });
        self
    }

    /// Room for all that is to be mapped.
    pub(super) fn mapped_limit(&self) -> usize {
        let all = self.mapped.iter().map(ToMap::size).fold(0, u64::saturating_add);
        usize::try_from(all).unwrap_or(usize::MAX).min(Shape::MOST_MAPPED)
    }
}
