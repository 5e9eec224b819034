//! Guest addresses as types, so that a guest-physical and a guest-virtual address cannot be taken for each other.

use std::fmt;

/// Size of a page, of guest and host alike, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// An address in a guest's physical address space, in bytes.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct GuestPhys(pub u64);

/// An address in a guest's virtual address space, in bytes.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct GuestVirt(pub u64);

impl fmt::Display for GuestPhys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for GuestVirt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

macro_rules! address_arithmetic {
    ($address:ident) => {
        impl $address {
            /// The address `bytes` further on, or `None` beyond the end of the 64-bit space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The address `bytes` before, or `None` below zero.
            pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
                match self.0.checked_sub(bytes) {
                    Some(difference) => Some(Self(difference)),
                    None => None,
                }
            }

            /// The first address of the page that holds this one.
            pub const fn page_start(self) -> Self {
                Self(self.0 & !(PAGE_SIZE as u64 - 1))
            }

            /// How far into its page this address lies, in bytes.
            pub const fn page_offset(self) -> usize {
                (self.0 & (PAGE_SIZE as u64 - 1)) as usize
            }

            /// Whether a page begins here.
            pub const fn is_page_aligned(self) -> bool {
                self.page_offset() == 0
            }
        }
    };
}

address_arithmetic!(GuestPhys);
address_arithmetic!(GuestVirt);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_splits_into_page_and_offset() {
        let address = GuestVirt(0x1234_5678);
        assert_eq!(address.page_start(), GuestVirt(0x1234_5000));
        assert_eq!(address.page_offset(), 0x678);
        assert!(address.page_start().is_page_aligned());
        assert!(!address.is_page_aligned());
    }

    #[test]
    fn sums_and_differences_do_not_wrap() {
        assert_eq!(GuestPhys(u64::MAX).checked_add(1), None);
        assert_eq!(GuestPhys(0).checked_sub(1), None);
        assert_eq!(GuestPhys(1).checked_add(2), Some(GuestPhys(3)));
    }

    #[test]
    fn addresses_are_written_in_hexadecimal() {
        assert_eq!(GuestPhys(0x1000).to_string(), "0x1000");
        assert_eq!(GuestVirt(0x41a000).to_string(), "0x41a000");
    }
}
