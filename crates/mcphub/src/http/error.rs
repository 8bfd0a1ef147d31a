//! Errors as clients see them: RFC 9457 problem documents with a stable `code`.
//!
//! What went wrong inside the hub is logged here, once, and told to nobody.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode, Uri};
use mcphub_domain::audit::Refusal;
use mcphub_hub::{HubError, MissingCredential};
use serde::Serialize;
use utoipa::ToSchema;

/// Is what a handler of the API returns.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// Says why a request was refused or failed.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: String,
    retry_after: Option<Duration>,
    challenge: Option<&'static str>,
    missing: Option<Box<Missing>>,
    unrecorded: Option<Refusal>,
}

/// Is a problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem<'a> {
    /// Names the kind of problem: `urn:mcphub:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// Is the status in words.
    title: &'a str,
    /// Is the HTTP status.
    status: u16,
    /// Says what is wrong with this request, and what to do.
    detail: &'a str,
    /// Names the kind of problem, in one stable word for programs.
    code: &'a str,
    /// Lists the credentials that are not filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'a [String]>,
    /// Lists the credentials that wait for a confirmation.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended: Option<&'a [String]>,
    /// Names the page where both are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
}

/// Says which credentials are missing, and where to store them.
#[derive(Debug)]
struct Missing {
    missing: Vec<String>,
    suspended: Vec<String>,
    url: String,
}

/// Marks a response whose refusal no use case has recorded yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unrecorded(pub(crate) Refusal);

/// How long a client waits for a sealed or failing hub.
const A_WHILE: Duration = Duration::from_secs(5);

impl ApiError {
    /// Refuses with a status, a stable code and a sentence.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: Cow::Borrowed(code),
            detail: detail.into(),
            retry_after: None,
            challenge: None,
            missing: None,
            unrecorded: None,
        }
    }

    /// Refuses what is no proper request.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail).recorded_as(Refusal::Malformed)
    }

    /// Refuses a body or parameter that is not what the route takes.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", detail).recorded_as(Refusal::Malformed)
    }

    /// Says that something doesn't exist, or is none of the caller's business.
    pub(crate) fn not_found(what: &str) -> Self {
        let mut error = Self::new(StatusCode::NOT_FOUND, "not_found", format!("{what} does not exist"))
            .recorded_as(Refusal::NotFound);
        error.code = not_found_code(what);
        error
    }

    /// Refuses too many attempts.
    pub(crate) fn too_many(after: Duration) -> Self {
        let detail = format!("too many attempts: wait {} s", seconds(after));
        Self { retry_after: Some(after), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail) }
    }

    /// Logs what went wrong inside, and says only that something did.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed inside the hub");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something failed inside the hub; its log says what",
        )
    }

    /// Shows the status.
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    fn unavailable(cause: &str) -> Self {
        tracing::warn!(%cause, "a request was refused because the hub can't record it");
        let detail = "the hub can't record what it does, so it does nothing: try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "audit.unavailable", detail).after(A_WHILE)
    }

    fn unauthenticated(reason: Refusal, detail: String) -> Self {
        let (code, challenge) = match reason {
            Refusal::NoKey => ("key.missing", r#"Bearer realm="mcphub""#),
            Refusal::MalformedKey => ("key.malformed", r#"Bearer realm="mcphub", error="invalid_token""#),
            Refusal::ExpiredKey => ("key.expired", r#"Bearer realm="mcphub", error="invalid_token""#),
            Refusal::ExposedKey => ("key.exposed", r#"Bearer realm="mcphub", error="invalid_token""#),
            _ => ("key.invalid", r#"Bearer realm="mcphub", error="invalid_token""#),
        };
        Self { challenge: Some(challenge), ..Self::new(StatusCode::UNAUTHORIZED, code, detail) }
    }

    fn missing(credential: MissingCredential, detail: String) -> Self {
        let names = |slots: &[mcphub_domain::SlotName]| slots.iter().map(ToString::to_string).collect();
        let missing = Missing {
            missing: names(&credential.missing),
            suspended: names(&credential.suspended),
            url: credential.url,
        };
        Self {
            missing: Some(Box::new(missing)),
            ..Self::new(StatusCode::CONFLICT, "credential.missing", detail)
        }
    }

    fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Has the refusal recorded as this.
    pub(super) fn recorded_as(self, refusal: Refusal) -> Self {
        Self { unrecorded: Some(refusal), ..self }
    }
}

impl From<HubError> for ApiError {
    fn from(error: HubError) -> Self {
        let detail = error.to_string();
        match error {
            HubError::Unauthenticated(reason) => Self::unauthenticated(reason, detail),
            HubError::Revoked => Self::new(StatusCode::FORBIDDEN, "revoked", detail),
            HubError::Denied(_) => {
                Self::new(StatusCode::FORBIDDEN, "forbidden", "your role doesn't allow this")
            }
            HubError::RateLimited { after } => Self::too_many(after),
            HubError::MissingCredential(credential) => Self::missing(credential, detail),
            HubError::Renewed { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "account.renewed", detail).after(A_WHILE)
            }
            HubError::NotRenewed { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "account.unavailable", detail).after(A_WHILE)
            }
            HubError::Account { .. } => Self::new(StatusCode::BAD_GATEWAY, "account.failed", detail),
            HubError::Sealed => Self::new(StatusCode::SERVICE_UNAVAILABLE, "sealed", detail).after(A_WHILE),
            HubError::Unavailable { reason } => Self::unavailable(&reason),
            HubError::NotFound { what } => Self::not_found(&what),
            HubError::Invalid(_) | HubError::HeaderMismatch(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail).recorded_as(Refusal::Invalid)
            }
            HubError::Conflict(_) => {
                Self::new(StatusCode::CONFLICT, "conflict", detail).recorded_as(Refusal::Invalid)
            }
            HubError::Stale(_) => {
                Self::new(StatusCode::CONFLICT, "conflict.stale", detail).recorded_as(Refusal::Stale)
            }
            HubError::Upstream(_) => Self::new(StatusCode::BAD_GATEWAY, "server.failed", detail),
            HubError::Internal(cause) => Self::internal(cause),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("urn:mcphub:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: &self.code,
            missing: self.missing.as_ref().map(|missing| &missing.missing[..]),
            suspended: self.missing.as_ref().map(|missing| &missing.suspended[..]),
            url: self.missing.as_ref().map(|missing| &missing.url[..]),
        };
        let mut response = (self.status, Json(&problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(refusal) = self.unrecorded {
            response.extensions_mut().insert(Unrecorded(refusal));
        }
        response
    }
}

/// Answers for a path that leads nowhere.
pub(crate) async fn unknown_path() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "path.not_found", "nothing is at this path")
        .recorded_as(Refusal::NotFound)
}

/// Answers for a method that a path doesn't take.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let detail = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method.not_allowed", detail)
        .recorded_as(Refusal::Malformed)
}

/// Rounds up to whole seconds, at least one: who comes back too early is refused again.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())
}

