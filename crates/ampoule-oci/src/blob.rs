//! Blobs: bytes that are known by their digest and their length.

use std::fmt;
use std::io::{self, Read};

use oci_spec::image::{Descriptor, MediaType};
use sha2::{Digest as _, Sha256};

/// The SHA-256 by which a registry knows bytes. `{}` is `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// What is known of bytes before they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Digest {
    /// The digest of bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// That of all that has gone into the hash.
    pub(crate) fn finish(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    /// The digest that this text is, in lower case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?.as_bytes();
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// Its digits, of which a file's name can be made.
    pub(crate) fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Blob {
    /// Bytes that are in memory.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }

    /// What a reader has left, to its end.
    pub(crate) fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let (mut hash, mut buffer, mut size) = (Sha256::new(), vec![0; BUFFER], 0);
        loop {
            let read = fill(&mut reader, &mut buffer)?;
            hash.update(&buffer[..read]);
            size += read as u64;
            if read < buffer.len() {
                return Ok(Self { digest: Digest::finish(hash), size });
            }
        }
    }

    /// What a descriptor describes, if its digest is a SHA-256.
    pub(crate) fn described(descriptor: &Descriptor) -> Option<Self> {
        Some(Self { digest: Digest::parse(descriptor.digest().as_ref())?, size: descriptor.size() })
    }

    /// Its descriptor.
    pub(crate) fn descriptor(self, media_type: impl Into<MediaType>) -> Descriptor {
        let digest = oci_spec::image::Digest::try_from(self.digest.to_string());
        Descriptor::new(media_type.into(), self.size, digest.expect("64 hexadecimal digits are a SHA-256"))
    }
}

/// Reads until the buffer is full or the end is reached, and returns how much was read.
pub(crate) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A reader that must have as many bytes as were promised: one that ends before fails.
pub(crate) struct Exactly<R> {
    reader: R,
    left: u64,
}

impl<R> Exactly<R> {
    pub(crate) fn new(reader: R, size: u64) -> Self {
        Self { reader, left: size }
    }
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.reader.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Bytes that are copied and hashed at once, in whole pages.
pub(crate) const BUFFER: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"");
        // FIPS 180-4's digest of nothing.
        assert_eq!(digest.hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        let hex = digest.hex();
        for text in
            [hex.clone(), format!("sha512:{hex}"), format!("sha256:{}", hex.to_uppercase()), format!("sha256:{hex}0")]
        {
            assert_eq!(Digest::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn a_blob_is_the_same_from_memory_and_from_a_reader() {
        for size in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1] {
            let bytes = vec![7; size];
            assert_eq!(Blob::of_reader(&bytes[..]).unwrap(), Blob::of(&bytes), "{size}");
        }
    }

    #[test]
    fn a_file_that_has_become_shorter_is_noticed_and_a_longer_one_is_cut() {
        let read = |size| {
            let mut bytes = Vec::new();
            Exactly::new(&b"abc"[..], size).read_to_end(&mut bytes).map(|_| bytes)
        };
        assert_eq!(read(2).unwrap(), b"ab");
        assert_eq!(read(3).unwrap(), b"abc");
        assert_eq!(read(4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
