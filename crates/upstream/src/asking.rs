//! What a legacy server asks on the stream of its session, while calls run. It names no call, so it goes to the call that began
//! last, whose person is the only one that this session is for; of a session that several people share, nobody is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcphub_wire::{Abilities, Request};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::http::HttpConnection;
use crate::inquiry::{Back, Inquiry, own_answer, refusal};
use crate::key::Scope;
use crate::legacy::Session;

/// How many questions may wait for a call.
const WAITING: usize = 16;

/// Are the calls of a session whose clients can be asked something.
#[derive(Default)]
pub(crate) struct Askable(Mutex<BTreeMap<i64, (Abilities, mpsc::Sender<Inquiry>)>>);

/// Takes what is asked while a call runs.
pub(crate) struct Asked {
    session: Arc<Session>,
    id: i64,
    questions: mpsc::Receiver<Inquiry>,
}

/// Says whether the person of a connection can be asked outside of a call's own stream.
pub(crate) fn can_ask(connection: &HttpConnection) -> bool {
    connection.key.scope != Scope::Shared && connection.key.abilities != Abilities::NONE
}

impl Asked {
    /// Lets the server ask the client of a call.
    pub(crate) fn new(session: &Arc<Session>, id: i64, abilities: Abilities) -> Self {
        let (sender, questions) = mpsc::channel(WAITING);
        session.askable.0.lock().insert(id, (abilities, sender));
        Self { session: Arc::clone(session), id, questions }
    }

    /// Waits for the next question. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Inquiry {
        match self.questions.recv().await {
            Some(inquiry) => inquiry,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.session.askable.0.lock().remove(&self.id);
    }
}

impl Session {
    /// Takes what the server asks on the session's stream.
    pub(crate) fn asked(self: &Arc<Self>, connection: &Arc<HttpConnection>, request: Request) {
        let back = Back::Http(Arc::clone(connection), Arc::clone(self));
        if let Some(answer) = own_answer(&request) {
            return back.send(answer);
        }
        let call = {
            let calls = self.askable.0.lock();
            let able = |(abilities, _): &&(Abilities, mpsc::Sender<Inquiry>)| {
                abilities.allow(&request.method, request.params.as_ref())
            };
            calls.values().rev().find(able).map(|(_, sender)| sender.clone())
        };
        match call {
            // One that isn't taken is answered when it is dropped.
            Some(call) => drop(call.try_send(Inquiry::new(request, back))),
            None => back.send(refusal(&request, "no call runs whose client can do this")),
        }
    }
}
