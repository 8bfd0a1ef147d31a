//! Sealing and opening.

use mcphub_domain::random::Entropy;
use mcphub_domain::secret::{Destination, SecretText};
use mcphub_vault::{Context, Keyring, Sealed, Vault, VaultError};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};

use super::{install, is_integrity, key, place, vault};

/// A record's bytes beside the plaintext's.
const OVERHEAD: usize = 2 + 16 + 32 + 12 + 48 + 12 + 16;

fn sealed(plain: &[u8]) -> Sealed {
    vault(1, &[]).seal(&place(None), plain, &Entropy::fixed(9)).unwrap()
}

proptest! {
    #[test]
    fn what_was_sealed_opens(plain: Vec<u8>, row: String, owner: String, name: String, version: u64, to in any::<Option<[u8; 32]>>()) {
        let destination = to.map(Destination::from_bytes);
        let context = Context { row: &row, owner: &owner, name: &name, version, ..place(destination.as_ref()) };
        let stored = vault(1, &[]).seal(&context, &plain, &Entropy::fixed(version)).unwrap();
        let read = Sealed::from_bytes(stored.as_bytes().to_vec()).unwrap();
        let opened = vault(2, &[1]).open(&context, &read).ok().unwrap();
        assert_eq!(opened.expose(), plain);
        assert_eq!(stored.as_bytes().len(), plain.len() + OVERHEAD);
    }

    #[test]
    fn no_bytes_open_or_panic(bytes in vec(any::<u8>(), 0..300)) {
        let headed = [sealed(b"a token").as_bytes().split_at(18).0, &bytes].concat();
        for bytes in [bytes, headed] {
            let opened = Sealed::from_bytes(bytes).and_then(|sealed| vault(1, &[]).open(&place(None), &sealed));
            assert!(opened.is_err());
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let vault = vault(1, &[]);
    let good = sealed(b"a token");
    for at in 0..good.as_bytes().len() * 8 {
        let mut bytes = good.as_bytes().to_vec();
        *bytes.get_mut(at / 8).unwrap() ^= 1 << (at % 8);
        let opened = Sealed::from_bytes(bytes).and_then(|sealed| vault.open(&place(None), &sealed));
        match (at / 8, opened) {
            (0..2, Err(VaultError::Unsupported { .. }))
            | (2..18, Err(VaultError::UnknownKey { .. }))
            | (18.., Err(VaultError::Integrity { .. })) => {}
            (byte, opened) => panic!("byte {byte}: {:?}", opened.err()),
        }
    }
}

#[test]
fn every_truncation_is_found() {
    let vault = vault(1, &[]);
    let good = sealed(b"a token");
    for length in 0..good.as_bytes().len() {
        let bytes = good.as_bytes().iter().take(length).copied().collect();
        match Sealed::from_bytes(bytes) {
            Err(VaultError::Damaged { .. }) => assert!(length < OVERHEAD, "{length}"),
            Err(error) => panic!("{length}: {error}"),
            Ok(sealed) => assert!(is_integrity(&vault.open(&place(None), &sealed)), "{length}"),
        }
    }
}

#[test]
fn bytes_after_the_end_are_found() {
    let bytes = [sealed(b"a token").as_bytes(), b"\0"].concat();
    let opened = vault(1, &[]).open(&place(None), &Sealed::from_bytes(bytes).unwrap());
    assert!(is_integrity(&opened));
}

#[test]
fn a_secret_opens_only_in_its_place() {
    let (here, there) = (Destination::digest(["here"]), Destination::digest(["there"]));
    let places = [
        place(None),
        place(Some(&here)),
        place(Some(&there)),
        Context { table: "settings", ..place(None) },
        Context { column: "other", ..place(None) },
        Context { row: "row-2", ..place(None) },
        Context { row: "", ..place(None) },
        Context { owner: "bob", ..place(None) },
        Context { name: "OTHER_TOKEN", ..place(None) },
        Context { version: 2, ..place(None) },
        Context { version: 4, ..place(None) },
        Context { row: "row-1a", owner: "lice", ..place(None) },
    ];
    let vault = vault(1, &[]);
    let entropy = Entropy::fixed(9);
    for (from, sealed_for) in places.iter().enumerate() {
        let sealed = vault.seal(sealed_for, b"a token", &entropy).unwrap();
        for (to, opened_in) in places.iter().enumerate() {
            let opened = vault.open(opened_in, &sealed);
            assert_eq!(opened.is_ok(), from == to, "{sealed_for:?} in {opened_in:?}");
            assert!(opened.is_ok() || is_integrity(&opened));
        }
    }
}

#[test]
fn a_secret_opens_only_in_its_installation() {
    let other = Vault::new(install(2), Keyring::new(key(1), Vec::new()));
    assert!(is_integrity(&other.open(&place(None), &sealed(b"a token"))));
}

#[test]
fn without_its_key_a_record_names_the_key_that_is_missing() {
    let opened = vault(2, &[3]).open(&place(None), &sealed(b"a token"));
    assert!(matches!(opened, Err(VaultError::UnknownKey { id }) if id == key(1).id()));
}

/// Everything but the head is taken from a record of the same place, so only the pairing is wrong.
#[test]
fn the_parts_of_two_records_do_not_mix() {
    let vault = vault(1, &[]);
    let entropy = Entropy::fixed(9);
    let [one, two] = [b"one", b"two"].map(|plain| vault.seal(&place(None), plain, &entropy).unwrap());
    for cut in [2 + 16, 2 + 16 + 32, 2 + 16 + 32 + 12 + 48, 2 + 16 + 32 + 12 + 48 + 12] {
        let (head, tail) = (one.as_bytes().split_at(cut).0, two.as_bytes().split_at(cut).1);
        let mixed = Sealed::from_bytes([head, tail].concat()).unwrap();
        let whole = mixed == one || mixed == two;
        assert_eq!(is_integrity(&vault.open(&place(None), &mixed)), !whole, "{cut}");
    }
}

#[test]
fn one_secret_sealed_twice_gives_two_records() {
    let vault = vault(1, &[]);
    let entropy = Entropy::fixed(9);
    let [one, two] = [(); 2].map(|()| vault.seal(&place(None), b"a token", &entropy).unwrap());
    let differ = one.as_bytes().iter().zip(two.as_bytes()).skip(18).filter(|(left, right)| left != right);
    assert!(differ.count() > 100);
}

#[test]
fn a_secret_that_is_not_text_is_told_from_a_damaged_one() {
    let opened = vault(1, &[]).open_text(&place(None), &sealed(b"\xff"));
    assert!(matches!(opened, Err(VaultError::NotText { .. })));
}

#[test]
fn a_secret_has_at_most_64_kib() {
    let vault = vault(1, &[]);
    let plain = vec![7; SecretText::MAX + 1];
    let longest = plain.split_last().unwrap().1;
    let record = vault.seal(&place(None), longest, &Entropy::fixed(9)).unwrap();
    assert_eq!(vault.open(&place(None), &record).ok().unwrap().expose(), longest);
    let refused = vault.seal(&place(None), &plain, &Entropy::fixed(9));
    assert!(matches!(refused, Err(VaultError::TooLong)));
    let longer = [record.as_bytes(), b"\0"].concat();
    assert!(matches!(Sealed::from_bytes(longer), Err(VaultError::Damaged { .. })));
}

#[test]
fn an_error_names_the_row_and_not_the_secret() {
    let other = Context { row: "row-2", ..place(None) };
    let error = vault(1, &[]).open(&other, &sealed(b"a token")).err().unwrap().to_string();
    assert!(error.contains("\"GITHUB_TOKEN\" of credentials row \"row-2\""), "{error}");
    assert!(!error.contains("a token"), "{error}");
}
