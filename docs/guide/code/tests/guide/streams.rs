//! What `docs/guide/pages/streams.md` shows.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use ampoule::{Image, Items, Pool, Reader, Sandbox, Sink, Writer};
use tokio::io::{AsyncRead, ReadBuf};

#[test]
fn a_file_is_filtered_into_memory() -> Result<(), Box<dyn Error>> {
    let mut sandbox = dictionary()?;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("words.txt");
    fs::write(&path, "an apple\nand a pear\n")?;

    let (input, mut output) = (File::open(path)?, Vec::new());
    let count: u64 = sandbox.call("filter", (Reader::new(input), Writer::new(&mut output)))?;
    assert_eq!((count, output.as_slice()), (2, b"apple\npear\n".as_slice()));
    Ok(())
}

#[test]
fn long_words_are_passed_on_one_by_one() -> Result<(), Box<dyn Error>> {
    let mut sandbox = dictionary()?;

    let texts = ["an apple and a pear", "a pomegranate"].map(str::to_owned);
    let mut found = Vec::new();
    let each = Sink::new(|(text, word): (u64, String)| found.push(format!("{text}: {word}")));
    let () = sandbox.call("long_words", (Items::new(texts), 5u32, each))?;
    assert_eq!(found, ["1: apple", "2: pomegranate"]);
    Ok(())
}

#[test]
fn a_request_is_filtered_as_it_comes() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder(&dictionary()?.snapshot()?).size(1).build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let request = Request { rest: b"a pear", has_come: false };
        let filtered = pool.run(move |sandbox| {
            let (text, mut words) = (Reader::asynchronous(request), Vec::new());
            sandbox.call::<u64>("filter", (text, Writer::new(&mut words))).map(|_| words)
        });
        assert_eq!(filtered.await??, b"pear\n");
        Ok(())
    })
}

/// A sandbox that knows words.
fn dictionary() -> Result<Sandbox, Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("dictionary"))?;
    let mut sandbox = Sandbox::builder(&image).build()?;
    sandbox.call::<()>("load_dictionary", (vec!["apple", "pear"],))?;
    Ok(sandbox)
}

/// A body of a request, of which a byte comes at a time, and nothing in between.
struct Request {
    rest: &'static [u8],
    has_come: bool,
}

impl AsyncRead for Request {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.has_come = !self.has_come;
        if !self.has_come {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some((first, rest)) = self.rest.split_at_checked(1) {
            buffer.put_slice(first);
            self.rest = rest;
        }
        Poll::Ready(Ok(()))
    }
}
