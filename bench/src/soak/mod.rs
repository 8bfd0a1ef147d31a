//! The soak: a mixed load for a long time on servers that die, and what the hub holds afterwards.
//!
//! First a short load, so that everything has been used once, and a rest; then the load, and a rest.
//! Between the two rests nothing may have grown, every request must have got its one answer, and the log
//! must have a record of every call.

mod dice;
mod gauge;
mod house;
mod judge;
mod ledger;
mod line;
mod mixed;
mod people;
mod reaper;
mod relay;
mod staff;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tokio::runtime::Runtime;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{interval, sleep};

use crate::load::now;
use crate::{Failure, meter};
use dice::Dice;
use gauge::Held;
use house::{House, Recorded};
use judge::Course;
use ledger::{Ledger, Tally};
use line::{Ask, Line};
use mixed::{ERAS, Farewell, Visitor};
use people::Person;
use reaper::{Deaths, reap};
use relay::Relay;
use staff::{Admin, intrude, search};
use table::{Sample, print};

/// How many clients of each era each person has.
const MODERN: usize = 2;
const OLDER: usize = 1;
const STRANGERS: u64 = 2;
/// How often it is read what the hub holds: so many times in the load, but at most once in this time.
const SAMPLES: u32 = 360;
const SHORTEST: Duration = Duration::from_millis(500);
/// The share of the load that it takes to warm up, and how long that takes at most.
const WARMING: u32 = 6;
const WARM: Duration = Duration::from_mins(5);
/// At rest nothing changes for so long; it comes within the other time, or never.
const RESTED: u32 = 5;
const RESTLESS: u32 = 60;
/// How long that is after a long load, in whose end somebody may have left a subscription: that ends after five minutes.
const LONG_RESTLESS: u32 = 420;
/// What has to be asked at least once in every soak, besides the calls of `people`.
const KINDS: [&str; 19] = [
    "list of tools",
    "large question",
    "unknown tool",
    "malformed message",
    "client that goes away",
    "session",
    "stream of a session",
    "list of tools in a session",
    "call that is taken back",
    "end of a session",
    "change",
    "look at the log",
    "call of a guest",
    "call without a grant",
    "new key",
    "revoked key",
    "noise",
    "wrong key",
    "no key",
];
/// How long a load must be for its database to go away, how long that is away, and how long it takes until
/// everything must work again.
const WORTH: Duration = Duration::from_secs(100);
const AWAY: Duration = Duration::from_secs(4);
const CALM: Duration = Duration::from_secs(6);
/// Of so many requests, one may not be recorded in time: the disk is shared with others.
const UNAVAILABLE: u64 = 500;
const SECOND: Duration = Duration::from_secs(1);

/// Says on which database the hub is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Database {
    /// SQLite alone.
    Sqlite,
    /// PostgreSQL alone.
    Postgres,
    /// One after the other, each for the whole time.
    Both,
}

/// Says how long to soak, and what.
#[derive(clap::Args)]
pub(crate) struct SoakArguments {
    /// The binary of the hub.
    #[arg(long)]
    mcphub: PathBuf,
    /// The superuser's URL of a PostgreSQL for the hub.
    #[arg(long)]
    postgres: Option<String>,
    /// For how long the load goes on, warming up included, on each database.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// How many sessions of all eras come and go beside the people.
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// The databases.
    #[arg(long, value_enum, default_value = "both")]
    database: Database,
}

/// Is what a soak came to.
struct Soaked {
    course: Course,
    samples: Vec<Sample>,
    kinds: BTreeMap<&'static str, Tally>,
    deaths: Deaths,
    recorded: Recorded,
    faults: Vec<String>,
}

