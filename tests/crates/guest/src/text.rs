//! Text.

use crate::Use;

pub(crate) const USES: &[Use] = &[
    ("regex", "captures a number", || {
        let found = regex::Regex::new(r"(\d+)-\w")?.captures("ab 12-c").ok_or("no match")?;
        assert_eq!(&found[1], "12");
        Ok(())
    }),
    ("aho-corasick", "finds one of two words", || {
        let found = aho_corasick::AhoCorasick::new(["one", "two"])?.find("a two").ok_or("no match")?;
        assert_eq!(found.start(), 2);
        Ok(())
    }),
    ("memchr", "finds a substring", || {
        assert_eq!(memchr::memmem::find(b"a needle", b"needle"), Some(2));
        Ok(())
    }),
    ("encoding_rs", "decodes Shift JIS", || {
        assert_eq!(encoding_rs::SHIFT_JIS.decode(&[0x82, 0xA0]).0, "あ");
        Ok(())
    }),
    ("heck", "changes the case of a name", || {
        assert_eq!(heck::ToSnakeCase::to_snake_case("SnakeCase"), "snake_case");
        Ok(())
    }),
    ("semver", "compares a version", || {
        assert!(semver::VersionReq::parse("^1.2")?.matches(&semver::Version::parse("1.3.0")?));
        Ok(())
    }),
    ("unicode-segmentation", "counts graphemes", || {
        assert_eq!(unicode_segmentation::UnicodeSegmentation::graphemes("e\u{301}a", true).count(), 2);
        Ok(())
    }),
    ("url", "joins addresses", || {
        assert_eq!(url::Url::parse("https://a.example/b/")?.join("../c")?.as_str(), "https://a.example/c");
        Ok(())
    }),
];
