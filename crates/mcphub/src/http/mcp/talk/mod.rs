//! What a call says to its client, until its answer: `rounds` is what its server asks of the client, `links` what the
//! person has to do elsewhere first.

mod links;
mod rounds;

use std::sync::Arc;

use bytes::Bytes;
use mcphub_hub::{Answer, Client, Entrance, HubError, Lease, Running, Said};
use mcphub_wire::answer::ResultType;
use mcphub_wire::{Outcome, Params, Request, input, message, method, task};

use super::answer::{Asked, Last, Words, failed};
use super::live::Entry;
use super::methods::{MethodError, begin};
use super::post::refuse_method;
use super::visit::Visit;
use links::Answered;
use rounds::Questions;

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
    /// What the person did about a link that she was shown, if she was.
    shown: Option<Answered>,
    side: Side,
}

/// Says how a client hears what its server wants to know.
pub(super) enum Side {
    /// In a result; it comes again with the answer.
    Modern,
    /// In requests on its stream.
    Legacy(Box<Questions>),
}

impl Side {
    pub(super) fn legacy(entry: Arc<Entry>, params: Option<Params>) -> Self {
        Self::Legacy(Box::new(Questions::new(entry, params)))
    }

    const fn is_legacy(&self) -> bool {
        matches!(self, Self::Legacy(_))
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
    let mut talk = Talk { visit, asked, client, running: None, between: None, shown: None, side };
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
            let message = match self.take_turn().await {
                Ok(Some(question)) => Some(Message::Event(question)),
                Ok(None) => self.hear().await,
                Err(last) => Some(Message::Last(last)),
            };
            if let Some(message) = message {
                return message;
            }
        }
    }

    /// Returns a question that waits for a legacy client, or makes the call again with the answers to a round of them.
    async fn take_turn(&mut self) -> Result<Option<Bytes>, Last> {
        let Side::Legacy(questions) = &mut self.side else { return Ok(None) };
        if let Some(question) = questions.to_send.pop_front() {
            return Ok(Some(question));
        }
        match questions.round.take() {
            Some(round) => Box::pin(self.go_on(round)).await.map(|()| None),
            None => Ok(None),
        }
    }

    /// Waits for what the call says, or for an answer of a legacy client; nothing if it is not for the client.
    async fn hear(&mut self) -> Option<Message> {
        let Some(running) = &mut self.running else { return Some(Message::Last(self.broken())) };
        let said = match &mut self.side {
            Side::Modern => running.next().await,
            Side::Legacy(questions) => tokio::select! {
                biased;
                (inquiry, outcome) = questions.answered() => {
                    let told = Box::pin(self.answer(inquiry, &outcome)).await;
                    return match told {
                        Ok(()) => None,
                        Err(error) => Some(Message::Last(self.say_why(error).await)),
                    };
                }
                said = running.next() => said,
            },
        };
        self.pass(said)
    }

    /// Passes on what the call said; nothing if that begins a round of questions.
    fn pass(&mut self, said: Option<Said>) -> Option<Message> {
        let last = match said {
            Some(Said::Notification(bytes)) => return Some(Message::Event(bytes)),
            Some(Said::Inquiry(inquiry)) => self.pass_on(inquiry)?,
            Some(Said::Answer(answer)) => match answer.expects {
                ResultType::InputRequired => self.take_up(&answer)?,
                ResultType::Task => self.name_task(&answer),
                ResultType::Complete => self.finish(&answer),
            },
            Some(Said::Failed(error)) => failed(&error, Some(&self.asked.id)).with_ok_status().into(),
            Some(Said::Revoked) => self.refuse(&HubError::Revoked),
            None => self.broken(),
        };
        Some(Message::Last(last))
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
            Ok(None) => return self.start(params).await,
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

    /// Begins the call as it is. A person whose credential is missing is asked for it, if her client can do that.
    async fn start(&mut self, params: Option<Params>) -> Result<(), Last> {
        // Only who was asked for it may have filled it in meanwhile.
        let again = self.shown.and(params.clone());
        match self.call(params).await {
            Ok(()) => Ok(()),
            Err(MethodError::Hub(HubError::MissingCredential(missing))) => {
                Box::pin(self.ask_for(missing, again)).await
            }
            Err(error) => Err(self.say_why(error).await),
        }
    }

    async fn say_why(&self, error: MethodError) -> Last {
        match error {
            MethodError::Hub(HubError::MissingCredential(missing)) => self.without(&missing),
            error => Box::pin(refuse_method(&self.visit, error, &self.asked.id, self.side.words())).await,
        }
    }

    /// Calls, and once more if the server refused the token of her account, which is a new one now: nothing has run.
    async fn call(&mut self, params: Option<Params>) -> Result<(), MethodError> {
        match self.call_once(params.clone()).await {
            Err(MethodError::Hub(HubError::Renewed { .. })) => Box::pin(self.call_once(params)).await,
            called => called,
        }
    }

    async fn call_once(&mut self, params: Option<Params>) -> Result<(), MethodError> {
        let client = self.client.clone();
        self.running = Some(begin(&self.visit, &self.asked.method, params, client).await?);
        Ok(())
    }

    /// Names the task that the call became, for its person at this endpoint.
    fn name_task(&self, answer: &Answer) -> Last {
        let began = self.running.as_ref().and_then(Running::began);
        let (Outcome::Result(result), Some(began)) = (&answer.outcome, began) else { return self.broken() };
        let Visit { hub, caller, path, endpoint, .. } = &self.visit;
        let entrance = Entrance { endpoint: *endpoint, path, client: &self.client };
        let named = task::begun(result, answer.version)
            .map_err(|fault| HubError::Invalid(fault.to_string()))
            .and_then(|id| hub.seal_task(caller, entrance, began, &id))
            .and_then(|name| {
                let named = task::begun_as(result, answer.version, &name);
                named.map_err(|fault| HubError::Internal(fault.to_string()))
            });
        match named {
            Ok(result) => Last::ok(message::result(&self.asked.id, &result)),
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&self, error: &HubError) -> Last {
        failed(error, Some(&self.asked.id)).into()
    }

    fn broken(&self) -> Last {
        self.refuse(&HubError::Internal("a reply ended without its answer".to_owned()))
    }
}
