use std::collections::HashSet;
use std::mem::offset_of;

use ampoule_abi::codec::{Decoder, encode};
use ampoule_abi::layout::{FailureStatus, PanicRecord, ReturnStatus};
use ampoule_vmm::vdso::TimePage;

use super::*;

/// Puts a message into the guest's line, as a guest would.
fn guest_says(mailbox: &Mailbox, line: MessageLine) {
    mailbox.region.write(mailbox.layout.guest_line(), &line.to_bytes()).unwrap();
}

fn mailbox(capacity: usize) -> Mailbox {
    let SharedMemory { len, host_only, .. } = Mailbox::shared_memory(capacity);
    Mailbox::new(TrackedRegion::anonymous(len, host_only).unwrap(), capacity)
}

fn kind(kind: GuestMessageKind) -> MessageLine {
    MessageLine { kind: kind as u32, ..MessageLine::default() }
}

fn ready_mailbox() -> Mailbox {
    let mut mailbox = mailbox(4096);
    guest_says(&mailbox, kind(GuestMessageKind::Ready));
    assert_eq!(mailbox.receive(), Ok(GuestMessage::Ready { length: 0, needed: 0 }));
    mailbox
}

#[test]
fn a_return_is_taken_once_and_only_for_the_call_being_made() {
    let mut mailbox = ready_mailbox();
    let answer = MessageLine { sequence: 1, length: 3, ..kind(GuestMessageKind::Return) };
    guest_says(&mailbox, answer);
    assert_eq!(mailbox.receive(), Err(ProtocolViolation::ReturnWithoutCall { sequence: 1 }));

    mailbox.send_call(0, 0, 0, WantedRecords::default());
    guest_says(&mailbox, MessageLine { sequence: 7, ..answer });
    assert_eq!(mailbox.receive(), Err(ProtocolViolation::WrongReturn { sequence: 7, expected: 1 }));

    guest_says(&mailbox, answer);
    let taken = GuestMessage::Return { status: ReturnStatus::Done, length: 3, needed: 0 };
    assert_eq!(mailbox.receive(), Ok(taken));
    assert_eq!(mailbox.receive(), Err(ProtocolViolation::ReturnWithoutCall { sequence: 1 }));
}

#[test]
fn no_two_states_have_one_generation() {
    let mut mailboxes = [mailbox(4096), mailbox(4096)];
    let mut seen = HashSet::from([0]);
    for _ in 0..3 * GENERATIONS {
        for mailbox in &mut mailboxes {
            mailbox.publish(GuestVirt(0), GuestVirt(0), WantedRecords::default());
            let generation = mailbox.region.read_u64(Layout::INFO_PAGE + offset_of!(InfoPage, generation)).unwrap();
            assert!(seen.insert(generation), "generation {generation}");
        }
    }
}

#[test]
fn a_guest_is_ready_once() {
    let mut mailbox = ready_mailbox();
    assert_eq!(mailbox.receive(), Err(ProtocolViolation::ReadyTwice));
}

#[test]
fn host_calls_come_in_sequence() {
    let mut mailbox = ready_mailbox();
    let call = |sequence| MessageLine { sequence, function: 8, length: 1, ..kind(GuestMessageKind::HostCall) };
    guest_says(&mailbox, call(1));
    assert_eq!(mailbox.receive(), Ok(GuestMessage::HostCall { function: 8, length: 1, needed: 0 }));
    assert_eq!(mailbox.receive(), Err(ProtocolViolation::WrongHostCall { sequence: 1, expected: 2 }));
}

#[test]
fn lengths_kinds_and_statuses_are_checked() {
    let mut mailbox = ready_mailbox();
    mailbox.send_call(0, 0, 0, WantedRecords::default());
    guest_says(&mailbox, MessageLine { sequence: 1, length: 4097, ..kind(GuestMessageKind::Return) });
    assert_eq!(mailbox.receive(), Err(ProtocolViolation::Length { length: 4097, capacity: 4096 }));
    guest_says(&mailbox, MessageLine { sequence: 1, status: 99, ..kind(GuestMessageKind::Return) });
    assert_eq!(mailbox.receive(), Err(ProtocolViolation::UnknownStatus { status: 99 }));
    guest_says(&mailbox, MessageLine { kind: 77, ..MessageLine::default() });
    assert_eq!(mailbox.receive(), Err(ProtocolViolation::UnknownKind { kind: 77 }));
    guest_says(&mailbox, kind(GuestMessageKind::Panic));
    assert_eq!(mailbox.receive(), Err(ProtocolViolation::UnknownKind { kind: 4 }));
}

#[test]
fn a_staged_panic_is_bounded_by_its_area() {
    let mailbox = ready_mailbox();
    assert!(mailbox.staged_panic().is_none());
    let record = PanicRecord { message: "m", file: "f", line: 1, column: 2 };
    let length = encode(&record, mailbox.outbound().sink()).unwrap() as u32;
    guest_says(&mailbox, MessageLine { length, ..kind(GuestMessageKind::Panic) });
    let mut decoder = Decoder::new(mailbox.staged_panic().unwrap());
    assert_eq!(decoder.value::<PanicRecord<String>>().unwrap().message, "m");
    guest_says(&mailbox, MessageLine { length: u32::MAX, ..kind(GuestMessageKind::Panic) });
    assert!(mailbox.staged_panic().is_none());
}

#[test]
fn a_failure_text_is_cut_to_the_area() {
    let mut mailbox = ready_mailbox();
    mailbox.send_failure(FailureStatus::Failed, 0, &"ä".repeat(4096));
    let mut line = [0; MESSAGE_LEN];
    mailbox.region.read(Layout::HOST_LINE, &mut line).unwrap();
    let line = MessageLine::from_bytes(&line);
    assert_eq!(line.length, 4096);
    let text: String = Decoder::new(mailbox.payload(line.length as usize)).value().unwrap();
    assert_eq!(text, "ä".repeat(2046));
}

#[test]
fn the_parts_lie_side_by_side_and_the_guest_may_write_only_its_own() {
    for capacity in [4096, 5000, 8192 - 128, 1 << 20] {
        let mailbox = mailbox(capacity);
        let layout = mailbox.layout;
        let [read_only, writable] = Mailbox::shared_memory(capacity).areas;
        assert!(!read_only.writable && writable.writable);
        assert_eq!((read_only.offset, read_only.len), (0, writable.offset));
        assert_eq!(writable.offset + writable.len, mailbox.region.len());
        assert!([read_only.len, writable.len].iter().all(|len| len % ampoule_vmm::PAGE_SIZE == 0));

        assert!(InfoPage::LEN <= Layout::HOST_LINE && layout.inbound().end <= writable.offset);
        assert_eq!((Layout::HOST_LINE % 64, Layout::TIME_PAGE), (0, Layout::HOST_LINE + 64));
        assert!(
            Layout::TIME_PAGE + TimePage::LEN <= layout.inbound().start && layout.inbound().start.is_multiple_of(64)
        );
        assert_eq!((layout.guest_line(), layout.outbound().start), (writable.offset, writable.offset + 64));
        assert!(layout.outbound().end <= layout.output().start);
        assert_eq!(layout.output().end, mailbox.region.len());
    }
}
