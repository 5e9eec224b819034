use std::sync::Arc;

use ampoule_abi::codec::encode;
use ampoule_abi::layout::{AllocationHeader, AllocationKind, LogField, LogValue, OpenedSpan, SpanField, SpanParent};
use ampoule_vmm::HostOnly;
use proptest::prelude::*;

use super::*;

type Taken = Vec<Result<(OutputStream, Vec<u8>), ProtocolViolation>>;

/// A log record's level, message, and size.
type Logged = (LogLevel, String, usize);

/// What the host takes from a guest that has put these bytes into its area and claims this many.
fn taken(area: &[u8], claimed: u32) -> Result<Taken, ProtocolViolation> {
    let (region, layout, number) = mailbox();
    region.write(layout.output().start, area).unwrap();
    region.write(number, &claimed.to_le_bytes()).unwrap();
    let mut copy = Vec::new();
    let taken = take(&region, &layout, &mut copy).map(|printed| printed.map(|record| record.map(text)).collect());
    assert_eq!(region.read_u64(number).unwrap(), 0, "the guest is told that its text is taken");
    taken
}

fn text(record: OutputRecord<'_>) -> (OutputStream, Vec<u8>) {
    match record {
        OutputRecord::Text(stream, text) => (stream, text.to_vec()),
        OutputRecord::Log(..) | OutputRecord::Span(..) | OutputRecord::Allocation(_) => panic!("no text: {record:?}"),
    }
}

/// The log records of a guest that has put these bytes into its area.
fn logged(area: &[u8]) -> Vec<Result<Logged, ProtocolViolation>> {
    shown(area, |record| match record {
        OutputRecord::Log(level, record, len) => (level, record.message.to_owned(), len),
        record => panic!("no log record: {record:?}"),
    })
}

/// What is shown of the records of a guest that has put these bytes into its area.
fn shown<R>(area: &[u8], show: impl FnMut(OutputRecord<'_>) -> R) -> Vec<Result<R, ProtocolViolation>> {
    let (region, layout, number) = mailbox();
    region.write(layout.output().start, area).unwrap();
    region.write(number, &(area.len() as u32).to_le_bytes()).unwrap();
    let (mut copy, mut show) = (Vec::new(), show);
    take(&region, &layout, &mut copy).unwrap().map(|record| record.map(&mut show)).collect()
}

/// A span record as it stands in the area.
fn span_record(step: SpanStep<'_>) -> Vec<u8> {
    let mut content = Vec::new();
    encode(&SpanRecord { time: 7, step }, &mut content).unwrap();
    record(OutputKind::Span.number(), content.len() as u16, &content)
}

/// A log record as it stands in the area.
fn log_record(log: &LogRecord<'_>) -> Vec<u8> {
    let mut content = Vec::new();
    encode(log, &mut content).unwrap();
    record(OutputKind::Log.number(), content.len() as u16, &content)
}

fn info(message: &str) -> LogRecord<'_> {
    LogRecord { level: LogLevel::Info as u32, message, ..LogRecord::default() }
}

/// A mailbox's region and layout, and where the guest says how many bytes wait.
fn mailbox() -> (Arc<TrackedRegion>, Layout, usize) {
    let layout = Layout::new(4096);
    (TrackedRegion::anonymous(layout.len(), HostOnly::default()).unwrap(), layout, layout.guest_line() + PRINTED_OFFSET)
}

fn record(stream: u16, length: u16, text: &[u8]) -> Vec<u8> {
    [&OutputHeader { stream, length }.to_bytes()[..], text].concat()
}

fn whole(stream: OutputStream, text: &[u8]) -> Vec<u8> {
    record(stream as u16, text.len() as u16, text)
}

#[test]
fn records_come_in_order_and_only_as_far_as_the_guest_says() {
    let area =
        [whole(OutputStream::Stdout, b"one"), whole(OutputStream::Stderr, b""), whole(OutputStream::Stderr, b"two")]
            .concat();
    let records = [
        (OutputStream::Stdout, b"one".to_vec()),
        (OutputStream::Stderr, vec![]),
        (OutputStream::Stderr, b"two".into()),
    ];
    for (claimed, expected) in [(0, 0), (7, 1), (11, 2), (18, 3)] {
        assert_eq!(taken(&area, claimed).unwrap(), records[..expected].iter().cloned().map(Ok).collect::<Vec<_>>());
    }
}

