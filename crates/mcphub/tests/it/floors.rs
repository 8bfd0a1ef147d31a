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

/// What checks the log elsewhere must not repeat an error of the hub: not even its tests use our code.
#[test]
fn the_verifier_shares_nothing_with_the_house() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let verifier = packages.iter().find(|package| package["name"] == "mcphub-verify").unwrap();
    let dependencies = verifier["dependencies"].as_array().unwrap();
    let names: BTreeSet<&str> =
        dependencies.iter().filter_map(|dependency| dependency["name"].as_str()).collect();
    let few = ["ed25519-dalek", "proptest", "serde", "serde_json", "sha2", "tempfile"];
    assert_eq!(names, BTreeSet::from(few));
    assert!(dependencies.iter().all(|dependency| dependency["path"].is_null()), "{names:?}");
    let folder = root().join("crates/verify/src");
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("#[path") && !text.contains("include!("), "its code is its own");
    }
}

/// Reads the table of floors: each crate's floor, and what it uses.
fn table() -> (BTreeMap<String, u8>, Edges) {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (mut floors, mut edges) = (BTreeMap::new(), Edges::new());
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [floor, name, _, uses] = cells[..] else { panic!("{line}") };
        let name = name.trim_matches('`').to_owned();
        match floor.parse() {
            Ok(floor) => drop(floors.insert(name.clone(), floor)),
            Err(_) if floor == "apart" => {}
            Err(_) => continue,
        }
        let uses =
            uses.split(", ").filter(|used| *used != "–").map(|used| format!("mcphub-{used}")).collect();
        edges.insert(name, uses);
    }
    assert_eq!((floors.len(), edges.len()), (8, 9), "eight crates, and one apart");
    (floors, edges)
}

/// Asks cargo what it knows of our crates.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Lists which of our crates each of our crates uses.
fn edges() -> Edges {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| !["xtask", "bench"].map(Value::from).contains(&package["name"]))
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
