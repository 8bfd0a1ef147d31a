//! The people: clients of both eras who list and call tools, wait, and go away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::dice::Dice;
use super::ledger::{Due, End, Ledger};
use super::line::{Ask, Line, ask_once};
use crate::load::now;

/// How long somebody thinks at least and at most between two requests, in milliseconds.
const THOUGHT: (u64, u64) = (20, 60);
/// How long a large question is.
const LARGE: usize = 300_000;
/// How many requests a session has at most.
const SESSION: u64 = 12;
/// After how many milliseconds at most somebody loses her patience.
const IMPATIENT: u64 = 150;

/// Is a tool that is called so many times in a hundred, and what has to become of it.
pub(super) struct Call {
    share: u64,
    /// What kind of request it is.
    pub(super) kind: &'static str,
    tool: &'static str,
    /// What has to become of it.
    pub(super) due: Due,
}

/// What is called, in a hundred calls. Servers that die may fail; `steady` may not.
const CALLS: [Call; 16] = [
    Call::new(26, "steady server", "steady__echo", Due::Result),
    Call::new(2, "large answer", "steady__large", Due::Result),
    Call::new(3, "progress", "steady__count", Due::Result),
    Call::new(1, "much progress", "steady__flood", Due::Result),
    Call::new(12, "server that is killed", "mortal__echo", Due::Either),
    Call::new(10, "older server that is killed", "older__echo", Due::Either),
    Call::new(14, "server that misbehaves", "wild__echo", Due::Either),
    Call::new(2, "server that hangs", "wild__hang", Due::Either),
    Call::new(2, "answer that is cut off", "wild__cut", Due::Either),
    Call::new(2, "answer that is garbage", "wild__garbage", Due::Either),
    Call::new(12, "process", "child__echo", Due::Either),
    Call::new(8, "older process", "elder__echo", Due::Either),
    Call::new(1, "process that hangs", "elder__hang", Due::Either),
    Call::new(1, "process that ends in a call", "child__cut", Due::Either),
    Call::new(1, "process that babbles", "child__garbage", Due::Either),
    Call::new(3, "process that floods its log", "elder__flood", Due::Either),
];

impl Call {
    const fn new(share: u64, kind: &'static str, tool: &'static str, due: Due) -> Self {
        Self { share, kind, tool, due }
    }

    /// Picks a call, as often as its share says.
    pub(super) fn pick(dice: &mut Dice) -> &'static Self {
        let total = CALLS.iter().map(|call| call.share).sum();
        let mut left = dice.below(total);
        let picked = CALLS.iter().find(|call| {
            let hit = left < call.share;
            left = left.saturating_sub(call.share);
            hit
        });
        picked.unwrap_or(&CALLS[0])
    }

    /// Writes its parameters.
    pub(super) fn params(&self) -> Value {
        json!({ "name": self.tool, "arguments": { "text": "a question of usual length" } })
    }
}

/// Lists the kinds of calls.
pub(super) fn calls() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|call| call.kind)
}

/// Says whether requests of a kind are calls that the hub sends on.
pub(super) fn is_call(kind: &str) -> bool {
    calls().any(|call| call == kind) || ["large question", "call of a guest"].contains(&kind)
}

/// Is a person's client.
pub(super) struct Person {
    /// Where the hub is.
    pub(super) address: SocketAddr,
    /// Her key.
    pub(super) key: String,
    /// What decides what she does next.
    pub(super) dice: Dice,
    /// Where it is noted what becomes of that.
    pub(super) ledger: Arc<Ledger>,
}

impl Person {
    /// Works as a modern client until the time is over.
    pub(super) async fn work(mut self, end: Instant) {
        let (mut line, mut id) = (Line::to(self.address), 0);
        while now() < end {
            id += 1;
            match self.dice.below(100) {
                0..4 => self.list(&mut line, id).await,
                4 => self.ask_at_length(&mut line, id).await,
                5 => self.ask_for_nothing(&mut line, id).await,
                6 => self.ask_in_riddles(&mut line, id).await,
                7 => self.lose_patience(&mut line, id).await,
                _ => self.call(&mut line, id).await,
            }
            self.think().await;
        }
    }

    async fn call(&mut self, line: &mut Line, id: u64) {
        let call = Call::pick(&mut self.dice);
        let ended = ask_once(line, Ask::modern(&self.key, id, "tools/call", call.params()), id).await;
        self.ledger.note(call.kind, call.due, ended);
    }

    async fn list(&self, line: &mut Line, id: u64) {
        let ended = ask_once(line, Ask::modern(&self.key, id, "tools/list", json!({})), id).await;
        self.ledger.note("list of tools", Due::Result, ended);
    }

    async fn ask_at_length(&self, line: &mut Line, id: u64) {
        let params = json!({ "name": "steady__echo", "arguments": { "text": "x".repeat(LARGE) } });
        let ended = ask_once(line, Ask::modern(&self.key, id, "tools/call", params), id).await;
        self.ledger.note("large question", Due::Result, ended);
    }

    async fn ask_for_nothing(&self, line: &mut Line, id: u64) {
        let params = json!({ "name": "steady__nothing", "arguments": {} });
        let ended = ask_once(line, Ask::modern(&self.key, id, "tools/call", params), id).await;
        self.ledger.note("unknown tool", Due::Refusal, ended);
    }

