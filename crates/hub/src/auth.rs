//! Authentication: from a key's text to a caller.

use std::net::IpAddr;
use std::time::Duration;

use mcphub_domain::audit::Refusal;
use mcphub_domain::{Event, KeyText, Principal, RequestId};
use mcphub_policy::decide;

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use tokio::time::Instant;

/// Says how a request was answered.
#[derive(Debug)]
pub struct Answered {
    /// What was asked for, without anything that the caller chose.
    pub method: String,
    /// The path, without its query.
    pub target: String,
    /// The HTTP status.
    pub status: u16,
    /// Why it was refused, if it was.
    pub refused: Option<Refusal>,
}

impl Hub {
    /// Authenticates a hub key that came in a header, from `address`.
    ///
    /// A text whose checksum is wrong is refused without looking anything up. Every refusal is
    /// recorded, folded by reason and network.
    pub async fn authenticate(&self, key: Option<&str>, address: IpAddr) -> Result<Caller, HubError> {
        let mut checked = self.check_key(key);
        if matches!(checked, Err(HubError::Unauthenticated(Refusal::UnknownKey)))
            && Box::pin(self.refresh_for_stranger()).await
        {
            checked = self.check_key(key);
        }
        match checked {
            Ok(principal) => Ok(Caller::new(principal, Some(address), RequestId::random(&self.entropy))),
            Err(error) => {
                let reason = match error {
                    HubError::Unauthenticated(reason) => Some(reason),
                    HubError::Sealed => Some(Refusal::Sealed),
                    _ => None,
                };
                if let Some(reason) = reason {
                    Box::pin(self.floods.note(self, reason, address)).await;
                }
                Err(error)
            }
        }
    }

    /// Refuses a key that stood in a URL: it is marked, and its owner sees that it is exposed.
    pub async fn refuse_exposed(&self, text: &str, address: IpAddr) -> HubError {
        self.floods.note(self, Refusal::ExposedKey, address).await;
        if let Ok(principal @ Principal::Person { .. }) = self.check_key(Some(text))
            && let Err(error) = self.mark_exposed(principal).await
        {
            tracing::warn!(%error, "a key that stood in a URL could not be marked");
        }
        HubError::Unauthenticated(Refusal::ExposedKey)
    }

    /// Acts as somebody at the command line of the machine that holds the data.
    pub fn operator(&self) -> Caller {
        Caller::new(Principal::Operator, None, RequestId::random(&self.entropy))
    }

    /// Records that the edge refused somebody who has not proven who she is, folded by network.
    pub async fn record_stranger(&self, reason: Refusal, address: IpAddr) {
        self.floods.note(self, reason, address).await;
    }

    /// Records a request that the edge refused before any use case saw it.
    pub async fn record_refusal(&self, caller: &Caller, method: &str, reason: Refusal, target: Option<&str>) {
        let denial = decide::refuse(caller.principal, reason, target);
        self.record(caller, denial.into_event(method)).await;
    }

    /// Records a request that was answered and that nothing else has a record of, so that none is
    /// without.
    pub async fn record_answer(&self, caller: &Caller, answered: Answered) {
        if caller.has_record() {
            return;
        }
        let Answered { method, target, status, refused } = answered;
        let event = match refused {
            Some(reason) => decide::refuse(caller.principal, reason, Some(&target)).into_event(&method),
            None => Event::Answered { method, target, status },
        };
        self.record(caller, event).await;
    }

    /// Records something that was read.
    pub async fn record_read(&self, caller: &Caller, method: &str, target: Option<&str>, items: usize) {
        let event =
            Event::Read { method: method.to_owned(), target: target.map(str::to_owned), items: items as u64 };
        self.record(caller, event).await;
    }

    /// Asks the database what is new, for a key that may have been made a moment ago. Strangers can
    /// make the hub ask forty times a second and no more; who comes meanwhile waits for the same answer.
    async fn refresh_for_stranger(&self) -> bool {
        const PAUSE: Duration = Duration::from_millis(25);
        let came = Instant::now();
        let mut asked = self.asked.lock().await;
        match *asked {
            Some(last) if last >= came => return true,
            Some(last) => tokio::time::sleep_until(last + PAUSE).await,
            None => {}
        }
        *asked = Some(Instant::now());
        self.refresh().await.is_ok()
    }

    fn check_key(&self, text: Option<&str>) -> Result<Principal, HubError> {
        let refuse = HubError::Unauthenticated;
        let text = text.ok_or(refuse(Refusal::NoKey))?;
        let shown = KeyText::parse(text).map_err(|_| refuse(Refusal::MalformedKey))?;
        let unsealed = self.seal.open()?;
        let world = self.snapshot.fresh()?;
        let key = world.key(shown.id()).ok_or(refuse(Refusal::UnknownKey))?;
        if !unsealed.pepper.verify(&shown.id(), shown.secret(), &key.mac) {
            return Err(refuse(Refusal::UnknownKey));
        }
        let principal = Principal::Person { user: key.owner, key: key.id };
        decide::principal(&world, principal, self.clock.now()).map_err(|denial| refuse(denial.reason()))?;
        Ok(principal)
    }
}
