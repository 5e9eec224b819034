//! Where a program's standard input comes from.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::personality::{Behind, Held, Taken};
use crate::terminal::Terminal;

/// Where a program's standard input comes from; set with [`Program::stdin`](crate::Program::stdin).
///
/// The program sees a pipe, whatever it is, of which `poll` and its kin report what is there: something to read, the end, or
/// nothing yet. The host reads ahead, at most 64 KiB.
pub struct Input {
    kind: Kind,
    /// Whether something else follows where this ends.
    goes_on: bool,
}

enum Kind {
    Empty,
    Bytes {
        bytes: Vec<u8>,
        taken: usize,
    },
    File {
        file: File,
        ahead: Ahead,
    },
    Reader {
        reader: Box<dyn Read + Send>,
        ahead: Ahead,
    },
    /// Nothing is read ahead of it, since the program may change what becomes of what is typed.
    Terminal(Terminal),
}

/// What was read and not yet taken.
#[derive(Default)]
struct Ahead {
    bytes: Vec<u8>,
    taken: usize,
    /// Why no more will be read.
    end: Option<Taken>,
    /// Whether it had nothing when it was last asked, and nobody has looked since.
    is_asked_in_vain: bool,
}

/// What a program waits for that waits for its input.
pub(crate) enum Wait<'input> {
    /// This file is to become readable.
    Readable(BorrowedFd<'input>),
    /// The application is to be [asked](Input::ask).
    Asking,
    /// What [follows](Input::comes_later) is to be set.
    Later,
}

impl Input {
    /// At its end from the beginning. The default.
    pub fn empty() -> Self {
        Kind::Empty.into()
    }

    /// These bytes, and then its end.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Kind::Bytes { bytes: bytes.into(), taken: 0 }.into()
    }

    /// A file, a pipe, a socket or a terminal. While the program waits for it, the call can be ended as at any other time: by
    /// a kill or a limit. Nobody else is to read from the same pipe meanwhile.
    pub fn file(file: impl Into<OwnedFd>) -> Self {
        Kind::File { file: File::from(file.into()), ahead: Ahead::default() }.into()
    }

    /// The standard input of this process.
    ///
    /// # Errors
    /// What the system reports where it cannot be duplicated, for example because the process has no more descriptors.
    pub fn inherit() -> io::Result<Self> {
        Ok(Self::file(io::stdin().as_fd().try_clone_to_owned()?))
    }

    /// What this reader gives, on the thread that runs the program. A program that is to end while it waits for it ends when
    /// the reader returns. An error of the reader is logged and ends the input: the program finds an I/O error (`EIO`).
    ///
    /// Whether there is anything to read is known only when the reader was asked. So `poll` and its kin ask it where nothing
    /// else is ready, and so does a read that is not to wait; until it returns, the program's timers and time limits wait with
    /// it. A pipe ([`file`](Self::file)) has none of this. A reader that returns `WouldBlock` has nothing yet, and is asked again
    /// after a few milliseconds.
    pub fn reader(reader: impl Read + Send + 'static) -> Self {
        Kind::Reader { reader: Box::new(reader), ahead: Ahead::default() }.into()
    }

    /// What is typed.
    pub(crate) fn of_terminal(terminal: Terminal) -> Self {
        Kind::Terminal(terminal).into()
    }

    /// The terminal, if it is one.
    #[inline]
    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        if let Kind::Terminal(terminal) = &self.kind { Some(terminal) } else { None }
    }

    /// Nothing at the moment: what there is to read is set later.
    pub(crate) fn later() -> Self {
        let mut input = Self::empty();
        input.comes_later();
        input
    }

    /// What follows where this ends is set later. Until then there is nothing to read, and no end.
    pub(crate) fn comes_later(&mut self) {
        self.goes_on = true;
    }

    /// Takes what there is, as much as fits, without waiting.
    pub(crate) fn take(&mut self, into: &mut [u8]) -> Taken {
        match self.kind.take(into) {
            Taken::Bytes(0) if self.goes_on => Taken::NotYet,
            taken => taken,
        }
    }

    /// What there is, without waiting.
    pub(crate) fn look(&mut self) -> Held {
        match self.kind.look() {
            Held { bytes, behind: Behind::End } if self.goes_on => Held { bytes, behind: Behind::Later },
            held => held,
        }
    }

    /// What to wait for after [`take`](Self::take) or [`look`](Self::look) has found nothing.
    pub(crate) fn wait(&self) -> Wait<'_> {
        match &self.kind {
            Kind::File { ahead, .. } | Kind::Reader { ahead, .. } if ahead.end.is_some() => Wait::Later,
            Kind::File { file, .. } => Wait::Readable(file.as_fd()),
            Kind::Terminal(terminal) => Wait::Readable(terminal.as_fd()),
            Kind::Reader { .. } => Wait::Asking,
            Kind::Empty | Kind::Bytes { .. } => Wait::Later,
        }
    }

    /// Asks the application for more, which may take long.
    pub(crate) fn ask(&mut self) {
        if let Kind::Reader { reader, ahead } = &mut self.kind {
            ahead.fill(reader);
        }
    }
}

