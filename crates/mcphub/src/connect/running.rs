//! The requests that run: each has its id for itself, and can be cancelled by it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use mcphub_wire::{Id, error};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::problem::Problem;

/// How many requests run at the same time; the hub allows a person no more.
const MOST: usize = 256;

/// Holds what cancels each request that runs.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<Id, Option<oneshot::Sender<Bytes>>>>>);

/// Is the place of a request among them, until it is dropped.
pub(super) struct Turn {
    running: Running,
    id: Id,
    /// Brings the client's cancellation.
    pub(super) cancelled: oneshot::Receiver<Bytes>,
}

impl Running {
    /// Gives a request its place.
    pub(super) fn enter(&self, id: &Id) -> Result<Turn, Problem> {
        let mut running = self.0.lock();
        let is_full = running.len() >= MOST;
        match running.entry(id.clone()) {
            Entry::Occupied(_) => {
                Err(Problem::Own(error::INVALID_REQUEST, "a request with this id is still running"))
            }
            Entry::Vacant(_) if is_full => {
                Err(Problem::Own(error::RATE_LIMITED, "256 requests run already: wait until one is answered"))
            }
            Entry::Vacant(place) => {
                let (sender, cancelled) = oneshot::channel();
                place.insert(Some(sender));
                Ok(Turn { running: self.clone(), id: id.clone(), cancelled })
            }
        }
    }

    /// Hands a cancellation to the request that it names, once; otherwise it is about nothing.
    pub(super) fn cancel(&self, id: &Id, notice: Bytes) {
        let sender = self.0.lock().get_mut(id).and_then(Option::take);
        if sender.is_none_or(|sender| sender.send(notice).is_err()) {
            tracing::debug!("a cancellation comes late, or for no request");
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.running.0.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use mcphub_wire::Id;

    use super::{MOST, Running};

    #[test]
    fn so_many_requests_run_and_no_more() {
        let running = Running::default();
        let mut turns: Vec<_> =
            (0..MOST).map(|id| running.enter(&Id::Integer(i64::try_from(id).unwrap())).unwrap()).collect();
        assert!(running.enter(&Id::String("one more".into())).is_err());
        drop(turns.pop());
        assert!(running.enter(&Id::Integer(0)).is_err(), "this id is in use");
        assert!(running.enter(&Id::String("one more".into())).is_ok());
    }

    #[test]
    fn a_cancellation_reaches_its_request_once() {
        let running = Running::default();
        let mut turn = running.enter(&Id::Integer(1)).unwrap();
        running.cancel(&Id::String("1".into()), "other".into());
        assert!(turn.cancelled.try_recv().is_err());
        running.cancel(&Id::Integer(1), "first".into());
        running.cancel(&Id::Integer(1), "second".into());
        assert_eq!(turn.cancelled.try_recv().unwrap(), "first");
    }
}
