//! Writing a snapshot file: either all of it is there in the end, under its name and on the disk, or nothing has changed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use ampoule_abi::codec;
use ampoule_vmm::{Contents, PAGE_SIZE, PageSet};
use miniz_oxide::deflate::compress_to_vec;

use super::format::{CHUNK, Encoding, Header, SnapshotDigest, sha256};
use super::read::Parent;
use super::record::{RunRecord, SourceRecord, StateRecord};

/// What is to be stored.
pub(super) struct Content<'a> {
    /// The state; what it says of the memory's runs is made here.
    pub(super) record: StateRecord,
    /// The bytes of the image's file, and its digest.
    pub(super) image: &'a [u8],
    pub(super) image_digest: [u8; 32],
    /// What the memory holds.
    pub(super) contents: &'a Contents,
    /// Pages at its start that are the host's, and are not stored.
    pub(super) skipped: usize,
    /// Pages of memory that may still hold a page of the image's file, and which one, in ascending order.
    pub(super) image_pages: Vec<(usize, usize)>,
    /// What it is stored as a difference from, which has the same image and as much memory.
    pub(super) parent: Option<&'a Parent>,
}

impl Content<'_> {
    /// Writes the file. What was there under its name before is replaced when all is on the disk.
    pub(super) fn write(mut self, path: &Path, encoding: Encoding) -> io::Result<(SnapshotDigest, u64)> {
        let memory = self.plan();
        let mut state = Vec::new();
        codec::encode(&self.record, &mut state).map_err(io::Error::other)?;
        let own_image = if self.parent.is_some() { &[][..] } else { self.image };
        let header = Header {
            encoding,
            state: state.len() as u64,
            image: own_image.len() as u64,
            pages: memory.len() as u64,
            parent: self.parent.map(|parent| parent.digest),
            image_digest: self.image_digest,
        };
        let mut body = Body { state: &state, image: own_image, contents: self.contents, memory: &memory };
        let new = NewFile::create(path)?;
        let digest = body.write(&header, &new.file)?;
        let size = new.file.metadata()?.len();
        new.put(path)?;
        Ok((digest, size))
    }

    /// Decides where each page of memory comes from, and returns those that are stored, in their order in the file.
    fn plan(&mut self) -> Vec<usize> {
        let total = self.contents.pages();
        let mut stored = Vec::new();
        let mut of_image: Vec<(usize, usize)> = Vec::new();
        let mut hints = self.image_pages.iter().copied().peekable();
        let image_page = |number: usize| self.image.get(number * PAGE_SIZE..(number + 1) * PAGE_SIZE);
        for page in self.changed() {
            let bytes = self.contents.page(page);
            while hints.next_if(|(at, _)| *at < page).is_some() {}
            let hint = hints.peek().filter(|(at, _)| *at == page).map(|(_, number)| *number);
            match hint {
                Some(number) if bytes.is_some() && image_page(number) == bytes.as_deref() => {
                    of_image.push((page, number))
                }
                _ => stored.push(page),
            }
        }
        // Few pages of the image are stored with their neighbours: each run is a mapping in every sandbox.
        let mut runs = Vec::new();
        for run in of_image.chunk_by(|one, next| (one.0 + 1, one.1 + 1) == *next) {
            if run.len() < LEAST_OF_IMAGE {
                stored.extend(run.iter().map(|(page, _)| page));
            } else {
                let (at, number) = run[0];
                let from = SourceRecord::Image(number as u64);
                runs.push(RunRecord { at: at as u64, pages: run.len() as u64, from });
            }
        }
        stored.sort_unstable();
        let taken = |page: usize| runs.iter().any(|run| (run.at..run.at + run.pages).contains(&(page as u64)));
        let mut memory: Vec<usize> = Vec::new();
        let mut bridge = BRIDGED;
        while stored.chunk_by(|one, next| next - one <= bridge).count() > MOST_RUNS {
            bridge *= 2;
        }
        for page in stored {
            // What lies between two that are close is stored with them.
            if let Some(last) = memory.last().copied().filter(|last| page - last <= bridge) {
                memory.extend((last + 1..page).take_while(|between| !taken(*between)));
            }
            memory.push(page);
        }
        let mut first = 0;
        let memory_runs = memory.chunk_by(|one, next| one + 1 == *next).map(|run| {
            let from = SourceRecord::Memory(first);
            first += run.len() as u64;
            RunRecord { at: run[0] as u64, pages: run.len() as u64, from }
        });
        runs.extend(memory_runs);
        runs.sort_unstable_by_key(|run| run.at);
        self.record.pages = total as u64;
        self.record.runs = runs;
        memory
    }

    /// The pages that differ from the parent's, or from zeros.
    fn changed(&self) -> Vec<usize> {
        let all = self.skipped..self.contents.pages();
        let Some(parent) = self.parent else {
            return self.contents.stored_in(all).collect();
        };
        let of_parent = &*parent.known.contents;
        let differs = |page: &usize| match [self.contents.page(*page), of_parent.page(*page)] {
            [Some(own), Some(other)] => *own != *other,
            [Some(bytes), None] | [None, Some(bytes)] => bytes.iter().any(|byte| *byte != 0),
            [None, None] => false,
        };
        let mut unshared = PageSet::new(self.contents.pages());
        self.contents.differences(of_parent, &mut unshared);
        unshared.iter().filter(|page| all.contains(page)).filter(differs).collect()
    }
}

