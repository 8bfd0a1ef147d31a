//! Bundles as version 0.1.0 of the hub wrote them: every later verifier reads them.

use mcphub_verify::{Expected, Kind, check};

pub(crate) const EXPORT: &[u8] = include_bytes!("bundles/export.jsonl");
pub(crate) const SPAN: &[u8] = include_bytes!("bundles/span.jsonl");
pub(crate) const PROOF: &[u8] = include_bytes!("bundles/proof.jsonl");
pub(crate) const KEY: &str = include_str!("bundles/key.txt");

/// Replaces a text and says what is found first.
fn first(bundle: &[u8], from: &str, to: &str) -> (Kind, Option<u64>) {
    let text = std::str::from_utf8(bundle).unwrap();
    assert!(text.contains(from), "{from}");
    let verdict = check(text.replacen(from, to, 1).as_bytes(), None).unwrap();
    let finding = verdict.findings.first().unwrap_or_else(|| panic!("{from} is as good as {to}"));
    (finding.kind, finding.place.as_ref().map(|(_, number)| *number))
}

/// Returns the lines of the export from the first segment with two records on.
fn segments() -> (Vec<&'static [u8]>, usize) {
    let lines: Vec<&[u8]> = EXPORT.split_inclusive(|byte| *byte == b'\n').collect();
    let is_segment = |line: &&[u8]| std::str::from_utf8(line).unwrap().contains("\"lines\":2,");
    let at = lines.iter().position(is_segment).unwrap();
    (lines, at)
}

fn found(lines: &[&[u8]]) -> (Kind, Option<u64>) {
    let verdict = check(lines.concat().as_slice(), None).unwrap();
    (verdict.findings[0].kind, verdict.findings[0].place.as_ref().map(|(_, number)| *number))
}

#[test]
fn what_the_hub_wrote_is_whole() {
    for (bundle, kind) in [(EXPORT, "export"), (SPAN, "export"), (PROOF, "proof")] {
        for expected in [None, Expected::find(KEY), KEY.split_whitespace().last().unwrap().parse().ok()] {
            let verdict = check(bundle, expected.as_ref()).unwrap();
            assert_eq!(verdict.findings, []);
            assert_eq!(verdict.summary.kind, kind);
        }
    }
    let summary = check(SPAN, None).unwrap().summary;
    assert!(summary.shown < summary.records && summary.covered > 0, "{summary:?}");
    assert!(check(PROOF, None).unwrap().summary.proved.unwrap().contains("user.added"));
}

#[test]
fn what_was_changed_is_named() {
    assert_eq!(first(EXPORT, "\"type\":\"user.added\"", "\"type\":\"user.edded\""), (Kind::Altered, Some(1)));
    assert_eq!(first(EXPORT, "\"number\":2,", "\"number\":9,"), (Kind::BadSignature, None));
    assert_eq!(first(EXPORT, "\"heads\":3,", "\"heads\":2,"), (Kind::Malformed, None));
    assert_eq!(first(EXPORT, "\"v\":1}", "\"v\":2}"), (Kind::Malformed, None));
    assert_eq!(first(PROOF, "\"type\":\"user.added\"", "\"type\":\"user.edded\""), (Kind::Altered, Some(1)));
    assert_eq!(first(PROOF, "\"steps\":1,", "\"steps\":0,"), (Kind::Malformed, None));
    assert_eq!(first(PROOF, "\"steps\":1,", "\"steps\":2,"), (Kind::Malformed, None));
    let span = "\"from\":4102444800000000,";
    assert_eq!(first(SPAN, span, ""), (Kind::Malformed, None), "a whole export shows all");
    assert_eq!(first(SPAN, span, "\"from\":4102444800000001,"), (Kind::BadSeal, None));
}

#[test]
fn what_was_moved_in_or_out_is_named() {
    let (lines, at) = segments();
    let change = |change: &dyn Fn(&mut Vec<&'static [u8]>)| {
        let mut changed = lines.clone();
        change(&mut changed);
        found(&changed)
    };
    let renamed = |count: &str| {
        let line = std::str::from_utf8(lines[at]).unwrap().replace("\"lines\":2,", count);
        &*Box::leak(line.into_bytes().into_boxed_slice())
    };
    assert_eq!(change(&|lines| lines.swap(at + 1, at + 2)), (Kind::Reordered, Some(0)));
    let (fewer, more) = (renamed("\"lines\":1,"), renamed("\"lines\":3,"));
    assert_eq!(
        change(&|lines| {
            lines[at] = fewer;
            lines.remove(at + 1);
        }),
        (Kind::Removed, Some(0))
    );
    assert_eq!(
        change(&|lines| {
            lines[at] = fewer;
            lines.remove(at + 2);
        }),
        (Kind::Removed, Some(1))
    );
    assert_eq!(
        change(&|lines| {
            lines[at] = more;
            lines.insert(at + 3, lines[at + 1])
        }),
        (Kind::Inserted, Some(2))
    );
    assert_eq!(change(&|lines| lines.swap(1, 2)), (Kind::Replayed, None));
    assert_eq!(change(&|lines| lines.truncate(2)), (Kind::Malformed, None));
    assert_eq!(change(&|lines| lines.push(b"\n")), (Kind::Malformed, None));
    assert_eq!(change(&|lines| lines.push(lines[lines.len() - 1])), (Kind::Malformed, None));
    assert_eq!(change(&|lines| lines.truncate(at)), (Kind::Malformed, None));
    let is_end = |line: &&[u8]| std::str::from_utf8(line).unwrap().contains("chain.closed");
    let end = lines.iter().position(is_end).unwrap();
    assert_eq!(change(&|lines| drop(lines.drain(end - 1..=end))), (Kind::Truncated, Some(2)));
}

#[test]
fn a_step_that_nobody_names_proves_nothing() {
    let lines: Vec<&[u8]> = PROOF.split_inclusive(|byte| *byte == b'\n').collect();
    let step = std::str::from_utf8(lines[2]).unwrap().replace("\"size\":3}", "\"size\":4}");
    assert_ne!(step.as_bytes(), lines[2]);
    let changed = [lines[0], lines[1], step.as_bytes(), lines[3], lines[4]];
    assert_eq!(found(&changed), (Kind::Rewritten, Some(1)));
}

#[test]
fn another_key_is_refused() {
    let digits = "0".repeat(64);
    for other in [format!("sha256:{digits}"), format!("ed25519:{digits}")] {
        let verdict = check(EXPORT, Some(&other.parse().unwrap())).unwrap();
        assert_eq!(verdict.findings[0].kind, Kind::WrongKey);
    }
}
