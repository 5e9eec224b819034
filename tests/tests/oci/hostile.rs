//! Registries that do what they should not.

use std::fs;

use ampoule::SnapshotFile;
use ampoule_oci::{PullError, PushError, RegistryError, pull, push};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::fake_registry::{Answer, FakeRegistry};
use super::{Chain, answer, files, plain};

#[test]
fn manifests_that_are_none_are_refused_before_a_layer_is_asked_for() {
    let hostile = Hostile::new();
    for (change, message) in [
        (json!({"artifactType": null}), "is no snapshot, but `application/vnd.oci.image.manifest.v1+json`"),
        (json!({"artifactType": "application/vnd.other"}), "is no snapshot, but `application/vnd.other`"),
        (json!({"schemaVersion": 1}), "is malformed: it is no image manifest of version 2"),
        (json!({"mediaType": "application/vnd.oci.image.index.v1+json"}), "is malformed: it is no image manifest"),
        (json!({"layers": []}), "has 0 layers, where 1 to 65 are possible"),
        (json!({"layers": vec![hostile.layer(0); 10_000]}), "has 10000 layers, where 1 to 65 are possible"),
        (json!({"layers": "x"}), "is malformed: invalid type"),
        (json!({"layers": [{"mediaType": "x", "digest": "sha256:../../x", "size": 1}]}), "is malformed: "),
        (json!({"layers": [with(hostile.layer(0), "mediaType", json!("a/b"))]}), "it has a blob of type `a/b`"),
        (json!({"layers": [with(hostile.layer(0), "size", json!(-1))]}), "is malformed: invalid value"),
        (json!({"layers": [with(hostile.layer(0), "digest", json!("md5:00"))]}), "a digest that is no SHA-256"),
        (json!({"config": with(hostile.config(), "mediaType", json!("a/b"))}), "it has a blob of type `a/b`"),
        (json!({"config": with(hostile.config(), "size", json!(1u64 << 40))}), "its configuration has 1099511627776"),
        (json!({"layers": vec![with(hostile.layer(0), "size", json!(u64::MAX)); 2]}), "and the limit is 8589934592"),
    ] {
        let error = hostile.pull(&change);
        assert!(error.contains(message), "{change}: {error}");
        let asked = hostile.registry.requests();
        assert_eq!(asked.len(), 1, "{asked:?}");
    }
}

#[test]
fn layers_that_are_not_what_the_manifest_says_are_refused() {
    let hostile = Hostile::new();
    let size = |number: usize| hostile.layer(number)["size"].as_u64().unwrap();
    let other = json!(format!("sha256:{}", "00".repeat(32)));
    for (change, message) in [
        (json!({"layers": [hostile.layer(0)]}), "it describes 2 snapshots, and there are 1 layers"),
        (json!({"layers": [hostile.layer(1), hostile.layer(0)]}), "layer 1 of `127.0.0.1"),
        (json!({"layers": [hostile.layer(0), hostile.layer(0)]}), "layer 2 of `127.0.0.1"),
        (json!({"layers": [hostile.layer(0), with(hostile.layer(1), "size", json!(size(1) - 1))]}), "at least"),
        (json!({"layers": [hostile.layer(0), with(hostile.layer(1), "size", json!(size(1) + 1))]}), "should have"),
        (json!({"layers": [hostile.layer(0), with(hostile.layer(1), "digest", other)]}), "there is no `sha256:00"),
    ] {
        let error = hostile.pull(&change);
        assert!(error.contains(message), "{change}: {error}");
    }
    let digest = hostile.layer(1)["digest"].as_str().unwrap().to_owned();
    let mut bytes = hostile.registry.blob(&digest);
    bytes[4096] ^= 1;
    hostile.registry.exchange_blob(&digest, bytes);
    let error = hostile.pull(&json!({}));
    assert!(error.starts_with(&format!("what was sent for {digest} is sha256:")), "{error}");
}

