//! Where an artifact is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::blob::Digest;
use crate::error::ParseReferenceError;

/// Where a snapshot is pushed to or pulled from.
///
/// | text | meaning |
/// |---|---|
/// | `registry.example/team/python:1` | the tag `1` of a repository in a registry; without a tag, `latest` |
/// | `registry.example/team/python@sha256:…` | what has this digest |
/// | `localhost:5000/python` | a registry at a port |
/// | `oci:DIR:1` | the tag `1` in an image layout in the directory `DIR`; without a tag, `latest` |
/// | `oci:DIR@sha256:…` | what has this digest |
///
/// A name without a registry (`team/python`) is one of Docker Hub, as elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(pub(crate) Place);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Registry(Repository),
    Layout(Layout),
}

/// A repository in a registry, and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    /// Host and port.
    pub(crate) registry: String,
    pub(crate) name: String,
    pub(crate) which: Which,
}

/// An image layout in a directory, and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) directory: PathBuf,
    pub(crate) which: Which,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    /// A tag in an image layout, whatever characters the path of its directory has.
    ///
    /// # Errors
    /// [`ParseReferenceError::Tag`].
    pub fn layout(directory: impl Into<PathBuf>, tag: &str) -> Result<Self, ParseReferenceError> {
        let which = Which::Tag(checked_tag(tag)?);
        Ok(Self(Place::Layout(Layout { directory: directory.into(), which })))
    }

    /// The same place, with what has this digest, whatever its tags are.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        let which = Which::Digest(digest);
        Self(match &self.0 {
            Place::Registry(repository) => Place::Registry(Repository { which, ..repository.clone() }),
            Place::Layout(layout) => Place::Layout(Layout { which, ..layout.clone() }),
        })
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        if let Some(layout) = text.strip_prefix("oci:") {
            return Ok(Self(Place::Layout(parse_layout(layout)?)));
        }
        let parsed = oci_spec::distribution::Reference::from_str(text)
            .map_err(|error| ParseReferenceError::Name { text: text.to_owned(), reason: error.to_string() })?;
        // A first part with capitals could be a host, and is taken for a part of the repository, which has none.
        if parsed.repository().contains(|c: char| c.is_ascii_uppercase()) {
            let reason = "a repository has no capitals".to_owned();
            return Err(ParseReferenceError::Name { text: text.to_owned(), reason });
        }
        let which = match (parsed.digest(), parsed.tag()) {
            (Some(digest), _) => Which::Digest(parse_digest(digest)?),
            (None, tag) => Which::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
        };
        let registry = parsed.resolve_registry().to_owned();
        Ok(Self(Place::Registry(Repository { registry, name: parsed.repository().to_owned(), which })))
    }
}

fn parse_layout(text: &str) -> Result<Layout, ParseReferenceError> {
    let (directory, which) = match (text.split_once("@sha256:"), text.rsplit_once(':')) {
        (Some((directory, _)), _) => (directory, Which::Digest(parse_digest(&text[directory.len() + 1..])?)),
        (None, Some((directory, tag))) if !tag.contains('/') => (directory, Which::Tag(checked_tag(tag)?)),
        _ => (text, Which::Tag(DEFAULT_TAG.to_owned())),
    };
    if directory.is_empty() {
        return Err(ParseReferenceError::NoDirectory { text: format!("oci:{text}") });
    }
    Ok(Layout { directory: Path::new(directory).to_owned(), which })
}

fn parse_digest(text: &str) -> Result<Digest, ParseReferenceError> {
    Digest::parse(text).ok_or_else(|| ParseReferenceError::Digest { text: text.to_owned() })
}

/// A tag as the distribution specification has it: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn checked_tag(tag: &str) -> Result<String, ParseReferenceError> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_tag =
        tag.starts_with(is_word) && tag.len() <= 128 && tag.chars().all(|c| is_word(c) || c == '.' || c == '-');
    if is_tag { Ok(tag.to_owned()) } else { Err(ParseReferenceError::Tag { text: tag.to_owned() }) }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Registry(repository) => repository.fmt(f),
            Place::Layout(layout) => layout.fmt(f),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.name, self.which)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci:{}{}", self.directory.display(), self.which)
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

const DEFAULT_TAG: &str = "latest";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_registry_or_a_layout_and_what_of_it() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, shown) in [
            ("registry.example/team/python:1", "registry.example/team/python:1".to_owned()),
            ("localhost:5000/python", "localhost:5000/python:latest".to_owned()),
            ("python", "index.docker.io/library/python:latest".to_owned()),
            (&format!("127.0.0.1:5000/a/b:1@{digest}"), format!("127.0.0.1:5000/a/b@{digest}")),
            ("oci:some/layout", "oci:some/layout:latest".to_owned()),
            ("oci:/some/layout:v1.2", "oci:/some/layout:v1.2".to_owned()),
            ("oci:with:colon/layout", "oci:with:colon/layout:latest".to_owned()),
            (&format!("oci:layout@{digest}"), format!("oci:layout@{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<Reference>().unwrap(), reference, "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = format!("oci:layout:{}", "x".repeat(129));
        let upper = format!("a.example/x@sha256:{}", "0A".repeat(32));
        let other = format!("a.example/x@sha512:{}", "0a".repeat(64));
        for text in
            ["", "Upper/Case", "a b", "registry.example/x:", "oci:", "oci::tag", "oci:layout:a b", "oci:a@sha256:12"]
                .into_iter()
                .chain([&*long, &*upper, &*other])
        {
            text.parse::<Reference>().expect_err(text);
        }
    }
}
