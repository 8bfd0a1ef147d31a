//! What a person has to do elsewhere before her call can be made: fill in a credential, or what her server wants of
//! her. Her client shows her the link; what she enters there never passes it.

use std::time::Duration;

use mcphub_hub::{Answer, HubError, MissingCredential, State};
use mcphub_wire::{
    Edit, InputRequest, InputRequired, Outcome, Params, Raw, RpcError, error, input, message, method,
};
use serde_json::json;
use tokio::time::timeout;

use super::super::answer::{Last, forward, missing_credential, server_info, tool_error};
use super::super::methods::MethodError;
use super::rounds::About;
use super::{Side, Talk};

/// With what the keys of the hub's own questions begin.
const OWN: &str = "mcphub/";
/// How long a call waits for the person, once she has seen the link: clients give up after a minute.
const PATIENCE: Duration = Duration::from_secs(50);
/// How many links of a server are shown at once.
const MOST: usize = 16;

/// Says what a person did about a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answered {
    /// She went there.
    Accepted,
    /// She didn't.
    Declined,
}

impl Answered {
    /// Reads the answers to one or more links: she went there if she went everywhere.
    fn read<'a>(mut answers: impl Iterator<Item = &'a Raw>) -> Self {
        let accepts = |answer: &Raw| {
            let action = answer.member("action").ok().flatten();
            action.as_ref().and_then(Raw::text).as_deref() == Some("accept")
        };
        if answers.all(accepts) { Self::Accepted } else { Self::Declined }
    }
}

impl Talk {
    /// Takes out what a modern client brings back for the hub itself; the rest is what it asked for at first.
    pub(super) fn take_out_answers(&mut self, params: Option<Params>) -> Result<Option<Params>, MethodError> {
        let Some(params) = params else { return Ok(None) };
        let params = params.edited(&input::without_state())?;
        match input::take_out(&params, OWN)? {
            None => Ok(Some(params)),
            Some((left, answers)) => {
                self.shown = Some(Answered::read(answers.iter()));
                Ok(Some(left))
            }
        }
    }

    /// Shows the person where she fills in what her server needs, once; `params` are those to go on with.
    pub(super) async fn ask_for(
        &mut self,
        missing: MissingCredential,
        params: Option<Params>,
    ) -> Result<(), Last> {
        let link = json!({ "mode": "url", "message": missing.to_string(), "url": missing.url });
        let request = Raw::json(&link).and_then(|link| Params::parse(&link));
        let can_show = self.can_show_links();
        match (self.shown, request) {
            (None, Ok(request)) if can_show => self.show_page(missing, request),
            (Some(Answered::Accepted), _) if !self.side.is_legacy() => {
                match self.filled_in(&missing).await? {
                    true => Box::pin(self.start(params)).await,
                    false => Err(self.without(&missing)),
                }
            }
            _ => Err(self.without(&missing)),
        }
    }

    fn show_page(&mut self, missing: MissingCredential, request: Params) -> Result<(), Last> {
        let key = format!("{OWN}credential").into();
        let request = InputRequest { key, method: method::ELICITATION.into(), params: Some(request) };
        match &mut self.side {
            Side::Modern => Err(self.require(vec![request])),
            Side::Legacy(questions) => {
                let link = self.visit.hub.unguessable();
                let edit = Edit::new().set("elicitationId", Raw::string(&link));
                let params = request.params.and_then(|params| params.edited(&edit).ok());
                let request = InputRequest { params, ..request };
                questions.begin_round(vec![request], About::Credential(missing, link));
                // Her right to be here is watched while she is away.
                let lease = self.visit.hub.lease_endpoint(&self.visit.caller, self.visit.endpoint);
                self.between.get_or_insert(lease);
                Ok(())
            }
        }
    }

    /// Goes on when a legacy client has shown the link: makes the call as soon as the credential is there.
    pub(super) async fn go_on_with(
        &mut self,
        missing: &MissingCredential,
        link: &str,
        found: &[(Box<str>, Raw)],
    ) -> Result<(), Last> {
        let answered = Answered::read(found.iter().map(|(_, answer)| answer));
        self.shown = Some(answered);
        if answered == Answered::Declined {
            return Err(self.without(missing));
        }
        if !self.filled_in(missing).await? {
            return Err(self.link_required(missing, link));
        }
        let Side::Legacy(questions) = &mut self.side else { return Err(self.broken()) };
        let done = Edit::new().set("elicitationId", Raw::string(link));
        questions.to_send.push_back(message::notification(method::ELICITATION_COMPLETE, None, &done));
        let params = questions.params.clone();
        Box::pin(self.start(params)).await
    }

    /// Says whether the credential was filled in before it was too late.
    async fn filled_in(&mut self, missing: &MissingCredential) -> Result<bool, Last> {
        // Her right to be here is watched meanwhile.
        let lease = self.visit.hub.lease_endpoint(&self.visit.caller, self.visit.endpoint);
        self.between.get_or_insert(lease);
        let filled = tokio::select! {
            biased;
            () = self.revoked() => return Err(self.refuse(&HubError::Revoked)),
            () = self.visit.hub.winding_down() => return Ok(false),
            filled = timeout(PATIENCE, self.visit.hub.filled_in(&self.visit.caller, missing)) => filled,
        };
        match filled {
            Ok(Ok(())) => Ok(true),
            Ok(Err(failure)) => Err(self.refuse(&failure)),
            Err(_) => Ok(false),
        }
    }