#[test]
fn a_record_that_does_not_end_where_the_text_ends_is_refused() {
    let first = whole(OutputStream::Stdout, b"first");
    for (rest, needed) in [
        (vec![1], 4),
        (vec![1, 0, 0], 4),
        (record(1, 1, b""), 5),
        (record(2, 6, b"short"), 10),
        (record(1, u16::MAX, b"short"), 4 + 65_535),
    ] {
        let area = [&first[..], &rest].concat();
        let violation = ProtocolViolation::OutputRecord { offset: 9, needed, left: rest.len() };
        let expected = vec![Ok((OutputStream::Stdout, b"first".to_vec())), Err(violation)];
        assert_eq!(taken(&area, area.len() as u32).unwrap(), expected);
    }
}

#[test]
fn text_for_no_known_stream_is_refused_and_nothing_comes_after_it() {
    for stream in [0, 6, 0x100, 0x101, u16::MAX] {
        let area = [record(stream, 1, b"x"), whole(OutputStream::Stdout, b"after")].concat();
        let expected = vec![Err(ProtocolViolation::UnknownStream { stream })];
        assert_eq!(taken(&area, area.len() as u32).unwrap(), expected);
    }
}

#[test]
fn log_records_come_in_order_with_their_size() {
    let area = [log_record(&info("one")), log_record(&info("")), log_record(&info("two"))].concat();
    let expected = [("one", 43), ("", 40), ("two", 43)];
    let expected: Vec<_> = expected.map(|(message, len)| Ok((LogLevel::Info, message.to_owned(), len))).into();
    assert_eq!(logged(&area), expected);
}

#[test]
fn a_log_record_that_cannot_be_understood_is_refused_and_nothing_comes_after_it() {
    let field = LogField { name: "a", value: LogValue::Bool(true) };
    let sound = log_record(&info("sound"));
    let with_content = |content: &[u8]| record(OutputKind::Log.number(), content.len() as u16, content);
    let most =
        LogRecord { fields: vec![field.clone(); MAX_LOG_FIELDS], spans: vec!["b"; MAX_LOG_SPANS], ..info("most") };
    assert_eq!(logged(&log_record(&most)).len(), 1);
    let mut no_utf_8 = sound.clone();
    *no_utf_8.last_chunk_mut().unwrap() = [0xff; 24];
    for malformed in [
        with_content(b""),
        with_content(&sound[4..30]),
        with_content(&[&sound[4..], &[0][..]].concat()),
        with_content(&[3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'x']),
        no_utf_8,
        log_record(&LogRecord { level: 0, ..info("") }),
        log_record(&LogRecord { level: 6, ..info("") }),
        log_record(&LogRecord { fields: vec![field; MAX_LOG_FIELDS + 1], ..info("") }),
        log_record(&LogRecord { spans: vec!["b"; MAX_LOG_SPANS + 1], ..info("") }),
    ] {
        let area = [&sound[..], &malformed, &sound].concat();
        let expected = vec![
            Ok((LogLevel::Info, "sound".to_owned(), 45)),
            Err(ProtocolViolation::LogRecord { offset: sound.len() }),
        ];
        assert_eq!(logged(&area), expected, "{malformed:?}");
    }
}

/// An allocation record of a block of this size, with these callers.
fn allocation(size: u64, callers: &[u64]) -> Vec<u8> {
    let header = AllocationHeader { kind: AllocationKind::Allocated as u32, flags: 0, address: 0x1000, size };
    let callers: Vec<u8> = callers.iter().flat_map(|caller| caller.to_le_bytes()).collect();
    let content = [&header.to_bytes()[..], &callers].concat();
    record(OutputKind::Allocation.number(), content.len() as u16, &content)
}

#[test]
fn allocation_records_come_in_order_up_to_one_that_cannot_be_understood() {
    let malformed = record(OutputKind::Allocation.number(), 3, b"abc");
    let area = [allocation(24, &[7, 8]), allocation(u64::MAX, &[]), malformed, allocation(1, &[])].concat();
    let (region, layout, number) = mailbox();
    region.write(layout.output().start, &area).unwrap();
    region.write(number, &(area.len() as u32).to_le_bytes()).unwrap();
    let mut copy = Vec::new();
    let taken = take(&region, &layout, &mut copy).unwrap().map(|record| match record {
        Ok(OutputRecord::Allocation(AllocationRecord::Allocated { size, callers, .. })) => {
            Ok((size, callers.addresses().collect::<Vec<_>>()))
        }
        Ok(other) => panic!("no allocation: {other:?}"),
        Err(violation) => Err(violation),
    });
    let offset = 2 * (OUTPUT_HEADER_LEN + 24) + 16;
    let expected = [Ok((24, vec![7, 8])), Ok((u64::MAX, vec![])), Err(ProtocolViolation::AllocationRecord { offset })];
    assert_eq!(taken.collect::<Vec<_>>(), expected);
}

