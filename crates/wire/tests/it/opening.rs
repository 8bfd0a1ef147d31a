//! How conversations begin, before and since 2026-07-28.

use bytes::Bytes;
use mcphub_wire::answer::{Cache, CacheScope};
use mcphub_wire::discover::{Discovery, legacy_meta, modern_meta};
use mcphub_wire::legacy::{InitializeParams, InitializeResult, initialized};
use mcphub_wire::{Edit, Envelope, Id, Outcome, Raw, Version, message};
use serde_json::json;

fn raw(value: serde_json::Value) -> Raw {
    Raw::json(&value).unwrap()
}

#[test]
fn initialize_reads_back_what_it_writes() {
    let params = InitializeParams {
        requested: "2025-06-18".into(),
        capabilities: raw(json!({"roots": {}})),
        client_info: raw(json!({"name": "hub", "version": "1"})),
    };
    let written = Envelope::parse(&params.request(&Id::from(0))).unwrap();
    assert_eq!(written.method(), Some("initialize"));
    assert_eq!(InitializeParams::read(written.params()), Ok(params.clone()));
    assert_eq!(params.negotiated(), Version::V2025_06_18);
}

#[test]
fn initialize_names_what_is_missing() {
    for params in [
        r#"{"capabilities":{},"clientInfo":{}}"#,
        r#"{"protocolVersion":1,"capabilities":{},"clientInfo":{}}"#,
        r#"{"protocolVersion":"x","clientInfo":{}}"#,
        r#"{"protocolVersion":"x","capabilities":{},"clientInfo":"me"}"#,
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#);
        let message = Envelope::parse(&Bytes::from(body)).unwrap();
        assert!(InitializeParams::read(message.params()).is_err(), "{params}");
    }
    assert!(InitializeParams::read(None).is_err());
}

#[test]
fn an_initialize_result_reads_back_and_names_a_version_with_sessions() {
    let result = InitializeResult {
        version: Version::V2025_11_25,
        capabilities: raw(json!({"tools": {"listChanged": true}})),
        server_info: raw(json!({"name": "s", "version": "1"})),
        instructions: Some("Be \"kind\".".into()),
    };
    assert_eq!(InitializeResult::read(&result.to_raw()), Ok(result.clone()));
    for version in ["2026-07-28", "2099-01-01", "x"] {
        let other = Edit::new().set("protocolVersion", Raw::string(version)).apply(&result.to_raw()).unwrap();
        assert!(InitializeResult::read(&other).is_err(), "{version}");
    }
}

#[test]
fn initialized_is_a_notification_without_params() {
    assert_eq!(initialized(), r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
}

#[test]
fn a_discovery_reads_back_what_it_writes() {
    let discovery = Discovery {
        supported_versions: vec!["2026-07-28".into(), "2027-01-01".into()],
        capabilities: raw(json!({"tools": {}})),
        instructions: Some("Read first.".into()),
        server_info: Some(raw(json!({"name": "s", "version": "1"}))),
        cache: Cache { ttl_ms: 5000, scope: CacheScope::Public },
    };
    let body = message::result(&Id::from(1), &discovery.to_raw());
    let Envelope::Response(response) = Envelope::parse(&body).unwrap() else { panic!("not a response") };
    let Outcome::Result(result) = response.outcome else { panic!("not a result") };
    assert_eq!(Discovery::read(&result), Ok(discovery.clone()));
    assert_eq!(discovery.best_version(), Some(Version::V2026_07_28));
    for bad in
        [json!({}), json!({"supportedVersions": "x", "capabilities": {}}), json!({"supportedVersions": []})]
    {
        assert!(Discovery::read(&raw(bad)).is_err());
    }
}

#[test]
fn modern_metadata_is_put_on_and_taken_off() {
    let edit =
        modern_meta(Edit::new(), Version::V2026_07_28, &Raw::empty_object(), &raw(json!({"name": "hub"})));
    let params = edit.apply(&raw(json!({"name": "a", "_meta": {"mine": 1}}))).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&params).unwrap();
    assert_eq!(value["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    let back = legacy_meta(Edit::new()).apply(&params).unwrap();
    assert_eq!(back.as_bytes(), br#"{"_meta":{"mine":1},"name":"a"}"#);
}
