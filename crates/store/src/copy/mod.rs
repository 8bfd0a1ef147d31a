//! A whole copy of the data, as lines of text that either database can be filled from.
//!
//! What is sealed stays sealed in it. Bytes are written in base64, everything else as it is.

mod export;
mod import;
mod tables;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use crate::error::StoreError;
use crate::statement::{Row, Value};
use tables::{Kind, Table};

pub use export::{Export, Facts, Page};
pub use import::Import;

pub use crate::migrate::SCHEMA;

/// Names the columns of every table of a copy.
pub fn layout() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    tables::TABLES.iter().map(|table| (table.name, table.columns.iter().map(|(name, _)| *name).collect()))
}

/// Writes a row as one line.
fn to_line(table: &Table, row: &Row) -> Result<String, StoreError> {
    let cell = |(place, (_, kind)): (usize, &(&str, Kind))| {
        Ok(match kind {
            Kind::Text => Json::from(row.get::<Option<String>>(place)?),
            Kind::Int => Json::from(row.get::<Option<i64>>(place)?),
            Kind::Bytes => Json::from(row.get::<Option<Vec<u8>>>(place)?.map(|bytes| STANDARD.encode(bytes))),
        })
    };
    let cells: Result<Vec<Json>, StoreError> = table.columns.iter().enumerate().map(cell).collect();
    Ok(Json::Array(cells?).to_string())
}

/// Reads a line as the values of a row.
fn from_line(table: &Table, line: &str) -> Result<Vec<Value>, StoreError> {
    let wrong = || StoreError::damaged(format!("a row of {} in the copy", table.name));
    let cells: Vec<Json> = serde_json::from_str(line).map_err(|_| wrong())?;
    if cells.len() != table.columns.len() {
        return Err(wrong());
    }
    let value = |(cell, (_, kind)): (Json, &(&str, Kind))| match (kind, cell) {
        (Kind::Text, Json::Null) => Some(Value::Text(None)),
        (Kind::Int, Json::Null) => Some(Value::Int(None)),
        (Kind::Bytes, Json::Null) => Some(Value::Bytes(None)),
        (Kind::Text, Json::String(text)) => Some(Value::Text(Some(text))),
        (Kind::Int, Json::Number(number)) => Some(Value::Int(Some(number.as_i64()?))),
        (Kind::Bytes, Json::String(text)) => Some(Value::Bytes(Some(STANDARD.decode(text).ok()?))),
        _ => None,
    };
    cells.into_iter().zip(table.columns).map(value).collect::<Option<_>>().ok_or_else(wrong)
}
