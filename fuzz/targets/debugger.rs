//! Whatever a debugger sends while a real guest is called: neither the host nor the guest's next call comes to harm.

#![no_main]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use ampoule::{Call, CallError, DebuggerAddress, GdbServer, Image, Output, Sandbox, Termination};
use ampoule_abi::layout::RecordKind;
use ampoule_fuzz::guest::Guest;
use libfuzzer_sys::fuzz_target;

thread_local! {
    /// One sandbox for all inputs: each ends with a reset.
    static SANDBOX: RefCell<(Sandbox, SocketAddr)> = RefCell::new(sandbox());
}

fuzz_target!(|input: &[u8]| SANDBOX.with_borrow_mut(|(sandbox, address)| perform(sandbox, *address, input)));

fn perform(sandbox: &mut Sandbox, address: SocketAddr, input: &[u8]) {
    let sent = packets(input);
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("the timeout is none of zero");
        // The server may have had enough of it.
        let _ = stream.write_all(&sent).and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.read_to_end(&mut Vec::new());
    });
    while !client.is_finished() {
        match call(sandbox) {
            Ok(_) => {}
            Err(CallError::Poisoned { .. }) => sandbox.reset().expect("a reset is always possible"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    client.join().expect("the client does not panic");
    sandbox.reset().expect("a reset is always possible");
    let mut answer = call(sandbox);
    if matches!(answer, Err(CallError::Terminated { cause: Termination::Killed, .. })) {
        // The debugger's kill came between two calls, and has ended this one.
        sandbox.reset().expect("a reset is always possible");
        answer = call(sandbox);
    }
    assert!(matches!(answer, Ok(0)), "after a reset: {answer:?}");
}

/// A deadline stands still while a debugger has the guest, and this one is for what it makes of it.
fn call(sandbox: &mut Sandbox) -> Result<u64, CallError> {
    let nothing: &[u64] = &[];
    sandbox.call_with(Call::new("run", (nothing,)).deadline(Duration::from_secs(1)))
}

/// Each line of the input is a packet, which gets its checksum; one that begins with `!` is sent as it is.
fn packets(input: &[u8]) -> Vec<u8> {
    let packet = |line: &[u8]| match line.strip_prefix(b"!") {
        Some(raw) => raw.to_vec(),
        None => {
            let sum = line.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            [b"$", line, format!("#{sum:02x}").as_bytes()].concat()
        }
    };
    input.split(|byte| *byte == b'\n').flat_map(packet).collect()
}

fn sandbox() -> (Sandbox, SocketAddr) {
    let source = concat!(include_str!("../guests/abi.h"), include_str!("../guests/system_calls.c"));
    let guest = Guest::new(source, &[(RecordKind::Export, "run", "fn(Vec<u64>) -> u64")]).expect("it can be written");
    let image = Image::from_bytes(guest.compile(&[]).expect("it can be compiled")).expect("it is a guest");
    let server = GdbServer::listen(&DebuggerAddress::local_port(0)).expect("there is a port").wait(false);
    let DebuggerAddress::Tcp(address) = *server.address() else { unreachable!("it was asked for a port") };
    let builder = Sandbox::builder(&image).stdout(Output::discard()).stderr(Output::discard()).gdb(server);
    (builder.build().expect("this target needs /dev/kvm"), address)
}
