//! Which key seals, what lies under which, and that nothing ever lies under a key that is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use mcphub_domain::{User, WrapKeyId};
use mcphub_store::credentials::SealedValue;
use mcphub_store::testing::TestDatabase;
use mcphub_store::vault_keys::{KeyState, SealedTable, Use};
use mcphub_store::{Process, Store, StoreError};

use crate::build::{note, sealed, server, user, write};

fn key(number: u8) -> WrapKeyId {
    WrapKeyId::from_bytes([number; 16])
}

/// Builds the bytes of something sealed under a key; `mark` tells it from others.
fn record(number: u8, mark: u8) -> Vec<u8> {
    [vec![1, 1], vec![number; 16], vec![mark; 120]].concat()
}

/// Opens a store whose key 1 seals, with alice and her credential under it.
async fn start(database: &TestDatabase) -> (Store, User, SealedValue) {
    let store = database.open(Process::Serve).await;
    assert_eq!(store.sealing_key(key(1)).await.unwrap(), key(1));
    let (alice, github) = (user("alice"), server("github"));
    let token = SealedValue { sealed: record(1, 7), ..sealed("TOKEN", Some(&alice), &github) };
    write(&store, async |tx| {
        tx.add_user(&alice).await?;
        tx.add_server(&github).await
    })
    .await
    .unwrap();
    put(&store, &token).await.unwrap();
    (store, alice, token)
}

async fn put(store: &Store, value: &SealedValue) -> Result<i64, StoreError> {
    write(store, async |tx| {
        tx.act_for(value.owner.unwrap()).await?;
        tx.put_credential(value.owner.unwrap(), value).await
    })
    .await
}

/// Makes another key seal.
async fn rotate(store: &Store, to: WrapKeyId) {
    write(store, async |tx| tx.add_vault_key(to).await).await.unwrap();
    write(store, async |tx| tx.use_vault_key(to).await).await.unwrap();
}

async fn states(store: &Store) -> Vec<(WrapKeyId, KeyState)> {
    let mut states: Vec<_> =
        store.vault_keys().await.unwrap().into_iter().map(|key| (key.id, key.state)).collect();
    states.sort_by_key(|(id, _)| *id);
    states
}

