//! `mcphub serve`: from the start to the end of a serving hub.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mcphub_hub::{Hub, LastHead, Process, Readiness};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::answer::Answer;
use super::failure::Failure;
use crate::config::Config;
use crate::http::Lanes;
use crate::{Machine, http};

/// How long what runs may take to end.
const END: Duration = Duration::from_secs(10);

/// Is a hub that is open and has its address, but accepts nobody yet.
pub(crate) struct Running {
    /// The hub.
    pub(crate) hub: Arc<Hub>,
    /// The configuration, with the address that the listener got.
    pub(crate) config: Config,
    listener: TcpListener,
    signals: Signals,
}

/// Is what asks the process to end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Running {
    /// Takes the address, then opens the hub: nothing is touched if somebody else has the address.
    pub(crate) async fn start(mut config: Config, machine: &Machine) -> Result<Self, Failure> {
        config.check_listener()?;
        let signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
        let listener = listen(config.listen).await?;
        let address = listener.local_addr().map_err(|error| Failure::io("the listener", &error))?;
        config.set_listener(address);
        let settings = config.settings(Process::Serve, machine.program.clone());
        let hub = Hub::open(settings, machine.clock.clone(), machine.entropy.clone()).await?;
        if config.key_lies_in_data() {
            tracing::warn!(
                "the key lies in the data directory: a copy of the data is readable; set vault.key_dir"
            );
        }
        if hub.readiness() == Readiness::Sealed {
            tell_sealed(&config);
        }
        Ok(Self { hub, config, listener, signals })
    }

    /// Says something, serves until a signal comes, and ends what runs.
    pub(crate) async fn serve(self, announcement: &str) -> Result<Answer, Failure> {
        let Self { hub, config, listener, mut signals } = self;
        let mut out = std::io::stdout();
        let told = writeln!(out, "{announcement}").and_then(|()| out.flush());
        told.map_err(|error| Failure::io("standard output", &error))?;
        // The lanes live until everything is closed: connections to the database may be of theirs.
        let lanes = Lanes::start().map_err(|error| Failure::io("the threads of the call path", &error))?;
        let served = http::serve(Arc::clone(&hub), &config, (listener, &lanes), signals.come()).await;
        tracing::info!("the hub stops");
        hub.close(END, LastHead::Signed).await?;
        served.map_err(|error| Failure::io("the listener", &error))?;
        Ok(Answer::silent())
    }
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Serves until a signal comes.
pub(crate) async fn run(running: Running, json: bool) -> Result<Answer, Failure> {
    let address = format!("http://{}", running.config.listen);
    let announcement =
        if json { json!({ "listening": address }).to_string() } else { format!("listening on {address}") };
    running.serve(&announcement).await
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Failure::new(
            "address_in_use",
            format!(
                "{address} is in use: choose another address, such as --listen 127.0.0.1:0 for any free port"
            ),
        ),
        _ => Failure::io(&address.to_string(), &error),
    })
}

fn tell_sealed(config: &Config) {
    let place = config.key_dir().map_or_else(
        || "set MCPHUB_VAULT__KEY to the key that this data was sealed with".to_owned(),
        |folder| format!("put its key file back into {}", folder.display()),
    );
    eprintln!("the hub is sealed and refuses calls: {place}; it unseals by itself");
}
