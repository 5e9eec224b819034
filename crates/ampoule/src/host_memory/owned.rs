//! Memory of the application's that guests may see.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use ampoule_vmm::OwnedPages;

/// Bytes of the application's that guests can be shown without a copy, by
/// [`Sandbox::map_memory`](crate::Sandbox::map_memory). Clones share them.
///
/// They can be changed until somebody shares them: another clone, or a sandbox or a snapshot that shows them.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// use ampoule::{HostMemory, MapAccess};
///
/// let mut table = HostMemory::new(256 << 20)?;
/// fill(table.get_mut().expect("nobody else has it"));
/// let mapping = sandbox.map_memory(&table, None, MapAccess::Read)?;
/// let found: u32 = sandbox.call("search", (mapping.bytes(), "word"))?;
/// # fn fill(_: &mut [u8]) {}
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct HostMemory(Arc<OwnedPages>);

impl HostMemory {
    /// So many bytes, which are zero. Only those that are touched take memory.
    ///
    /// # Errors
    /// `InvalidInput` for none, and for more than can be mapped; what the host reports where it has no memory or file descriptor
    /// for them.
    pub fn new(len: usize) -> io::Result<Self> {
        OwnedPages::new(len).map(|pages| Self(Arc::new(pages)))
    }

    /// A copy of these bytes.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let mut pages = OwnedPages::new(bytes.len())?;
        pages.bytes_mut().copy_from_slice(bytes);
        Ok(Self(Arc::new(pages)))
    }

    /// The bytes, to be changed, unless somebody shares them.
    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        Arc::get_mut(&mut self.0).map(OwnedPages::bytes_mut)
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.0.file()
    }
}

impl Deref for HostMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl AsRef<[u8]> for HostMemory {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for HostMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostMemory").field("len", &self.len()).finish_non_exhaustive()
    }
}
