//! Sessions of all eras beside each other: clients that list and call, listen, are asked and answer, and leave in the middle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::dice::Dice;
use super::ledger::{Due, End, Ledger};
use super::line::{Ask, Line, Messages, NOT_RECORDED, ask_once, end_of, message};
use super::people::Call;
use crate::Failure;
use crate::load::now;

/// How often an answer is given again that wasn't taken, and after how long.
const PATIENT: usize = 100;
const AGAIN: Duration = Duration::from_millis(200);
/// How long somebody thinks at least and at most between two requests, in milliseconds.
const THOUGHT: (u64, u64) = (300, 1_500);
/// How many requests a session has at most.
const SESSION: u64 = 8;
/// One in so many goes without a word, where there is time until what she subscribed to has ended.
const RARE: u64 = 40;
/// The resources that change.
const NOTES: [&str; 2] = ["steady+notes://a", "calm+notes://a"];
/// Who asks: servers that nobody ends, which have to be answered, and those that may end meanwhile.
/// An older process isn't among them: its question names no call, so it may reach another one of the same person, whose client
/// doesn't expect it and doesn't come back; then that call waits for ten minutes.
const ASKING: [(&str, Due); 4] = [
    ("steady__ask", Due::Result),
    ("calm__ask", Due::Result),
    ("older__ask", Due::Either),
    ("child__ask", Due::Either),
];
/// What changes something, or forgets its sessions.
const CHANGING: [(&str, Due); 7] = [
    ("steady__touch", Due::Result),
    ("steady__change", Due::Result),
    ("calm__touch", Due::Result),
    ("calm__change", Due::Result),
    ("child__touch", Due::Either),
    ("elder__change", Due::Either),
    ("older__expire", Due::Either),
];
/// What has to be asked at least once where there are such sessions.
pub(super) const KINDS: [&str; 9] = [
    "mixed session",
    "mixed stream",
    "mixed subscription",
    "mixed list of tools",
    "change of a server",
    "question of a server",
    "question that is left",
    "batch",
    "end of a mixed session",
];

/// Says which protocol a client speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// That of 2026-07-28.
    Modern,
    /// One with sessions, by its version.
    Legacy(&'static str),
}

/// The eras, each of as many clients.
pub(super) const ERAS: [Era; 4] =
    [Era::Legacy("2025-11-25"), Era::Legacy(UNASKED), Era::Legacy("2025-06-18"), Era::Modern];
/// The version whose clients send batches, and can be asked nothing.
const UNASKED: &str = "2025-03-26";

/// Says how a client goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// She ends her session.
    Always,
    /// Now and then she just goes.
    Mostly,
}

/// Is a client that comes and goes.
pub(super) struct Visitor {
    /// Where the hub is.
    pub(super) address: SocketAddr,
    /// Her key.
    pub(super) key: String,
    /// What she speaks.
    pub(super) era: Era,
    /// How she goes.
    pub(super) farewell: Farewell,
    /// What decides what she does next.
    pub(super) dice: Dice,
    /// Where it is noted what becomes of that.
    pub(super) ledger: Arc<Ledger>,
}

/// Is one visit: a session, or what a modern client does without one.
struct Visit {
    line: Line,
    session: String,
    /// Reads the stream of what changes, as long as the visit lasts.
    stream: JoinSet<()>,
}

impl Visitor {
    /// Comes and goes until the time is over.
    pub(super) async fn work(mut self, end: Instant) {
        self.think().await;
        while now() < end {
            match self.arrive().await {
                Some(visit) => self.stay(visit, end).await,
                None => self.think().await,
            }
        }
    }

    /// Opens a session; a modern client has none.
    async fn arrive(&self) -> Option<Visit> {
        let mut visit =
            Visit { line: Line::to(self.address), session: String::new(), stream: JoinSet::new() };
        let Era::Legacy(version) = self.era else { return Some(visit) };
        let capabilities = if version == UNASKED { json!({}) } else { json!({ "elicitation": {} }) };
        let params = json!({
            "protocolVersion": version, "capabilities": capabilities, "clientInfo": { "name": "soak", "version": "1" },
        });
        let ask = Ask::new("POST", "/mcp", &self.key).saying(&message(0, "initialize", &params));
        let start = now();
        let ended = match visit.line.ask(ask).await {
            Ok(answer) => match answer.session {
                Some(session) => {
                    visit.session = session;
                    End::Answered(start.elapsed())
                }
                None => answer.unsuccessful(),
            },
            Err(failure) => End::Lost(failure.to_string()),
        };
        self.ledger.note("mixed session", Due::Result, ended);
        (!visit.session.is_empty()).then_some(visit)
    }

