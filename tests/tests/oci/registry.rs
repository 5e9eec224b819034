//! Registries that do what they should.

use std::fs;

use ampoule_oci::{PullError, RegistryError, pull, push};
use serde_json::json;
use tempfile::TempDir;

use super::fake_registry::{Answer, FakeRegistry};
use super::{Chain, answer, plain};

#[test]
fn a_snapshot_that_went_through_a_registry_answers_and_only_what_differs_travels() {
    let (chain, there, registry) = (Chain::new(), TempDir::new().unwrap(), FakeRegistry::start());
    let path = there.path().join("calls.snap");
    for number in 0..3 {
        push(chain.path(number), &registry.reference("latest"), &plain()).unwrap();
        let sent: Vec<_> = registry.requests().into_iter().filter(|request| request.line.contains("PUT")).collect();
        // The layer, the configuration, and the manifest.
        assert_eq!(sent.len(), 3, "{number}");
        let size = fs::metadata(chain.path(number)).unwrap().len();
        assert_eq!(sent[0].body.len() as u64, size);
        assert!(sent[1].body.len() + sent[2].body.len() < 16 << 10);

        let pulled = pull(&registry.reference("latest"), &path, &plain()).unwrap();
        let asked: Vec<_> = registry.requests().into_iter().map(|request| request.line).collect();
        assert_eq!(asked.len(), 3, "{asked:?}");
        assert!(asked[2].contains(&pulled.layers[number].digest.to_string()), "{asked:?}");
        assert_eq!(answer(&path), 101 + number as u32);
    }
}

#[test]
fn the_manifest_is_the_documented_one() {
    let (chain, registry) = (Chain::new(), FakeRegistry::start());
    let pushed = push(chain.path(1), &registry.reference("1"), &plain()).unwrap();
    let manifest = registry.manifest("1");
    let config = manifest["config"]["digest"].as_str().unwrap();
    let layers = pushed.layers.iter().map(|layer| {
        json!({
            "mediaType": "application/vnd.ampoule.snapshot.layer.v1",
            "digest": layer.digest.to_string(),
            "size": layer.size,
            "annotations": { "org.opencontainers.image.title": format!("{}.snap", layer.snapshot) },
        })
    });
    let expected = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.ampoule.snapshot.v1",
        "config": {
            "mediaType": "application/vnd.ampoule.snapshot.config.v1+json",
            "digest": config,
            "size": registry.blob(config).len(),
        },
        "layers": layers.collect::<Vec<_>>(),
    });
    assert_eq!(manifest, expected);
    let config: serde_json::Value = serde_json::from_slice(&registry.blob(config)).unwrap();
    assert_eq!(config["architecture"], 62);
    assert_eq!((&config["kind"], &config["name"]), (&json!("guest"), &json!("calls")));
    let [first, second] = [0, 1].map(|index| pushed.layers[index].snapshot.to_string());
    let snapshots = json!([{ "digest": first, "parent": null }, { "digest": second, "parent": first }]);
    assert_eq!(config["snapshots"], snapshots);
    let increment = json!({ "name": "increment", "signature": "() -> u32" });
    assert!(config["exports"].as_array().unwrap().contains(&increment), "{config}");
    assert!(config["processor"].as_array().unwrap().iter().all(serde_json::Value::is_string), "{config}");
    assert_eq!(config["image"]["digest"].as_str().unwrap().len(), 64);
}

#[test]
fn a_tag_that_is_not_there_and_a_registry_that_is_not_are_reported() {
    let (there, registry) = (TempDir::new().unwrap(), FakeRegistry::start());
    let path = there.path().join("calls.snap");
    let error = pull(&registry.reference("missing"), &path, &plain()).unwrap_err();
    assert!(matches!(error, PullError::Registry(RegistryError::NotFound { .. })), "{error}");
    assert!(error.to_string().starts_with("there is no `127.0.0.1:"), "{error}");
    // Port 1 is nobody's.
    let nobody = "127.0.0.1:1/team/calls".parse().unwrap();
    let error = pull(&nobody, &path, &plain()).unwrap_err();
    assert!(matches!(error, PullError::Registry(RegistryError::Connection { .. })), "{error}");
}

#[test]
fn a_registry_without_tls_is_spoken_to_only_where_that_was_asked_for() {
    let (chain, registry) = (Chain::new(), FakeRegistry::start());
    let error = push(chain.path(0), &registry.reference("1"), &plain().plain_http(false)).unwrap_err();
    assert!(error.to_string().contains("one without TLS"), "{error}");
    assert!(registry.requests().is_empty());
}

#[test]
fn blobs_may_be_somewhere_else() {
    let (chain, there, registry, other) =
        (Chain::new(), TempDir::new().unwrap(), FakeRegistry::start(), FakeRegistry::start());
    let pushed = push(chain.path(0), &registry.reference("1"), &plain()).unwrap();
    push(chain.path(0), &other.reference("1"), &plain()).unwrap();
    let digest = pushed.layers[0].digest.to_string();
    let address = other.address().to_owned();
    registry.trick(move |request| {
        let is_it = request.line.ends_with(&digest);
        let path = request.line.split_once(' ').unwrap().1;
        is_it.then(|| Answer::new(307, "").header("Location", format!("http://{address}{path}")))
    });
    let path = there.path().join("calls.snap");
    pull(&registry.reference("1"), &path, &plain()).unwrap();
    assert_eq!(answer(&path), 101);
}
