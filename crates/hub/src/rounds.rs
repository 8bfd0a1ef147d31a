//! Requests of several rounds: a server asks something in return, and the client comes again with the answer.
//!
//! What a client brings back is sealed for her, her request and a time, so a server gets only what it gave. A legacy
//! server's call can't come again: it is kept, and waits for her.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcphub_domain::{Event, Timestamp, UserId};
use mcphub_upstream::{ANSWER, Inquiry};
use mcphub_vault::{Context, Sealed};
use mcphub_wire::{Outcome, Raw};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::caller::Caller;
use crate::client::Client;
use crate::error::HubError;
use crate::hub::Hub;
use crate::running::{Running, Said};

/// How many calls of one person may wait for her answer.
const KEPT_PER_PERSON: usize = 16;
/// How many calls may wait in all.
const KEPT: usize = 1_024;
/// How long a state can be, in bytes, before it is sealed: what is sealed has at most 64 KiB, its time and its kind included.
pub(crate) const LONGEST_STATE: usize = 63 << 10;

/// Is what a state is good for: this request again, and no other.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// The endpoint's path.
    pub path: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The tool, prompt or resource, as the client names it.
    pub target: &'a str,
    /// The arguments.
    pub arguments: Option<&'a Raw>,
}

/// Is what a client brings back, opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// What the server gave.
    Server(Box<str>),
    /// The name of a call that waits.
    Kept([u8; 16]),
    /// Nothing: the hub itself asked something.
    Own,
}

/// Holds the calls that wait for an answer.
#[derive(Default)]
pub(crate) struct Kept(Mutex<HashMap<[u8; 16], Waiting>>);

struct Waiting {
    owner: UserId,
    /// Takes who comes for the call.
    door: oneshot::Sender<oneshot::Sender<Box<(Running, Inquiry)>>>,
}

impl Kept {
    /// Lets a call wait under a name, if neither its person nor everybody together has too many.
    fn admit(&self, name: [u8; 16], call: Waiting) -> Result<(), HubError> {
        let mut kept = self.0.lock();
        let hers = kept.values().filter(|waiting| waiting.owner == call.owner).count();
        if hers >= KEPT_PER_PERSON || kept.len() >= KEPT {
            return Err(HubError::Invalid("too many calls wait for an answer".to_owned()));
        }
        kept.insert(name, call);
        Ok(())
    }
}

impl Hub {
    /// Seals what a client is to bring back within ten minutes.
    pub fn seal_state(&self, caller: &Caller, bound: Bound<'_>, state: &State) -> Result<String, HubError> {
        let until = self.clock.now().plus(ANSWER);
        let (kind, content) = match state {
            State::Server(text) if text.len() > LONGEST_STATE => {
                return Err(HubError::Invalid("the server's state is too long".to_owned()));
            }
            State::Server(text) => (b's', text.as_bytes()),
            State::Kept(name) => (b'k', &name[..]),
            State::Own => (b'o', &[][..]),
        };
        let plain = [&until.as_micros().to_be_bytes()[..], &[kind], content].concat();
        let (owner, name) = (owner(caller)?.to_string(), bound.digest());
        let sealed = self.seal.open()?.vault.seal(&place(&owner, &name), &plain, &self.entropy)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed.as_bytes()))
    }

    /// Opens what a client brings back: only hers, only for the same request, and only in time.
    pub fn open_state(&self, caller: &Caller, bound: Bound<'_>, text: &str) -> Result<State, HubError> {
        let useless = || {
            HubError::Invalid("requestState is not one for this request, or too old: begin anew".to_owned())
        };
        let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| useless())?;
        let sealed = Sealed::from_bytes(sealed).map_err(|_| useless())?;
        let (owner, name) = (owner(caller)?.to_string(), bound.digest());
        let plain = self.seal.open()?.vault.open(&place(&owner, &name), &sealed).map_err(|_| useless())?;
        let (until, rest) = plain.expose().split_first_chunk::<8>().ok_or_else(useless)?;
        if Timestamp::from_micros(i64::from_be_bytes(*until)) < self.clock.now() {
            return Err(useless());
        }
        match rest.split_first() {
            Some((b's', text)) => {
                String::from_utf8(text.to_vec()).ok().map(|text| State::Server(text.into()))
            }
            Some((b'k', name)) => name.try_into().ok().map(State::Kept),
            Some((b'o', [])) => Some(State::Own),
            _ => None,
        }
        .ok_or_else(useless)
    }

    /// Keeps a call until its client comes for it. It ends with her right, with the hub, and after ten minutes.
    pub fn keep(&self, caller: &Caller, mut running: Running, inquiry: Inquiry) -> Result<State, HubError> {
        let owner = owner(caller)?;
        let (name, (door, mut comes)) = (self.entropy.bytes::<16>(), oneshot::channel());
        self.kept.admit(name, Waiting { owner, door })?;
        let (hub, stop) = (self.handle(), self.stop.clone());
        self.tasks.spawn(async move {
            let call = tokio::select! {
                biased;
                // Its end, with her right or with the server, is recorded as what it is.
                () = ended(&mut running) => None,
                () = stop.cancelled() => None,
                who = &mut comes => who.ok(),
                () = sleep(ANSWER) => None,
            };
            if let Some(hub) = hub.upgrade() {
                hub.kept.0.lock().remove(&name);
            }
            if let Some(who) = call
                && who.send(Box::new((running, inquiry))).is_err()
            {
                tracing::debug!("a client went away as it came for its call");
            }
        });
        Ok(State::Kept(name))
    }

    /// Hands a kept call over, once.
    pub async fn resume(
        &self,
        caller: &Caller,
        (method, client): (&str, &Client),
        (name, token): ([u8; 16], Option<Raw>),
    ) -> Result<(Running, Inquiry), HubError> {
        let gone = || HubError::Invalid("the call doesn't wait any more: begin anew".to_owned());
        let owner = owner(caller)?;
        let waiting = {
            let mut kept = self.kept.0.lock();
            match kept.get(&name) {
                Some(waiting) if waiting.owner == owner => kept.remove(&name),
                _ => None,
            }
        };
        let (who, comes) = oneshot::channel();
        waiting.ok_or_else(gone)?.door.send(who).map_err(|_| gone())?;
        let (mut running, inquiry) = *comes.await.map_err(|_| gone())?;
        running.reply.go_on_for(&client.about, token);
        self.record_read(caller, method, None, 1).await;
        Ok((running, inquiry))
    }

    /// Sends a client's answer to what the server of a call asked, once it is recorded.
    pub async fn answer(
        &self,
        caller: &Caller,
        running: &Running,
        (inquiry, outcome): (Inquiry, &Outcome),
    ) -> Result<(), HubError> {
        let gone = || HubError::Invalid("the call is over".to_owned());
        let server = running.server().ok_or_else(gone)?;
        let digest = match outcome {
            Outcome::Result(result) => Sha256::digest(result.as_bytes()),
            Outcome::Error(error) => Sha256::digest(error.code.to_string()),
        };
        let (method, answer) = (inquiry.method.to_string(), hex::encode(digest));
        self.record_durable(caller, Event::InquiryAnswered { server, method, answer }).await?;
        inquiry.answer(outcome);
        Ok(())
    }
}

