//! Records that no well-behaved guest makes.

use ampoule_abi::codec;
use ampoule_abi::layout::{LogField, LogRecord, LogValue, OUTPUT_HEADER_LEN, OutputHeader, OutputKind, PRINTED_OFFSET};
use ampoule_guest::export;

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
    leave(&content);
}

/// Leaves a malformed record, and reads the null page.
#[export]
fn forge_and_fault() {
    leave(&[]);
    let null = std::hint::black_box(ptr::null::<u8>());
    // SAFETY: none. The read is meant to fault.
    unsafe { ptr::read_volatile(null) };
}

fn encoded(record: &LogRecord<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(record, &mut bytes).expect("a record has an encoding");
    bytes
}

/// Puts one record at the start of the output area.
fn leave(content: &[u8]) {
    // SAFETY: reads the auxiliary vector, and the info page whose address is in it: `output` and `guest_line`, at offsets of
    // the ABI.
    let (output, line) = unsafe {
        let page = ptr::with_exposed_provenance::<u64>(libc::getauxval(ampoule_abi::layout::AT_AMPOULE) as usize);
        (page.add(10).read(), page.add(4).read())
    };
    let header = OutputHeader { stream: OutputKind::Log.number(), length: content.len() as u16 };
    let record = [&header.to_bytes()[..], content].concat();
    assert_eq!(record.len(), OUTPUT_HEADER_LEN + content.len());
    // SAFETY: the area is the guest's, is larger than these records, and holds no other; so is the number in its line.
    unsafe {
        ptr::copy_nonoverlapping(record.as_ptr(), ptr::with_exposed_provenance_mut(output as usize), record.len());
        ptr::with_exposed_provenance_mut::<u32>(line as usize + PRINTED_OFFSET).write_volatile(record.len() as u32);
    }
}
