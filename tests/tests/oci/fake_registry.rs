//! A registry in memory that does what the distribution specification says, unless a test has it do something else.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use ampoule_oci::Reference;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The registry. Its threads end with the process.
pub(crate) struct FakeRegistry {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    requests: Vec<Request>,
    trick: Option<Trick>,
}

/// What a test has the registry answer instead, to those requests for which it returns something.
type Trick = Arc<dyn Fn(&Request) -> Option<Answer> + Send + Sync>;

/// A request as the registry has received it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and path, without the query.
    pub(crate) line: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// An answer.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

enum Body {
    Bytes(Vec<u8>),
    /// These bytes, and then more than anybody has memory for.
    Endless(Vec<u8>),
    /// Fewer bytes than are promised.
    BrokenOff(Vec<u8>),
}

impl FakeRegistry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let state = Arc::clone(&served);
                // Whoever has asked may not want the whole answer.
                thread::spawn(move || drop(serve(connection, &state)));
            }
        });
        Self { address, state }
    }

    /// A tag in its repository.
    pub(crate) fn reference(&self, tag: &str) -> Reference {
        format!("{}/team/calls:{tag}", self.address).parse().unwrap()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Answers what this returns, where it returns something.
    pub(crate) fn trick(&self, trick: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) {
        self.state.lock().unwrap().trick = Some(Arc::new(trick));
    }

    /// What was asked for since this was called last.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    pub(crate) fn manifest(&self, tag: &str) -> Value {
        serde_json::from_slice(&self.state.lock().unwrap().manifests[tag]).unwrap()
    }

    pub(crate) fn put_manifest(&self, tag: &str, manifest: &Value) {
        let bytes = serde_json::to_vec(manifest).unwrap();
        self.state.lock().unwrap().manifests.insert(tag.to_owned(), bytes);
    }

    pub(crate) fn blob(&self, digest: &str) -> Vec<u8> {
        self.state.lock().unwrap().blobs[digest].clone()
    }

    /// Stores a blob, and returns its digest.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        self.state.lock().unwrap().blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// Has other bytes sent for a digest.
    pub(crate) fn exchange_blob(&self, digest: &str, bytes: Vec<u8>) {
        self.state.lock().unwrap().blobs.insert(digest.to_owned(), bytes);
    }
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes(body.into()) }
    }

    /// A body without an end.
    pub(crate) fn endless(status: u16, start: impl Into<Vec<u8>>) -> Self {
        Self { body: Body::Endless(start.into()), ..Self::new(status, "") }
    }

    /// A connection that ends before the body does.
    pub(crate) fn broken_off(start: impl Into<Vec<u8>>) -> Self {
        Self { body: Body::BrokenOff(start.into()), ..Self::new(200, "") }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn serve(connection: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(&connection);
    let Ok(request) = read_request(&mut reader) else {
        // Whoever speaks TLS to it, for example.
        return (&connection).write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    };
    let is_head = request.line.starts_with("HEAD ");
    let trick = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        state.trick.clone()
    };
    let answer = trick.and_then(|trick| trick(&request)).unwrap_or_else(|| state.lock().unwrap().answer(&request));
    let mut writer = &connection;
    write!(writer, "HTTP/1.1 {} Answer\r\nConnection: close\r\n", answer.status)?;
    for (name, value) in &answer.headers {
        write!(writer, "{name}: {value}\r\n")?;
    }
    match answer.body {
        Body::Bytes(bytes) => {
            write!(writer, "Content-Length: {}\r\n\r\n", bytes.len())?;
            if is_head { Ok(()) } else { writer.write_all(&bytes) }
        }
        Body::Endless(bytes) => {
            write!(writer, "\r\n")?;
            writer.write_all(&bytes)?;
            loop {
                writer.write_all(&[b' '; 1 << 16])?;
            }
        }
        Body::BrokenOff(bytes) => {
            write!(writer, "Content-Length: {}\r\n\r\n", bytes.len() + 1)?;
            writer.write_all(&bytes)
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let length = header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (method, target) = lines[0].trim_end_matches(" HTTP/1.1").split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (line, query) = (format!("{method} {path}"), query.to_owned());
    Ok(Request { line, query, authorization: header("authorization"), body })
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        let (method, path) = request.line.split_once(' ').unwrap();
        let Some(path) = path.strip_prefix("/v2/team/calls/") else { return Answer::new(404, "") };
        match (method, path.split_once('/').unwrap()) {
            ("GET", ("manifests", reference)) => {
                let by_digest = || self.manifests.values().find(|bytes| digest(bytes) == reference);
                found(self.manifests.get(reference).or_else(by_digest))
            }
            ("PUT", ("manifests", tag)) => {
                self.manifests.insert(tag.to_owned(), request.body.clone());
                Answer::new(201, "")
            }
            ("POST", ("blobs", "uploads/")) => {
                Answer::new(202, "").header("Location", "/v2/team/calls/upload/1?state=x")
            }
            ("PUT", ("upload", "1")) => match request.query.strip_prefix("state=x&digest=") {
                Some(expected) if digest(&request.body) == expected => {
                    self.blobs.insert(expected.to_owned(), request.body.clone());
                    Answer::new(201, "")
                }
                _ => Answer::new(400, r#"{"errors":[{"code":"DIGEST_INVALID","message":"it is another one"}]}"#),
            },
            ("GET" | "HEAD", ("blobs", digest)) => found(self.blobs.get(digest)),
            _ => Answer::new(405, ""),
        }
    }
}

fn found(bytes: Option<&Vec<u8>>) -> Answer {
    match bytes {
        Some(bytes) => Answer::new(200, bytes.clone()),
        None => Answer::new(404, r#"{"errors":[{"code":"UNKNOWN","message":"no such thing"}]}"#),
    }
}