/// What lies behind the front of the file.
struct Body<'a> {
    state: &'a [u8],
    image: &'a [u8],
    contents: &'a Contents,
    memory: &'a [usize],
}

impl Body<'_> {
    /// Writes the whole file, and returns its digest.
    fn write(&mut self, header: &Header, file: &File) -> io::Result<SnapshotDigest> {
        let mut digests = Vec::with_capacity(header.chunks());
        let mut lengths: Vec<u8> = Vec::new();
        let mut at = header.front() as u64;
        // Chunks that are still to be written.
        let mut bytes = Vec::with_capacity(AT_ONCE);
        for number in 0..header.chunks() {
            let start = bytes.len();
            header.chunk(number).for_each(|page| self.append(page, header, &mut bytes));
            digests.push(sha256(&bytes[start..]));
            match header.encoding {
                Encoding::Plain if bytes.len() + CHUNK * PAGE_SIZE <= AT_ONCE => continue,
                Encoding::Plain => {
                    write_sparse(file, &bytes, at)?;
                    at += bytes.len() as u64;
                }
                Encoding::Deflate => {
                    let packed = compress_to_vec(&bytes, COMPRESSION);
                    lengths.extend((packed.len() as u32).to_le_bytes());
                    file.write_all_at(&packed, at)?;
                    at += packed.len() as u64;
                }
            }
            bytes.clear();
        }
        write_sparse(file, &bytes, at)?;
        file.set_len(at + bytes.len() as u64)?;
        let (mut bytes, digest) = header.write(&digests);
        bytes.extend(lengths);
        file.write_all_at(&bytes, 0)?;
        Ok(digest)
    }

    /// Appends a page of the body.
    fn append(&self, page: usize, header: &Header, to: &mut Vec<u8>) {
        let parts = header.parts();
        let end = to.len() + PAGE_SIZE;
        let part = |bytes: &[u8], page: usize| {
            let from = (page * PAGE_SIZE).min(bytes.len());
            bytes[from..(from + PAGE_SIZE).min(bytes.len())].to_vec()
        };
        if parts.memory.contains(&page) {
            if let Some(bytes) = self.contents.page(self.memory[page - parts.memory.start]) {
                to.extend(&*bytes);
            }
        } else if parts.image_pages.contains(&page) {
            to.extend(part(self.image, page - parts.image_pages.start));
        } else {
            to.extend(part(self.state, page));
        }
        to.resize(end, 0);
    }
}

/// Writes whole pages, but for those that are zeros, which become holes.
fn write_sparse(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
    let mut done = 0;
    for run in bytes.chunks(PAGE_SIZE).collect::<Vec<_>>().chunk_by(|one, next| is_zero(one) == is_zero(next)) {
        let len: usize = run.iter().map(|page| page.len()).sum();
        if !is_zero(run[0]) {
            file.write_all_at(&bytes[done..done + len], at + done as u64)?;
        }
        done += len;
    }
    Ok(())
}

/// A file beside the one that it is to become. It is removed unless it does.
struct NewFile {
    file: File,
    path: Option<PathBuf>,
}

impl NewFile {
    fn create(path: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        loop {
            let mut temporary = std::ffi::OsString::from(".");
            temporary.push(name);
            temporary.push(format!(".{}-{}.tmp", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
            let temporary = path.with_file_name(temporary);
            match OpenOptions::new().read(true).write(true).create_new(true).open(&temporary) {
                // Of a process that has crashed, and had the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => return Ok(Self { file, path: Some(temporary) }),
            }
        }
    }

    /// Gives it its name, when all of it is on the disk.
    fn put(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        let Some(own) = &self.path else { return Ok(()) };
        fs::rename(own, path)?;
        self.path = None;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(%error, path = %path.display(), "the start of a snapshot file could not be removed");
        }
    }
}

/// Shorter runs of the image's pages are stored again: each run costs every sandbox a mapping.
const LEAST_OF_IMAGE: usize = 8;

/// Pages up to so far apart are stored with what lies between them.
const BRIDGED: usize = 4;

/// From so many runs on, pages that are further apart are.
const MOST_RUNS: usize = 128;

/// How many bytes are written at a time.
const AT_ONCE: usize = 4 * CHUNK * PAGE_SIZE;

/// How hard to try; more takes much longer and gains little.
const COMPRESSION: u8 = 6;
