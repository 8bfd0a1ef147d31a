//! Reading requests: what doesn't fit becomes a problem document that repeats no value of a body.

use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use mcphub_domain::{Timestamp, UserId};
use mcphub_hub::Caller;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use crate::http::AppState;
use crate::http::bodies::Bodies;
use crate::http::error::{ApiError, ApiResult};

/// Is a JSON body.
pub(super) struct Body<T>(pub(super) T);

/// Is a body of JSON that is handed on as text.
pub(super) struct Text(pub(super) String);

/// Is what stands in the path.
pub(super) struct In<T>(pub(super) T);

/// Is what stands in the query.
pub(super) struct Asked<T>(pub(super) T);

/// Names a person in a path: by her id, or `me`.
pub(super) struct Person(Option<UserId>);

/// Says which revision of a thing is to be removed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Removed {
    /// The revision that was read before.
    pub(super) revision: i64,
}

/// Is a time in a request, in RFC 3339.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) Timestamp);

/// How long a body may take to come in.
const PATIENCE: Duration = Duration::from_secs(30);

impl<T: DeserializeOwned> FromRequest<AppState> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> ApiResult<Self> {
        let bytes = read(request, state).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| ApiError::malformed(discreet(&error.to_string())))
    }
}

impl FromRequest<AppState> for Text {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> ApiResult<Self> {
        let bytes = read(request, state).await?;
        let text = String::from_utf8(bytes.into());
        text.map(Self).map_err(|_| ApiError::malformed("the body is not UTF-8"))
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for In<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        // An id that can't be one names nothing, just like one that nobody has.
        path.map(|Path(path)| Self(path))
            .map_err(|_: PathRejection| ApiError::not_found("what the path names"))
    }
}

impl<T: DeserializeOwned> FromRequestParts<AppState> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(query)| Self(query))
            .map_err(|error: QueryRejection| ApiError::malformed(error.body_text()))
    }
}

impl Person {
    /// Means whoever calls.
    pub(super) const fn caller() -> Self {
        Self(None)
    }

    /// Says who is meant.
    pub(super) fn of(&self, caller: &Caller) -> ApiResult<UserId> {
        self.0.or_else(|| caller.principal().user()).ok_or_else(|| ApiError::not_found("user me"))
    }
}

impl<'de> Deserialize<'de> for Person {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "me" => Ok(Self(None)),
            id => id.parse().map(Some).map(Self).map_err(D::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

async fn read(request: Request, state: &AppState) -> ApiResult<Bytes> {
    if !is_json(request.headers()) {
        let detail = "send the body as application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "body.not_json", detail));
    }
    receive(request, &state.bodies).await
}

/// Reads a body when its turn comes, if all of it comes in time.
async fn receive(request: Request, bodies: &Bodies) -> ApiResult<Bytes> {
    let read = async {
        let person = request.extensions().get().and_then(|caller: &Caller| caller.principal().user());
        let _turn = bodies.turn(person, request.body().size_hint().upper()).await;
        Bytes::from_request(request, &()).await
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    let late =
        || ApiError::new(StatusCode::REQUEST_TIMEOUT, "body.late", "the body took too long to come in");
    read.map_err(|_| late())?.map_err(|error: BytesRejection| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body.too_large", "the body is larger than 1 MiB")
        }
        _ => ApiError::bad_request("body.unreadable", "the body could not be read"),
    })
}

/// A page of another site can send a form without asking, but no JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (kind, _) = kind.split_once(';').unwrap_or((kind, ""));
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// Takes the value out of a parser's message: it may be a secret that stands in the wrong place.
fn discreet(message: &str) -> String {
    let repeats = message.starts_with("invalid type") || message.starts_with("invalid value");
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if repeats => format!("expected {expected}"),
        None if repeats => "a value is of the wrong type".to_owned(),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use axum::response::IntoResponse as _;
    use futures_util::stream;
    use http_body_util::BodyExt as _;
    use tokio::time::sleep;

    use super::{Bodies, Duration, PATIENCE, Request, discreet, receive};

    /// Reads a body that comes in after a while.
    async fn received_after(span: Duration) -> Result<String, (u16, serde_json::Value)> {
        let body = stream::once(async move {
            sleep(span).await;
            Ok::<_, Infallible>("{}")
        });
        match receive(Request::new(Body::from_stream(body)), &Bodies::default()).await {
            Ok(bytes) => Ok(String::from_utf8(bytes.into()).unwrap()),
            Err(error) => {
                let response = error.into_response();
                let status = response.status().as_u16();
                let problem = response.into_body().collect().await.unwrap().to_bytes();
                let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
                Err((status, problem["code"].clone()))
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_as_long_as_the_limit_and_no_longer() {
        assert_eq!(received_after(PATIENCE).await, Ok("{}".to_owned()));
        let late = received_after(PATIENCE + Duration::from_millis(1)).await;
        assert_eq!(late, Err((408, "body.late".into())));
    }

    #[test]
    fn a_message_repeats_no_value() {
        let wrong =
            serde_json::from_str::<std::collections::BTreeMap<String, u32>>(r#"{"a":"s3cret, expected x"}"#);
        let told = discreet(&wrong.unwrap_err().to_string());
        assert!(told.starts_with("expected u32 at line 1 column"), "{told}");
        let unknown = "unknown field `role`, expected one of `name`, `email` at line 1 column 7";
        assert_eq!(discreet(unknown), unknown);
    }
}
