//! Whom it concerns what a server says on a stream that several calls share: a process's output, the stream of a session.
//! Nothing on such a stream says whose it is but the message itself.

use std::collections::BTreeMap;

use mcphub_wire::{Abilities, Id, Notification, Request, method, progress, task};

use crate::key::Scope;
use crate::outgoing::Outgoing;
use crate::related::TaskNames;

/// Is a call, as far as it matters for what comes in its course. The default is a request of the hub's own.
#[derive(Default)]
pub(crate) struct Course {
    /// What the server may ask of whoever makes the call; nothing if it is the hub's own request.
    asks: Option<Abilities>,
    /// The task whose end it waits for.
    awaited: Option<TaskNames>,
}

/// Holds the calls that run, by the hub's ids of them, with the ways to them.
pub(crate) struct Courses<T>(BTreeMap<i64, (Course, T)>);

impl Course {
    pub(crate) fn of(request: &Outgoing) -> Self {
        let awaited = request.task.clone().filter(|_| request.waits_for_task());
        Self { asks: request.asks(), awaited }
    }

    fn can(&self, request: &Request) -> bool {
        self.asks.is_some_and(|asks| asks.allow(&request.method, request.params.as_ref()))
    }

    fn awaits(&self, task: &str) -> bool {
        self.awaited.as_ref().is_some_and(|names| *names.there == *task)
    }

    fn hears(&self, token: i64) -> bool {
        self.awaited.as_ref().and_then(|names| names.progress.as_ref()).is_some_and(|one| one.there == token)
    }
}

impl<T> Default for Courses<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Courses<T> {
    pub(crate) fn begin(&mut self, id: i64, course: Course, way: T) {
        self.0.insert(id, (course, way));
    }

    /// Takes out a call that is over; nothing if it was taken out before.
    pub(crate) fn end(&mut self, id: i64) -> Option<T> {
        self.0.remove(&id).map(|(_, way)| way)
    }

    pub(crate) fn into_ways(self) -> impl Iterator<Item = T> {
        self.0.into_values().map(|(_, way)| way)
    }

    /// Finds the call whose stream a modern notification belongs to.
    pub(crate) fn of_stream(&self, id: i64) -> Option<&T> {
        self.0.get(&id).map(|(_, way)| way)
    }

    /// Finds the call that a notification is for: it names the call, or the task that it waits for, or the token of the
    /// call that became the task.
    pub(crate) fn told(&self, scope: Scope, notification: &Notification) -> Option<&T> {
        match &*notification.method {
            method::PROGRESS => {
                let Some(Id::Integer(token)) = progress::token(notification) else { return None };
                self.of_stream(token).or_else(|| self.last(|course| course.hears(token)))
            }
            method::TASK_STATUS => {
                let task = task::named(notification.params.as_ref()?)?;
                self.last(|course| course.awaits(&task))
            }
            // A log message names no call, so it goes to a person only if it can be about hers alone.
            method::MESSAGE if scope != Scope::Shared => {
                let mut peoples = self.0.values().filter(|(course, _)| course.asks.is_some());
                peoples.next().filter(|_| peoples.next().is_none()).map(|(_, way)| way)
            }
            _ => None,
        }
    }

    /// Finds the call whose client a server asks: the one that waits for the task in whose course it asks, else the one that
    /// began last, if all are of one person. Says why if there is none.
    pub(crate) fn asked(&self, scope: Scope, request: &Request) -> Result<&T, &'static str> {
        const UNABLE: &str = "no call runs whose client can do this";
        const SHARED: &str = "several people share this connection, so the server can ask nobody: an admin may give each person one with isolation = \"person\"";
        let task = request.params.as_ref().and_then(task::related);
        if let Some(task) = task.filter(|task| self.last(|course| course.awaits(task)).is_some()) {
            return self.last(|course| course.awaits(&task) && course.can(request)).ok_or(UNABLE);
        }
        if scope == Scope::Shared {
            return Err(SHARED);
        }
        self.last(|course| course.can(request)).ok_or(UNABLE)
    }

    fn last(&self, is_meant: impl Fn(&Course) -> bool) -> Option<&T> {
        self.0.values().rev().find(|(course, _)| is_meant(course)).map(|(_, way)| way)
    }
}

#[cfg(test)]
mod tests {
    use mcphub_domain::UserId;
    use mcphub_wire::{Abilities, Envelope, Raw};
    use serde_json::{Value, json};

    use super::{Course, Courses, Outgoing, Scope, TaskNames, method};
    use crate::client::Client;
    use crate::outgoing::Wanted;
    use crate::related::TaskProgress;

    const PERSON: Scope = Scope::Person(UserId::from_bytes([1; 16]));

