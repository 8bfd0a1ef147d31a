//! What belongs to one person: credentials, keys, sessions; nobody else reaches it, on either database.

use mcphub_domain::{HubKey, Timestamp, User};
use mcphub_store::credentials::SealedValue;
use mcphub_store::sessions::Session;
use mcphub_store::testing::TestDatabase;
use mcphub_store::{Process, Store, StoreError};

use crate::build::{NOW, key, sealed, server, user, write};

/// Opens a store with alice, bob, and a server.
async fn start(database: &TestDatabase) -> (Store, User, User) {
    let store = database.open(Process::Serve).await;
    let (alice, bob) = (user("alice"), user("bob"));
    write(&store, async |tx| {
        tx.add_user(&alice).await?;
        tx.add_user(&bob).await?;
        tx.add_server(&server("github")).await
    })
    .await
    .unwrap();
    (store, alice, bob)
}

fn session(owner: &User, key: &HubKey) -> Session {
    Session {
        id_hash: [3; 32],
        owner: owner.id,
        key: key.id,
        endpoint: "/mcp/github".to_owned(),
        version: "2025-06-18".to_owned(),
        capabilities: "{}".to_owned(),
        log_level: None,
        created_at: Timestamp::from_micros(4),
        seen_at: Timestamp::from_micros(5),
        ended_at: None,
    }
}

