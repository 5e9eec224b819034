//! The debugger: a guest is stopped, looked at and changed by gdb, over gdb's remote protocol.
//!
//! Two threads take part. The *server* ([`server`]) has a thread of its own, which waits for gdb, speaks the protocol (the
//! crate `gdbstub`), and knows no guest. The *tracer* ([`tracer`]) runs the guest on the thread of its caller, as the
//! machine's [`Tracer`](crate::machine::Tracer). It holds the guest while gdb has it stopped, and does meanwhile what the
//! server asks: reads registers, writes memory, sets breakpoints. Between the two is a [`link`], which says who has the
//! turn.
//!
//! The rules:
//!
//! 1. Breakpoints are in the guest's memory only while the guest runs. So no snapshot has them, no restore loses them, and
//!    neither gdb nor a system call sees them.
//! 2. Where a guest is held, all of it is in its context, whatever it was doing: what was about to be reported, such as an
//!    interrupted breakpoint, happens again.
//! 3. While a guest is held its deadline stands still, and a kill ends its call as ever.
//! 4. Who reaches the socket has the guest, and no more of the host than the guest has. What is kept for a client is bounded.

mod address;
mod breakpoints;
mod held;
mod link;
mod listener;
mod server;
mod session;
mod target;
mod tracer;
mod watchpoints;

pub use address::{AddressError, DebuggerAddress};
pub use listener::ListenError;
pub use server::GdbServer;
