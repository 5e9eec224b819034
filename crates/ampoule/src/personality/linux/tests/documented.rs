//! `docs/personality.md` against the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::personality::linux::groups::Grant;

/// A row of the table: the group, and what happens.
struct Row {
    group: String,
    answer: String,
}

/// The rows by the names of the calls.
fn documented() -> BTreeMap<String, Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/personality.md");
    let text = fs::read_to_string(path).unwrap();
    let mut rows = BTreeMap::new();
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    for line in lines {
        let [_, names, group, answer, _] = line.split('|').map(str::trim).collect::<Vec<_>>().try_into().unwrap();
        for name in names.split(", ") {
            let name = name.trim_matches('`').to_owned();
            let row = Row { group: group.to_owned(), answer: answer.to_owned() };
            assert!(rows.insert(name.clone(), row).is_none(), "{name} stands in the table twice");
        }
    }
    rows
}

#[test]
fn the_table_has_every_call_of_linux_with_its_group() {
    let mut rows = documented();
    for number in 0..512 {
        let Some(name) = groups::name(number) else { continue };
        let row = rows.remove(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let group = match groups::grant(number) {
            Grant::Always => "",
            Grant::By(group) => group.name(),
            Grant::Never(needs) => needs,
        };
        assert_eq!(row.group, group, "{name}");
    }
    assert!(rows.is_empty(), "Linux has no {:?}", rows.keys());
}

/// Arguments of zero are valid for few calls, but what is not implemented says so whatever they are.
#[test]
fn what_is_not_implemented_is_what_the_table_says_is_not() {
    let rows = documented();
    for number in 0..512 {
        let Some(name) = groups::name(number) else { continue };
        let outcome = Guest::new().call(number, []);
        let is_refused = outcome == Outcome::Return(Errno::ENOSYS.result());
        assert_eq!(rows[name].answer.starts_with("`ENOSYS`"), is_refused, "{name}: {}", rows[name].answer);
    }
}
