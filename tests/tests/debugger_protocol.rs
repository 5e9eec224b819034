//! gdb's remote protocol as the server speaks it, to clients that are well-behaved and to others.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use ampoule::{
    Call, CallError, DebuggerAddress, Executable, GdbServer, HostMemory, Image, Input, InterruptHandle, Limits,
    MapAccess, Output, Program, ProgramStatus, Sandbox, Termination,
};

/// A server for debuggers that nobody waits for, and where it listens.
fn server() -> (GdbServer, SocketAddr) {
    let server = GdbServer::listen(&DebuggerAddress::local_port(0)).unwrap().wait(false);
    let DebuggerAddress::Tcp(address) = *server.address() else { panic!("{}", server.address()) };
    (server, address)
}

/// A sandbox to which debuggers can attach, and where.
fn sandbox() -> (Sandbox, SocketAddr) {
    let image = Image::embedded(ampoule::include_guest!("debugger-fixed")).unwrap();
    let (server, address) = server();
    let sandbox = Sandbox::builder(&image).stdout(Output::discard()).gdb(server).build().unwrap();
    (sandbox, address)
}

/// Where something of the guest is; see `place` in its source.
fn place(sandbox: &mut Sandbox, of: u64) -> u64 {
    sandbox.call("place", (of,)).unwrap()
}

const GO: u64 = 0;
const STEPS: u64 = 1;
const STEPS_END: u64 = 2;
const ADD: u64 = 3;
const SUM: u64 = 4;

/// The least that a debugger has to be.
struct Client(TcpStream);

impl Client {
    /// Attaches to a guest that is in a call, or comes to be in one.
    fn attach(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        // So that a test fails rather than hangs.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(stream)
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.0.write_all(format!("${packet}#{sum:02x}").as_bytes()).unwrap();
    }

