//! What the hub answers, read message by message as it comes, and handed on as the bytes that it is.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use mcphub_hub::RemoteBody;
use mcphub_wire::sse::Decoder;
use mcphub_wire::{Envelope, Limits};
use tokio::time::timeout;

use super::problem::Problem;

/// The largest message of the hub, in bytes: twice what a server may say, for the hub adds to it.
const LARGEST: usize = 16 << 20;
/// How many keys it may hold: a page of a list holds many.
const KEYS: usize = 1_000_000;
/// How long a stream may be silent. The hub says every 15 seconds that it lives.
const SILENCE: Duration = Duration::from_secs(60);

/// Bounds what the hub may answer.
pub(super) const LIMITS: Limits = Limits { body: LARGEST, depth: 64, keys: KEYS, string: LARGEST };

/// Is an answer whose messages are still coming.
pub(super) struct Answers {
    body: RemoteBody,
    form: Form,
}

enum Form {
    /// Holds one message, collected so far.
    Json(BytesMut),
    /// Holds one message in each event.
    Events(Decoder),
    /// Nothing follows.
    Over,
}

/// Is a message as it came, and as it is understood.
type Arrived = (Bytes, Envelope);

impl Answers {
    /// Begins to read an answer that is a success.
    pub(super) fn of(response: Response<RemoteBody>) -> Result<Self, Problem> {
        let media = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let form = match media {
            media if media.eq_ignore_ascii_case("application/json") => Form::Json(BytesMut::new()),
            media if media.eq_ignore_ascii_case("text/event-stream") => {
                Form::Events(Decoder::for_messages(LARGEST))
            }
            _ if response.status() == StatusCode::ACCEPTED => {
                return Err(Problem::Broken("the hub gave it up".to_owned()));
            }
            _ => {
                return Err(Problem::Garbage(format!(
                    "HTTP {} without a message",
                    response.status().as_u16()
                )));
            }
        };
        Ok(Self { body: response.into_body(), form })
    }

    /// Reads on to the next message; nothing when the answer has ended.
    pub(super) async fn next(&mut self) -> Result<Option<Arrived>, Problem> {
        match &mut self.form {
            Form::Json(_) => self.whole().await.map(Some),
            Form::Events(_) => self.event().await,
            Form::Over => Ok(None),
        }
    }

    async fn whole(&mut self) -> Result<Arrived, Problem> {
        while let Some(bytes) = self.piece().await? {
            let Form::Json(read) = &mut self.form else { break };
            if read.len() + bytes.len() > LARGEST {
                return Err(Problem::Garbage(format!("its answer is larger than {LARGEST} bytes")));
            }
            read.extend_from_slice(&bytes);
        }
        match std::mem::replace(&mut self.form, Form::Over) {
            Form::Json(read) => understand(read.freeze()),
            Form::Events(_) | Form::Over => Err(Problem::Broken("it ended".to_owned())),
        }
    }

    async fn event(&mut self) -> Result<Option<Arrived>, Problem> {
        loop {
            let Form::Events(decoder) = &mut self.form else { return Ok(None) };
            let event = decoder.next_event().map_err(|error| Problem::Garbage(error.to_string()))?;
            if let Some(event) = event {
                let is_message = event.event.as_deref().is_none_or(|name| name == "message");
                if is_message && !event.data.is_empty() {
                    return understand(event.data).map(Some);
                }
                continue;
            }
            match self.piece().await? {
                Some(bytes) => {
                    if let Form::Events(decoder) = &mut self.form {
                        decoder.push(&bytes);
                    }
                }
                None => self.form = Form::Over,
            }
        }
    }

    /// Waits for what comes next. A connection that lives says so, for instance when a machine slept meanwhile.
    async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        match timeout(SILENCE, self.body.next()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(Problem::Broken(error.to_string())),
            Err(_) => Err(Problem::Broken(format!("nothing came for {} s", SILENCE.as_secs()))),
        }
    }
}

fn understand(bytes: Bytes) -> Result<Arrived, Problem> {
    match Envelope::parse_with(&bytes, &LIMITS) {
        Ok(message) => Ok((bytes, message)),
        Err(error) => Err(Problem::Garbage(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::super::hub::{Headers, Hub};
    use super::super::stand_in::hub_that_answers;
    use super::{Answers, Bytes, CONTENT_TYPE, KEYS, LARGEST, Problem, understand};

    const START: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"x":"#;

    /// Answers with a body of this kind, and reads its message.
    async fn read(media: &'static str, body: Bytes) -> Result<Bytes, Problem> {
        let answer = move || ([(CONTENT_TYPE, media)], body.clone()).into_response();
        let (remote, _standing) = hub_that_answers(answer).await;
        let response = Hub::new(remote).post(Headers::new(), Bytes::from_static(b"{}")).await?;
        let arrived = Answers::of(response)?.next().await?;
        arrived.map(|(bytes, _)| bytes).ok_or_else(|| Problem::Broken("nothing came".to_owned()))
    }

    #[tokio::test]
    async fn a_message_may_be_as_large_as_the_limit_and_no_larger() {
        for (length, fits) in [(LARGEST, true), (LARGEST + 1, false)] {
            let message = format!("{START}\"{}\"}}}}", "y".repeat(length - START.len() - 4));
            let event = format!("event: message\nid: abcdefgh-12-34\ndata: {message}\n\n");
            for (media, body) in [("application/json", message.clone()), ("text/event-stream", event)] {
                match read(media, body.into()).await {
                    Ok(bytes) => assert!(fits && bytes == message, "{media}: {length} bytes"),
                    Err(Problem::Garbage(_)) => assert!(!fits, "{media}: {length} bytes"),
                    Err(other) => panic!("{media}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_message_may_have_as_many_keys_as_the_limit_and_no_more() {
        for (keys, fits) in [(KEYS, true), (KEYS + 1, false)] {
            let own = START.matches("\":").count();
            let objects = vec![r#"{"":0}"#; keys - own].join(",");
            let message = format!("{START}[{objects}]}}}}");
            assert_eq!(understand(message.into()).is_ok(), fits, "{keys} keys");
        }
    }
}
