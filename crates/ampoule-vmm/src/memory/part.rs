//! Access to a part of a region in many small pieces: the work that they have in common is done once.

use std::sync::RwLockReadGuard;

use super::contents::Extent;
use super::{OutOfRegion, Region};
use crate::arch::copy;

/// A part of a [`Region`] that is read a few bytes at a time. Where the compiler knows how many these are, reading them is a
/// comparison and a move.
#[derive(Debug)]
pub struct PartReader<'region> {
    start: *const u8,
    len: usize,
    /// Where it has to be read [carefully](super::careful), the region and the part's offset in it.
    careful: Option<(&'region Region, usize)>,
}

impl<'region> PartReader<'region> {
    #[inline]
    pub(super) fn new(region: &'region Region, offset: usize, len: usize) -> Result<Self, OutOfRegion> {
        let careful = region.sure(offset, len).is_none().then_some((region, offset));
        Ok(Self { start: region.bounded(offset, len)?, len, careful })
    }

    /// Copies the bytes from the offset `at` of the part on into `into`.
    ///
    /// # Panics
    ///
    /// When these do not all lie within the part.
    #[inline]
    pub fn read(&self, at: usize, into: &mut [u8]) {
        check(at, into.len(), self.len);
        if let Some((region, offset)) = self.careful {
            return region.read_carefully(offset + at, into).expect(WITHIN);
        }
        // SAFETY: the part has `len` mapped bytes from `start` on, and the access lies within, as checked; `into` is ours
        // alone and cannot overlap them, because no reference into a region exists.
        unsafe { copy::read(self.start.add(at), into) }
    }
}

/// A part of a [`Region`] that is written a few bytes at a time. Where the compiler knows how many these are, writing them is
/// a comparison and a move.
#[derive(Debug)]
pub struct PartWriter<'region> {
    start: *mut u8,
    len: usize,
    careful: Option<(&'region Region, usize)>,
    _writer: RwLockReadGuard<'region, Vec<Extent>>,
}

impl<'region> PartWriter<'region> {
    #[inline]
    pub(super) fn new(region: &'region Region, offset: usize, len: usize) -> Result<Self, OutOfRegion> {
        let _writer = region.writer();
        let careful = region.sure(offset, len).is_none().then_some((region, offset));
        Ok(Self { start: region.bounded(offset, len)?, len, careful, _writer })
    }

    /// Copies `from` to the bytes from the offset `at` of the part on.
    ///
    /// # Panics
    ///
    /// When these do not all lie within the part.
    #[inline]
    pub fn write(&self, at: usize, from: &[u8]) {
        check(at, from.len(), self.len);
        if let Some((region, offset)) = self.careful {
            return region.write_carefully(offset + at, from).expect(WITHIN);
        }
        // SAFETY: the part has `len` mapped bytes from `start` on, writable while `_writer` is held, and the access lies
        // within, as checked; `from` cannot overlap them, because no reference into a region exists.
        unsafe { copy::write(from, self.start.add(at)) }
    }
}

#[inline]
fn check(at: usize, len: usize, part: usize) {
    if at > part || len > part - at {
        outside(at, len, part);
    }
}

#[cold]
#[inline(never)]
fn outside(at: usize, len: usize, part: usize) -> ! {
    panic!("{len} bytes at offset {at:#x} do not lie within a part of {part} bytes")
}

const WITHIN: &str = "the part lies within the region";

#[cfg(test)]
mod tests;
