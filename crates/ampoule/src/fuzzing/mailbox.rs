//! A guest that writes anything into its part of the mailbox, and a host that goes through all it may do.

use ampoule_abi::codec::Source;
use ampoule_abi::layout::{
    ALLOCATION_HEADER_LEN, FailureStatus, MAX_LOG_FIELDS, MAX_LOG_SPANS, MESSAGE_LEN, PRINTED_OFFSET, PanicRecord,
    SpanStep,
};
use ampoule_abi::schema::{DataType, Schema};
use ampoule_vmm::TrackedRegion;
use ampoule_vmm::address_map::MEMORY_BASE;

use crate::conversation::{GuestMessage, Mailbox, OutputRecord, PayloadSource, WantedRecords};
use crate::fault::GuestPanic;
use crate::guest_memory::GuestMemory;
use crate::profile::Allocations;

use super::take;

/// Performs the steps that the bytes describe, of guest and host in any order, and checks what the host takes.
///
/// # Panics
/// Where the host takes what it must not.
pub fn mailbox(steps: &[u8]) {
    let shared = Mailbox::shared_memory(CAPACITY);
    let region = TrackedRegion::anonymous(shared.len, shared.host_only).expect("there is memory");
    let mut mailbox = Mailbox::new(region.clone(), CAPACITY);
    let mut memory = GuestMemory::new(region.clone(), MEMORY_BASE, region.pages());
    let [_, guests] = shared.areas;
    let line = guests.offset;
    let begun = mailbox.progress();
    let mut allocations = Allocations::new();

    let mut rest = steps;
    while let Some((&step, more)) = rest.split_first() {
        rest = more;
        match step % 16 {
            0..=2 => region.write(line, take(&mut rest, MESSAGE_LEN)).expect("it is the guest's line"),
            3 => region.write(line + PRINTED_OFFSET, take(&mut rest, 4)).expect("it is the guest's line"),
            4 => {
                let bytes = take(&mut rest, 64);
                region.write(guests.offset + guests.len - OUTPUT_LEN, bytes).expect("it is the output area");
            }
            5 => region.write(line + 64, take(&mut rest, 64)).expect("it is the outbound area"),
            6 => mailbox.send_call(step.into(), 0, 0, WantedRecords::default()),
            7 => mailbox.send_reply(0),
            8 => mailbox.send_failure(FailureStatus::Failed, 0, &String::from_utf8_lossy(take(&mut rest, 200))),
            9..=11 => receive(&mut mailbox),
            12 => print(&mut mailbox, &mut allocations),
            13 => drop(mailbox.staged_panic().map(panic)),
            14 => drop(mailbox.wipe(&mut memory)),
            _ => {
                region.wipe_host_only();
                mailbox.restore(begun);
            }
        }
    }
}

fn receive(mailbox: &mut Mailbox) {
    match mailbox.receive() {
        Ok(GuestMessage::Return { length, needed, .. } | GuestMessage::HostCall { length, needed, .. }) => {
            assert!(length <= CAPACITY);
            if let Ok(behind) = mailbox.behind_payload(length, needed) {
                let _ = behind.whole::<Vec<Vec<DataType>>>();
            }
            let _ = mailbox.payload(length).whole::<(String, Vec<Vec<u8>>)>();
            let _ = mailbox.payload(length).whole::<String>();
        }
        Ok(GuestMessage::Ready { length, .. }) => {
            assert!(length <= CAPACITY);
            if let Ok(schema) = mailbox.payload(length).whole::<Schema>() {
                let _ = schema.check();
            }
        }
        Ok(GuestMessage::ReadStream { most, .. }) => assert!(most <= CAPACITY),
        Ok(GuestMessage::WriteStream { length, .. }) => {
            assert!(length <= CAPACITY);
            mailbox.payload(length).read(0, &mut vec![0; length]);
        }
        Err(violation) => assert!(!violation.to_string().is_empty()),
    }
}

fn panic(record: PayloadSource<'_>) -> Option<String> {
    let record = record.whole::<PanicRecord<String>>().ok()?;
    Some(GuestPanic::from(record).to_string())
}

fn print(mailbox: &mut Mailbox, allocations: &mut Allocations) {
    let Ok(printed) = mailbox.take_printed() else { return };
    let mut bytes = 0;
    let mut failed = false;
    for record in printed {
        assert!(!failed, "nothing comes after a record that is malformed");
        match record {
            Ok(OutputRecord::Text(_, text)) => bytes += text.len(),
            Ok(OutputRecord::Log(_, record, len)) => {
                assert!(record.fields.len() <= MAX_LOG_FIELDS && record.spans.len() <= MAX_LOG_SPANS);
                bytes += len;
            }
            Ok(OutputRecord::Span(level, record, len)) => {
                match record.step {
                    SpanStep::Open(opened) => assert!(level.is_some() && opened.fields.len() <= MAX_LOG_FIELDS),
                    SpanStep::Record { fields, .. } => assert!(fields.len() <= MAX_LOG_FIELDS),
                    SpanStep::Log { record, .. } => {
                        assert!(level.is_some());
                        assert!(record.fields.len() <= MAX_LOG_FIELDS && record.spans.len() <= MAX_LOG_SPANS);
                    }
                    SpanStep::Enter(_) | SpanStep::Exit(_) | SpanStep::Close(_) => {}
                }
                bytes += len;
            }
            Ok(OutputRecord::Allocation(record)) => {
                bytes += ALLOCATION_HEADER_LEN;
                allocations.note(&record);
            }
            Err(_) => failed = true,
        }
    }
    assert!(bytes <= OUTPUT_LEN);
    assert_eq!(mailbox.take_printed().map(Iterator::count), Ok(0), "what is taken is gone");
}

/// Bytes of each payload area: few, so that the mailbox is small.
const CAPACITY: usize = 512;

/// Bytes of the output area, which ends the mailbox.
const OUTPUT_LEN: usize = 4 * 4096;
