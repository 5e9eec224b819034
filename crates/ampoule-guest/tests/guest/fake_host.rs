//! A host in the test's own process: a guest thread runs the serve loop, and its doorbell hands over to the test.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::sync::{Condvar, Mutex};
use std::thread::{self, JoinHandle};

use ampoule_abi::codec::{self, Encoder};
use ampoule_abi::layout::{
    ABI_MAJOR, ABI_MINOR, FailureStatus, GuestMessageKind, HostMessageKind, INFO_MAGIC, InfoPage, MessageLine,
    OUTPUT_HEADER_LEN, OutputHeader, OutputKind, OutputStream, PRINTED_OFFSET, PanicRecord, RECORD_HEADER_LEN,
    RecordHeader, RecordKind, ReturnStatus,
};
use ampoule_abi::schema::Schema;
use ampoule_guest::rt;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of each payload area.
pub(crate) const AREA_LEN: usize = 4096;

/// Bytes of the output area.
const OUTPUT_LEN: usize = 4096;

/// The generation of a guest that was not restored.
pub(crate) const FIRST_GENERATION: u64 = 70;

/// The host side of a guest that waits for a call.
pub(crate) struct FakeHost {
    memory: &'static Memory,
    guest: JoinHandle<String>,
    calls: u64,
    /// What calls ask the guest for.
    asked: u32,
    _last_turn: LastTurn,
}

impl FakeHost {
    /// Starts a guest and waits until it is ready.
    pub(crate) fn start() -> Self {
        Self::start_with(|| {})
    }

    /// The same for a guest that prepares itself.
    pub(crate) fn start_with(init: impl FnOnce() + Send + 'static) -> Self {
        Self::start_as(ABI_MINOR, init)
    }

    /// The same on a host of another minor version.
    pub(crate) fn start_as(abi_minor: u32, init: impl FnOnce() + Send + 'static) -> Self {
        Self::start_asking(abi_minor, 0, init)
    }

    /// The same on a host that asks for this until the first call.
    pub(crate) fn start_asking(abi_minor: u32, asked: u32, init: impl FnOnce() + Send + 'static) -> Self {
        let memory: &Memory = Box::leak(Box::default());
        let page = InfoPage { asked: asked.into(), ..memory.describe(abi_minor) };
        // SAFETY: there is no guest yet.
        unsafe { memory.info_page().write(page) };
        let guest = thread::spawn(move || {
            let _last_turn = LastTurn(memory);
            MEMORY.set(Some(memory));
            // SAFETY: the memory and the doorbell follow the ABI: the test touches the memory only while the guest waits
            // in the doorbell.
            unsafe { rt::serve(memory.info_page(), init) }.to_string()
        });
        let host = Self { memory, guest, calls: 0, asked: 0, _last_turn: LastTurn(memory) };
        host.wait();
        let MessageLine { length, .. } = host.guest_line();
        let ready = MessageLine { kind: GuestMessageKind::Ready as u32, length, ..MessageLine::default() };
        assert_eq!(host.guest_line(), ready);
        host
    }

    /// What the guest, which is ready, says of its types.
    pub(crate) fn schema(&self) -> Option<Schema> {
        let MessageLine { length, .. } = self.guest_line();
        (length > 0).then(|| codec::decode(&self.outbound(length)[..]).expect("a schema"))
    }

    /// Has the calls from now on ask the guest to describe or record this.
    pub(crate) fn ask(&mut self, what: u32) {
        self.asked = what;
    }

