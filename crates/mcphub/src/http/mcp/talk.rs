//! What a call says to its client, until its answer: notifications, questions of its server, further rounds.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use mcphub_hub::{ANSWER, Answer, Bound, Client, HubError, Inquiry, Lease, Running, Said, State};
use mcphub_wire::answer::ResultType;
use mcphub_wire::{
    Edit, Fault, InputRequest, InputRequired, Object, Outcome, Params, Raw, Request, error, input, message,
    method, progress,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::answer::{Asked, Last, Refused, Words, failed, forward, server_info};
use super::live::Entry;
use super::methods::{MethodError, begin};
use super::post::refuse_method;
use super::visit::Visit;

/// How often a modern server may ask a legacy client for more before it answers.
const MOST_ROUNDS: usize = 20;
/// Names the only question in a result that a kept call gives.
const KEY: &str = "question";

/// Is a message to the client.
pub(super) enum Message {
    /// A notification or a question; more follows.
    Event(Bytes),
    /// The answer.
    Last(Last),
}

/// Says what came of a call first.
pub(super) enum Opened {
    Over(Last),
    Talking(Bytes, Box<Talk>),
}

/// Is a call that runs: what it says goes through here.
pub(super) struct Talk {
    visit: Visit,
    asked: Asked,
    client: Client,
    running: Option<Running>,
    /// Holds the caller's right between two rounds.
    between: Option<Lease>,
    side: Side,
}

/// Says how a client hears what its server wants to know.
pub(super) enum Side {
    /// In a result; it comes again with the answer.
    Modern,
    /// In requests on its stream.
    Legacy(Box<Questions>),
}

/// Are the questions to a legacy client.
pub(super) struct Questions {
    entry: Arc<Entry>,
    /// What the client asked for, to be asked again.
    params: Option<Params>,
    to_send: VecDeque<Bytes>,
    round: Option<Round>,
    rounds: usize,
    /// Until when the client may answer, in all rounds together.
    until: Option<Instant>,
}

/// Is a round that waits for its answers.
struct Round {
    answers: mpsc::Receiver<(Box<str>, Outcome)>,
    missing: usize,
    found: Vec<(Box<str>, Raw)>,
    state: Option<Box<str>>,
}

impl Side {
    pub(super) fn legacy(entry: Arc<Entry>, params: Option<Params>) -> Self {
        let (to_send, round) = (VecDeque::new(), None);
        Self::Legacy(Box::new(Questions { entry, params, to_send, round, rounds: 0, until: None }))
    }

    const fn words(&self) -> Words {
        match self {
            Self::Modern => Words::Modern,
            Self::Legacy(_) => Words::Legacy,
        }
    }
}

/// Begins a call and waits for what it says first.
pub(super) async fn open(visit: Visit, request: Request, client: Client, side: Side) -> Opened {
    let asked = Asked::of(&request, side.words());
    let mut talk = Talk { visit, asked, client, running: None, between: None, side };
    let message = match talk.begin(request.params).await {
        Ok(()) => talk.next().await,
        Err(last) => Message::Last(last),
    };
    match message {
        Message::Event(first) => Opened::Talking(first, Box::new(talk)),
        Message::Last(last) => Opened::Over(last),
    }
}

impl Talk {
    /// Waits until the caller's right has ended.
    pub(super) async fn revoked(&self) {
        match (&self.running, &self.between) {
            (Some(running), _) => running.revoked().await,
            (None, Some(lease)) => lease.revoked().await,
            (None, None) => std::future::pending().await,
        }
    }

    /// Waits for what is said next.
    pub(super) async fn next(&mut self) -> Message {
        loop {
            if let Side::Legacy(questions) = &mut self.side {
                if let Some(question) = questions.to_send.pop_front() {
                    return Message::Event(question);
                }
                if let Some(round) = questions.round.take() {
                    match Box::pin(self.go_on(round)).await {
                        Ok(()) => continue,
                        Err(last) => return Message::Last(last),
                    }
                }
            }
            let Some(running) = &mut self.running else { return Message::Last(self.broken()) };
            match running.next().await {
                Some(Said::Notification(bytes)) => return Message::Event(bytes),
                Some(Said::Answer(answer)) if answer.expects == ResultType::InputRequired => {
                    if let Some(last) = self.take_up(&answer) {
                        return Message::Last(last);
                    }
                }
                Some(Said::Answer(answer)) if answer.expects == ResultType::Task => {
                    return Message::Last(self.name_task(&answer));
                }
                Some(Said::Answer(answer)) => return Message::Last(forward(&answer, &self.asked)),
                Some(Said::Inquiry(inquiry)) => {
                    if let Some(last) = self.pass_on(inquiry) {
                        return Message::Last(last);
                    }
                }
                Some(Said::Failed(error)) => {
                    return Message::Last(failed(&error, Some(&self.asked.id)).with_ok_status().into());
                }
                Some(Said::Revoked) => return Message::Last(self.refuse(&HubError::Revoked)),
                None => return Message::Last(self.broken()),
            }
        }
    }

    /// Begins the call, or goes on with one that a modern client comes back to.
    async fn begin(&mut self, params: Option<Params>) -> Result<(), Last> {
        let state = match (&self.side, &params) {
            (Side::Modern, Some(params)) if method::may_require_input(&self.asked.method) => {
                input::state(params)
            }
            // Only a further round of a modern client brings something back.
            (_, Some(params))
                if input::is_further_round(params) && !method::is_about_task(&self.asked.method) =>
            {
                let first = params.edited(&input::first_round());
                return match first {
                    Ok(first) => self.start(Some(first)).await,
                    Err(fault) => Err(self.refuse(&HubError::Internal(fault.to_string()))),
                };
            }
            _ => Ok(None),
        };
        let begun = match state {
            Ok(None) => self.call(params).await,
            Ok(Some(state)) => match Box::pin(self.come_back(params, &state)).await {
                Ok(Some(last)) => return Err(last),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
            Err(_) => Err(MethodError::Params("requestState must be a string")),
        };
        match begun {
            Ok(()) => Ok(()),
            Err(error) => Err(self.say_why(error).await),
        }
    }

    async fn start(&mut self, params: Option<Params>) -> Result<(), Last> {
        match self.call(params).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.say_why(error).await),
        }
    }

    async fn say_why(&self, error: MethodError) -> Last {
        Box::pin(refuse_method(&self.visit, error, &self.asked.id, self.side.words())).await
    }

    async fn call(&mut self, params: Option<Params>) -> Result<(), MethodError> {
        let client = self.client.clone();
        self.running = Some(begin(&self.visit, &self.asked.method, params, client).await?);
        Ok(())
    }

    /// Takes up what a modern client brings back: its server's state, or a call that waits for an answer.
    async fn come_back(&mut self, params: Option<Params>, state: &str) -> Result<Option<Last>, MethodError> {
        const USELESS: MethodError =
            MethodError::Params("requestState is not one for this request, or too old: begin anew");
        let useless = |error| match error {
            HubError::Invalid(_) => USELESS,
            other => MethodError::Hub(other),
        };
        let token = params.as_ref().and_then(|params| progress::requested_token(params).ok().flatten());
        let (hub, caller) = (&self.visit.hub, &self.visit.caller);
        let (params, name) = match hub.open_state(caller, self.bound(), state).map_err(useless)? {
            State::Server(state) => {
                let edit = input::with_state(&state);
                let params = params.map(|params| params.edited(&edit)).transpose()?;
                return self.call(params).await.map(|()| None);
            }
            State::Kept(name) => (params, name),
        };
        let (running, inquiry) =
            hub.resume(caller, (&self.asked.method, &self.client), (name, token)).await.map_err(useless)?;
        self.running = Some(running);
        match params.as_ref().and_then(|params| input::response(params, KEY)) {
            Some(response) => {
                inquiry.answer(&Outcome::Result(response));
                Ok(None)
            }
            None => Ok(Some(self.keep(inquiry))),
        }
    }

    /// Asks the client what its server wants to know. A modern client is asked in the last message of this request.
    fn pass_on(&mut self, inquiry: Inquiry) -> Option<Last> {
        match &mut self.side {
            Side::Modern => Some(self.keep(inquiry)),
            Side::Legacy(questions) => {
                let (method, params) = (inquiry.method.clone(), inquiry.params.clone());
                questions.ask(&method, params.as_ref(), Box::new(move |outcome| inquiry.answer(&outcome)));
                None
            }
        }
    }

    /// Keeps the call until its client comes back.
    fn keep(&mut self, inquiry: Inquiry) -> Last {
        let Some(running) = self.running.take() else { return self.broken() };
        let params = inquiry.params.as_ref().map(|params| params.edited(&to_modern()));
        let request = InputRequest {
            key: KEY.into(),
            method: inquiry.method.clone(),
            params: params.and_then(Result::ok),
        };
        let (hub, caller) = (&self.visit.hub, &self.visit.caller);
        let kept = hub
            .keep(caller, running, inquiry)
            .and_then(|state| hub.seal_state(caller, self.bound(), &state))
            .map(|state| InputRequired { requests: vec![request], state: Some(state.into()) });
        match (kept, Raw::json(&server_info())) {
            (Ok(required), Ok(info)) => Last::ok(message::result(&self.asked.id, &required.to_raw(&info))),
            (Err(error), _) => self.refuse(&error),
            (_, Err(fault)) => self.refuse(&HubError::Internal(fault.to_string())),
        }
    }

    /// Takes up a modern server's result that asks for input: sealed for a modern client, asked of a legacy one.
    fn take_up(&mut self, answer: &Answer) -> Option<Last> {
        let Outcome::Result(result) = &answer.outcome else { return Some(self.broken()) };
        let required = match InputRequired::read(result, self.client.about.abilities) {
            Ok(required) => required,
            Err(fault) => return Some(self.refuse(&HubError::Internal(fault.to_string()))),
        };
        match &mut self.side {
            Side::Modern => Some(self.seal(answer, result, required.state)),
            Side::Legacy(questions) if questions.rounds == MOST_ROUNDS => {
                let text = format!("the server asked {MOST_ROUNDS} times for more, and is not asked again");
                let code = error::UPSTREAM_UNAVAILABLE;
                Some(Refused::new(StatusCode::OK, code, &text).of(Some(self.asked.id.clone())).into())
            }
            Side::Legacy(questions) => {
                questions.begin_round(required);
                None
            }
        }
    }

    fn seal(&self, answer: &Answer, result: &Raw, state: Option<Box<str>>) -> Last {
        let sealed = state.map_or(Ok(None), |state| {
            let state = State::Server(state);
            self.visit.hub.seal_state(&self.visit.caller, self.bound(), &state).map(Some)
        });
        let outcome = match sealed {
            Ok(None) => return forward(answer, &self.asked),
            Ok(Some(state)) => input::with_state(&state).apply(result),
            Err(error) => return self.refuse(&error),
        };
        match outcome {
            Ok(result) => Last::ok(message::result(&self.asked.id, &result)),
            Err(fault) => self.refuse(&HubError::Internal(fault.to_string())),
        }
    }

    /// Names the task that the call became, for this client alone.
    fn name_task(&self, answer: &Answer) -> Last {
        let began = self.running.as_ref().and_then(Running::began);
        let (Outcome::Result(result), Some(began)) = (&answer.outcome, began) else { return self.broken() };
        let named = Object::parse(result)
            .and_then(|object| {
                object.text("taskId").map(Into::into).ok_or(Fault::Invalid("a task must have an id"))
            })
            .map_err(|fault| HubError::Invalid(fault.to_string()))
            .and_then(|id: String| self.visit.hub.seal_task(&self.visit.caller, &self.visit.path, began, &id))
            .and_then(|name| {
                let named = Edit::new().set("taskId", Raw::string(&name)).apply(result);
                named.map_err(|fault| HubError::Internal(fault.to_string()))
            });
        match named {
            Ok(result) => Last::ok(message::result(&self.asked.id, &result)),
            Err(error) => self.refuse(&error),
        }
    }

    /// Waits for the answers of a round, and asks the server again with them: as another call, decided anew.
    async fn go_on(&mut self, mut round: Round) -> Result<(), Last> {
        self.between = self.running.take().map(Running::into_lease).or(self.between.take());
        let until = match &mut self.side {
            Side::Legacy(questions) => *questions.until.get_or_insert_with(|| Instant::now() + ANSWER),
            Side::Modern => Instant::now(),
        };
        while round.missing > 0 {
            let answer = tokio::select! {
                biased;
                () = self.revoked() => return Err(self.refuse(&HubError::Revoked)),
                () = self.visit.hub.stopping() => None,
                answer = timeout_at(until, round.answers.recv()) => answer.ok().flatten(),
            };
            match answer {
                Some((key, Outcome::Result(result))) => round.found.push((key, result)),
                Some((_, Outcome::Error(error))) => {
                    let text = format!("the client could not answer the server: {}", error.message);
                    return Err(Last::ok(message::error(Some(&self.asked.id), error.code, &text, None)));
                }
                None => {
                    let text = "the client did not answer what the server asked";
                    return Err(Last::ok(message::error(
                        Some(&self.asked.id),
                        error::INTERNAL_ERROR,
                        text,
                        None,
                    )));
                }
            }
            round.missing -= 1;
        }
        let edit = input::next_round(&round.found, round.state.as_deref());
        let params = match &self.side {
            Side::Legacy(questions) => {
                questions.params.as_ref().map(|params| params.edited(&edit)).transpose()
            }
            Side::Modern => Ok(None),
        };
        match params {
            Ok(params) => self.start(params).await,
            Err(fault) => Err(self.refuse(&HubError::Internal(fault.to_string()))),
        }
    }

    fn bound(&self) -> Bound<'_> {
        Bound {
            path: &self.visit.path,
            method: &self.asked.method,
            target: self.asked.target.as_deref().unwrap_or_default(),
            arguments: self.asked.arguments.as_ref(),
        }
    }

    fn refuse(&self, error: &HubError) -> Last {
        failed(error, Some(&self.asked.id)).into()
    }

    fn broken(&self) -> Last {
        self.refuse(&HubError::Internal("a reply ended without its answer".to_owned()))
    }
}

