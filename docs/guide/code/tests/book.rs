//! The guide as a book: its code is code that is compiled and run, and its links, like those of all other documents of the
//! repository, lead somewhere.

mod markdown;

use std::fs;
use std::path::{Component, Path, PathBuf};

use markdown::Document;

#[test]
fn the_summary_lists_every_page_once() {
    let summary = Document::read(&pages().join("SUMMARY.md"));
    let mut listed: Vec<String> = summary.links.iter().map(|link| link.target.clone()).collect();
    listed.sort();
    let mut present: Vec<String> = files(&pages(), "md").iter().map(|page| name(page)).collect();
    present.retain(|page| page != "SUMMARY.md");
    present.sort();
    assert_eq!(listed, present);
}

#[test]
fn each_block_of_rust_in_the_guide_is_a_piece_of_a_file_that_is_compiled_and_run() {
    let sources = sources();
    let mut missing = Vec::new();
    for page in files(&pages(), "md") {
        for block in Document::read(&page).blocks {
            match block.language.as_str() {
                "rust" if sources.iter().any(|source| has_piece(source, &block.lines)) => {}
                "rust" => missing.push(format!("{}:{}", page.display(), block.line)),
                "sh" | "text" | "toml" => {}
                other => panic!("{}:{}: the language `{other}`", page.display(), block.line),
            }
        }
    }
    assert!(missing.is_empty(), "these blocks are in none of the sources, line by line:\n{}", missing.join("\n"));
}

#[test]
fn what_the_readme_shows_of_snapshots_is_run() {
    let readme = Document::read(&root().join("README.md"));
    let mut blocks = readme.blocks.iter().filter(|block| block.lines.iter().any(|line| line.contains("snapshot()")));
    let block = blocks.next().unwrap();
    assert!(sources().iter().any(|source| has_piece(source, &block.lines)), "README.md:{}", block.line);
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for file in documents() {
        for link in Document::read(&file).links {
            if let Err(reason) = follow(&file, &link.target) {
                broken.push(format!("{}:{}: {}: {reason}", file.display(), link.line, link.target));
            }
        }
    }
    assert!(broken.is_empty(), "{} links:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_would_be_noticed() {
    let page = pages().join("first-call.md");
    assert_eq!(follow(&page, "types.md"), Ok(()));
    assert_eq!(follow(&page, "https://github.com/ampoule-rs/ampoule/blob/main/docs/design.md#rules"), Ok(()));
    assert!(follow(&page, "none.md").is_err());
    assert!(follow(&page, "types.md#no-such-heading").is_err());
    assert!(follow(&page, "https://github.com/ampoule-rs/ampoule/blob/main/docs/none.md").is_err());
    assert!(follow(&page, "../../design.md").is_err());
    assert_eq!(follow(&root().join("README.md"), "docs/design.md#going-back"), Ok(()));
}

#[test]
fn a_piece_is_found_at_any_depth_and_only_whole() {
    let source =
        ["fn main() {", "    if ready() {", "        go();", "", "        rest();", "    }", "}"].map(String::from);
    let is_piece = |lines: &[&str]| has_piece(&source, &lines.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert!(is_piece(&["if ready() {", "    go();", "", "    rest();", "}"]));
    assert!(!is_piece(&["if ready() {", "    rest();", "}"]));
    assert!(!is_piece(&["if ready() {", "go();"]));
}

/// Whether the lines stand in the source one after the other, all indented by as much more or less.
fn has_piece(source: &[String], lines: &[String]) -> bool {
    let Some(first) = lines.first() else { return false };
    source.windows(lines.len()).any(|window| {
        let Some(indentation) = window[0].strip_suffix(first.as_str()) else { return false };
        let same = |(there, here): (&String, &String)| match here.as_str() {
            "" => there.is_empty(),
            here => there.strip_prefix(indentation) == Some(here),
        };
        indentation.trim().is_empty() && window.iter().zip(lines).all(same)
    })
}

/// What the guide may show: its own code, and the examples.
fn sources() -> Vec<Vec<String>> {
    let folders = ["docs/guide/code/tests", "docs/guide/code/rules", "docs/guide/code/shop-types", "examples"];
    let sources = folders.iter().flat_map(|folder| files(&root().join(folder), "rs"));
    let mut sources: Vec<PathBuf> = sources.collect();
    sources.push(root().join("docs/guide/code/build.rs"));
    sources.iter().map(|source| fs::read_to_string(source).unwrap().lines().map(str::to_owned).collect()).collect()
}

/// Finds what a link of the file leads to.
fn follow(file: &Path, target: &str) -> Result<(), String> {
    let (path, heading) = target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
    let path = match path.strip_prefix(REPOSITORY) {
        Some(path) => root().join(path),
        None if path.contains("://") => return Ok(()),
        None if path.is_empty() => file.to_owned(),
        None => normalized(&file.parent().unwrap().join(path)),
    };
    if !target.starts_with(REPOSITORY) && file.starts_with(pages()) && !path.starts_with(pages()) {
        return Err(format!("leads out of the book, where only {REPOSITORY} works"));
    }
    if !path.exists() {
        return Err("no such file".to_owned());
    }
    match heading {
        Some(heading) if path.extension().is_some_and(|extension| extension == "md") => {
            let headings = Document::read(&path).headings;
            if headings.iter().any(|there| there == heading) { Ok(()) } else { Err("no such heading".to_owned()) }
        }
        _ => Ok(()),
    }
}

/// The path without `..`, whether there are such folders or not.
fn normalized(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(result.pop()),
            Component::CurDir => {}
            part => result.push(part),
        }
    }
    result
}

fn documents() -> Vec<PathBuf> {
    let top = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        top.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    for folder in ["docs", "crates", "examples", "tests", "benches"] {
        all.extend(files(&root().join(folder), "md"));
    }
    all
}

/// The files with this extension below the folder, without those behind symbolic links.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path(), extension));
        } else if kind.is_file() && entry.path().extension().is_some_and(|it| it == extension) {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn pages() -> PathBuf {
    root().join("docs/guide/pages")
}

fn root() -> PathBuf {
    normalized(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.."))
}

/// How documents name each other from outside the repository.
const REPOSITORY: &str = "https://github.com/ampoule-rs/ampoule/blob/main/";
