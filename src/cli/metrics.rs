//! The process's metrics, in Prometheus's form.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use quorate::telemetry;

use super::failure::Failure;

/// Installs the process's recorder of metrics; a library must not, so the daemon does.
pub fn install() -> Result<PrometheusHandle, Failure> {
    let handle = recorder().map_err(|error| {
        Failure::query(format!("the recorder of metrics cannot be set up: {error}"))
    })?;
    telemetry::describe();
    Ok(handle)
}

fn recorder() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in telemetry::BUCKETS {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).into()), bounds)?;
    }
    builder.install_recorder()
}
