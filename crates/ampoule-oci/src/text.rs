//! Text that a registry has sent, and that is to be shown.

use ampoule_abi::text::is_printable;

/// The start of it in one line, without control characters and such as are not seen or turn the line around.
pub(crate) fn printable(text: &str) -> String {
    let shown: String = text.chars().map(|c| if is_printable(c) { c } else { ' ' }).take(MOST).collect();
    // A text of errors ends without punctuation, since it may stand behind a colon.
    shown.trim().trim_end_matches(['.', '!', ':', ';', ',']).to_owned()
}

/// Characters that are shown.
const MOST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_one_short_line() {
        assert_eq!(printable("no\x1b[2Jsuch\nname.\n"), "no [2Jsuch name");
        assert_eq!(printable("txt\u{202e}exe\u{200b}"), "txt exe");
        assert_eq!(printable(&"x".repeat(1 << 20)).len(), MOST);
    }
}
