//! Guests that end, and guests that print and log: each in a process of its own, whose mailbox is a file that outlives it.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::{env, fs, process, ptr};

use ampoule_abi::codec;
use ampoule_abi::layout::{
    ABI_MAJOR, ABI_MINOR, GuestMessageKind, HostMessageKind, INFO_MAGIC, InfoPage, LogLevel, LogRecord, MESSAGE_LEN,
    MESSAGE_LINE_LEN, MessageLine, OUTPUT_HEADER_LEN, OutputHeader, OutputKind, OutputStream, PRINTED_OFFSET,
    PanicRecord, RECORD_HEADER_LEN, RecordHeader, RecordKind,
};
#[cfg(feature = "tracing")]
use ampoule_abi::layout::{SpanRecord, SpanStep};
use ampoule_guest::{export, rt};

/// Panics when it is dropped, which ends the program when that happens because of a panic.
struct PanicsTwice;

impl Drop for PanicsTwice {
    fn drop(&mut self) {
        panic!("the second panic");
    }
}

#[export]
fn panic_twice() {
    let _value = PanicsTwice;
    panic!("the first panic");
}

#[test]
fn a_guest_without_a_host_says_how_it_is_meant_to_be_run() {
    if env::var_os(MAILBOX).is_some() {
        rt::run(|| panic!("there is nothing to prepare"));
    }
    let output = run_again("a_guest_without_a_host_says_how_it_is_meant_to_be_run", "");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("`process-"), "{text}");
    assert!(text.contains("is an Ampoule guest: it runs inside a micro-VM"), "{text}");
}

#[test]
fn a_panic_while_the_guest_prepares_itself_is_left_to_the_host() {
    if let Some(path) = env::var_os(MAILBOX) {
        // SAFETY: the process ends with the loop, and nothing else in it knows the mailbox.
        unsafe { rt::serve(Mailbox::open(&path).info_page(ABI_MINOR), || panic!("no table, no service")) };
        process::exit(0);
    }
    let left = left_by("a_panic_while_the_guest_prepares_itself_is_left_to_the_host");
    assert_eq!(left.message, "no table, no service");
    assert!(left.file.ends_with("tests/process.rs"), "{left:?}");
}

#[test]
fn a_panic_that_ends_the_guest_is_left_to_the_host() {
    if let Some(path) = env::var_os(MAILBOX) {
        // SAFETY: as above.
        unsafe { rt::serve(Mailbox::open(&path).info_page(ABI_MINOR), || {}) };
        process::exit(0);
    }
    assert_eq!(left_by("a_panic_that_ends_the_guest_is_left_to_the_host").message, "the second panic");
}

#[test]
fn outside_a_sandbox_text_is_printed_as_ever() {
    if env::var_os(MAILBOX).is_some() {
        print_in_three_ways();
        // Nothing is flushed any more.
        process::abort();
    }
    let output = run_again("outside_a_sandbox_text_is_printed_as_ever", "");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    assert!(stdout.ends_with("by println\nby write\n"), "{stdout}");
    assert!(stderr.ends_with("by eprintln\n"), "{stderr}");
}

#[test]
fn text_that_does_not_fit_goes_to_the_system() {
    const TEST: &str = "text_that_does_not_fit_goes_to_the_system";
    let fits = "x".repeat(AREA_LEN - OUTPUT_HEADER_LEN - 10);
    if let Some(path) = env::var_os(MAILBOX) {
        let init = || {
            // One byte more than there is room for, then as many as there is, and then there is none.
            write(&"y".repeat(AREA_LEN - OUTPUT_HEADER_LEN + 1));
            write(&fits);
            for text in ["seven b", "six by", "no", ""] {
                write(text);
            }
            process::abort();
        };
        // SAFETY: as above.
        unsafe { rt::serve(Mailbox::open(&path).info_page(ABI_MINOR), init) };
    }
    let (output, mailbox) = run_with_mailbox(TEST);
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(stdout.ends_with(&format!("{}seven bno", "y".repeat(AREA_LEN - OUTPUT_HEADER_LEN + 1))), "{stdout}");
    let header = |length| OutputHeader { stream: OutputStream::Stdout as u16, length }.to_bytes();
    let records = [&header(fits.len() as u16)[..], fits.as_bytes(), &header(6), b"six by"].concat();
    assert_eq!(waiting(&mailbox), records.len() as u32);
    assert_eq!(records.len(), AREA_LEN);
    assert!(mailbox[OUTPUT..] == records);
}

