//! Folded stacks: a line for each stack, with its functions and what is counted for it.

use std::collections::HashMap;
use std::io::{self, Write};

use super::named::{Named, OTHER_STACKS};

/// Writes the lines of these stacks, each with the sum of its stacks' values.
pub(super) fn write<W: Copy + Default>(
    parts: &[Named<'_, W>],
    value: impl Fn(W) -> u64,
    to: &mut impl Write,
) -> io::Result<()> {
    lines(parts, value).iter().try_for_each(|line| writeln!(to, "{line}"))
}

/// The lines. Stacks that differ only in where within their functions they are have one together.
pub(super) fn lines<W: Copy + Default>(parts: &[Named<'_, W>], value: impl Fn(W) -> u64) -> Vec<String> {
    let mut lines: Vec<(String, u64)> = Vec::new();
    let mut found: HashMap<String, usize> = HashMap::new();
    for named in parts {
        let stacks = named.stacks.iter().map(|(stack, worth)| (folded(&named.names(stack)), *worth));
        for (line, worth) in stacks.chain([(OTHER_STACKS.to_owned(), named.others)]) {
            let position = *found.entry(line).or_insert_with_key(|line| {
                lines.push((line.clone(), 0));
                lines.len() - 1
            });
            lines[position].1 = lines[position].1.saturating_add(value(worth));
        }
    }
    lines.iter().filter(|(_, value)| *value > 0).map(|(line, value)| format!("{line} {value}")).collect()
}

/// The functions, separated.
fn folded(names: &[String]) -> String {
    names.iter().map(|name| name.replace(';', ":")).collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_looks_like_two() {
        assert_eq!(folded(&["main".to_owned(), "sum::<[u8; 4]>".to_owned()]), "main;sum::<[u8: 4]>");
    }
}
