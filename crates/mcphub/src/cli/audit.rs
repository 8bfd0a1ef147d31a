//! `mcphub audit`: search the log, and check it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use mcphub_domain::{Actor, Record, ServerId, ServerName, ToolName, UserId, UserName};
use mcphub_hub::audit::{ReadRecord, Verified};
use mcphub_hub::{Finding, HeadsCopy, Search};
use serde_json::{Value, json};

use super::answer::{Answer, Table, or_dash, printable};
use super::desk::Desk;
use super::evidence::{self, Export, Prove};
use super::failure::Failure;
use super::input::{Moment, moment};

#[derive(Subcommand, Debug)]
pub(crate) enum AuditCommand {
    /// Check every record against the signed heads; exit code 1 if anything is wrong
    Verify {
        /// Heads that were kept elsewhere, as lines, or what the hub logged; may be given several times
        #[arg(long, value_name = "FILE")]
        heads: Vec<PathBuf>,
    },
    /// Show records, the newest first
    List(Box<Filter>),
    /// Make the search index anew from the log, also while the hub runs
    Reindex,
    /// Write the log, or a span of it, as a bundle that `mcphub-verify` checks without the hub
    Export(Export),
    /// Write a proof that one record is in the log
    Prove(Prove),
    /// Show the key that the log is signed with, and its fingerprint
    Key,
}

#[derive(Args, Debug)]
pub(crate) struct Filter {
    /// Only what this person did, or what was done to her
    #[arg(long)]
    person: Option<UserName>,
    /// Only what is about this server
    #[arg(long)]
    server: Option<ServerName>,
    /// Only what is about this tool
    #[arg(long)]
    tool: Option<ToolName>,
    /// Only what ended like this, such as ok, tool-error, not-granted, changed
    #[arg(long)]
    outcome: Option<String>,
    /// From this time on, such as 2026-11-22T10:00:00Z, 2026-11-22, or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Moment>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Moment>,
    /// How many records at most
    #[arg(long, default_value_t = 50, value_parser = limit)]
    limit: usize,
}

/// The most records that one command shows.
const MOST: usize = 100_000;

fn limit(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST).contains(limit))
        .ok_or_else(|| format!("expected 1 to {MOST}"))
}

impl AuditCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        match self {
            Self::Verify { heads } => verify(desk, &heads).await,
            Self::List(filter) => list(desk, *filter).await,
            Self::Reindex => reindex(desk).await,
            Self::Export(export) => export.run(desk).await,
            Self::Prove(prove) => prove.run(desk).await,
            Self::Key => evidence::key(desk).await,
        }
    }
}

