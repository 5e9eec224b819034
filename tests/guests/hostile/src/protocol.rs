//! Messages that break the rules of the mailbox.

use std::sync::atomic::{AtomicU64, Ordering};

use ampoule_abi::layout::{InfoPage, MESSAGE_LEN, MessageLine, PRINTED_OFFSET};
use ampoule_guest::{Reader, Writer, export};

use crate::memory::info_page;

/// Rings with a forged message.
#[export]
fn forge(sequence: u64, kind: u32, function: u32, length: u32, status: u32) -> bool {
    // SAFETY: the info page is where the host says, and the message line may be written by the guest. What the host
    // makes of the message is what is being tested.
    unsafe {
        let info = std::ptr::read(info_page() as *const InfoPage);
        let line = MessageLine { sequence, kind, function, length, status, needed: u64::MAX };
        std::ptr::write_volatile(info.guest_line as *mut [u8; MESSAGE_LEN], line.to_bytes());
        let ring: extern "C" fn() = std::mem::transmute(info.entry as *const ());
        ring();
    }
    true
}

/// Asks for streams of these numbers, with lengths that no mailbox holds, and returns which were found: kind of the message and
/// number. The call has two streams.
#[export]
fn forge_streams(_input: Reader<'_>, _output: Writer<'_>, numbers: Vec<u64>) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    for (number, kind) in numbers.into_iter().flat_map(|number| [(number, 5), (number, 6)]) {
        let sequence = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
        // SAFETY: as in `forge`. The host's line may be read.
        unsafe {
            let info = std::ptr::read(info_page() as *const InfoPage);
            let line = MessageLine { sequence, kind, function: 7, length: 0, status: u32::MAX, needed: number };
            std::ptr::write_volatile(info.guest_line as *mut [u8; MESSAGE_LEN], line.to_bytes());
            let ring: extern "C" fn() = std::mem::transmute(info.entry as *const ());
            ring();
            let answer = MessageLine::from_bytes(&std::ptr::read_volatile(info.host_line as *const [u8; MESSAGE_LEN]));
            assert_eq!(answer.sequence, sequence);
            if answer.kind == 2 {
                assert!(u64::from(answer.length) <= info.outbound_len);
                found.push((kind, number));
            } else {
                assert_eq!((answer.kind, answer.status), (3, 5));
            }
        }
    }
    found
}

/// Requests for streams so far.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// Answers its own call with these bytes as the result.
#[export]
fn answer_with(sequence: u64, status: u32, payload: &[u8], claimed_length: u32) -> Vec<String> {
    // SAFETY: the outbound area may be written by the guest, and the payload is cut to it.
    unsafe {
        let info = std::ptr::read(info_page() as *const InfoPage);
        let len = payload.len().min(info.outbound_len as usize);
        std::ptr::copy_nonoverlapping(payload.as_ptr(), info.outbound as *mut u8, len);
    }
    forge(sequence, 2, 0, claimed_length, status);
    Vec::new()
}

/// Puts these bytes into the output area, claims that `claimed` bytes of it hold records, and then returns, or makes a system
/// call, or faults.
#[export]
fn forge_output(records: &[u8], claimed: u32, then: &str) {
    // SAFETY: the area may be written by the guest, and the records are cut to it. What the host makes of them is what is
    // being tested.
    unsafe {
        let info = std::ptr::read(info_page() as *const InfoPage);
        let len = records.len().min(info.output_len as usize);
        std::ptr::copy_nonoverlapping(records.as_ptr(), info.output as *mut u8, len);
        std::ptr::write_volatile((info.guest_line as usize + PRINTED_OFFSET) as *mut u32, claimed);
        match then {
            "system call" => drop(std::hint::black_box(libc::getpid())),
            "fault" => drop(std::ptr::read_volatile(std::hint::black_box(std::ptr::null::<u8>()))),
            _ => {}
        }
    }
}

/// Fills the output area again and again, with records that it forges.
#[export]
fn forge_output_for_ever(record: &[u8]) {
    loop {
        forge_output(record, record.len() as u32, "system call");
    }
}

/// Leaves an invalid panic record, and aborts.
#[export]
fn stage_garbage_panic(length: u32) {
    // SAFETY: as in `forge`.
    unsafe {
        let info = std::ptr::read(info_page() as *const InfoPage);
        std::ptr::write_bytes(info.outbound as *mut u8, 0xff, info.outbound_len as usize);
        let line = MessageLine { sequence: 0, kind: 4, function: 0, length, status: 0, needed: 0 };
        std::ptr::write_volatile(info.guest_line as *mut [u8; MESSAGE_LEN], line.to_bytes());
        libc::abort();
    }
}
