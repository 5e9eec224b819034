//! Streams: what a guest reads and writes piece by piece, however much it is, and what becomes of it when something fails.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ampoule::{
    Builder, Call, CallError, ExceededLimit, KillOutcome, Limits, Poison, Reader, Sandbox, Termination, Trace, Writer,
};
use ampoule_tests::streams_image;

#[test]
fn a_guest_reads_what_it_is_given_however_long_it_is() {
    let mut sandbox = sandbox();
    for length in [0, 1, 4095, MAILBOX - 1, MAILBOX, MAILBOX + 1, 3 * MAILBOX, 3 * MAILBOX + 5, GATHERED, 2 * GATHERED]
    {
        let bytes = pattern(length);
        for at_once in [0, 7, 4096, MAILBOX as u32, 1 << 20] {
            let found: (u64, u64) = sandbox.call("digest", (Reader::new(&bytes[..]), at_once)).unwrap();
            assert_eq!(found, digest(&bytes), "{length} bytes, {at_once} at once");
        }
        if length > 0 {
            let found: (u64, u64) = sandbox.call("digest_whole", (Reader::new(Cursor::new(&bytes)),)).unwrap();
            assert_eq!(found, digest(&bytes), "{length} bytes as a whole");
        }
    }
}

#[test]
fn a_guest_writes_as_much_as_it_likes() {
    let mut sandbox = sandbox();
    for length in [0, 1, 4095, MAILBOX, MAILBOX + 1, 3 * MAILBOX, GATHERED, 3 * GATHERED + 1] {
        for at_once in [1000, MAILBOX, GATHERED, 5 * GATHERED / 2] {
            let mut output = Vec::new();
            let arguments = (length as u64, at_once as u32, Writer::new(&mut output));
            assert_eq!(sandbox.call::<u64>("produce", arguments).unwrap(), length as u64);
            let expected: Vec<u8> = (0..length).map(|index| (index % at_once) as u8).collect();
            assert!(output == expected, "{length} bytes, {at_once} at once: {}", output.len());
        }
    }
    let mut line = Vec::new();
    sandbox.call::<()>("produce_line", ("sent when it is dropped", Writer::new(&mut line))).unwrap();
    assert_eq!(line, b"sent when it is dropped\n");
}

#[test]
fn more_passes_than_the_guest_has_memory() {
    const LENGTH: u64 = 64 << 20;

    /// Counts what is written, and compares it with what was read.
    struct Compared<R>(R, u64);

    impl<R: Read> Write for Compared<R> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut expected = vec![0; bytes.len()];
            self.0.read_exact(&mut expected)?;
            if expected != bytes {
                return Err(ErrorKind::InvalidData.into());
            }
            self.1 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let source = || io::repeat(b'a').take(LENGTH / 2).chain(io::repeat(b'b').take(LENGTH / 2));
    let mut sandbox = builder().mailbox_size(1 << 20).memory_limit(16 << 20).build().unwrap();
    let mut output = Compared(source(), 0);
    assert_eq!(sandbox.call::<u64>("copy", (Reader::new(source()), Writer::new(&mut output))).unwrap(), LENGTH);
    assert_eq!(output.1, LENGTH);
}

#[test]
fn nothing_is_read_before_the_guest_asks_and_no_more_than_a_piece() {
    let read = Cell::new(0);
    let source = Counted { inner: io::repeat(b'\n'), read: &read };
    let mut sandbox = sandbox();
    sandbox.call::<()>("ignore", (Reader::new(source), Writer::new(io::sink()))).unwrap();
    assert_eq!(read.get(), 0);
    let source = Counted { inner: io::repeat(b'\n'), read: &read };
    assert_eq!(sandbox.call::<String>("first_line", (Reader::new(source),)).unwrap(), "\n");
    assert_eq!(read.get(), MAILBOX, "one piece, as much as the mailbox holds");

    // A reader that has only a little is not asked for more before that is used up.
    let read = Cell::new(0);
    let source = Counted { inner: Pieces::of(&["one\n", "two\n"]), read: &read };
    assert_eq!(sandbox.call::<String>("first_line", (Reader::new(source),)).unwrap(), "one\n");
    assert_eq!(read.get(), 4);
}