/// Names the kind of thing that doesn't exist: `server.not_found`.
fn not_found_code(what: &str) -> Cow<'static, str> {
    match what.split_ascii_whitespace().next() {
        Some(kind @ ("user" | "group" | "grant" | "server" | "tool" | "key")) => {
            format!("{kind}.not_found").into()
        }
        Some("a") => "credential.not_found".into(),
        _ => "not_found".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiError, Duration, HubError, IntoResponse, Refusal, Unrecorded};

    async fn shown(error: impl Into<ApiError>) -> (u16, Option<String>, serde_json::Value) {
        let response = error.into().into_response();
        let text = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(text("content-type").as_deref(), Some("application/problem+json"));
        let (status, retry) = (response.status().as_u16(), text("retry-after"));
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, retry, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_problem_has_its_five_members_and_a_stable_code() {
        let (status, _, body) = shown(HubError::NotFound { what: "server 7".to_owned() }).await;
        assert_eq!(status, 404);
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:mcphub:problem:server.not_found",
                "title": "Not Found",
                "status": 404,
                "detail": "server 7 does not exist",
                "code": "server.not_found",
            })
        );
    }

    #[tokio::test]
    async fn what_failed_inside_stays_inside() {
        for error in [
            HubError::Internal("/var/lib/mcphub: disk".to_owned()),
            HubError::Unavailable { reason: "/var/lib/mcphub: disk".to_owned() },
        ] {
            let (status, _, body) = shown(error).await;
            assert!(status >= 500);
            assert!(!body.to_string().contains("disk"), "{body}");
        }
    }

    #[tokio::test]
    async fn who_has_to_wait_is_told_how_long() {
        let limited = HubError::RateLimited { after: Duration::from_millis(1_200) };
        assert_eq!(shown(limited).await.1.as_deref(), Some("2"));
        assert_eq!(shown(HubError::Sealed).await.1.as_deref(), Some("5"));
    }

    #[test]
    fn what_the_hub_has_not_recorded_is_marked() {
        let marked = |error: HubError| {
            let response = ApiError::from(error).into_response();
            response.extensions().get::<Unrecorded>().map(|mark| mark.0)
        };
        assert_eq!(marked(HubError::Stale(String::new())), Some(Refusal::Stale));
        assert_eq!(marked(HubError::Invalid(String::new())), Some(Refusal::Invalid));
        assert_eq!(marked(HubError::Unauthenticated(Refusal::NoKey)), None);
    }
}
