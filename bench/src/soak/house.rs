//! Where a soak takes place: servers, a hub, its people.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::gauge::Mark;
use super::reaper::Victim;
use crate::Failure;
use crate::hub::{Hub, http_server};
use crate::stage::Actor;

/// Who calls, besides the person whom every hub has.
const PEOPLE: [&str; 5] = ["bea", "cleo", "dora", "eve", "fay"];
/// How long a server may take, in milliseconds; one that hangs costs a call so long.
const PATIENCE: u64 = 1_500;
/// How long an unused process is kept, in seconds, so that there are none at rest.
const IDLE: &str = "1";

/// Is everything that takes part, and ends with it.
pub(super) struct House {
    /// The installation.
    pub(super) installation: Hub,
    /// The running hub.
    pub(super) hub: Actor,
    /// The keys of those who call.
    pub(super) keys: Vec<String>,
    /// The key of somebody without any right.
    pub(super) guest: String,
    /// The key of somebody who may read the log.
    pub(super) auditor: String,
    /// The servers that are ended.
    pub(super) victims: Vec<Victim>,
    steady: Actor,
    _others: [Actor; 2],
}

/// Is what the log says of calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Recorded {
    /// How many records there are.
    pub(super) records: u64,
    /// How many calls were begun.
    pub(super) intents: u64,
    /// How many have an outcome.
    pub(super) outcomes: u64,
}

impl House {
    /// Starts everything in a folder, on SQLite or on a new database of the PostgreSQL at `postgres`.
    pub(super) fn open(program: &Path, folder: &Path, postgres: Option<&str>) -> Result<Self, Failure> {
        let steady = Actor::part("mortal", &["--era", "modern"])?;
        let wild = Actor::part("mortal", &["--era", "modern"])?;
        let calm = Actor::part("mortal", &["--era", "legacy"])?;
        let victims = vec![Victim::start("modern")?, Victim::start("legacy")?];
        let [mortal, older] = victims.as_slice() else { return Err("two servers are to be ended".into()) };
        let servers = json!({ "mcpServers": {
            "steady": http_server(steady.address),
            "calm": http_server(calm.address),
            "wild": impatient(http_server(wild.address)),
            "mortal": impatient(http_server(mortal.address)),
            "older": impatient(http_server(older.address)),
            "child": impatient(process("modern", Mark::Mortal)?),
            "elder": impatient(process("legacy", Mark::Mortal)?),
        } });
        let mut installation = Hub::new(program, folder, postgres, &servers)?;
        installation.set("MCPHUB_CHILDREN__IDLE_SECONDS", IDLE);
        let mut keys = vec![installation.key.clone()];
        for name in PEOPLE {
            keys.push(installation.add_member(name, &servers)?);
        }
        let guest = installation.add_owner("guest")?;
        installation.ok("group add guests", "")?;
        installation.ok("group join guests guest", "")?;
        let auditor = installation.add_owner("auditor")?;
        installation.ok("user update auditor --auditor yes", "")?;
        let (hub, _) = installation.serve()?;
        Ok(Self { installation, hub, keys, guest, auditor, victims, steady, _others: [calm, wild] })
    }

    /// Describes servers that come and go, over HTTP and as a process.
    pub(super) fn passing(&self) -> Result<[Value; 2], Failure> {
        let mut process = process("modern", Mark::Spared)?;
        if let Some(fields) = process.as_object_mut() {
            fields.insert("type".to_owned(), json!("stdio"));
        }
        Ok([http_server(self.steady.address), process])
    }

    /// Stops the hub in peace, and reads what it has recorded. The log must be whole, and the hub must not
    /// have panicked.
    pub(super) fn close(self) -> Result<Recorded, Failure> {
        self.hub.stop()?;
        if self.installation.said("panicked")? {
            return Err("the hub has panicked: read its log".into());
        }
        let verified: Value = serde_json::from_str(&self.installation.ok("audit verify --json", "")?)?;
        let records = verified.get("records").and_then(Value::as_u64).ok_or("no number of records")?;
        let mut recorded = Recorded { records, intents: 0, outcomes: 0 };
        let mut exporting = self.installation.command();
        count_calls(exporting.args(["audit", "export", "--output", "-"]), &mut recorded)?;
        Ok(recorded)
    }
}

fn count_calls(exporting: &mut Command, recorded: &mut Recorded) -> Result<(), Failure> {
    let mut exporting = exporting.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(exporting.stdout.take().ok_or("no output")?).lines();
    for line in lines {
        let line = line?;
        recorded.intents += u64::from(line.contains(r#""type":"call.intent""#));
        recorded.outcomes += u64::from(line.contains(r#""type":"call.outcome""#));
    }
    let status = exporting.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the log can't be exported: {status}").into()) }
}

fn process(era: &str, mark: Mark) -> Result<Value, Failure> {
    let program = std::env::current_exe()?;
    let arguments = ["mortal-stdio", "--era", era, "--mark", &mark.text()];
    Ok(json!({ "command": program, "args": arguments, "env": { "TOKEN": "${USER_TOKEN}" } }))
}

fn impatient(mut server: Value) -> Value {
    if let Some(fields) = server.as_object_mut() {
        fields.insert("timeoutMs".to_owned(), json!(PATIENCE));
    }
    server
}