    /// The next packet, without what is only about packets; `None` where the server has closed the connection.
    fn receive(&mut self) -> Option<String> {
        let mut packet = Vec::new();
        while self.byte()? != b'$' {}
        loop {
            match self.byte()? {
                b'#' => break,
                // The byte before is repeated.
                b'*' => {
                    let (last, count) = (*packet.last().unwrap(), self.byte()? - 29);
                    packet.extend(std::iter::repeat_n(last, count.into()));
                }
                byte => packet.push(byte),
            }
        }
        for _digit in 0..2 {
            self.byte()?;
        }
        self.0.write_all(b"+").ok()?;
        Some(String::from_utf8(packet).unwrap())
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(read) => (read > 0).then_some(byte[0]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.receive().unwrap_or_else(|| panic!("no answer to `{packet}`"))
    }

    fn interrupt(&mut self) {
        self.0.write_all(&[3]).unwrap();
    }

    /// A register of 64 bits, by its place among these.
    fn register(&mut self, index: usize) -> u64 {
        u64::from_str_radix(&self.ask("g")[16 * index..][..16], 16).unwrap().swap_bytes()
    }

    fn set_register(&mut self, index: usize, value: u64) {
        let mut registers = self.ask("g");
        registers.replace_range(16 * index..16 * (index + 1), &format!("{:016x}", value.swap_bytes()));
        assert_eq!(self.ask(&format!("G{registers}")), "OK");
    }

    fn is_at_system_call(&mut self) -> bool {
        let at = self.register(RIP);
        self.read(at) as u16 == SYSCALL
    }

    /// Lets the guest run, and breaks in.
    fn run_and_break_in(&mut self) {
        self.send("vCont;c");
        self.interrupt();
        assert_eq!(self.receive().unwrap(), "S02");
    }

    fn write(&mut self, at: u64, value: u64) {
        assert_eq!(self.ask(&format!("M{at:x},8:{:016x}", value.swap_bytes())), "OK");
    }

    fn read(&mut self, at: u64) -> u64 {
        u64::from_str_radix(&self.ask(&format!("m{at:x},8")), 16).unwrap().swap_bytes()
    }

    fn detach(mut self) {
        assert_eq!(self.ask("D"), "OK");
    }
}

/// The instruction `syscall`.
const SYSCALL: u16 = 0x050f;

const RAX: usize = 0;
const RSP: usize = 7;
const R8: usize = 8;
const RIP: usize = 16;

fn wait_until_running(handle: &InterruptHandle) {
    while !handle.is_running() {
        thread::yield_now();
    }
}

/// Lets the guest spin, and a client meanwhile do something that makes it return 7.
fn while_spinning(client: impl FnOnce(Client, u64) + Send + 'static) {
    let (mut sandbox, address) = sandbox();
    let go = place(&mut sandbox, GO);
    assert_eq!(during(&mut sandbox, address, ("spin", 1), move |attached| client(attached, go)), 7);
}

/// Calls a function of the guest, and attaches a client meanwhile.
fn during(
    sandbox: &mut Sandbox,
    address: SocketAddr,
    (function, argument): (&str, u64),
    client: impl FnOnce(Client) + Send + 'static,
) -> u64 {
    let handle = sandbox.interrupt_handle();
    let client = thread::spawn(move || {
        wait_until_running(&handle);
        let done = panic::catch_unwind(AssertUnwindSafe(|| client(Client::attach(address))));
        if done.is_err() {
            handle.kill();
        }
        done
    });
    // What a debugger breaks off and the guest makes again counts once.
    let limits = Limits::new().system_calls(10);
    let result = sandbox.call_with::<u64, _>(Call::new(function, (argument,)).limits(limits));
    client.join().unwrap().unwrap_or_else(|panic| panic::resume_unwind(panic));
    result.unwrap()
}

#[test]
fn every_break_in_stops_a_guest_that_spins() {
    while_spinning(|mut client, go| {
        assert!(client.ask("?").starts_with("T05"));
        let spins = |client: &mut Client| client.read(go + 8);
        let mut last = spins(&mut client);
        for round in 0..100 {
            client.send("vCont;c");
            if round % 10 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            client.interrupt();
            assert_eq!(client.receive().unwrap(), "S02");
        }
        // In between it runs, if it is given the time.
        for pause in 0..5 {
            let before = last;
            while last == before {
                client.send("vCont;c");
                thread::sleep(Duration::from_millis(10 * pause));
                client.interrupt();
                assert_eq!(client.receive().unwrap(), "S02");
                last = spins(&mut client);
            }
        }
        client.write(go, 7);
        client.detach();
    });
}

#[test]
fn a_debugger_reads_memory_of_the_hosts_and_writes_what_the_guest_may() {
    let (mut sandbox, address) = sandbox();
    let memory = HostMemory::copy_of(b"mapped for the guest").unwrap();
    let read = sandbox.map_memory(&memory, "read", MapAccess::Read).unwrap().address();
    let copy = sandbox.map_memory(&memory, None, MapAccess::CopyOnWrite).unwrap().address();
    let go = place(&mut sandbox, GO);
    let result = during(&mut sandbox, address, ("spin", 1), move |mut client| {
        for at in [read, copy] {
            assert_eq!(client.ask(&format!("m{at:x},6")), "6d6170706564");
        }
        assert!(client.ask(&format!("M{read:x},1:7a")).starts_with('E'));
        assert_eq!(client.ask(&format!("M{copy:x},2:7a7a")), "OK");
        assert_eq!(client.ask(&format!("m{copy:x},6")), "7a7a70706564");
        // Behind the last page there is nothing.
        assert!(client.ask(&format!("m{:x},1", copy + 4096)).starts_with('E'));
        client.write(go, 7);
        client.detach();
    });
    assert_eq!((result, &memory[..6]), (7, b"mapped".as_slice()));
}

#[test]
fn a_guest_that_sleeps_is_stopped_at_its_system_call_which_sleeps_on_or_does_not() {
    let (mut sandbox, address) = sandbox();
    let hour = 60 * 60 * 1000;
    let slept = during(&mut sandbox, address, ("doze", hour), |mut client| {
        client.ask("?");
        // It may have just begun its call.
        while !client.is_at_system_call() {
            client.run_and_break_in();
        }
        for _ in 0..5 {
            client.run_and_break_in();
            assert!(client.is_at_system_call());
        }
        // As if it were over.
        let behind = client.register(RIP) + 2;
        client.set_register(RIP, behind);
        client.set_register(RAX, 0);
        client.detach();
    });
    // On the guest's own clock all of it has passed, once, and what its calls have taken.
    assert!((hour..2 * hour).contains(&slept), "{slept}");
}

#[test]
fn a_sleep_that_is_broken_into_is_as_long_as_it_is_to_and_one_system_call() {
    let (mut sandbox, address) = sandbox();
    let slept = during(&mut sandbox, address, ("doze", 2000), |mut client| {
        client.ask("?");
        for _ in 0..10 {
            client.run_and_break_in();
        }
        client.detach();
    });
    assert!(slept >= 2000, "{slept}");
}

#[test]
fn a_program_that_waits_for_input_is_stopped_at_its_system_call_and_waits_on() {
    for is_file in [true, false] {
        let (server, address) = server();
        let (theirs, mut ours) = std::io::pipe().unwrap();
        let input = if is_file { Input::file(theirs) } else { Input::reader(theirs) };
        let executable = Executable::from_bytes(ampoule::include_guest!("debugger-fixed").bytes()).unwrap();
        let process = Program::of(&executable).stdin(input).gdb(server).start().unwrap();
        let client = thread::spawn(move || {
            let mut client = Client::attach(address);
            client.ask("?");
            if is_file {
                while !client.is_at_system_call() {
                    client.run_and_break_in();
                }
                for _ in 0..5 {
                    client.run_and_break_in();
                    assert!(client.is_at_system_call());
                }
                ours.write_all(&[7]).unwrap();
            } else {
                // A reader is code of the application's, and cannot be stopped. It may be done before the server knows of the break-in.
                client.send("vCont;c");
                client.interrupt();
                ours.write_all(&[7]).unwrap();
                match client.receive().unwrap().as_str() {
                    "S02" => {}
                    ended => return ended.to_owned(),
                }
            }
            client.send("vCont;c");
            client.receive().unwrap()
        });
        let status = process.run().unwrap().status;
        assert!(matches!(status, ProgramStatus::Exited(7)), "{status:?}");
        assert_eq!(client.join().unwrap(), "W07");
    }
}

#[test]
fn a_break_in_lets_a_host_function_return_and_stops_behind_it() {
    let (server, address) = server();
    let image = Image::embedded(ampoule::include_guest!("calls")).unwrap();
    let (entered, is_entered) = mpsc::channel();
    // A signal would end the wait early, and not all of the application's waits are begun again.
    let notify = move || {
        // SAFETY: there are no descriptors to write to.
        let ready = unsafe { libc::poll(std::ptr::null_mut(), 0, 10) };
        assert_eq!(ready, 0, "{}", std::io::Error::last_os_error());
        let _ = entered.send(());
    };
    let mut sandbox = Sandbox::builder(&image)
        .host_fn("add", |a: u32, b: u32| a + b)
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .host_fn("notify", notify)
        .gdb(server)
        .build()
        .unwrap();
    let client = thread::spawn(move || {
        is_entered.recv().unwrap();
        let mut client = Client::attach(address);
        client.ask("?");
        for _ in 0..10 {
            client.run_and_break_in();
        }
        client.detach();
        // The function is called on, and says so.
        is_entered.iter().for_each(drop);
    });
    sandbox.call::<()>("notify_host", (100u32,)).unwrap();
    drop(sandbox);
    client.join().unwrap();
}

#[test]
fn kills_and_break_ins_at_once_neither_lose_each_other_nor_reach_a_later_call() {
    let (mut sandbox, address) = sandbox();
    let handle = sandbox.interrupt_handle();
    let is_over = Arc::new(AtomicBool::new(false));
    let client = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            while !is_over.load(Ordering::Relaxed) {
                let mut client = Client::attach(address);
                client.send("?");
                client.send("vCont;c");
                client.interrupt();
                client.send("vCont;c");
                client.interrupt();
            }
        }
    });
    for round in 0..50 {
        let killer = thread::spawn({
            let handle = handle.clone();
            move || {
                wait_until_running(&handle);
                thread::sleep(Duration::from_micros(50 * round));
                handle.kill()
            }
        });
        let error = sandbox.call::<u64>("spin", (1u64,)).unwrap_err();
        assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
        killer.join().unwrap();
        sandbox.reset().unwrap();
        assert_eq!(sandbox.call::<u64>("total", (4u64,)).unwrap(), 10);
    }
    is_over.store(true, Ordering::Relaxed);
    // Whoever waits for an answer gets one, or none comes any more.
    drop(sandbox);
    let _ = client.join();
}

