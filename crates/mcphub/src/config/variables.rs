//! Variables as configuration: `MCPHUB_LIMITS__CALLS_PER_MINUTE` is `calls_per_minute` in `[limits]`.

use figment::value::{Dict, Value};

use super::ConfigError;
use super::keys::{self, FREE, Kind};

const PREFIX: &str = "MCPHUB_";
/// Names what `mcphub connect` signs in with. It is a client's, and no setting of the hub's.
pub(crate) const KEY: &str = "MCPHUB_KEY";

/// Reads the variables that are meant for the hub, out of all there are.
pub(super) fn read(environment: &[(String, String)]) -> Result<Dict, ConfigError> {
    let mut values = Dict::new();
    for (variable, text) in environment.iter().filter(|(variable, _)| variable != KEY) {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let key = key(name);
        let value = match (keys::kind(&key), key.strip_prefix(FREE)) {
            (Some(kind), _) => {
                value(kind, text).map_err(|expected| ConfigError::invalid(variable, expected))?
            }
            (None, Some(free)) if free.len() > 1 => Value::from(text.as_str()),
            _ => return Err(keys::unknown(variable, &key)),
        };
        put(&mut values, &key, value);
    }
    Ok(values)
}

/// Turns `LIMITS__CALLS_PER_MINUTE` into `limits.calls_per_minute`. Names of children's variables
/// keep their case.
fn key(name: &str) -> String {
    let mut parts = name.splitn(3, "__");
    let known = [parts.next(), parts.next()].into_iter().flatten().map(str::to_ascii_lowercase);
    known.chain(parts.next().map(str::to_owned)).collect::<Vec<_>>().join(".")
}

fn value(kind: Kind, text: &str) -> Result<Value, &'static str> {
    match kind {
        Kind::Text => Ok(Value::from(text)),
        Kind::Number => text.parse::<u64>().map(Value::from).map_err(|_| "expected a whole number"),
        Kind::Flag => text.parse::<bool>().map(Value::from).map_err(|_| "expected true or false"),
        Kind::List => {
            let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
            Ok(Value::from(texts.collect::<Vec<_>>()))
        }
    }
}

fn put(values: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            values.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let below = values.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, below) = below {
                put(below, rest, value);
            }
        }
    }
}
