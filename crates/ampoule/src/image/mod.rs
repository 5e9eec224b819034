//! Guest images: static Linux executables that list their functions, checked before anything runs them.
//!
//! What can be loaded and run is an *executable*: its headers and segments lie within the file, its segments lie within the
//! guest's part of the address space, share no page, and none is writable and executable. An [`Image`] has in addition what
//! makes it callable: its functions are listed with their signatures, in a version of the
//! [guest ABI](https://github.com/ampoule-rs/ampoule/blob/main/docs/abi.md) that this host runs. Either is proof of
//! its checks. What the program does is not checked: it is the sandbox that holds it.

mod described;
mod elf;
mod embedded;
mod error;
mod executable;
mod function;
mod record;
mod segment;
mod source;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

pub use elf::{ElfPart, ForeignPlatform, NotExecutable};
pub use embedded::EmbeddedImage;
pub use error::{ImageError, ImageProblem};
pub use executable::Executable;
pub use function::Function;
pub use record::{AbiVersion, RecordProblem};
pub use segment::SegmentProblem;

pub(crate) use described::{Described, DescribedFunction};
pub(crate) use executable::read_program;
pub(crate) use segment::{Permissions, Segment};
pub(crate) use source::{Bytes, MAX_FILE_SIZE, Pieces};

use ampoule_abi::text::printable_name;

use crate::dynamic::Type;
use function::{Functions, Interface};

/// A checked guest image. Clones share the image's bytes and what was read from them.
///
/// ```no_run
/// use ampoule::image::Image;
///
/// let image = Image::from_file("guest")?;
/// for function in image.exports() {
///     println!("{}{}", function.name(), function.signature());
/// }
/// # Ok::<(), ampoule::image::ImageError>(())
/// ```
#[derive(Clone)]
pub struct Image(Arc<Checked>);

impl Image {
    /// Reads and checks the image in a file.
    ///
    /// # Errors
    /// Where the file cannot be read, is larger than 1 GiB, or is not an image that this host can run.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let name = path.to_string_lossy().into();
        match source::read(path) {
            Ok(bytes) => Self::check(name, bytes.into()),
            Err(problem) => Err(ImageError::new(name, problem)),
        }
    }

    /// Checks an image in memory. Bytes that are borrowed are not copied.
    ///
    /// # Errors
    /// Where the bytes are more than 1 GiB, or not an image that this host can run.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, ImageError> {
        Self::check("in memory".into(), Bytes::Own(bytes.into()))
    }

    /// Checks an image that is part of the host program, as [`include_guest!`](crate::include_guest) embeds it. It is not
    /// copied.
    ///
    /// # Errors
    /// Where the bytes are more than 1 GiB, or not an image that this host can run.
    pub fn embedded(image: EmbeddedImage) -> Result<Self, ImageError> {
        Self::check(image.name().into(), Bytes::Own(image.bytes().into()))
    }

    /// What the image is called in messages and in the log: its path as it was given, the name under which it was embedded,
    /// or `in memory`. The guest finds the last part of it as its first argument.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.executable.name()
    }

    /// The bytes of the image's file. What of them was not needed to check it may be anything.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.executable.file()
    }

    /// What of the image is loaded and run.
    pub(crate) fn executable(&self) -> &Executable {
        &self.0.executable
    }

    /// The version of the guest ABI that the image was built for; this host runs it.
    #[must_use]
    pub fn abi_version(&self) -> AbiVersion {
        self.0.interface.abi
    }

    /// The functions that the host can call, in the order of their numbers.
    pub fn exports(&self) -> impl ExactSizeIterator<Item = &Function> {
        self.0.interface.exports.iter()
    }

    /// The function of this name that the host can call.
    #[must_use]
    pub fn export(&self, name: &str) -> Option<&Function> {
        self.0.interface.exports.by_name(name)
    }

    /// Where among the exports the one of this number is, to have it without a search.
    pub(crate) fn export_position(&self, number: u32) -> Option<usize> {
        self.0.interface.exports.position(number)
    }

    /// The export at a [position](Self::export_position) of this image.
    #[inline]
    pub(crate) fn export_at(&self, position: usize) -> &Function {
        self.0.interface.exports.at(position)
    }

    /// The functions that the host must provide, in the order of their numbers. A function may appear several times, with
    /// one name, one signature and several numbers.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = &Function> {
        self.0.interface.imports.iter()
    }

    /// The function of this number, an export or an import.
    pub(crate) fn function(&self, number: u32) -> Option<&Function> {
        let Interface { exports, imports, .. } = &self.0.interface;
        let of = |functions: &'_ Functions| functions.position(number);
        of(exports).map(|at| exports.at(at)).or_else(|| of(imports).map(|at| imports.at(at)))
    }

    /// The structs and enums of which the image's guest says what they are made of; none before one was started.
    #[must_use]
    pub fn described_types(&self) -> Vec<Type> {
        self.described().map(Described::definitions).unwrap_or_default()
    }

    /// What the image's guest says of its types, once one was started that does.
    pub(crate) fn described(&self) -> Option<&Described> {
        self.0.described.get()
    }

    /// Remembers what a guest of the image said of its types. Where one has said so before, that stands: they are the same,
    /// unless the guest lies.
    pub(crate) fn describe(&self, described: Described) {
        self.0.described.get_or_init(|| described);
    }

    /// Whether both are clones of one image. Images that were read twice are not, whatever their bytes.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Checks an image that messages call `name`.
    pub(crate) fn check(name: Box<str>, bytes: Bytes) -> Result<Self, ImageError> {
        let executable = Executable::check(name, bytes)?;
        match Interface::of(&executable) {
            Ok(interface) => {
                tracing::debug!(
                    image = %printable_name(executable.name()),
                    bytes = executable.file_len(),
                    exports = interface.exports.len(),
                    imports = interface.imports.len(),
                    "checked a guest image"
                );
                Ok(Self(Arc::new(Checked { executable, interface, described: OnceLock::new() })))
            }
            Err(problem) => Err(ImageError::new(executable.name().into(), problem)),
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("name", &self.name())
            .field("bytes", &self.0.executable.file_len())
            .finish_non_exhaustive()
    }
}

struct Checked {
    executable: Executable,
    interface: Interface,
    described: OnceLock<Described>,
}
