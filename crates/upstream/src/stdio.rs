//! A connection to a server that is a child process: how it starts, and which era it speaks.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mcphub_domain::{Clock, Server};
use mcphub_wire::discover::Discovery;
use mcphub_wire::legacy::initialized;
use mcphub_wire::{Outcome, Response, Version};
use tokio::time::timeout;

use crate::counters::Counters;
use crate::course::Course;
use crate::era::modern_version;
use crate::error::{Blame, UpstreamError};
use crate::http::Shared;
use crate::key::ConnectionKey;
use crate::legacy::{ask_for_logs, opened};
use crate::log::Log;
use crate::mask::Mask;
use crate::outgoing::{Outgoing, initialize};
use crate::pipe::{Outlets, Pipe, PipeReply};
use crate::process::Process;
use crate::reply::{Sent, Stream};
use crate::roots::{Roots, Telling};
use crate::settings::Settings;
use crate::target::{ResolvedStdio, Values};
use crate::watch::{Feed, Interest};

/// How long a process may be silent on `server/discover` before it is taken for a legacy one.
const PROBE: Duration = Duration::from_secs(5);

/// Is a running child process that takes requests.
pub(crate) struct StdioConnection {
    pipe: Arc<Pipe>,
    version: Version,
    /// The folders of its clients, which an older process hears of.
    pub(crate) roots: Roots,
}

/// Is what starting a process takes.
pub(crate) struct Launch<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) shared: &'a Shared,
    pub(crate) counters: &'a Counters,
    pub(crate) clock: &'a Clock,
    pub(crate) server: &'a Server,
    pub(crate) key: &'a ConnectionKey,
    pub(crate) target: &'a ResolvedStdio,
    pub(crate) values: &'a Values,
}

