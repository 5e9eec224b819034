//! Counting, within bounds. What comes out is tested with real guests.

use std::time::Duration;

use ampoule_symbols::{CallStack, Registers, Symbols};

use super::recorder::Recorder;
use super::stacks::{MAX_DEPTH, MAX_STACKS, Stacks, Whereabouts};
use super::{Frequency, Worth};

/// A stack of code that no image describes, with these return addresses.
fn stack(code: u64, callers: &[u64]) -> CallStack {
    const STACK: u64 = 0x7000_0000;
    // Each frame is a saved frame pointer and a return address.
    let frame = |index: usize| STACK + 16 * (index as u64 + 1);
    let frames = callers.iter().enumerate().flat_map(|(index, caller)| [frame(index + 1), *caller]);
    let words: Vec<u64> = [0, 0].into_iter().chain(frames).chain([0, 0]).collect();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut memory = |address: u64, buffer: &mut [u8]| {
        let from = address.checked_sub(STACK).map(|offset| offset as usize);
        let bytes = from.and_then(|from| bytes.get(from..from + buffer.len()));
        bytes.inspect(|bytes| buffer.copy_from_slice(bytes)).is_some()
    };
    let registers = Registers { rip: code, rsp: STACK, rbp: frame(0), ..Registers::default() };
    Symbols::new(&[], 0).walk(&registers, &mut memory, MAX_DEPTH)
}

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn the_same_stack_is_counted_in_one_place_and_another_in_another() {
    let mut stacks = Stacks::default();
    for (code, caller) in [(1, 10), (2, 10), (1, 10), (1, 20)] {
        stacks.add(&stack(code, &[caller]), Whereabouts::Guest, MILLISECOND);
    }
    stacks.add(&stack(1, &[10]), Whereabouts::Sleep, MILLISECOND);
    let counted: Vec<_> = stacks.iter().map(|(stack, worth)| (stack.instructions.to_vec(), worth.samples)).collect();
    // Callers are at the call in front of the return address.
    assert_eq!(counted, [(vec![1, 9], 2), (vec![2, 9], 1), (vec![1, 19], 1), (vec![1, 9], 1)]);
    assert_eq!(stacks.total(), Worth { samples: 5, cpu_time: 5 * MILLISECOND });
}

#[test]
fn of_too_many_stacks_the_first_are_kept_and_no_sample_is_lost() {
    let mut stacks = Stacks::default();
    for code in 0..100_000 {
        stacks.add(&stack(code + 1, &[]), Whereabouts::Guest, MILLISECOND);
    }
    stacks.add(&stack(1, &[]), Whereabouts::Guest, MILLISECOND);
    assert_eq!(stacks.iter().count(), MAX_STACKS);
    assert_eq!(stacks.iter().next().map(|(_, worth)| worth.samples), Some(2));
    assert_eq!(stacks.others().samples, 100_000 - MAX_STACKS as u64);
    assert_eq!(stacks.total(), Worth { samples: 100_001, cpu_time: 100_001 * MILLISECOND });
}

#[test]
fn a_stack_that_is_too_deep_keeps_its_innermost_calls_and_says_so() {
    let mut stacks = Stacks::default();
    for depth in [MAX_DEPTH - 1, MAX_DEPTH, 100 * MAX_DEPTH] {
        let callers: Vec<u64> = (0..depth as u64).map(|index| 1000 + index).collect();
        stacks.add(&stack(1, &callers), Whereabouts::Guest, MILLISECOND);
    }
    let kept: Vec<_> = stacks.iter().map(|(stack, worth)| (stack.is_truncated, worth.samples)).collect();
    assert_eq!(kept, [(false, 1), (true, 2)]);
    assert!(stacks.iter().all(|(stack, _)| stack.instructions.len() == MAX_DEPTH && stack.instructions[0] == 1));
}

#[test]
fn what_two_have_counted_is_counted_once_together() {
    let count = |codes: &[u64]| {
        let mut stacks = Stacks::default();
        codes.iter().for_each(|code| stacks.add(&stack(*code, &[]), Whereabouts::Guest, MILLISECOND));
        stacks
    };
    let mut stacks = count(&[1, 2]);
    stacks.merge(count(&[3, 2, 2]));
    let counted: Vec<_> = stacks.iter().map(|(stack, worth)| (stack.instructions[0], worth.samples)).collect();
    assert_eq!(counted, [(1, 1), (2, 3), (3, 1)]);
    stacks.merge(count(&(0..2 * MAX_STACKS as u64).map(|code| code + 1).collect::<Vec<_>>()));
    assert_eq!(stacks.iter().count(), MAX_STACKS);
    assert_eq!(stacks.total().samples, 5 + 2 * MAX_STACKS as u64);
}

#[test]
fn a_sample_stands_for_the_time_since_the_one_before_in_whichever_call_that_was() {
    let mut recorder = Recorder::new(Frequency::hz(1000));
    let mut sampled = Vec::new();
    let mut total = Duration::ZERO;
    let mut sample = |recorder: &mut Recorder, at: u32| {
        recorder.sample(&stack(1, &[]), Whereabouts::Guest, at * MILLISECOND);
        let now = recorder.total().cpu_time;
        sampled.push((now - total).as_millis());
        total = now;
    };
    recorder.call_begins(10 * MILLISECOND);
    sample(&mut recorder, 14);
    recorder.call_ended(15 * MILLISECOND);
    // Between the calls the thread works for itself.
    recorder.call_begins(100 * MILLISECOND);
    recorder.call_ended(102 * MILLISECOND);
    // Another thread, on another clock.
    recorder.call_begins(3 * MILLISECOND);
    sample(&mut recorder, 7);
    sample(&mut recorder, 8);
    recorder.call_ended(9 * MILLISECOND);
    assert_eq!(sampled, [4, 1 + 2 + 4, 1]);
}

#[test]
#[should_panic(expected = "1 to 10,000 Hz")]
fn no_guest_is_sampled_at_0_hz() {
    let _ = Frequency::hz(0);
}
