//! Arguments that HTTP headers repeat (`x-mcp-header`, 2026-07-28): `Mcp-Param-{name}` beside the body.

use serde_json::Value;

use crate::fault::Fault;
use crate::header::{HeaderError, Problem, decode_value, encode_value};
use crate::raw::Raw;

/// What the names of such headers begin with.
pub const PREFIX: &str = "mcp-param-";
/// Names the member of a schema that asks for a header.
const KEYWORD: &str = "x-mcp-header";

/// Is an argument that a header repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// Names the header, in lower case.
    header: Box<str>,
    /// Leads to the argument.
    path: Vec<Box<str>>,
}

/// Finds the arguments of a tool that headers repeat, by its definition.
///
/// # Errors
/// Refuses a definition whose annotations break a rule; a client must not show such a tool.
pub fn mirrored(definition: &Raw) -> Result<Vec<Mirrored>, Fault> {
    const RULE: Fault = Fault::Invalid("the definition is not one of a tool");
    if memchr::memmem::find(definition, KEYWORD.as_bytes()).is_none() {
        return Ok(Vec::new());
    }
    let definition: Value = serde_json::from_slice(definition).map_err(|_| RULE)?;
    let Some(schema) = definition.get("inputSchema") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    search(schema, &mut Vec::new(), &mut found)?;
    if count(schema) != found.len() {
        return Err(Fault::Invalid("x-mcp-header stands where no chain of properties leads"));
    }
    let mut names: Vec<&str> = found.iter().map(|mirrored| &*mirrored.header).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Fault::Invalid("two arguments have the same x-mcp-header"));
    }
    Ok(found)
}

fn search(schema: &Value, path: &mut Vec<Box<str>>, found: &mut Vec<Mirrored>) -> Result<(), Fault> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    for (name, property) in properties {
        path.push(name.as_str().into());
        if let Some(wanted) = property.get(KEYWORD) {
            found.push(Mirrored { header: header_of(wanted, property)?, path: path.clone() });
        }
        search(property, path, found)?;
        path.pop();
    }
    Ok(())
}

/// Counts the annotations in a schema, wherever they stand; the name of a property is none. A message is never so
/// deep that this would be.
fn count(schema: &Value) -> usize {
    match schema {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.iter().map(|(key, value)| count_member(key, value)).sum(),
        _ => 0,
    }
}

fn count_member(key: &str, value: &Value) -> usize {
    match (key, value) {
        (KEYWORD, _) => 1,
        (
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
            Value::Object(named),
        ) => named.values().map(count).sum(),
        // What only is data describes no argument.
        ("const" | "enum" | "default" | "examples", _) => 0,
        (_, value) => count(value),
    }
}

fn header_of(wanted: &Value, property: &Value) -> Result<Box<str>, Fault> {
    let is_primitive = property.get("type").and_then(Value::as_str);
    if !is_primitive.is_some_and(|kind| matches!(kind, "string" | "integer" | "boolean")) {
        return Err(Fault::Invalid("x-mcp-header is for strings, integers and booleans"));
    }
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match wanted.as_str() {
        Some(name) if !name.is_empty() && name.bytes().all(is_token_byte) => {
            Ok(format!("{PREFIX}{}", name.to_ascii_lowercase()).into())
        }
        _ => Err(Fault::Invalid("x-mcp-header must be the name of a header")),
    }
}

impl Mirrored {
    /// Names the header, in lower case.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Writes the header's value for the arguments of a call; nothing if the argument isn't there.
    #[must_use]
    pub fn value(&self, arguments: &Arguments) -> Option<String> {
        let text = match arguments.get(&self.path)? {
            Value::String(text) => encode_value(text).into_owned(),
            Value::Bool(is_so) => is_so.to_string(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some(text)
    }

    /// Checks that the headers of a call say what its arguments say.
    ///
    /// # Errors
    /// Says which header is missing or differs.
    pub fn check(&self, arguments: &Arguments, headers: &ParamHeaders) -> Result<(), HeaderError> {
        let mut sent = headers.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&self.header));
        let problem = match (arguments.get(&self.path), sent.next(), sent.next()) {
            (_, _, Some(_)) => Problem::Repeated,
            (None, None, _) => return Ok(()),
            (Some(_), None, _) => Problem::Missing,
            (value, Some((_, bytes)), None) => match decode_value(bytes) {
                None => Problem::Malformed,
                Some(text) if value.is_some_and(|value| says(value, &text)) => return Ok(()),
                Some(_) => Problem::Different,
            },
        };
        Err(HeaderError::Parameter { header: self.header.clone(), problem })
    }
}

fn says(value: &Value, text: &str) -> bool {
    match value {
        Value::String(wanted) => wanted == text,
        Value::Bool(wanted) => (if *wanted { "true" } else { "false" }) == text,
        Value::Number(wanted) => {
            wanted.to_string() == text
                || wanted.as_f64().is_some_and(|wanted| text.parse::<f64>().is_ok_and(|said| said == wanted))
        }
        _ => false,
    }
}

/// Holds the arguments of a call, read to find those that headers repeat.
#[derive(Debug, Default)]
pub struct Arguments(Value);

impl Arguments {
    /// Reads arguments; what is none has none.
    #[must_use]
    pub fn read(arguments: Option<&Raw>) -> Self {
        Self(arguments.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default())
    }

    fn get(&self, path: &[Box<str>]) -> Option<&Value> {
        let found = path.iter().try_fold(&self.0, |value, name| value.get(&**name))?;
        (!found.is_null()).then_some(found)
    }
}