impl Kind {
    fn take(&mut self, into: &mut [u8]) -> Taken {
        match self {
            Kind::Empty => Taken::Bytes(0),
            Kind::Bytes { bytes, taken } => copy(bytes, taken, into),
            Kind::Reader { ahead, .. } => ahead.take(into),
            Kind::File { file, ahead } => {
                if ahead.is_used_up() && is_readable(file.as_fd()) {
                    ahead.fill(file);
                }
                ahead.take(into)
            }
            Kind::Terminal(terminal) if is_readable(terminal.as_fd()) => match terminal.read(into) {
                Ok(count) => Taken::Bytes(count),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => Taken::NotYet,
                Err(_) => Taken::Failed,
            },
            Kind::Terminal(_) => Taken::NotYet,
        }
    }

    fn look(&mut self) -> Held {
        match self {
            Kind::Empty => Held { bytes: 0, behind: Behind::End },
            Kind::Bytes { bytes, taken } => Held { bytes: bytes.len() - *taken, behind: Behind::End },
            Kind::Reader { ahead, .. } => {
                let is_known = mem::take(&mut ahead.is_asked_in_vain);
                ahead.held(if is_known { Behind::Later } else { Behind::Unknown })
            }
            Kind::File { file, ahead } => {
                if ahead.has_room() && is_readable(file.as_fd()) {
                    ahead.fill(file);
                }
                ahead.held(Behind::Later)
            }
            Kind::Terminal(terminal) => Held { bytes: terminal.held(), behind: Behind::Later },
        }
    }
}

impl Ahead {
    fn is_used_up(&self) -> bool {
        self.taken == self.bytes.len() && self.end.is_none()
    }

    fn has_room(&self) -> bool {
        self.bytes.len() - self.taken < AHEAD && self.end.is_none()
    }

    /// Reads more, if there is room for it.
    fn fill(&mut self, reader: &mut impl Read) {
        if !self.has_room() {
            return;
        }
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let start = self.bytes.len();
        self.bytes.resize(AHEAD, 0);
        let read = reader.read(&mut self.bytes[start..]).map(|count| count.min(AHEAD - start));
        self.bytes.truncate(start + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.end = Some(Taken::Bytes(0)),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                self.is_asked_in_vain = true;
            }
            Err(error) => {
                tracing::warn!(target: "ampoule::guest", %error, "a program's input failed");
                self.end = Some(Taken::Failed);
            }
        }
    }

    /// What there is, where this follows unless it has ended or is full.
    fn held(&self, next: Behind) -> Held {
        let bytes = self.bytes.len() - self.taken;
        let behind = match self.end {
            Some(Taken::Failed) => Behind::Failure,
            Some(_) => Behind::End,
            None if bytes == AHEAD => Behind::Full,
            None => next,
        };
        Held { bytes, behind }
    }

    fn take(&mut self, into: &mut [u8]) -> Taken {
        match (copy(&self.bytes, &mut self.taken, into), self.end) {
            (Taken::Bytes(0), Some(end)) => end,
            (Taken::Bytes(0), None) => Taken::NotYet,
            (taken, _) => taken,
        }
    }
}

fn copy(bytes: &[u8], taken: &mut usize, into: &mut [u8]) -> Taken {
    let left = &bytes[*taken..];
    let count = left.len().min(into.len());
    into[..count].copy_from_slice(&left[..count]);
    *taken += count;
    Taken::Bytes(count)
}

/// Whether reading does not have to wait.
fn is_readable(file: BorrowedFd<'_>) -> bool {
    crate::interrupt::is_readable(file)
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Empty => "Input::empty",
            Kind::Bytes { .. } => "Input::bytes",
            Kind::File { .. } => "Input::file",
            Kind::Reader { .. } => "Input::reader",
            Kind::Terminal(_) => "a terminal",
        })
    }
}

impl From<Kind> for Input {
    fn from(kind: Kind) -> Self {
        Self { kind, goes_on: false }
    }
}

/// As [`Input::bytes`].
impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

/// As [`Input::bytes`].
impl From<&[u8]> for Input {
    fn from(bytes: &[u8]) -> Self {
        Self::bytes(bytes)
    }
}

/// As [`Input::bytes`].
impl<const N: usize> From<&[u8; N]> for Input {
    fn from(bytes: &[u8; N]) -> Self {
        Self::bytes(bytes)
    }
}

/// As [`Input::bytes`].
impl From<String> for Input {
    fn from(text: String) -> Self {
        Self::bytes(text)
    }
}

/// As [`Input::bytes`].
impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Self::bytes(text)
    }
}

impl Default for Input {
    fn default() -> Self {
        Self::empty()
    }
}

