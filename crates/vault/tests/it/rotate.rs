//! Moving to a new key-encryption key.

use mcphub_domain::random::Entropy;
use mcphub_vault::{Sealed, VaultError};

use super::{key, place, vault};

fn sealed() -> Sealed {
    vault(1, &[]).seal(&place(None), b"a token", &Entropy::fixed(9)).unwrap()
}

#[test]
fn after_a_rewrap_the_old_key_is_not_needed() {
    let moved = vault(2, &[1]).rewrap(&sealed(), &Entropy::fixed(8)).unwrap().unwrap();
    assert_eq!(moved.key_id(), key(2).id());
    let read = Sealed::from_bytes(moved.as_bytes().to_vec()).unwrap();
    assert_eq!(vault(2, &[]).open(&place(None), &read).ok().unwrap().expose(), b"a token");
    assert!(matches!(vault(1, &[]).open(&place(None), &read), Err(VaultError::UnknownKey { .. })));
}

#[test]
fn a_record_under_the_current_key_stays() {
    let vault = vault(1, &[2]);
    assert_eq!(sealed().key_id(), vault.current_key());
    assert_eq!(vault.rewrap(&sealed(), &Entropy::fixed(8)).unwrap(), None);
}

#[test]
fn a_rewrap_keeps_the_commitment_and_the_data() {
    let before = sealed();
    let after = vault(2, &[1]).rewrap(&before, &Entropy::fixed(8)).unwrap().unwrap();
    let kept = |sealed: &Sealed| {
        let bytes = sealed.as_bytes();
        (bytes.iter().skip(18).take(32).copied().collect::<Vec<_>>(), bytes.split_at(110).1.to_vec())
    };
    assert_eq!(kept(&before), kept(&after));
    assert_eq!(before.as_bytes().len(), after.as_bytes().len());
}

#[test]
fn a_rewrap_needs_the_old_key() {
    let moved = vault(2, &[3]).rewrap(&sealed(), &Entropy::fixed(8));
    assert!(matches!(moved, Err(VaultError::UnknownKey { id }) if id == key(1).id()));
}

/// A changed head must not become a record that looks freshly made.
#[test]
fn a_rewrap_refuses_a_changed_head() {
    for at in 18..110 {
        let mut bytes = sealed().as_bytes().to_vec();
        *bytes.get_mut(at).unwrap() ^= 1;
        let moved = vault(2, &[1]).rewrap(&Sealed::from_bytes(bytes).unwrap(), &Entropy::fixed(8));
        assert!(matches!(moved, Err(VaultError::Damaged { .. })), "byte {at}");
    }
}
