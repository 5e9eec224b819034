//! Folded stacks: a line for each stack, with its functions and its CPU time.

use std::collections::HashMap;
use std::io::{self, Write};

use super::named::{Named, OTHER_STACKS};
use super::stacks::Worth;

/// Writes the lines of these stacks.
pub(super) fn write(parts: &[Named<'_>], to: &mut impl Write) -> io::Result<()> {
    lines(parts).iter().try_for_each(|line| writeln!(to, "{line}"))
}

/// The lines. Stacks that differ only in where within their functions they are have one together.
pub(super) fn lines(parts: &[Named<'_>]) -> Vec<String> {
    let mut lines: Vec<(String, Worth)> = Vec::new();
    let mut found: HashMap<String, usize> = HashMap::new();
    for named in parts {
        let stacks = named.stacks.iter().map(|(stack, worth)| (folded(&named.names(stack)), *worth));
        for (line, worth) in stacks.chain([(OTHER_STACKS.to_owned(), named.others)]) {
            let position = *found.entry(line).or_insert_with_key(|line| {
                lines.push((line.clone(), Worth::default()));
                lines.len() - 1
            });
            lines[position].1.cpu_time += worth.cpu_time;
        }
    }
    let lines = lines.into_iter().map(|(line, worth)| (line, worth.cpu_time.as_micros()));
    lines.filter(|(_, microseconds)| *microseconds > 0).map(|(line, value)| format!("{line} {value}")).collect()
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