impl StdioConnection {
    /// Starts the process and finds out which era it speaks.
    pub(crate) async fn connect(launch: Launch<'_>) -> Result<Self, UpstreamError> {
        let first = Attempt::start(&launch).await?;
        match first.settle().await {
            Ok(version) => Ok(first.into_connection(version)),
            Err(_) if first.pipe.gone.is_cancelled() => {
                launch.counters.count_restart();
                let second = Attempt::start(&launch).await?;
                let version = second.settle_anew().await?;
                Ok(second.into_connection(version))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn send(&self, request: &Outgoing) -> Result<Sent, UpstreamError> {
        let id = self.pipe.shared.next_id();
        let reply = self.pipe.register(id, Course::of(request))?;
        if !self.version.is_modern()
            && let Some(telling) = self.roots.to_tell(&request.client)
        {
            self.pipe.send(Telling::message()).await?;
            telling.heard();
        }
        self.pipe.send(request.write(id, self.version)).await?;
        Ok(Sent { stream: Stream::Pipe(reply), id, version: self.version })
    }

    pub(crate) fn feed(&self) -> Option<Arc<Feed>> {
        (!self.version.is_modern()).then(|| Arc::clone(&self.pipe.feed))
    }

    pub(crate) fn shared(&self) -> Shared {
        self.pipe.shared.clone()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.pipe.gone.is_cancelled()
    }

    pub(crate) async fn gone(&self) {
        self.pipe.gone.cancelled().await;
    }

    /// Ends the process: its input closes, and it has time to end by itself.
    pub(crate) fn end_gently(&self) {
        self.pipe.stop.gently.cancel();
    }

    /// Kills the process's tree.
    pub(crate) fn end_at_once(&self) {
        self.pipe.stop.at_once.cancel();
    }
}

/// Is a process that has not said yet what it speaks. Dropping it kills the process.
struct Attempt {
    pipe: Arc<Pipe>,
    settled: bool,
    /// The lists of which a modern process tells when they change.
    lists: OnceLock<Interest>,
}

impl Attempt {
    async fn start(launch: &Launch<'_>) -> Result<Self, UpstreamError> {
        let Launch { settings, server, key, shared, .. } = launch;
        let blame = Blame(server.name.clone());
        let failed = |error: std::io::Error| blame.not_started(error.to_string());
        let name = key.scope.short();
        let home = settings.scratch.join(server.id.to_string()).join(&name);
        let mask = Mask::new(launch.values);
        let log = Log::open(&settings.logs, &server.name, &name, mask, launch.clock.clone()).await;
        let log = log.map_err(failed)?;
        let sandbox = &server.definition.sandbox;
        let started = Process::start(settings, launch.target, sandbox, &home).await;
        let (process, streams) = started.map_err(failed)?;
        launch.counters.count_start();
        let (outlets, messages, stray_lines) = Outlets::new();
        let pipe = Pipe::new(blame.clone(), (*shared).clone(), **key, outlets);
        shared.spawn(log.capture(streams.stderr, stray_lines));
        shared.spawn(Arc::clone(&pipe).read(streams.stdout));
        shared.spawn(Arc::clone(&pipe).write(streams.stdin, messages));
        let kept = Arc::clone(&pipe);
        shared.spawn(async move {
            process.keep(&kept.stop).await;
            kept.end().await;
        });
        Ok(Self { pipe, settled: false, lists: OnceLock::new() })
    }

    /// Finds out the era. A process that is slow to start may answer late, so its first answer stays
    /// awaited while `initialize` is under way.
    async fn settle(&self) -> Result<Version, UpstreamError> {
        let mut reply = self.discover().await?;
        let late = match timeout(PROBE, reply.response()).await {
            Ok(Ok(Response { outcome, .. })) => match self.take_in(&outcome) {
                Some(version) => return Ok(version),
                None => None,
            },
            Ok(Err(error)) if self.pipe.gone.is_cancelled() => return Err(error),
            Ok(Err(_)) => None,
            Err(_) => Some(reply),
        };
        match (self.initialize().await?, late) {
            (Ok(version), _) => Ok(version),
            (Err(reason), Some(late)) => self.modern(late, reason).await,
            (Err(reason), None) => Err(self.pipe.blame.garbage(reason)),
        }
    }

    /// Finds out the era after a process has ended when it was asked. Some end at modern words, so this one
    /// hears the older ones first; but that one may have ended for another reason.
    async fn settle_anew(&self) -> Result<Version, UpstreamError> {
        match self.initialize().await? {
            Ok(version) => Ok(version),
            Err(reason) => self.modern(self.discover().await?, reason).await,
        }
    }

    async fn discover(&self) -> Result<PipeReply, UpstreamError> {
        self.ask(|id| Outgoing::discover().write(id, Version::V2026_07_28)).await
    }

    /// Opens a session, or says why the process doesn't.
    async fn initialize(&self) -> Result<Result<Version, String>, UpstreamError> {
        match opened(&self.ask(|id| initialize(id, self.pipe.key())).await?.response().await?.outcome) {
            Ok(opened) => {
                self.pipe.send(initialized()).await?;
                if let Some(request) = ask_for_logs(&opened, self.pipe.shared.next_id()) {
                    self.pipe.send(request).await?;
                }
                Ok(Ok(opened.version))
            }
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// Reads the version from the answer to `server/discover`, after `initialize` was refused.
    async fn modern(&self, mut discovered: PipeReply, refused: String) -> Result<Version, UpstreamError> {
        let outcome = discovered.response().await?.outcome;
        self.take_in(&outcome).ok_or_else(|| self.pipe.blame.garbage(refused))
    }

    /// Reads what only a modern process answers to `server/discover`.
    fn take_in(&self, outcome: &Outcome) -> Option<Version> {
        let version = modern_version(outcome)?;
        if let Outcome::Result(result) = outcome
            && let Ok(discovery) = Discovery::read(result)
            && let Some(lists) = Interest::declared(&discovery.capabilities)
        {
            self.lists.get_or_init(|| lists);
        }
        Some(version)
    }

    async fn ask(&self, body: impl FnOnce(i64) -> Bytes) -> Result<PipeReply, UpstreamError> {
        let id = self.pipe.shared.next_id();
        self.pipe.request(id, body(id)).await
    }

    fn into_connection(mut self, version: Version) -> StdioConnection {
        self.settled = true;
        if let Some(lists) = self.lists.take() {
            self.pipe.shared.spawn(hear(Arc::clone(&self.pipe), version, lists));
        }
        StdioConnection { pipe: Arc::clone(&self.pipe), version, roots: Roots::default() }
    }
}

/// Lets a modern process tell which of its lists change, as long as it runs; an older one does so by itself.
async fn hear(pipe: Arc<Pipe>, version: Version, lists: Interest) {
    let id = pipe.shared.next_id();
    let request = Outgoing::listen(&lists).write(id, version);
    let Ok(mut told) = pipe.request(id, request).await else { return };
    // All that it tells goes to the bus.
    let ended = told.response().await;
    tracing::debug!(server = %pipe.blame.0, well = ended.is_ok(), "a process tells no more of its lists");
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.settled {
            self.pipe.stop.at_once.cancel();
        }
    }
}
