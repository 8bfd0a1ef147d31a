//! Measures what a call through the hub costs, beside a direct connection, nginx as a plain proxy,
//! and a bare Rust proxy that only parses and re-emits the envelope.
//!
//! `soak` looks for what grows in a long time instead.
//!
//! Everything runs in processes of its own on one machine; the figures are ratios first.

mod contest;
mod crowd;
mod echo;
mod floor;
mod hub;
mod load;
mod meter;
mod mortal;
mod report;
mod soak;
mod stage;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Is what may go wrong: a sentence for a person.
type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
#[command(name = "bench", about)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

/// Says which part this process plays.
#[derive(Subcommand)]
enum Part {
    /// Measure everything, print the figures and write them to a file.
    Run(RunArguments),
    /// Load the hub for a long time with servers that die, and see that nothing grows.
    Soak(soak::SoakArguments),
    /// Serve an MCP server whose tools answer at once.
    Echo {
        /// The address to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// How many tools it has.
        #[arg(long, default_value_t = 1)]
        tools: usize,
    },
    /// Serve the same over the standard input and output.
    EchoStdio,
    /// Serve an MCP server whose tools behave badly.
    Mortal {
        /// The address to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// The protocol that it speaks.
        #[arg(long, value_enum)]
        era: mortal::Era,
    },
    /// Serve the same over the standard input and output.
    MortalStdio {
        /// The protocol that it speaks.
        #[arg(long, value_enum)]
        era: mortal::Era,
        /// What it is known by from outside.
        #[arg(long)]
        mark: String,
    },
    /// Serve a proxy that parses and re-emits the envelope and does nothing else.
    Floor {
        /// The address to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// The address of the server behind it.
        #[arg(long)]
        upstream: SocketAddr,
    },
    /// Send calls to one address for a while, for a profiler to watch.
    Shoot {
        /// The address.
        #[arg(long)]
        address: SocketAddr,
        /// The endpoint.
        #[arg(long, default_value = "/mcp")]
        path: String,
        /// The hub key.
        #[arg(long)]
        key: Option<String>,
        /// The number of connections.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// For how long.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
}

/// Says what to measure, and with what.
#[derive(clap::Args)]
struct RunArguments {
    /// The release binary of the hub.
    #[arg(long)]
    mcphub: PathBuf,
    /// The nginx program, to measure it as well.
    #[arg(long)]
    nginx: Option<PathBuf>,
    /// This program as cargo builds it by itself, to measure its bare proxy as well.
    #[arg(long)]
    plain: Option<PathBuf>,
    /// The superuser's URL of a PostgreSQL for the hub.
    #[arg(long)]
    postgres: Option<String>,
    /// The file for the figures.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often each measurement is repeated; the median counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// The numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    connections: Vec<usize>,
    /// How many people the large world has.
    #[arg(long, default_value_t = 10_000)]
    people: usize,
    /// How many servers the large world has.
    #[arg(long, default_value_t = 200)]
    servers: usize,
    /// How many sessions are open at once, each with its stream.
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().part {
        Part::Run(arguments) => contest::run(&arguments),
        Part::Echo { listen, tools } => echo::serve(listen, tools),
        Part::EchoStdio => echo::serve_stdio(),
        Part::Soak(arguments) => soak::run(&arguments),
        Part::Mortal { listen, era } => mortal::serve(listen, era),
        Part::MortalStdio { era, mark: _ } => mortal::serve_stdio(era),
        Part::Floor { listen, upstream } => floor::serve(listen, upstream),
        Part::Shoot { address, path, key, connections, seconds } => {
            let shot = load::Shot::new(address, &path, key.as_deref(), "tools/call");
            load::fire(&shot, connections, std::time::Duration::from_secs_f64(seconds))
                .map(|outcome| println!("{outcome}"))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
