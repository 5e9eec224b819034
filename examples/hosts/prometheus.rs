//! Serves the metrics of a program with guests to Prometheus.
//!
//! ```text
//! cargo run --release --example prometheus
//! ```

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use ampoule::{Image, Limits, Pool, Sandbox};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

fn main() -> Result<(), Box<dyn Error>> {
    let metrics = install()?;
    let pool = pool()?;
    thread::spawn(move || {
        loop {
            if let Err(error) = greet_everybody(&pool) {
                eprintln!("{error}");
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    let listener = TcpListener::bind("127.0.0.1:9464")?;
    println!("metrics are at http://{}/metrics", listener.local_addr()?);
    for connection in listener.incoming() {
        if let Err(error) = answer(connection?, &metrics) {
            eprintln!("a scrape was not answered: {error}");
        }
    }
    Ok(())
}

/// Installs the recorder of the process, with buckets from ten microseconds to ten seconds, and enables the metrics of guests.
fn install() -> Result<PrometheusHandle, Box<dyn Error>> {
    let buckets: Vec<f64> = (-5..=1).flat_map(|power| [1.0, 2.5, 5.0].map(|step| step * 10f64.powi(power))).collect();
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &buckets)?
        .install_recorder()?;
    ampoule::enable_metrics();
    Ok(recorder)
}

fn pool() -> Result<Pool, Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("hello"))?;
    let mut sandbox = Sandbox::builder(&image).host_fn("weekday", weekday).build()?;
    let pool = Pool::builder(&sandbox.snapshot()?)
        .size(2)
        .spawn_with(|spawn| spawn.host_fn("weekday", weekday).limits(Limits::new().deadline(Duration::from_secs(1))));
    Ok(pool.build()?)
}

fn weekday() -> String {
    "Monday".to_owned()
}

fn greet_everybody(pool: &Pool) -> Result<(), Box<dyn Error>> {
    for name in ["Ada", "Grace", "Edsger"] {
        pool.take()?.call::<String>("greet", (name,))?;
    }
    Ok(())
}

/// Answers a request, whatever it asks for, with all metrics.
fn answer(mut connection: TcpStream, metrics: &PrometheusHandle) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = BufReader::new(&connection).lines();
    while request.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    metrics.run_upkeep();
    let body = metrics.render();
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn prometheus_finds_what_guests_have_done() {
        let metrics = install().unwrap();
        greet_everybody(&pool().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut scrape = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        answer(listener.accept().unwrap().0, &metrics).unwrap();
        let mut answer = String::new();
        scrape.read_to_string(&mut answer).unwrap();

        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for line in [
            "# HELP ampoule_calls_total Calls of guests, by how they ended",
            "# TYPE ampoule_calls_total counter",
            "ampoule_calls_total{outcome=\"ok\"} 3",
            "ampoule_calls_total{outcome=\"fault\"} 0",
            "ampoule_host_calls_total{function=\"weekday\",outcome=\"ok\"} 3",
            "# TYPE ampoule_call_seconds histogram",
            "ampoule_call_seconds_count 3",
            "ampoule_operations_total{operation=\"spawn\",outcome=\"ok\"} 2",
            "ampoule_pool_recycled_total 3",
        ] {
            assert!(body.lines().any(|found| found == line), "`{line}` is not in:\n{body}");
        }
    }
}