#[test]
fn a_span_record_that_cannot_be_understood_is_refused_and_nothing_comes_after_it() {
    let opened = |level, fields| OpenedSpan {
        span: 1,
        parent: SpanParent::Current,
        level,
        name: "span",
        target: "",
        module: "",
        file: "",
        line: 0,
        fields: vec![SpanField { name: "a", value: None }; fields],
        lost: 0,
    };
    let values = |fields| vec![LogField { name: "a", value: LogValue::Bool(true) }; fields];
    let recorded = |fields| SpanStep::Record { span: 1, fields: values(fields) };
    let logged = |record| SpanStep::Log { parent: SpanParent::Outside, record };
    let level = |area: &[u8]| {
        shown(area, |record| match record {
            OutputRecord::Span(level, record, _) => (level, record.time),
            record => panic!("no span record: {record:?}"),
        })
    };
    for (sound, expected) in [
        (SpanStep::Open(opened(5, MAX_LOG_FIELDS)), Some(LogLevel::Trace)),
        (SpanStep::Enter(1), None),
        (SpanStep::Exit(1), None),
        (recorded(MAX_LOG_FIELDS), None),
        (SpanStep::Close(1), None),
        (logged(info("")), Some(LogLevel::Info)),
    ] {
        assert_eq!(level(&span_record(sound)), [Ok((expected, 7))]);
    }
    let sound = span_record(SpanStep::Enter(1));
    let with_content = |content: &[u8]| record(OutputKind::Span.number(), content.len() as u16, content);
    let mut unknown_step = sound.clone();
    unknown_step[OUTPUT_HEADER_LEN + 8] = 6;
    for malformed in [
        with_content(b""),
        with_content(&sound[OUTPUT_HEADER_LEN..sound.len() - 1]),
        with_content(&[&sound[OUTPUT_HEADER_LEN..], &[0][..]].concat()),
        unknown_step,
        span_record(SpanStep::Open(opened(0, 0))),
        span_record(SpanStep::Open(opened(6, 0))),
        span_record(SpanStep::Open(opened(3, MAX_LOG_FIELDS + 1))),
        span_record(recorded(MAX_LOG_FIELDS + 1)),
        span_record(logged(LogRecord { level: 0, ..info("") })),
        span_record(logged(LogRecord { fields: values(MAX_LOG_FIELDS + 1), ..info("") })),
        span_record(logged(LogRecord { spans: vec!["b"; MAX_LOG_SPANS + 1], ..info("") })),
    ] {
        let area = [&sound[..], &malformed, &sound].concat();
        let expected = vec![Ok((None, 7)), Err(ProtocolViolation::SpanRecord { offset: sound.len() })];
        assert_eq!(level(&area), expected, "{malformed:?}");
    }
}

#[test]
fn a_claim_beyond_the_area_is_refused() {
    let all = whole(OutputStream::Stdout, &vec![b'x'; Layout::OUTPUT_LEN - OUTPUT_HEADER_LEN]);
    assert_eq!(taken(&all, Layout::OUTPUT_LEN as u32).unwrap().len(), 1);
    for length in [Layout::OUTPUT_LEN as u32 + 1, 1 << 16, u32::MAX] {
        let violation = ProtocolViolation::OutputLength { length, capacity: Layout::OUTPUT_LEN };
        assert_eq!(taken(&all, length).unwrap_err(), violation);
    }
}

#[test]
fn what_was_taken_is_not_taken_again() {
    let (region, layout, number) = mailbox();
    let text = whole(OutputStream::Stdout, b"once");
    region.write(layout.output().start, &text).unwrap();
    region.write(number, &(text.len() as u32).to_le_bytes()).unwrap();
    let mut copy = Vec::new();
    assert_eq!(take(&region, &layout, &mut copy).unwrap().count(), 1);
    assert_eq!(take(&region, &layout, &mut copy).unwrap().count(), 0);
}

proptest! {
    /// Any bytes are parsed without a panic, in order and without a gap, up to the first malformed record.
    #[test]
    fn any_bytes_are_records_up_to_the_first_violation(
        area in prop::collection::vec(prop_oneof![3 => 0u8..3, 1 => any::<u8>().prop_filter("text", |byte| !(3..=5).contains(byte))], 0..600),
        beyond in 0u32..3,
    ) {
        let records = taken(&area, area.len() as u32).unwrap();
        let mut at = 0;
        for (index, record) in records.iter().enumerate() {
            match record {
                Ok((stream, text)) => {
                    let expected = whole(*stream, text);
                    prop_assert_eq!(&area[at..at + expected.len()], &expected[..]);
                    at += expected.len();
                }
                Err(_) => prop_assert_eq!(index, records.len() - 1),
            }
        }
        prop_assert!(at == area.len() || records.last().is_some_and(Result::is_err));
        let claimed = Layout::OUTPUT_LEN as u32 + 1 + beyond;
        prop_assert!(taken(&area, claimed).is_err());
    }
}
