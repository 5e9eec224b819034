//! Flame graphs.

use std::io::{self, Write};

use inferno::flamegraph::{self, Options};

use super::folded;
use super::named::Named;

/// What a flame graph says of its widths.
pub(super) struct Legend {
    pub(super) title: &'static str,
    /// The unit of the values.
    pub(super) unit: &'static str,
    /// What stands for a graph of nothing.
    pub(super) nothing: &'static str,
}

/// Draws these stacks, each as wide as its value.
pub(super) fn draw<W: Copy + Default>(
    legend: &Legend,
    parts: &[Named<'_, W>],
    value: impl Fn(W) -> u64,
    to: impl Write,
) -> io::Result<()> {
    let mut options = Options::default();
    options.title = legend.title.to_owned();
    options.count_name = legend.unit.to_owned();
    let mut lines = folded::lines(parts, value);
    if lines.is_empty() {
        // What draws refuses to draw nothing.
        lines.push(format!("{} 1", legend.nothing));
    }
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), to).map_err(io::Error::other)
}
