//! The audit record: what is written of everything that happens, in its final form.
//!
//! A record is canonical JSON (RFC 8785). People stand in it by their id, which is a pseudonym; what
//! would name them (name, e-mail, address) stands under `personal`, encrypted with a key of their
//! own, so that erasing a person destroys a key and leaves the log whole.

mod canonical;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::group::Verdict;
use crate::id::{ChainId, CredentialId, GrantId, GroupId, KeyId, RequestId, ServerId, UserId};
use crate::name::{GroupName, ServerName, SlotName, ToolName};
use crate::principal::Principal;
use crate::role::{Effect, Rights, Role, words};
use crate::server::ServerState;
use crate::time::Timestamp;
use crate::tool::{ToolDigest, ToolState};
use crate::user::{Auditor, UserState};
use crate::wrap_key::WrapKeyId;

/// Is one record of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The version of this form: 1.
    pub v: u8,
    /// The chain: the records of one process.
    pub chain: ChainId,
    /// The place in the chain, from 0 without a gap.
    pub number: u64,
    /// What is recorded.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Is what is recorded, before it has a place in a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When it happened, in microseconds since 1970.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// What happened.
    pub event: Event,
    /// Which request it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// What would name a person: base64url of the encrypted `PersonalFields`, by her id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub personal: BTreeMap<UserId, String>,
}

/// Holds what names a person; it is encrypted before it comes into a record.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct PersonalFields {
    /// Where she called from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Her name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Her e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// Says who did it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Actor {
    /// A person, by a key of hers.
    Person {
        /// The person.
        user: UserId,
        /// The key.
        key: KeyId,
    },
    /// Somebody at the command line of the machine that holds the data.
    Operator,
    /// The hub itself.
    Hub,
    /// Somebody who did not say, or could not prove, who she is.
    Stranger,
}

impl From<Principal> for Actor {
    fn from(principal: Principal) -> Self {
        match principal {
            Principal::Person { user, key } => Self::Person { user, key },
            Principal::Operator => Self::Operator,
            Principal::Hub => Self::Hub,
        }
    }
}

impl Actor {
    /// Names the person, where there is one.
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::Person { user, .. } => Some(*user),
            Self::Operator | Self::Hub | Self::Stranger => None,
        }
    }
}

/// Names the size and root of a chain's tree (RFC 6962), as a head or another chain saw it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChainHead {
    /// The chain.
    pub chain: ChainId,
    /// How many records it had.
    pub size: u64,
    /// The tree's root over them, in hexadecimal.
    pub root: String,
}

words! {
    /// Says why something was refused.
    Refusal, "refusal" {
        /// No key was shown.
        NoKey = "no-key",
        /// The key's form or checksum is wrong.
        MalformedKey = "malformed-key",
        /// No such key exists, or its secret is wrong.
        UnknownKey = "unknown-key",
        /// The key has ended.
        ExpiredKey = "expired-key",
        /// The key was revoked.
        RevokedKey = "revoked-key",
        /// The key stood in a URL.
        ExposedKey = "exposed-key",
        /// The person is disabled.
        DisabledUser = "disabled-user",
        /// The Origin or Host header names somebody else.
        ForeignOrigin = "foreign-origin",
        /// The endpoint's name means nothing to the caller.
        UnknownEndpoint = "unknown-endpoint",
        /// No such tool exists.
        UnknownTool = "unknown-tool",
        /// No server here has such a prompt or resource.
        UnknownOffer = "unknown-offer",
        /// The server is switched off.
        DisabledServer = "disabled-server",
        /// The tool is switched off.
        DisabledTool = "disabled-tool",
        /// The tool waits for approval.
        PendingTool = "pending-tool",
        /// The tool changed since it was approved.
        ChangedTool = "changed-tool",
        /// No grant gives the right.
        NotGranted = "not-granted",
        /// A grant takes the right away.
        Denied = "denied",
        /// The role doesn't allow this administration.
        Role = "role",
        /// A credential is missing or suspended.
        MissingCredential = "missing-credential",
        /// The rate or the number of concurrent calls is exceeded.
        RateLimited = "rate-limited",
        /// The hub has no key to its vault.
        Sealed = "sealed",
        /// The message is malformed.
        Malformed = "malformed",
        /// The change was based on an old revision.
        Stale = "stale",
        /// What was asked for doesn't exist.
        NotFound = "not-found",
        /// What was asked for collides with something, or breaks a rule.
        Invalid = "invalid",
    }
    /// Says how a call ended.
    CallStatus, "call status" {
        /// With a result.
        Ok = "ok",
        /// With a result that the tool marked as an error.
        ToolError = "tool-error",
        /// With an error that the server answered.
        ServerError = "server-error",
        /// Without an answer: the server is unreachable, too slow, or answered garbage.
        Unreachable = "unreachable",
        /// Because the caller went away or cancelled.
        Cancelled = "cancelled",
        /// Because the caller's right ended while it ran.
        Revoked = "revoked",
        /// Nobody knows: the hub died while it ran.
        Unknown = "unknown",
    }
}