#[test]
fn a_layer_that_is_no_snapshot_is_refused_whatever_its_digest() {
    let hostile = Hostile::new();
    let text = b"not a snapshot";
    let newer = {
        let mut bytes = hostile.registry.blob(hostile.layer(1)["digest"].as_str().unwrap());
        bytes[8] = 9;
        bytes
    };
    for (bytes, message) in [(&text[..], "is not a snapshot file"), (&newer, "has version 9 of the format")] {
        let digest = hostile.registry.put_blob(bytes);
        let layer = with(with(hostile.layer(1), "digest", json!(digest)), "size", json!(bytes.len()));
        let error = hostile.pull(&json!({"layers": [hostile.layer(0), layer]}));
        assert!(error.contains("layer 2 of") && error.contains(message), "{error}");
    }
}

#[test]
fn a_file_that_only_begins_like_a_snapshot_does_not_replace_it() {
    let hostile = Hostile::new();
    let path = hostile.there.path().join("pulled.snap");
    let good = hostile.registry.blob(hostile.layer(0)["digest"].as_str().unwrap());
    let one = json!([{"digest": hostile.snapshot(0), "parent": null}]);
    let config = serde_json::to_vec(&json!({"snapshots": one})).unwrap();
    let digest = hostile.registry.put_blob(&config);
    let config = with(with(hostile.config(), "digest", json!(digest)), "size", json!(config.len()));
    fs::write(&path, &good).unwrap();
    let mut garbage = good.clone();
    *garbage.last_mut().unwrap() ^= 1;
    let layer = with(hostile.layer(0), "digest", json!(hostile.registry.put_blob(&garbage)));
    let manifest = with(with(hostile.genuine.clone(), "layers", json!([layer])), "config", config);
    hostile.registry.put_manifest("1", &manifest);
    let error = pull(&hostile.registry.reference("1"), &path, &plain()).unwrap_err();
    assert!(matches!(error, PullError::Layer { layer: 1, .. }), "{error}");
    assert!(fs::read(&path).unwrap() == good);
    assert_eq!(files(hostile.there.path()), ["pulled.snap"]);
}

#[test]
fn configurations_lead_nowhere_and_parents_not_in_circles() {
    let hostile = Hostile::new();
    let [first, second] = [0, 1].map(|number| hostile.snapshot(number));
    let one = |digest: &str, parent: Option<&str>| json!({"digest": digest, "parent": parent});
    let path = "../../../../../../tmp/evil";
    for (snapshots, message) in [
        (json!([]), "it describes 0 snapshots"),
        (json!("x"), "invalid type"),
        (json!([one(path, None), one(&second, Some(path))]), "the digest of snapshot 1 is no SHA-256"),
        (
            json!([one(&first.to_uppercase(), None), one(&second, Some(&first))]),
            "the digest of snapshot 1 is no SHA-256",
        ),
        (
            json!([one(&first, Some(&second)), one(&second, Some(&first))]),
            "the parent of snapshot 1 is not the one before",
        ),
        (json!([one(&first, None), one(&second, None)]), "the parent of snapshot 2 is not the one before it"),
        (json!([one(&second, None), one(&first, Some(&second))]), "layer 1 of"),
        (json!([one(&first, None), one(&first, Some(&first))]), "layer 2 of"),
    ] {
        let config = serde_json::to_vec(&json!({"snapshots": snapshots})).unwrap();
        let digest = hostile.registry.put_blob(&config);
        let changed = with(with(hostile.config(), "digest", json!(digest)), "size", json!(config.len()));
        let error = hostile.pull(&json!({"config": changed}));
        assert!(error.contains(message), "{snapshots}: {error}");
    }
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20)).into_bytes();
    let digest = hostile.registry.put_blob(&deep);
    let changed = with(with(hostile.config(), "digest", json!(digest)), "size", json!(deep.len()));
    assert!(hostile.pull(&json!({"config": changed})).contains("the configuration of"));
}

#[test]
fn titles_name_no_files() {
    let hostile = Hostile::new();
    let layers = [0, 1].map(|number| {
        let title = json!({"org.opencontainers.image.title": "../../evil.snap"});
        with(hostile.layer(number), "annotations", title)
    });
    let manifest = with(hostile.genuine.clone(), "layers", json!(layers));
    hostile.registry.put_manifest("1", &manifest);
    let directory = hostile.there.path().join("a/b");
    fs::create_dir_all(&directory).unwrap();
    pull(&hostile.registry.reference("1"), directory.join("pulled.snap"), &plain()).unwrap();
    assert_eq!(answer(&directory.join("pulled.snap")), 102);
    let parent = format!("{}.snap", hostile.snapshot(0));
    assert_eq!(files(&directory), [parent.as_str(), "pulled.snap"]);
    assert_eq!(files(hostile.there.path()), ["a"]);
}

