//! What is in a regular file in memory: chunks of a page that clones share, holes, and what a host's file still provides.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, LazyLock};

use crate::host;
use crate::sparse::Sparse;
use crate::{Errno, FILE_SIZE_MAX};

use super::Usage;

#[cfg(test)]
mod tests;

/// A file's bytes. Those that are in no chunk are those of the host's file below [`lower_len`](Self::lower_len), and zeros
/// beyond it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    pub(crate) len: u64,
    chunks: Sparse<Chunk>,
    /// How much of the beginning the host's file provides where there is no chunk. It is never more than `len`.
    lower_len: u64,
    /// How much of the quota the chunks take.
    cost: u64,
}

#[derive(Clone, Debug)]
enum Chunk {
    Data(Arc<[u8; CHUNK_LEN]>),
    /// Zeros in front of the host's bytes. There is none where the host's file provides nothing.
    Hole,
}

impl Contents {
    /// What a host's file of this length contains.
    pub(crate) fn of_lower(len: u64) -> Self {
        Self { len, chunks: Sparse::default(), lower_len: len, cost: 0 }
    }

    /// Whether a host's file still provides some of it.
    pub(crate) fn needs_lower(&self) -> bool {
        self.lower_len > 0
    }

    /// Whether it is exactly what a host's file of this length contains.
    pub(crate) fn is_lower(&self) -> bool {
        self.lower_len > 0 && self.lower_len == self.len && self.chunks.first_from(0).is_none()
    }

    /// The parts that hold data, each with where it begins; `None` where a host's file provides some.
    pub(crate) fn parts(&self) -> Option<Vec<(u64, Box<[u8]>)>> {
        if self.needs_lower() {
            return None;
        }
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(start) = self.next_data(at) {
            let end = self.next_hole(start);
            let mut bytes = vec![0; (end - start) as usize].into_boxed_slice();
            self.read(&mut bytes, start, None).ok()?;
            parts.push((start, bytes));
            at = end;
        }
        Some(parts)
    }

    /// A file of this length with these parts, and holes between them.
    pub(crate) fn of_parts(len: u64, parts: &[(u64, Box<[u8]>)], usage: &mut Usage) -> Result<Self, Errno> {
        let mut contents = Self::default();
        for (start, bytes) in parts {
            if contents.write(bytes, *start, None, usage)? < bytes.len() {
                return Err(Errno::ENOSPC);
            }
        }
        contents.len = len;
        Ok(contents)
    }