both! {
    async fn one_key_seals_and_another_follows(database: TestDatabase) {
        let (store, ..) = start(&database).await;
        assert_eq!(store.sealing_key(key(2)).await.unwrap(), key(1), "the first stays");
        write(&store, async |tx| tx.add_vault_key(key(2)).await).await.unwrap();
        assert_eq!(store.sealing_key(key(2)).await.unwrap(), key(1), "the next one doesn't seal yet");
        let second = write(&store, async |tx| tx.add_vault_key(key(3)).await).await;
        assert!(matches!(second, Err(StoreError::Stale { .. })), "one rotation at a time: {second:?}");
        write(&store, async |tx| tx.use_vault_key(key(2)).await).await.unwrap();
        assert_eq!(states(&store).await, [(key(1), KeyState::Old), (key(2), KeyState::Current)]);
        let again = write(&store, async |tx| tx.use_vault_key(key(1)).await).await;
        assert!(matches!(again, Err(StoreError::Stale { .. })), "none goes back: {again:?}");
        assert_eq!(store.sealing_key(key(9)).await.unwrap(), key(2));
    }

    async fn nothing_is_sealed_under_a_key_that_is_gone(database: TestDatabase) {
        let (store, _, token) = start(&database).await;
        let stranger = SealedValue { sealed: record(9, 7), revision: 2, ..token.clone() };
        assert!(put(&store, &stranger).await.is_err(), "a key that nobody added");
        rotate(&store, key(2)).await;
        let retired = write(&store, async |tx| tx.retire_vault_key(key(1)).await).await;
        assert!(matches!(retired, Err(StoreError::Stale { .. })), "something is under it: {retired:?}");
        let moved = SealedValue { sealed: record(2, 7), revision: 2, ..token.clone() };
        put(&store, &moved).await.unwrap();
        let current = write(&store, async |tx| tx.retire_vault_key(key(2)).await).await;
        assert!(matches!(current, Err(StoreError::Stale { .. })), "it seals: {current:?}");
        write(&store, async |tx| tx.retire_vault_key(key(1)).await).await.unwrap();
        let late = SealedValue { sealed: record(1, 8), revision: 3, ..token };
        assert!(put(&store, &late).await.is_err(), "whoever still seals with the old key is refused");
        let again = write(&store, async |tx| tx.add_vault_key(key(1)).await).await;
        assert!(matches!(again, Err(StoreError::Stale { .. })), "it never comes back: {again:?}");
        assert_eq!(store.retired_keys().await.unwrap(), [key(1)]);
    }

    async fn a_rewrap_takes_nothing_from_whoever_was_faster(database: TestDatabase) {
        let (store, alice, token) = start(&database).await;
        store.person_key(alice.id, &record(1, 5)).await.unwrap();
        store.vault_secret("pepper", &record(1, 6)).await.unwrap();
        rotate(&store, key(2)).await;
        let world = store.load().await.unwrap().world.unwrap();
        let mut rows = Vec::new();
        for table in SealedTable::ALL {
            rows.extend(store.sealed_under_others(table, key(2), "", 10).await.unwrap());
        }
        assert_eq!(rows.len(), 3, "a pepper, a person's key, a credential");
        let newer = SealedValue { sealed: record(1, 9), revision: 2, ..token };
        put(&store, &newer).await.unwrap();
        for row in &rows {
            let mut done = false;
            write(&store, async |tx| {
                done = tx.rewrap(row, &record(2, 1)).await?;
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(done, row.table != SealedTable::Credentials, "{row:?}");
        }
        assert_eq!(store.credentials(alice.id, newer.server).await.unwrap(), std::slice::from_ref(&newer));
        assert_eq!(store.find_person_key(alice.id).await.unwrap(), Some(record(2, 1)));
        let counts = store.count_sealed().await.unwrap();
        assert_eq!(counts, [(Some(key(1)), 1), (Some(key(2)), 2)].into());
        let row = &store.sealed_under_others(SealedTable::Credentials, key(2), "", 10).await.unwrap()[0];
        write(&store, async |tx| tx.rewrap(row, &record(2, 9)).await.map(|_| ())).await.unwrap();
        let after = SealedValue { sealed: record(2, 9), ..newer };
        assert_eq!(store.credentials(alice.id, after.server).await.unwrap(), [after], "its revision stays");
        assert!(store.refresh(&world).await.unwrap().credentials.len() <= 1, "only the change is a change");
    }

    async fn a_process_says_which_keys_it_holds(database: TestDatabase) {
        let (store, ..) = start(&database).await;
        let other = database.open(Process::Command).await;
        assert_eq!(other.processes_without(key(1), Use::Opens).await.unwrap().len(), 1);
        assert!(!other.note_held_keys(&[key(1)]).await.unwrap(), "nobody knows of it yet");
        other.audit().durable(note("here")).await.unwrap();
        assert!(other.note_held_keys(&[key(1)]).await.unwrap());
        assert_eq!(other.processes_without(key(1), Use::Opens).await.unwrap().len(), 1, "commands don't count");
        assert!(store.note_held_keys(&[key(2), key(1)]).await.unwrap());
        assert_eq!(other.processes_without(key(1), Use::Opens).await.unwrap(), BTreeMap::new());
        assert_eq!(other.processes_without(key(2), Use::Seals).await.unwrap(), BTreeMap::new());
        assert_eq!(other.processes_without(key(1), Use::Seals).await.unwrap().len(), 1, "it only opens");
        let told = other.processes_without(key(3), Use::Opens).await.unwrap();
        database.clock().advance(Duration::from_hours(1));
        assert_eq!(other.processes_without(key(3), Use::Opens).await.unwrap(), told, "whatever the clock says");
        store.beat().await.unwrap();
        let later = other.processes_without(key(3), Use::Opens).await.unwrap();
        assert!(later.keys().eq(told.keys()) && later != told, "it lives");
    }
}