/// Says what happened. Closed: nothing is recorded that doesn't stand here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
#[expect(missing_docs, reason = "each field is named after the thing it holds")]
pub enum Event {
    /// A process begins its chain and names the ends of the others.
    #[serde(rename = "chain.opened")]
    ChainOpened { process: String, version: String, others: Vec<ChainHead> },
    /// A process ends its chain.
    #[serde(rename = "chain.closed")]
    ChainClosed,
    /// The log can be written again; everything that was asked for in between was refused.
    #[serde(rename = "audit.resumed")]
    AuditResumed { failing_since: Timestamp, dropped: u64 },
    /// A call is about to be sent. Durable before anything leaves the hub.
    #[serde(rename = "call.intent")]
    CallIntent {
        endpoint: String,
        server: ServerId,
        tool: ToolName,
        effect: Effect,
        definition: ToolDigest,
        arguments: String,
        world: i64,
    },
    /// A call ended.
    #[serde(rename = "call.outcome")]
    CallOutcome {
        server: ServerId,
        tool: ToolName,
        status: CallStatus,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i64>,
        bytes: u64,
        micros: u64,
    },
    /// A server's tools are about to be listed, with a person's values or with the shared ones alone.
    /// Durable before anything leaves the hub.
    #[serde(rename = "look.intent")]
    LookIntent { server: ServerId, revision: i64, user: Option<UserId>, world: i64 },
    /// A server is about to be asked for something beside its tools: a list, a prompt, a resource, a completion.
    /// Durable before anything leaves the hub.
    #[serde(rename = "ask.intent")]
    AskIntent {
        endpoint: String,
        server: ServerId,
        method: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        arguments: String,
        world: i64,
    },
    /// What was asked is answered, or given up.
    #[serde(rename = "ask.outcome")]
    AskOutcome {
        server: ServerId,
        method: String,
        status: CallStatus,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i64>,
        bytes: u64,
        micros: u64,
    },
    /// A client's answer to what a server asked in the middle of a call is about to be sent. Durable before it leaves
    /// the hub.
    #[serde(rename = "inquiry.answered")]
    InquiryAnswered { server: ServerId, method: String, answer: String },
    /// Something was refused.
    #[serde(rename = "refused")]
    Refused {
        method: String,
        reason: Refusal,
        /// What was asked for, in the caller's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        /// The server that these words name, as far as the hub knows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<ServerId>,
        /// Its tool that they name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool: Option<ToolName>,
    },
    /// Refusals that come in floods, counted: the first stands alone, the rest in one summary. Those
    /// of strangers are counted by network, those of a person, who is the actor, without one.
    #[serde(rename = "refused.folded")]
    RefusedFolded {
        reason: Refusal,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<String>,
        count: u64,
        from: Timestamp,
    },
    /// Something was read: a list, a page of the API, the log itself.
    #[serde(rename = "read")]
    Read {
        method: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        items: u64,
    },
    /// A request was answered, and nothing else here says so.
    #[serde(rename = "answered")]
    Answered { method: String, target: String, status: u16 },
    #[serde(rename = "user.added")]
    UserAdded { user: UserId, role: Role },
    #[serde(rename = "user.updated")]
    UserUpdated { user: UserId, role: Role, auditor: Auditor, state: UserState },
    #[serde(rename = "group.added")]
    GroupAdded { group: GroupId, name: GroupName },
    #[serde(rename = "group.removed")]
    GroupRemoved { group: GroupId, name: GroupName },
    #[serde(rename = "group.joined")]
    GroupJoined { group: GroupId, user: UserId, expires_at: Option<Timestamp> },
    #[serde(rename = "group.left")]
    GroupLeft { group: GroupId, user: UserId },
    #[serde(rename = "grant.added")]
    GrantAdded {
        grant: GrantId,
        group: GroupId,
        server: ServerId,
        verdict: Verdict,
        rights: Rights,
        tools: Vec<String>,
        expires_at: Option<Timestamp>,
    },
    #[serde(rename = "grant.removed")]
    GrantRemoved { grant: GrantId, group: GroupId, server: ServerId },
    #[serde(rename = "server.added")]
    ServerAdded { server: ServerId, name: ServerName, definition: String },
    #[serde(rename = "server.updated")]
    ServerUpdated {
        server: ServerId,
        name: ServerName,
        definition: String,
        state: ServerState,
        destination: String,
    },
    #[serde(rename = "server.removed")]
    ServerRemoved { server: ServerId, name: ServerName },
    #[serde(rename = "tools.listed")]
    ToolsListed { server: ServerId, approved: u64, pending: u64, removed: u64 },
    #[serde(rename = "tool.updated")]
    ToolUpdated { server: ServerId, tool: ToolName, effect: Effect, state: ToolState, definition: ToolDigest },
    #[serde(rename = "credential.set")]
    CredentialSet { credential: CredentialId, owner: UserId, server: ServerId, slot: SlotName },
    #[serde(rename = "credential.confirmed")]
    CredentialConfirmed { credential: CredentialId, owner: UserId, server: ServerId, slot: SlotName },
    #[serde(rename = "credential.removed")]
    CredentialRemoved { credential: CredentialId, owner: UserId, server: ServerId, slot: SlotName },
    /// Somebody is about to connect an account of hers.
    #[serde(rename = "account.begun")]
    AccountBegun { owner: UserId, server: ServerId },
    /// She came back from where she was sent, and nothing came of it.
    #[serde(rename = "account.failed")]
    AccountFailed { owner: UserId, server: ServerId, reason: String },
    /// The token of an account was replaced by a new one, as its authorization server wants it.
    #[serde(rename = "account.renewed")]
    AccountRenewed { credential: CredentialId, owner: UserId, server: ServerId },
    #[serde(rename = "shared-value.set")]
    SharedValueSet { credential: CredentialId, server: ServerId, slot: SlotName },
    #[serde(rename = "key.created")]
    KeyCreated { key: KeyId, owner: UserId, expires_at: Timestamp },
    #[serde(rename = "key.revoked")]
    KeyRevoked { key: KeyId, owner: UserId },
    #[serde(rename = "key.exposed")]
    KeyExposed { key: KeyId, owner: UserId },
    #[serde(rename = "session.opened")]
    SessionOpened { endpoint: String, version: String },
    #[serde(rename = "session.closed")]
    SessionClosed { endpoint: String },
    #[serde(rename = "vault.unsealed")]
    VaultUnsealed,
    /// A rotation begins: the key may be used once every process holds it.
    #[serde(rename = "vault.key-added")]
    VaultKeyAdded { key: WrapKeyId },
    /// From here on this key seals.
    #[serde(rename = "vault.key-current")]
    VaultKeyCurrent { key: WrapKeyId },
    /// Sealed values were moved under the current key; nothing else of them changed.
    #[serde(rename = "vault.rewrapped")]
    VaultRewrapped { key: WrapKeyId, count: u64 },
    /// A rotation is done: nothing is sealed under any other key.
    #[serde(rename = "vault.rotated")]
    VaultRotated { key: WrapKeyId, count: u64 },
    /// A key under which nothing is sealed any more may never be used again.
    #[serde(rename = "vault.key-retired")]
    VaultKeyRetired { key: WrapKeyId },
    /// Everything is about to be copied, encrypted to this recipient.
    #[serde(rename = "backup.begun")]
    BackupBegun { recipient: String },
    /// Everything was put back from a backup; `lost` is what the signed heads knew beyond it, which
    /// the operator accepted.
    #[serde(rename = "backup.restored")]
    BackupRestored { made_at: Timestamp, sha256: String, lost: Vec<String> },
}