#[test]
fn what_is_written_has_arrived_before_the_guest_goes_on() {
    let events = Rc::new(RefCell::new(Vec::new()));
    struct Noting(&'static str, Rc<RefCell<Vec<String>>>, Cursor<&'static [u8]>);
    impl Read for Noting {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(2);
            let read = self.2.read(&mut buffer[..most])?;
            self.1.borrow_mut().push(format!("{} {read}", self.0));
            Ok(read)
        }
    }
    impl Write for Noting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.borrow_mut().push(format!("{} {}", self.0, String::from_utf8_lossy(bytes).trim_end()));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            self.1.borrow_mut().push(format!("{} flushed", self.0));
            Ok(())
        }
    }
    let end = |name, text: &'static str| Noting(name, Rc::clone(&events), Cursor::new(text.as_bytes()));
    let (one, another) = (Reader::new(end("one", "a\nb\n")), Reader::new(end("another", "x\ny\n")));
    let streams = (one, another, Writer::new(end("lines", "")), Writer::new(end("counts", "")));
    assert_eq!(sandbox().call::<u32>("interleave", streams).unwrap(), 2);
    let expected = [
        "one 2",
        "another 2",
        "counts 0",
        "counts flushed",
        "one 2",
        "another 2",
        "counts 1",
        "counts flushed",
        "one 0",
        "lines A X\nB Y",
    ];
    assert_eq!(*events.borrow(), expected);
}

#[test]
fn typed_functions_take_streams_that_borrow_something_else_each_time() {
    let mut sandbox = sandbox();
    let copy = sandbox.typed_fn::<(Reader<'_>, Writer<'_>), u64>("copy").unwrap();
    for text in ["one", "", "three"] {
        let (input, mut output) = (text.to_owned(), Vec::new());
        let copied = copy.call(&mut sandbox, (Reader::new(input.as_bytes()), Writer::new(&mut output))).unwrap();
        assert_eq!((copied, output), (text.len() as u64, text.as_bytes().to_vec()));
    }
    let error = sandbox.call::<u64>("copy", (Writer::new(io::sink()), Reader::new(io::empty()))).unwrap_err();
    assert!(matches!(error, CallError::WrongArguments { .. }), "{error}");
    assert!(error.to_string().contains("(Reader, Writer)"), "{error}");
    let error = sandbox.call::<u64>("copy", (5_u64, 6_u64)).unwrap_err();
    assert!(matches!(error, CallError::WrongArguments { .. }), "{error}");
}

#[test]
fn an_error_of_the_host_is_one_of_the_guest() {
    let mut sandbox = sandbox();
    for kind in [ErrorKind::UnexpectedEof, ErrorKind::InvalidData, ErrorKind::TimedOut, ErrorKind::Other] {
        let failing = Failing { error: Some(io::Error::new(kind, "the tape is torn")), then: b"mended" };
        let failure: (String, String, Vec<u8>) = sandbox.call("failure_of_reading", (Reader::new(failing),)).unwrap();
        assert_eq!(failure, (format!("{kind:?}"), "the tape is torn".to_owned(), b"mended".to_vec()));
    }
    let failing = Failing { error: Some(ErrorKind::StorageFull.into()), then: b"" };
    let failure: (String, String) = sandbox.call("failure_of_writing", (Writer::new(failing),)).unwrap();
    assert_eq!(failure, ("StorageFull".to_owned(), io::Error::from(ErrorKind::StorageFull).to_string()));

    // A function that passes it on fails with its text, and the sandbox goes on.
    let failing = Failing { error: Some(io::Error::other("no more")), then: b"" };
    let error = sandbox.call::<(u64, u64)>("digest", (Reader::new(failing), 0_u32)).unwrap_err();
    assert!(matches!(&error, CallError::Function { message, .. } if message == "no more"), "{error}");
    assert!(sandbox.call::<(u64, u64)>("digest", (Reader::new(io::empty()), 0_u32)).is_ok());
}

#[test]
fn a_panic_of_a_reader_poisons_as_one_of_a_host_function() {
    struct Panicking;
    impl Read for Panicking {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("no such tape");
        }
    }
    let mut sandbox = sandbox();
    let call = catch_unwind(AssertUnwindSafe(|| sandbox.call::<String>("first_line", (Reader::new(Panicking),))));
    assert_eq!(*call.unwrap_err().downcast::<&str>().unwrap(), "no such tape");
    assert!(matches!(sandbox.poisoned(), Some(Poison::HostFunctionPanicked)));
    sandbox.reset().unwrap();
    assert_eq!(sandbox.call::<String>("first_line", (Reader::new(&b"x"[..]),)).unwrap(), "x");
}