    async fn ask_in_riddles(&self, line: &mut Line, id: u64) {
        let mut ask = Ask::modern(&self.key, id, "tools/list", json!({}));
        ask.body = ask.body.slice(..ask.body.len() - 1);
        let ended = ask_once(line, ask, id).await;
        self.ledger.note("malformed message", Due::Refusal, ended);
    }

    /// Goes away before the answer.
    async fn lose_patience(&mut self, line: &mut Line, id: u64) {
        let tool = if self.dice.once_in(2) { "wild__hang" } else { "child__count" };
        let ask = Ask::modern(&self.key, id, "tools/call", json!({ "name": tool, "arguments": {} }));
        let patience = Duration::from_millis(self.dice.below(IMPATIENT));
        let ended = tokio::time::timeout(patience, ask_once(line, ask, id)).await.unwrap_or(End::Cancelled);
        line.hang_up();
        self.ledger.note("client that goes away", Due::Either, ended);
    }

    /// Works as an older client until the time is over, in one session after the other.
    pub(super) async fn work_in_sessions(mut self, end: Instant) {
        let mut line = Line::to(self.address);
        while now() < end {
            match self.open_session(&mut line).await {
                Some(session) => self.use_session(&mut line, &session, end).await,
                None => self.think().await,
            }
        }
    }

    async fn open_session(&self, line: &mut Line) -> Option<String> {
        let params = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "soak", "version": "1" },
        });
        let ask = Ask::new("POST", "/mcp", &self.key).saying(&super::line::message(0, "initialize", &params));
        let start = now();
        let (session, ended) = match line.ask(ask).await {
            Ok(answer) if answer.session.is_some() => (answer.session, End::Answered(start.elapsed())),
            Ok(answer) => (None, answer.unsuccessful()),
            Err(failure) => (None, End::Lost(failure.to_string())),
        };
        self.ledger.note("session", Due::Result, ended);
        session
    }

    async fn use_session(&mut self, line: &mut Line, session: &str, end: Instant) {
        let mut stream = Line::to(self.address);
        if self.dice.once_in(2) {
            self.listen(&mut stream, session).await;
        }
        for id in 1..=1 + self.dice.below(SESSION) {
            if now() >= end {
                break;
            }
            self.ask_in_session(line, session, id).await;
            self.think().await;
        }
        if self.dice.once_in(3) {
            line.hang_up();
        } else {
            self.leave_session(line, session).await;
        }
    }

    /// Opens the stream of a session; it stays open as long as its line does.
    async fn listen(&self, stream: &mut Line, session: &str) {
        let start = now();
        let ended = match stream.begin(Ask::within((&self.key, session), "GET")).await {
            Ok(response) if response.status().is_success() => End::Answered(start.elapsed()),
            Ok(response) if response.status().as_u16() == 503 => End::Unavailable,
            Ok(response) => End::Refused(response.status().to_string()),
            Err(failure) => End::Lost(failure.to_string()),
        };
        self.ledger.note("stream of a session", Due::Result, ended);
    }

    async fn ask_in_session(&mut self, line: &mut Line, session: &str, id: u64) {
        let within = (self.key.as_str(), session);
        match self.dice.below(20) {
            0 | 1 => {
                let ended = ask_once(line, Ask::legacy(within, id, "tools/list", json!({})), id).await;
                self.ledger.note("list of tools in a session", Due::Result, ended);
            }
            2 => self.cancel(line, session, id).await,
            _ => {
                let call = Call::pick(&mut self.dice);
                let ended = ask_once(line, Ask::legacy(within, id, "tools/call", call.params()), id).await;
                self.ledger.note(call.kind, call.due, ended);
            }
        }
    }

    /// Calls what never answers, and takes it back over another connection.
    async fn cancel(&self, line: &mut Line, session: &str, id: u64) {
        let within = (self.key.as_str(), session);
        let params = json!({ "name": "elder__hang", "arguments": {} });
        let call = line.ask(Ask::legacy(within, id, "tools/call", params));
        let take_back = async {
            sleep(Duration::from_millis(IMPATIENT)).await;
            let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
            Line::to(self.address).ask(Ask::within(within, "POST").saying(&cancelled)).await
        };
        let ended = match tokio::join!(call, take_back) {
            (Ok(_), Ok(taken)) if taken.status.is_success() => End::Cancelled,
            (Ok(_), Ok(taken)) => taken.unsuccessful(),
            (Err(failure), _) | (_, Err(failure)) => End::Lost(failure.to_string()),
        };
        self.ledger.note("call that is taken back", Due::Result, ended);
    }

    async fn leave_session(&self, line: &mut Line, session: &str) {
        let start = now();
        let ended = match line.ask(Ask::within((&self.key, session), "DELETE")).await {
            Ok(answer) if answer.status.is_success() => End::Answered(start.elapsed()),
            Ok(answer) => answer.unsuccessful(),
            Err(failure) => End::Lost(failure.to_string()),
        };
        self.ledger.note("end of a session", Due::Result, ended);
    }

    async fn think(&mut self) {
        let (least, most) = THOUGHT;
        sleep(Duration::from_millis(least + self.dice.below(most - least))).await;
    }
}