both! {
    async fn a_renewal_is_one_process_s_until_it_is_done_given_back_or_too_old(database: TestDatabase) {
        let (store, alice, bob) = start(&database).await;
        let token = sealed("TOKEN", Some(&alice), &server("github"));
        write(&store, async |tx| {
            tx.act_for(alice.id).await?;
            tx.put_credential(alice.id, &token).await
        })
        .await
        .unwrap();
        let at = |seconds| NOW.plus(std::time::Duration::from_secs(seconds));
        let claim = async |owner: &User, value: &SealedValue, until| {
            store.claim_renewal(owner.id, value, at(until)).await.unwrap()
        };
        assert!(!claim(&bob, &token, 60).await, "it is not his");
        assert!(claim(&alice, &token, 60).await);
        assert!(!claim(&alice, &token, 90).await, "somebody has it");
        store.release_renewal(alice.id, &token, at(50)).await.unwrap();
        assert!(!claim(&alice, &token, 90).await, "who gave it back had another");
        store.release_renewal(alice.id, &token, at(60)).await.unwrap();
        assert!(claim(&alice, &token, 0).await);
        assert!(claim(&alice, &token, 90).await, "what is too old holds nobody up");
        let before = store.load().await.unwrap().world.unwrap();
        let newer = SealedValue { sealed: vec![9], revision: 2, ..token.clone() };
        write(&store, async |tx| {
            tx.act_for(alice.id).await?;
            tx.renew_credential(alice.id, &newer).await
        })
        .await
        .unwrap();
        let delta = store.refresh(&before).await.unwrap();
        assert_eq!((delta.renewed, delta.credentials), (vec![(alice.id, newer.server)], vec![]));
        assert!(!claim(&alice, &token, 90).await, "that one is gone");
        assert!(claim(&alice, &newer, 90).await, "a new one is nobody's");
    }

    async fn a_credential_comes_back_to_its_owner_alone(database: TestDatabase) {
        let (store, alice, bob) = start(&database).await;
        let github = server("github");
        let token = sealed("TOKEN", Some(&alice), &github);
        let before = store.load().await.unwrap().world.unwrap();
        write(&store, async |tx| {
            tx.act_for(alice.id).await?;
            tx.put_credential(alice.id, &token).await
        })
        .await
        .unwrap();
        assert_eq!(store.credentials(alice.id, github.id).await.unwrap(), std::slice::from_ref(&token));
        assert!(store.credentials(bob.id, github.id).await.unwrap().is_empty());
        assert_eq!(store.refresh(&before).await.unwrap().credentials, [(alice.id, github.id)]);
        let newer = SealedValue { sealed: vec![9], revision: 2, updated_at: NOW, ..token };
        write(&store, async |tx| {
            tx.act_for(alice.id).await?;
            tx.put_credential(alice.id, &newer).await
        })
        .await
        .unwrap();
        assert_eq!(store.credentials(alice.id, github.id).await.unwrap(), std::slice::from_ref(&newer));
        write(&store, async |tx| {
            tx.act_for(alice.id).await?;
            tx.remove_credential(alice.id, &newer).await
        })
        .await
        .unwrap();
        assert!(store.credentials(alice.id, github.id).await.unwrap().is_empty());
    }

    async fn a_value_that_is_gone_is_not_replaced_but_stale(database: TestDatabase) {
        let (store, alice, _) = start(&database).await;
        let github = server("github");
        let (token, site) = (sealed("TOKEN", Some(&alice), &github), sealed("SITE", None, &github));
        let put = async |token: SealedValue, site: SealedValue| {
            let personal = write(&store, async |tx| {
                tx.act_for(alice.id).await?;
                tx.put_credential(alice.id, &token).await
            });
            let personal = personal.await;
            (personal, write(&store, async |tx| tx.put_shared_value(&site).await).await)
        };
        let stale = |results: &(Result<i64, StoreError>, Result<i64, StoreError>)| {
            [&results.0, &results.1].map(|result| matches!(result, Err(StoreError::Stale { .. })))
        };
        let later = |value: &SealedValue| SealedValue { revision: 2, sealed: vec![9], ..value.clone() };
        assert_eq!(stale(&put(later(&token), later(&site)).await), [true; 2], "there is nothing to replace");
        assert_eq!(stale(&put(token.clone(), site.clone()).await), [false; 2]);
        assert_eq!(stale(&put(token.clone(), site.clone()).await), [true; 2], "somebody was faster");
        assert_eq!(stale(&put(later(&token), later(&site)).await), [false; 2]);
        assert_eq!(stale(&put(later(&token), later(&site)).await), [true; 2], "it has that revision already");
        assert_eq!(store.credentials(alice.id, github.id).await.unwrap(), [later(&token)]);
        assert_eq!(store.shared_values(github.id).await.unwrap(), [later(&site)]);
    }

    async fn nobody_changes_or_removes_what_is_anothers(database: TestDatabase) {
        let (store, alice, bob) = start(&database).await;
        let (github, laptop) = (server("github"), key("laptop", &alice));
        let token = sealed("TOKEN", Some(&alice), &github);
        write(&store, async |tx| {
            tx.act_for(alice.id).await?;
            tx.add_key(&laptop).await?;
            tx.put_credential(alice.id, &token).await
        })
        .await
        .unwrap();
        store.add_session(&session(&alice, &laptop)).await.unwrap();
        let removed = write(&store, async |tx| {
            tx.act_for(bob.id).await?;
            tx.remove_credential(bob.id, &token).await
        });
        assert!(matches!(removed.await, Err(StoreError::Stale { .. })));
        let revoked = HubKey { owner: bob.id, revoked_at: Some(NOW), revision: 2, ..laptop.clone() };
        let changed = write(&store, async |tx| {
            tx.act_for(bob.id).await?;
            tx.put_key(&revoked).await
        });
        assert!(matches!(changed.await, Err(StoreError::Stale { .. })));
        store.end_session(bob.id, &[3; 32]).await.unwrap();
        let kept = store.session(alice.id, &[3; 32]).await.unwrap().unwrap();
        assert_eq!(kept.ended_at, None, "somebody else ended the session");
        assert_eq!(store.credentials(alice.id, github.id).await.unwrap(), [token]);
        assert_eq!(store.load().await.unwrap().world.unwrap().key(laptop.id), Some(&laptop));
    }

    async fn a_shared_value_comes_back(database: TestDatabase) {
        let (store, _, _) = start(&database).await;
        let github = server("github");
        let site = sealed("SITE", None, &github);
        let before = store.load().await.unwrap().world.unwrap();
        write(&store, async |tx| tx.put_shared_value(&site).await).await.unwrap();
        assert_eq!(store.refresh(&before).await.unwrap().shared_values, [github.id]);
        let newer = SealedValue { sealed: vec![8], revision: 2, ..site };
        write(&store, async |tx| tx.put_shared_value(&newer).await).await.unwrap();
        assert_eq!(store.shared_values(github.id).await.unwrap(), [newer]);
    }

    async fn a_session_comes_back_until_it_ends(database: TestDatabase) {
        let (store, alice, bob) = start(&database).await;
        let laptop = key("laptop", &alice);
        write(&store, async |tx| {
            tx.act_for(alice.id).await?;
            tx.add_key(&laptop).await
        })
        .await
        .unwrap();
        let opened = session(&alice, &laptop);
        store.add_session(&opened).await.unwrap();
        assert_eq!(store.session(alice.id, &[3; 32]).await.unwrap(), Some(opened.clone()));
        assert_eq!(store.session(bob.id, &[3; 32]).await.unwrap(), None);
        assert_eq!(store.session(alice.id, &[4; 32]).await.unwrap(), None);
        store.end_session(alice.id, &[3; 32]).await.unwrap();
        let ended = Session { ended_at: Some(database.clock().now()), ..opened };
        assert_eq!(store.session(alice.id, &[3; 32]).await.unwrap(), Some(ended));
    }

    async fn sessions_beyond_those_used_last_are_surplus(database: TestDatabase) {
        let (store, alice, bob) = start(&database).await;
        let keys = [key("laptop", &alice), key("phone", &bob)];
        for (owner, key) in [&alice, &bob].into_iter().zip(&keys) {
            write(&store, async |tx| {
                tx.act_for(owner.id).await?;
                tx.add_key(key).await
            })
            .await
            .unwrap();
        }
        let used = |id: u8, seen: i64, owner: &User, key: &HubKey| Session {
            id_hash: [id; 32],
            seen_at: Timestamp::from_micros(seen),
            ..session(owner, key)
        };
        for (id, seen) in [(1, 30), (2, 10), (3, 20), (4, 40), (5, 5)] {
            store.add_session(&used(id, seen, &alice, &keys[0])).await.unwrap();
        }
        store.add_session(&used(9, 1, &bob, &keys[1])).await.unwrap();
        store.end_session(alice.id, &[5; 32]).await.unwrap();
        let surplus = async |keep| -> Vec<u8> {
            let found = store.surplus_sessions(alice.id, keep).await.unwrap();
            found.iter().map(|session| session.id_hash[0]).collect()
        };
        assert!(surplus(4).await.is_empty());
        assert_eq!(surplus(3).await, [2]);
        assert_eq!(surplus(1).await, [2, 3, 1], "the one that was used longest ago comes first");
    }

    async fn a_persons_log_key_is_made_once(database: TestDatabase) {
        let (store, alice, bob) = start(&database).await;
        assert_eq!(store.find_person_key(alice.id).await.unwrap(), None);
        assert_eq!(store.person_key(alice.id, b"first").await.unwrap(), b"first");
        assert_eq!(store.person_key(alice.id, b"second").await.unwrap(), b"first");
        assert_eq!(store.find_person_key(bob.id).await.unwrap(), None);
    }
}
