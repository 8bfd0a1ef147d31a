//! No secret type can be shown or copied by accident.

use std::fmt::{Debug, Display};
use std::marker::PhantomData;

use mcphub_vault::provider::{EnvProvider, Provider};
use mcphub_vault::{Keyring, Pepper, PersonKey, Vault, WrapKey, WrapKeyId};

/// Asks whether `T` has a trait: where it has, the inherent constant hides the one of `No`.
struct Has<T>(PhantomData<T>);

trait No {
    const DEBUG: bool = false;
    const DISPLAY: bool = false;
    const CLONE: bool = false;
}

impl<T> No for Has<T> {}

impl<T: Debug> Has<T> {
    const DEBUG: bool = true;
}

impl<T: Display> Has<T> {
    const DISPLAY: bool = true;
}

impl<T: Clone> Has<T> {
    const CLONE: bool = true;
}

macro_rules! traits {
    ($type:ty) => {
        [<Has<$type>>::DEBUG, <Has<$type>>::DISPLAY, <Has<$type>>::CLONE]
    };
}

#[test]
fn secrets_have_neither_debug_nor_display_nor_clone() {
    assert_eq!(traits!(WrapKeyId), [true; 3], "the question itself is wrong");
    let none = [false; 3];
    assert_eq!(traits!(WrapKey), none);
    assert_eq!(traits!(Keyring), none);
    assert_eq!(traits!(Vault), none);
    assert_eq!(traits!(PersonKey), none);
    assert_eq!(traits!(Pepper), none);
    assert_eq!(traits!(EnvProvider), none);
    assert_eq!(traits!(Provider), none);
}
