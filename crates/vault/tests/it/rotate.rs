//! Moving to a new key-encryption key.

use std::os::unix::fs::PermissionsExt;

use mcphub_domain::random::Entropy;
use mcphub_vault::provider::{FileProvider, ProviderError};
use mcphub_vault::{Keyring, Sealed, VaultError, WrapKeyId};

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

/// The keys of a file, as whoever reads it holds them.
fn held(provider: &FileProvider) -> Vec<WrapKeyId> {
    provider.load().ok().unwrap().ids()
}

#[test]
fn a_new_key_comes_last_and_the_file_stays_as_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.key");
    let provider = FileProvider::create(path.clone(), &Entropy::fixed(1)).ok().unwrap();
    let before = held(&provider);
    // What a kill left of an earlier attempt.
    std::fs::write(folder.path().join("hub.key.draft"), "half").unwrap();
    let added = provider.add(&Entropy::fixed(2)).unwrap();
    assert_eq!(held(&provider), [before[0], added]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o400);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    provider.remove(&before).unwrap();
    assert_eq!(held(&provider), [added]);
    assert!(matches!(provider.remove(&[added]), Err(ProviderError::Malformed { .. })), "the last key stays");
    assert_eq!(held(&provider), [added]);
}

#[test]
fn of_many_that_add_keys_none_loses_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.key");
    let first = held(&FileProvider::create(path.clone(), &Entropy::fixed(0)).ok().unwrap());
    let add = |seed| FileProvider::new(path.clone()).add(&Entropy::fixed(seed)).unwrap();
    let added: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..9).map(|seed| scope.spawn(move || add(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let held = held(&FileProvider::new(path.clone()));
    assert_eq!((held.len(), held[0]), (9, first[0]));
    assert!(added.iter().all(|id| held.contains(id)));
}

#[test]
fn another_key_seals_only_if_it_is_held() {
    let keyring = || Keyring::new(key(1), vec![key(2)]);
    let seals = keyring().sealing_with(key(2).id()).ok().unwrap();
    assert_eq!(seals.ids(), [key(2).id(), key(1).id()]);
    assert!(matches!(keyring().sealing_with(key(3).id()), Err(VaultError::UnknownKey { .. })));
    let joined = Keyring::new(key(3), Vec::new()).with(&keyring());
    assert_eq!(joined.ids(), [key(3).id(), key(1).id(), key(2).id()]);
}