async fn verify(desk: &Desk, heads: &[PathBuf]) -> Result<Answer, Failure> {
    let mut copies = Vec::new();
    for path in heads {
        let name = path.display().to_string();
        let text = std::fs::read(path).map_err(|error| Failure::io(&name, &error))?;
        copies.push(HeadsCopy { name, text: String::from_utf8_lossy(&text).into_owned() });
    }
    let verified = desk.hub.verify_audit(&desk.operator, &copies).await?;
    let report = &verified.report;
    let json = json!({
        "chains": report.chains,
        "records": report.records,
        "unwitnessed": report.unwitnessed,
        "heads": verified.heads,
        "newest_head": verified.newest.map(|(number, at)| json!({ "number": number, "time": at.to_string() })),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "notices": report.notices.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    let mut lines = vec![summary(&verified)];
    lines.extend(report.findings.iter().map(ToString::to_string));
    lines.extend(report.notices.iter().map(|notice| format!("notice: {notice}")));
    let answer = Answer::new(lines.join("\n"), json);
    Ok(if report.findings.is_empty() { answer } else { answer.failed() })
}

/// Says in one line how the log is, and up to where that is signed.
fn summary(Verified { report, heads, newest }: &Verified) -> String {
    let read = format!("{} chains, {} records, {heads} signed heads", report.chains, report.records);
    let found = match report.findings.len() {
        0 => "the log is whole".to_owned(),
        count => format!("{count} findings"),
    };
    let signed = newest.map_or_else(String::new, |(number, at)| {
        format!("; head {number} of {at} is the newest, {} records are later", report.unwitnessed)
    });
    format!("{read}: {found}{signed}")
}

fn finding(finding: &Finding) -> Value {
    let (chain, record) = finding.place().unzip();
    json!({ "kind": finding.kind(), "chain": chain, "record": record, "text": finding.to_string() })
}

async fn reindex(desk: &Desk) -> Result<Answer, Failure> {
    let chains = desk.hub.reindex_audit(&desk.operator).await?;
    Ok(Answer::new(format!("the search index of {chains} chains is new"), json!({ "chains": chains })))
}

async fn list(desk: &Desk, filter: Filter) -> Result<Answer, Failure> {
    let search = Search {
        person: match &filter.person {
            Some(name) => Some(desk.user(name).await?.id),
            None => None,
        },
        server: match &filter.server {
            Some(name) => Some(desk.server(name).await?.id),
            None => None,
        },
        tool: filter.tool,
        outcome: filter.outcome,
        before: filter.to.map(|time| time.resolve(desk.now)),
        from: filter.from.map(|time| time.resolve(desk.now)),
        after: None,
        limit: filter.limit,
    };
    let records = desk.hub.search_audit(&desk.operator, &search).await?;
    let names = Names::of(desk).await?;
    let mut table =
        Table::new(&["TIME", "WHO", "WHAT", "ABOUT", "SERVER", "TOOL", "OUTCOME", "ID"], "no record matches");
    for read in &records {
        table.row(names.row(&read.record));
    }
    let json = records.iter().map(|read| names.view(read)).collect::<Result<_, _>>();
    let json = json.map_err(|error: serde_json::Error| Failure::new("internal", error.to_string()))?;
    Ok(Answer::table(&table, json))
}

/// Holds the names of today, for the ids in records.
struct Names {
    users: BTreeMap<UserId, String>,
    servers: BTreeMap<ServerId, String>,
}

impl Names {
    async fn of(desk: &Desk) -> Result<Self, Failure> {
        let (users, servers) = (desk.users().await?, desk.servers().await?);
        Ok(Self {
            users: users.into_iter().map(|user| (user.id, user.name.to_string())).collect(),
            servers: servers.into_iter().map(|server| (server.id, server.name.to_string())).collect(),
        })
    }

    fn user(&self, id: UserId) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn server(&self, id: ServerId) -> String {
        self.servers.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn actor(&self, actor: Actor) -> String {
        match actor {
            Actor::Person { user, .. } => self.user(user),
            Actor::Operator => "operator".to_owned(),
            Actor::Hub => "hub".to_owned(),
            Actor::Stranger => "stranger".to_owned(),
        }
    }

    fn row(&self, record: &Record) -> [String; 8] {
        let (entry, event) = (&record.entry, &record.entry.event);
        [
            entry.at.to_string(),
            self.actor(entry.actor),
            words(record, &["type", "method", "target", "name"]),
            or_dash(event.subject().map(|user| self.user(user))),
            or_dash(event.server().map(|server| self.server(server))),
            or_dash(event.tool()),
            event.outcome().to_owned(),
            short_id(record),
        ]
    }

    /// Shows a record as it stands in the log, with times and names that people can read beside it.
    fn view(&self, read: &ReadRecord) -> Result<Value, serde_json::Error> {
        let (record, entry) = (&read.record, &read.record.entry);
        Ok(json!({
            "time": entry.at.to_string(),
            "who": self.actor(entry.actor),
            "what": kind(record),
            "about": entry.event.subject().map(|user| self.user(user)),
            "server": entry.event.server().map(|server| self.server(server)),
            "tool": entry.event.tool(),
            "outcome": entry.event.outcome(),
            "id": format!("{}.{}", record.chain, record.number),
            "chain": record.chain,
            "number": record.number,
            "request": entry.request,
            "actor": entry.actor,
            "event": serde_json::to_value(&entry.event)?,
            "personal": read.personal,
            "unreadable": read.unreadable,
        }))
    }
}

/// Names what happened, by the words that the record itself has for it.
fn kind(record: &Record) -> String {
    words(record, &["type", "method"])
}

/// Puts together the texts that a record's event has under these names.
fn words(record: &Record, names: &[&str]) -> String {
    let event = serde_json::to_value(&record.entry.event).unwrap_or_default();
    let texts = names.iter().filter_map(|name| event.get(name).and_then(Value::as_str));
    or_dash(texts.map(printable).reduce(|all, text| format!("{all} {text}")))
}

/// Names a record as briefly as `audit prove` understands it, unless two chains begin alike.
fn short_id(record: &Record) -> String {
    let chain = record.chain.to_string();
    format!("{}.{}", chain.get(..8).unwrap_or(&chain), record.number)
}

#[cfg(test)]
mod tests {
    use super::{MOST, limit};

    #[test]
    fn so_many_records_can_be_listed_at_once_and_no_more() {
        for (asked, is_good) in [(0, false), (1, true), (MOST, true), (MOST + 1, false)] {
            assert_eq!(limit(&asked.to_string()).ok(), is_good.then_some(asked), "{asked}");
        }
    }
}