#[test]
fn steps_go_through_system_calls_and_page_faults_by_one_instruction() {
    let (mut sandbox, address) = sandbox();
    let [steps, end] = [STEPS, STEPS_END].map(|of| place(&mut sandbox, of));
    let (attached, is_attached) = mpsc::channel();
    let client = thread::spawn(move || {
        let mut client = Client::attach(address);
        client.ask("?");
        attached.send(()).unwrap();
        assert_eq!(client.ask(&format!("Z0,{steps:x},1")), "OK");
        client.send("vCont;c");
        assert!(client.receive().unwrap().contains("swbreak"));
        assert_eq!(client.register(RIP), steps);
        assert_eq!(client.ask(&format!("z0,{steps:x},1")), "OK");
        let mut seen = Vec::new();
        while client.register(RIP) != end {
            assert_eq!(client.ask("vCont;s"), "S05");
            seen.push((client.register(RIP) - steps, client.register(R8)));
        }
        client.detach();
        seen
    });
    is_attached.recv().unwrap();
    assert_eq!(sandbox.call::<u64>("steps", (0u64,)).unwrap(), 6);
    let expected = [
        (3, 0),
        (6, 1),
        (9, 2),
        (14, 2),
        (16, 2),
        (19, 3),
        (21, 3),
        (24, 4),
        (32, 4),
        (35, 4),
        (38, 5),
        (41, 6),
        (44, 6),
    ];
    assert_eq!(client.join().unwrap(), expected);
}

