//! Flame graphs.

use std::io::{self, Write};

use inferno::flamegraph::{self, Options};

use super::folded;
use super::named::Named;

/// Draws these stacks.
pub(super) fn draw(parts: &[Named<'_>], to: impl Write) -> io::Result<()> {
    let mut options = Options::default();
    options.title = "CPU time".to_owned();
    options.count_name = "µs".to_owned();
    let mut lines = folded::lines(parts);
    if lines.is_empty() {
        // What draws refuses to draw nothing.
        lines.push("[no samples] 1".to_owned());
    }
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), to).map_err(io::Error::other)
}
