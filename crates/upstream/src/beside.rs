//! What a legacy server says on the stream of its session while calls run, beside the calls' own streams: news of them, and
//! questions.

use std::sync::Arc;

use mcphub_wire::{Abilities, Notification, Request};
use parking_lot::Mutex;

use crate::course::{Course, Courses};
use crate::http::HttpConnection;
use crate::inquiry::{Back, Inquiry, own_answer, refusal};
use crate::key::Scope;
use crate::legacy::Session;
use crate::outgoing::Outgoing;
use crate::outlet::{Inlet, Outlet};
use crate::reply::Step;

/// Are the calls of a session to which something may come on its stream.
#[derive(Default)]
pub(crate) struct Reachable(Mutex<Courses<Outlet>>);

/// Takes what comes for a call.
pub(crate) struct Beside {
    session: Arc<Session>,
    id: i64,
    said: Inlet,
}

/// Says whether something on the session's stream can be for a request: on a connection that people share only for one that
/// waits for a task, as nothing else says whose it is.
pub(crate) fn is_reachable(connection: &HttpConnection, request: &Outgoing) -> bool {
    connection.key.scope != Scope::Shared || request.waits_for_task()
}

/// Says whether the person of a connection can be asked outside of a call's own stream.
pub(crate) fn can_ask(connection: &HttpConnection) -> bool {
    connection.key.scope != Scope::Shared && connection.key.abilities != Abilities::NONE
}

impl Beside {
    /// Lets the server say something for a call on the session's stream.
    pub(crate) fn new(
        (connection, session): (&HttpConnection, &Arc<Session>),
        id: i64,
        request: &Outgoing,
    ) -> Self {
        let (outlet, said) = Outlet::new(&connection.shared.drops);
        session.reachable.0.lock().begin(id, Course::of(request), outlet);
        Self { session: Arc::clone(session), id, said }
    }

    /// Waits for what is said next. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Step {
        match self.said.next().await {
            Some(step) => step,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.session.reachable.0.lock().end(self.id));
    }
}

impl Session {
    /// Hands a notification on the session's stream, of so many bytes, to the call that it is for.
    pub(crate) fn told(&self, connection: &HttpConnection, notification: Notification, size: usize) {
        self.heard(connection, &notification);
        let calls = self.reachable.0.lock();
        if let Some(call) = calls.told(connection.key.scope, &notification) {
            call.offer(Step::Notification(notification), size);
        }
    }

    /// Takes what the server asks on the session's stream.
    pub(crate) fn asked(self: &Arc<Self>, connection: &Arc<HttpConnection>, request: Request, size: usize) {
        let back = Back::Http(Arc::clone(connection), Arc::clone(self));
        if let Some(answer) = own_answer(&request) {
            return back.send(answer);
        }
        let call = self.reachable.0.lock().asked(connection.key.scope, &request).cloned();
        match call {
            Ok(call) => call.offer(Step::Inquiry(Inquiry::new(request, back)), size),
            Err(reason) => back.send(refusal(&request, reason)),
        }
    }
}
