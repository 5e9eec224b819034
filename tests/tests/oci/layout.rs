//! Image layouts.

use std::fs;
use std::process::Command;

use ampoule::{LoadSnapshotError, SnapshotFile};
use ampoule_oci::{LayoutError, Options, PullError, PushError, Reference, pull, push};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Chain, answer, files, names, received, sent};

#[test]
fn a_snapshot_that_went_through_a_layout_answers() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let layout = layout(&there, "1");
    let pushed = push(chain.path(0), &layout, &Options::new()).unwrap();
    assert_eq!(sent(&pushed), [true]);
    drop(chain);
    let path = there.path().join("pulled.snap");
    let pulled = pull(&layout, &path, &Options::new()).unwrap();
    assert_eq!((pulled.digest, received(&pulled)), (pushed.digest, vec![true]));
    assert_eq!(answer(&path), 101);
}

#[test]
fn only_what_differs_is_written_again() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let path = |number: usize| there.path().join(format!("{number}.snap"));
    for (number, expected) in [(0, &[true][..]), (1, &[false, true]), (2, &[false, false, true])] {
        let layout = layout(&there, &number.to_string());
        let pushed = push(chain.path(number), &layout, &Options::new()).unwrap();
        assert_eq!(sent(&pushed), expected);
        let pulled = pull(&layout, path(number), &Options::new()).unwrap();
        assert_eq!(received(&pulled), expected);
        assert_eq!(answer(&path(number)), 101 + number as u32);
    }
    let again = pull(&layout(&there, "2"), path(2), &Options::new()).unwrap();
    assert_eq!(received(&again), [false; 3]);
    // Parents under other names are as good, and no files were added.
    assert_eq!(names(&again), ["0.snap", "1.snap", "2.snap"]);
    assert_eq!(files(there.path()), ["0.snap", "1.snap", "2.snap", "layout"]);
}

#[test]
fn parents_that_are_not_there_are_stored_by_their_digests() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let pushed = push(chain.path(2), &layout(&there, "1"), &Options::new()).unwrap();
    let directory = there.path().join("destination");
    fs::create_dir(&directory).unwrap();
    let pulled = pull(&layout(&there, "1"), directory.join("calls.snap"), &Options::new()).unwrap();
    let parents = pushed.layers[..2].iter().map(|layer| format!("{}.snap", layer.snapshot));
    assert_eq!(names(&pulled), parents.chain(["calls.snap".to_owned()]).collect::<Vec<_>>());
    assert_eq!(answer(&directory.join("calls.snap")), 103);
}

#[test]
fn one_version_after_the_other_is_pulled_into_one_file() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let path = there.path().join("calls.snap");
    for number in 0..3 {
        push(chain.path(number), &layout(&there, "latest"), &Options::new()).unwrap();
        let pulled = pull(&layout(&there, "latest"), &path, &Options::new()).unwrap();
        let received = received(&pulled);
        assert_eq!(received.iter().filter(|received| **received).count(), 1, "{received:?}");
        assert_eq!(answer(&path), 101 + number as u32);
    }
}

#[test]
fn a_tag_moves_and_a_digest_does_not() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let tag = layout(&there, "now");
    let first = push(chain.path(0), &tag, &Options::new()).unwrap();
    let second = push(chain.path(1), &tag, &Options::new()).unwrap();
    assert_ne!(first.digest, second.digest);
    assert_eq!(push(chain.path(1), &tag, &Options::new()).unwrap().digest, second.digest);
    let path = there.path().join("pulled.snap");
    assert_eq!(pull(&tag, &path, &Options::new()).unwrap().digest, second.digest);
    pull(&tag.with_digest(first.digest), &path, &Options::new()).unwrap();
    assert_eq!(answer(&path), 101);
    let index: Value = serde_json::from_slice(&fs::read(there.path().join("layout/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
}

#[test]
fn whoever_reads_the_blobs_finds_files_that_can_be_loaded() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let pushed = push(chain.path(0), &layout(&there, "1"), &Options::new()).unwrap();
    let hex = pushed.layers[0].digest.to_string().replace("sha256:", "");
    let blob = there.path().join("layout/blobs/sha256").join(hex);
    assert_eq!(fs::read(&blob).unwrap(), fs::read(chain.path(0)).unwrap());
    assert_eq!(answer(&blob), 101);
}

#[test]
fn what_is_no_layout_and_what_is_not_in_it_is_reported() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let path = there.path().join("pulled.snap");
    let error = |reference: &Reference| match pull(reference, &path, &Options::new()).unwrap_err() {
        PullError::Layout(error) => error,
        error => panic!("{error}"),
    };
    let reference = layout(&there, "1");
    assert!(matches!(error(&reference), LayoutError::NotALayout { .. }));
    let pushed = push(chain.path(0), &reference, &Options::new()).unwrap();
    assert!(matches!(error(&layout(&there, "2")), LayoutError::NotFound { what, .. } if what == "2"));
    let blobs = there.path().join("layout/blobs/sha256");
    let manifest = blobs.join(pushed.digest.to_string().replace("sha256:", ""));
    let text = fs::read(&manifest).unwrap();
    fs::write(&manifest, text.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
    assert!(matches!(error(&reference), LayoutError::Malformed { path, .. } if path == manifest));
    fs::remove_file(&manifest).unwrap();
    assert!(matches!(error(&reference), LayoutError::NotFound { .. }));
    // A pipe, which nobody writes to.
    assert!(Command::new("mkfifo").arg(&manifest).status().unwrap().success());
    assert!(matches!(error(&reference), LayoutError::Read { path, .. } if path == manifest));

    let index = there.path().join("layout/index.json");
    fs::write(&index, "{").unwrap();
    assert!(matches!(error(&reference), LayoutError::Malformed { path, .. } if path == index));
    fs::File::create(&index).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(error(&reference), LayoutError::TooLong { path, .. } if path == index));
    fs::write(there.path().join("layout/oci-layout"), r#"{"imageLayoutVersion": "2.0.0"}"#).unwrap();
    assert!(matches!(error(&reference), LayoutError::Version { found, .. } if found == "2.0.0"));

    // A directory with something else in it does not become a layout.
    let used = Reference::layout(chain.path(0).parent().unwrap(), "1").unwrap();
    let error = push(chain.path(0), &used, &Options::new()).unwrap_err();
    assert!(matches!(error, PushError::Layout(LayoutError::NotALayout { .. })), "{error}");
    assert_eq!(files(there.path()), ["layout"]);
}

#[test]
fn a_blob_that_is_damaged_is_refused_and_mended_by_the_next_push() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let reference = layout(&there, "1");
    let pushed = push(chain.path(1), &reference, &Options::new()).unwrap();
    let blob =
        there.path().join("layout/blobs/sha256").join(pushed.layers[1].digest.to_string().replace("sha256:", ""));
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let path = there.path().join("pulled.snap");
    fs::write(&path, "what was there before").unwrap();
    let error = pull(&reference, &path, &Options::new()).unwrap_err();
    assert!(matches!(error, PullError::Damaged { expected, .. } if expected == pushed.layers[1].digest), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"what was there before");
    let again = push(chain.path(1), &reference, &Options::new()).unwrap();
    assert_eq!(sent(&again), [false, true]);
    pull(&reference, &path, &Options::new()).unwrap();
    assert_eq!(answer(&path), 102);
}