#[test]
fn a_stream_ends_with_its_call() {
    let mut sandbox = sandbox();
    let other = || (Reader::new(&b"other"[..]), Writer::new(io::sink()));
    sandbox.call::<()>("keep", (Reader::new(&b"kept"[..]), Writer::new(io::sink()))).unwrap();
    sandbox.call::<()>("keep", (Reader::new(&b"kept"[..]), Writer::new(io::sink()))).unwrap();
    let mut written = Vec::new();
    let errors: [String; 2] =
        sandbox.call("use_kept", (Reader::new(&b"other"[..]), Writer::new(&mut written))).unwrap();
    assert!(errors.iter().all(|error| error.contains("a stream ends with the call")), "{errors:?}");
    assert_eq!(written, b"");

    // Nor does a snapshot bring it back.
    let snapshot = sandbox.snapshot().unwrap();
    for sandbox in [&mut sandbox, &mut snapshot.builder().host_fn("note", |_: String| ()).build().unwrap()] {
        sandbox.restore(&snapshot).unwrap();
        let errors: [String; 2] = sandbox.call("use_kept", other()).unwrap();
        assert!(errors.iter().all(|error| error.contains("a stream ends with the call")), "{errors:?}");
    }
}

#[test]
fn a_kill_in_the_middle_takes_effect_when_the_reader_returns() {
    struct Killing(ampoule::InterruptHandle, u32);
    impl Read for Killing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            if self.1 == 3 {
                assert_eq!(self.0.kill(), KillOutcome::Killed);
            }
            buffer.fill(7);
            Ok(buffer.len())
        }
    }
    let mut sandbox = sandbox();
    let mut killing = Killing(sandbox.interrupt_handle(), 0);
    let error = sandbox.call::<()>("read_for_ever", (Reader::new(&mut killing),)).unwrap_err();
    assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
    assert_eq!(killing.1, 3);
    sandbox.reset().unwrap();
    assert_eq!(sandbox.call::<String>("first_line", (Reader::new(&b"x"[..]),)).unwrap(), "x");
}

#[test]
fn limits_hold_for_streams() {
    let mut sandbox = sandbox();
    let limits = Limits::new().host_calls(5);
    let call = Call::new("read_for_ever", (Reader::new(io::repeat(1)),)).limits(limits);
    let error = sandbox.call_with::<(), _>(call).unwrap_err();
    let CallError::Terminated { cause: Termination::LimitExceeded(ExceededLimit::HostCalls(5)), .. } = error else {
        panic!("{error}")
    };
    sandbox.reset().unwrap();
    let call = Call::new("read_for_ever", (Reader::new(io::empty()),)).deadline(Duration::from_millis(20));
    let error = sandbox.call_with::<(), _>(call).unwrap_err();
    let CallError::Terminated { cause: Termination::LimitExceeded(ExceededLimit::Deadline(_)), .. } = error else {
        panic!("{error}")
    };
}

#[test]
fn a_trace_shows_the_pieces() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sandbox = sandbox();
    sandbox.set_trace(Trace::writer(Shared(Arc::clone(&lines))));
    sandbox.call::<u64>("copy", (Reader::new(&b"some"[..]), Writer::new(io::sink()))).unwrap();
    let failing = Failing { error: Some(io::Error::other("torn")), then: b"" };
    sandbox.call::<String>("first_line", (Reader::new(failing),)).unwrap_err();
    let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    for part in ["host read(stream 0x", ", 16384) = 4 bytes", ", 4, flush) = () <", "= Err(\"torn\") <"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

fn builder() -> Builder {
    Sandbox::builder(&streams_image()).mailbox_size(MAILBOX).host_fn("note", |_: String| ())
}

fn sandbox() -> Sandbox {
    builder().build().unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * index / 7) as u8).collect()
}

/// As the guest computes it.
fn digest(bytes: &[u8]) -> (u64, u64) {
    let add = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    (bytes.len() as u64, bytes.iter().fold(0xcbf2_9ce4_8422_2325, add))
}

struct Counted<'a, R> {
    inner: R,
    read: &'a Cell<usize>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.set(self.read.get() + read);
        Ok(read)
    }
}

/// Gives one text after the other.
struct Pieces(VecDeque<&'static str>);

impl Pieces {
    fn of(pieces: &[&'static str]) -> Self {
        Self(pieces.iter().copied().collect())
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.0.pop_front().expect("nobody asks for what there is not").as_bytes();
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

/// Fails once.
struct Failing {
    error: Option<io::Error>,
    then: &'static [u8],
}

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.then.read(buffer),
        }
    }
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const MAILBOX: usize = 16 << 10;

/// What the guest library gathers before it asks.
const GATHERED: usize = 64 << 10;