/// Sums up to 4 with a watchpoint from the first addition on: what the sum is at each stop.
fn watched(kind: &'static str, name: &'static str) -> Vec<u64> {
    let (mut sandbox, address) = sandbox();
    let [add, sum] = [ADD, SUM].map(|of| place(&mut sandbox, of));
    let (attached, is_attached) = mpsc::channel();
    let client = thread::spawn(move || {
        let mut client = Client::attach(address);
        client.ask("?");
        attached.send(()).unwrap();
        assert_eq!(client.ask(&format!("Z0,{add:x},1")), "OK");
        client.send("vCont;c");
        assert!(client.receive().unwrap().contains("swbreak"));
        assert_eq!(client.ask(&format!("z0,{add:x},1")), "OK");
        assert_eq!(client.ask(&format!("{kind},{sum:x},8")), "OK");
        let mut sums = Vec::new();
        loop {
            let stopped = client.ask("vCont;c");
            if stopped.starts_with('W') {
                return sums;
            }
            assert!(stopped.contains(&format!(";{name}:{sum:x};")), "{stopped}");
            sums.push(client.read(sum));
        }
    });
    is_attached.recv().unwrap();
    assert_eq!(sandbox.call::<u64>("total", (4u64,)).unwrap(), 10);
    drop(sandbox);
    client.join().unwrap()
}

#[test]
fn a_watchpoint_stops_behind_the_instruction_that_changes_what_it_is_about() {
    assert_eq!(watched("Z2", "watch"), [1, 3, 6, 10]);
}

#[test]
fn watchpoints_of_reads_and_of_all_accesses_stop_at_each_and_at_nothing_else() {
    // Each addition reads, then writes; the result is read in the end.
    assert_eq!(watched("Z3", "rwatch"), [0, 1, 3, 6, 10]);
    assert_eq!(watched("Z4", "awatch"), [0, 1, 1, 3, 3, 6, 6, 10, 10]);
}