    /// Returns how much there was.
    pub(crate) fn read(&self, into: &mut [u8], offset: u64, lower: Option<BorrowedFd<'_>>) -> Result<usize, Errno> {
        let count = (into.len() as u64).min(self.len.saturating_sub(offset)) as usize;
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let start = (at % CHUNK) as usize;
            let part = (CHUNK_LEN - start).min(count - done);
            let bytes = &mut into[done..done + part];
            match self.chunks.get(at / CHUNK) {
                Some(Chunk::Data(data)) => bytes.copy_from_slice(&data[start..start + part]),
                Some(Chunk::Hole) => bytes.fill(0),
                None if at < self.lower_len => self.read_lower(bytes, at, lower)?,
                None => bytes.fill(0),
            }
            done += part;
        }
        Ok(count)
    }

    /// Writes as much as the quota has room for, and fails only if that is nothing. The offset and the end are no more than
    /// [`FILE_SIZE_MAX`].
    pub(crate) fn write(
        &mut self,
        from: &[u8],
        offset: u64,
        lower: Option<BorrowedFd<'_>>,
        usage: &mut Usage,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < from.len() {
            let at = offset + done as u64;
            let start = (at % CHUNK) as usize;
            let part = (CHUNK_LEN - start).min(from.len() - done);
            match self.data_mut(at / CHUNK, part < CHUNK_LEN, lower, usage) {
                Ok(data) => data[start..start + part].copy_from_slice(&from[done..done + part]),
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
            done += part;
            self.len = self.len.max(offset + done as u64);
        }
        Ok(done)
    }

    pub(crate) fn set_len(&mut self, len: u64, usage: &mut Usage) {
        if len < self.len {
            // What is beyond the end must be zeros when the file grows again. Where there is no chunk, `lower_len` sees to
            // it.
            if let Some(Chunk::Data(data)) = self.chunks.get_mut(len / CHUNK) {
                Arc::make_mut(data)[(len % CHUNK) as usize..].fill(0);
            }
            self.lower_len = self.lower_len.min(len);
            self.remove_chunks(len.div_ceil(CHUNK)..u64::MAX, usage);
        }
        self.len = len;
    }

    /// Gives room to a part, in which holes become zeros that are accounted for. When there is not enough, nothing changes. What
    /// `check` fails with ends it before.
    pub(crate) fn allocate(
        &mut self,
        start: u64,
        end: u64,
        usage: &mut Usage,
        check: &dyn Fn() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let (first, last) = (start / CHUNK, end.div_ceil(CHUNK));
        // What the host's file provides has room.
        let beyond = first.max(self.lower_chunks());
        let mut needed = last.saturating_sub(beyond) * CHUNK;
        for (index, chunk) in self.chunks_in(first..last) {
            check()?;
            let counted = if index >= beyond { CHUNK } else { 0 };
            needed = needed + CHUNK - counted - chunk.cost();
        }
        usage.check_room(needed)?;
        let mut index = self.next_without_room(first);
        while index < last {
            check()?;
            let before = self.chunks.get(index).map_or(0, Chunk::cost);
            self.exchange(before, CHUNK, usage)?;
            self.chunks.insert(index, Chunk::Data(ZEROS.clone()));
            index = self.next_without_room(index + 1);
        }
        Ok(())
    }

    /// Makes all of a part, which lies within the file, this file's own, so that to write it takes no more room. When there is
    /// not enough, nothing changes.
    pub(crate) fn own(
        &mut self,
        start: u64,
        end: u64,
        lower: Option<BorrowedFd<'_>>,
        usage: &mut Usage,
    ) -> Result<(), Errno> {
        let mut owned = Vec::new();
        for index in start / CHUNK..end.div_ceil(CHUNK) {
            let before = match self.chunks.get(index) {
                Some(Chunk::Data(_)) => continue,
                Some(Chunk::Hole) => HOLE_COST,
                None => 0,
            };
            if let Err(errno) = self.data_mut(index, true, lower, usage).map(drop) {
                for (index, before) in owned {
                    self.exchange(CHUNK, before, usage)?;
                    match before {
                        0 => self.chunks.remove(index),
                        _ => self.chunks.insert(index, Chunk::Hole),
                    };
                }
                return Err(errno);
            }
            owned.push((index, before));
        }
        Ok(())
    }

    /// Makes a part zeros, and gives back the room of whole chunks. What `check` fails with ends it before.
    pub(crate) fn punch(
        &mut self,
        start: u64,
        end: u64,
        lower: Option<BorrowedFd<'_>>,
        usage: &mut Usage,
        check: &dyn Fn() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let end = end.min(self.len.next_multiple_of(CHUNK));
        if start >= end {
            return Ok(());
        }
        let (first, last) = (start / CHUNK, (end - 1) / CHUNK);
        let in_chunk = |index: u64| {
            let from = start.saturating_sub(index * CHUNK).min(CHUNK) as usize;
            from..(end - index * CHUNK).min(CHUNK) as usize
        };
        let whole_from = if in_chunk(first) == (0..CHUNK_LEN) { first } else { first + 1 };
        let whole_to = if in_chunk(last) == (0..CHUNK_LEN) { last + 1 } else { last };
        let holes = self.lower_len.div_ceil(CHUNK).min(whole_to).saturating_sub(whole_from);
        let (mut given_back, mut next) = (0, whole_from);
        while let Some((index, chunk)) = self.chunks.first_from(next).filter(|(at, _)| *at < whole_to) {
            given_back += chunk.cost();
            next = index + 1;
        }
        // What the holes need beyond what the chunks give back is had before anything changes.
        let more = (holes * HOLE_COST).saturating_sub(given_back);
        usage.add_bytes(more)?;
        let edges = [(first, whole_from > first), (last, whole_to <= last && last > first)];
        let owned = edges.into_iter().filter(|(_, is_edge)| *is_edge).try_for_each(|(index, _)| {
            if self.is_data(index) { self.data_mut(index, true, lower, usage).map(drop) } else { Ok(()) }
        });
        usage.remove_bytes(more);
        owned?;
        for (index, _) in edges.into_iter().filter(|(_, is_edge)| *is_edge) {
            self.zero_part(index, in_chunk(index), lower, usage)?;
        }
        if whole_from >= whole_to {
            return Ok(());
        }
        if whole_to >= self.lower_chunks() {
            // Nothing behind it is the host's.
            self.lower_len = self.lower_len.min(whole_from * CHUNK);
        }
        for index in whole_from..whole_to.min(self.lower_chunks()) {
            check()?;
            let before = self.chunks.get(index).map_or(0, Chunk::cost);
            self.exchange(before, HOLE_COST, usage)?;
            self.chunks.insert(index, Chunk::Hole);
        }
        self.remove_chunks(whole_from.max(self.lower_chunks())..whole_to, usage);
        Ok(())
    }

    /// The first byte of data at this offset or behind it.
    pub(crate) fn next_data(&self, offset: u64) -> Option<u64> {
        let mut at = offset;
        while at < self.len {
            if self.is_data(at / CHUNK) {
                return Some(at);
            }
            let next = (at / CHUNK + 1) * CHUNK;
            at = if next < self.lower_len { next } else { next.max(self.chunks.first_from(next / CHUNK)?.0 * CHUNK) };
        }
        None
    }

    /// The first byte of a hole at this offset or behind it. There is one at the end of every file.
    pub(crate) fn next_hole(&self, offset: u64) -> u64 {
        let mut index = offset / CHUNK;
        loop {
            index = match self.chunks.first_from(index) {
                Some((at, Chunk::Data(_))) if at == index || at <= self.lower_chunks() => at + 1,
                Some((at, Chunk::Hole)) => at,
                _ => index.max(self.lower_chunks()),
            };
            if !self.is_data(index) {
                return (index * CHUNK).clamp(offset, self.len);
            }
        }
    }

    /// How much of the quota the chunks take.
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    /// How much room the file takes: what its chunks and the host's file have.
    pub(crate) fn allocated(&self) -> u64 {
        self.cost + self.lower_len.next_multiple_of(CHUNK)
    }

    /// How many chunks at the beginning the host's file provides some bytes of, where they are not there.
    fn lower_chunks(&self) -> u64 {
        self.lower_len.div_ceil(CHUNK)
    }

    fn chunks_in(&self, indices: Range<u64>) -> impl Iterator<Item = (u64, &Chunk)> {
        let first = self.chunks.first_from(indices.start);
        let next = |(index, _): &(u64, &Chunk)| self.chunks.first_from(index + 1);
        std::iter::successors(first, next).take_while(move |(index, _)| *index < indices.end)
    }

    /// The first chunk at this index or behind it that is a hole, or not there.
    fn next_without_room(&self, from: u64) -> u64 {
        let mut at = from;
        loop {
            match self.chunks.first_from(at) {
                Some((index, Chunk::Hole)) => return index,
                Some((index, Chunk::Data(_))) if index == at || index <= self.lower_chunks() => at = index + 1,
                _ => return at.max(self.lower_chunks()),
            }
        }
    }

    /// Accounts for chunks that take the place of others.
    fn exchange(&mut self, before: u64, after: u64, usage: &mut Usage) -> Result<(), Errno> {
        if let Some(more) = after.checked_sub(before) {
            usage.add_bytes(more)?;
        } else {
            usage.remove_bytes(before - after);
        }
        self.cost = self.cost + after - before;
        Ok(())
    }

    fn is_data(&self, index: u64) -> bool {
        match self.chunks.get(index) {
            Some(Chunk::Data(_)) => true,
            Some(Chunk::Hole) => false,
            None => index * CHUNK < self.lower_len,
        }
    }

    /// A chunk to write into. What it contained is needed only where it is not overwritten as a whole.
    fn data_mut(
        &mut self,
        index: u64,
        keep: bool,
        lower: Option<BorrowedFd<'_>>,
        usage: &mut Usage,
    ) -> Result<&mut [u8; CHUNK_LEN], Errno> {
        if !matches!(self.chunks.get(index), Some(Chunk::Data(_))) {
            let before = self.chunks.get(index).map_or(0, Chunk::cost);
            let mut data = ZEROS.clone();
            if keep && before == 0 && index * CHUNK < self.lower_len {
                let bytes: &mut [u8; CHUNK_LEN] = Arc::make_mut(&mut data);
                self.read_lower(bytes, index * CHUNK, lower)?;
            }
            self.exchange(before, CHUNK, usage)?;
            self.chunks.insert(index, Chunk::Data(data));
        }
        match self.chunks.get_mut(index) {
            Some(Chunk::Data(data)) => Ok(Arc::make_mut(data)),
            Some(Chunk::Hole) | None => Err(Errno::EIO),
        }
    }

    /// Makes a part of a chunk zeros, if it is not yet.
    fn zero_part(
        &mut self,
        index: u64,
        part: Range<usize>,
        lower: Option<BorrowedFd<'_>>,
        usage: &mut Usage,
    ) -> Result<(), Errno> {
        if self.is_data(index) {
            self.data_mut(index, true, lower, usage)?[part].fill(0);
        }
        Ok(())
    }

    fn remove_chunks(&mut self, indices: Range<u64>, usage: &mut Usage) {
        if indices.start == 0 && indices.end == u64::MAX {
            usage.remove_bytes(std::mem::take(&mut self.cost));
            self.chunks = Sparse::default();
        }
        while let Some((index, chunk)) = self.chunks.first_from(indices.start).filter(|(at, _)| *at < indices.end) {
            usage.remove_bytes(chunk.cost());
            self.cost -= chunk.cost();
            self.chunks.remove(index);
        }
    }

    /// Reads what the host's file has there, and zeros where that has ended.
    fn read_lower(&self, into: &mut [u8], offset: u64, lower: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let count = (into.len() as u64).min(self.lower_len - offset) as usize;
        let done = host::read_at(lower.ok_or(Errno::ESTALE)?, &mut into[..count], offset)?;
        into[done..].fill(0);
        Ok(())
    }
}

impl Chunk {
    fn cost(&self) -> u64 {
        match self {
            Self::Data(_) => CHUNK,
            Self::Hole => HOLE_COST,
        }
    }
}

/// What a clone of a file shares with it or not: as large as a page, so that little is copied for a small write.
const CHUNK_LEN: usize = 4096;
const CHUNK: u64 = CHUNK_LEN as u64;

/// About what a hole takes in the tree of chunks.
const HOLE_COST: u64 = 64;

/// What has been allocated and not yet written shares one page.
static ZEROS: LazyLock<Arc<[u8; CHUNK_LEN]>> = LazyLock::new(|| Arc::new([0; CHUNK_LEN]));

const _: () = assert!(FILE_SIZE_MAX / CHUNK < 1 << 60, "a chunk's index fits the tree");
