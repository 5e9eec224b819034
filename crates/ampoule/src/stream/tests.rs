use std::io::{Cursor, ErrorKind, Read, Write};
use std::task::{Context, Poll, Waker};

use super::*;

/// For streams that are always ready.
struct Never;

impl Wait for Never {
    fn until_ready(&mut self, _: Pin<&mut dyn Future<Output = ()>>) {
        panic!("nothing is waited for");
    }
}

#[test]
fn a_number_means_a_stream_of_one_call_and_one_direction() {
    let (reader, writer) = (Reader::new(io::empty()), Writer::new(io::sink()));
    let mut streams = Streams::of_call(7);
    let numbers = [streams.add(&reader), streams.add(&writer)];
    assert_ne!(numbers[0], numbers[1]);
    assert!(streams.get(numbers[0], Direction::Read).is_some());
    assert!(streams.get(numbers[1], Direction::Write).is_some());
    assert!(streams.get(numbers[0], Direction::Write).is_none());
    assert!(streams.get(numbers[1], Direction::Read).is_none());
    for wild in [0, 1, numbers[0] - 1, numbers[1] + 1, u64::MAX] {
        assert!(streams.get(wild, Direction::Read).is_none(), "{wild}");
    }
    let mut next = Streams::of_call(8);
    let again = next.add(&reader);
    assert!(numbers.into_iter().all(|number| number != again));
    assert!(next.get(numbers[0], Direction::Read).is_none());
}

#[test]
fn a_piece_is_what_one_read_gives() {
    /// Gives three bytes at a time, and is interrupted before each.
    struct Slow(Cursor<&'static [u8]>, bool);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let most = buffer.len().min(3);
            self.0.read(&mut buffer[..most])
        }
    }

    let reader = Reader::new(Slow(Cursor::new(b"abcde"), false));
    let mut buffer = Vec::new();
    for expected in ["ab", "cde", "", ""] {
        let most = if expected == "ab" { 2 } else { 1 << 30 };
        let read = reader.read(&mut buffer, most, &mut Never).unwrap();
        assert_eq!(&buffer[..read], expected.as_bytes());
    }
    assert!(buffer.len() <= 1 << 20, "what a guest asks for takes no more memory than a piece");
    assert_eq!(reader.write(b"x", true, &mut Never).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_reader_that_claims_too_much_is_an_error() {
    struct Wrong;

    impl Read for Wrong {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(buffer.len() + 1)
        }
    }

    let error = Reader::new(Wrong).read(&mut Vec::new(), 10, &mut Never).unwrap_err();
    assert!(error.to_string().contains("11 bytes where 10 were wanted"), "{error}");
}

#[test]
fn a_writer_is_flushed_where_the_guest_flushes() {
    struct Noted<'a>(&'a mut String);

    impl Write for Noted<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push_str(&String::from_utf8_lossy(&bytes[..1]));
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.push('|');
            Ok(())
        }
    }

    let mut noted = String::new();
    let writer = Writer::new(Noted(&mut noted));
    writer.write(b"abc", false, &mut Never).unwrap();
    writer.write(b"de", true, &mut Never).unwrap();
    writer.write(b"", true, &mut Never).unwrap();
    assert_eq!(writer.read(&mut Vec::new(), 1, &mut Never).unwrap_err().kind(), ErrorKind::Unsupported);
    drop(writer);
    assert_eq!(noted, "abcde||");
}

/// Polls until there is something.
struct Polling;

impl Wait for Polling {
    fn until_ready(&mut self, mut future: Pin<&mut dyn Future<Output = ()>>) {
        while future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
    }
}

#[test]
fn an_item_that_is_there_is_sent_without_the_next_one() {
    let mut polls = 0;
    let items = Items::asynchronous(|_| {
        polls += 1;
        // One comes at once, then there is a pause, then two come, and the end.
        match polls {
            1 => Poll::Ready(Some(1_u8)),
            2 | 3 => Poll::Pending,
            4 | 5 => Poll::Ready(Some(polls - 2)),
            _ => Poll::Ready(None),
        }
    });
    let mut buffer = Vec::new();
    for expected in [&[1_u8][..], &[2, 3], &[], &[]] {
        let read = items.read(&mut buffer, 100, &mut Polling).unwrap();
        assert_eq!(&buffer[..read], expected);
    }
}

#[test]
fn an_item_that_does_not_fit_any_more_comes_first_in_the_next_piece() {
    let items = Items::new(["one", "two", "three"].map(str::to_owned));
    let mut buffer = vec![9; 50];
    let lengths: Vec<usize> = (0..3).map(|_| items.read(&mut buffer, 15, &mut Polling).unwrap()).collect();
    assert_eq!(lengths, [14, 9, 0]);
    let items = Items::new(["too long".to_owned(), "b".to_owned()]);
    let error = items.read(&mut buffer, 11, &mut Polling).unwrap_err();
    assert!(error.to_string().contains("an item of 12 bytes"), "{error}");
    assert_eq!(items.read(&mut buffer, 11, &mut Polling).unwrap(), 5);
}

#[test]
fn a_sink_takes_whole_items_and_reports_what_is_none() {
    let mut taken = Vec::new();
    let sink = Sink::new(|number: u16| taken.push(number));
    sink.write(&[1, 0, 2, 0], false, &mut Polling).unwrap();
    let error = sink.write(&[3, 0, 4], true, &mut Polling).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    drop(sink);
    assert_eq!(taken, [1, 2, 3]);
}

#[test]
fn kinds_of_errors_have_numbers_of_their_own() {
    assert_eq!(kind_number(ErrorKind::NotFound), 1);
    assert_eq!(kind_number(ErrorKind::UnexpectedEof), 16);
    assert_eq!(kind_number(ErrorKind::Other), 0);
}
