//! The rule that all errors keep, for each variant.

use std::path::PathBuf;

use ampoule::LoadSnapshotError;
use ampoule_error_rule::{each_variant, refusal};

use crate::blob::Digest;
use crate::{LayoutError, ParseReferenceError, PullError, PushError, Reference, RegistryError};

#[test]
fn errors_say_everything_once() {
    let text = || "team/python".to_owned();
    let path = || PathBuf::from("/some/where");
    let digest = || Digest::of(b"");
    let reference = || "registry.example/team/python".parse::<Reference>().unwrap();
    let snapshot = || LoadSnapshotError::Read { path: path(), reason: refusal() };
    each_variant!(ParseReferenceError {
        ParseReferenceError::Name { .. } => ParseReferenceError::Name { text: text(), reason: text() },
        ParseReferenceError::NoDirectory { .. } => ParseReferenceError::NoDirectory { text: text() },
        ParseReferenceError::Tag { .. } => ParseReferenceError::Tag { text: text() },
        ParseReferenceError::Digest { .. } => ParseReferenceError::Digest { text: text() },
    });
    each_variant!(RegistryError {
        RegistryError::Connection { .. } => RegistryError::Connection { registry: text(), reason: text() },
        RegistryError::Tls { .. } => RegistryError::Tls { registry: text(), reason: text() },
        RegistryError::Credentials { .. } => RegistryError::Credentials { registry: text(), reason: text() },
        RegistryError::Denied { .. } => RegistryError::Denied { registry: text(), repository: text(), status: 401 },
        RegistryError::NotFound { .. } => RegistryError::NotFound { registry: text(), what: text() },
        RegistryError::Status { .. } => {
            RegistryError::Status { registry: text(), request: text(), status: 500, reason: text() }
        },
        RegistryError::TooLong { .. } => RegistryError::TooLong { registry: text(), request: text(), most: 1 },
        RegistryError::Protocol { .. } => RegistryError::Protocol { registry: text(), reason: text() },
    });
    each_variant!(LayoutError {
        LayoutError::NotALayout { .. } => LayoutError::NotALayout { directory: path() },
        LayoutError::Version { .. } => LayoutError::Version { path: path(), found: text() },
        LayoutError::NotFound { .. } => LayoutError::NotFound { directory: path(), what: text() },
        LayoutError::Malformed { .. } => LayoutError::Malformed { path: path(), reason: text() },
        LayoutError::TooLong { .. } => LayoutError::TooLong { path: path(), most: 1 },
        LayoutError::Read { .. } => LayoutError::Read { path: path(), reason: refusal() },
        LayoutError::Write { .. } => LayoutError::Write { path: path(), reason: refusal() },
    });
    let layout = || LayoutError::NotALayout { directory: path() };
    let registry = || RegistryError::Protocol { registry: text(), reason: text() };
    each_variant!(PushError {
        PushError::Snapshot(_) => PushError::Snapshot(snapshot()),
        PushError::Read { .. } => PushError::Read { path: path(), reason: refusal() },
        PushError::TooManyFunctions { .. } => PushError::TooManyFunctions { size: 2, most: 1 },
        PushError::Digest { .. } => PushError::Digest { reference: reference() },
        PushError::Registry(_) => PushError::Registry(registry()),
        PushError::Layout(_) => PushError::Layout(layout()),
    });
    each_variant!(PullError {
        PullError::Registry(_) => PullError::Registry(registry()),
        PullError::Layout(_) => PullError::Layout(layout()),
        PullError::NotASnapshot { .. } => PullError::NotASnapshot { reference: reference(), found: text() },
        PullError::Manifest { .. } => PullError::Manifest { reference: reference(), reason: text() },
        PullError::Layers { .. } => PullError::Layers { reference: reference(), found: 66, most: 65 },
        PullError::Config { .. } => PullError::Config { reference: reference(), reason: text() },
        PullError::TooLarge { .. } => PullError::TooLarge { reference: reference(), size: 2, limit: 1 },
        PullError::Receive { .. } => PullError::Receive { blob: digest(), reason: refusal() },
        PullError::Length { .. } => {
            PullError::Length { blob: digest(), expected: 1, found: 2, is_longer: true }
        },
        PullError::Damaged { .. } => PullError::Damaged { expected: digest(), found: digest() },
        PullError::Layer { .. } => PullError::Layer { reference: reference(), layer: 1, reason: Box::new(snapshot()) },
        PullError::WrongSnapshot { .. } => PullError::WrongSnapshot { reference: reference(), layer: 1 },
        PullError::NameOfParent { .. } => PullError::NameOfParent { path: path() },
        PullError::Write { .. } => PullError::Write { path: path(), reason: refusal() },
    });
}
