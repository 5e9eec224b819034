//! A registry that somebody else has written. `scripts/test-registry` starts it, once open and once with a password.

use std::env;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ampoule_oci::{PullError, PushError, Reference, RegistryError, pull, push};
use tempfile::TempDir;

use super::{Chain, answer, plain, received, sent};

#[test]
#[ignore = "it needs a registry: scripts/test-registry"]
fn only_what_differs_travels_to_a_registry_and_from_there() {
    let (chain, there, counter) = (Chain::new(), TempDir::new().unwrap(), Counter::before(&registry()));
    let path = there.path().join("calls.snap");
    let reference = reference(&counter.address, "travels");
    let mut bytes = Vec::new();
    for (number, expected) in [(0, &[true][..]), (1, &[false, true]), (2, &[false, false, true])] {
        let pushed = push(chain.path(number), &reference, &plain()).unwrap();
        assert_eq!(sent(&pushed), expected);
        let up = counter.take();
        let pulled = pull(&reference, &path, &plain()).unwrap();
        assert_eq!((pulled.digest, received(&pulled).as_slice()), (pushed.digest, expected));
        assert_eq!(answer(&path), 101 + number as u32);
        let size = pushed.layers[number].size;
        bytes.push((size, up, counter.take()));
    }
    // What is sent beside the layer: requests, their answers, and descriptions.
    let beside = 64 << 10;
    for (size, up, down) in &bytes {
        assert!((*size..size + beside).contains(up) && (*size..size + beside).contains(down), "{bytes:?}");
    }
    assert!(bytes[1].0 < bytes[0].0 / 2, "a difference is small: {bytes:?}");
}

#[test]
#[ignore = "it needs a registry: scripts/test-registry"]
fn a_tag_moves_in_a_registry_and_a_digest_stays() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let tag = reference(&registry(), "moves");
    let path = there.path().join("calls.snap");
    let first = push(chain.path(0), &tag, &plain()).unwrap();
    let second = push(chain.path(1), &tag, &plain()).unwrap();
    assert_eq!(pull(&tag, &path, &plain()).unwrap().digest, second.digest);
    pull(&tag.with_digest(first.digest), &path, &plain()).unwrap();
    assert_eq!(answer(&path), 101);
}

#[test]
#[ignore = "it needs a registry: scripts/test-registry"]
fn what_a_registry_does_not_have_is_reported() {
    let there = TempDir::new().unwrap();
    let error = pull(&reference(&registry(), "missing"), there.path().join("x"), &plain()).unwrap_err();
    assert!(matches!(error, PullError::Registry(RegistryError::NotFound { .. })), "{error}");
}

#[test]
#[ignore = "it needs a registry: scripts/test-registry"]
fn a_registry_with_a_password_lets_in_whoever_knows_it() {
    let (chain, there) = (Chain::new(), TempDir::new().unwrap());
    let reference = reference(&address("TEST_REGISTRY_WITH_PASSWORD"), "secret");
    let path = there.path().join("calls.snap");
    for options in [plain(), plain().password("user", "wrong")] {
        let error = push(chain.path(0), &reference, &options).unwrap_err();
        assert!(matches!(error, PushError::Registry(RegistryError::Denied { status: 401, .. })), "{error}");
    }
    let options = plain().password("user", "secret");
    push(chain.path(0), &reference, &options).unwrap();
    let error = pull(&reference, &path, &plain()).unwrap_err();
    assert!(matches!(error, PullError::Registry(RegistryError::Denied { status: 401, .. })), "{error}");
    pull(&reference, &path, &options).unwrap();
    assert_eq!(answer(&path), 101);
}

fn registry() -> String {
    address("TEST_REGISTRY")
}

fn address(variable: &str) -> String {
    env::var(variable).expect("scripts/test-registry sets it")
}

/// Each test has a repository of its own.
fn reference(registry: &str, name: &str) -> Reference {
    format!("{registry}/tests/{name}:1").parse().unwrap()
}

/// Passes on connections, and counts the bytes of both directions.
struct Counter {
    address: String,
    bytes: Arc<AtomicU64>,
}

impl Counter {
    fn before(registry: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let counter = Self { address: listener.local_addr().unwrap().to_string(), bytes: Arc::default() };
        let (registry, bytes) = (registry.to_owned(), Arc::clone(&counter.bytes));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&registry).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let bytes = Arc::clone(&bytes);
                    thread::spawn(move || pass_on(from, to, &bytes));
                }
            }
        });
        counter
    }

    /// Bytes since the last time. All that has been answered has been counted.
    fn take(&self) -> u64 {
        self.bytes.swap(0, Ordering::SeqCst)
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, bytes: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return to.shutdown(Shutdown::Write),
            read => {
                bytes.fetch_add(read as u64, Ordering::SeqCst);
                to.write_all(&buffer[..read])?;
            }
        }
    }
}
