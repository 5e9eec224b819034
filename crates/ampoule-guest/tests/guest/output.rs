//! What a guest prints waits in the output area.

use std::ffi::{c_int, c_void};
use std::io::{self, Read};
use std::os::fd::AsRawFd;

use ampoule_abi::layout::OutputStream::{self, Stderr, Stdout};
use ampoule_guest::{HostError, export, import};

use crate::fake_host::FakeHost;

/// Writes by the C library's function: what it returns.
#[export]
fn write_more(texts: Vec<(c_int, String)>) -> Vec<i64> {
    texts.iter().map(|(descriptor, text)| write(*descriptor, text.as_bytes())).collect()
}

#[import]
fn look(moment: u32) -> Result<(), HostError>;

#[export]
fn write_and_call() -> Result<(), HostError> {
    write(1, b"before");
    look(1)?;
    write(1, b"between");
    look(2)
}

#[export]
fn write_and_panic() {
    write(2, b"before");
    panic!("and out");
}

fn write(descriptor: c_int, text: &[u8]) -> i64 {
    // SAFETY: reads the text, at most its length.
    unsafe { libc::write(descriptor, text.as_ptr().cast::<c_void>(), text.len()) as i64 }
}

fn write_more_in(host: &mut FakeHost, texts: &[(c_int, &str)]) -> Vec<i64> {
    let texts: Vec<(c_int, String)> = texts.iter().map(|(to, text)| (*to, (*text).to_owned())).collect();
    host.call("write_more", |arguments| arguments.value(&texts).unwrap()).result()
}

fn record(stream: OutputStream, text: &str) -> (OutputStream, Vec<u8>) {
    (stream, text.as_bytes().to_vec())
}

#[test]
fn text_for_the_standard_streams_waits_in_order() {
    let mut host = FakeHost::start();
    assert_eq!(write_more_in(&mut host, &[(1, "one"), (2, "two"), (1, ""), (1, "three")]), [3, 3, 0, 5]);
    let expected = [record(Stdout, "one"), record(Stderr, "two"), record(Stdout, ""), record(Stdout, "three")];
    assert_eq!(host.take_output(), expected);
    assert_eq!(write_more_in(&mut host, &[(2, "four")]), [4]);
    assert_eq!(host.take_output(), [record(Stderr, "four")]);
}

#[test]
fn messages_leave_waiting_text_alone() {
    let mut host = FakeHost::start();
    host.begin_call("write_and_call", |_| ());
    host.host_call("look", 1);
    host.reply(&());
    host.host_call("look", 2);
    assert_eq!(host.take_output(), [record(Stdout, "before"), record(Stdout, "between")]);
    host.reply(&());
    host.answer().result::<()>();
    assert_eq!(host.call("write_and_panic", |_| ()).panic().message, "and out");
    assert_eq!(host.take_output(), [record(Stderr, "before")]);
}

#[test]
fn other_descriptors_get_system_calls() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let mut host = FakeHost::start();
    assert_eq!(write_more_in(&mut host, &[(writer.as_raw_fd(), "to a pipe")]), [9]);
    let mut read = [0; 9];
    reader.read_exact(&mut read).expect("what was written");
    assert_eq!(&read, b"to a pipe");
    for descriptor in [-1, 0x10001, c_int::MAX] {
        assert_eq!(write_more_in(&mut host, &[(descriptor, "nowhere")]), [-1]);
    }
    assert_eq!(host.take_output(), []);
}
