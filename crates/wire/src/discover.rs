//! The answer to `server/discover`: what a modern server speaks and can do.

use crate::answer::Cache;
use crate::edit::Edit;
use crate::fault::Fault;
use crate::meta_key;
use crate::object::Object;
use crate::raw::Raw;
use crate::version::Version;
use crate::write::ObjectWriter;

/// Holds what a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Holds the names of the versions that it speaks, known to us or not.
    pub supported_versions: Vec<Box<str>>,
    /// Holds what it can do, an object.
    pub capabilities: Raw,
    /// Holds advice for the model.
    pub instructions: Option<Box<str>>,
    /// Holds the name and version of its software, unverified.
    pub server_info: Option<Raw>,
    /// Says how long this answer may be kept.
    pub cache: Cache,
}

impl Discovery {
    /// Reads a server's answer.
    ///
    /// # Errors
    /// Names what is missing or has the wrong type.
    pub fn read(result: &Raw) -> Result<Self, Fault> {
        const VERSIONS: Fault = Fault::Invalid("supportedVersions must be an array of strings");
        const CAPABILITIES: Fault = Fault::Invalid("capabilities must be an object");
        let object = Object::parse(result)?;
        let versions = object.get("supportedVersions").ok_or(VERSIONS)?;
        let capabilities = object.get("capabilities").filter(|value| value.is_object());
        let meta = object.get("_meta").map(Object::parse).transpose()?;
        Ok(Self {
            supported_versions: serde_json::from_slice(versions).map_err(|_| VERSIONS)?,
            capabilities: capabilities.ok_or(CAPABILITIES)?.clone(),
            instructions: object.text("instructions").map(Into::into),
            server_info: meta.and_then(|meta| meta.get(meta_key::SERVER_INFO).cloned()),
            cache: Cache::read(&object),
        })
    }

    /// Returns the newest modern version that both sides speak.
    #[must_use]
    pub fn best_version(&self) -> Option<Version> {
        let speaks =
            |version: &Version| self.supported_versions.iter().any(|name| **name == *version.as_str());
        Version::MODERN.into_iter().find(speaks)
    }

    /// Writes the result.
    #[must_use]
    pub fn to_raw(&self) -> Raw {
        let versions: Vec<Raw> = self.supported_versions.iter().map(|name| Raw::string(name)).collect();
        let mut result = ObjectWriter::new(self.capabilities.len() + 512);
        result.text("resultType", "complete");
        result.array("supportedVersions", versions.iter().map(Raw::as_bytes));
        result.raw("capabilities", &self.capabilities);
        if let Some(instructions) = &self.instructions {
            result.text("instructions", instructions);
        }
        result.raw("ttlMs", self.cache.ttl_ms.to_string().as_bytes());
        result.text("cacheScope", self.cache.scope.as_str());
        if let Some(info) = &self.server_info {
            result.object("_meta", |meta| meta.raw(meta_key::SERVER_INFO, info));
        }
        result.finish_raw()
    }
}

/// Prepares the metadata that every modern request to a server carries.
#[must_use]
pub fn modern_meta(edit: Edit, version: Version, capabilities: &Raw, client_info: &Raw) -> Edit {
    edit.set_meta(meta_key::PROTOCOL_VERSION, Raw::string(version.as_str()))
        .set_meta(meta_key::CLIENT_CAPABILITIES, capabilities.clone())
        .set_meta(meta_key::CLIENT_INFO, client_info.clone())
}

/// Removes the metadata that only modern requests carry.
#[must_use]
pub fn legacy_meta(edit: Edit) -> Edit {
    edit.remove_meta(meta_key::PROTOCOL_VERSION)
        .remove_meta(meta_key::CLIENT_CAPABILITIES)
        .remove_meta(meta_key::CLIENT_INFO)
        .remove_meta(meta_key::LOG_LEVEL)
}
