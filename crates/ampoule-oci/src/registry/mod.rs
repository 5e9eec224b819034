//! Registries: blobs and manifests by HTTP, as the OCI distribution specification has it.
//!
//! Answers are bounded ([`http`]), and whoever asks says who he is only when the registry wants to know ([`login`]).

mod http;
mod login;

use std::io::Read;

use ureq::ResponseExt as _;
use ureq::http::{Method, StatusCode};

use crate::blob::Blob;
use crate::error::RegistryError;
use crate::options::Options;
use crate::reference::{Repository, Which};
use crate::store::{MOST_MANIFEST, Store};
#[cfg(fuzzing)]
pub(crate) use http::reason_of;
#[cfg(fuzzing)]
pub(crate) use login::{Challenge, token_of};

use http::{Content, Http, Request, Response};
use login::Login;

/// A repository of a registry, and what of it is wanted.
pub(crate) struct Registry {
    repository: Repository,
    http: Http,
    login: Login,
}

impl Registry {
    pub(crate) fn new(repository: Repository, options: &Options) -> Self {
        let http = Http::new(&repository.registry, options.plain_http);
        Self { repository, http, login: Login::new(options.credentials.clone()) }
    }

    /// The address of something in the repository.
    fn address(&self, of: &str) -> String {
        format!("{}/v2/{}/{of}", self.http.origin(), self.repository.name)
    }

    /// Asks, and asks again with credentials where the registry wants some.
    fn ask(&mut self, mut request: Request<'_>) -> Result<Response, RegistryError> {
        // An upload may go to somebody else.
        let is_own = self.http.is_own(&request.address);
        request.authorization = self.login.authorization().filter(|_| is_own);
        let response = self.http.send(&mut request)?;
        // Whoever a redirection leads to is not told who asks, whatever it answers.
        let is_answer_own = self.http.is_own(&response.get_uri().to_string());
        // A stream can be sent only once, and what comes before it has told who asks.
        let can_repeat = is_own && is_answer_own && !matches!(request.content, Content::Stream(..));
        if response.status() != StatusCode::UNAUTHORIZED || !can_repeat {
            return Ok(response);
        }
        let is_answered = self.login.answer(&self.http, &self.repository, &response)?;
        if !is_answered {
            return Ok(response);
        }
        request.authorization = self.login.authorization();
        self.http.send(&mut request)
    }

    /// An answer with one of these states. Any other is the error that it stands for.
    fn expect(&mut self, request: Request<'_>, what: &str, expected: &[StatusCode]) -> Result<Response, RegistryError> {
        let named = request.name();
        let response = self.ask(request)?;
        let (registry, status) = (self.repository.registry.clone(), response.status());
        if expected.contains(&status) {
            return Ok(response);
        }
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                RegistryError::Denied { registry, repository: self.repository.name.clone(), status: status.as_u16() }
            }
            StatusCode::NOT_FOUND => RegistryError::NotFound { registry, what: what.to_owned() },
            _ => RegistryError::Status {
                registry,
                request: named,
                status: status.as_u16(),
                reason: http::reason(response),
            },
        })
    }

    fn which(&self) -> String {
        match &self.repository.which {
            Which::Tag(tag) => tag.clone(),
            Which::Digest(digest) => digest.to_string(),
        }
    }
}

impl Store for Registry {
    type Error = RegistryError;

    fn manifest(&mut self) -> Result<Vec<u8>, RegistryError> {
        let mut request = Request::new(Method::GET, self.address(&format!("manifests/{}", self.which())));
        request.accept = Some(MANIFEST_TYPE);
        let (name, what) = (request.name(), self.repository.to_string());
        let response = self.expect(request, &what, &[StatusCode::OK])?;
        self.http.bytes(response, MOST_MANIFEST, &name)
    }

    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read>, RegistryError> {
        let mut request = Request::new(Method::GET, self.address(&format!("blobs/{}", blob.digest)));
        request.size = blob.size;
        let response = self.expect(request, &blob.digest.to_string(), &[StatusCode::OK])?;
        Ok(Box::new(response.into_body().into_reader()))
    }

    fn has_blob(&mut self, blob: &Blob) -> Result<bool, RegistryError> {
        let request = Request::new(Method::HEAD, self.address(&format!("blobs/{}", blob.digest)));
        let expected = [StatusCode::OK, StatusCode::NOT_FOUND];
        let response = self.expect(request, &blob.digest.to_string(), &expected)?;
        Ok(response.status() == StatusCode::OK)
    }

    fn put_blob(&mut self, blob: &Blob, content: &mut dyn Read) -> Result<(), RegistryError> {
        let begin = Request::new(Method::POST, self.address("blobs/uploads/"));
        let what = self.repository.name.clone();
        let response = self.expect(begin, &what, &[StatusCode::ACCEPTED])?;
        let location = self.http.location(&response)?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let mut send = Request::new(Method::PUT, format!("{location}{separator}digest={}", blob.digest));
        send.content_type = Some("application/octet-stream");
        send.size = blob.size;
        send.content = Content::Stream(content);
        self.expect(send, &what, &[StatusCode::CREATED])?;
        Ok(())
    }

    fn put_manifest(&mut self, manifest: &[u8]) -> Result<(), RegistryError> {
        let mut request = Request::new(Method::PUT, self.address(&format!("manifests/{}", self.which())));
        request.content_type = Some(MANIFEST_TYPE);
        request.size = manifest.len() as u64;
        request.content = Content::Bytes(manifest);
        let what = self.repository.to_string();
        self.expect(request, &what, &[StatusCode::CREATED])?;
        Ok(())
    }
}

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
