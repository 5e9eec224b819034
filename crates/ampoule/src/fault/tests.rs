use super::*;
use crate::error_tests::position;

fn out_of_memory(limit: u64, stderr: &str) -> Fault {
    let mut fault = Fault::new(FaultKind::OutOfMemory { limit, panic: None }, position());
    fault.add_circumstances((stderr.as_bytes(), false), Some(limit));
    fault
}

#[test]
fn a_guest_that_ran_out_of_memory_is_shown_with_what_it_said_of_that() {
    let note = "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";
    let fault = out_of_memory(32 << 20, &format!("memory allocation of 1048576 bytes failed\n{note}\n"));
    let text = fault.to_string();
    assert!(text.ends_with("; it last printed to standard error: memory allocation of 1048576 bytes failed"), "{text}");
    assert!(!format!("{fault:#}").contains("RUST_BACKTRACE"));
    assert!(fault.stderr().contains(note));
}

#[test]
fn the_memory_of_a_guest_is_shown_in_mebibytes_where_that_is_exact() {
    assert!(out_of_memory(32 << 20, "").to_string().contains("the guest needed more than its 32 MiB: "));
    assert!(out_of_memory((1 << 20) + 1, "").to_string().contains("the guest needed more than its 1048577 bytes: "));
}
