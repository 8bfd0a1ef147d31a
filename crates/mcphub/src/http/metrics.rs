//! `/metrics`: the hub's state in numbers, in Prometheus' text format 0.0.4, for this machine alone.

use std::fmt::Display;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use mcphub_hub::counters::{BUCKETS, Counts};
use mcphub_hub::{BreakerState, Metrics};
use tokio::runtime::Handle;

use crate::http::AppState;
use crate::http::error::unknown_path;
use crate::http::peer::{self, ClientAddress};
use crate::http::places::Places;

/// Routes the page.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/metrics", get(show))
}

/// Reads what the listener and the runtimes hold.
pub(super) struct Gauges {
    runtimes: Vec<Handle>,
    places: Arc<Places>,
}

/// Is what they hold at one moment.
#[derive(Clone, Copy)]
struct Held {
    connections: usize,
    tasks: usize,
    sessions: usize,
}

impl Gauges {
    /// Reads these runtimes, and the places of the listener.
    pub(super) const fn new(runtimes: Vec<Handle>, places: Arc<Places>) -> Self {
        Self { runtimes, places }
    }

    fn read(&self, sessions: usize) -> Held {
        let tasks = self.runtimes.iter().map(|runtime| runtime.metrics().num_alive_tasks()).sum();
        Held { connections: self.places.taken(), tasks, sessions }
    }
}

async fn show(
    State(state): State<AppState>,
    Extension(address): Extension<ClientAddress>,
    headers: HeaderMap,
) -> Response {
    if !peer::is_local(address, &headers) {
        return unknown_path().await.into_response();
    }
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let held = state.gauges.read(state.live.count());
    (kind, write(&state.hub.metrics(), held)).into_response()
}

/// Writes families of samples.
#[derive(Default)]
struct Page(String);

fn write(metrics: &Metrics, held: Held) -> String {
    let mut page = Page::default();
    write_calls(&mut page, &metrics.counts);
    page.family("mcphub_refusals_total", "counter", "Refusals, by reason.");
    for (reason, count) in &metrics.counts.refusals {
        page.sample("mcphub_refusals_total", &[("reason", reason)], count);
    }
    write_servers(&mut page, metrics);
    let connections = "Connections of clients.";
    page.single("mcphub_connections", "gauge", connections, held.connections);
    let tasks = "Tasks in all runtimes that have not ended.";
    page.single("mcphub_tasks", "gauge", tasks, held.tasks);
    let sessions = "Sessions of clients with an open stream, a subscription or a running call.";
    page.single("mcphub_open_sessions", "gauge", sessions, held.sessions);
    page.single("mcphub_leases", "gauge", "Open streams and running calls.", metrics.leases);
    let lost = "Records that were lost while the log could not be written; never an intent.";
    page.single("mcphub_audit_dropped_records_total", "counter", lost, metrics.dropped_records);
    page.single("mcphub_world_revision", "gauge", "The revision of the world in memory.", metrics.world);
    page.0
}

fn write_calls(page: &mut Page, counts: &Counts) {
    page.family("mcphub_calls_total", "counter", "Ended calls, by how they ended.");
    for (status, count) in &counts.calls {
        page.sample("mcphub_calls_total", &[("status", status)], count);
    }
    page.family("mcphub_call_seconds", "histogram", "How long calls took.");
    let mut sum = 0;
    let bounds = BUCKETS.iter().map(|micros| seconds(*micros)).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(&counts.latencies) {
        sum += count;
        page.sample("mcphub_call_seconds_bucket", &[("le", &bound)], sum);
    }
    page.sample("mcphub_call_seconds_sum", &[], seconds(counts.micros));
    page.sample("mcphub_call_seconds_count", &[], sum);
}

fn write_servers(page: &mut Page, metrics: &Metrics) {
    page.family(
        "mcphub_upstream_state",
        "gauge",
        "The state of each server's breaker: 1 is the current one.",
    );
    for (name, state) in &metrics.servers {
        for (word, current) in [
            ("closed", matches!(state.breaker, BreakerState::Closed)),
            ("half-open", matches!(state.breaker, BreakerState::HalfOpen)),
            ("open", matches!(state.breaker, BreakerState::Open { .. })),
        ] {
            page.sample("mcphub_upstream_state", &[("server", name), ("state", &word)], u8::from(current));
        }
    }
    page.family("mcphub_upstream_connections", "gauge", "Open connections, child processes included.");
    for (name, state) in &metrics.servers {
        page.sample("mcphub_upstream_connections", &[("server", name)], state.connections);
    }
    page.family("mcphub_upstream_processes", "gauge", "Running child processes.");
    for (name, state) in &metrics.servers {
        page.sample("mcphub_upstream_processes", &[("server", name)], state.processes);
    }
    let counts = &metrics.upstreams;
    page.single(
        "mcphub_upstream_starts_total",
        "counter",
        "Child processes that were started.",
        counts.starts,
    );
    let again = "Child processes that were started again after they ended unasked.";
    page.single("mcphub_upstream_restarts_total", "counter", again, counts.restarts);
    let slow = "Notifications that were lost because a client read too slowly.";
    page.single("mcphub_dropped_notifications_total", "counter", slow, counts.dropped_notifications);
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let written: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(&value.to_string()))).collect();
        self.0.push_str(&match written.as_slice() {
            [] => format!("{name} {value}\n"),
            written => format!("{name}{{{}}} {value}\n", written.join(",")),
        });
    }
}

/// Escapes a label's value.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Writes microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use mcphub_domain::audit::{CallStatus, Refusal};

    use super::{BUCKETS, Counts, Held, Metrics, write};

    const HELD: Held = Held { connections: 8, tasks: 9, sessions: 6 };

    fn metrics() -> Metrics {
        let mut latencies = vec![0; BUCKETS.len() + 1];
        latencies[0] = 2;
        latencies[BUCKETS.len()] = 1;
        Metrics {
            counts: Counts {
                calls: BTreeMap::from([(CallStatus::Ok, 3)]),
                refusals: BTreeMap::from([(Refusal::NoKey, 4)]),
                latencies,
                micros: 12_000_345,
            },
            leases: 5,
            dropped_records: 0,
            servers: Vec::new(),
            upstreams: Default::default(),
            world: 7,
        }
    }

    #[test]
    fn every_sample_belongs_to_a_family_with_a_proper_name() {
        let text = write(&metrics(), HELD);
        let names: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        for name in &names {
            assert!(name.starts_with("mcphub_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(names.contains(name) || names.contains(family.unwrap()), "{line}");
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn numbers_stand_under_their_labels_and_buckets_add_up() {
        let text = write(&metrics(), HELD);
        for line in [
            "mcphub_calls_total{status=\"ok\"} 3",
            "mcphub_refusals_total{reason=\"no-key\"} 4",
            "mcphub_call_seconds_bucket{le=\"0.000250\"} 2",
            "mcphub_call_seconds_bucket{le=\"10.000000\"} 2",
            "mcphub_call_seconds_bucket{le=\"+Inf\"} 3",
            "mcphub_call_seconds_sum 12.000345",
            "mcphub_call_seconds_count 3",
            "mcphub_connections 8",
            "mcphub_tasks 9",
            "mcphub_open_sessions 6",
            "mcphub_leases 5",
            "mcphub_world_revision 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