#[test]
fn a_watchpoint_stops_behind_the_system_call_that_changes_what_it_is_about() {
    let sum = place(&mut sandbox().0, SUM);
    let (server, address) = server();
    let executable = Executable::from_bytes(ampoule::include_guest!("debugger-fixed").bytes()).unwrap();
    let process = Program::of(&executable).stdin(Input::bytes([7])).gdb(server.wait(true)).start().unwrap();
    let client = thread::spawn(move || {
        let mut client = Client::attach(address);
        client.ask("?");
        assert_eq!(client.ask(&format!("Z2,{sum:x},8")), "OK");
        let stopped = client.ask("vCont;c");
        assert!(stopped.contains(&format!(";watch:{sum:x};")), "{stopped}");
        let behind = client.register(RIP);
        assert_eq!((client.read(behind - 2) as u16, client.register(RAX), client.read(sum)), (SYSCALL, 1, 7));
        client.ask("vCont;c")
    });
    process.run().unwrap();
    assert_eq!(client.join().unwrap(), "W07");
}

#[test]
fn a_guest_whose_stack_is_watched_does_what_it_would_do() {
    let (mut sandbox, address) = sandbox();
    let steps = place(&mut sandbox, STEPS);
    let (attached, is_attached) = mpsc::channel();
    let client = thread::spawn(move || {
        let mut client = Client::attach(address);
        client.ask("?");
        attached.send(()).unwrap();
        assert_eq!(client.ask(&format!("Z0,{steps:x},1")), "OK");
        client.send("vCont;c");
        assert!(client.receive().unwrap().contains("swbreak"));
        assert_eq!(client.ask(&format!("z0,{steps:x},1")), "OK");
        // The function itself, and the page of the address to which it returns.
        let stack = client.register(RSP);
        assert_eq!(client.ask(&format!("Z4,{:x},8", stack - 512)), "OK");
        assert_eq!(client.ask(&format!("Z4,{steps:x},1")), "OK");
        assert_eq!(client.ask(&format!("Z4,{stack:x},8")), "OK");
        let returned = client.ask("vCont;c");
        assert!(returned.contains(&format!(";awatch:{stack:x};")), "{returned}");
        assert_eq!(client.register(RSP), stack + 8);
        client.detach();
    });
    is_attached.recv().unwrap();
    assert_eq!(sandbox.call::<u64>("steps", (0u64,)).unwrap(), 6);
    client.join().unwrap();
}

#[test]
fn no_client_hangs_the_guest_or_spoils_it_for_the_next() {
    let (mut sandbox, address) = sandbox();
    let hostile = [
        b"".to_vec(),
        b"\0\xff$$$##\n".to_vec(),
        b"$".to_vec(),
        b"$g".to_vec(),
        b"$g#00$g#zz".to_vec(),
        [b"$".to_vec(), vec![b'a'; 1 << 20]].concat(),
        vec![3; 10_000],
        (0..=255).cycle().take(100_000).collect(),
        packets(&["qSupported:", "qXfer:features:read:target.xml:ffffffffffffffff,ffffffffffffffff"]),
        packets(&["qXfer:features:read::0,0", "qXfer:auxv:read::ffff,ffff", "qXfer:exec-file:read:zz:0,9"]),
        packets(&["mffffffffffffffff,ffffffff", "m0,ffffffffffffffff", "m400000,ffffffff"]),
        packets(&["Mffffffffffffffff,2:0000", "X400000,ffffff:", "G", "Gff", "P0=ff"]),
        packets(&["Z0,ffffffffffffffff,ffffffffffffffff", "Z2,0,ffffffffffffffff", "Z2,ffffffffffffffff,8", "z0,1,1"]),
        packets(&[
            "vFile:open:2f,0,0",
            "vFile:pread:3,ffffffff,ffffffffffffffff",
            "vFile:pread:9,1,0",
            "vFile:close:3",
        ]),
        packets(&["vFile:setfs:0", "vFile:fstat:3", "vFile:unlink:2f", "vFile:pwrite:3,0,x", "vFile:readlink:2f"]),
        packets(&["vCont;r0,ffffffffffffffff", "vCont;s:ffff", "vCont;S7f:1", "vCont;C00", "vCont", "c", "s"]),
        packets(&["Hgp99.99", "T99", "vAttach;1", "vRun;00", "R00", "!", "qRcmd,68", "bs", "bc", "t", "vCtrlC"]),
        packets(&["QStartNoAckMode", "g", "g", "g"]),
    ];
    for bytes in hostile {
        let begins = bytes[..bytes.len().min(20)].to_vec();
        let client = thread::spawn(move || {
            let mut client = Client::attach(address);
            // The server may have had enough of it.
            let _ = client.0.write_all(&bytes);
        });
        assert_eq!(sandbox.call::<u64>("total", (4u64,)).unwrap(), 10, "{begins:?}");
        client.join().unwrap();
        assert_eq!(sandbox.call::<u64>("total", (4u64,)).unwrap(), 10, "{begins:?}");
    }
}

