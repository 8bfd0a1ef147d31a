//! What a result is, and how it changes between the eras.

use crate::edit::Edit;
use crate::fault::Fault;
use crate::meta_key;
use crate::object::Object;
use crate::raw::Raw;

/// Says what the sender of a result expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultType {
    /// Expects nothing: this is the answer. Legacy results say nothing and mean this.
    Complete,
    /// Expects the same request again, with the input that it asks for.
    InputRequired,
    /// Expects to be asked again with the task's id.
    Task,
}

/// Says who may keep a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheScope {
    /// Lets anyone keep it for anyone.
    Public,
    /// Lets it be kept only for the same authorization.
    Private,
}

/// Says how long and by whom a result may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Holds the milliseconds for which it stays fresh.
    pub ttl_ms: u64,
    /// Says who may keep it.
    pub scope: CacheScope,
}

impl ResultType {
    /// Reads the type of a result.
    ///
    /// # Errors
    /// Refuses a type that the protocol doesn't know: a client must not guess.
    pub fn read(result: &Raw) -> Result<Self, Fault> {
        const UNKNOWN: Fault = Fault::Invalid("the result has an unknown resultType");
        let Some(value) = result.member("resultType")? else { return Ok(Self::Complete) };
        match value.text().as_deref() {
            Some("complete") => Ok(Self::Complete),
            Some("input_required") => Ok(Self::InputRequired),
            Some("task") => Ok(Self::Task),
            _ => Err(UNKNOWN),
        }
    }
}

impl CacheScope {
    /// Returns the name as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

impl Cache {
    /// Forbids keeping.
    pub const NONE: Self = Self { ttl_ms: 0, scope: CacheScope::Private };

    /// Reads how long a result may be kept; a result that doesn't say it properly may not be kept.
    #[must_use]
    pub fn read(result: &Object) -> Self {
        Self::of(result.get("ttlMs"), result.get("cacheScope"))
    }

    pub(crate) fn of(ttl: Option<&Raw>, scope: Option<&Raw>) -> Self {
        let ttl = ttl.and_then(Raw::as_integer).and_then(|ttl| u64::try_from(ttl).ok());
        let scope = match scope.and_then(Raw::text).as_deref() {
            Some("public") => CacheScope::Public,
            _ => CacheScope::Private,
        };
        ttl.map_or(Self::NONE, |ttl_ms| Self { ttl_ms, scope })
    }

    /// Combines two parts into what holds for both: the shorter time and the narrower scope.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let scope = match (self.scope, other.scope) {
            (CacheScope::Public, CacheScope::Public) => CacheScope::Public,
            _ => CacheScope::Private,
        };
        Self { ttl_ms: self.ttl_ms.min(other.ttl_ms), scope }
    }

    /// Adds to `edit` what a modern result must say.
    #[must_use]
    pub fn write(self, edit: Edit) -> Edit {
        let ttl = i64::try_from(self.ttl_ms).unwrap_or(i64::MAX);
        edit.set("ttlMs", Raw::integer(ttl)).set("cacheScope", Raw::string(self.scope.as_str()))
    }
}

/// Writes a complete result for a modern client; `cache` is for the methods that must say it.
///
/// # Errors
/// Refuses a result that is not an object, or whose `_meta` is not one.
pub fn to_modern(result: &Raw, cache: Option<Cache>, server_info: &Raw) -> Result<Raw, Fault> {
    let edit = Edit::new()
        .set("resultType", Raw::string("complete"))
        .set_meta(meta_key::SERVER_INFO, server_info.clone());
    match cache {
        Some(cache) => cache.write(edit),
        None => edit,
    }
    .apply(result)
}

/// Writes a complete result for a legacy client, without what only modern ones know.
///
/// # Errors
/// Refuses a result that is not an object, or whose `_meta` is not one.
pub fn to_legacy(result: &Raw) -> Result<Raw, Fault> {
    Edit::new()
        .remove("resultType")
        .remove("ttlMs")
        .remove("cacheScope")
        .remove_meta(meta_key::SERVER_INFO)
        .apply(result)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Cache, CacheScope, ResultType, to_legacy, to_modern};
    use crate::{Object, Raw};

    fn raw(value: serde_json::Value) -> Raw {
        Raw::json(&value).unwrap()
    }

    #[test]
    fn a_result_without_a_type_is_complete_and_an_unknown_one_is_refused() {
        assert_eq!(ResultType::read(&raw(json!({}))), Ok(ResultType::Complete));
        for (name, expected) in [
            ("complete", ResultType::Complete),
            ("input_required", ResultType::InputRequired),
            ("task", ResultType::Task),
        ] {
            assert_eq!(ResultType::read(&raw(json!({"resultType": name}))), Ok(expected));
        }
        assert!(ResultType::read(&raw(json!({"resultType": "later"}))).is_err());
        assert!(ResultType::read(&raw(json!({"resultType": null}))).is_err());
    }

    #[test]
    fn a_legacy_result_becomes_modern_and_back() {
        let legacy = raw(json!({"tools": [], "_meta": {"x": 1}}));
        let info = raw(json!({"name": "hub", "version": "1"}));
        let modern = to_modern(&legacy, Some(Cache::NONE), &info).unwrap();
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&modern).unwrap(),
            json!({"tools": [], "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
                   "_meta": {"x": 1, "io.modelcontextprotocol/serverInfo": {"name": "hub", "version": "1"}}})
        );
        let back = to_legacy(&modern).unwrap();
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&back).unwrap(),
            json!({"tools": [], "_meta": {"x": 1}})
        );
    }

    #[test]
    fn parts_share_the_shorter_time_and_the_narrower_scope() {
        let public = Cache { ttl_ms: 9, scope: CacheScope::Public };
        let private = Cache { ttl_ms: 5, scope: CacheScope::Private };
        assert_eq!(public.and(public), public);
        assert_eq!(public.and(private), private);
        let read = |value| Cache::read(&Object::parse(&raw(value)).unwrap());
        assert_eq!(read(json!({"ttlMs": 9, "cacheScope": "public"})), public);
        assert_eq!(read(json!({"ttlMs": -1, "cacheScope": "public"})), Cache::NONE);
        assert_eq!(read(json!({"cacheScope": "public"})), Cache::NONE);
    }
}
