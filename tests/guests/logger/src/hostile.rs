//! Records that no well-behaved guest makes.

use ampoule_abi::codec;
use ampoule_abi::layout::{
    LogField, LogRecord, LogValue, OUTPUT_HEADER_LEN, OpenedSpan, OutputHeader, OutputKind, PRINTED_OFFSET, SpanField,
    SpanParent, SpanRecord, SpanStep,
};
use ampoule_guest::export;
use serde::Serialize;

use std::ptr;

/// Leaves records of this kind in the output area, as many as there is room for.
#[export]
fn forge(kind: &str) {
    let long = "x".repeat(2000);
    let names: Vec<String> = (0..25).map(|number| format!("field_{number}")).collect();
    let fields = |count: usize| {
        names[..count].iter().map(|name| LogField { name, value: LogValue::Bool(true) }).collect::<Vec<_>>()
    };
    let record = LogRecord { level: 3, target: "forged", message: "forged", ..LogRecord::default() };
    let content = match kind {
        "sound" => encoded(&record),
        "level 0" => encoded(&LogRecord { level: 0, ..record }),
        "level 6" => encoded(&LogRecord { level: 6, ..record }),
        "trace" => encoded(&LogRecord { level: 5, ..record }),
        "fields" => encoded(&LogRecord { fields: fields(25), ..record }),
        "most fields" => encoded(&LogRecord { fields: fields(24), ..record }),
        "spans" => encoded(&LogRecord { spans: vec!["span"; 17], ..record }),
        "lost" => encoded(&LogRecord { lost: u64::MAX, ..record }),
        "long target" => encoded(&LogRecord { target: &long, ..record }),
        "control characters" => encoded(&LogRecord {
            target: "evil\n\u{202e}",
            file: "\x1b[2J",
            message: "one\ntwo\x1b",
            fields: vec![
                LogField { name: "name\n", value: LogValue::Text("a\nb") },
                LogField { name: "message", value: LogValue::Formatted("c\x07") },
            ],
            ..record
        }),
        "empty" => vec![],
        "cut" => encoded(&record)[..30].to_vec(),
        "trailing" => [encoded(&record), vec![0]].concat(),
        "no UTF-8" => {
            let mut content = encoded(&record);
            content[8] = 0xff;
            content
        }
        "huge length" => {
            let mut content = encoded(&record);
            content[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
            content
        }
        _ => panic!("no such kind: {kind}"),
    };
    leave(OutputKind::Log, &[content]);
}

/// Leaves steps of spans of this kind in the output area.
#[export]
fn forge_steps(kind: &str) {
    let long = "x".repeat(2000);
    let field = |name| SpanField { name, value: None };
    let span = |span, parent| OpenedSpan {
        span,
        parent,
        level: 3,
        name: "forged",
        target: "forged",
        module: "",
        file: "",
        line: 0,
        fields: vec![field("field")],
        lost: 0,
    };
    let first = || span(1, SpanParent::Current);
    let open = SpanStep::Open;
    let value = |name| LogField { name, value: LogValue::Unsigned(1) };
    let log = |parent, level, message| {
        let record = LogRecord { level, target: "forged", message, ..LogRecord::default() };
        SpanStep::Log { parent, record }
    };
    let steps = match kind {
        "unknown spans" => vec![
            SpanStep::Enter(1),
            SpanStep::Exit(u64::MAX),
            SpanStep::Record { span: 0, fields: vec![value("field")] },
            SpanStep::Close(7),
            log(SpanParent::Span(1), 3, "unknown"),
        ],
        "its own parent" => vec![open(span(1, SpanParent::Span(1)))],
        "twice the same" => vec![open(first()), open(first())],
        "closed around another" => {
            vec![open(first()), open(span(2, SpanParent::Span(1))), SpanStep::Close(1), SpanStep::Enter(1)]
        }
        "closed inside" => vec![open(first()), SpanStep::Enter(1), SpanStep::Enter(1), SpanStep::Close(1)],
        "long names" => vec![open(OpenedSpan { name: &long, target: "evil\n", ..first() })],
        "unknown fields" => {
            let names = ["field", "another", "guest.start_ns", "image"];
            vec![open(first()), SpanStep::Record { span: 1, fields: names.map(value).to_vec() }]
        }
        "any times" => vec![open(first()), SpanStep::Enter(1), log(SpanParent::Current, 3, "any"), SpanStep::Exit(1)],
        "not asked for" => vec![open(OpenedSpan { level: 5, ..first() }), log(SpanParent::Current, 5, "trace")],
        "lost" => vec![open(OpenedSpan { lost: 12, ..first() })],
        "fields" => vec![open(OpenedSpan { fields: vec![field("field"); 25], ..first() })],
        "later fields" => vec![SpanStep::Record { span: 1, fields: vec![value("field"); 25] }],
        "level 0" => vec![open(OpenedSpan { level: 0, ..first() })],
        "level of what is logged" => vec![log(SpanParent::Outside, 6, "")],
        "cut" | "unknown step" => vec![SpanStep::Enter(1)],
        _ => panic!("no such kind: {kind}"),
    };
    let times = [u64::MAX, 0, 1 << 40, u64::MAX / 2].into_iter().cycle();
    let mut contents: Vec<_> = times.zip(steps).map(|(time, step)| encoded(&SpanRecord { time, step })).collect();
    match kind {
        "cut" => contents[0].truncate(15),
        "unknown step" => contents[0][8] = 6,
        _ => {}
    }
    leave(OutputKind::Span, &contents);
}

/// Leaves a malformed record, and reads the null page.
#[export]
fn forge_and_fault() {
    leave(OutputKind::Log, &[vec![]]);
    let null = std::hint::black_box(ptr::null::<u8>());
    // SAFETY: none. The read is meant to fault.
    unsafe { ptr::read_volatile(null) };
}

fn encoded(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(record, &mut bytes).expect("a record has an encoding");
    bytes
}

/// Puts records at the start of the output area.
fn leave(kind: OutputKind, contents: &[Vec<u8>]) {
    // SAFETY: reads the auxiliary vector, and the info page whose address is in it: `output` and `guest_line`, at offsets of
    // the ABI.
    let (output, line) = unsafe {
        let page = ptr::with_exposed_provenance::<u64>(libc::getauxval(ampoule_abi::layout::AT_AMPOULE) as usize);
        (page.add(10).read(), page.add(4).read())
    };
    let mut records = Vec::new();
    for content in contents {
        let header: [u8; OUTPUT_HEADER_LEN] =
            OutputHeader { stream: kind.number(), length: content.len() as u16 }.to_bytes();
        records.extend([&header[..], content].concat());
    }
    // SAFETY: the area is the guest's, is larger than these records, and holds no other; so is the number in its line.
    unsafe {
        ptr::copy_nonoverlapping(records.as_ptr(), ptr::with_exposed_provenance_mut(output as usize), records.len());
        ptr::with_exposed_provenance_mut::<u32>(line as usize + PRINTED_OFFSET).write_volatile(records.len() as u32);
    }
}