#[test]
fn text_goes_to_the_system_where_the_host_does_not_look_for_it() {
    const TEST: &str = "text_goes_to_the_system_where_the_host_does_not_look_for_it";
    if let Some(path) = env::var_os(MAILBOX) {
        let init = || {
            print_in_three_ways();
            process::abort();
        };
        // SAFETY: as above.
        unsafe { rt::serve(Mailbox::open(&path).info_page(InfoPage::OUTPUT_MINOR - 1), init) };
    }
    let (output, mailbox) = run_with_mailbox(TEST);
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(stdout.ends_with("by println\nby write\n"), "{stdout}");
    assert_eq!(waiting(&mailbox), 0);
    assert!(mailbox[OUTPUT..].iter().all(|byte| *byte == 0));
}

#[test]
fn text_that_waits_is_there_when_the_guest_has_ended() {
    const TEST: &str = "text_that_waits_is_there_when_the_guest_has_ended";
    if let Some(path) = env::var_os(MAILBOX) {
        let init = || {
            print_in_three_ways();
            process::abort();
        };
        // SAFETY: as above.
        unsafe { rt::serve(Mailbox::open(&path).info_page(ABI_MINOR), init) };
    }
    let (output, mailbox) = run_with_mailbox(TEST);
    for text in [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8")) {
        assert!(!text.contains("by "), "{text}");
    }
    let record = |stream, text: &str| {
        let header = OutputHeader { stream: stream as u16, length: text.len() as u16 };
        [&header.to_bytes()[..], text.as_bytes()].concat()
    };
    let records = [
        record(OutputStream::Stdout, "by println\n"),
        record(OutputStream::Stderr, "by eprintln\n"),
        record(OutputStream::Stdout, "by write\n"),
    ];
    assert_eq!(mailbox[OUTPUT..][..waiting(&mailbox) as usize], records.concat());
}

#[cfg(feature = "log")]
#[test]
fn records_that_find_no_room_are_counted_and_the_next_one_says_so() {
    const TEST: &str = "records_that_find_no_room_are_counted_and_the_next_one_says_so";
    const RECORDS: u64 = 100;
    if let Some(path) = env::var_os(MAILBOX) {
        let init = || {
            ampoule_guest::init_logging();
            log::debug!("not asked for");
            // The host, which is the test, takes nothing in between.
            for number in 0..RECORDS {
                log::info!("record {number}");
            }
            let placed = CURRENT.get().expect("a mailbox").take_output();
            log::info!("{placed}");
            log::info!("the last");
            process::abort();
        };
        // SAFETY: as above. What is logged for a host that knows no spans is a record of its own.
        unsafe { rt::serve(Mailbox::open(&path).info_page(InfoPage::SPAN_MINOR - 1), init) };
    }
    let (_, mailbox) = run_with_mailbox(TEST);
    let records = records(&mailbox[OUTPUT..][..waiting(&mailbox) as usize]);
    let [first, last] = &records[..] else { panic!("{records:?}") };
    assert_eq!((first.level, first.target, last.message), (LogLevel::Info as u32, "process", "the last"));
    assert!(first.module == "process" && first.file.ends_with("tests/process.rs") && first.line > 0, "{first:?}");
    let placed: u64 = first.message.parse().expect("a number");
    assert!(placed > 0 && first.lost > 0);
    assert_eq!((placed + first.lost, last.lost), (RECORDS, 0));
}

#[cfg(feature = "log")]
#[test]
fn no_record_is_made_for_a_host_that_knows_none() {
    const TEST: &str = "no_record_is_made_for_a_host_that_knows_none";
    if let Some(path) = env::var_os(MAILBOX) {
        let init = || {
            ampoule_guest::init_logging();
            log::error!("for nobody");
            process::abort();
        };
        // SAFETY: as above.
        unsafe { rt::serve(Mailbox::open(&path).info_page(InfoPage::LOG_MINOR - 1), init) };
    }
    assert_eq!(waiting(&run_with_mailbox(TEST).1), 0);
}

