//! A guest with a bug, which a debugger finds in a core dump.

use ampoule_guest::export;

/// Where a number is in a list that is sorted.
#[export]
fn position(sorted: Vec<u64>, wanted: u64) -> Option<u64> {
    let (mut low, mut high) = (0, sorted.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match sorted[middle] {
            number if number == wanted => return Some(middle as u64),
            number if number < wanted => low = middle,
            _ => high = middle,
        }
    }
    None
}

ampoule_guest::main!();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there() {
        let sorted = vec![2, 3, 5, 7, 11, 13];
        for (index, number) in sorted.iter().enumerate() {
            assert_eq!(position(sorted.clone(), *number), Some(index as u64));
        }
    }
}