/// Waits until a call ends that nobody listens to: what its server says meanwhile, nobody hears.
async fn ended(running: &mut Running) {
    while let Some(Said::Notification(_) | Said::Inquiry(_)) = running.next().await {}
}

impl Bound<'_> {
    /// Digests the request, whatever the order and spacing of its arguments.
    fn digest(&self) -> String {
        let arguments = self.arguments.map_or(&b"{}"[..], |raw| raw.as_bytes());
        let canonical = serde_json::from_slice::<serde_json::Value>(arguments)
            .ok()
            .and_then(|value| serde_json_canonicalizer::to_vec(&value).ok());
        let mut digest = Sha256::new();
        for part in [
            self.path.as_bytes(),
            self.method.as_bytes(),
            self.target.as_bytes(),
            canonical.as_deref().unwrap_or(arguments),
        ] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        hex::encode(digest.finalize())
    }
}

fn owner(caller: &Caller) -> Result<UserId, HubError> {
    let nobody = || HubError::Invalid("only a person is asked".to_owned());
    caller.principal().user().ok_or_else(nobody)
}

/// Says where a state is sealed for: one person, and one request.
const fn place<'a>(owner: &'a str, request: &'a str) -> Context<'a> {
    Context {
        table: "requests",
        column: "state",
        row: request,
        owner,
        name: "",
        version: 1,
        destination: None,
    }
}

#[cfg(test)]
mod tests {
    use super::{HubError, KEPT, KEPT_PER_PERSON, Kept, UserId, Waiting, oneshot};

    #[test]
    fn so_many_calls_of_one_person_and_of_all_wait_and_no_more() {
        let kept = Kept::default();
        let name = |number: usize| (number as u128).to_be_bytes();
        let admit = |number: usize, person: usize| {
            let (owner, door) = (UserId::from_bytes(name(person)), oneshot::channel().0);
            kept.admit(name(number), Waiting { owner, door })
        };
        for number in 0..KEPT {
            admit(number, number / KEPT_PER_PERSON).unwrap();
            if number == KEPT_PER_PERSON - 1 {
                assert!(matches!(admit(KEPT, 0), Err(HubError::Invalid(_))), "one person has too many");
            }
        }
        assert!(matches!(admit(KEPT, KEPT), Err(HubError::Invalid(_))), "all together have too many");
        kept.0.lock().remove(&name(0));
        admit(KEPT, KEPT).unwrap();
    }
}