    async fn stay(&mut self, mut visit: Visit, end: Instant) {
        let mut farewell = self.farewell;
        if self.dice.once_in(2) {
            self.listen(&mut visit).await;
        }
        for id in 2..=2 + self.dice.below(SESSION) {
            if now() >= end {
                break;
            }
            match self.dice.below(8) {
                0 | 1 => self.list(&mut visit, id).await,
                2 | 3 => self.change(&mut visit, id).await,
                4 => {
                    if self.is_asked(&mut visit, id).await.is_none() {
                        // Her session's question would wait for her for ten minutes.
                        farewell = Farewell::Always;
                        break;
                    }
                }
                5 if self.era == Era::Legacy(UNASKED) => self.send_batch(&mut visit, id).await,
                _ => self.call(&mut visit, id).await,
            }
            self.think().await;
        }
        self.leave(visit, farewell).await;
    }

    /// Opens the stream of what changes, and reads it from then on.
    async fn listen(&self, visit: &mut Visit) {
        let ask = match self.era {
            Era::Modern => {
                let wish = json!({ "toolsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": NOTES });
                Ask::modern(&self.key, 1, "subscriptions/listen", json!({ "notifications": wish }))
            }
            Era::Legacy(_) => self.within(visit, "GET"),
        };
        let (mut line, start) = (Line::to(self.address), now());
        let ended = match line.begin(ask).await {
            Ok(response) if response.status().is_success() => {
                let mut messages = Messages::of(response);
                visit.stream.spawn(async move {
                    while let Ok(Some(_)) = messages.next().await {}
                    drop(line);
                });
                End::Answered(start.elapsed())
            }
            Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => End::Unavailable,
            Ok(response) => End::Refused(response.status().to_string()),
            Err(failure) => End::Lost(failure.to_string()),
        };
        self.ledger.note("mixed stream", Due::Result, ended);
        if let Era::Legacy(_) = self.era {
            for (id, note) in (100..).zip(NOTES) {
                let ask = self.request(visit, id, "resources/subscribe", json!({ "uri": note }));
                let ended = ask_once(&mut visit.line, ask, id).await;
                self.ledger.note("mixed subscription", Due::Result, ended);
            }
        }
    }

    async fn list(&self, visit: &mut Visit, id: u64) {
        let ask = self.request(visit, id, "tools/list", json!({}));
        self.ledger.note("mixed list of tools", Due::Result, ask_once(&mut visit.line, ask, id).await);
    }

    async fn call(&mut self, visit: &mut Visit, id: u64) {
        let call = Call::pick(&mut self.dice);
        let ask = self.request(visit, id, "tools/call", call.params());
        self.ledger.note(call.kind, call.due, ask_once(&mut visit.line, ask, id).await);
    }

    async fn change(&mut self, visit: &mut Visit, id: u64) {
        let (tool, due) = pick(&CHANGING, &mut self.dice);
        let ask = self.request(visit, id, "tools/call", json!({ "name": tool, "arguments": {} }));
        self.ledger.note("change of a server", due, ask_once(&mut visit.line, ask, id).await);
    }

    async fn send_batch(&self, visit: &mut Visit, id: u64) {
        let call = json!({ "name": "steady__echo", "arguments": {} });
        let batch = json!([message(id, "tools/call", &call), message(id + 1_000, "tools/list", &json!({}))]);
        let start = now();
        let ended = match visit.line.ask(self.within(visit, "POST").saying(&batch)).await {
            Ok(answer) => match answer.messages.first().and_then(Value::as_array) {
                Some(answers)
                    if answers.len() == 2 && answers.iter().all(|one| one.get("result").is_some()) =>
                {
                    End::Answered(start.elapsed())
                }
                Some(answers)
                    if answers.iter().any(|one| one.pointer("/error/code") == Some(&NOT_RECORDED.into())) =>
                {
                    End::Unavailable
                }
                _ => answer.unsuccessful(),
            },
            Err(failure) => End::Lost(failure.to_string()),
        };
        self.ledger.note("batch", Due::Result, ended);
    }

    /// Calls a tool that asks in return; nothing if she left before she had answered.
    async fn is_asked(&mut self, visit: &mut Visit, id: u64) -> Option<()> {
        if self.era == Era::Legacy(UNASKED) {
            return Some(());
        }
        let (tool, due) = pick(&ASKING, &mut self.dice);
        // A modern client's call to an older server waits for her for ten minutes: longer than anybody watches here.
        let may_leave = matches!(self.era, Era::Legacy(_)) || tool == "steady__ask";
        let leaves = may_leave && self.dice.once_in(4);
        let params = json!({ "name": tool, "arguments": {} });
        let start = now();
        let ended = match self.era {
            Era::Modern => self.answer_again(visit, (id, params), leaves).await,
            Era::Legacy(_) => self.answer_beside(visit, (id, params), leaves).await,
        };
        let (kind, ended) = match ended {
            Ok(Some((answer, status))) => ("question of a server", end_of(&answer, status, (id, start))),
            Ok(None) => ("question that is left", End::Cancelled),
            Err(failure) => ("question of a server", End::Lost(failure.to_string())),
        };
        let left = ended == End::Cancelled;
        self.ledger.note(kind, due, ended);
        (!left).then_some(())
    }