impl Record {
    /// The version of the form that this code writes.
    pub const VERSION: u8 = 1;
}

impl Entry {
    /// Is how many bytes a usual record has at most: room for so many spares growing.
    pub const USUAL: usize = canonical::USUAL;

    /// Writes it as a record of a chain, as canonical JSON (RFC 8785), behind what is in `out`.
    pub fn canonical(&self, chain: ChainId, number: u64, out: Vec<u8>) -> Result<Vec<u8>, serde_json::Error> {
        canonical::write(self, chain, number, out)
    }
}

impl Event {
    /// Names the server that it is about, where there is one.
    pub const fn server(&self) -> Option<ServerId> {
        match self {
            Self::CallIntent { server, .. }
            | Self::CallOutcome { server, .. }
            | Self::LookIntent { server, .. }
            | Self::AskIntent { server, .. }
            | Self::AskOutcome { server, .. }
            | Self::InquiryAnswered { server, .. }
            | Self::GrantAdded { server, .. }
            | Self::GrantRemoved { server, .. }
            | Self::ServerAdded { server, .. }
            | Self::ServerUpdated { server, .. }
            | Self::ServerRemoved { server, .. }
            | Self::ToolsListed { server, .. }
            | Self::ToolUpdated { server, .. }
            | Self::CredentialSet { server, .. }
            | Self::CredentialConfirmed { server, .. }
            | Self::CredentialRemoved { server, .. }
            | Self::AccountBegun { server, .. }
            | Self::AccountFailed { server, .. }
            | Self::AccountRenewed { server, .. }
            | Self::SharedValueSet { server, .. } => Some(*server),
            Self::Refused { server, .. } => *server,
            _ => None,
        }
    }

