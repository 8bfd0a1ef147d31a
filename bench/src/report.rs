//! The figures as people read them: ratios first.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use crate::Failure;

/// The contestant whose processor time is 1.
const FLOOR: &str = "bare Rust proxy";

/// Is what one contestant came to at one number of connections.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Calls a second.
    pub(crate) rate: f64,
    /// The median latency.
    pub(crate) p50: Duration,
    /// The latency that one call in a hundred exceeds.
    pub(crate) p99: Duration,
    /// Processor time for each call in µs, user and system.
    pub(crate) processor: f64,
    /// Resident memory in bytes.
    pub(crate) memory: u64,
}

impl Figures {
    /// Takes the median of each figure over the rounds.
    pub(crate) fn median(rounds: Vec<Self>) -> Self {
        Self {
            rate: median(rounds.iter().map(|figures| figures.rate)),
            p50: Duration::from_secs_f64(median(rounds.iter().map(|figures| figures.p50.as_secs_f64()))),
            p99: Duration::from_secs_f64(median(rounds.iter().map(|figures| figures.p99.as_secs_f64()))),
            processor: median(rounds.iter().map(|figures| figures.processor)),
            memory: rounds.iter().map(|figures| figures.memory).max().unwrap_or_default(),
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Collects what was measured.
pub(crate) struct Report {
    machine: String,
    tables: String,
    notes: Vec<String>,
}

impl Report {
    /// Begins a report of a machine.
    pub(crate) fn new(machine: String) -> Self {
        println!("{machine}");
        Self { machine, tables: String::new(), notes: Vec::new() }
    }

    /// Adds a table: all contestants at one number of connections.
    pub(crate) fn calls(&mut self, title: &str, rows: Vec<(&str, Figures)>) {
        let floor = rows.iter().find(|(name, _)| *name == FLOOR).map(|(_, figures)| figures.processor);
        let mut table = format!(
            "\n### {title}\n\n\
             | | CPU ÷ bare proxy | CPU µs/call | calls/s | p50 µs | p99 µs | memory MB |\n|---|--:|--:|--:|--:|--:|--:|\n"
        );
        for (name, figures) in &rows {
            let ratio = floor.map(|floor| format!("{:.2}", figures.processor / floor)).unwrap_or_default();
            let line = writeln!(
                table,
                "| {name} | {ratio} | {:.1} | {:.0} | {} | {} | {} |",
                figures.processor,
                figures.rate,
                figures.p50.as_micros(),
                figures.p99.as_micros(),
                figures.memory / 1_000_000
            );
            debug_assert!(line.is_ok(), "a text takes every line");
        }
        println!("{table}");
        self.tables += &table;
    }

    /// Adds a figure that stands alone.
    pub(crate) fn note(&mut self, text: String) {
        println!("{text}");
        self.notes.push(text);
    }

    /// Writes the report to a file, if there is one.
    pub(crate) fn finish(self, file: Option<&Path>) -> Result<(), Failure> {
        let Some(file) = file else { return Ok(()) };
        let notes: String = self.notes.iter().map(|note| format!("- {note}\n")).collect();
        let text = format!(
            "# Benchmarks\n\nWritten by `cargo xtask bench`. Machine: {}. All processes share it, so ratios say more \
             than figures. Each figure is the median of its rounds; the contestants took turns.\n{}\n### Other figures\n\n{notes}",
            self.machine, self.tables
        );
        Ok(std::fs::write(file, text)?)
    }
}
