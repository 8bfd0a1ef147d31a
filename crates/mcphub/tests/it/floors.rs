//! The crates depend on each other as `ARCHITECTURE.md` says, and on nothing above them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

type Edges = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_crates_depend_on_each_other_as_the_table_says() {
    let (floors, drawn) = table();
    let built = edges();
    assert_eq!(built, drawn);
    for (name, uses) in &built {
        for used in uses {
            assert!(floors[used] < floors[name], "{name} (floor {}) uses {used}", floors[name]);
        }
    }
}

/// Reads the table of floors: each crate's floor, and what it uses.
fn table() -> (BTreeMap<String, u8>, Edges) {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (mut floors, mut edges) = (BTreeMap::new(), Edges::new());
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [floor, name, _, uses] = cells[..] else { panic!("{line}") };
        let Ok(floor) = floor.parse() else { continue };
        let name = name.trim_matches('`').to_owned();
        let uses =
            uses.split(", ").filter(|used| *used != "–").map(|used| format!("mcphub-{used}")).collect();
        floors.insert(name.clone(), floor);
        edges.insert(name, uses);
    }
    assert_eq!(floors.len(), 8, "eight crates");
    (floors, edges)
}

/// Asks cargo which of our crates each of our crates uses.
fn edges() -> Edges {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| package["name"] != "xtask")
        .map(|package| {
            let used = package["dependencies"].as_array().unwrap().iter();
            let used = used.filter(|dependency| dependency["kind"].is_null());
            let names = used.filter_map(|dependency| dependency["name"].as_str());
            let ours = names.filter(|name| name.starts_with("mcphub-")).map(str::to_owned).collect();
            (package["name"].as_str().unwrap().to_owned(), ours)
        })
        .collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
