//! What a guest notices when its host has put it back.

use std::cell::{Cell, RefCell};

use ampoule_abi::layout::{InfoPage, RecordKind, ReturnStatus};
use ampoule_guest::{export, generation, import, on_restore};

use crate::fake_host::{FIRST_GENERATION, FakeHost, function_number};

#[import(name = "restore.seed")]
fn seed() -> u32;

thread_local! {
    /// What the hooks have done, in order.
    static LOG: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static REFUSES: Cell<bool> = const { Cell::new(false) };
}

fn log(entry: u32) {
    LOG.with_borrow_mut(|log| log.push(entry));
}

#[export(name = "restore.log")]
fn logged() -> Vec<u32> {
    LOG.with_borrow(Clone::clone)
}

#[export(name = "restore.generation")]
fn current_generation() -> u64 {
    generation()
}

/// Registers a hook in a call.
#[export(name = "restore.register")]
fn register(entry: u32) {
    on_restore(move || log(entry));
}

/// Logs its call.
#[export(name = "restore.run")]
fn run(entry: u32) {
    log(entry);
}

fn log_of(host: &mut FakeHost) -> Vec<u32> {
    host.call("restore.log", |_| ()).result()
}

fn call_with(host: &mut FakeHost, name: &str, entry: u32) {
    host.call(name, |arguments| arguments.value(&entry).unwrap()).result::<()>();
}

#[test]
fn the_generation_is_the_one_that_the_host_tells() {
    let mut host = FakeHost::start_with(|| assert_eq!(generation(), FIRST_GENERATION));
    assert_eq!(host.call("restore.generation", |_| ()).result::<u64>(), FIRST_GENERATION);
    let changed = host.change_generation();
    for _ in 0..2 {
        assert_eq!(host.call("restore.generation", |_| ()).result::<u64>(), changed);
    }
}

#[test]
fn hooks_run_once_after_the_guest_was_put_back_and_before_the_function() {
    let mut host = FakeHost::start_with(|| on_restore(|| log(1)));
    assert!(log_of(&mut host).is_empty(), "the guest was not restored before its first call");
    assert!(log_of(&mut host).is_empty());

    host.change_generation();
    call_with(&mut host, "restore.run", 100);
    call_with(&mut host, "restore.run", 101);
    assert_eq!(log_of(&mut host), [1, 100, 101]);

    host.change_generation();
    host.change_generation();
    call_with(&mut host, "restore.run", 102);
    assert_eq!(log_of(&mut host), [1, 100, 101, 1, 102], "putting it back twice between two calls is one event");
}

#[test]
fn a_guest_that_was_put_back_before_its_first_call_runs_its_hooks() {
    let mut host = FakeHost::start_with(|| on_restore(|| log(1)));
    host.change_generation();
    assert_eq!(log_of(&mut host), [1]);
}

#[test]
fn hooks_run_in_the_order_in_which_they_were_registered() {
    let mut host = FakeHost::start_with(|| (1..=3).for_each(|entry| on_restore(move || log(entry))));
    call_with(&mut host, "restore.register", 4);
    assert!(log_of(&mut host).is_empty());
    host.change_generation();
    assert_eq!(log_of(&mut host), [1, 2, 3, 4]);
}

#[test]
fn a_hook_does_not_run_for_what_happened_before_it_was_registered() {
    let mut host = FakeHost::start();
    host.change_generation();
    call_with(&mut host, "restore.register", 1);
    assert!(log_of(&mut host).is_empty());
    host.change_generation();
    assert_eq!(log_of(&mut host), [1]);
}

#[test]
fn a_hook_that_a_hook_registers_waits_for_the_next_time() {
    let mut host = FakeHost::start_with(|| {
        on_restore(|| {
            log(1);
            on_restore(|| log(2));
        });
    });
    host.change_generation();
    assert_eq!(log_of(&mut host), [1]);
    host.change_generation();
    assert_eq!(log_of(&mut host), [1, 1, 2]);
}

#[test]
fn a_hook_may_call_the_host() {
    let mut host = FakeHost::start_with(|| on_restore(|| log(seed())));
    host.change_generation();
    host.begin_call("restore.run", |arguments| arguments.value(&100u32).unwrap());
    assert!(host.host_call("restore.seed", 1).is_empty());
    host.reply(&7u32);
    host.answer().result::<()>();
    assert_eq!(log_of(&mut host), [7, 100]);
}

#[test]
fn a_hook_that_panics_ends_the_call_and_the_next_one_begins_with_the_hooks() {
    let mut host = FakeHost::start_with(|| {
        REFUSES.set(true);
        on_restore(|| log(1));
        on_restore(|| assert!(!REFUSES.replace(false), "no seed today"));
        on_restore(|| log(3));
    });
    host.change_generation();
    let panic = host.call("restore.run", |arguments| arguments.value(&100u32).unwrap()).panic();
    assert_eq!(panic.message, "no seed today");
    assert!(panic.file.ends_with("guest/restore.rs"), "{}", panic.file);

    call_with(&mut host, "restore.run", 101);
    assert_eq!(log_of(&mut host), [1, 1, 3, 101]);
}

#[test]
fn a_hook_whose_host_call_fails_leaves_the_guest_able_to_answer() {
    let mut host = FakeHost::start_with(|| on_restore(|| log(seed())));
    host.change_generation();
    host.begin_call("restore.log", |_| ());
    host.reply_bytes(&[1]);
    let message = host.answer().panic().message;
    assert!(message.starts_with("host function `restore.seed`: the result could not be decoded"), "{message}");

    host.begin_call("restore.log", |_| ());
    host.reply(&8u32);
    assert_eq!(host.answer().result::<Vec<u32>>(), [8]);
}

#[test]
fn a_number_that_is_no_exports_leaves_the_hooks_to_the_next_call() {
    let mut host = FakeHost::start_with(|| on_restore(|| log(1)));
    host.change_generation();
    let import = function_number(RecordKind::Import, "restore.seed");
    host.begin_call_of(import, &[]);
    assert_eq!(host.answer().status, ReturnStatus::UnknownFunction);
    call_with(&mut host, "restore.run", 100);
    assert_eq!(log_of(&mut host), [1, 100]);
}

#[test]
fn on_a_host_that_does_not_tell_the_generation_is_0_and_no_hook_runs() {
    let mut host = FakeHost::start_as(InfoPage::GENERATION_MINOR - 1, || on_restore(|| log(1)));
    for _ in 0..2 {
        assert_eq!(host.call("restore.generation", |_| ()).result::<u64>(), 0);
        assert!(log_of(&mut host).is_empty());
        // Such a host has something else in this place, if anything.
        host.change_generation();
    }
}
