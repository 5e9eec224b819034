use std::sync::Arc;

use ampoule_vmm::HostOnly;
use proptest::prelude::*;

use super::*;

type Taken = Vec<Result<(OutputStream, Vec<u8>), ProtocolViolation>>;

/// What the host takes from a guest that has put these bytes into its area and claims this many.
fn taken(area: &[u8], claimed: u32) -> Result<Taken, ProtocolViolation> {
    let (region, layout, number) = mailbox();
    region.write(layout.output().start, area).unwrap();
    region.write(number, &claimed.to_le_bytes()).unwrap();
    let mut copy = Vec::new();
    let taken = take(&region, &layout, &mut copy)
        .map(|printed| printed.map(|record| record.map(|(stream, text)| (stream, text.to_vec()))).collect());
    assert_eq!(region.read_u64(number).unwrap(), 0, "the guest is told that its text is taken");
    taken
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
    for stream in [0, 3, 0x100, 0x101, u16::MAX] {
        let area = [record(stream, 1, b"x"), whole(OutputStream::Stdout, b"after")].concat();
        let expected = vec![Err(ProtocolViolation::UnknownStream { stream })];
        assert_eq!(taken(&area, area.len() as u32).unwrap(), expected);
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
        area in prop::collection::vec(prop_oneof![3 => 0u8..4, 1 => any::<u8>()], 0..600),
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