    /// Is asked in a result, and comes again with the answer.
    async fn answer_again(
        &self,
        visit: &mut Visit,
        (id, mut params): (u64, Value),
        leaves: bool,
    ) -> Result<Option<(Value, StatusCode)>, Failure> {
        for _ in 0..2 {
            let ask = self.request(visit, id, "tools/call", params.clone());
            let answer = visit.line.ask(ask).await?;
            let last = answer.messages.into_iter().next_back().ok_or("no answer")?;
            let Some(asked) = last.pointer("/result/inputRequests").and_then(Value::as_object) else {
                return Ok(Some((last, answer.status)));
            };
            if leaves {
                visit.line.hang_up();
                return Ok(None);
            }
            let answers: serde_json::Map<_, _> = asked.keys().map(|key| (key.clone(), accepted())).collect();
            let state = last.pointer("/result/requestState").cloned().unwrap_or_default();
            if let Some(params) = params.as_object_mut() {
                params.extend([
                    ("inputResponses".to_owned(), answers.into()),
                    ("requestState".to_owned(), state),
                ]);
            }
        }
        Err("it was asked again, though it had answered".into())
    }

    /// Is asked on the stream of the call, and answers over another connection.
    async fn answer_beside(
        &self,
        visit: &mut Visit,
        (id, params): (u64, Value),
        leaves: bool,
    ) -> Result<Option<(Value, StatusCode)>, Failure> {
        let ask = self.request(visit, id, "tools/call", params);
        let response = visit.line.begin(ask).await?;
        let (status, mut messages) = (response.status(), Messages::of(response));
        while let Some(said) = messages.next().await? {
            if said.get("method").is_none() {
                return Ok(Some((said, status)));
            }
            if said.get("method") != Some(&json!("elicitation/create")) {
                continue;
            }
            if leaves {
                visit.line.hang_up();
                return Ok(None);
            }
            let answer = json!({ "jsonrpc": "2.0", "id": said.get("id"), "result": accepted() });
            self.give(visit, &answer).await?;
        }
        Err("the stream ended before the answer".into())
    }

    /// Gives an answer, again and again while the hub can't record what it does.
    async fn give(&self, visit: &Visit, answer: &Value) -> Result<(), Failure> {
        for _ in 0..PATIENT {
            let taken = Line::to(self.address).ask(self.within(visit, "POST").saying(answer)).await?;
            match taken.unsuccessful() {
                _ if taken.status.is_success() => return Ok(()),
                End::Unavailable => sleep(AGAIN).await,
                _ => {
                    return Err(
                        format!("its answer was not taken: {} {:?}", taken.status, taken.messages).into()
                    );
                }
            }
        }
        Err("its answer was never taken".into())
    }

    /// Ends the session, or just goes.
    async fn leave(&mut self, visit: Visit, farewell: Farewell) {
        let Visit { mut line, session, stream } = visit;
        drop(stream);
        if session.is_empty() {
            return;
        }
        if farewell == Farewell::Mostly && self.dice.once_in(RARE) {
            return self.ledger.note("mixed session that is left", Due::Either, End::Cancelled);
        }
        let start = now();
        let visit = Visit { line: Line::to(self.address), session, stream: JoinSet::new() };
        let ended = match line.ask(self.within(&visit, "DELETE")).await {
            Ok(answer) if answer.status.is_success() => End::Answered(start.elapsed()),
            Ok(answer) => answer.unsuccessful(),
            Err(failure) => End::Lost(failure.to_string()),
        };
        self.ledger.note("end of a mixed session", Due::Result, ended);
    }

    fn request(&self, visit: &Visit, id: u64, method: &str, params: Value) -> Ask {
        match self.era {
            Era::Modern => Ask::modern(&self.key, id, method, params),
            Era::Legacy(_) => {
                self.in_own_version(Ask::legacy((&self.key, &visit.session), id, method, params))
            }
        }
    }

    fn within(&self, visit: &Visit, method: &'static str) -> Ask {
        self.in_own_version(Ask::within((&self.key, &visit.session), method))
    }

    /// Names the version of the session, which the oldest clients don't.
    fn in_own_version(&self, mut ask: Ask) -> Ask {
        ask.headers.retain(|(name, _)| *name != "mcp-protocol-version");
        match self.era {
            Era::Legacy(version) if version != UNASKED => ask.with("mcp-protocol-version", version),
            _ => ask,
        }
    }

    async fn think(&mut self) {
        let (least, most) = THOUGHT;
        sleep(Duration::from_millis(least + self.dice.below(most - least))).await;
    }
}

fn accepted() -> Value {
    json!({ "action": "accept", "content": { "name": "Ada" } })
}

fn pick<const N: usize>(from: &[(&'static str, Due); N], dice: &mut Dice) -> (&'static str, Due) {
    from.get(dice.below(N as u64) as usize).copied().unwrap_or(from[0])
}
