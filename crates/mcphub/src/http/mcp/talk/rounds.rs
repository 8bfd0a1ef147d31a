//! What servers ask back, and what clients bring back: in results that come again, or in requests on a stream.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use mcphub_hub::{ANSWER, Answer, Bound, HubError, Inquiry, MissingCredential, Running, State};
use mcphub_wire::{Edit, InputRequest, InputRequired, Outcome, Params, Raw, error, input, message, progress};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::super::answer::{Last, Refused, forward, server_info};
use super::super::live::Entry;
use super::super::methods::MethodError;
use super::{Side, Talk};

/// How often a modern server may ask a legacy client for more before it answers.
const MOST_ROUNDS: usize = 20;
/// Names the only question in a result that a kept call gives.
const KEY: &str = "question";

/// Are the questions to a legacy client.
pub(in super::super) struct Questions {
    entry: Arc<Entry>,
    /// What the client asked for, to be asked again.
    pub(super) params: Option<Params>,
    pub(super) to_send: VecDeque<Bytes>,
    pub(super) round: Option<Round>,
    /// How often the server has asked.
    rounds: usize,
    /// Until when the client may answer, in all rounds together.
    until: Option<Instant>,
    /// Brings what the client answered to what the server asked in the middle of its call.
    answered: Option<Answered>,
}

/// Brings answers to the call that waits for them.
struct Answered {
    sender: mpsc::Sender<(Inquiry, Outcome)>,
    receiver: mpsc::Receiver<(Inquiry, Outcome)>,
    /// How many are missing.
    missing: usize,
}

/// Is a round that waits for its answers.
pub(super) struct Round {
    pub(super) about: About,
    answers: mpsc::Receiver<(Box<str>, Outcome)>,
    missing: usize,
    pub(super) found: Vec<(Box<str>, Raw)>,
}

/// Says who asks in a round.
pub(super) enum About {
    /// The server, which is asked again with the answers, and with this state.
    Server(Option<Box<str>>),
    /// The hub, for a credential; the link has this name.
    Credential(MissingCredential, String),
}

/// How many answers wait at most for a call; a server may ask no more at once.
const WAITING: usize = 128;

