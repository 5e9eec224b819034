//! Write an Ampoule guest as an ordinary Rust program.
//!
//! A guest is a binary whose functions a host application calls. It runs in a micro-VM of its own: whatever it does, it
//! reaches nothing of the host but the functions that the host provides.
//!
//! ```
//! use ampoule_guest::{export, import};
//!
//! #[import] // provided by the host
//! fn weekday() -> String;
//!
//! #[export] // callable by the host
//! fn greet(name: &str) -> String {
//!     format!("Hello, {name}! Today is {}.", weekday())
//! }
//!
//! #[export]
//! fn count(text: &[u8], wanted: u8) -> Result<usize, String> {
//!     if text.is_empty() {
//!         return Err("there is nothing to count in".to_string());
//!     }
//!     Ok(text.iter().filter(|&&byte| byte == wanted).count())
//! }
//!
//! ampoule_guest::main!();
//! ```
//!
//! # Building and running
//!
//! The stock toolchain builds a guest: it is a static executable for `x86_64-unknown-linux-gnu`
//! (`RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target x86_64-unknown-linux-gnu`; where no target is
//! named, cargo builds procedural macros with the same flags, which fails). The crate `ampoule-build` does that from the
//! `build.rs` of the host, which embeds the result and loads it with the crate `ampoule`. Started as an ordinary process, a
//! guest says so and exits with the code 2.
//!
//! # Functions
//!
//! [`export`] and [`import`] describe what can travel, and how functions are named. In short: every type with serde's
//! derives whose form does not depend on its value, strings and bytes without a copy where they are taken by reference, and
//! the host checks the types of both sides before the first call, down to the names and the order of fields and variants.
//! Functions of the guest's library crates count as well, as long as the guest uses something of that crate (`use my_library as _;` is enough).
//!
//! There is one call at a time. State that is to last from one call to the next lives in statics and thread-locals, and
//! [`main!`] can prepare it before the first call.
//!
//! What is too large for one value, or is wanted piece by piece, is a stream: a [`Reader`], a [`Writer`], [`Items`]
//! or a [`Sink`] as a parameter. Large memory of the host's is [`Mapped`] and not copied.
//!
//! # Guests that are restored
//!
//! A host can restore a guest to an earlier state, and can make many guests from one state. All of the guest's memory goes
//! back, and with it what was meant to be unique: the state of a random number generator, a counter from which ids are
//! made, a nonce. Each guest made from that state would continue with the same. The random numbers that the guest asks its
//! host for (`getrandom`, which most crates draw their seeds from) always differ.
//!
//! [`on_restore`] registers a function that renews such state before the next call. [`generation()`] shows whether the
//! guest was restored since something was made. Both cost next to nothing while the guest is not restored.
//!
//! The standard library draws the keys of [`HashMap`](std::collections::HashMap) once, when the first map is made, and not
//! again: guests from one state have the same keys. Where keys of the map come from an attacker who might learn about one
//! guest from another, use a hasher with a seed that a hook sets, and rebuild the map with it.
//!
//! # What is available
//!
//! `std` with the heap, time, randomness and the standard streams, of which the host decides where they go. There are no
//! threads, no files and no network: the functions that need them return errors.
//!
//! # Printing
//!
//! `print!`, `eprintln!` and all else that `std` prints costs no exit: the text waits in memory that the host reads, and
//! arrives when the guest next calls the host or makes a system call, at the latest when the call ends. Text that was
//! printed before a fault, an abort or a kill arrives too, and always in the order of both streams together. Some 16 KB can
//! wait; a text that does not fit is written by a system call at once. As in any Rust program, standard output gathers a line
//! until it ends. It is flushed when a call returns; where a line without its end has to arrive before a fault, flush it.
//!
//! C code of the program prints the same way (`printf`), with the GNU C library. C's standard output gathers whole blocks, and
//! is flushed when a call returns, too.
//!
//! To this end the crate defines the C library's function `write`, under both of its names, which makes the system call
//! wherever the program does not run in a sandbox.
//!
//! # Logging
//!
//! What a guest logs with the crate `log` reaches the host's `tracing` log, up to the level that the host asks for and without
//! an exit of its own: level, target, module, file, line, message and key-values. With the feature `tracing` so do the events of
//! that crate and its spans, with their fields and times. A record that the host does not want is not made: its arguments are
//! not even evaluated. Long texts are cut.
//!
//! Records are sent from when the guest is prepared, or from [`init_logging`] on. A program that has set a logger or a
//! subscriber of its own by then keeps it. Without the feature `log`, which is on by default, nothing of this crate is set.
//!
//! # Memory profiles
//!
//! A host can have the guest's memory profiled: which calls have allocated what is live, what there was at most, and what was
//! allocated in total. To this end [`main!`] sets the program's global allocator to [`Profiled`], which passes everything on to
//! the system's and, while the host asks for it, reports each allocation without an exit of its own. A program that has an
//! allocator of its own says `ampoule_guest::main!(own_allocator)`, and can have it profiled too.
//!
//! # Errors and panics
//!
//! * An exported function that returns `Result` gives the host the error as text, and as a value if serde knows its type.
//! * A panic ends the call, not the guest: the host gets the message and the location, and may call again. With
//!   `panic = "abort"` it ends the guest, and the host still gets both. So it does where all memory is taken, as long as the
//!   message is a text that need not be formatted, which takes memory before the panic begins. Panics are not printed.
//! * An imported function that returns `Result` gives its caller an error when the host's function fails: the value that the
//!   host's function returned, or one made from a [`HostError`]. Any other imported function panics.
//!
//! # Testing
//!
//! Exported functions are ordinary functions, so `cargo test` tests them without a sandbox. [`testing`] provides what
//! they import:
//!
//! ```
//! # use ampoule_guest::{export, import};
//! # #[import]
//! # fn weekday() -> String;
//! # #[export]
//! # fn greet(name: &str) -> String {
//! #     format!("Hello, {name}! Today is {}.", weekday())
//! # }
//! let _weekday = ampoule_guest::testing::provide("weekday", || "Friday".to_string());
//! assert_eq!(greet("World"), "Hello, World! Today is Friday.");
//! ```

