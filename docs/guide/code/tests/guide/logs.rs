//! What `docs/guide/pages/logs.md` shows.

use std::error::Error;
use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use super::shop;

#[test]
fn a_guests_records_are_shown_as_the_page_shows_them() -> Result<(), Box<dyn Error>> {
    let log = Shown::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("warn,ampoule::guest=debug")
        .without_time()
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let mut sandbox = shop().name("shop-7").log_level(tracing::Level::DEBUG).build()?;
    tracing::subscriber::with_default(subscriber, || sandbox.call::<u32>("reserve", ("lamp", 9u32)))?;

    let shown = String::from_utf8(log.0.lock().map_err(|_| "a writer panicked")?.clone())?;
    let page = include_str!("../../../pages/logs.md");
    assert!(!shown.is_empty() && page.contains(&format!("```text\n{shown}```\n")), "{shown}");
    Ok(())
}

/// What a subscriber writes.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with the lock").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Shown {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
