//! Who asks.

use std::sync::{Arc, Mutex};

use ampoule_oci::{Options, PullError, PushError, RegistryError, pull, push};
use tempfile::TempDir;

use super::fake_registry::{Answer, FakeRegistry, Request};
use super::{Chain, answer, plain};

#[test]
fn basic_credentials_are_sent_when_they_are_asked_for() {
    let (chain, there, registry) = (Chain::new(), TempDir::new().unwrap(), FakeRegistry::start());
    registry.trick(basic);
    let path = there.path().join("calls.snap");
    push(chain.path(0), &registry.reference("1"), &plain().password("user", "secret")).unwrap();
    let requests = registry.requests();
    assert_eq!(requests[0].authorization, None);
    // Asked once, it says who it is from then on.
    assert!(requests[1..].iter().all(|request| request.authorization.is_some()), "{requests:?}");
    pull(&registry.reference("1"), &path, &plain().password("user", "secret")).unwrap();
    assert_eq!(answer(&path), 101);
}

#[test]
fn wrong_credentials_and_none_are_reported() {
    let (chain, there, registry) = (Chain::new(), TempDir::new().unwrap(), FakeRegistry::start());
    registry.trick(basic);
    for options in [plain(), plain().password("user", "wrong")] {
        let error = push(chain.path(0), &registry.reference("1"), &options).unwrap_err();
        assert!(matches!(error, PushError::Registry(RegistryError::Denied { status: 401, .. })), "{error}");
        let error = pull(&registry.reference("1"), there.path().join("calls.snap"), &options).unwrap_err();
        assert!(matches!(error, PullError::Registry(RegistryError::Denied { status: 401, .. })), "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
}

#[test]
fn credentials_are_exchanged_for_a_token_where_the_registry_wants_one() {
    let (chain, there, registry) = (Chain::new(), TempDir::new().unwrap(), FakeRegistry::start());
    let tokens = FakeRegistry::start();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    tokens.trick(move |request| {
        noted.lock().unwrap().push((request.query.clone(), request.authorization.clone()));
        Some(Answer::new(200, r#"{"token":"abc.def"}"#))
    });
    let realm = format!("http://{}/token", tokens.address());
    registry.trick(move |request| bearer(request, &realm));
    let options = plain().password("user", "secret");
    push(chain.path(0), &registry.reference("1"), &options).unwrap();
    let path = there.path().join("calls.snap");
    pull(&registry.reference("1"), &path, &options).unwrap();
    pull(&registry.reference("1"), &path, &plain()).unwrap();
    assert_eq!(answer(&path), 101);
    let query = "scope=repository%3Ateam%2Fcalls%3Apull&service=tests".to_owned();
    let basic = Some(BASIC.to_owned());
    assert_eq!(*asked.lock().unwrap(), [(query.clone(), basic.clone()), (query.clone(), basic), (query, None)]);
    // Whoever gives tokens knows the password, and the registry does not.
    let of_registry = registry.requests();
    assert!(of_registry.iter().all(|request| request.authorization.as_deref() != Some(BASIC)), "{of_registry:?}");
}

#[test]
fn whoever_stores_blobs_elsewhere_does_not_learn_who_asks() {
    let (chain, there, registry) = (Chain::new(), TempDir::new().unwrap(), FakeRegistry::start());
    let other = FakeRegistry::start();
    let address = other.address().to_owned();
    registry.trick(move |request| {
        let begins = request.line.starts_with("POST");
        let gets = request.line.starts_with("GET /v2/team/calls/blobs");
        let path = request.line.split_once(' ').unwrap().1;
        let elsewhere = format!("http://{address}{path}");
        basic(request).or_else(|| match (begins, gets) {
            (true, _) => {
                let place = format!("http://{address}/v2/team/calls/upload/1?state=x");
                Some(Answer::new(202, "").header("Location", place))
            }
            (_, true) => Some(Answer::new(307, "").header("Location", elsewhere)),
            _ => None,
        })
    });
    let options = plain().password("user", "secret");
    push(chain.path(0), &registry.reference("1"), &options).unwrap();
    pull(&registry.reference("1"), there.path().join("calls.snap"), &options).unwrap();
    let requests = other.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request.authorization.is_none()), "{requests:?}");
}

#[test]
fn whoever_a_redirection_leads_to_cannot_ask_who_asks() {
    let (there, registry, other) = (TempDir::new().unwrap(), FakeRegistry::start(), FakeRegistry::start());
    let address = other.address().to_owned();
    registry.trick(move |request| {
        let path = request.line.split_once(' ').unwrap().1;
        Some(Answer::new(307, "").header("Location", format!("http://{address}{path}")))
    });
    let options = plain().password("user", "secret");
    let wants_token = format!("Bearer realm=\"http://{}/token\",service=\"tests\"", other.address());
    for challenge in ["Basic realm=\"tests\"".to_owned(), wants_token] {
        other.trick(move |_| Some(Answer::new(401, "").header("WWW-Authenticate", challenge.clone())));
        let error = pull(&registry.reference("1"), there.path().join("calls.snap"), &options).unwrap_err();
        assert!(matches!(error, PullError::Registry(RegistryError::Denied { status: 401, .. })), "{error}");
        let requests = other.requests();
        assert!(requests.iter().all(|request| request.authorization.is_none()), "{requests:?}");
    }
    assert!(registry.requests().iter().all(|request| request.authorization.is_none()));
}

#[test]
fn a_password_is_in_no_debug_output() {
    assert!(!format!("{:?}", Options::new().password("user", "secret")).contains("secret"));
}

/// Lets in the user `user` with the password `secret` only.
fn basic(request: &Request) -> Option<Answer> {
    let is_known = request.authorization.as_deref() == Some(BASIC);
    (!is_known).then(|| Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"tests\""))
}

fn bearer(request: &Request, realm: &str) -> Option<Answer> {
    let is_known = request.authorization.as_deref() == Some("Bearer abc.def");
    let wanted = format!("Bearer realm=\"{realm}\",service=\"tests\",scope=\"repository:team/calls:pull\"");
    (!is_known).then(|| Answer::new(401, "").header("WWW-Authenticate", wanted))
}

/// `user:secret` in Base64.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";