#[cfg(feature = "tracing")]
#[test]
fn what_becomes_of_spans_is_in_the_area_in_order_with_times() {
    const TEST: &str = "what_becomes_of_spans_is_in_the_area_in_order_with_times";
    if let Some(path) = env::var_os(MAILBOX) {
        let init = || {
            ampoule_guest::init_logging();
            tracing::debug_span!("not asked for").in_scope(|| ());
            let outer = tracing::info_span!("outer", answer = 42, later = tracing::field::Empty, message = "text");
            outer.in_scope(|| tracing::info!("within"));
            outer.record("later", true);
            let inner = tracing::info_span!(parent: &outer, "inner");
            drop(outer);
            tracing::info!(parent: &inner, "about it");
            tracing::info_span!(parent: None, "outside").in_scope(|| ());
            drop(inner);
            process::abort();
        };
        // SAFETY: as above.
        unsafe { rt::serve(Mailbox::open(&path).info_page(ABI_MINOR), init) };
    }
    let (_, mailbox) = run_with_mailbox(TEST);
    let records: Vec<SpanRecord<'_>> = of_kind(OutputKind::Span, &mailbox[OUTPUT..][..waiting(&mailbox) as usize]);
    assert!(records.is_sorted_by_key(|record| record.time) && records[0].time > 0);
    let shown: Vec<String> = records.iter().map(|record| shown(&record.step)).collect();
    let expected = [
        "open 1 outer in Current: answer=Some(Signed(42)) later=None message=Some(Formatted(\"text\"))",
        "enter 1",
        "log in Current: within",
        "exit 1",
        "record 1: later=Bool(true)",
        "open 2 inner in Span(1):",
        "log in Span(2): about it",
        "open 3 outside in Outside:",
        "enter 3",
        "exit 3",
        "close 3",
        "close 2",
        // Which the inner one has kept.
        "close 1",
    ];
    assert_eq!(shown, expected);
    let SpanStep::Open(outer) = &records[0].step else { panic!("{records:?}") };
    assert_eq!((outer.level, outer.target, outer.module), (LogLevel::Info as u32, "process", "process"));
    assert!(outer.file.ends_with("tests/process.rs") && outer.line > 0 && outer.lost == 0, "{outer:?}");
}

#[cfg(feature = "tracing")]
#[test]
fn steps_of_a_span_that_found_no_room_are_not_reported_and_the_next_record_says_that_it_was_lost() {
    const TEST: &str = "steps_of_a_span_that_found_no_room_are_not_reported_and_the_next_record_says_that_it_was_lost";
    if let Some(path) = env::var_os(MAILBOX) {
        let init = || {
            ampoule_guest::init_logging();
            let mailbox = CURRENT.get().expect("a mailbox");
            // The host, which is the test, takes nothing in between.
            while mailbox.waiting() < AREA_LEN as u32 - 30 {
                println!();
            }
            let lost = tracing::info_span!("lost");
            mailbox.empty();
            lost.in_scope(|| tracing::info_span!("in it").in_scope(|| ()));
            tracing::info_span!(parent: &lost, "about it");
            drop(lost);
            process::abort();
        };
        // SAFETY: as above.
        unsafe { rt::serve(Mailbox::open(&path).info_page(ABI_MINOR), init) };
    }
    let (_, mailbox) = run_with_mailbox(TEST);
    let records: Vec<SpanRecord<'_>> = of_kind(OutputKind::Span, &mailbox[OUTPUT..][..waiting(&mailbox) as usize]);
    let shown: Vec<String> = records.iter().map(|record| shown(&record.step)).collect();
    let expected =
        ["open 2 in it in Current: (1 lost)", "enter 2", "exit 2", "close 2", "open 3 about it in Outside:", "close 3"];
    assert_eq!(shown, expected);
}