/// Soaks the hub on each database; fails if anything grew or was lost.
pub(crate) fn run(arguments: &SoakArguments) -> Result<(), Failure> {
    println!("{}", meter::machine());
    let mut faults = Vec::new();
    for (name, database) in [("SQLite", Database::Sqlite), ("PostgreSQL", Database::Postgres)] {
        if arguments.database != database && arguments.database != Database::Both {
            continue;
        }
        let postgres = match database {
            Database::Postgres => Some(arguments.postgres.as_deref().ok_or("--postgres is missing")?),
            _ => None,
        };
        let soaked = soak(arguments, postgres)?;
        print(name, &soaked);
        faults.extend(soaked.faults.into_iter().map(|fault| format!("on {name}: {fault}")));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

fn soak(arguments: &SoakArguments, postgres: Option<&str>) -> Result<Soaked, Failure> {
    let folder = tempfile::tempdir()?;
    let time = Duration::try_from_secs_f64(arguments.minutes * 60.0)?;
    let warming = (time / WARMING).min(WARM);
    let runtime = Runtime::new()?;
    let (relay, postgres) = postgres.map(|url| Relay::to_server_of(&runtime, url)).transpose()?.unzip();
    let mut house = House::open(&arguments.mcphub, folder.path(), postgres.as_deref())?;
    let mut soak = Soak {
        ledger: Arc::default(),
        sessions: arguments.sessions,
        runtime,
        relay,
        deaths: Deaths::default(),
    };
    println!("warming up for {warming:?}");
    soak.load(&mut house, ("warming", warming))?;
    let before = soak.rest(&house, warming)?;
    soak.ledger.lately();
    println!("the load goes on for {:?}", time - warming);
    let samples = soak.load(&mut house, ("long", time - warming))?;
    let after = soak.rest(&house, time - warming)?;
    let during = samples.iter().map(|sample| sample.held).collect();
    let course = Course { before, during, took: time - warming, after };
    let recorded = house.close()?;
    let kinds = soak.ledger.kinds();
    let mut faults = course.grown();
    faults.extend(soak.unaccounted(&recorded));
    faults.extend(untried(&kinds, &soak.deaths, arguments.sessions));
    Ok(Soaked { course, samples, kinds, deaths: soak.deaths, recorded, faults })
}

/// Is a soak under way.
struct Soak {
    ledger: Arc<Ledger>,
    /// How many sessions come and go.
    sessions: usize,
    runtime: Runtime,
    /// The way to the database, where it can be cut.
    relay: Option<Relay>,
    deaths: Deaths,
}

impl Soak {
    /// Lets everybody work for a while, and reads meanwhile what the hub holds. What an admin leaves behind of one load, as
    /// the database was away, has a name that no other uses.
    fn load(
        &mut self,
        house: &mut House,
        (name, span): (&'static str, Duration),
    ) -> Result<Vec<Sample>, Failure> {
        let end = now() + span;
        let over = Arc::new(AtomicBool::new(false));
        let mut victims = std::mem::take(&mut house.victims);
        let (hub, reaped) = (house.hub.id(), Arc::clone(&over));
        let reaping = self.runtime.spawn_blocking(move || (reap(hub, &mut victims, &reaped), victims));
        let samples = self.runtime.block_on(async {
            let mut crowd = crowd(house, &self.ledger, (name, end))?;
            let farewell = if span > WORTH { Farewell::Mostly } else { Farewell::Always };
            visit(house, &self.ledger, (self.sessions, farewell, end), &mut crowd);
            let observing = observe(house, &self.ledger, &mut crowd, (span / SAMPLES).max(SHORTEST));
            tokio::join!(observing, self.interrupt(span)).0
        });
        over.store(true, Ordering::Relaxed);
        let (deaths, victims) = self.runtime.block_on(reaping)?;
        house.victims = victims;
        self.deaths.add(&deaths?);
        samples
    }

    /// Takes the database away for a moment in the middle of a long load, if there is a way to do that.
    async fn interrupt(&self, span: Duration) {
        let Some(relay) = self.relay.as_ref().filter(|_| span >= WORTH) else { return };
        sleep(span / 2).await;
        self.ledger.storm(true);
        relay.cut(true);
        sleep(AWAY).await;
        relay.cut(false);
        sleep(CALM).await;
        self.ledger.storm(false);
    }

    /// Waits until the hub is at rest, or until it is clear that it never will be.
    fn rest(&self, house: &House, after: Duration) -> Result<Held, Failure> {
        let restless = if after > WORTH { LONG_RESTLESS } else { RESTLESS };
        self.runtime.block_on(async {
            let mut last = read(house).await?;
            let mut still = 0;
            for _ in 0..restless {
                sleep(SECOND).await;
                let held = read(house).await?;
                still = if held.rests(&last) { still + 1 } else { 0 };
                last = held;
                if still == RESTED {
                    break;
                }
            }
            Ok(last)
        })
    }

    /// Names what became of requests and shouldn't have.
    fn unaccounted(&self, recorded: &Recorded) -> Vec<String> {
        let (wrong, mut told) = self.ledger.wrong();
        if wrong > told.len() as u64 {
            told.push(format!("{wrong} requests ended otherwise than they had to"));
        }
        let kinds = self.ledger.kinds();
        let calls = kinds.iter().filter(|(kind, _)| people::is_call(kind));
        let called = calls.map(|(_, tally)| tally.answered).sum();
        let (unavailable, answered) =
            (self.ledger.unavailable(), kinds.values().map(|tally| tally.answered).sum::<u64>());
        if unavailable * UNAVAILABLE > answered {
            told.push(format!(
                "{unavailable} requests beside {answered} could not be recorded though the database was there"
            ));
        }
        if recorded.intents < called {
            told.push(format!("{called} calls were answered, but only {} are in the log", recorded.intents));
        }
        if recorded.intents != recorded.outcomes {
            told.push(format!("the log has {} calls, but {} outcomes", recorded.intents, recorded.outcomes));
        }
        told
    }
}

/// Names what was not tried, so that it says nothing that nothing grew.
fn untried(kinds: &BTreeMap<&'static str, Tally>, deaths: &Deaths, sessions: usize) -> Vec<String> {
    let mixed = mixed::KINDS.into_iter().filter(|_| sessions > 0);
    let all = people::calls().chain(KINDS).chain(mixed).filter(|kind| !kinds.contains_key(kind));
    let deaths = [
        ("a server that is killed", deaths.killed),
        ("a server that is held", deaths.held),
        ("a process that is killed", deaths.processes),
    ];
    let deaths = deaths.into_iter().filter(|(_, count)| *count == 0).map(|(death, _)| death);
    all.chain(deaths).map(|kind| format!("the load was too short, there was no {kind}")).collect()
}

/// Lets everybody begin.
fn crowd(
    house: &House,
    ledger: &Arc<Ledger>,
    (load, end): (&'static str, Instant),
) -> Result<JoinSet<()>, Failure> {
    let address = house.hub.address;
    let mut crowd = JoinSet::new();
    let mut seed = 0;
    for key in &house.keys {
        for number in 0..MODERN + OLDER {
            seed += 1;
            let (key, ledger) = (key.clone(), Arc::clone(ledger));
            let person = Person { address, key, dice: Dice::new(seed), ledger };
            if number < MODERN {
                crowd.spawn(person.work(end))
            } else {
                crowd.spawn(person.work_in_sessions(end))
            };
        }
    }
    let keys = (house.installation.admin.as_str(), house.guest.as_str());
    crowd.spawn(Admin::new(address, keys, house.passing()?, ledger).work(load, end));
    crowd.spawn(search(address, house.auditor.clone(), Arc::clone(ledger), end));
    for seed in 0..STRANGERS {
        crowd.spawn(intrude(address, Dice::new(seed), Arc::clone(ledger), end));
    }
    Ok(crowd)
}

/// Lets sessions of all eras begin.
fn visit(
    house: &House,
    ledger: &Arc<Ledger>,
    (count, farewell, end): (usize, Farewell, Instant),
    crowd: &mut JoinSet<()>,
) {
    let visitors = house.keys.iter().cycle().zip(ERAS.into_iter().cycle()).zip(1_000..).take(count);
    for ((key, era), seed) in visitors {
        let (key, dice, ledger) = (key.clone(), Dice::new(seed), Arc::clone(ledger));
        crowd.spawn(Visitor { address: house.hub.address, key, era, farewell, dice, ledger }.work(end));
    }
}

/// Reads what the hub holds until the crowd has gone.
async fn observe(
    house: &House,
    ledger: &Ledger,
    crowd: &mut JoinSet<()>,
    pause: Duration,
) -> Result<Vec<Sample>, Failure> {
    let mut samples = Vec::new();
    let mut ticks = interval(pause);
    ticks.tick().await;
    loop {
        let left: Option<Result<(), JoinError>> = tokio::select! {
            left = crowd.join_next() => left,
            _ = ticks.tick() => {
                let held = read(house).await?;
                samples.push(Sample { held, lately: ledger.lately(), took: pause });
                continue;
            }
        };
        match left {
            None => return Ok(samples),
            Some(left) => left?,
        }
    }
}

async fn read(house: &House) -> Result<Held, Failure> {
    let ask =
        Ask { method: "GET", path: "/metrics".to_owned(), headers: Vec::new(), body: bytes::Bytes::new() };
    let answer = Line::to(house.hub.address).ask(ask).await?;
    let metrics = answer.messages.first().and_then(serde_json::Value::as_str).unwrap_or_default();
    Held::read(house.hub.id(), metrics)
}