impl Questions {
    fn ask(&mut self, method: &str, params: Option<&Params>, answer: Box<dyn FnOnce(Outcome) + Send>) {
        let id = self.entry.ask(answer);
        let is_link = params.is_some_and(|params| params.text("mode").as_deref() == Some("url"));
        let edit = match is_link && params.is_some_and(|params| params.get("elicitationId").is_none()) {
            // The revision that has links wants them named; nothing comes under the name afterwards.
            true => Edit::new().set("elicitationId", Raw::string(&format!("mcphub-{id}"))),
            false => Edit::new(),
        };
        self.to_send.push_back(message::request(&id, method, params, &edit));
    }

    fn begin_round(&mut self, required: InputRequired) {
        let InputRequired { requests, state } = required;
        let missing = requests.len();
        let (sender, answers) = mpsc::channel(missing.max(1));
        for InputRequest { key, method, params } in requests {
            let sender = sender.clone();
            let answer = Box::new(move |outcome| {
                if sender.try_send((key, outcome)).is_err() {
                    tracing::debug!("a client answered twice, or too late");
                }
            });
            self.ask(&method, params.as_ref(), answer);
        }
        self.rounds += 1;
        self.round = Some(Round { answers, missing, found: Vec::new(), state });
    }
}

/// Takes from a question what only legacy clients know.
fn to_modern() -> Edit {
    Edit::new().remove("elicitationId").remove("task").remove_meta("progressToken")
}