#[test]
fn answers_without_an_end_are_not_read_to_it() {
    let hostile = Hostile::new();
    for (what, status, message) in [
        ("/manifests/", 200, "with more than 4194304 bytes"),
        ("/manifests/", 500, "answered 500 to `GET http://127.0.0.1:"),
        ("/blobs/", 200, "and has at least"),
        ("/blobs/", 403, "does not grant access to `team/calls` (403)"),
    ] {
        let start = match (what, status) {
            ("/blobs/", 200) => "",
            _ => "{\"errors\":[",
        };
        hostile.registry.trick(move |request| request.line.contains(what).then(|| Answer::endless(status, start)));
        let error = hostile.pull(&json!({}));
        assert!(error.contains(message) || what == "/blobs/" && error.starts_with("what was sent for"), "{error}");
    }
    // Of a layer as much is read as it should have, and a byte.
    let (digest, bytes) = {
        let digest = hostile.layer(1)["digest"].as_str().unwrap().to_owned();
        let bytes = hostile.registry.blob(&digest);
        (digest, bytes)
    };
    hostile.registry.trick(move |request| request.line.ends_with(&digest).then(|| Answer::endless(200, bytes.clone())));
    let error = hostile.pull(&json!({}));
    assert!(error.contains("and has at least"), "{error}");
}

#[test]
fn tokens_without_an_end_and_tokens_that_are_none_are_refused() {
    let hostile = Hostile::new();
    let tokens = FakeRegistry::start();
    let realm = tokens.address().to_owned();
    hostile.registry.trick(move |_| {
        Some(Answer::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"http://{realm}/token\"")))
    });
    tokens.trick(|_| Some(Answer::endless(200, "{")));
    assert!(hostile.pull(&json!({})).contains("with more than 262144 bytes"));
    for text in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\r\nX-Other: b"}"#] {
        tokens.trick(move |_| Some(Answer::new(200, text)));
        let error = hostile.pull(&json!({}));
        assert!(error.contains("whom it names for tokens has sent none"), "{error}");
    }
    for challenge in
        ["", "Bearer", "Bearer realm=\"", "Bearer service=\"x\"", "Bearer realm=\"file:///etc/passwd\"", "\u{1}"]
    {
        hostile.registry.trick(move |_| Some(Answer::new(401, "").header("WWW-Authenticate", challenge)));
        let error = pull(&hostile.registry.reference("1"), hostile.there.path().join("x"), &plain()).unwrap_err();
        assert!(matches!(error, PullError::Registry(_)), "{challenge}: {error}");
    }
}