    /// Answers without the credential: a tool says in its result what to do, everything else in an error.
    pub(super) fn without(&self, missing: &MissingCredential) -> Last {
        match &*self.asked.method {
            method::TOOLS_CALL => Last::ok(missing_credential(missing, &self.asked.id, self.side.words())),
            _ => self.refuse(&HubError::MissingCredential(missing.clone())),
        }
    }

    /// Lets a legacy client come again when the person is done (2025-11-25).
    fn link_required(&self, missing: &MissingCredential, link: &str) -> Last {
        let text = missing.to_string();
        let one = json!({ "mode": "url", "elicitationId": link, "message": text, "url": missing.url });
        let data = Raw::json(&json!({ "elicitations": [one] })).ok();
        let (id, code) = (Some(&self.asked.id), error::URL_ELICITATION_REQUIRED);
        Last::ok(message::error(id, code, &text, data.as_ref()))
    }

    /// Answers with what the server said last. Modern words have no error for links that a person has to open, so that a
    /// legacy server's becomes a request for input, or a text.
    pub(super) fn finish(&mut self, answer: &Answer) -> Last {
        match &answer.outcome {
            Outcome::Error(failure)
                if failure.code == error::URL_ELICITATION_REQUIRED && !self.side.is_legacy() =>
            {
                self.show_links(failure)
            }
            _ => forward(answer, &self.asked),
        }
    }

    fn show_links(&self, failure: &RpcError) -> Last {
        let links = links(failure);
        let may_ask = self.shown.is_none() && self.can_show_links();
        match (may_ask && !links.is_empty(), &*self.asked.method) {
            (true, _) => self.require(links),
            (false, method::TOOLS_CALL) => {
                let urls = links.iter().filter_map(|link| link.params.as_ref()?.text("url"));
                let text =
                    urls.fold(failure.message.clone().into_string(), |text, url| format!("{text}\n{url}"));
                Last::ok(tool_error(&self.asked, &text))
            }
            (false, _) => {
                let (id, data) = (Some(&self.asked.id), failure.data.as_ref());
                Last::ok(message::error(id, error::CONDITION_NOT_MET, &failure.message, data))
            }
        }
    }

    /// Asks a modern client for what the hub itself wants to know.
    fn require(&self, requests: Vec<InputRequest>) -> Last {
        // So that the answers are known again, and not taken for those of a server that asks like this one.
        let state = self.visit.hub.seal_state(&self.visit.caller, self.bound(), &State::Own);
        match (state, Raw::json(&server_info())) {
            (Ok(state), Ok(info)) => {
                let required = InputRequired { requests, state: Some(state.into()) };
                Last::ok(message::result(&self.asked.id, &required.to_raw(&info)))
            }
            (Err(failure), _) => self.refuse(&failure),
            (_, Err(fault)) => self.refuse(&HubError::Internal(fault.to_string())),
        }
    }

    /// Says whether the client can be asked to show a link, in answer to this request.
    fn can_show_links(&self) -> bool {
        let link = Raw::json(&json!({ "mode": "url" })).and_then(|link| Params::parse(&link));
        let is_able =
            link.is_ok_and(|link| self.client.about.abilities.allow(method::ELICITATION, Some(&link)));
        is_able && (self.side.is_legacy() || method::may_require_input(&self.asked.method))
    }
}

/// Reads the links that a legacy server wants to be opened first, without what only legacy clients know.
fn links(failure: &RpcError) -> Vec<InputRequest> {
    let listed = failure.data.as_ref().and_then(|data| data.member("elicitations").ok()?);
    let listed: Vec<serde_json::Value> =
        listed.and_then(|listed| serde_json::from_slice(&listed).ok()).unwrap_or_default();
    let read =
        listed.iter().filter(|link| link["mode"] == "url").take(MOST).enumerate().map(|(number, link)| {
            let params = Raw::json(link).and_then(|link| Params::parse(&link)).ok()?;
            let params = params.edited(&Edit::new().remove("elicitationId")).ok()?;
            let key = format!("{OWN}link-{number}").into();
            Some(InputRequest { key, method: method::ELICITATION.into(), params: Some(params) })
        });
    read.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{MOST, Raw, RpcError, error, json, links};

    #[test]
    fn so_many_links_of_a_server_are_shown_and_the_others_are_not() {
        let url = |number: usize| format!("https://{number}.example");
        let link =
            |number| json!({ "mode": "url", "elicitationId": "a", "message": "m", "url": url(number) });
        let form = json!({ "mode": "form", "message": "m" });
        for named in [MOST, MOST + 1] {
            let all: Vec<_> = std::iter::once(form.clone()).chain((0..named).map(link)).collect();
            let data = Raw::json(&json!({ "elicitations": all })).unwrap();
            let code = error::URL_ELICITATION_REQUIRED;
            let shown = links(&RpcError { code, message: "open them".into(), data: Some(data) });
            let urls: Vec<_> = shown.iter().filter_map(|link| link.params.as_ref()?.text("url")).collect();
            let first: Vec<_> = (0..MOST).map(url).collect();
            assert_eq!(urls, first, "of {named}");
        }
    }
}
