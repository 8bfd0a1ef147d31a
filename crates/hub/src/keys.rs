//! Hub keys: make, list, revoke.

use std::time::Duration;

use mcphub_domain::{Event, HubKey, KeyId, KeyName, KeyText, Principal, UserId};
use mcphub_policy::{Administration, decide};
use zeroize::Zeroizing;

use crate::caller::Caller;
use crate::error::{HubError, check_revision};
use crate::hub::Hub;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a key lives unless said otherwise.
pub const USUAL_LIFE: Duration = Duration::from_secs(30 * DAY.as_secs());
/// How long a key lives at most.
pub const LONGEST_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());
/// How many keys that live a person may have at the same time.
pub const KEYS_PER_PERSON: usize = 100;

/// Describes a key to make.
#[derive(Debug)]
pub struct NewKey {
    /// Whose it is.
    pub owner: UserId,
    /// What she calls it.
    pub name: KeyName,
    /// How long it lives.
    pub life: Duration,
}

/// Is a new key with its text, which is shown this once.
pub struct ShownKey {
    /// The key as it is stored.
    pub key: HubKey,
    /// Its text.
    pub text: Zeroizing<String>,
}

impl Hub {
    /// Makes a hub key. Only its owner can, or an operator: whoever holds it acts as her.
    pub async fn create_key(&self, caller: &Caller, new: NewKey) -> Result<ShownKey, HubError> {
        let permit = self.administrate(caller, Administration::CreateKey(new.owner), "keys.create").await?;
        if new.life.is_zero() || new.life > LONGEST_LIFE {
            return Err(HubError::Invalid("a key lives between 1 second and 90 days".to_owned()));
        }
        let unsealed = self.seal.open()?;
        let world = self.snapshot.fresh()?;
        world.user(new.owner).ok_or_else(|| HubError::NotFound { what: format!("user {}", new.owner) })?;
        let (shown, now) = (KeyText::random(&self.entropy), self.clock.now());
        let living = world.keys_of(new.owner).filter(|key| key.revoked_at.is_none() && key.expires_at > now);
        if living.count() >= KEYS_PER_PERSON {
            let text = format!("nobody has more than {KEYS_PER_PERSON} keys that live: revoke one first");
            return Err(HubError::Invalid(text));
        }
        let key = HubKey {
            id: shown.id(),
            owner: new.owner,
            name: new.name,
            mac: unsealed.pepper.mac(&shown.id(), shown.secret()),
            created_at: now,
            expires_at: now.plus(new.life),
            revoked_at: None,
            exposed_at: None,
            revision: 1,
        };
        let mut tx = self.write_for(key.owner).await?;
        tx.add_key(&key).await?;
        let event = Event::KeyCreated { key: key.id, owner: key.owner, expires_at: key.expires_at };
        self.commit(tx, permit, event).await?;
        Ok(ShownKey { key, text: shown.reveal() })
    }

    /// Revokes a key; whatever is open with it ends within a second, everywhere.
    pub async fn revoke_key(&self, caller: &Caller, id: KeyId, revision: i64) -> Result<(), HubError> {
        let world = self.snapshot.fresh()?;
        let key = world.key(id).cloned();
        let action =
            key.as_ref().map_or(Administration::ManageUsers, |key| Administration::RevokeKey(key.owner));
        let permit = self.administrate(caller, action, "keys.revoke").await?;
        let key = key.ok_or_else(|| HubError::NotFound { what: format!("key {id}") })?;
        check_revision(format_args!("key {id}"), key.revision, revision)?;
        if key.revoked_at.is_some() {
            return Ok(());
        }
        let owner = key.owner;
        let revoked = HubKey { revoked_at: Some(self.clock.now()), revision: key.revision + 1, ..key };
        let mut tx = self.write_for(owner).await?;
        tx.put_key(&revoked).await?;
        self.commit(tx, permit, Event::KeyRevoked { key: id, owner }).await
    }

    /// Lists a person's keys, the newest first.
    pub async fn list_keys(&self, caller: &Caller, owner: UserId) -> Result<Vec<HubKey>, HubError> {
        self.administrate(caller, Administration::RevokeKey(owner), "keys.list").await?;
        let mut keys: Vec<HubKey> = self.snapshot.fresh()?.keys_of(owner).cloned().collect();
        keys.sort_by_key(|key| std::cmp::Reverse((key.created_at, key.id)));
        self.record_read(caller, "keys.list", Some(&owner.to_string()), keys.len()).await;
        Ok(keys)
    }

    /// Notes that a key stood where others can read it, such as a URL.
    pub(crate) async fn mark_exposed(&self, principal: Principal) -> Result<(), HubError> {
        let Principal::Person { user, key } = principal else { return Ok(()) };
        let world = self.snapshot.fresh()?;
        let Some(key) = world.key(key).filter(|key| key.exposed_at.is_none()).cloned() else { return Ok(()) };
        let (id, now) = (key.id, self.clock.now());
        let caller = Caller::new(principal, None, mcphub_domain::RequestId::random(&self.entropy));
        let permit = decide::administration(&world, principal, Administration::RevokeKey(user), now)?;
        let permit = self.granted(permit, &caller).await?;
        let exposed = HubKey { exposed_at: Some(now), revision: key.revision + 1, ..key };
        let mut tx = self.write_for(user).await?;
        tx.put_key(&exposed).await?;
        self.commit(tx, permit, Event::KeyExposed { key: id, owner: user }).await
    }
}