mod allocator;
mod error;
mod mapped;
mod restore;
#[doc(hidden)]
pub mod rt;
mod stream;
pub mod testing;

pub use allocator::Profiled;
pub use ampoule_macros::{export, import};
pub use error::{HostError, HostErrorKind};
pub use mapped::Mapped;
pub use restore::{generation, on_restore};
pub use stream::{Items, Reader, Sink, Writer};

/// Has what the program logs sent to the host from now on, and not only when the guest is prepared.
///
/// It does nothing outside a sandbox, where the program has a logger (for events of `tracing`: a subscriber) already, and when
/// it is called again.
///
/// ```
/// fn prepare() {
///     ampoule_guest::init_logging();
///     log::info!("reading the table");
/// }
///
/// ampoule_guest::main!(prepare);
/// # prepare();
/// ```
pub fn init_logging() {
    rt::install_logging();
}

/// Makes the program a guest: defines its `main`.
///
/// ```
/// ampoule_guest::main!();
/// ```
///
/// A function or closure without parameters prepares the program before the first call. It may call the host. If it
/// panics, the guest ends, and the host gets the panic's message and location.
///
/// ```
/// use std::sync::OnceLock;
///
/// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
///
/// #[ampoule_guest::export]
/// fn square(number: usize) -> Option<u64> {
///     TABLE.get()?.get(number).copied()
/// }
///
/// fn prepare() {
///     TABLE.get_or_init(|| (0..1000).map(|number| number * number).collect());
/// }
///
/// ampoule_guest::main!(prepare);
/// # prepare();
/// # assert_eq!(square(12), Some(144));
/// ```
///
/// The program's global allocator becomes the system's, in a form in which the host can profile the guest's memory
/// ([`Profiled`]). A program that has one of its own, or is to have none but the standard library's, says so. There is then no
/// profile, unless it is a [`Profiled`] one:
///
/// ```
/// ampoule_guest::main!(own_allocator);
/// ```
///
/// ```
/// # fn prepare() {}
/// ampoule_guest::main!(prepare, own_allocator);
/// # prepare();
/// ```
#[macro_export]
macro_rules! main {
    () => {
        $crate::main!(|| {});
    };
    (own_allocator $(,)?) => {
        $crate::main!(|| {}, own_allocator);
    };
    ($init:expr, own_allocator $(,)?) => {
        fn main() {
            $crate::rt::run($init)
        }
    };
    ($init:expr $(,)?) => {
        #[global_allocator]
        static AMPOULE_ALLOCATOR: $crate::Profiled = $crate::Profiled::new(::std::alloc::System);

        $crate::main!($init, own_allocator);
    };
}
