//! A guest that logs.

mod hostile;
mod play;
mod spans;

use std::cell::Cell;
use std::fmt;

use ampoule_guest::{export, import};

#[import]
fn look();

/// A record of each level, by both crates, each about a target of its own.
#[export]
fn log_at_all_levels() {
    log::error!(target: "by_log", "error");
    log::warn!(target: "by_log", "warn");
    log::info!(target: "by_log", "info");
    log::debug!(target: "by_log", "debug");
    log::trace!(target: "by_log", "trace");
    tracing::error!(target: "by_tracing", "error");
    tracing::warn!(target: "by_tracing", "warn");
    tracing::info!(target: "by_tracing", "info");
    tracing::debug!(target: "by_tracing", "debug");
    tracing::trace!(target: "by_tracing", "trace");
}

/// One record without a target of its own: the line that it is in.
#[export]
fn log_from_here(text: &str) -> u32 {
    log::info!("{text}");
    line!() - 1
}

/// The same by the other crate.
#[export]
fn trace_from_here(text: &str) -> u32 {
    tracing::info!("{text}");
    line!() - 1
}

#[export]
fn log_fields() {
    log::info!(answer = 42, missing = -1, share = 0.5, ready = true, name = "lamp", size:? = Some(3); "by log");
    tracing::info!(answer = 42u64, missing = -1, share = 0.5, ready = true, name = "lamp", size = ?Some(3), "by tracing");
    tracing::info!(only = "a field");
    tracing::info!(sandbox = "another", image = "another", spans = "another", "forged");
    tracing::info!(wide = u128::MAX, "wide");
}

#[export]
fn log_within_spans() {
    let outer = tracing::info_span!("outer", number = 1);
    let _outer = outer.enter();
    tracing::info_span!("inner").in_scope(|| tracing::info!("in both"));
    tracing::info!("in one");
    tracing::info!(parent: None, "in none");
    let unwanted = tracing::trace_span!("unwanted");
    unwanted.in_scope(|| tracing::info!("in one again"));
}

#[export]
fn log_many(records: u32) {
    for number in 0..records {
        log::info!("record {number}");
    }
}

#[export]
fn log_text(text: &str) {
    log::info!("{text}");
}

/// Logs a message and a field that never end, each with another field behind it.
#[export]
fn log_without_an_end() {
    struct Endless;
    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("again ")?;
            }
        }
    }
    log::info!(answer = 42; "{Endless}");
    tracing::info!(endless = %Endless, answer = 42, "short");
}

/// Logs so many fields.
#[export]
fn log_fields_of_number(fields: u32) {
    let names: Vec<String> = (0..fields).map(|number| format!("field_{number}")).collect();
    let fields: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(0..).collect();
    log::logger().log(&log::Record::builder().level(log::Level::Info).key_values(&&fields[..]).build());
}

/// Logs and prints in turn, by everything that a program has for it.
#[export]
fn log_between_lines() {
    println!("line 1");
    log::info!("record 1");
    eprintln!("line 2");
    tracing::info!("record 2");
    println!("line 3");
}

fn print(text: &str) {
    print!("{text}");
}

/// Logs values that print, log and leave for the host while they are formatted.
#[export]
fn log_while_logging() {
    struct Busy;
    impl fmt::Display for Busy {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            print("printed within\n");
            log::info!("logged within");
            look();
            f.write_str("busy")
        }
    }
    log::info!("{Busy}");
    tracing::info!(busy = %Busy, "outer");
}

#[export]
fn log_and_look() {
    log::info!("before");
    look();
    log::info!("after");
}

#[export]
fn log_and_end(end: &str) {
    log::info!("first");
    tracing::info!("second");
    self::end(end);
}

fn end(how: &str) {
    match how {
        "fault" => {
            let null = std::hint::black_box(std::ptr::null::<u8>());
            // SAFETY: none. The read is meant to fault.
            unsafe { std::ptr::read_volatile(null) };
        }
        "panic" => panic!("after the records"),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        _ => loop {
            std::hint::spin_loop();
        },
    }
}

/// Logs forever.
#[export]
fn log_for_ever() {
    loop {
        log::info!("again");
    }
}

/// How often the arguments of a record of this level are evaluated, by both crates.
#[export]
fn evaluations(level: &str) -> u32 {
    let evaluated = Cell::new(0);
    let count = || {
        evaluated.set(evaluated.get() + 1);
        evaluated.get()
    };
    match level {
        "error" => {
            log::error!("{}", count());
            tracing::error!(count = count());
        }
        "debug" => {
            log::debug!("{}", count());
            tracing::debug!(count = count());
        }
        _ => {
            log::trace!("{}", count());
            tracing::trace!(count = count());
        }
    }
    evaluated.get()
}

/// Logs about this many targets.
#[export]
fn log_about(targets: u32) {
    for number in 0..targets {
        let target = format!("target_{number}");
        log::info!(target: &target, "about {number}");
    }
}

#[export]
fn empty() {}

fn prepare() {
    log::error!("lost: nothing is sent yet");
    match std::env::var("LOG_AT_START").as_deref() {
        Ok("sent") => {
            ampoule_guest::init_logging();
            log::info!("preparing");
            tracing::info!("preparing");
        }
        Ok("elsewhere") => {
            log::set_logger(&Elsewhere).expect("there is no other logger");
            log::set_max_level(log::LevelFilter::Info);
        }
        _ => {}
    }
}

/// A logger of the program's own.
struct Elsewhere;

impl log::Log for Elsewhere {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        println!("{} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

ampoule_guest::main!(prepare);