    /// Names the tool that it is about, where there is one.
    pub const fn tool(&self) -> Option<&ToolName> {
        match self {
            Self::CallIntent { tool, .. }
            | Self::CallOutcome { tool, .. }
            | Self::ToolUpdated { tool, .. } => Some(tool),
            Self::Refused { tool, .. } => tool.as_ref(),
            _ => None,
        }
    }

    /// Names the person that it is about, where that isn't the actor.
    pub const fn subject(&self) -> Option<UserId> {
        match self {
            Self::UserAdded { user, .. }
            | Self::UserUpdated { user, .. }
            | Self::GroupJoined { user, .. }
            | Self::GroupLeft { user, .. } => Some(*user),
            Self::CredentialSet { owner, .. }
            | Self::CredentialConfirmed { owner, .. }
            | Self::CredentialRemoved { owner, .. }
            | Self::AccountBegun { owner, .. }
            | Self::AccountFailed { owner, .. }
            | Self::AccountRenewed { owner, .. }
            | Self::KeyCreated { owner, .. }
            | Self::KeyRevoked { owner, .. }
            | Self::KeyExposed { owner, .. } => Some(*owner),
            Self::LookIntent { user, .. } => *user,
            _ => None,
        }
    }

    /// Names how it ended, for the search index.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::CallOutcome { status, .. } | Self::AskOutcome { status, .. } => status.as_str(),
            Self::Refused { reason, .. } | Self::RefusedFolded { reason, .. } => reason.as_str(),
            Self::CallIntent { .. } | Self::AskIntent { .. } => "intent",
            Self::LookIntent { .. } => "look",
            Self::Read { .. } => "read",
            Self::Answered { .. } => "answered",
            _ => "changed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Actor, Entry, Event, Record, Refusal};
    use crate::id::{ChainId, RequestId, UserId};
    use crate::random::Entropy;
    use crate::time::Timestamp;

    #[test]
    fn the_form_of_a_record_is_final() {
        let entropy = Entropy::fixed(3);
        let record = Record {
            v: Record::VERSION,
            chain: ChainId::from_bytes([1; 16]),
            number: 7,
            entry: Entry {
                at: Timestamp::from_micros(1_795_000_000_123_456),
                actor: Actor::Stranger,
                event: Event::Refused {
                    method: "tools/call".into(),
                    reason: Refusal::NotGranted,
                    target: Some("é\u{1}\"".into()),
                    server: None,
                    tool: None,
                },
                request: Some(RequestId::from_bytes([2; 16])),
                personal: [(UserId::from_bytes([3; 16]), "AA".to_owned())].into(),
            },
        };
        let text = record.entry.canonical(record.chain, record.number, Vec::new()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "{\"actor\":{\"kind\":\"stranger\"},\"at\":1795000000123456,\
             \"chain\":\"01010101-0101-0101-0101-010101010101\",\
             \"event\":{\"method\":\"tools/call\",\"reason\":\"not-granted\",\"target\":\"é\\u0001\\\"\",\"type\":\"refused\"},\
             \"number\":7,\"personal\":{\"03030303-0303-0303-0303-030303030303\":\"AA\"},\
             \"request\":\"02020202-0202-0202-0202-020202020202\",\"v\":1}"
        );
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        assert_ne!(RequestId::random(&entropy), RequestId::random(&entropy));
    }
}
