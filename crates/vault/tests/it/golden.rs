//! Records made by another program, from the format's description alone: what was sealed once must
//! open for ever.

use mcphub_domain::id::{InstallId, KeyId};
use mcphub_domain::secret::{Destination, SecretBytes, SecretText};
use mcphub_vault::provider::EnvProvider;
use mcphub_vault::{Pepper, PersonKey, Sealed, Vault};

use super::place;

#[test]
fn a_record_of_format_1_opens() {
    let key = SecretText::new(hex(&ordinals(0)));
    let vault = Vault::new(InstallId::from_bytes(id()), EnvProvider::new(key).load().ok().unwrap());
    let sealed = Sealed::from_bytes(unhex(concat!(
        "01016a1c108d2990bc3cfe65f1479bbaf4583d4b00133bf4d915145d61247374993fa54c66cd458009e83ba098f9f1",
        "76a79b000102030405060708090a0b4fccb8c68a88089f0f71bf8c0c75ca63ae12cf3770278d85fde316c0e20a1590",
        "98725194e1d42a017f91313be4225c6832333435363738393a3b3c3dce43073809484c1670553bfddc1e77cfc45bdb",
        "f8b2df96",
    )))
    .unwrap();
    let destination = Destination::from_bytes([9; 32]);
    assert_eq!(vault.open_text(&place(Some(&destination)), &sealed).ok().unwrap().expose(), "a token");
}

#[test]
fn a_personal_field_of_format_1_opens() {
    let key = PersonKey::from_secret(&SecretBytes::new(ordinals(32))).ok().unwrap();
    let field =
        unhex("0132333435363738393a3b3c3d2d985f004a874466fc38c7d8618ad401bdd76315679dde9ccdef6fe08477c0d4a4");
    assert_eq!(key.open(b"record 7", &field).ok().unwrap().expose(), b"alice@example.org");
}

#[test]
fn the_code_of_a_hub_key_stays() {
    let pepper = Pepper::from_secret(&SecretBytes::new(ordinals(64))).ok().unwrap();
    let mac = pepper.mac(&KeyId::from_bytes(id()), b"secret");
    assert_eq!(hex(&mac), "6a73cfd31bb3c7f78853c19e5f4989aa6fa335715ff49c487ce5d5a5f0ec5298");
}

fn ordinals(first: u8) -> Vec<u8> {
    (first..first + 32).collect()
}

fn id() -> [u8; 16] {
    std::array::from_fn(|at| u8::try_from(at).unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}
