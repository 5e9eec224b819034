//! What an artifact is made of: its manifest, and the configuration blob that says what its layers are.
//! `docs/oci.md` is the specification.

use ampoule::image::Function;
use ampoule::{SnapshotHeader, SnapshotInfo};
use oci_spec::image::{ImageManifest, ImageManifestBuilder, MediaType};
use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::error::PullError;
use crate::reference::Reference;
use crate::text::printable;

/// An artifact as its manifest describes it.
pub(crate) struct Artifact {
    pub(crate) config: Blob,
    /// The files, each behind the one that it is a difference from.
    pub(crate) layers: Vec<Blob>,
}

impl Artifact {
    /// The manifest's bytes. Those of the same files are the same.
    pub(crate) fn manifest(&self, chain: &[SnapshotHeader]) -> Vec<u8> {
        let layers = self.layers.iter().zip(chain).map(|(layer, header)| {
            let mut descriptor = layer.descriptor(LAYER_TYPE);
            // A general tool that pulls the artifact writes files of these names, which can be loaded.
            let title = (TITLE.to_owned(), file_name(&header.digest.to_string()));
            descriptor.set_annotations(Some([title].into()));
            descriptor
        });
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .artifact_type(ARTIFACT_TYPE)
            .config(self.config.descriptor(CONFIG_TYPE))
            .layers(layers.collect::<Vec<_>>())
            .build()
            .expect("all that a manifest must have is set");
        serde_json::to_vec(&manifest).expect("a manifest is text and numbers")
    }

    /// Reads a manifest that somebody has sent. Its layers may have so many bytes together.
    pub(crate) fn parse(reference: &Reference, bytes: &[u8], limit: u64) -> Result<Self, PullError> {
        let malformed = |reason: &str| PullError::Manifest { reference: reference.clone(), reason: printable(reason) };
        let kind: Kind = serde_json::from_slice(bytes).map_err(|error| malformed(&error.to_string()))?;
        if kind.artifact_type.as_deref() != Some(ARTIFACT_TYPE) {
            let found = kind.artifact_type.or(kind.media_type).unwrap_or_else(|| "of no type".to_owned());
            return Err(PullError::NotASnapshot { reference: reference.clone(), found: printable(&found) });
        }
        let manifest: ImageManifest = serde_json::from_slice(bytes).map_err(|error| malformed(&error.to_string()))?;
        if manifest.schema_version() != SCHEMA_VERSION || manifest.media_type() != &Some(MediaType::ImageManifest) {
            return Err(malformed("it is no image manifest of version 2"));
        }
        let found = manifest.layers().len();
        if !(1..=MOST_LAYERS).contains(&found) {
            return Err(PullError::Layers { reference: reference.clone(), found, most: MOST_LAYERS });
        }
        let typed = [(manifest.config(), CONFIG_TYPE)];
        for (descriptor, expected) in typed.into_iter().chain(manifest.layers().iter().map(|layer| (layer, LAYER_TYPE)))
        {
            let found = descriptor.media_type();
            if found.as_ref() != expected {
                return Err(malformed(&format!("it has a blob of type `{found}` where `{expected}` is expected")));
            }
        }
        let blob =
            |descriptor| Blob::described(descriptor).ok_or_else(|| malformed("it has a digest that is no SHA-256"));
        let config = blob(manifest.config())?;
        let layers: Vec<Blob> = manifest.layers().iter().map(blob).collect::<Result<_, _>>()?;
        if config.size > MOST_CONFIG {
            return Err(malformed(&format!(
                "its configuration has {} bytes, and at most {MOST_CONFIG} are possible",
                config.size
            )));
        }
        let size = layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
        if size > limit {
            return Err(PullError::TooLarge { reference: reference.clone(), size, limit });
        }
        Ok(Self { config, layers })
    }
}

/// What decides whether a manifest is to be looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    artifact_type: Option<String>,
}

/// The configuration blob: what is known of a snapshot without its layers.
#[derive(Debug, Serialize)]
pub(crate) struct Config<'a> {
    architecture: u32,
    kind: &'static str,
    name: &'a str,
    image: ImageRecord,
    memory_limit: usize,
    processor: &'a [String],
    snapshots: Vec<SnapshotRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exports: Option<Vec<FunctionRecord<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    imports: Option<Vec<FunctionRecord<'a>>>,
}

