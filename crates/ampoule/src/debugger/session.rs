//! A conversation with one debugger.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStubBuilder};

use super::link::{Link, StopReason};
use super::listener::{Stream, wait_readable};
use super::server::drain;
use super::target::GuestTarget;
use crate::machine::Subject;

/// See the [module](self).
pub(super) struct Session<'a> {
    link: &'a Link,
    target: GuestTarget<'a>,
    stream: &'a Stream,
    woken: &'a UnixStream,
    /// What the debugger has sent and is not looked at yet.
    received: VecDeque<u8>,
}

/// What a session goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Byte(u8),
    /// The guest has stopped or ended, or the sandbox is gone.
    Woken,
    /// The debugger has gone.
    Closed,
}

impl<'a> Session<'a> {
    pub(super) fn new(link: &'a Link, subject: &'a Subject, stream: &'a Stream, woken: &'a UnixStream) -> Self {
        let received = VecDeque::with_capacity(RECEIVED);
        Self { link, target: GuestTarget::new(link, subject), stream, woken, received }
    }

    /// Serves the debugger until it goes, or the sandbox does: why that was no proper end.
    pub(super) fn run(mut self) -> Result<(), String> {
        let output = Output { stream: self.stream, bytes: Vec::new() };
        let stub = GdbStubBuilder::new(output).packet_buffer_size(PACKET).build().map_err(text)?;
        let mut stub = stub.run_state_machine(&mut self.target).map_err(text)?;
        loop {
            stub = match stub {
                GdbStubStateMachine::Idle(mut idle) => match self.next(idle.borrow_conn()).map_err(text)? {
                    Next::Byte(byte) => idle.incoming_data(&mut self.target, byte).map_err(text)?,
                    Next::Woken if self.link.is_over() => return Ok(()),
                    Next::Woken => idle.into(),
                    Next::Closed => return Ok(()),
                },
                GdbStubStateMachine::Running(mut running) => match self.link.take_report() {
                    Some(reason) => running.report_stop(&mut self.target, reason).map_err(text)?,
                    None if self.link.is_over() => return Ok(()),
                    None => match self.next(running.borrow_conn()).map_err(text)? {
                        Next::Byte(byte) => running.incoming_data(&mut self.target, byte).map_err(text)?,
                        Next::Woken => running.into(),
                        Next::Closed => return Ok(()),
                    },
                },
                GdbStubStateMachine::CtrlCInterrupt(interrupt) => {
                    self.link.break_in();
                    interrupt.interrupt_handled(&mut self.target, None::<StopReason>).map_err(text)?
                }
                GdbStubStateMachine::Disconnected(mut disconnected) => {
                    let is_killed = disconnected.get_reason() == DisconnectReason::Kill;
                    let output = disconnected.borrow_conn();
                    if is_killed {
                        self.link.kill();
                        // `gdbstub` does not answer, and gdb waits for it where it has named the process.
                        output.write_all(OK_PACKET).map_err(text)?;
                    }
                    return output.flush().map_err(text);
                }
            };
        }
    }

    /// The next byte of the debugger's, or what has happened before it came.
    fn next(&mut self, output: &mut Output<'_>) -> io::Result<Next> {
        if let Some(byte) = self.received.pop_front() {
            return Ok(Next::Byte(byte));
        }
        output.flush()?;
        let [is_readable, is_woken] = wait_readable([self.stream.as_fd(), self.woken.as_fd()])?;
        if is_woken {
            drain(self.woken);
            return Ok(Next::Woken);
        }
        if !is_readable {
            return Ok(Next::Woken);
        }
        let mut bytes = [0; RECEIVED];
        match self.stream.read(&mut bytes)? {
            0 => Ok(Next::Closed),
            read => {
                self.received.extend(&bytes[1..read]);
                Ok(Next::Byte(bytes[0]))
            }
        }
    }
}

/// What is sent to a debugger, in pieces that are as large as they come.
struct Output<'a> {
    stream: &'a Stream,
    bytes: Vec<u8>,
}

impl Connection for Output<'_> {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.write_all(&[byte])
    }

    /// An answer can be as large as the guest's memory.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() < PACKET { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// The longest packet that a debugger may send, in bytes. It asks for no more of the executable at once.
const PACKET: usize = 64 << 10;

/// "OK" with its checksum.
const OK_PACKET: &[u8] = b"$OK#9a";

const RECEIVED: usize = 4096;