    /// Calls an export by its name and returns what it answers.
    pub(crate) fn call(&mut self, name: &str, arguments: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Answer {
        self.begin_call(name, arguments);
        self.answer()
    }

    /// Calls an export and leaves the guest at its next message.
    pub(crate) fn begin_call(&mut self, name: &str, arguments: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) {
        let number = function_number(RecordKind::Export, name);
        self.begin_call_of(number, &encoded(arguments));
    }

    /// The same with the function's number and bytes that may be wrong.
    pub(crate) fn begin_call_of(&mut self, function: u32, arguments: &[u8]) {
        self.calls += 1;
        let area = self.memory.inbound.get();
        // SAFETY: the guest waits in the doorbell.
        unsafe { (&mut *area)[..arguments.len()].copy_from_slice(arguments) };
        self.send(MessageLine {
            sequence: self.calls,
            kind: HostMessageKind::Call as u32,
            function,
            length: arguments.len() as u32,
            status: self.asked,
            ..MessageLine::default()
        });
    }

    /// The guest's message as the answer to the call.
    pub(crate) fn answer(&self) -> Answer {
        let line = self.guest_line();
        assert_eq!(line.kind, GuestMessageKind::Return as u32, "{line:?}");
        assert_eq!(line.sequence, self.calls);
        let status = ReturnStatus::from_u32(line.status).expect("a status");
        Answer { status, needed: line.needed, payload: self.outbound(line.length) }
    }

    /// The guest's message as a host call of this import; its arguments.
    pub(crate) fn host_call(&self, name: &str, sequence: u64) -> Vec<u8> {
        let line = self.guest_line();
        assert_eq!(line.kind, GuestMessageKind::HostCall as u32, "{line:?}");
        assert_eq!(line.function, function_number(RecordKind::Import, name));
        assert_eq!(line.sequence, sequence);
        self.outbound(line.length)
    }

    /// The guest's message as a read of a stream: its number, and how many bytes are wanted.
    pub(crate) fn read_of_stream(&self, sequence: u64) -> (u64, u32) {
        let line = self.guest_line();
        assert_eq!((line.kind, line.length), (GuestMessageKind::ReadStream as u32, 0), "{line:?}");
        assert_eq!(line.sequence, sequence);
        (line.needed, line.status)
    }

    /// The guest's message as a write to a stream: its number, whether it is to be flushed, and the bytes.
    pub(crate) fn write_to_stream(&self, sequence: u64) -> (u64, u32, Vec<u8>) {
        let line = self.guest_line();
        assert_eq!(line.kind, GuestMessageKind::WriteStream as u32, "{line:?}");
        assert_eq!(line.sequence, sequence);
        (line.needed, line.status, self.outbound(line.length))
    }

    /// Answers the guest's host call with a result.
    pub(crate) fn reply<T: Serialize>(&self, result: &T) {
        let payload = encoded(|encoder| encoder.value(result).unwrap());
        self.reply_bytes(&payload);
    }

    /// The same with bytes that may be wrong.
    pub(crate) fn reply_bytes(&self, payload: &[u8]) {
        self.respond(HostMessageKind::Reply, 0, 0, payload);
    }

    /// Answers the guest's host call with a failure.
    pub(crate) fn fail(&self, status: FailureStatus, message: &str, needed: u64) {
        let payload = encoded(|encoder| encoder.value(message).unwrap());
        self.respond(HostMessageKind::Failure, status as u32, needed, &payload);
    }

    /// Answers the guest's host call with an error of the host function's own, whose value is this.
    pub(crate) fn fail_with<T: Serialize>(&self, message: &str, error: &T) {
        let text = encoded(|encoder| encoder.value(message).unwrap());
        let value = encoded(|encoder| encoder.value(error).unwrap());
        let line = MessageLine {
            sequence: self.guest_line().sequence,
            kind: HostMessageKind::Failure as u32,
            length: text.len() as u32,
            status: FailureStatus::Failed as u32,
            needed: value.len() as u64,
            ..MessageLine::default()
        };
        self.write_outbound(&[text, value].concat());
        self.send(line);
    }

    /// Lets the guest notice a restore. Its memory stays as it is, so it is as if it had been restored to this moment.
    pub(crate) fn change_generation(&mut self) -> u64 {
        // SAFETY: the guest waits in the doorbell.
        let generation = unsafe { &mut (*self.memory.info_page()).generation };
        *generation += 1;
        *generation
    }

    /// Takes what the guest has printed.
    pub(crate) fn take_output(&mut self) -> Vec<(OutputStream, Vec<u8>)> {
        let text = |(kind, text)| match kind {
            OutputKind::Text(stream) => (stream, text),
            OutputKind::Log | OutputKind::Span | OutputKind::Allocation => panic!("no text: {kind:?} {text:?}"),
        };
        self.take_records().into_iter().map(text).collect()
    }

    /// Takes all records that wait.
    pub(crate) fn take_records(&mut self) -> Vec<(OutputKind, Vec<u8>)> {
        // SAFETY: the guest waits in the doorbell.
        let mut rest = unsafe {
            let waiting = self.memory.guest_line.get().byte_add(PRINTED_OFFSET).cast::<u32>().replace(0);
            &(&(*self.memory.output.get()))[..waiting as usize]
        };
        let mut records = Vec::new();
        while let Some((header, more)) = rest.split_first_chunk::<OUTPUT_HEADER_LEN>() {
            let OutputHeader { stream, length } = OutputHeader::from_bytes(*header);
            let (text, more) = more.split_at(length.into());
            records.push((OutputKind::from_u16(stream).expect("a kind"), text.to_vec()));
            rest = more;
        }
        assert!(rest.is_empty(), "{rest:?}");
        records
    }

    /// Sends what is no call; returns the guest's last words.
    pub(crate) fn stop(self) -> String {
        self.memory.write_host_line(MessageLine { kind: 9, ..MessageLine::default() });
        self.memory.turns.give(Turn::Guest);
        self.guest.join().expect("the serve loop returns")
    }

    /// Addresses of the inbound area.
    pub(crate) fn inbound_addresses(&self) -> std::ops::Range<u64> {
        let start = self.memory.inbound.get() as u64;
        start..start + AREA_LEN as u64
    }

    fn respond(&self, kind: HostMessageKind, status: u32, needed: u64, payload: &[u8]) {
        self.write_outbound(payload);
        let sequence = self.guest_line().sequence;
        let length = payload.len() as u32;
        self.send(MessageLine { sequence, kind: kind as u32, length, status, needed, ..MessageLine::default() });
    }

    fn write_outbound(&self, payload: &[u8]) {
        let area = self.memory.outbound.get();
        // SAFETY: the guest waits in the doorbell.
        unsafe { (&mut *area)[..payload.len()].copy_from_slice(payload) };
    }

    fn send(&self, line: MessageLine) {
        self.memory.write_host_line(line);
        self.memory.turns.give(Turn::Guest);
        self.wait();
    }

    fn wait(&self) {
        assert_eq!(self.memory.turns.wait_for(Turn::Host), Turn::Host, "the guest has ended");
    }

    fn guest_line(&self) -> MessageLine {
        // SAFETY: the guest waits in the doorbell.
        unsafe { self.memory.guest_line.get().read() }
    }

    fn outbound(&self, length: u32) -> Vec<u8> {
        // SAFETY: the guest waits in the doorbell.
        unsafe { (&(*self.memory.outbound.get()))[..length as usize].to_vec() }
    }
}

/// How a call went.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: ReturnStatus,
    pub(crate) needed: u64,
    payload: Vec<u8>,
}