#[derive(Debug, Serialize)]
struct ImageRecord {
    digest: String,
    size: usize,
}

/// A layer's snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    /// 64 hexadecimal digits.
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) parent: Option<String>,
}

#[derive(Debug, Serialize)]
struct FunctionRecord<'a> {
    name: &'a str,
    signature: String,
}

impl<'a> Config<'a> {
    /// That of the last snapshot of a chain.
    pub(crate) fn of(info: &'a SnapshotInfo, chain: &[SnapshotHeader], last: &SnapshotHeader) -> Self {
        let functions = |functions: &mut dyn Iterator<Item = &'a Function>| functions.map(FunctionRecord::of).collect();
        let image = info.image.as_ref();
        Self {
            architecture: last.architecture,
            kind: if image.is_some() { "guest" } else { "program" },
            name: &info.name,
            image: ImageRecord {
                digest: last.image_digest.iter().map(|byte| format!("{byte:02x}")).collect(),
                size: info.image_size,
            },
            memory_limit: info.memory_limit,
            processor: &info.features,
            snapshots: chain.iter().map(SnapshotRecord::of).collect(),
            exports: image.map(|image| functions(&mut image.exports())),
            imports: image.map(|image| functions(&mut image.imports())),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a configuration is text and numbers")
    }
}

impl SnapshotRecord {
    /// What a file's header says.
    pub(crate) fn of(header: &SnapshotHeader) -> Self {
        Self { digest: header.digest.to_string(), parent: header.parent.map(|parent| parent.to_string()) }
    }
}

impl<'a> FunctionRecord<'a> {
    fn of(function: &'a Function) -> Self {
        Self { name: function.name(), signature: function.signature().to_string() }
    }
}

/// The snapshots of the layers, from a configuration that somebody has sent: as many as there are layers, each the parent of
/// the next, and with digests that are some.
pub(crate) fn snapshots(reference: &Reference, config: &[u8], layers: usize) -> Result<Vec<SnapshotRecord>, PullError> {
    #[derive(Deserialize)]
    struct Read {
        snapshots: Vec<SnapshotRecord>,
    }
    let malformed = |reason: String| PullError::Config { reference: reference.clone(), reason };
    let Read { snapshots } =
        serde_json::from_slice(config).map_err(|error| malformed(printable(&error.to_string())))?;
    if snapshots.len() != layers {
        return Err(malformed(format!("it describes {} snapshots, and there are {layers} layers", snapshots.len())));
    }
    let mut parent = None;
    for (index, snapshot) in snapshots.iter().enumerate() {
        let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
        if snapshot.digest.len() != 64 || !snapshot.digest.bytes().all(is_digit) {
            return Err(malformed(format!("the digest of snapshot {} is no SHA-256", index + 1)));
        }
        if snapshot.parent.as_ref() != parent {
            return Err(malformed(format!("the parent of snapshot {} is not the one before it", index + 1)));
        }
        parent = Some(&snapshot.digest);
    }
    Ok(snapshots)
}

/// The name of a parent's file.
pub(crate) fn file_name(snapshot: &str) -> String {
    format!("{snapshot}.snap")
}

/// What kind of artifact this is.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.ampoule.snapshot.v1";

/// The types of its blobs.
const CONFIG_TYPE: &str = "application/vnd.ampoule.snapshot.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.ampoule.snapshot.layer.v1";

/// The annotation by which general tools name a layer's file (OCI image specification, `annotations.md`).
const TITLE: &str = "org.opencontainers.image.title";

/// The version of manifests (OCI image specification, `manifest.md`).
const SCHEMA_VERSION: u32 = 2;

/// A snapshot, and the 64 parents that it can have.
const MOST_LAYERS: usize = 65;

/// Bytes of a configuration: what a registry has to accept of a manifest (OCI distribution specification, "Pushing manifests").
pub(crate) const MOST_CONFIG: u64 = 4 << 20;
