//! What the database keeps of hub keys.

use mcphub_domain::id::KeyId;
use mcphub_domain::random::Entropy;
use mcphub_domain::secret::SecretBytes;
use mcphub_vault::{Pepper, VaultError};

#[test]
fn only_the_same_secret_of_the_same_key_under_the_same_pepper_fits() {
    let [one, two] = [1, 2].map(|seed| Pepper::random(&Entropy::fixed(seed)));
    let [mine, other] = [1, 2].map(|seed| KeyId::random(&Entropy::fixed(seed)));
    let stored = one.mac(&mine, b"secret");
    assert!(one.verify(&mine, b"secret", &stored));
    assert!(!one.verify(&mine, b"secre", &stored));
    assert!(!one.verify(&mine, b"", &stored));
    assert!(!one.verify(&other, b"secret", &stored));
    assert!(!two.verify(&mine, b"secret", &stored));
}

#[test]
fn every_bit_of_the_code_counts() {
    let pepper = Pepper::random(&Entropy::fixed(1));
    let id = KeyId::random(&Entropy::fixed(1));
    let stored = pepper.mac(&id, b"secret");
    for at in 0..256 {
        let mut changed = stored;
        *changed.get_mut(at / 8).unwrap() ^= 1 << (at % 8);
        assert!(!pepper.verify(&id, b"secret", &changed), "bit {at}");
    }
}

#[test]
fn a_pepper_survives_being_stored() {
    let pepper = Pepper::random(&Entropy::fixed(1));
    let id = KeyId::random(&Entropy::fixed(1));
    let again = Pepper::from_secret(&SecretBytes::new(pepper.expose().to_vec())).ok().unwrap();
    assert_eq!(again.mac(&id, b"secret"), pepper.mac(&id, b"secret"));
    let short = Pepper::from_secret(&SecretBytes::new(vec![7; 31]));
    assert!(matches!(short, Err(VaultError::KeyLength { found: 31 })));
}
