//! The audit log: searched and verified, never changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use mcphub_domain::audit::PersonalFields;
use mcphub_domain::{ChainId, ServerId, ToolName, UserId};
use mcphub_hub::Hub;
use mcphub_hub::audit::{ReadRecord, Verified};
use mcphub_hub::{BadCursor, Cursor, Finding, Search};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Asked, Time};
use super::schema;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiError, ApiResult, Problem};

/// How many records a page has unless said otherwise.
const USUAL_PAGE: usize = 100;
/// How many records a page has at most.
const LONGEST_PAGE: usize = 1_000;

/// Says which records are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Those of, or about, this person.
    #[param(schema_with = schema::id)]
    person: Option<UserId>,
    /// Those about this server.
    #[param(schema_with = schema::id)]
    server: Option<ServerId>,
    /// Those about this tool.
    #[param(value_type = Option<String>)]
    tool: Option<ToolName>,
    /// Those with this outcome, such as `ok`, `not-granted` or `changed`.
    outcome: Option<String>,
    /// Those from this time on.
    #[param(schema_with = schema::time)]
    from: Option<Time>,
    /// Those before this time.
    #[param(schema_with = schema::time)]
    to: Option<Time>,
    /// At most so many, the newest first.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Those after the page that answered with this.
    #[param(value_type = Option<String>)]
    before: Option<Mark>,
}

/// Is the place where a page ends.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Mark(Cursor);

impl TryFrom<String> for Mark {
    type Error = BadCursor;

    fn try_from(text: String) -> Result<Self, BadCursor> {
        text.parse().map(Self)
    }
}

/// Is a page of records, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditPage {
    /// The records.
    records: Vec<RecordView>,
    /// What `before` has to be for the next page, if there is one.
    before: Option<String>,
}

/// Shows a record.
#[derive(Serialize, ToSchema)]
pub(super) struct RecordView {
    /// When it happened.
    #[schema(schema_with = schema::time)]
    at: String,
    /// The record as it stands in the log.
    record: serde_json::Value,
    /// What names the people in it, by their ids, as far as it hasn't been erased.
    personal: BTreeMap<String, PersonView>,
    /// Of whom it names something that is damaged and can't be read.
    unreadable: Vec<String>,
}

/// Shows what names a person.
#[derive(Serialize, ToSchema)]
pub(super) struct PersonView {
    /// Where she called from.
    address: Option<String>,
    /// Her name.
    name: Option<String>,
    /// Her e-mail address.
    email: Option<String>,
}

/// Says whether the log is whole.
#[derive(Serialize, ToSchema)]
pub(super) struct ReportView {
    /// Whether nothing is wrong.
    intact: bool,
    /// How many chains there are.
    chains: u64,
    /// How many records were read.
    records: u64,
    /// How many of them no signed head covers yet.
    unwitnessed: u64,
    /// How many signed heads the log was compared with.
    heads: u64,
    /// The first thing that is wrong in each chain, and what is wrong with the heads.
    findings: Vec<FindingView>,
    /// What is worth knowing and doesn't make the log less whole.
    notices: Vec<String>,
}

/// Says what is wrong, and where first.
#[derive(Serialize, ToSchema)]
pub(super) struct FindingView {
    /// What it is, such as `altered` or `truncated`.
    kind: &'static str,
    /// The chain, unless a head is wrong.
    #[schema(value_type = Option<String>)]
    chain: Option<ChainId>,
    /// The first record that is wrong.
    record: Option<u64>,
    /// The same as a sentence.
    text: String,
}

impl Wanted {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(USUAL_PAGE).clamp(1, LONGEST_PAGE)
    }

    /// Asks for one record more than the page holds, to know whether there is a next one.
    fn search(&self) -> Search {
        Search {
            person: self.person,
            server: self.server,
            tool: self.tool.clone(),
            outcome: self.outcome.clone(),
            before: self.to.map(|Time(time)| time),
            from: self.from.map(|Time(time)| time),
            after: self.before.as_ref().map(|Mark(last)| *last),
            limit: self.limit() + 1,
        }
    }
}

impl AuditPage {
    fn of(mut found: Vec<ReadRecord>, limit: usize) -> Result<Self, ApiError> {
        let is_last = found.len() <= limit;
        found.truncate(limit);
        let last = if is_last { None } else { found.last() };
        let before = last.map(|found| Cursor::of(&found.record).to_string());
        let records = found.into_iter().map(RecordView::try_from).collect::<Result<_, _>>()?;
        Ok(Self { records, before })
    }
}

impl TryFrom<ReadRecord> for RecordView {
    type Error = ApiError;

    fn try_from(read: ReadRecord) -> Result<Self, ApiError> {
        let personal = read.personal.into_iter().map(|(person, fields)| (person.to_string(), fields.into()));
        Ok(Self {
            at: read.record.entry.at.to_string(),
            record: serde_json::to_value(&read.record).map_err(ApiError::internal)?,
            personal: personal.collect(),
            unreadable: read.unreadable.iter().map(ToString::to_string).collect(),
        })
    }
}

impl From<PersonalFields> for PersonView {
    fn from(PersonalFields { address, name, email }: PersonalFields) -> Self {
        Self { address, name, email }
    }
}

impl From<Verified> for ReportView {
    fn from(Verified { report, heads, .. }: Verified) -> Self {
        Self {
            intact: report.findings.is_empty(),
            chains: report.chains,
            records: report.records,
            unwitnessed: report.unwitnessed,
            heads,
            findings: report.findings.iter().map(FindingView::from).collect(),
            notices: report.notices.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&Finding> for FindingView {
    fn from(finding: &Finding) -> Self {
        let (chain, record) = finding.place().unzip();
        Self { kind: finding.kind(), chain, record, text: finding.to_string() }
    }
}

/// Finds records, the newest first. Reading the log is itself recorded.
#[utoipa::path(get, path = "/audit", operation_id = "search_audit", tag = "audit", params(Wanted),
    responses((status = 200, description = "A page of records", body = AuditPage), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn search(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    Asked(wanted): Asked<Wanted>,
) -> ApiResult<Json<AuditPage>> {
    let found = hub.search_audit(&caller, &wanted.search()).await?;
    Ok(Json(AuditPage::of(found, wanted.limit())?))
}

/// Checks the whole log against itself and the signed heads.
#[utoipa::path(post, path = "/audit/verify", operation_id = "verify_audit", tag = "audit",
    responses((status = 200, description = "Whether the log is whole", body = ReportView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn verify(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
) -> ApiResult<Json<ReportView>> {
    Ok(Json(hub.verify_audit(&caller, &[]).await?.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Wanted;

    #[test]
    fn a_page_is_never_longer_than_a_thousand_records() {
        for (asked, given) in [(0, 1), (1, 1), (1_000, 1_000), (1_001, 1_000)] {
            let wanted: Wanted = serde_json::from_value(json!({ "limit": asked })).unwrap();
            assert_eq!(wanted.limit(), given);
        }
    }
}
