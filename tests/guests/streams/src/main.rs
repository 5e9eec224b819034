//! A guest that reads and writes streams.

mod items;

use std::cell::RefCell;
use std::io::{self, BufRead, Read, Write};

use ampoule_guest::{Reader, Writer, export, import};

#[import]
fn note(text: &str);

/// How many bytes there are, and a digest of them, read by so many at a time; by as many as come where that is 0.
#[export]
fn digest(mut input: Reader<'_>, at_once: u32) -> io::Result<(u64, u64)> {
    let mut digest = Digest::new();
    if at_once == 0 {
        loop {
            let bytes = input.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            digest.add(bytes);
            let taken = bytes.len();
            input.consume(taken);
        }
    } else {
        let mut buffer = vec![0; at_once as usize];
        loop {
            match input.read(&mut buffer)? {
                0 => break,
                read => digest.add(&buffer[..read]),
            }
        }
    }
    Ok((digest.bytes, digest.sum))
}

/// The same of all that there is, which is in memory at once.
#[export]
fn digest_whole(mut input: Reader<'_>) -> io::Result<(u64, u64)> {
    let mut digest = Digest::new();
    let mut all = input.fill_buf()?[..1].to_vec();
    input.consume(1);
    input.read_to_end(&mut all)?;
    digest.add(&all);
    Ok((digest.bytes, digest.sum))
}

/// How many bytes there are, which are read by so many at a time and not looked at.
#[export]
fn drain(mut input: Reader<'_>, at_once: u32) -> io::Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; at_once as usize], 0);
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(bytes),
            read => bytes += read as u64,
        }
    }
}

/// Writes a pattern of this length, by so many bytes at a time.
#[export]
fn produce(length: u64, at_once: u32, mut output: Writer<'_>) -> io::Result<u64> {
    let piece: Vec<u8> = (0..at_once).map(|index| index as u8).collect();
    let mut left = length;
    while left > 0 {
        let bytes = &piece[..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        output.write_all(bytes)?;
        left -= bytes.len() as u64;
    }
    output.flush()?;
    Ok(length)
}

/// Writes a line and leaves it to the end of the call to send it.
#[export]
fn produce_line(line: &str, mut output: Writer<'_>) -> io::Result<()> {
    writeln!(output, "{line}")
}

#[export]
fn copy(mut input: Reader<'_>, mut output: Writer<'_>) -> io::Result<u64> {
    let copied = io::copy(&mut input, &mut output)?;
    output.flush()?;
    Ok(copied)
}

/// Lines of two inputs in turn, in capitals and with a call of the host for each.
#[export]
fn interleave(one: Reader<'_>, another: Reader<'_>, mut output: Writer<'_>, mut other: Writer<'_>) -> io::Result<u32> {
    let mut count = 0;
    for (line, second) in one.lines().zip(another.lines()) {
        let (line, second) = (line?, second?);
        note(&line);
        writeln!(output, "{} {}", line.to_uppercase(), second.to_uppercase())?;
        writeln!(other, "{count}")?;
        other.flush()?;
        count += 1;
    }
    Ok(count)
}

/// The first line, after which nothing more is asked for.
#[export]
fn first_line(mut input: Reader<'_>) -> io::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line)
}

/// Asks for nothing.
#[export]
fn ignore(_input: Reader<'_>, _output: Writer<'_>) {}

/// How reading fails, and what can be read again after that.
#[export]
fn failure_of_reading(mut input: Reader<'_>) -> (String, String, Vec<u8>) {
    let error = input.fill_buf().map(<[u8]>::len).expect_err("the host fails");
    let mut rest = Vec::new();
    input.read_to_end(&mut rest).expect("it has recovered");
    (format!("{:?}", error.kind()), error.to_string(), rest)
}

/// How writing fails.
#[export]
fn failure_of_writing(mut output: Writer<'_>) -> (String, String) {
    output.write_all(b"lost").expect("it gathers");
    let error = output.flush().expect_err("the host fails");
    (format!("{:?}", error.kind()), error.to_string())
}

thread_local! {
    static KEPT: RefCell<Vec<(Reader<'static>, Writer<'static>)>> = const { RefCell::new(Vec::new()) };
}

/// Keeps streams beyond their call, which no safe program can.
#[export]
fn keep(input: Reader<'_>, output: Writer<'_>) {
    // SAFETY: a stream is a number, which may be used at any time. What the host says to that is what is being tested.
    let kept =
        unsafe { std::mem::transmute::<(Reader<'_>, Writer<'_>), (Reader<'static>, Writer<'static>)>((input, output)) };
    KEPT.with_borrow_mut(|all| all.push(kept));
}

/// What becomes of the use of streams that were kept, in a call that has streams of its own.
#[export]
fn use_kept(_input: Reader<'_>, _output: Writer<'_>) -> [String; 2] {
    let (mut input, mut output) = KEPT.with_borrow_mut(Vec::pop).expect("they were kept");
    let read = input.fill_buf().expect_err("they are of another call").to_string();
    output.write_all(b"late").expect("it gathers");
    [read, output.flush().expect_err("they are of another call").to_string()]
}

/// Reads and never ends.
#[export]
fn read_for_ever(mut input: Reader<'_>) {
    let mut byte = [0];
    loop {
        let _ = input.read(&mut byte);
    }
}

/// Where few collide.
struct Digest {
    bytes: u64,
    sum: u64,
}

impl Digest {
    fn new() -> Self {
        Self { bytes: 0, sum: 0xcbf2_9ce4_8422_2325 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for byte in bytes {
            self.sum = (self.sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

ampoule_guest::main!();
