//! Nothing that somebody hands in makes the verifier panic, or say that it is whole.

use std::io::{self, Read};

use mcphub_verify::{Kind, check};
use proptest::prelude::{Strategy, any, prop_assert, proptest};
use proptest::{collection, sample};

use crate::bundles::{EXPORT, PROOF, SPAN};

/// Hands out one line without an end, for ever.
struct Endless(u64);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'[');
        self.0 += buffer.len() as u64;
        assert!(self.0 < 64 << 20, "it reads on and on");
        Ok(buffer.len())
    }
}

fn bundle() -> impl Strategy<Value = Vec<u8>> {
    sample::select(vec![EXPORT, SPAN, PROOF]).prop_map(<[u8]>::to_vec)
}

/// Makes something that looks like a line of a bundle, with wild numbers.
fn line() -> impl Strategy<Value = String> {
    let number = sample::select(vec!["0", "1", "2", "-1", "18446744073709551615", "1e99", "null"]);
    let digits = sample::select(vec![String::new(), "0".repeat(64), "f".repeat(128), "g".to_owned()]);
    (
        sample::select(vec![EXPORT, SPAN, PROOF]),
        any::<sample::Index>(),
        any::<sample::Index>(),
        number,
        digits,
    )
        .prop_map(|(bundle, line, place, number, digits)| {
            let text = std::str::from_utf8(bundle).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let words: Vec<&str> = line.get(&lines).split(':').collect();
            let at = place.index(words.len());
            let changed = words.iter().enumerate().map(|(place, word)| match word.split_once(',') {
                Some((value, rest)) if place == at && value.starts_with('"') => {
                    format!("\"{digits}\",{rest}")
                }
                Some((_, rest)) if place == at => format!("{number},{rest}"),
                _ => (*word).to_owned(),
            });
            changed.collect::<Vec<_>>().join(":")
        })
}

proptest! {
    #[test]
    fn garbage_is_no_bundle(bytes in collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(!check(&bytes[..], None).unwrap().is_whole());
    }

    #[test]
    fn a_changed_byte_is_found(bundle in bundle(), place in any::<sample::Index>(), other in 1_u8..) {
        let (mut bundle, place) = (bundle.clone(), place.index(bundle.len()));
        bundle[place] ^= other;
        prop_assert!(!check(&bundle[..], None).unwrap().is_whole(), "byte {}", place);
    }

    #[test]
    fn what_is_cut_is_found(bundle in bundle(), from in any::<sample::Index>(), span in 1_usize..3_000) {
        let (mut bundle, from) = (bundle.clone(), from.index(bundle.len()));
        bundle.drain(from..bundle.len().min(from + span));
        prop_assert!(!check(&bundle[..], None).unwrap().is_whole());
    }

    #[test]
    fn a_bundle_of_wild_lines_is_none(
        bundle in bundle(),
        line in collection::vec((any::<sample::Index>(), line()), 1..4),
    ) {
        let mut lines: Vec<String> = String::from_utf8(bundle.clone()).unwrap().lines().map(str::to_owned).collect();
        for (place, line) in line {
            let place = place.index(lines.len());
            lines[place] = line;
        }
        let changed = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        prop_assert!(changed.as_bytes() == bundle || !check(changed.as_bytes(), None).unwrap().is_whole());
    }
}

#[test]
fn an_endless_line_ends() {
    let verdict = check(Endless(0), None).unwrap();
    assert_eq!(verdict.findings[0].kind, Kind::Malformed);
}

#[test]
fn more_lines_than_a_segment_can_have_are_refused_at_once() {
    let text = std::str::from_utf8(EXPORT).unwrap();
    let many = text.replacen("\"lines\":2,", "\"lines\":18446744073709551615,", 1);
    let verdict = check(many.as_bytes(), None).unwrap();
    assert_eq!(verdict.findings[0].kind, Kind::Malformed);
    assert!(verdict.findings[0].text.contains("so many lines"), "{verdict:?}");
}

#[test]
fn what_cannot_be_read_is_an_error_and_no_verdict() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    assert!(check(Broken, None).is_err());
}
