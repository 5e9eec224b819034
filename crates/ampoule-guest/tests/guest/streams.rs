//! What a guest asks the host for when it reads and writes streams.

use std::io::{self, BufRead, Read, Write};

use ampoule_abi::codec::Encoder;
use ampoule_abi::layout::{FLUSH_STREAM, FailureStatus, ReturnStatus};
use ampoule_guest::{Reader, Writer, export};

use crate::fake_host::{AREA_LEN, FakeHost};

#[export]
fn read_all(mut input: Reader<'_>) -> io::Result<String> {
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    Ok(text)
}

#[export]
fn read_line(mut input: Reader<'_>) -> Result<String, String> {
    let mut line = String::new();
    input.read_line(&mut line).map_err(|error| format!("{:?}: {error}", error.kind()))?;
    Ok(line)
}

#[export]
fn write_twice(mut output: Writer<'_>) -> Result<(), String> {
    output.write_all(&[7; AREA_LEN]).expect("it gathers");
    output.write_all(&[8; 10]).expect("it gathers");
    output.flush().map_err(|error| format!("{:?}: {error}", error.kind()))
}

#[export]
fn write_and_drop(text: &str, mut output: Writer<'_>) -> u32 {
    output.write_all(text.as_bytes()).expect("it gathers");
    drop(output);
    5
}

#[test]
fn pieces_are_asked_for_one_after_the_other_and_as_large_as_they_may_be() {
    let mut host = FakeHost::start();
    host.begin_call("read_all", |encoder| encoder.value(&41_u64).unwrap());
    for (sequence, piece) in [(1, "one "), (2, "two"), (3, "")] {
        assert_eq!(host.read_of_stream(sequence), (41, AREA_LEN as u32));
        host.reply_bytes(piece.as_bytes());
    }
    assert_eq!(host.answer().result::<String>(), "one two");

    host.begin_call("read_line", |encoder| encoder.value(&42_u64).unwrap());
    assert_eq!(host.read_of_stream(4), (42, AREA_LEN as u32));
    host.reply_bytes(b"a line\nand more");
    assert_eq!(host.answer().result::<String>(), "a line\n");
}

#[test]
fn what_gathers_is_written_in_pieces_of_which_the_last_one_flushes() {
    let mut host = FakeHost::start();
    host.begin_call("write_twice", |encoder| encoder.value(&7_u64).unwrap());
    assert_eq!(host.write_to_stream(1), (7, 0, vec![7; AREA_LEN]));
    host.reply_bytes(&[]);
    assert_eq!(host.write_to_stream(2), (7, FLUSH_STREAM, vec![8; 10]));
    host.reply_bytes(&[]);
    assert_eq!(host.answer().result::<()>(), ());

    let words = |text: &'static str| {
        move |encoder: &mut Encoder<&mut Vec<u8>>| {
            encoder.value(text).unwrap();
            encoder.value(&9_u64).unwrap();
        }
    };
    host.begin_call("write_and_drop", words("dropped"));
    assert_eq!(host.write_to_stream(3), (9, 0, b"dropped".to_vec()));
    host.fail(FailureStatus::Stream, "nobody sees it", 7);
    assert_eq!(host.answer().result::<u32>(), 5);
    host.begin_call("write_and_drop", words(""));
    assert_eq!(host.answer().result::<u32>(), 5, "nothing has gathered, so nothing is asked");
}

#[test]
fn failures_are_errors_of_their_kind() {
    let mut host = FakeHost::start();
    for (status, number, expected) in [
        (FailureStatus::Stream, 16, "UnexpectedEof: cut off"),
        (FailureStatus::Stream, 0, "Other: cut off"),
        (FailureStatus::Stream, u64::MAX, "Other: cut off"),
        (FailureStatus::UnknownStream, 0, "NotConnected: cut off"),
    ] {
        for function in ["read_line", "write_twice"] {
            host.begin_call(function, |encoder| encoder.value(&1_u64).unwrap());
            host.fail(status, "cut off", number);
            assert_eq!(host.answer().text(ReturnStatus::Failed), expected);
        }
    }
}

#[test]
fn streams_of_the_programs_own_need_no_host() {
    assert_eq!(read_all(Reader::new(&b"as it is"[..])).unwrap(), "as it is");
    let mut large = vec![0; 1 << 17];
    assert_eq!(Reader::new(io::repeat(3)).read(&mut large).unwrap(), large.len());
    let mut written = Vec::new();
    write_twice(Writer::new(&mut written)).unwrap();
    assert_eq!(written, [&[7; AREA_LEN][..], &[8; 10]].concat());
}
