//! Requests and answers. No answer is longer than is wanted of it, and none takes for ever.

use std::io::{self, Read};
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use ureq::http::{self, Method, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

use crate::blob::Exactly;
use crate::error::RegistryError;
use crate::text::printable;

pub(super) type Response = http::Response<Body>;

/// Connections with one registry.
pub(super) struct Http {
    agent: Agent,
    /// Host and port.
    registry: String,
    is_plain: bool,
}

/// What is asked for.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) address: String,
    pub(super) accept: Option<&'static str>,
    pub(super) content_type: Option<&'static str>,
    pub(super) authorization: Option<String>,
    /// How many bytes are sent or expected: how long it may take.
    pub(super) size: u64,
    pub(super) content: Content<'a>,
}

pub(super) enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    /// As many bytes as the request's size.
    Stream(&'a mut dyn Read),
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, address: String) -> Self {
        let (accept, content_type, authorization) = (None, None, None);
        Self { method, address, accept, content_type, authorization, size: 0, content: Content::None }
    }

    /// What messages call it: without what belongs to one upload only.
    pub(super) fn name(&self) -> String {
        let address = self.address.split('?').next().unwrap_or_default();
        printable(&format!("{} {address}", self.method))
    }
}

impl Http {
    pub(super) fn new(registry: &str, is_plain: bool) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .https_only(!is_plain)
            .user_agent(concat!("ampoule/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECTING))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE));
        // No proxy leads to this machine.
        if is_loopback(registry) {
            config = config.proxy(None);
        }
        Self { agent: Agent::new_with_config(config.build()), registry: registry.to_owned(), is_plain }
    }

    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    /// Scheme, host and port of the registry.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.is_plain { "http" } else { "https" }, self.registry)
    }

    pub(super) fn send(&self, request: &mut Request<'_>) -> Result<Response, RegistryError> {
        let address: Uri =
            request.address.parse().map_err(|error: http::uri::InvalidUri| self.malformed(&error.to_string()))?;
        let mut built = http::Request::builder().method(request.method.clone()).uri(address);
        let authorization = request.authorization.as_deref();
        let headers = [(ACCEPT, request.accept), (CONTENT_TYPE, request.content_type), (AUTHORIZATION, authorization)];
        for (name, value) in headers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            built = built.header(name, value);
        }
        let has_content =
            !matches!(request.content, Content::None) || [Method::POST, Method::PUT].contains(&request.method);
        if has_content {
            built = built.header(CONTENT_LENGTH, request.size);
        }
        let timeout = WHOLE + Duration::from_secs(request.size / LEAST_RATE);
        match &mut request.content {
            Content::None => self.run(built, SendBody::none(), timeout),
            Content::Bytes(content) => self.run(built, SendBody::from_reader(&mut &content[..]), timeout),
            Content::Stream(content) => {
                self.run(built, SendBody::from_reader(&mut Exactly::new(content, request.size)), timeout)
            }
        }
    }

    fn run(
        &self,
        request: http::request::Builder,
        body: SendBody<'_>,
        timeout: Duration,
    ) -> Result<Response, RegistryError> {
        let request = request.body(body).map_err(|error| self.malformed(&error.to_string()))?;
        let request = self.agent.configure_request(request).timeout_per_call(Some(timeout)).build();
        self.agent.run(request).map_err(|error| self.failure(&error))
    }

    fn malformed(&self, reason: &str) -> RegistryError {
        RegistryError::Protocol { registry: self.registry.clone(), reason: printable(reason) }
    }

    /// Whether an address is one of the registry itself, which may know who asks.
    pub(super) fn is_own(&self, address: &str) -> bool {
        let rest = address.strip_prefix(&self.origin());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }

    /// All of an answer that is short.
    pub(super) fn bytes(&self, response: Response, most: u64, request: &str) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let read = response.into_body().into_reader().take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error| RegistryError::Connection {
            registry: self.registry.clone(),
            reason: printable(&error.to_string()),
        })?;
        if bytes.len() as u64 > most {
            return Err(RegistryError::TooLong { registry: self.registry.clone(), request: request.to_owned(), most });
        }
        Ok(bytes)
    }

    /// Where an answer says that something is to be sent.
    pub(super) fn location(&self, response: &Response) -> Result<String, RegistryError> {
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
        let is_absolute = location.starts_with("https://") || self.is_plain && location.starts_with("http://");
        match location {
            _ if is_absolute => Ok(location.to_owned()),
            _ if location.starts_with('/') => Ok(format!("{}{location}", self.origin())),
            _ => Err(RegistryError::Protocol {
                registry: self.registry.clone(),
                reason: printable(&format!("it names `{location}` as the place for an upload")),
            }),
        }
    }

    fn failure(&self, error: &ureq::Error) -> RegistryError {
        let registry = self.registry.clone();
        let is_insecure = match error {
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::RequireHttpsOnly(_) => true,
            // What is no TLS comes from below as data that is invalid.
            ureq::Error::Io(error) => !self.is_plain && error.kind() == io::ErrorKind::InvalidData,
            _ => false,
        };
        let reason = printable(&error.to_string());
        match is_insecure {
            true => RegistryError::Tls { registry, reason },
            false => RegistryError::Connection { registry, reason },
        }
    }
}

/// What an answer with an error says about it.
pub(super) fn reason(response: Response) -> String {
    let mut bytes = Vec::new();
    // A body that breaks off says what has arrived of it.
    let _ = response.into_body().into_reader().take(MOST_REASON).read_to_end(&mut bytes);
    reason_of(&bytes)
}

/// What the body of such an answer says.
pub(crate) fn reason_of(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice(bytes) {
        Ok(Errors { errors }) if !errors.is_empty() => format!("{}: {}", errors[0].code, errors[0].message),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    match printable(&text) {
        text if text.is_empty() => "it does not say why".to_owned(),
        text => text,
    }
}

/// Whether a registry is on this machine.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// How long it may take to be connected.
const CONNECTING: Duration = Duration::from_secs(30);

/// How long a registry may be silent.
const SILENCE: Duration = Duration::from_secs(120);

/// How long a request and its answer may take, and bytes by which it may take a second more.
const WHOLE: Duration = Duration::from_secs(300);
const LEAST_RATE: u64 = 64 << 10;

/// Bytes that are read of what is said about an error.
const MOST_REASON: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_on_this_machine_is_known_by_its_name() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["registry.example", "localhost.example:5000", "10.0.0.1", "[2001:db8::1]:5000"] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