/// Packets one after the other.
fn packets(packets: &[&str]) -> Vec<u8> {
    let framed = packets.iter().map(|packet| {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        format!("${packet}#{sum:02x}").into_bytes()
    });
    framed.collect::<Vec<_>>().concat()
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    while_spinning(|mut client, go| {
        client.write(go, 7);
        client.0.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let request = packets(&[&format!("m{go:x},1000")]);
        while client.0.write_all(&request).is_ok() {}
    });
}

#[test]
fn breakpoints_and_watchpoints_are_counted() {
    while_spinning(|mut client, go| {
        for number in 0..1024 {
            assert_eq!(client.ask(&format!("Z0,{:x},1", go + 16 + number)), "OK");
        }
        assert_eq!(client.ask(&format!("Z0,{:x},1", go + 16 + 1024)), "E16");
        assert_eq!(client.ask(&format!("Z0,{:x},1", go + 16)), "OK", "it is one already");
        for number in 0..64 {
            assert_eq!(client.ask(&format!("Z2,{:x},8", go + 8 * number)), "OK");
        }
        assert_eq!(client.ask(&format!("Z2,{go:x},8")), "E16");
        client.write(go, 7);
        client.detach();
    });
}

#[test]
fn a_client_learns_that_the_sandbox_is_gone() {
    let (mut sandbox, address) = sandbox();
    let mut client = Client::attach(address);
    let client = thread::spawn(move || {
        assert!(client.ask("?").starts_with("T05"));
        client.send("vCont;c");
        (client.receive(), client.receive())
    });
    // Whether the client is there before one of these or not, it is not held for ever.
    for _ in 0..10 {
        assert_eq!(sandbox.call::<u64>("total", (4u64,)).unwrap(), 10);
        thread::sleep(Duration::from_millis(10));
    }
    drop(sandbox);
    assert_eq!(client.join().unwrap(), (Some("W00".to_owned()), None));
}

#[test]
fn an_end_is_reported_even_when_the_guest_is_restored_at_once() {
    let (mut sandbox, address) = sandbox();
    let handle = sandbox.interrupt_handle();
    let client = thread::spawn(move || {
        wait_until_running(&handle);
        let mut client = Client::attach(address);
        client.ask("?");
        client.register(RIP);
        client.send("vCont;c");
        thread::sleep(Duration::from_millis(50));
        handle.kill();
        client.receive()
    });
    sandbox.call::<u64>("spin", (1u64,)).unwrap_err();
    sandbox.reset().unwrap();
    assert_eq!(sandbox.call::<u64>("total", (4u64,)).unwrap(), 10);
    assert_eq!(client.join().unwrap().unwrap(), "X09");
}

#[test]
fn a_client_that_stands_at_its_prompt_is_no_reason_to_wait_when_the_sandbox_goes() {
    let (sandbox, address) = sandbox();
    let mut client = Client::attach(address);
    assert!(client.ask("?").starts_with("T05"));
    // The guest is in no call, so this is not answered.
    client.send("g");
    drop(sandbox);
    while client.receive().is_some() {}
}
