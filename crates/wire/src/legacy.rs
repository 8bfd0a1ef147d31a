//! How a session begins: `initialize`, its answer, and `notifications/initialized`.

use bytes::Bytes;

use crate::edit::Edit;
use crate::fault::Fault;
use crate::id::Id;
use crate::message;
use crate::method;
use crate::object::Object;
use crate::params::Params;
use crate::raw::Raw;
use crate::version::Version;
use crate::write::ObjectWriter;

/// Holds what a client says when it opens a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitializeParams {
    /// Holds the version that the client asked for, known or not.
    pub requested: Box<str>,
    /// Holds what the client can do, an object.
    pub capabilities: Raw,
    /// Holds the name and version of the client software, unverified.
    pub client_info: Raw,
}

/// Holds what a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitializeResult {
    /// Holds the version of the session.
    pub version: Version,
    /// Holds what the server can do, an object.
    pub capabilities: Raw,
    /// Holds the name and version of the server software, unverified.
    pub server_info: Raw,
    /// Holds advice for the model.
    pub instructions: Option<Box<str>>,
}

impl InitializeParams {
    /// Reads the parameters of `initialize`.
    ///
    /// # Errors
    /// Names what is missing or has the wrong type.
    pub fn read(params: Option<&Params>) -> Result<Self, Fault> {
        let params = params.ok_or(Fault::Invalid("initialize needs params"))?;
        let requested = params.text("protocolVersion");
        Ok(Self {
            requested: requested.ok_or(Fault::Invalid("protocolVersion must be a string"))?.into(),
            capabilities: object(params.get("capabilities"), "capabilities must be an object")?,
            client_info: object(params.get("clientInfo"), "clientInfo must be an object")?,
        })
    }

    /// Returns the version to answer with.
    #[must_use]
    pub fn negotiated(&self) -> Version {
        Version::negotiate(&self.requested)
    }

    /// Writes the request that opens a session with a server.
    #[must_use]
    pub fn request(&self, id: &Id) -> Bytes {
        let edit = Edit::new()
            .set("protocolVersion", Raw::string(&self.requested))
            .set("capabilities", self.capabilities.clone())
            .set("clientInfo", self.client_info.clone());
        message::request(id, method::INITIALIZE, None, &edit)
    }
}

impl InitializeResult {
    /// Reads a server's answer.
    ///
    /// # Errors
    /// Refuses versions that have no sessions or are not known, and names what is missing.
    pub fn read(result: &Raw) -> Result<Self, Fault> {
        const VERSION: Fault = Fault::Invalid("the server chose a protocol version that is not supported");
        let result = Object::parse(result)?;
        let version = result.text("protocolVersion").and_then(|text| Version::parse(&text));
        Ok(Self {
            version: version.filter(|version| !version.is_modern()).ok_or(VERSION)?,
            capabilities: object(result.get("capabilities"), "capabilities must be an object")?,
            server_info: object(result.get("serverInfo"), "serverInfo must be an object")?,
            instructions: result.text("instructions").map(Into::into),
        })
    }

    /// Writes the result.
    #[must_use]
    pub fn to_raw(&self) -> Raw {
        let mut result = ObjectWriter::new(self.capabilities.len() + self.server_info.len());
        result.text("protocolVersion", self.version.as_str());
        result.raw("capabilities", &self.capabilities);
        result.raw("serverInfo", &self.server_info);
        if let Some(instructions) = &self.instructions {
            result.text("instructions", instructions);
        }
        result.finish_raw()
    }
}

/// Writes the notification that ends the opening.
#[must_use]
pub fn initialized() -> Bytes {
    message::notification(method::INITIALIZED, None, &Edit::new())
}

fn object(value: Option<&Raw>, rule: &'static str) -> Result<Raw, Fault> {
    value.filter(|value| value.is_object()).cloned().ok_or(Fault::Invalid(rule))
}
