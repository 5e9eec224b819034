//! Numbers of pages as types, so that a page of a guest's addresses and a frame of its memory cannot be taken for each other.

use std::ops::{Add, AddAssign, Sub};

use ampoule_vmm::{GuestVirt, PAGE_SIZE};

/// A page of a guest's addresses, counted from address 0.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) struct Page(pub(crate) u64);

/// A page of the memory that a guest's pages are made of, counted from the first.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) struct Frame(pub(crate) u64);

impl Page {
    /// The page that holds an address.
    pub(crate) const fn of(address: GuestVirt) -> Self {
        Self(address.0 / PAGE_SIZE as u64)
    }

    /// The first address of the page.
    pub(crate) const fn address(self) -> GuestVirt {
        GuestVirt(self.0 * PAGE_SIZE as u64)
    }
}

macro_rules! page_arithmetic {
    ($number:ident) => {
        /// So many pages further on.
        impl Add<u64> for $number {
            type Output = Self;

            fn add(self, pages: u64) -> Self {
                Self(self.0 + pages)
            }
        }

        impl AddAssign<u64> for $number {
            fn add_assign(&mut self, pages: u64) {
                self.0 += pages;
            }
        }

        /// So many pages before.
        impl Sub<u64> for $number {
            type Output = Self;

            fn sub(self, pages: u64) -> Self {
                Self(self.0 - pages)
            }
        }

        /// How many pages lie between two.
        impl Sub for $number {
            type Output = u64;

            fn sub(self, other: Self) -> u64 {
                self.0 - other.0
            }
        }
    };
}

page_arithmetic!(Page);
page_arithmetic!(Frame);
