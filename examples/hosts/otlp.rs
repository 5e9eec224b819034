//! Sends the spans of a program and of its guests to a collector of OpenTelemetry, by OTLP over HTTP.
//!
//! ```text
//! docker run --rm -p 16686:16686 -p 4318:4318 jaegertracing/jaeger   # or another collector
//! cargo run --release --example otlp
//! ```

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use ampoule::{Image, Sandbox};
use opentelemetry::Value;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;

fn main() -> Result<(), Box<dyn Error>> {
    let provider = provider("http://127.0.0.1:4318/v1/traces")?;
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    let spans = spans.with_filter(LevelFilter::from_level(Level::DEBUG));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans))?;
    work()?;
    // What has not been sent is sent now.
    provider.shutdown()?;
    Ok(())
}

/// One trace of the application: everything below this span.
fn work() -> Result<(), Box<dyn Error>> {
    let _request = tracing::info_span!("request", path = "/checkout").entered();
    let image = Image::embedded(ampoule::include_guest!("checkout"))?;
    let mut sandbox = Sandbox::builder(&image).name("shop-1").log_level(Level::INFO).host_fn("price", price).build()?;
    sandbox.call::<u32>("checkout", (vec!["lamp"],))?;
    sandbox.reset()?;
    Ok(())
}

fn price(_article: String) -> u32 {
    4990
}

/// Sends what ends, many at once, on a thread of its own.
fn provider(collector: &str) -> Result<SdkTracerProvider, Box<dyn Error>> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Plain)
        .with_protocol(Protocol::HttpJson)
        .with_endpoint(collector)
        .build()?;
    let resource = Resource::builder().with_service_name("shop").build();
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(GuestTimes(exporter)).build())
}

/// Gives spans of guests the times at which they began and ended there, which they have in attributes. The log, and so the
/// layer that makes OpenTelemetry's spans of it, is told of them later, when the guest leaves the processor.
#[derive(Debug)]
struct GuestTimes<E>(E);

impl<E: SpanExporter> SpanExporter for GuestTimes<E> {
    async fn export(&self, mut spans: Vec<SpanData>) -> OTelSdkResult {
        for span in &mut spans {
            if let [Some(start), Some(end)] = ["guest.start_ns", "guest.end_ns"].map(|key| time(span, key)) {
                (span.start_time, span.end_time) = (start, end);
                span.events.events.iter_mut().for_each(|event| event.timestamp = event.timestamp.clamp(start, end));
            }
        }
        self.0.export(spans).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// The time in an attribute, which counts nanoseconds since 1970.
fn time(span: &SpanData, key: &str) -> Option<SystemTime> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key.as_str() == key)?;
    match attribute.value {
        Value::I64(nanoseconds) => Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds.try_into().ok()?)),
        _ => None,
    }
}

/// HTTP to a collector nearby, without TLS. An application may have a client already, for which `opentelemetry-http` has
/// features.
#[derive(Debug)]
struct Plain;

#[async_trait::async_trait]
impl HttpClient for Plain {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri();
        let host = uri.authority().ok_or("the collector's address has no host")?.as_str();
        let mut connection = TcpStream::connect(host)?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        let length = request.body().len();
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method(), uri.path());
        head += &format!("Host: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n");
        for (name, value) in request.headers() {
            head += &format!("{name}: {}\r\n", value.to_str()?);
        }
        connection.write_all(format!("{head}\r\n").as_bytes())?;
        connection.write_all(request.body())?;

        let mut answer = BufReader::new(connection.take(1 << 20));
        let mut line = String::new();
        answer.read_line(&mut line)?;
        let status: u16 = line.split(' ').nth(1).ok_or("the collector does not answer by HTTP")?.parse()?;
        // What it says beyond that is not needed.
        Ok(Response::builder().status(status).body(Bytes::new())?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::TcpListener;
    use std::thread;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_collector_gets_host_and_guest_as_one_trace() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = provider(&format!("http://{}/v1/traces", listener.local_addr().unwrap())).unwrap();
        let collector = thread::spawn(move || collect(&listener));
        let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
        let spans = spans.with_filter(LevelFilter::from_level(Level::DEBUG));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(spans), || work().unwrap());
        provider.shutdown().unwrap();

        let message = collector.join().unwrap();
        let scopes = message["resourceSpans"][0]["scopeSpans"].as_array().unwrap();
        let spans: Vec<&Value> = scopes.iter().flat_map(|scope| scope["spans"].as_array().unwrap()).collect();
        let by_id: HashMap<_, _> = spans.iter().map(|span| (span["spanId"].as_str().unwrap(), *span)).collect();
        let parent =
            |span: &Value| by_id.get(span["parentSpanId"].as_str().unwrap_or("")).map(|span| span["name"].clone());
        let mut found: Vec<_> = spans.iter().map(|span| (span["name"].clone(), parent(span))).collect();
        found.sort_by_key(|(name, _)| name.to_string());
        let within = |name: &str, parent: Option<&str>| (json!(name), parent.map(|parent| json!(parent)));
        let expected = [
            within("add up", Some("checkout")),
            within("article", Some("look up")),
            within("call", Some("request")),
            within("checkout", Some("call")),
            within("create", Some("request")),
            within("host_function", Some("article")),
            within("look up", Some("checkout")),
            within("request", None),
            within("restore", Some("request")),
            within("snapshot", Some("create")),
            within("start", Some("create")),
        ];
        assert_eq!(found, expected);
        assert!(spans.iter().all(|span| span["traceId"] == spans[0]["traceId"]));

        let call = spans.iter().find(|span| span["name"] == "call").unwrap();
        let function = json!({ "key": "function", "value": { "stringValue": "checkout" } });
        assert!(call["attributes"].as_array().unwrap().contains(&function), "{call}");
        // Each is within the one around it, whichever side it is of.
        let times = |span: &Value| {
            ["startTimeUnixNano", "endTimeUnixNano"].map(|time| span[time].as_str().unwrap().parse::<u64>().unwrap())
        };
        for span in &spans {
            let [start, end] = times(span);
            assert!(start < end, "{span}");
            if let Some(parent) = by_id.get(span["parentSpanId"].as_str().unwrap_or("")) {
                let [earlier, later] = times(parent);
                assert!(earlier <= start && end <= later, "{span} in {parent}");
            }
        }
        let starts: Vec<_> =
            ["look up", "add up"].map(|name| times(spans.iter().find(|span| span["name"] == name).unwrap())[0]).into();
        assert!(starts[0] < starts[1]);
    }

    /// Answers one request as a collector does, and returns what was sent.
    fn collect(listener: &TcpListener) -> Value {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = BufReader::new(connection.try_clone().unwrap());
        let (mut length, mut line) = (0, String::new());
        while request.read_line(&mut line).unwrap() > 2 {
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        request.read_exact(&mut body).unwrap();
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}