#[cfg(feature = "tracing")]
#[test]
fn a_host_that_knows_no_spans_has_their_names_at_what_is_logged_in_them() {
    const TEST: &str = "a_host_that_knows_no_spans_has_their_names_at_what_is_logged_in_them";
    if let Some(path) = env::var_os(MAILBOX) {
        let init = || {
            ampoule_guest::init_logging();
            let _outer = tracing::info_span!("outer").entered();
            tracing::info_span!("inner").in_scope(|| tracing::info!("within"));
            process::abort();
        };
        // SAFETY: as above.
        unsafe { rt::serve(Mailbox::open(&path).info_page(InfoPage::SPAN_MINOR - 1), init) };
    }
    let (_, mailbox) = run_with_mailbox(TEST);
    let records = records(&mailbox[OUTPUT..][..waiting(&mailbox) as usize]);
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((record.message, &record.spans[..], record.lost), ("within", &["outer", "inner"][..], 0));
}

/// A step on one line.
#[cfg(feature = "tracing")]
fn shown(step: &SpanStep<'_>) -> String {
    match step {
        SpanStep::Open(opened) => {
            let fields: String =
                opened.fields.iter().map(|field| format!(" {}={:?}", field.name, field.value)).collect();
            let lost = if opened.lost > 0 { format!(" ({} lost)", opened.lost) } else { String::new() };
            format!("open {} {} in {:?}:{fields}{lost}", opened.span, opened.name, opened.parent)
        }
        SpanStep::Enter(span) => format!("enter {span}"),
        SpanStep::Exit(span) => format!("exit {span}"),
        SpanStep::Record { span, fields } => {
            let fields: String = fields.iter().map(|field| format!(" {}={:?}", field.name, field.value)).collect();
            format!("record {span}:{fields}")
        }
        SpanStep::Close(span) => format!("close {span}"),
        SpanStep::Log { parent, record } => format!("log in {parent:?}: {}", record.message),
    }
}

/// The log records in an output area that holds no other.
fn records(area: &[u8]) -> Vec<LogRecord<'_>> {
    of_kind(OutputKind::Log, area)
}

/// The records in an output area that holds only those of this kind.
fn of_kind<'area, R: serde::Deserialize<'area>>(kind: OutputKind, mut area: &'area [u8]) -> Vec<R> {
    let mut records = Vec::new();
    while let Some((header, rest)) = area.split_first_chunk::<OUTPUT_HEADER_LEN>() {
        let OutputHeader { stream, length } = OutputHeader::from_bytes(*header);
        assert_eq!(stream, kind.number());
        let (content, rest) = rest.split_at(length.into());
        records.push(codec::decode(content).expect("a record"));
        area = rest;
    }
    records
}

fn print_in_three_ways() {
    println!("by println");
    eprintln!("by eprintln");
    write("by write\n");
}

/// Writes to standard output by the C library's function.
fn write(text: &str) {
    // SAFETY: reads the text, at most its length.
    assert_eq!(unsafe { libc::write(1, text.as_ptr().cast(), text.len()) }, text.len() as isize);
}

/// How many bytes of the output area hold records.
fn waiting(mailbox: &[u8]) -> u32 {
    u32::from_le_bytes(*mailbox[GUEST_LINE + PRINTED_OFFSET..].first_chunk().expect("the number"))
}

/// Runs a test of this file again as a guest that aborts, and reads the panic that it left.
fn left_by(test: &str) -> PanicRecord<String> {
    let mailbox = run_with_mailbox(test).1;
    let line = MessageLine::from_bytes(mailbox[GUEST_LINE..].first_chunk::<MESSAGE_LEN>().expect("a message"));
    assert_eq!(line.kind, GuestMessageKind::Panic as u32);
    assert_eq!((line.sequence, line.function, line.status), (0, 0, 0));
    codec::decode(&mailbox[OUTBOUND..][..line.length as usize]).expect("a panic record")
}

/// Runs a test of this file again as a guest that aborts: its output, and the mailbox that it leaves.
fn run_with_mailbox(test: &str) -> (Output, Vec<u8>) {
    let path = env::temp_dir().join(format!("ampoule-{}-{test}", process::id()));
    fs::write(&path, [0; MAILBOX_LEN]).expect("a file for the mailbox");
    let output = run_again(test, path.to_str().expect("a path in UTF-8"));
    let mailbox = fs::read(&path).expect("the mailbox");
    fs::remove_file(&path).expect("the mailbox is removed");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    (output, mailbox)
}

