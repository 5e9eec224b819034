//! What a guest prints goes to the `tracing` log unless the builder says otherwise. The only test of its process, whose
//! subscriber it sets.

use ampoule::{Output, Sandbox};
use ampoule_tests::{calls_builder, calls_functions, calls_image, log};
use tracing::Level;

#[test]
fn printed_lines_are_events_of_the_log() {
    let lines = log::record();
    let mut sandbox = calls_functions(Sandbox::builder(&calls_image())).build().unwrap();
    sandbox.call::<()>("print", ("one\ntwo \u{1b}[2J\nthree without an end",)).unwrap();
    sandbox.call::<()>("print_error", ("warning\n",)).unwrap();
    assert_eq!(
        lines.take(),
        [
            (Level::INFO, "one".to_string()),
            (Level::INFO, "two \\u{1b}[2J".to_string()),
            (Level::INFO, "three without an end".to_string()),
            (Level::WARN, "warning".to_string()),
        ]
    );

    let mut silent = calls_builder().stdout(Output::discard()).build().unwrap();
    silent.call::<()>("print", ("nobody hears this\n",)).unwrap();
    assert_eq!(lines.take(), []);

    // However short its lines are, a guest cannot flood the log, and the next call has its lines again.
    sandbox.call::<()>("print", ("\n".repeat(100_000),)).unwrap();
    let events = lines.take();
    assert!(events.len() <= 1000 + 100_000 / 64 + 1, "{}", events.len());
    let ends: usize = events.iter().map(|(_, text)| 1 + text.matches("\\n").count()).sum();
    assert_eq!(ends, 100_000);
    sandbox.call::<()>("print", ("one\ntwo\n",)).unwrap();
    assert_eq!(lines.take(), [(Level::INFO, "one".to_string()), (Level::INFO, "two".to_string())]);
}
