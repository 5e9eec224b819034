//! The name that was probably meant.

/// Of these names the one that is most like another, if it is so much like it that it was probably meant.
pub(crate) fn nearest<'names>(wanted: &str, names: impl Iterator<Item = &'names str>) -> Option<&'names str> {
    let wanted: Vec<char> = wanted.chars().take(MAX_LENGTH + 1).collect();
    // A third of a name may be wrong, and one character of the shortest.
    let tolerated = (wanted.len() / 3).max(1);
    let near = names.take(MAX_NAMES).filter_map(|name| Some((distance(&wanted, name)?, name)));
    near.filter(|(distance, _)| *distance <= tolerated).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// How many characters have to be inserted, removed, replaced or swapped with their neighbours to make one name of the other,
/// if neither is too long (the restricted Damerau-Levenshtein distance). Case counts as nothing, and so do `-` and `_`.
fn distance(wanted: &[char], name: &str) -> Option<usize> {
    let name: Vec<char> = name.chars().take(MAX_LENGTH + 1).map(folded).collect();
    if wanted.len() > MAX_LENGTH || name.len() > MAX_LENGTH {
        return None;
    }
    let mut before_last = vec![0; name.len() + 1];
    let mut last: Vec<usize> = (0..=name.len()).collect();
    let mut row = last.clone();
    for i in 0..wanted.len() {
        let letter = folded(wanted[i]);
        row[0] = i + 1;
        for j in 0..name.len() {
            let replaced = last[j] + usize::from(letter != name[j]);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && letter == name[j - 1] && folded(wanted[i - 1]) == name[j] {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        (before_last, last, row) = (last, row, before_last);
    }
    Some(last[name.len()])
}

fn folded(character: char) -> char {
    if character == '-' { '_' } else { character.to_ascii_lowercase() }
}

/// The longest names that are compared, in characters. The time is the product of their lengths.
const MAX_LENGTH: usize = 64;

/// The most names that are compared. An image may list tens of thousands.
const MAX_NAMES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(wanted: &str) -> Option<&'static str> {
        nearest(wanted, ["thumbnail", "resize", "rotate_left", "rotate_right", "ok"].into_iter())
    }

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        for (wanted, meant) in [
            ("thumnail", "thumbnail"),
            ("thubmnail", "thumbnail"),
            ("Thumbnail", "thumbnail"),
            ("rotate-left", "rotate_left"),
            ("rotate_rihgt", "rotate_right"),
            ("resized", "resize"),
            ("okk", "ok"),
        ] {
            assert_eq!(of(wanted), Some(meant), "{wanted}");
        }
    }

    #[test]
    fn another_name_finds_nothing() {
        for wanted in ["", "delete", "greet", "no", &"thumbnail".repeat(100)] {
            assert_eq!(of(wanted), None, "{wanted}");
        }
    }
}
