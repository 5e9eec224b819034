//! Who asks: basic credentials, or a token that they are exchanged for (`Bearer`, as the distribution project describes it).
//!
//! Nothing of this is sent before the registry has asked for it, and only to the registry, or to whom it names for tokens.

use std::env;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;
use ureq::http::header::WWW_AUTHENTICATE;
use ureq::http::{Method, StatusCode};

use super::http::{Content, Http, Request, Response};
use crate::error::RegistryError;
use crate::options::Credentials;
use crate::reference::Repository;
use crate::text::printable;

/// What is known of who asks.
pub(super) struct Login {
    credentials: Credentials,
    /// The header that the registry has asked for.
    authorization: Option<String>,
}

/// What Docker's configuration has.
enum Known {
    Password(String, String),
    /// It is exchanged for tokens.
    Identity(String),
}

impl Login {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, authorization: None }
    }

    pub(super) fn authorization(&self) -> Option<String> {
        self.authorization.clone()
    }

    /// Does what the registry demands of who asks. Whether there is anything to do that was not done before.
    pub(super) fn answer(
        &mut self,
        http: &Http,
        repository: &Repository,
        response: &Response,
    ) -> Result<bool, RegistryError> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = Challenge::of(headers.iter().filter_map(|header| header.to_str().ok()));
        let known = self.known(http.registry())?;
        let new = match (&challenge, &known) {
            (Challenge::Bearer(bearer), _) => {
                Some(format!("Bearer {}", token(http, repository, bearer, known.as_ref())?))
            }
            (Challenge::Basic, Some(Known::Password(user, password))) => Some(basic(user, password)),
            _ => None,
        };
        let is_new = new.is_some() && new != self.authorization;
        self.authorization = new;
        Ok(is_new)
    }

    fn known(&self, registry: &str) -> Result<Option<Known>, RegistryError> {
        match &self.credentials {
            Credentials::Anonymous => Ok(None),
            Credentials::Password { user, password } => Ok(Some(Known::Password(user.clone(), password.clone()))),
            Credentials::Docker => of_docker(registry),
        }
    }
}

/// What a registry demands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token.
    Bearer(Bearer),
    /// A name and a password.
    Basic,
    /// Something that is not known here.
    Other,
}

/// From whom a token is to be had, and for what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    realm: Option<String>,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// What the headers of an answer say. A token is preferred, since the password stays with whoever gives it.
    pub(crate) fn of<'a>(headers: impl Iterator<Item = &'a str>) -> Self {
        let (mut bearer, mut is_basic) = (None, false);
        for challenge in headers.filter_map(|header| http_auth::parse_challenges(header).ok()).flatten() {
            let parameter = |name: &str| {
                let mut found = challenge.params.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
                found.next().map(|(_, value)| value.to_unescaped())
            };
            is_basic |= challenge.scheme.eq_ignore_ascii_case("Basic");
            if bearer.is_none() && challenge.scheme.eq_ignore_ascii_case("Bearer") {
                let (realm, service, scope) = (parameter("realm"), parameter("service"), parameter("scope"));
                bearer = Some(Bearer { realm, service, scope });
            }
        }
        match bearer {
            Some(bearer) => Self::Bearer(bearer),
            None if is_basic => Self::Basic,
            None => Self::Other,
        }
    }
}

/// What Docker's configuration has for a registry.
fn of_docker(registry: &str) -> Result<Option<Known>, RegistryError> {
    let failed =
        |reason: String| RegistryError::Credentials { registry: registry.to_owned(), reason: printable(&reason) };
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".docker"));
    let directory = env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home);
    let Some(file) = directory.map(|directory| directory.join("config.json")).filter(|file| file.exists()) else {
        return Ok(None);
    };
    let reader = BufReader::new(File::open(&file).map_err(|error| failed(format!("{}: {error}", file.display())))?);
    // Docker stores those of its own registry by an address that nothing else uses.
    let name = if registry == "index.docker.io" { "https://index.docker.io/v1/" } else { registry };
    match docker_credential::get_credential_from_reader(reader, name) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Some(Known::Password(user, password))),
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Known::Identity(token))),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // What helpers say, on standard output, where they have nothing.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

