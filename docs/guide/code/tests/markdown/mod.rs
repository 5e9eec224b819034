//! As much of Markdown as the documents use: headings, fenced blocks of code, and links in brackets.

use std::fs;
use std::path::Path;

/// What a document has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Document {
    /// Its headings, as links name them.
    pub(crate) headings: Vec<String>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) links: Vec<Link>,
}

/// A block of code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it begins.
    pub(crate) line: usize,
    pub(crate) language: String,
    pub(crate) lines: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
}

impl Document {
    pub(crate) fn read(path: &Path) -> Self {
        Self::parse(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut lines = text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            if let Some(fence) = line.trim_start().strip_prefix("```") {
                let language = fence.split(',').next().unwrap_or_default().to_owned();
                let code = lines.by_ref().map(|(line, _)| line).take_while(|line| line.trim_start() != "```");
                let lines = code.map(str::to_owned).collect();
                document.blocks.push(Block { line: number, language, lines });
            } else if line.starts_with('#') {
                document.headings.push(anchor(line.trim_start_matches('#').trim()));
            } else {
                let targets = links(&without_code(line));
                document.links.extend(targets.into_iter().map(|target| Link { line: number, target }));
            }
        }
        document
    }
}

/// The line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The targets of `[text](target)`, and of `[text]: target` at the start of the line.
fn links(line: &str) -> Vec<String> {
    let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    let within = line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    within.chain(definition.map(|(_, target)| target.trim())).map(str::to_owned).collect()
}

/// A heading as links name it: in lower case, with hyphens for spaces, without other punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn headings_blocks_and_links_are_found() {
    let text = "# What `now`?\n\nSee [a](b.md#c), `[no](link)` and [d](e).\n```rust,no_run\n# fn main() {}\n```\n[`f`]: g.rs\n";
    let link = |line, target: &str| Link { line, target: target.to_owned() };
    let expected = Document {
        headings: vec!["what-now".to_owned()],
        blocks: vec![Block { line: 4, language: "rust".to_owned(), lines: vec!["# fn main() {}".to_owned()] }],
        links: vec![link(3, "b.md#c"), link(3, "e"), link(7, "g.rs")],
    };
    assert_eq!(Document::parse(text), expected);
}
