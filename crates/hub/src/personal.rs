//! Personal fields of audit records, each person's under a key of her own.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lru::LruCache;
use mcphub_domain::audit::PersonalFields;
use mcphub_domain::{Entropy, User, UserId};
use mcphub_store::Store;
use mcphub_vault::{Context, PersonKey, Sealed, Vault};
use parking_lot::Mutex;

use crate::error::HubError;

/// How many people's keys are kept open.
const KEPT: usize = 4_096;

/// Encrypts and decrypts what names a person.
pub(crate) struct Personal {
    store: Arc<Store>,
    entropy: Entropy,
    keys: Mutex<LruCache<UserId, Arc<PersonKey>>>,
}

impl Personal {
    pub(crate) fn new(store: Arc<Store>, entropy: Entropy) -> Self {
        let kept = NonZeroUsize::new(KEPT).unwrap_or(NonZeroUsize::MIN);
        Self { store, entropy, keys: Mutex::new(LruCache::new(kept)) }
    }

    /// Encrypts the fields of a person for a record.
    pub(crate) async fn seal(
        &self,
        vault: &Vault,
        person: UserId,
        fields: &PersonalFields,
    ) -> Result<BTreeMap<UserId, String>, HubError> {
        if *fields == PersonalFields::default() {
            return Ok(BTreeMap::new());
        }
        let key = self.key(vault, person).await?;
        let text = serde_json::to_vec(fields).map_err(|error| HubError::Internal(error.to_string()))?;
        let sealed = key.seal(person.as_bytes(), &text, &self.entropy)?;
        Ok(BTreeMap::from([(person, URL_SAFE_NO_PAD.encode(sealed))]))
    }

    /// Decrypts the fields of a person. A key that was destroyed leaves nothing to read.
    pub(crate) async fn open(
        &self,
        vault: &Vault,
        person: UserId,
        text: &str,
    ) -> Result<PersonalFields, HubError> {
        let Some(sealed) = self.store.find_person_key(person).await? else {
            return Ok(PersonalFields::default());
        };
        let key = unwrap(vault, person, sealed)?;
        let damaged = || HubError::Internal(format!("the log's personal field of {person} is damaged"));
        let field = URL_SAFE_NO_PAD.decode(text).map_err(|_| damaged())?;
        let plain = key.open(person.as_bytes(), &field)?;
        serde_json::from_slice(plain.expose()).map_err(|_| damaged())
    }

    async fn key(&self, vault: &Vault, person: UserId) -> Result<Arc<PersonKey>, HubError> {
        if let Some(key) = self.keys.lock().get(&person) {
            return Ok(Arc::clone(key));
        }
        let fresh = vault.seal(
            &context(&person.to_string()),
            PersonKey::random(&self.entropy).expose(),
            &self.entropy,
        )?;
        let stored = self.store.person_key(person, fresh.as_bytes()).await?;
        let key = Arc::new(unwrap(vault, person, stored)?);
        self.keys.lock().put(person, Arc::clone(&key));
        Ok(key)
    }
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
