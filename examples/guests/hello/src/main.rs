//! A guest with one function, which calls one function of the host.

use ampoule_guest::{export, import};

/// The day of the week, which only the host knows.
#[import]
fn weekday() -> String;

/// Greets by name.
#[export]
fn greet(name: &str) -> String {
    format!("Hello, {name}! Today is {}.", weekday())
}

ampoule_guest::main!();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets_by_name_and_day() {
        let _weekday = ampoule_guest::testing::provide("weekday", || "Friday".to_string());
        assert_eq!(greet("Ada"), "Hello, Ada! Today is Friday.");
    }
}
