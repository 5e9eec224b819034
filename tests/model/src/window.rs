//! Where the pages lie.

use crate::{Contents, Page, Protection, Span};

/// A contiguous range of pages, each of which can be mapped. First come the windows at fixed addresses, then those that lie
/// wherever the host puts them, then those of pages of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(pub usize);

impl Window {
    /// Where it begins, if that is always the same.
    pub fn address(self) -> Option<u64> {
        FIXED_ADDRESSES.get(self.0).copied()
    }

    /// How many pages it has at most.
    pub fn pages(self) -> usize {
        match self {
            CONSTANTS => 6,
            CODE => 4,
            _ => 48,
        }
    }

    /// All of it.
    pub fn whole(self) -> Span {
        self.first(self.pages())
    }

    /// Its first `pages` pages.
    pub fn first(self, pages: usize) -> Span {
        Span { window: self, start: 0, end: pages }
    }

    /// Whether it lies wherever the host puts it. All of its pages are mapped or unmapped at once.
    pub fn floats(self) -> bool {
        (FIXED..FIXED + FLOATING).contains(&self.0)
    }

    /// Whether its pages are the image's, which are always mapped.
    pub fn is_of_image(self) -> bool {
        self.0 >= FIXED + FLOATING
    }

    pub(crate) fn at_start(self) -> Vec<Option<Page>> {
        let of_image = |protection, byte| {
            let contents = Contents { stamp: 0, filler: u64::from_ne_bytes([byte; 8]) };
            Some(Page { protection, contents })
        };
        let page = match self {
            CONSTANTS => of_image(Protection::Read, b'c'),
            CODE => of_image(Protection::ReadExecute, 0xcc),
            _ => None,
        };
        vec![page; self.pages()]
    }
}

/// How many windows lie at fixed addresses.
pub const FIXED: usize = FIXED_ADDRESSES.len();

/// How many lie wherever the host puts them.
pub const FLOATING: usize = 3;

/// Constants of the image, all bytes of which are `c`.
pub const CONSTANTS: Window = Window(FIXED + FLOATING);

/// Code of the image, all bytes of which are breakpoints.
pub const CODE: Window = Window(FIXED + FLOATING + 1);

/// All of them.
pub const WINDOWS: usize = FIXED + FLOATING + 2;

/// Addresses where room for a large mapping is, which overlaps no window: in the middle of a range of 512 GiB, and
/// where two of them meet.
pub const LARGE_AREAS: [u64; 3] = [0x48_0000_0000, 0x3000_0000_0000 - (24 << 20), 0x7000_7fe0_0000];

/// Windows have tables of their own, or share them with another one, at each level: they lie at the start of what a table
/// covers (2 MiB, 1 GiB, 512 GiB), in the middle of it, and half before and half behind the place where two meet. All of
/// them lie far from the image and from where the host puts what the guest maps anywhere.
const FIXED_ADDRESSES: [u64; 18] = [
    0x1_0000_0000,
    0x1_0020_0000 - HALF,
    0x1_4000_0000 - HALF,
    0x2_0000_0000,
    0x2_0040_0000 - HALF,
    0x10_0012_3000,
    0x80_0000_0000 - HALF,
    0x80_4000_0000 - HALF,
    0x100_0000_0000,
    0x100_0020_0000,
    0x800_0000_0000 - HALF,
    0x1000_0020_0000 - HALF,
    0x2000_0000_0000,
    0x4000_0000_0000 - HALF,
    0x4000_0020_0000,
    0x6000_4000_0000 - HALF,
    0x7c00_0000_0000 - HALF,
    0x7d00_3fe0_0000 - HALF,
];

/// Of a window's bytes.
const HALF: u64 = 24 * 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_large_areas_overlap_nothing() {
        const LARGEST: u64 = 256 << 20;
        let windows = FIXED_ADDRESSES.iter().map(|at| (*at, at + 2 * HALF));
        let areas = LARGE_AREAS.iter().map(|at| (*at, at + LARGEST));
        let mut ranges: Vec<_> = windows.chain(areas).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranges:x?}");
        assert!(ranges[0].0 >= 1 << 32 && ranges[ranges.len() - 1].1 <= 0x7e00_0000_0000);
        assert!(ranges.iter().all(|range| range.0 % 4096 == 0));
    }
}