impl Answer {
    /// The result of a call that went well.
    #[track_caller]
    pub(crate) fn result<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, ReturnStatus::Done, "{self:?}");
        codec::decode(&self.payload[..]).expect("a result")
    }

    /// The text of an answer with this status.
    #[track_caller]
    pub(crate) fn text(&self, status: ReturnStatus) -> String {
        assert_eq!(self.status, status, "{self:?}");
        codec::decode(&self.payload[..]).expect("a text")
    }

    /// The record of a panic.
    #[track_caller]
    pub(crate) fn panic(&self) -> PanicRecord<String> {
        assert_eq!(self.status, ReturnStatus::Panicked, "{self:?}");
        codec::decode(&self.payload[..]).expect("a panic record")
    }

    /// Bytes of the payload.
    pub(crate) fn len(&self) -> usize {
        self.payload.len()
    }
}

/// The functions of this program as a host finds them in its image: kind, number, name and signature.
pub(crate) fn functions() -> Vec<(RecordKind, u32, String, String)> {
    let mut functions = Vec::new();
    let mut offset = 0;
    while let Some(bytes) = section()[offset..].first_chunk::<RECORD_HEADER_LEN>() {
        let header = RecordHeader::from_bytes(bytes);
        let text = &section()[offset + RECORD_HEADER_LEN..][..(header.name_len + header.signature_len) as usize];
        let (name, signature) = text.split_at(header.name_len as usize);
        let [name, signature] = [name, signature].map(|text| String::from_utf8(text.to_vec()).expect("UTF-8"));
        functions.push((RecordKind::from_u16(header.kind).expect("a kind"), offset as u32, name, signature));
        offset += header.size as usize;
    }
    functions
}

/// The number of a function.
pub(crate) fn function_number(kind: RecordKind, name: &str) -> u32 {
    let functions = functions();
    let function = functions.iter().find(|function| function.0 == kind && function.2 == name);
    function.unwrap_or_else(|| panic!("no {kind:?} {name}")).1
}

