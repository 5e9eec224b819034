//! Streams of the host's: what a call passes piece by piece.

mod items;
mod reader;
mod sink;
mod writer;

pub use items::Items;
pub use reader::Reader;
pub use sink::Sink;
pub use writer::Writer;

/// How many bytes are gathered where the program reads or writes a few at a time. Each exit costs as much as to copy some of them;
/// each page that is written here is written back when the guest is restored.
const GATHERED: usize = 64 << 10;
