//! Personal fields of audit records.

use mcphub_domain::random::Entropy;
use mcphub_domain::secret::SecretBytes;
use mcphub_vault::{PersonKey, VaultError};
use proptest::prelude::proptest;

use super::{is_integrity, place, vault};

fn person(seed: u64) -> PersonKey {
    PersonKey::random(&Entropy::fixed(seed))
}

proptest! {
    #[test]
    fn a_field_opens_with_its_persons_key(aad: Vec<u8>, plain: Vec<u8>, seed: u64) {
        let field = person(1).seal(&aad, &plain, &Entropy::fixed(seed)).unwrap();
        assert_eq!(person(1).open(&aad, &field).ok().unwrap().expose(), plain);
        assert!(matches!(person(2).open(&aad, &field), Err(VaultError::Personal)));
    }

    #[test]
    fn no_bytes_open(bytes: Vec<u8>) {
        assert!(person(1).open(b"record 7", &bytes).is_err());
    }
}

#[test]
fn every_change_to_a_field_is_found() {
    let field = person(1).seal(b"record 7", b"alice", &Entropy::fixed(9)).unwrap();
    assert!(person(1).open(b"record 8", &field).is_err());
    for at in 0..field.len() {
        let mut changed = field.clone();
        *changed.get_mut(at).unwrap() ^= 1;
        assert!(person(1).open(b"record 7", &changed).is_err(), "byte {at}");
        assert!(person(1).open(b"record 7", field.split_at(at).0).is_err(), "length {at}");
    }
}

#[test]
fn equal_names_look_different() {
    let entropy = Entropy::fixed(9);
    let [one, two] = [(); 2].map(|()| person(1).seal(b"record 7", b"alice", &entropy).unwrap());
    assert_ne!(one, two);
}

#[test]
fn a_persons_key_is_stored_sealed() {
    let vault = vault(1, &[]);
    let sealed = vault.seal(&place(None), person(1).expose(), &Entropy::fixed(9)).unwrap();
    let key = PersonKey::from_secret(&vault.open(&place(None), &sealed).ok().unwrap()).ok().unwrap();
    let field = person(1).seal(b"record 7", b"alice", &Entropy::fixed(8)).unwrap();
    assert_eq!(key.open(b"record 7", &field).ok().unwrap().expose(), b"alice");
    assert!(is_integrity(&vault.open(&mcphub_vault::Context { row: "bob", ..place(None) }, &sealed)));
}

#[test]
fn a_key_has_32_bytes() {
    for found in [0, 31, 33] {
        let refused = PersonKey::from_secret(&SecretBytes::new(vec![7; found]));
        assert!(matches!(refused, Err(VaultError::KeyLength { found: told }) if told == found));
    }
}
