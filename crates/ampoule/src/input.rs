//! Where a program's standard input comes from.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::personality::Taken;

/// Where a program's standard input comes from; set with [`Program::stdin`](crate::Program::stdin).
///
/// The program sees a pipe, whatever it is. `poll` and its kin report that there is something to read; reading waits until
/// there is. The host reads ahead, at most 64 KiB.
pub struct Input(Kind);

enum Kind {
    Empty,
    Bytes { bytes: Vec<u8>, taken: usize },
    File { file: File, ahead: Ahead },
    Reader { reader: Box<dyn Read + Send>, ahead: Ahead },
}

/// What was read and not yet taken.
#[derive(Default)]
struct Ahead {
    bytes: Vec<u8>,
    taken: usize,
    /// Why no more will be read.
    end: Option<Taken>,
}

/// What a program waits for that waits for its input.
pub(crate) enum Wait<'input> {
    /// This file is to become readable.
    Readable(BorrowedFd<'input>),
    /// The application is to be [asked](Input::ask).
    Asking,
}

impl Input {
    /// At its end from the beginning. The default.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// These bytes, and then its end.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Bytes { bytes: bytes.into(), taken: 0 })
    }

    /// A file, a pipe, a socket or a terminal. While the program waits for it, the call can be ended as at any other time: by
    /// a kill or a limit. Nobody else is to read from the same pipe meanwhile.
    pub fn file(file: impl Into<OwnedFd>) -> Self {
        Self(Kind::File { file: File::from(file.into()), ahead: Ahead::default() })
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
    pub fn reader(reader: impl Read + Send + 'static) -> Self {
        Self(Kind::Reader { reader: Box::new(reader), ahead: Ahead::default() })
    }

    /// Takes what there is, as much as fits, without waiting.
    pub(crate) fn take(&mut self, into: &mut [u8]) -> Taken {
        match &mut self.0 {
            Kind::Empty => Taken::Bytes(0),
            Kind::Bytes { bytes, taken } => copy(bytes, taken, into),
            Kind::Reader { ahead, .. } => ahead.take(into),
            Kind::File { file, ahead } => {
                if ahead.is_used_up() && is_readable(file.as_fd()) {
                    ahead.fill(file);
                }
                ahead.take(into)
            }
        }
    }

    /// What to wait for after [`take`](Self::take) has found nothing.
    pub(crate) fn wait(&self) -> Wait<'_> {
        match &self.0 {
            Kind::File { file, .. } => Wait::Readable(file.as_fd()),
            Kind::Reader { .. } | Kind::Empty | Kind::Bytes { .. } => Wait::Asking,
        }
    }

    /// Asks the application for more, which may take long.
    pub(crate) fn ask(&mut self) {
        if let Kind::Reader { reader, ahead } = &mut self.0 {
            ahead.fill(reader);
        }
    }
}

impl Ahead {
    fn is_used_up(&self) -> bool {
        self.taken == self.bytes.len() && self.end.is_none()
    }

    fn fill(&mut self, reader: &mut impl Read) {
        self.bytes.resize(AHEAD, 0);
        self.taken = 0;
        let read = reader.read(&mut self.bytes).map(|count| count.min(AHEAD));
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.end = Some(Taken::Bytes(0)),
            Ok(_) => {}
            // It is asked again.
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => {
                tracing::warn!(target: "ampoule::guest", %error, "a program's input failed");
                self.end = Some(Taken::Failed);
            }
        }
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
        f.write_str(match self.0 {
            Kind::Empty => "Input::empty",
            Kind::Bytes { .. } => "Input::bytes",
            Kind::File { .. } => "Input::file",
            Kind::Reader { .. } => "Input::reader",
        })
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