impl Talk {
    /// Takes up what a modern client brings back: its server's state, or a call that waits for an answer.
    pub(super) async fn come_back(
        &mut self,
        params: Option<Params>,
        state: &str,
    ) -> Result<Option<Last>, MethodError> {
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
            State::Own => {
                let params = self.take_out_answers(params)?;
                return Ok(self.start(params).await.err());
            }
        };
        let (running, inquiry) =
            hub.resume(caller, (&self.asked.method, &self.client), (name, token)).await.map_err(useless)?;
        self.running = Some(running);
        match params.as_ref().and_then(|params| input::response(params, KEY)) {
            Some(response) => self.answer(inquiry, &Outcome::Result(response)).await.map(|()| None),
            None => Ok(Some(self.keep(inquiry))),
        }
    }

    /// Sends what the client answered to its server. What can't be recorded isn't sent: the server hears that there is
    /// no answer.
    pub(super) async fn answer(&self, inquiry: Inquiry, outcome: &Outcome) -> Result<(), MethodError> {
        let Some(running) = &self.running else { return Ok(()) };
        Ok(self.visit.hub.answer(&self.visit.caller, running, (inquiry, outcome)).await?)
    }

    /// Asks the client what its server wants to know. A modern client is asked in the last message of this request.
    pub(super) fn pass_on(&mut self, inquiry: Inquiry) -> Option<Last> {
        match &mut self.side {
            Side::Modern => Some(self.keep(inquiry)),
            Side::Legacy(questions) => {
                questions.pass_on(inquiry);
                None
            }
        }
    }

    /// Keeps the call until its client comes back.
    fn keep(&mut self, inquiry: Inquiry) -> Last {
        let Some(running) = self.running.take() else { return self.broken() };
        let params = match inquiry.params.as_ref().map(|params| params.edited(&to_modern())).transpose() {
            Ok(params) => params,
            Err(fault) => return self.refuse(&HubError::Internal(fault.to_string())),
        };
        let request = InputRequest { key: KEY.into(), method: inquiry.method.clone(), params };
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
    pub(super) fn take_up(&mut self, answer: &Answer) -> Option<Last> {
        let Outcome::Result(result) = &answer.outcome else { return Some(self.broken()) };
        let required = match InputRequired::read(result, self.client.about.abilities) {
            Ok(required) => required,
            Err(fault) => return Some(self.refuse(&HubError::Internal(fault.to_string()))),
        };
        match &mut self.side {
            Side::Modern => Some(self.seal(answer, result, required.state)),
            Side::Legacy(questions) => {
                let refused = questions.take_up(required).err()?;
                Some(refused.of(Some(self.asked.id.clone())).into())
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

    /// Waits for the answers of a round, and asks the server again with them: as another call, decided anew.
    pub(super) async fn go_on(&mut self, mut round: Round) -> Result<(), Last> {
        self.between = self.running.take().map(Running::into_lease).or(self.between.take());
        let until = match &mut self.side {
            Side::Legacy(questions) => *questions.until.get_or_insert_with(|| Instant::now() + ANSWER),
            Side::Modern => Instant::now(),
        };
        while round.missing > 0 {
            let answer = tokio::select! {
                biased;
                () = self.revoked() => return Err(self.refuse(&HubError::Revoked)),
                () = self.visit.hub.winding_down() => None,
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
        let state = match round.about {
            About::Server(state) => state,
            About::Credential(missing, link) => {
                return self.go_on_with(&missing, &link, &round.found).await;
            }
        };
        let edit = input::next_round(&round.found, state.as_deref());
        let params = match &self.side {
            Side::Legacy(questions) => {
                questions.params.as_ref().map(|params| params.edited(&edit)).transpose()
            }
            Side::Modern => Ok(None),
        };
        match params {
            Ok(params) => Box::pin(self.start(params)).await,
            Err(fault) => Err(self.refuse(&HubError::Internal(fault.to_string()))),
        }
    }

    /// Names the request that a state is good for.
    pub(super) fn bound(&self) -> Bound<'_> {
        Bound {
            path: &self.visit.path,
            method: &self.asked.method,
            target: self.asked.target.as_deref().unwrap_or_default(),
            arguments: self.asked.arguments.as_ref(),
        }
    }
}

impl Questions {
    pub(super) fn new(entry: Arc<Entry>, params: Option<Params>) -> Self {
        let (to_send, round, answered) = (VecDeque::new(), None, None);
        Self { entry, params, to_send, round, rounds: 0, until: None, answered }
    }

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

    /// Begins to ask what a server wants to know before it answers, unless it has asked too often.
    fn take_up(&mut self, required: InputRequired) -> Result<(), Refused> {
        if self.rounds >= MOST_ROUNDS {
            let text = format!("the server asked {MOST_ROUNDS} times for more, and is not asked again");
            return Err(Refused::new(StatusCode::OK, error::UPSTREAM_UNAVAILABLE, &text));
        }
        self.rounds += 1;
        self.begin_round(required.requests, About::Server(required.state));
        Ok(())
    }

    /// Asks the client what the server asks in the middle of its call.
    fn pass_on(&mut self, inquiry: Inquiry) {
        let Some(sender) = self.expect_answer() else {
            return inquiry.refuse("too many questions wait for an answer");
        };
        let (method, params) = (inquiry.method.clone(), inquiry.params.clone());
        let answer = move |outcome| {
            if sender.try_send((inquiry, outcome)).is_err() {
                tracing::debug!("a client answered a call that is over");
            }
        };
        self.ask(&method, params.as_ref(), Box::new(answer));
    }

    /// Expects one answer more, unless too many are missing; says where it has to go.
    fn expect_answer(&mut self) -> Option<mpsc::Sender<(Inquiry, Outcome)>> {
        let answered = self.answered.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(WAITING);
            Answered { sender, receiver, missing: 0 }
        });
        if answered.missing >= WAITING {
            return None;
        }
        answered.missing += 1;
        Some(answered.sender.clone())
    }

    /// Waits for what the client answers to what its server asked; for ever if it asked nothing.
    pub(super) async fn answered(&mut self) -> (Inquiry, Outcome) {
        match self.answered.as_mut().filter(|answered| answered.missing > 0) {
            Some(answered) => match answered.receiver.recv().await {
                Some(answer) => {
                    answered.missing -= 1;
                    answer
                }
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Begins to ask the client something, all at once.
    pub(super) fn begin_round(&mut self, requests: Vec<InputRequest>, about: About) {
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
        self.round = Some(Round { about, answers, missing, found: Vec::new() });
    }
}

/// Takes from a question what only legacy clients know.
fn to_modern() -> Edit {
    Edit::new().remove("elicitationId").remove("task").remove_meta("progressToken")
}

#[cfg(test)]
mod tests {
    use mcphub_wire::Id;
    use serde_json::Value;

    use super::super::super::live::Live;
    use super::{Arc, InputRequired, Last, MOST_ROUNDS, Questions, WAITING, error};

    fn questions() -> Questions {
        let entry = Live::new("test").call([1; 32], &Id::Integer(1)).unwrap();
        Questions::new(Arc::new(entry), None)
    }

    #[test]
    fn a_server_may_ask_so_many_times_before_it_answers() {
        let mut questions = questions();
        let ask = |questions: &mut Questions| {
            questions.take_up(InputRequired { requests: Vec::new(), state: Some("s".into()) })
        };
        for number in 1..=MOST_ROUNDS {
            assert!(ask(&mut questions).is_ok() && questions.round.take().is_some(), "round {number}");
        }
        let refused = Last::from(ask(&mut questions).err().unwrap());
        let refused: Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(refused["error"]["code"], error::UPSTREAM_UNAVAILABLE, "{refused}");
        assert!(questions.round.is_none(), "nobody is asked");
    }

    #[test]
    fn so_many_questions_of_a_call_wait_for_answers_and_the_next_one_is_refused() {
        let mut questions = questions();
        for number in 1..=WAITING {
            assert!(questions.expect_answer().is_some(), "question {number}");
        }
        assert!(questions.expect_answer().is_none());
    }
}
