//! How the API's description names values that are texts of a form of their own.

use mcphub_domain::group::{Author, Standing, Verdict};
use mcphub_domain::server::{Approval, Isolation, ServerState};
use mcphub_domain::user::{Auditor, UserState};
use mcphub_domain::{Effect, Right, Role, ToolState};
use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{KnownFormat, SchemaFormat, schema::Array};

fn one_of(words: impl Iterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

pub(super) fn role() -> Object {
    one_of(Role::ALL.iter().map(|word| word.as_str()))
}

pub(super) fn user_state() -> Object {
    one_of(UserState::ALL.iter().map(|word| word.as_str()))
}

pub(super) fn auditor() -> Object {
    one_of(Auditor::ALL.iter().map(|word| word.as_str()))
}

pub(super) fn standing() -> Object {
    one_of(Standing::ALL.iter().map(|word| word.as_str()))
}

pub(super) fn verdict() -> Object {
    one_of(Verdict::ALL.iter().map(|word| word.as_str()))
}

pub(super) fn author() -> Object {
    one_of(Author::ALL.iter().map(|word| word.as_str()))
}

pub(super) fn digest() -> Object {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9a-f]{64}$")).build()
}

pub(super) fn rights() -> Array {
    ArrayBuilder::new().items(one_of(Right::ALL.iter().map(|word| word.as_str()))).build()
}

pub(super) fn isolation() -> Object {
    one_of(Isolation::ALL.iter().map(|word| word.as_str()))
}

/// `"off"`, or a profile.
pub(super) fn sandbox() -> Schema {
    let texts = || ArrayBuilder::new().items(ObjectBuilder::new().schema_type(Type::String));
    let number = |least: u32, most: u32| {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most))
    };
    let hosts = OneOfBuilder::new().item(texts()).item(one_of(["machine"].into_iter()));
    let profile = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("read", texts())
        .property("write", texts())
        .property("hosts", hosts)
        .property("memoryMb", number(64, 1 << 20))
        .property("processes", number(16, 32_768));
    OneOfBuilder::new().item(one_of(["off"].into_iter())).item(profile).build().into()
}

/// The members of `oauth`, all of them optional.
pub(super) fn oauth() -> Object {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let members = ["issuer", "clientId", "clientSecret"].into_iter();
    let object = members
        .fold(ObjectBuilder::new().schema_type(Type::Object), |object, name| object.property(name, text()));
    object.property("scopes", ArrayBuilder::new().items(text())).build()
}

pub(super) fn approval() -> Object {
    one_of(Approval::ALL.iter().map(|word| word.as_str()))
}

pub(super) fn server_state() -> Object {
    one_of(ServerState::ALL.iter().map(|word| word.as_str()))
}

pub(super) fn effect() -> Object {
    one_of(Effect::ALL.iter().map(|word| word.as_str()))
}

pub(super) fn tool_state() -> Object {
    one_of(ToolState::ALL.iter().map(|word| word.as_str()))
}

pub(super) fn transport() -> Object {
    one_of(["stdio", "streamable-http"].into_iter())
}

pub(super) fn id() -> Object {
    let format = SchemaFormat::Custom("uuid".to_owned());
    ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build()
}

pub(super) fn time() -> Object {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build()
}