/// Holds the `Mcp-Param-*` headers of a request.
#[derive(Clone, Debug, Default)]
pub struct ParamHeaders(Vec<(Box<str>, Box<[u8]>)>);

impl<'a> FromIterator<(&'a str, &'a [u8])> for ParamHeaders {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(headers: I) -> Self {
        let is_one =
            |name: &str| name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
        let ours = headers.into_iter().filter(|(name, _)| is_one(name));
        Self(ours.map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Arguments, ParamHeaders, mirrored};
    use crate::Raw;
    use crate::header::HeaderError;

    fn raw(value: &Value) -> Raw {
        Raw::json(value).unwrap()
    }

    fn tool(properties: &Value) -> Raw {
        raw(&json!({ "name": "t", "inputSchema": { "type": "object", "properties": properties } }))
    }

    fn headers(pairs: &[(&str, &str)]) -> ParamHeaders {
        pairs.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
    }

    #[test]
    fn arguments_are_repeated_as_the_schema_says() {
        let tool = tool(&json!({
            "region": { "type": "string", "x-mcp-header": "Region" },
            "x-mcp-header": { "type": "string" },
            "deep": { "type": "object", "properties": { "n": { "type": "integer", "x-mcp-header": "N" } } },
            "on": { "type": "boolean", "x-mcp-header": "On", "default": { "x-mcp-header": "no" } },
        }));
        let found = mirrored(&tool).unwrap();
        let write = |arguments: Value| {
            let arguments = Arguments::read(Some(&raw(&arguments)));
            let mut pairs: Vec<(String, String)> = found
                .iter()
                .filter_map(|mirrored| Some((mirrored.header().to_owned(), mirrored.value(&arguments)?)))
                .collect();
            pairs.sort();
            pairs
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            write(json!({ "region": "Köln", "deep": { "n": -7 }, "on": false })),
            [
                pair("mcp-param-n", "-7"),
                pair("mcp-param-on", "false"),
                pair("mcp-param-region", "=?base64?S8O2bG4=?=")
            ]
        );
        assert_eq!(write(json!({ "region": "eu", "deep": 1, "on": null })), [pair("mcp-param-region", "eu")]);
        assert_eq!(write(json!({})), []);
    }

    #[test]
    fn headers_that_say_something_else_are_refused() {
        let tool = tool(&json!({
            "region": { "type": "string", "x-mcp-header": "Region" }, "n": { "type": "integer", "x-mcp-header": "n" },
        }));
        let found = mirrored(&tool).unwrap();
        let check = |arguments: Value, sent: &[(&str, &str)]| {
            let arguments = Arguments::read(Some(&raw(&arguments)));
            let headers = headers(sent);
            found
                .iter()
                .try_for_each(|mirrored| mirrored.check(&arguments, &headers))
                .map_err(|error| error.to_string())
        };
        let region = json!({ "region": "eu" });
        assert_eq!(check(region.clone(), &[("MCP-Param-Region", " eu ")]), Ok(()));
        assert_eq!(check(region.clone(), &[("mcp-param-region", "=?base64?ZXU=?=")]), Ok(()));
        assert_eq!(check(json!({ "n": 42 }), &[("mcp-param-n", "42.0")]), Ok(()));
        assert_eq!(check(json!({ "region": null }), &[("mcp-param-other", "x")]), Ok(()));
        for (arguments, sent, problem) in [
            (region.clone(), &[][..], "is missing"),
            (region.clone(), &[("mcp-param-region", "us")], "differs from the body"),
            (region.clone(), &[("mcp-param-region", "EU")], "differs from the body"),
            (region.clone(), &[("mcp-param-region", "=?base64?%%?=")], "has an invalid value"),
            (
                region.clone(),
                &[("mcp-param-region", "eu"), ("Mcp-Param-Region", "eu")],
                "stands more than once",
            ),
            (json!({}), &[("mcp-param-region", "eu")], "differs from the body"),
            (json!({ "n": 42 }), &[("mcp-param-n", "forty-two")], "differs from the body"),
        ] {
            let error = check(arguments, sent).unwrap_err();
            assert!(error.ends_with(problem), "{error}");
        }
        let error = HeaderError::Parameter { header: "x".into(), problem: crate::header::Problem::Missing };
        assert_eq!(error.code(), crate::error::HEADER_MISMATCH);
    }

    #[test]
    fn a_definition_that_breaks_a_rule_is_none() {
        let string = |name: &str| json!({ "type": "string", "x-mcp-header": name });
        for wrong in [
            json!({ "a": string("") }),
            json!({ "a": string("with space") }),
            json!({ "a": string("line\r\n") }),
            json!({ "a": { "type": "string", "x-mcp-header": 7 } }),
            json!({ "a": { "type": "number", "x-mcp-header": "A" } }),
            json!({ "a": { "type": "object", "x-mcp-header": "A" } }),
            json!({ "a": { "x-mcp-header": "A" } }),
            json!({ "a": string("A"), "b": string("a") }),
            json!({ "a": { "type": "array", "items": string("A") } }),
            json!({ "a": { "oneOf": [string("A")] } }),
            json!({ "a": { "type": "object", "$defs": { "x": string("A") } } }),
        ] {
            assert!(mirrored(&tool(&wrong)).is_err(), "{wrong}");
        }
        assert_eq!(mirrored(&raw(&json!({ "name": "x-mcp-header" }))), Ok(Vec::new()));
    }
}