    /// Is the course of a call that waits for a task, which a call became with a token.
    fn waits(name: &str, token: i64) -> Course {
        let progress = Some(TaskProgress { here: Raw::string("hers"), there: token });
        let task = TaskNames { here: "sealed".into(), there: name.into(), progress };
        Course { asks: Some(Abilities::ALL), awaited: Some(task) }
    }

    /// Holds a call 7 of somebody's, a request 8 of the hub's own, and two people who wait for the tasks `a` and `b`.
    fn calls() -> Courses<&'static str> {
        let mut calls = Courses::default();
        calls.begin(7, Course { asks: Some(Abilities::ALL), awaited: None }, "call");
        calls.begin(8, Course::default(), "own");
        calls.begin(9, waits("a", 1), "waits for a");
        calls.begin(10, waits("b", 2), "waits for b");
        calls
    }

    fn envelope(method: &str, params: &Value, id: Option<i64>) -> Envelope {
        let mut message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        if let Some(id) = id {
            message["id"] = id.into();
        }
        Envelope::parse(&message.to_string().into()).unwrap()
    }

    #[test]
    fn a_notification_goes_to_the_call_that_it_names_or_whose_task_it_is_about() {
        let calls = calls();
        let told = |scope, method: &str, params: Value| {
            let Envelope::Notification(told) = envelope(method, &params, None) else { panic!() };
            calls.told(scope, &told).copied()
        };
        let progress =
            |token: Value| told(Scope::Shared, "notifications/progress", json!({ "progressToken": token }));
        assert_eq!(progress(json!(7)), Some("call"));
        assert_eq!(progress(json!(1)), Some("waits for a"));
        assert_eq!((progress(json!(3)), progress(json!("1"))), (None, None));
        let status =
            |task: &str| told(Scope::Shared, "notifications/tasks/status", json!({ "taskId": task }));
        assert_eq!((status("b"), status("c")), (Some("waits for b"), None));
        let log = |scope| told(scope, "notifications/message", json!({ "level": "info", "data": 1 }));
        assert_eq!((log(PERSON), log(Scope::Shared)), (None, None), "it could be for any of three");
        let mut alone = Courses::default();
        alone.begin(8, Course::default(), "own");
        alone.begin(7, Course { asks: Some(Abilities::NONE), awaited: None }, "call");
        let Envelope::Notification(message) = envelope("notifications/message", &json!({}), None) else {
            panic!()
        };
        assert_eq!(alone.told(PERSON, &message), Some(&"call"));
    }

    #[test]
    fn a_question_goes_to_whoever_waits_for_its_task_and_else_to_nobody_whom_it_may_not_concern() {
        let mut calls = calls();
        let ask = |task: &str| {
            let related = json!({ "io.modelcontextprotocol/related-task": { "taskId": task } });
            let Envelope::Request(asked) = envelope("roots/list", &json!({ "_meta": related }), Some(1))
            else {
                panic!()
            };
            asked
        };
        let asked = |calls: &Courses<&'static str>, scope, task| calls.asked(scope, &ask(task)).ok().copied();
        assert_eq!(asked(&calls, Scope::Shared, "a"), Some("waits for a"));
        assert_eq!(asked(&calls, PERSON, "a"), Some("waits for a"));
        assert_eq!(asked(&calls, Scope::Shared, "c"), None);
        assert_eq!(asked(&calls, PERSON, "c"), Some("waits for b"));
        calls.begin(11, Course { asks: Some(Abilities::NONE), awaited: None }, "can't be asked");
        assert_eq!(asked(&calls, PERSON, "c"), Some("waits for b"));
        assert_eq!(calls.end(9), Some("waits for a"));
        assert_eq!(asked(&calls, Scope::Shared, "a"), None);
        calls.begin(12, Course { asks: Some(Abilities::NONE), ..waits("a", 1) }, "can't be asked");
        let reason = |scope| calls.asked(scope, &ask("a")).unwrap_err().contains("isolation");
        assert!(
            !reason(Scope::Shared) && !reason(PERSON),
            "nobody else is asked for a task that somebody waits for"
        );
        assert!(calls.asked(Scope::Shared, &ask("c")).unwrap_err().contains("isolation"));
    }

    #[test]
    fn only_who_waits_for_a_task_to_end_hears_what_comes_in_its_course() {
        let of = |method| {
            let Envelope::Request(asked) = envelope(method, &json!({ "taskId": "sealed" }), Some(1)) else {
                panic!()
            };
            let wanted = Wanted::Task { method, id: "a".into(), progress: None };
            Course::of(&Outgoing::ask(&wanted, asked.params.unwrap(), Client::NOBODY)).awaits("a")
        };
        assert!(of(method::TASKS_RESULT));
        assert!(!of(method::TASKS_GET) && !of(method::TASKS_CANCEL));
    }
}