#[test]
fn a_transfer_that_breaks_off_leaves_what_was_there() {
    let hostile = Hostile::new();
    let path = hostile.there.path().join("pulled.snap");
    fs::write(&path, "what was there before").unwrap();
    let digest = hostile.layer(1)["digest"].as_str().unwrap().to_owned();
    let bytes = hostile.registry.blob(&digest);
    hostile
        .registry
        .trick(move |request| request.line.ends_with(&digest).then(|| Answer::broken_off(&bytes[..bytes.len() - 1])));
    let error = pull(&hostile.registry.reference("1"), &path, &plain()).unwrap_err();
    assert!(matches!(error, PullError::Receive { .. } | PullError::Length { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"what was there before");
    // The parent has arrived in full, and need not arrive again. Digits of a digest come before `p`.
    let parent = format!("{}.snap", hostile.snapshot(0));
    assert_eq!(files(hostile.there.path()), [parent.as_str(), "pulled.snap"]);
    hostile.registry.trick(|_| None);
    let pulled = pull(&hostile.registry.reference("1"), &path, &plain()).unwrap();
    assert!(pulled.layers[0].was_there && !pulled.layers[1].was_there);
    assert_eq!(answer(&path), 102);
}

#[test]
fn places_for_uploads_that_are_none_are_refused_and_redirections_end() {
    let (chain, registry) = (Chain::new(), FakeRegistry::start());
    for location in ["", "somewhere", "file:///tmp/evil", "ftp://127.0.0.1/", "//"] {
        registry.trick(move |request| {
            request.line.starts_with("POST").then(|| Answer::new(202, "").header("Location", location))
        });
        let error = push(chain.path(0), &registry.reference("1"), &plain()).unwrap_err();
        assert!(matches!(error, PushError::Registry(_)), "{location}: {error}");
    }
    let here = registry.address().to_owned();
    registry.trick(move |_| Some(Answer::new(302, "").header("Location", format!("http://{here}/round"))));
    let there = TempDir::new().unwrap();
    let error = pull(&registry.reference("1"), there.path().join("x"), &plain()).unwrap_err();
    assert!(matches!(error, PullError::Registry(RegistryError::Connection { .. })), "{error}");
}

#[test]
fn what_a_registry_says_is_shown_in_one_line_without_control_characters() {
    let hostile = Hostile::new();
    hostile.registry.trick(|_| {
        let text = "{\"errors\":[{\"code\":\"\\u001b[2J\",\"message\":\"a\\nb\\u0007\"}]}";
        Some(Answer::new(500, text))
    });
    let error = hostile.pull(&json!({}));
    assert!(error.ends_with("[2J: a b"), "{error}");
    assert!(!error.contains(char::is_control), "{error:?}");
}

#[test]
fn another_manifest_than_the_digest_says_is_refused() {
    let hostile = Hostile::new();
    let pushed = push(hostile.chain.path(0), &hostile.registry.reference("2"), &plain()).unwrap();
    let other = serde_json::to_vec(&hostile.genuine).unwrap();
    hostile
        .registry
        .trick(move |request| request.line.contains("/manifests/").then(|| Answer::new(200, other.clone())));
    let reference = hostile.registry.reference("2").with_digest(pushed.digest);
    let error = pull(&reference, hostile.there.path().join("x"), &plain()).unwrap_err();
    assert!(matches!(error, PullError::Damaged { expected, .. } if expected == pushed.digest), "{error}");
}

/// A registry with a snapshot of two layers under tag `1`, and a directory to pull it to.
struct Hostile {
    chain: Chain,
    registry: FakeRegistry,
    there: TempDir,
    genuine: Value,
}

impl Hostile {
    fn new() -> Self {
        let (chain, registry) = (Chain::new(), FakeRegistry::start());
        push(chain.path(1), &registry.reference("1"), &plain()).unwrap();
        registry.requests();
        let genuine = registry.manifest("1");
        Self { chain, registry, there: TempDir::new().unwrap(), genuine }
    }

    fn layer(&self, number: usize) -> Value {
        self.genuine["layers"][number].clone()
    }

    fn config(&self) -> Value {
        self.genuine["config"].clone()
    }

    fn snapshot(&self, number: usize) -> String {
        SnapshotFile::new(self.chain.path(number)).header().unwrap().digest.to_string()
    }

    /// What pulling says once these fields of the manifest are others. It leaves no file but complete parents.
    fn pull(&self, change: &Value) -> String {
        let changed = change.as_object().unwrap().iter();
        let manifest =
            changed.fold(self.genuine.clone(), |manifest, (field, value)| with(manifest, field, value.clone()));
        self.registry.put_manifest("1", &manifest);
        let directory = self.there.path().join("destination");
        fs::create_dir(&directory).unwrap();
        let error = pull(&self.registry.reference("1"), directory.join("pulled.snap"), &plain()).unwrap_err();
        let parent = format!("{}.snap", self.snapshot(0));
        assert!(files(&directory).iter().all(|name| *name == parent), "{:?}", files(&directory));
        fs::remove_dir_all(&directory).unwrap();
        assert!(files(self.there.path()).is_empty());
        error.to_string()
    }
}

/// A JSON object with another value for a field.
fn with(mut object: Value, field: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(object.as_object_mut().unwrap().remove(field)),
        value => object[field] = value,
    }
    object
}
