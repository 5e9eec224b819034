//! Where the application wants a mapping to be found.

/// Where a guest finds memory of the host's: at an address, by a name, both, or by an argument alone.
///
/// Whoever maps something gives `None`, an address or a name, or with `MapAt` both:
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// # let model = std::fs::File::open("model.bin")?;
/// use ampoule::{MapAccess, MapAt};
///
/// // The guest opens /dev/ampoule/model.bin.
/// sandbox.map_file(&model, .., "model.bin", MapAccess::Read)?;
/// sandbox.map_file(&model, .., MapAt::address(0x7ff1_0000_0000).named("again.bin"), MapAccess::Read)?;
/// # Ok(()) }
/// ```
///
/// Under its name the guest has a file in `/dev/ampoule`, which it opens and reads like any other. Where it maps it (`mmap`), it
/// gets the pages themselves, at the address at which they are anyway, unless it asks for another address or, with
/// `MAP_PRIVATE`, for memory to be written: that is a copy in the guest's own memory.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MapAt {
    pub(crate) address: Option<u64>,
    pub(crate) name: Option<String>,
}

impl MapAt {
    /// Wherever there is room.
    pub fn anywhere() -> Self {
        Self::default()
    }

    /// At this address, which is on a page between 0x7ff0_0000_0000 and 0x7fff_ffe0_0000.
    pub fn address(address: u64) -> Self {
        Self { address: Some(address), name: None }
    }

    /// And as the file of this name in `/dev/ampoule`: at most 255 bytes without a `/` or a zero, and neither `.` nor `..`.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }
}

impl From<Option<u64>> for MapAt {
    fn from(address: Option<u64>) -> Self {
        Self { address, name: None }
    }
}

impl From<&str> for MapAt {
    fn from(name: &str) -> Self {
        Self::anywhere().named(name)
    }
}

impl From<String> for MapAt {
    fn from(name: String) -> Self {
        Self::anywhere().named(name)
    }
}