#[test]
fn only_what_can_be_loaded_is_pushed_and_only_under_a_tag() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let reference = layout(&there, "1");
    fs::remove_file(chain.path(0)).unwrap();
    let error = push(chain.path(1), &reference, &Options::new()).unwrap_err();
    assert!(matches!(error, PushError::Snapshot(LoadSnapshotError::MissingParent { .. })), "{error}");
    let chain = Chain::new();
    let mut bytes = fs::read(chain.path(0)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(chain.path(0), bytes).unwrap();
    for number in 0..2 {
        let error = push(chain.path(number), &reference, &Options::new()).unwrap_err();
        assert!(matches!(error, PushError::Snapshot(LoadSnapshotError::Damaged { .. })), "{error}");
    }
    assert!(!there.path().join("layout").exists());
    let digest = format!("oci:{}@sha256:{}", there.path().display(), "00".repeat(32)).parse().unwrap();
    let error = push(chain.path(0), &digest, &Options::new()).unwrap_err();
    assert!(matches!(error, PushError::Digest { .. }), "{error}");
}

#[test]
fn a_file_cannot_have_the_name_of_its_own_parent() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    push(chain.path(1), &layout(&there, "1"), &Options::new()).unwrap();
    let parent = SnapshotFile::new(chain.path(0)).header().unwrap().digest;
    let path = there.path().join(format!("{parent}.snap"));
    let error = pull(&layout(&there, "1"), &path, &Options::new()).unwrap_err();
    assert!(matches!(error, PullError::NameOfParent { .. }), "{error}");
    assert_eq!(files(there.path()), ["layout"]);
}

#[test]
fn what_others_have_written_to_an_index_stays() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    push(chain.path(0), &layout(&there, "1"), &Options::new()).unwrap();
    let path = there.path().join("layout/index.json");
    let read = || -> Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
    let mut index = read();
    let subject = index["manifests"][0].clone();
    let (annotations, artifact_type) = (json!({"org.example.owner": "us"}), json!("application/vnd.example"));
    index["annotations"] = annotations.clone();
    index["artifactType"] = artifact_type.clone();
    index["subject"] = subject.clone();
    fs::write(&path, index.to_string()).unwrap();
    push(chain.path(1), &layout(&there, "2"), &Options::new()).unwrap();
    let index = read();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
    assert_eq!((&index["annotations"], &index["artifactType"]), (&annotations, &artifact_type));
    assert_eq!(index["subject"]["digest"], subject["digest"]);
}

#[test]
fn a_layout_whose_creation_was_interrupted_is_completed_by_the_next_push() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let directory = there.path().join("layout");
    fs::create_dir_all(directory.join("blobs")).unwrap();
    fs::write(directory.join(".ampoule-x"), "{").unwrap();
    push(chain.path(0), &layout(&there, "1"), &Options::new()).unwrap();
    // All but the marker: the index stays.
    fs::remove_file(directory.join("oci-layout")).unwrap();
    push(chain.path(1), &layout(&there, "2"), &Options::new()).unwrap();
    for (tag, expected) in [("1", 101), ("2", 102)] {
        let path = there.path().join("pulled.snap");
        pull(&layout(&there, tag), &path, &Options::new()).unwrap();
        assert_eq!(answer(&path), expected);
    }
}

fn layout(there: &TempDir, tag: &str) -> Reference {
    Reference::layout(there.path().join("layout"), tag).unwrap()
}
