//! The figures of a soak, as people read them.

use std::time::Duration;

use super::Soaked;
use super::gauge::Held;
use super::ledger::{Lately, Tally};

/// Is what was seen at one moment of the load.
pub(super) struct Sample {
    /// What the hub held.
    pub(super) held: Held,
    /// What was answered since the last one.
    pub(super) lately: Lately,
    /// How long that was.
    pub(super) took: Duration,
}

/// Names a figure, and reads it off what is held.
type Figure = (&'static str, fn(&Held) -> u64);

const FIGURES: [Figure; 10] = [
    ("descriptors", |held| held.descriptors),
    ("threads", |held| held.threads),
    ("tasks", |held| held.tasks),
    ("processes", |held| held.processes),
    ("zombies", |held| held.zombies),
    ("connections", |held| held.connections),
    ("calls and streams", |held| held.leases),
    ("connections to servers", |held| held.upstreams),
    ("open sessions", |held| held.sessions),
    ("memory, MB", |held| held.memory / 1_000_000),
];

/// Prints a soak: what was held at rest and in each quarter of the load, and what became of the requests.
pub(super) fn print(name: &str, soaked: &Soaked) {
    let course = &soaked.course;
    println!("\n### {name}, a load of {} s\n", course.took.as_secs());
    println!("| median | rest before | 1st quarter | 2nd | 3rd | 4th | rest after | most |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (figure, read) in FIGURES {
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|quarter| course.median(quarter, read));
        let most = course.during.iter().map(read).max().unwrap_or_default();
        let (before, after) = (read(&course.before), read(&course.after));
        println!("| {figure} | {before} | {first} | {second} | {third} | {fourth} | {after} | {most} |");
    }
    for (figure, read) in RATES {
        let [first, second, third, fourth] =
            [0, 1, 2, 3].map(|quarter| median(&soaked.samples, quarter, read));
        println!("| {figure} | | {first:.1} | {second:.1} | {third:.1} | {fourth:.1} | | |");
    }
    print_kinds(soaked);
}

/// Names a rate, and reads it off a sample.
type Rate = (&'static str, fn(&Sample) -> f64);

const RATES: [Rate; 3] = [
    ("answers a second", |sample| sample.lately.answered as f64 / sample.took.as_secs_f64()),
    ("p50, ms", |sample| sample.lately.p50.as_secs_f64() * 1e3),
    ("p99, ms", |sample| sample.lately.p99.as_secs_f64() * 1e3),
];

fn median(samples: &[Sample], quarter: usize, read: fn(&Sample) -> f64) -> f64 {
    let (start, end) = (samples.len() * quarter / 4, samples.len() * (quarter + 1) / 4);
    let mut values: Vec<f64> = samples.iter().take(end).skip(start).map(read).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn print_kinds(soaked: &Soaked) {
    println!(
        "\n| request | answered | server failed | refused | not recorded | given up by the client | lost |\n|---|--:|--:|--:|--:|--:|--:|"
    );
    let line = |kind: &str, tally: &Tally| {
        let Tally { answered, failed, refused, unavailable, cancelled, lost } = tally;
        println!("| {kind} | {answered} | {failed} | {refused} | {unavailable} | {cancelled} | {lost} |");
    };
    let mut all = Tally::default();
    for (kind, tally) in &soaked.kinds {
        line(kind, tally);
        all.add(tally);
    }
    line("all", &all);
    let (deaths, recorded) = (&soaked.deaths, &soaked.recorded);
    println!(
        "\n{} servers were killed and {} held, {} processes killed. The log is whole: {} records, {} calls, {} outcomes.",
        deaths.killed, deaths.held, deaths.processes, recorded.records, recorded.intents, recorded.outcomes
    );
}
