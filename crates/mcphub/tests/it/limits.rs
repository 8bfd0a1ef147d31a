//! The page about limits says what the code does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mcphub_domain::{Quota, SecretText, ServerDefinition};
use mcphub_hub::UpstreamSettings;
use mcphub_wire::{Id, Limits};
use serde_json::json;

/// Is a count, a number of bytes, or a number of milliseconds.
type Figure = u64;

#[test]
fn the_page_about_limits_has_the_figures_of_the_code() {
    let page = std::fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let mut wrong = BTreeMap::new();
    let rows: Vec<Vec<&str>> = page.lines().filter(|line| line.starts_with("| ")).map(cells).collect();
    for row in rows.iter().filter(|row| row[0] != "what") {
        let [_, limit, _, _, place] = row[..] else { panic!("{row:?}") };
        let place = place.trim_matches('`');
        let (written, meant) = (written(limit), in_code(place));
        if meant.is_none() || written != meant {
            wrong.insert(place, (limit, meant));
        }
    }
    assert!(wrong.is_empty(), "the page says, and the code means: {wrong:#?}");
    assert!(rows.len() > 60, "only {} rows were found", rows.len());
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// Reads a figure as people write it.
fn written(text: &str) -> Option<Figure> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let unit = match unit {
        "" | "ms" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let number: f64 = number.replace(',', "").parse().ok()?;
    Some((number * unit) as Figure)
}

/// Finds what the code says: a public value, or a constant by its place.
fn in_code(place: &str) -> Option<Figure> {
    let settings = UpstreamSettings::new(PathBuf::new(), BTreeMap::new(), PathBuf::new(), PathBuf::new());
    let definition = json!({ "type": "streamable-http", "url": "http://127.0.0.1/" });
    let definition: ServerDefinition = serde_json::from_value(definition).unwrap();
    let quota = Quota::default();
    let value = match place {
        "Limits::REQUEST.body" => Limits::REQUEST.body,
        "Limits::REQUEST.depth" => Limits::REQUEST.depth,
        "Limits::REQUEST.keys" => Limits::REQUEST.keys,
        "Limits::REQUEST.string" => Limits::REQUEST.string,
        "Limits::RESPONSE.keys" => Limits::RESPONSE.keys,
        "Id::MAX_CHARS" => Id::MAX_CHARS,
        "SecretText::MAX" => SecretText::MAX,
        "Settings.max_response" => settings.max_response,
        "Quota.calls_per_minute" => quota.calls_per_minute() as usize,
        "Quota.requests" => quota.of_requests().calls_per_minute() as usize,
        "Quota.concurrent_calls" => quota.concurrent_calls() as usize,
        "ServerDefinition.timeout" => definition.timeout_ms as usize,
        constant => return read_constant(constant),
    };
    Some(value as Figure)
}

/// Reads a constant's value off its source, named as `crate/path/to/module::NAME`.
fn read_constant(place: &str) -> Option<Figure> {
    let (module, name) = place.split_once("::")?;
    let (package, path) = module.split_once('/')?;
    let source = root().join("crates").join(package).join("src");
    let text = [format!("{path}.rs"), format!("{path}/mod.rs")]
        .iter()
        .find_map(|file| std::fs::read_to_string(source.join(file)).ok())?;
    let start = text.find(&format!("const {name}: "))?;
    let definition = text[start..].split_once(';')?.0.split_once(" = ")?.1;
    let spans =
        [("Duration::from_millis(", 1), ("Duration::from_secs(", 1_000), ("Duration::from_mins(", 60_000)];
    match spans
        .iter()
        .find_map(|(call, unit)| Some((definition.strip_prefix(call)?.strip_suffix(')')?, unit)))
    {
        Some((span, unit)) => Some(calculate(span)? * unit),
        None => calculate(definition),
    }
}

/// Calculates a sum, a product or a shift of whole numbers.
fn calculate(text: &str) -> Option<Figure> {
    if let Some((one, other)) = text.split_once(" + ") {
        return Some(calculate(one)? + calculate(other)?);
    }
    if let Some((one, other)) = text.split_once(" << ") {
        return Some(calculate(one)? << calculate(other)?);
    }
    if let Some((one, other)) = text.split_once(" * ") {
        return Some(calculate(one)? * calculate(other)?);
    }
    match text.trim() {
        "DAY.as_secs()" => Some(86_400),
        number => number.replace('_', "").parse().ok(),
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