/// The section of this program that holds its records.
pub(crate) fn section() -> &'static [u8] {
    unsafe extern "C" {
        #[link_name = "__start_ampoule_fns"]
        static START: UnsafeCell<u8>;
        #[link_name = "__stop_ampoule_fns"]
        static STOP: UnsafeCell<u8>;
    }
    let (start, stop) = ((&raw const START).cast::<u8>(), (&raw const STOP).cast::<u8>());
    // SAFETY: the linker puts the symbols around the section, which nothing writes to.
    unsafe { std::slice::from_raw_parts(start, stop.addr() - start.addr()) }
}

fn encoded(values: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut encoder = Encoder::new(&mut payload);
    values(&mut encoder);
    encoder.finish().expect("a vector is large enough");
    payload
}

/// What guest and host share.
struct Memory {
    turns: Turns,
    info_page: UnsafeCell<MaybeUninit<InfoPage>>,
    host_line: UnsafeCell<MessageLine>,
    guest_line: UnsafeCell<MessageLine>,
    inbound: UnsafeCell<[u8; AREA_LEN]>,
    outbound: UnsafeCell<[u8; AREA_LEN]>,
    output: UnsafeCell<[u8; OUTPUT_LEN]>,
}

// SAFETY: the two threads take turns, as `turns` says.
unsafe impl Sync for Memory {}

impl Default for Memory {
    fn default() -> Self {
        Self {
            turns: Turns::default(),
            info_page: UnsafeCell::new(MaybeUninit::uninit()),
            host_line: UnsafeCell::default(),
            guest_line: UnsafeCell::default(),
            inbound: UnsafeCell::new([0; AREA_LEN]),
            outbound: UnsafeCell::new([0; AREA_LEN]),
            output: UnsafeCell::new([0; OUTPUT_LEN]),
        }
    }
}

impl Memory {
    fn info_page(&self) -> *mut InfoPage {
        self.info_page.get().cast()
    }

    fn describe(&self, abi_minor: u32) -> InfoPage {
        InfoPage {
            magic: INFO_MAGIC,
            abi_major: ABI_MAJOR,
            abi_minor,
            entry: (ring as extern "C" fn() as *const ()).expose_provenance() as u64,
            host_line: self.host_line.get().expose_provenance() as u64,
            guest_line: self.guest_line.get().expose_provenance() as u64,
            inbound: self.inbound.get().expose_provenance() as u64,
            inbound_len: AREA_LEN as u64,
            outbound: self.outbound.get().expose_provenance() as u64,
            outbound_len: AREA_LEN as u64,
            generation: FIRST_GENERATION,
            output: self.output.get().expose_provenance() as u64,
            output_len: OUTPUT_LEN as u64,
            log_level: 0,
            asked: 0,
        }
    }

    fn write_host_line(&self, line: MessageLine) {
        // SAFETY: the guest waits in the doorbell.
        unsafe { self.host_line.get().write(line) }
    }
}

/// The doorbell: lets the test continue and waits for it.
extern "C" fn ring() {
    let memory = MEMORY.get().expect("the guest has a mailbox");
    memory.turns.give(Turn::Host);
    if memory.turns.wait_for(Turn::Guest) != Turn::Guest {
        // The test is over, and nobody is left to return to.
        loop {
            thread::park();
        }
    }
}

/// Who may touch the memory. It takes no memory itself to pass the turn on.
#[derive(Default)]
struct Turns {
    turn: Mutex<Turn>,
    passed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Turn {
    #[default]
    Guest,
    Host,
    /// The other side has ended.
    Nobody,
}

impl Turns {
    fn give(&self, to: Turn) {
        *self.turn.lock().expect("nobody panics with the lock") = to;
        self.passed.notify_all();
    }

    /// Waits until it is this side's turn, or never will be.
    fn wait_for(&self, side: Turn) -> Turn {
        let turn = self.turn.lock().expect("nobody panics with the lock");
        let is_others = |turn: &mut Turn| *turn != side && *turn != Turn::Nobody;
        *self.passed.wait_while(turn, is_others).expect("nobody panics with the lock")
    }
}

/// Ends the turns when it is dropped.
struct LastTurn(&'static Memory);

impl Drop for LastTurn {
    fn drop(&mut self) {
        self.0.turns.give(Turn::Nobody);
    }
}

thread_local! {
    static MEMORY: Cell<Option<&'static Memory>> = const { Cell::new(None) };
}
