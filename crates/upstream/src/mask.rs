//! Takes a process's own secrets out of what it writes.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use crate::target::{ENCODED, Values};

/// Shorter texts are no secrets, and masking them would make everything unreadable.
const SHORTEST: usize = 4;
const MASK: &str = "[REDACTED]";

/// Knows the forms that a process's secrets can take: as they are, in base64, in a URL, in JSON.
#[derive(Default)]
pub(crate) struct Mask {
    /// Longest first, so that a form is never left half masked.
    forms: Vec<Zeroizing<Vec<u8>>>,
}

impl Mask {
    pub(crate) fn new(values: &Values) -> Self {
        let mut mask = Self::default();
        for value in values.slots.values() {
            mask.add(value.expose());
            // Logs come by line, so that each line of a longer secret counts alone.
            value.expose().lines().for_each(|line| mask.add(line));
        }
        mask.forms.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        mask.forms.dedup();
        mask
    }

    /// Returns the length of the longest form.
    pub(crate) fn longest(&self) -> usize {
        self.forms.first().map_or(0, |form| form.len())
    }

    /// Writes the first `limit` bytes of a line without secrets; one that begins within them is
    /// masked whole if `line` holds all of it.
    pub(crate) fn apply(&self, line: &[u8], limit: usize) -> String {
        let mut clean: Vec<u8> = Vec::with_capacity(line.len().min(limit));
        let mut at = 0;
        while at < line.len().min(limit) {
            let rest = line.get(at..).unwrap_or_default();
            match self.forms.iter().find(|form| rest.starts_with(form)) {
                Some(form) => {
                    clean.extend_from_slice(MASK.as_bytes());
                    at += form.len();
                }
                None => {
                    clean.extend(rest.first());
                    at += 1;
                }
            }
        }
        let text = String::from_utf8_lossy(&clean);
        text.chars()
            .map(|letter| if letter.is_control() && letter != '\t' { '\u{fffd}' } else { letter })
            .collect()
    }

    fn add(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let bytes = secret.as_bytes();
        self.put(bytes.to_vec());
        self.put(percent_encode(bytes, NON_ALPHANUMERIC).to_string().into_bytes());
        self.put(percent_encode(bytes, ENCODED).to_string().into_bytes());
        if let Ok(json) = serde_json::to_string(secret) {
            self.put(json.trim_matches('"').as_bytes().to_vec());
        }
        for offset in 0..3 {
            self.put(base64_core(&STANDARD_NO_PAD, bytes, offset));
            self.put(base64_core(&URL_SAFE_NO_PAD, bytes, offset));
        }
    }

    fn put(&mut self, form: Vec<u8>) {
        if form.len() >= SHORTEST {
            self.forms.push(Zeroizing::new(form));
        }
    }
}

/// Encodes a secret as it looks behind `offset` other bytes, without the digits that it shares with
/// its neighbours.
fn base64_core(engine: &impl Engine, secret: &[u8], offset: usize) -> Vec<u8> {
    let mut padded = Zeroizing::new(vec![0; offset]);
    padded.extend_from_slice(secret);
    let whole = Zeroizing::new(engine.encode(padded.as_slice()).into_bytes());
    let first = [0, 2, 3].get(offset).copied().unwrap_or(0);
    let last = if padded.len().is_multiple_of(3) { whole.len() } else { whole.len() - 1 };
    whole.get(first..last).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
    use mcphub_domain::{SecretText, Slot};
    use proptest::prelude::{prop_assert, prop_assume, proptest};

    use super::Mask;
    use crate::target::Values;

    fn mask(secrets: &[&str]) -> Mask {
        let slots = secrets.iter().enumerate().map(|(index, secret)| {
            let slot = Slot::Personal(format!("S{index}").parse().unwrap());
            (slot, SecretText::new((*secret).to_owned()))
        });
        Mask::new(&Values { slots: slots.collect(), caller: None })
    }

    #[test]
    fn a_secret_is_masked_in_all_its_forms() {
        let secret = "s3cret/\"+ü value";
        let mask = mask(&[secret]);
        let forms = [
            secret.to_owned(),
            BASE64_STANDARD.encode(secret),
            BASE64_URL_SAFE.encode(secret),
            BASE64_STANDARD.encode(format!("user:{secret}")),
            BASE64_STANDARD.encode(format!("me:{secret}!")),
            BASE64_STANDARD.encode(format!("x:y:{secret}")),
            "s3cret%2F%22%2B%C3%BC%20value".to_owned(),
            r#"s3cret/\"+ü value"#.to_owned(),
        ];
        for form in forms {
            let clean = mask.apply(format!("before {form} after").as_bytes(), usize::MAX);
            assert!(clean.contains("[REDACTED]"), "{form}: {clean}");
            assert!(!clean.contains("value"), "{form}: {clean}");
        }
    }

    #[test]
    fn a_longer_secret_wins_over_one_that_it_begins_with() {
        assert_eq!(mask(&["abcd", "abcdefgh"]).apply(b"<abcdefgh>", 99), "<[REDACTED]>");
    }

    #[test]
    fn the_lines_of_a_secret_are_masked_alone() {
        let mask = mask(&["-----BEGIN KEY-----\nMIIabcdef\n"]);
        assert_eq!(mask.apply(b"MIIabcdef", 99), "[REDACTED]");
    }

    #[test]
    fn a_secret_at_the_cut_is_masked_whole() {
        assert_eq!(mask(&["secret99"]).apply(b"abcsecret99def", 5), "abc[REDACTED]");
    }

    #[test]
    fn escape_sequences_do_not_reach_a_terminal() {
        assert_eq!(mask(&[]).apply(b"\x1b[31mred\tend\x07", 99), "\u{fffd}[31mred\tend\u{fffd}");
    }

    proptest! {
        #[test]
        fn no_secret_survives(secret in r"[!-~]{4,24}", before in r"[ -~]{0,20}", after in r"[ -~]{0,20}") {
            prop_assume!(!"[REDACTED]".contains(secret.as_str()));
            prop_assume!(!before.contains("[REDACTED]") && !after.contains("[REDACTED]"));
            let clean = mask(&[&secret]).apply(format!("{before}{secret}{after}").as_bytes(), usize::MAX);
            prop_assert!(!clean.replace("[REDACTED]", "\n").contains(&secret));
        }
    }
}
