//! Random JSON as text: every way to write whitespace, numbers and escapes that the grammar has.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};

/// Values that somebody's parser reads as others, or writes otherwise.
const ODD: [&str; 16] = [
    "1.0e+2",
    "1E400",
    "-0",
    "-0.0E-0",
    "18446744073709551616",
    "-9223372036854775809",
    "0.1000000000000000055511151231257827",
    "\"\\u2028\\u2029\"",
    "\"\u{2028}\u{2029}\"",
    "\"\\ud83d\\uDE00\"",
    "\"\\/\\b\\f\\u007f\u{7f}\"",
    "\"\\u0000\"",
    "\"\u{feff}\u{200d}\u{202e}e\u{301}\"",
    "\"data: \\n\\ndata:\"",
    "\"<script>&amp;\"",
    "[ ]",
];

/// Writes any JSON value, without duplicate keys.
pub(crate) fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number(),
        string(),
        prop::sample::select(&ODD).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec((space(), inner.clone()), 0..5).prop_map(|items| {
                let items: Vec<_> = items.into_iter().map(|(space, item)| format!("{space}{item}")).collect();
                format!("[{}]", items.join(","))
            }),
            object(inner),
        ]
    })
}

/// Writes an object with members from `inner`.
pub(crate) fn object(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let members = prop::collection::btree_map("[a-zé\"\\\\/]{0,4}", (space(), inner), 0..6);
    (members, any::<bool>()).prop_map(|(members, escape)| write_object(&members, escape))
}

fn write_object(members: &BTreeMap<String, (String, String)>, escape: bool) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(key, (space, value))| {
            let key = if escape { escape_all(key) } else { serde_json::to_string(key).unwrap() };
            format!("{space}{key}{space}:{space}{value}{space}")
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,2}"
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?"
}

/// Writes a string.
pub(crate) fn string() -> impl Strategy<Value = String> {
    (any::<String>(), any::<bool>()).prop_map(|(text, escape)| {
        if escape { escape_all(&text) } else { serde_json::to_string(&text).unwrap() }
    })
}

/// Writes a string in escapes alone.
pub(crate) fn escape_all(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{units}\"")
}
