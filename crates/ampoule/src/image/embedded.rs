//! Images that are part of the host program.

use std::fmt;

/// A guest image that is part of the host program, and the name of its binary. [`include_guest!`](crate::include_guest) makes
/// one; images from elsewhere are made by [`new`](Self::new).
///
/// ```
/// use ampoule::EmbeddedImage;
///
/// const IMAGES: [EmbeddedImage; 2] = [EmbeddedImage::new("resize", b"\x7fELF"), EmbeddedImage::new("rotate", b"\x7fELF")];
/// assert!(IMAGES.iter().any(|image| image.name() == "rotate"));
/// ```
#[derive(Clone, Copy)]
pub struct EmbeddedImage {
    name: &'static str,
    bytes: &'static [u8],
}

impl EmbeddedImage {
    /// An image that messages call `name`. The bytes are checked by [`Image::embedded`](crate::Image::embedded).
    #[must_use]
    pub const fn new(name: &'static str, bytes: &'static [u8]) -> Self {
        Self { name, bytes }
    }

    /// What messages and the log call the image, and what the guest finds as its first argument.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The bytes of the image's file.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        self.bytes
    }
}

impl fmt::Debug for EmbeddedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedImage").field("name", &self.name).field("bytes", &self.bytes.len()).finish()
    }
}