fn run_again(test: &str, mailbox: &str) -> Output {
    let program = env::current_exe().expect("the test's program");
    Command::new(program).args([test, "--exact", "--nocapture"]).env(MAILBOX, mailbox).output().expect("a process")
}

/// A mailbox in a file.
#[derive(Clone, Copy)]
struct Mailbox {
    start: *mut u8,
}

impl Mailbox {
    fn open(path: impl AsRef<std::path::Path>) -> Self {
        let file = File::options().read(true).write(true).open(path).expect("the mailbox");
        // SAFETY: a new mapping, wherever there is room.
        let start = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(ptr::null_mut(), MAILBOX_LEN, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        let mailbox = Self { start: start.cast() };
        CURRENT.set(Some(mailbox));
        mailbox
    }

    /// Takes the log records that wait, as a host does: how many there are.
    fn take_output(self) -> usize {
        // SAFETY: the file has this many bytes, and only this thread writes there, which waits for the function.
        let mailbox = unsafe { std::slice::from_raw_parts(self.start, MAILBOX_LEN) };
        let taken = records(&mailbox[OUTPUT..][..waiting(mailbox) as usize]).len();
        self.empty();
        taken
    }

    /// Takes whatever waits.
    fn empty(self) {
        // SAFETY: the number lies in the mapping, and nothing refers to it.
        unsafe { self.start.add(GUEST_LINE + PRINTED_OFFSET).cast::<u32>().write(0) };
    }

    /// How many bytes wait.
    #[cfg(feature = "tracing")]
    fn waiting(self) -> u32 {
        // SAFETY: the number lies in the mapping, and only this thread writes there.
        unsafe { self.start.add(GUEST_LINE + PRINTED_OFFSET).cast::<u32>().read() }
    }

    /// The info page of a host of this minor version.
    fn info_page(self, abi_minor: u32) -> &'static InfoPage {
        let start = self.start.expose_provenance() as u64;
        Box::leak(Box::new(InfoPage {
            magic: INFO_MAGIC,
            abi_major: ABI_MAJOR,
            abi_minor,
            entry: (ring as extern "C" fn() as *const ()).expose_provenance() as u64,
            host_line: start,
            guest_line: start + GUEST_LINE as u64,
            inbound: start + INBOUND as u64,
            inbound_len: AREA_LEN as u64,
            outbound: start + OUTBOUND as u64,
            outbound_len: AREA_LEN as u64,
            generation: 1,
            output: start + OUTPUT as u64,
            output_len: AREA_LEN as u64,
            log_level: LogLevel::Info as u64,
            asked: 0,
        }))
    }
}

/// A doorbell whose answer is always a call of `panic_twice`.
extern "C" fn ring() {
    let call = MessageLine {
        sequence: 1,
        kind: HostMessageKind::Call as u32,
        function: panic_twice_number(),
        ..MessageLine::default()
    };
    let mailbox = CURRENT.get().expect("the guest has a mailbox");
    // SAFETY: the guest waits in the doorbell, so the line is the host's.
    unsafe { mailbox.start.cast::<MessageLine>().write_volatile(call) }
}

/// The number of this program's only export.
fn panic_twice_number() -> u32 {
    unsafe extern "C" {
        #[link_name = "__start_ampoule_fns"]
        static START: Cell<u8>;
    }
    let mut offset = 0;
    loop {
        // SAFETY: the section has an export, where the loop ends, and records up to it.
        let bytes = unsafe { (&raw const START).cast::<[u8; RECORD_HEADER_LEN]>().byte_add(offset).read() };
        let header = RecordHeader::from_bytes(&bytes);
        if header.kind == RecordKind::Export as u16 {
            return offset as u32;
        }
        offset += header.size as usize;
    }
}

/// The path of the mailbox, for a process that is a guest.
const MAILBOX: &str = "AMPOULE_TEST_MAILBOX";

const GUEST_LINE: usize = MESSAGE_LINE_LEN;
const INBOUND: usize = 4096;
const OUTBOUND: usize = 8192;
const OUTPUT: usize = 12288;
const AREA_LEN: usize = 4096;
const MAILBOX_LEN: usize = 16384;

thread_local! {
    static CURRENT: Cell<Option<Mailbox>> = const { Cell::new(None) };
}
