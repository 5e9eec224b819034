//! What metrics cost: the same calls before and after they are enabled, with a recorder that applications use.

use std::error::Error;

use ampoule::{Image, Sandbox};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::measure::Bench;
use crate::snapshots::settings;

/// Enables the metrics of the process.
pub(crate) fn measure(bench: &mut Bench, image: &Image) -> Result<(), Box<dyn Error>> {
    let mut sandbox = settings(Sandbox::builder(image)).build()?;
    rows(bench, &mut sandbox, "metrics off")?;
    let recorder = PrometheusBuilder::new().install_recorder()?;
    ampoule::enable_metrics();
    rows(bench, &mut sandbox, "metrics on")?;
    // What a scrape would take together.
    drop(recorder.render());
    Ok(())
}

fn rows(bench: &mut Bench, sandbox: &mut Sandbox, metrics: &str) -> Result<(), Box<dyn Error>> {
    let empty = sandbox.typed_fn::<(), ()>("empty")?;
    bench.calls(&format!("empty call, {metrics}"), 40, sandbox, |sandbox| empty.call(sandbox, ()))?;
    let count = sandbox.typed_fn::<(u32,), u32>("count_on_host")?;
    bench.calls(&format!("call with ten host functions, {metrics}"), 10, sandbox, |sandbox| {
        count.call(sandbox, (10,))
    })?;
    Ok(())
}
