//! Personal fields of audit records, each person's under a key of her own.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcphub_domain::audit::PersonalFields;
use mcphub_domain::{Entropy, User, UserId};
use mcphub_store::Store;
use mcphub_vault::{Context, PersonKey, Sealed, Vault};

use crate::error::HubError;
use crate::recent::Recent;

/// How many people's keys are kept open, and how many encrypted texts.
const KEPT: usize = 4_096;
/// How long a key is kept open. While the database is away, records of people whose key isn't open go without what names them.
const OPEN: Duration = Duration::from_secs(24 * 3600);

/// Encrypts and decrypts what names a person.
pub(crate) struct Personal {
    store: Arc<Store>,
    entropy: Entropy,
    keys: Recent<UserId, Arc<PersonKey>>,
    /// What was encrypted a moment ago, for the next record that says the same.
    lately: Recent<(UserId, PersonalFields), String>,
}

/// How long an encrypted text is used again. It tells who reads the log without the key only that two
/// records of the same person within this time say the same of her.
const LATELY: Duration = Duration::from_secs(10);

impl Personal {
    pub(crate) fn new(store: Arc<Store>, entropy: Entropy) -> Self {
        Self { store, entropy, keys: keys(), lately: lately() }
    }

    /// Encrypts the fields of a person for a record.
    pub(crate) async fn seal(
        &self,
        vault: &Vault,
        person: UserId,
        fields: PersonalFields,
    ) -> Result<BTreeMap<UserId, String>, HubError> {
        if fields == PersonalFields::default() {
            return Ok(BTreeMap::new());
        }
        let known = (person, fields);
        if let Some(sealed) = self.lately.get(&known) {
            return Ok(BTreeMap::from([(person, sealed)]));
        }
        let key = Box::pin(self.key(vault, person)).await?;
        let text = serde_json::to_vec(&known.1).map_err(|error| HubError::Internal(error.to_string()))?;
        let sealed = URL_SAFE_NO_PAD.encode(key.seal(person.as_bytes(), &text, &self.entropy)?);
        self.lately.put(known, sealed.clone());
        Ok(BTreeMap::from([(person, sealed)]))
    }

    /// Lets go of what nobody has needed for a while.
    pub(crate) fn forget_unused(&self) {
        self.keys.forget_unused();
        self.lately.forget_unused();
    }

    /// Reads fields of records; what it opens for one record it has for the next.
    pub(crate) fn reader<'a>(&'a self, vault: &'a Vault) -> Reader<'a> {
        Reader { store: &self.store, vault, keys: HashMap::new() }
    }

    async fn key(&self, vault: &Vault, person: UserId) -> Result<Arc<PersonKey>, HubError> {
        if let Some(key) = self.keys.get(&person) {
            return Ok(key);
        }
        let fresh = vault.seal(
            &context(&person.to_string()),
            PersonKey::random(&self.entropy).expose(),
            &self.entropy,
        )?;
        let stored = self.store.person_key(person, fresh.as_bytes()).await?;
        let key = Arc::new(unwrap(vault, person, stored)?);
        self.keys.put(person, Arc::clone(&key));
        Ok(key)
    }
}

fn keys() -> Recent<UserId, Arc<PersonKey>> {
    Recent::new(KEPT, OPEN)
}

fn lately() -> Recent<(UserId, PersonalFields), String> {
    Recent::new(KEPT, LATELY)
}

/// Decrypts what names people.
pub(crate) struct Reader<'a> {
    store: &'a Store,
    vault: &'a Vault,
    keys: HashMap<UserId, Found>,
}

/// Is what was found of a person's key.
enum Found {
    Key(PersonKey),
    /// It was destroyed: she is erased.
    Destroyed,
    /// It is there and can't be opened.
    Damaged,
}

/// Says that a field, or its key, is not what was written.
pub(crate) struct Unreadable;

impl Reader<'_> {
    /// Decrypts the fields of a person. A key that was destroyed leaves nothing to read.
    pub(crate) async fn open(
        &mut self,
        person: UserId,
        text: &str,
    ) -> Result<Result<PersonalFields, Unreadable>, HubError> {
        let found = match self.keys.entry(person) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let sealed = self.store.find_person_key(person).await?;
                place.insert(Found::of(self.vault, person, sealed))
            }
        };
        Ok(match found {
            Found::Key(key) => read(key, person, text).ok_or(Unreadable),
            Found::Destroyed => Ok(PersonalFields::default()),
            Found::Damaged => Err(Unreadable),
        })
    }
}

impl Found {
    fn of(vault: &Vault, person: UserId, sealed: Option<Vec<u8>>) -> Self {
        let Some(sealed) = sealed else { return Self::Destroyed };
        unwrap(vault, person, sealed).map_or(Self::Damaged, Self::Key)
    }
}

fn read(key: &PersonKey, person: UserId, text: &str) -> Option<PersonalFields> {
    let field = URL_SAFE_NO_PAD.decode(text).ok()?;
    let plain = key.open(person.as_bytes(), &field).ok()?;
    serde_json::from_slice(plain.expose()).ok()
}

/// Lists what names a person, for the record that adds her.
pub(crate) fn fields_of(user: &User) -> PersonalFields {
    PersonalFields { address: None, name: Some(user.name.to_string()), email: user.email.clone() }
}

fn unwrap(vault: &Vault, person: UserId, sealed: Vec<u8>) -> Result<PersonKey, HubError> {
    let opened = vault.open(&context(&person.to_string()), &Sealed::from_bytes(sealed)?)?;
    Ok(PersonKey::from_secret(&opened)?)
}

const fn context(person: &str) -> Context<'_> {
    Context {
        table: "person_keys",
        column: "sealed",
        row: person,
        owner: person,
        name: "log",
        version: 1,
        destination: None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Entropy, KEPT, PersonKey, PersonalFields, UserId, keys, lately};
    use crate::recent::tests::assert_kept;

    #[test]
    fn so_many_keys_and_encrypted_texts_are_in_memory() {
        let key = Arc::new(PersonKey::random(&Entropy::fixed(1)));
        let person = |number: usize| UserId::from_bytes((number as u128).to_be_bytes());
        assert_kept(&keys(), KEPT, |number| (person(number), Arc::clone(&key)));
        assert_kept(&lately(), KEPT, |number| ((person(number), PersonalFields::default()), String::new()));
    }
}
