//! Memory of the host's that the guest can use in place.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr;
use std::slice;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Bytes of the host's: a file that it has mapped, memory of its own, or a slice that it lends for a call.
///
/// It is a parameter like `&[u8]`, and nothing has been copied, unless the bytes are so few that copying them costs less. What
/// the host lends is gone when the call returns, and so is what it unmaps later; whoever has kept an address of it and uses it
/// then faults, which ends the guest.
///
/// ```
/// use ampoule_guest::{Mapped, export};
///
/// #[export]
/// fn lines(text: Mapped<'_>) -> usize {
///     text.iter().filter(|byte| **byte == b'\n').count()
/// }
///
/// ampoule_guest::main!();
/// # assert_eq!(lines(Mapped::from(b"two\nlines\n".as_slice())), 2);
/// ```
///
/// A file that somebody changes while the guest reads it gives what it holds at each moment, in any mixture. The host sees to it
/// that nobody does so, or the guest copies what it looks at more than once. A read behind the end of a file that was cut short
/// ends the guest.
#[derive(Clone, Copy)]
pub struct Mapped<'call> {
    start: *const u8,
    len: usize,
    call: PhantomData<&'call [u8]>,
}

impl<'call> Mapped<'call> {
    /// The bytes, for as long as the call takes.
    pub fn bytes(self) -> &'call [u8] {
        // SAFETY: the host has mapped these bytes for the guest, or they are of the call's arguments; both stay until the call
        // returns. Nobody writes them but whoever has `as_mut_ptr`, who answers for it.
        unsafe { slice::from_raw_parts(self.start, self.len) }
    }

    /// Where the bytes begin, to be written where the host has mapped them copy-on-write: what is written is the guest's own.
    /// Elsewhere a write faults.
    ///
    /// Whoever writes sees to it that no borrow of the bytes is in use, of another `Mapped` of the same memory either.
    pub fn as_mut_ptr(self) -> *mut u8 {
        self.start.cast_mut()
    }
}

impl Deref for Mapped<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

impl AsRef<[u8]> for Mapped<'_> {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Bytes of the guest's own, for tests without a host.
impl<'bytes> From<&'bytes [u8]> for Mapped<'bytes> {
    fn from(bytes: &'bytes [u8]) -> Self {
        Self { start: bytes.as_ptr(), len: bytes.len(), call: PhantomData }
    }
}

impl<'de: 'call, 'call> Deserialize<'de> for Mapped<'call> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mapped = ampoule_abi::mapped::Mapped::deserialize(deserializer)?;
        if !mapped.lies_within() {
            return Err(D::Error::custom("mapped memory that does not lie among the host's addresses"));
        }
        Ok(match mapped {
            ampoule_abi::mapped::Mapped::Copy(bytes) => bytes.into(),
            ampoule_abi::mapped::Mapped::At { len: 0, .. } => [].as_slice().into(),
            ampoule_abi::mapped::Mapped::At { address, len } => {
                Self { start: ptr::with_exposed_provenance(address as usize), len: len as usize, call: PhantomData }
            }
        })
    }
}

impl fmt::Debug for Mapped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped").field("start", &self.start).field("len", &self.len).finish()
    }
}

// SAFETY: it is a shared slice of bytes.
unsafe impl Send for Mapped<'_> {}
// SAFETY: as above.
unsafe impl Sync for Mapped<'_> {}
