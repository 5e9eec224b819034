//! Entries for the fuzz targets (`fuzz/`). They are there only under `cargo fuzz`.

use std::str;

use crate::Reference;
use crate::artifact::{Artifact, file_name, snapshots};
use crate::registry::{Challenge, reason_of, token_of};

/// What is made of a manifest, and of a configuration for so many layers.
pub fn artifact(manifest: &[u8], config: &[u8], layers: usize) {
    let reference: Reference = "registry.example/name".parse().expect("it is a reference");
    match Artifact::parse(&reference, manifest, LIMIT) {
        Ok(artifact) => assert!(artifact.layers.iter().all(|layer| layer.size <= LIMIT)),
        Err(error) => assert_is_line(&error.to_string()),
    }
    match snapshots(&reference, config, layers) {
        Ok(snapshots) => {
            assert_eq!(snapshots.len(), layers);
            let names = snapshots.iter().map(|snapshot| file_name(&snapshot.digest));
            names.for_each(|name| assert!(!name.contains('/') && name.len() == 69, "{name}"));
        }
        Err(error) => assert_is_line(&error.to_string()),
    }
}

/// What is made of other answers of a registry, and of what somebody calls one.
pub fn answer(bytes: &[u8]) {
    assert_is_line(&reason_of(bytes));
    if let Some(token) = token_of(bytes) {
        assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = Challenge::of(text.lines());
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference), "{text}");
    }
}

fn assert_is_line(text: &str) {
    assert!(!text.is_empty() && text.len() < 2048 && !text.contains(char::is_control), "{text:?}");
}

const LIMIT: u64 = 1 << 30;