fn basic(user: &str, password: &str) -> String {
    http_auth::basic::encode_credentials(user, password)
}

/// A token from whom the registry names.
fn token(
    http: &Http,
    repository: &Repository,
    bearer: &Bearer,
    known: Option<&Known>,
) -> Result<String, RegistryError> {
    let malformed =
        |reason: &str| RegistryError::Protocol { registry: http.registry().to_owned(), reason: reason.to_owned() };
    let Bearer { realm, service, scope } = bearer;
    let realm = realm.clone().ok_or_else(|| malformed("it asks for a token and does not say from whom"))?;
    let scope = scope.clone().unwrap_or_else(|| format!("repository:{}:pull,push", repository.name));
    let mut fields = vec![("scope", scope)];
    fields.extend(service.clone().map(|service| ("service", service)));
    let form;
    let mut request = match known {
        Some(Known::Identity(token)) => {
            fields.extend(
                [("grant_type", "refresh_token"), ("client_id", "ampoule"), ("refresh_token", token)]
                    .map(|(name, value)| (name, value.to_owned())),
            );
            form = encoded(&fields);
            let mut request = Request::new(Method::POST, realm);
            request.content_type = Some("application/x-www-form-urlencoded");
            request.size = form.len() as u64;
            request.content = Content::Bytes(form.as_bytes());
            request
        }
        _ => {
            let separator = if realm.contains('?') { '&' } else { '?' };
            Request::new(Method::GET, format!("{realm}{separator}{}", encoded(&fields)))
        }
    };
    if let Some(Known::Password(user, password)) = known {
        request.authorization = Some(basic(user, password));
    }
    let name = request.name();
    let response = http.send(&mut request)?;
    if response.status() != StatusCode::OK {
        let (registry, repository) = (http.registry().to_owned(), repository.name.clone());
        return Err(RegistryError::Denied { registry, repository, status: response.status().as_u16() });
    }
    let bytes = http.bytes(response, MOST_TOKEN, &name)?;
    token_of(&bytes).ok_or_else(|| malformed("whom it names for tokens has sent none"))
}

/// The token in an answer.
pub(crate) fn token_of(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let Answer { token, access_token } = serde_json::from_slice(bytes).ok()?;
    // A header has no room for anything else.
    let is_one = |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    token.or(access_token).filter(is_one)
}

/// Fields as a query or a form has them (`application/x-www-form-urlencoded`).
fn encoded(fields: &[(&str, String)]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    };
    fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// Bytes of an answer with a token.
const MOST_TOKEN: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_known_by_its_scheme_in_any_case_and_a_token_is_preferred() {
        let text = |text: &str| Some(text.to_owned());
        let challenge = |headers: &[&str]| Challenge::of(headers.iter().copied());
        let bearer = Bearer { realm: text("https://a/t"), service: text("s, \"x\""), scope: None };
        let header = r#"bearer Realm="https://a/t", service="s, \"x\"""#;
        assert_eq!(challenge(&["Basic realm=x", header]), Challenge::Bearer(bearer));
        assert_eq!(challenge(&["BASIC realm=\"x\""]), Challenge::Basic);
        for headers in [&[][..], &[""], &["Negotiate"], &["Bearer realm=\""], &["=,="]] {
            assert_eq!(challenge(headers), Challenge::Other, "{headers:?}");
        }
    }

    #[test]
    fn fields_are_encoded_so_that_no_value_becomes_another_field() {
        let fields = [("scope", "repository:a/b:pull,push".to_owned()), ("service", "x&y=z ä".to_owned())];
        assert_eq!(encoded(&fields), "scope=repository%3Aa%2Fb%3Apull%2Cpush&service=x%26y%3Dz%20%C3%A4");
    }
}
