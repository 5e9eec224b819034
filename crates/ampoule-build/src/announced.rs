//! What the build script has told cargo of guests so far: the variables that `ampoule::include_guest!` reads.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::{Artifact, BuildError};

/// The names of all guests of one build script.
#[derive(Debug)]
pub(crate) struct Announced(BTreeSet<String>);

impl Announced {
    pub(crate) const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Adds guests, and returns the lines that make cargo set the variables: one for each image, and one with the names of
    /// all guests, which replaces that of the guests before.
    pub(crate) fn add(&mut self, artifacts: &[Artifact]) -> Result<Vec<String>, BuildError> {
        for artifact in artifacts {
            if !self.0.insert(artifact.name().to_owned()) {
                return Err(BuildError::NameTaken { name: artifact.name().to_owned() });
            }
        }
        let names: Vec<String> = self.0.iter().map(|name| format!("`{name}`")).collect();
        let images = artifacts
            .iter()
            .map(|artifact| format!("cargo:rustc-env=AMPOULE_GUEST_{}={}", artifact.name(), artifact.path().display()));
        Ok(images.chain([format!("cargo:rustc-env=AMPOULE_GUESTS={}", names.join(", "))]).collect())
    }
}

/// Prints what cargo needs to know of these guests of this build script.
pub(crate) fn announce(artifacts: &[Artifact]) -> Result<(), BuildError> {
    static ANNOUNCED: Mutex<Announced> = Mutex::new(Announced::new());
    // Nothing panics while it is locked.
    let mut announced = ANNOUNCED.lock().unwrap_or_else(PoisonError::into_inner);
    for directive in announced.add(artifacts)? {
        println!("{directive}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDir;

    #[test]
    fn the_last_list_of_guests_has_all_of_them() {
        let dir = TestDir::new();
        let image = |name| Artifact::write(name, &[], dir.path()).unwrap();
        let mut announced = Announced::new();
        announced.add(&[image("resize")]).unwrap();
        let path = dir.path().join("ampoule/crop-2");
        assert_eq!(
            announced.add(&[image("crop-2")]).unwrap(),
            [
                format!("cargo:rustc-env=AMPOULE_GUEST_crop-2={}", path.display()),
                "cargo:rustc-env=AMPOULE_GUESTS=`crop-2`, `resize`".to_owned(),
            ]
        );
    }

    #[test]
    fn two_guests_of_one_name_are_refused() {
        let dir = TestDir::new();
        let image = Artifact::write("resize", &[], dir.path()).unwrap();
        let mut announced = Announced::new();
        announced.add(std::slice::from_ref(&image)).unwrap();
        let error = announced.add(&[image]).unwrap_err();
        assert!(matches!(error, BuildError::NameTaken { name } if name == "resize"));
    }
}
