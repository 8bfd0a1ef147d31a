//! Why a request has no answer of the hub's, and the answer that the client gets instead.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use mcphub_hub::{RemoteBody, Unreached};
use mcphub_wire::{Envelope, Id, Limits, Raw, Response, error, message};
use serde_json::json;
use tokio::time::timeout;

use super::answers::LIMITS;

/// How much is read of an answer that refuses, in bytes.
const REFUSAL: usize = 256 << 10;

/// How long the rest of one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Says why a request has no answer.
#[derive(Debug)]
pub(super) enum Problem {
    /// The hub said so, as a message.
    Refused(StatusCode, Response),
    /// The hub said so in the words of HTTP.
    Status(StatusCode, Option<Raw>),
    /// Nothing came.
    Unreached(String),
    /// What came ended before the answer.
    Broken(String),
    /// What came is no answer.
    Garbage(String),
    /// The bridge itself doesn't take it: a code and a sentence.
    Own(i64, &'static str),
}

/// Reads a body that isn't too long.
async fn whole(mut body: RemoteBody) -> Option<Bytes> {
    let mut read = BytesMut::new();
    while let Ok(Some(bytes)) = body.next().await {
        if read.len() + bytes.len() > REFUSAL {
            return None;
        }
        read.extend_from_slice(&bytes);
    }
    Some(read.freeze())
}

impl From<Unreached> for Problem {
    fn from(unreached: Unreached) -> Self {
        Self::Unreached(unreached.to_string())
    }
}

impl Problem {
    /// Reads an answer whose status is no success.
    pub(super) async fn of(status: StatusCode, body: RemoteBody) -> Self {
        let Ok(Some(body)) = timeout(PATIENCE, whole(body)).await else { return Self::Status(status, None) };
        match Envelope::parse_with(&body, &LIMITS) {
            Ok(Envelope::Response(response)) => Self::Refused(status, response),
            _ => Self::Status(status, Raw::parse(body, &Limits::REQUEST).ok().filter(Raw::is_object)),
        }
    }

    /// Returns the status that the hub answered with.
    pub(super) const fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(status, _) | Self::Status(status, _) => Some(*status),
            _ => None,
        }
    }

    /// Writes the answer to a request that has this problem with the hub at `place`.
    pub(super) fn answer(&self, id: &Id, place: &str) -> Bytes {
        let (code, text, data) = match self {
            Self::Refused(_, response) => return message::reid(response, id),
            Self::Status(status, problem) => of_status(*status, problem.as_ref(), place),
            Self::Unreached(reason) => {
                let text = format!(
                    "the hub at {place} can't be reached: {reason}; see that it runs, and that --url is its address"
                );
                (error::UPSTREAM_UNAVAILABLE, text, None)
            }
            Self::Broken(reason) => {
                let text = format!(
                    "the answer of the hub at {place} broke off: {reason}; what was asked for may have been done"
                );
                (error::UPSTREAM_UNAVAILABLE, text, None)
            }
            Self::Garbage(reason) => {
                let text =
                    format!("what answers at {place} is no hub: {reason}; see that --url is a hub's address");
                (error::UPSTREAM_UNAVAILABLE, text, None)
            }
            Self::Own(code, reason) => (*code, (*reason).to_owned(), None),
        };
        message::error(Some(id), code, &text, data.as_ref())
    }
}

/// Says what a status means that comes without a message: a code, a sentence, and the hub's own words.
fn of_status(status: StatusCode, problem: Option<&Raw>, place: &str) -> (i64, String, Option<Raw>) {
    let number = status.as_u16();
    let detail = problem.and_then(|problem| problem.member("detail").ok()??.text().map(Into::into));
    let detail: String = detail.unwrap_or_else(|| format!("HTTP {number}"));
    let (code, advice) = match number {
        401 => (
            error::CONDITION_NOT_MET,
            "set MCPHUB_KEY to a hub key that lives, as `mcphub key create` makes them",
        ),
        403 => (error::CONDITION_NOT_MET, "ask who runs the hub"),
        300..=399 => {
            (error::UPSTREAM_UNAVAILABLE, "it is somewhere else: see that --url is the hub's own address")
        }
        404 | 405 => (error::UPSTREAM_UNAVAILABLE, "see that --url is a hub's address"),
        413 => (error::INVALID_REQUEST, "send less"),
        429 => (error::RATE_LIMITED, "wait a while"),
        _ => (error::UPSTREAM_UNAVAILABLE, "try again; its log says more"),
    };
    let reason = if number == 401 { "unauthenticated" } else { "refused" };
    let own = match (code, problem) {
        (_, Some(problem)) => Some(problem.clone()),
        (error::CONDITION_NOT_MET, None) => Raw::json(&json!({ "reason": reason })).ok(),
        _ => None,
    };
    (code, format!("the hub at {place} refused (HTTP {number}): {detail}; {advice}"), own)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use bytes::Bytes;
    use http::StatusCode;
    use mcphub_wire::{Id, Raw};
    use serde_json::{Value, json};

    use super::super::hub::{Headers, Hub};
    use super::super::stand_in::hub_that_answers;
    use super::{Problem, REFUSAL};

    /// Is refused in so many bytes, and says whether they were read.
    async fn is_read(bytes: usize) -> bool {
        let (start, end) = ("{\"detail\":\"", "\"}");
        let text = format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()));
        let refuse = move || (StatusCode::FORBIDDEN, text.clone()).into_response();
        let (remote, _standing) = hub_that_answers(refuse).await;
        match Hub::new(remote).post(Headers::new(), Bytes::from_static(b"{}")).await {
            Err(Problem::Status(StatusCode::FORBIDDEN, problem)) => problem.is_some(),
            other => panic!("{:?}", other.map(|response| response.status())),
        }
    }

    #[tokio::test]
    async fn a_refusal_is_read_up_to_the_limit_and_of_a_longer_one_the_status_is_told() {
        assert!(is_read(REFUSAL).await);
        assert!(!is_read(REFUSAL + 1).await);
    }

    fn answer(problem: &Problem) -> Value {
        serde_json::from_slice(&problem.answer(&Id::Integer(7), "127.0.0.1:3000")).unwrap()
    }

    #[test]
    fn what_the_hub_says_is_repeated_with_what_to_do() {
        let own = Raw::json(&json!({ "code": "unauthenticated", "detail": "no key" })).unwrap();
        let told = answer(&Problem::Status(StatusCode::UNAUTHORIZED, Some(own)));
        assert_eq!((&told["id"], &told["error"]["code"]), (&json!(7), &json!(-31001)));
        assert_eq!(told["error"]["data"]["code"], "unauthenticated");
        let text = told["error"]["message"].as_str().unwrap();
        assert!(
            text.starts_with("the hub at 127.0.0.1:3000 refused (HTTP 401): no key; set MCPHUB_KEY"),
            "{text}"
        );
    }

    #[test]
    fn a_status_alone_is_an_answer_too() {
        for (status, code) in
            [(301, -31010), (403, -31001), (404, -31010), (413, -32600), (429, -31029), (502, -31010)]
        {
            let told = answer(&Problem::Status(StatusCode::from_u16(status).unwrap(), None));
            assert_eq!(told["error"]["code"], code, "{status}");
            assert!(told["error"]["message"].as_str().unwrap().contains(&format!("HTTP {status}")));
        }
    }
}