/// How much is read ahead, in bytes.
const AHEAD: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything, in pieces of this size, and waits as a program does.
    fn all(input: &mut Input, piece: usize) -> Result<Vec<u8>, Vec<u8>> {
        let (mut got, mut into) = (Vec::new(), vec![0; piece]);
        loop {
            match input.take(&mut into) {
                Taken::Bytes(0) => return Ok(got),
                Taken::Bytes(count) => got.extend(&into[..count]),
                Taken::NotYet => input.ask(),
                Taken::Failed => return Err(got),
            }
        }
    }

    #[test]
    fn every_byte_arrives_once_in_pieces_of_any_size() {
        let text: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
        for piece in [1, 7, 4096, AHEAD, AHEAD + 1, 300_000] {
            assert_eq!(all(&mut Input::bytes(text.clone()), piece), Ok(text.clone()));
            assert_eq!(all(&mut Input::reader(io::Cursor::new(text.clone())), piece), Ok(text.clone()));
        }
        assert_eq!(all(&mut Input::empty(), 10), Ok(Vec::new()));
    }

    #[test]
    fn a_reader_that_fails_gives_what_it_had_before() {
        struct Failing(u32);
        impl Read for Failing {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Err(ErrorKind::Interrupted.into()),
                    2 => {
                        into[..3].copy_from_slice(b"abc");
                        Ok(3)
                    }
                    _ => Err(io::Error::other("the disk is gone")),
                }
            }
        }
        assert_eq!(all(&mut Input::reader(Failing(0)), 2), Err(b"abc".to_vec()));
    }

    #[test]
    fn a_reader_that_lies_about_its_length_harms_nobody() {
        struct Lying;
        impl Read for Lying {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Ok(usize::MAX)
            }
        }
        let mut input = Input::reader(Lying);
        input.ask();
        assert_eq!(input.take(&mut [0; 10]), Taken::Bytes(10));
    }

    #[test]
    fn what_comes_later_follows_everything_else() {
        for mut input in [Input::empty(), Input::bytes("abc"), Input::reader(b"abc".as_slice())] {
            input.comes_later();
            let mut into = [0; 10];
            while !matches!((input.take(&mut into), input.wait()), (Taken::NotYet, Wait::Later)) {
                input.ask();
            }
            assert_eq!(input.take(&mut into), Taken::NotYet);
        }
    }

    #[test]
    fn what_is_there_can_be_looked_at() {
        let held = |bytes, behind| Held { bytes, behind };
        assert_eq!(Input::empty().look(), held(0, Behind::End));
        assert_eq!(Input::later().look(), held(0, Behind::Later));
        let mut input = Input::bytes("abc");
        input.take(&mut [0]);
        assert_eq!(input.look(), held(2, Behind::End));
        input.comes_later();
        assert_eq!(input.look(), held(2, Behind::Later));

        let (reader, mut writer) = io::pipe().unwrap();
        let mut input = Input::file(reader);
        assert_eq!(input.look(), held(0, Behind::Later));
        for bytes in [3, 6] {
            io::Write::write_all(&mut writer, b"now").unwrap();
            assert_eq!(input.look(), held(bytes, Behind::Later));
        }
        assert_eq!(input.take(&mut [0; 4]), Taken::Bytes(4));
        drop(writer);
        assert_eq!(input.look(), held(2, Behind::End));
        let mut input = Input::file(File::open("/dev/zero").unwrap());
        assert_eq!(input.look(), held(AHEAD, Behind::Full));
    }

    #[test]
    fn a_reader_is_asked_before_anything_is_known_of_it() {
        struct Hesitant(u32);
        impl Read for Hesitant {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Err(ErrorKind::WouldBlock.into()),
                    2 => {
                        into[..3].copy_from_slice(b"abc");
                        Ok(3)
                    }
                    _ => Ok(0),
                }
            }
        }
        let held = |bytes, behind| Held { bytes, behind };
        let mut input = Input::reader(Hesitant(0));
        assert_eq!(input.look(), held(0, Behind::Unknown));
        input.ask();
        assert_eq!(input.look(), held(0, Behind::Later));
        assert_eq!(input.look(), held(0, Behind::Unknown));
        input.ask();
        assert_eq!(input.look(), held(3, Behind::Unknown));
        input.ask();
        assert_eq!(input.look(), held(3, Behind::End));
    }

    #[test]
    fn a_pipe_has_nothing_until_something_is_written() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut input = Input::file(reader);
        let mut into = [0; 10];
        assert_eq!(input.take(&mut into), Taken::NotYet);
        io::Write::write_all(&mut writer, b"now").unwrap();
        assert_eq!(input.take(&mut into), Taken::Bytes(3));
        assert_eq!(input.take(&mut into), Taken::NotYet);
        drop(writer);
        assert_eq!(input.take(&mut into), Taken::Bytes(0));
    }
}
