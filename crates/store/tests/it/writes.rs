//! A change and its record are one: both are there, or neither is.

use mcphub_domain::{
    Event, Grant, Group, GroupId, HubKey, Membership, Server, ServerId, Tool, ToolDigest, ToolState, User,
    UserId,
};
use mcphub_store::audit::Search;
use mcphub_store::credentials::SealedValue;
use mcphub_store::{Process, Store, StoreError};

use crate::build::{bytes, entry, grant, group, key, membership, sealed, server, tool, user, write};
use crate::raw::Raw;

/// Counts the records in the log that a test's change would have written.
async fn records(store: &Store) -> usize {
    let all = Search { limit: 1_000, outcome: Some("changed".to_owned()), ..Search::default() };
    let found = store.search(&all).await.unwrap();
    found.iter().filter(|record| record.entry.event == Event::VaultUnsealed).count()
}

async fn revision(store: &Store) -> i64 {
    store.load().await.unwrap().world.unwrap().revision()
}

both! {
    async fn a_commit_writes_change_and_record(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let alice = user("alice");
        let mut tx = store.write().await.unwrap();
        tx.add_user(&alice).await.unwrap();
        let event = Event::UserAdded { user: alice.id, role: alice.role };
        assert_eq!(tx.commit(entry(event.clone())).await.unwrap(), 1);
        let found = store.search(&Search { person: Some(alice.id), limit: 9, ..Search::default() }).await.unwrap();
        assert_eq!(found.iter().map(|record| &record.entry.event).collect::<Vec<_>>(), [&event]);
        assert_eq!(store.load().await.unwrap().world.unwrap().user(alice.id), Some(&alice));
    }

    async fn a_dropped_write_leaves_nothing(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let mut tx = store.write().await.unwrap();
        tx.add_user(&user("alice")).await.unwrap();
        tx.add_group(&group("staff")).await.unwrap();
        drop(tx);
        let world = store.load().await.unwrap().world.unwrap();
        assert_eq!((world.users().count(), world.groups().count(), world.revision()), (0, 0, 0));
        assert_eq!(records(&store).await, 0);
        write(&store, async |tx| tx.add_user(&user("alice")).await).await.unwrap();
        assert_eq!(records(&store).await, 1, "the turn was given back");
    }

    async fn no_record_means_no_change(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        write(&store, async |tx| tx.add_user(&user("alice")).await).await.unwrap();
        let mut raw = Raw::open(&database).await;
        raw.block_log().await;
        let error = write(&store, async |tx| tx.add_user(&user("bob")).await).await.unwrap_err();
        assert!(matches!(error, StoreError::Database(_)), "{error}");
        assert_eq!(raw.number("SELECT COUNT(*) FROM users").await, 1);
        raw.unblock_log().await;
        assert_eq!((revision(&store).await, records(&store).await), (1, 1));
        write(&store, async |tx| tx.add_user(&user("bob")).await).await.unwrap();
        assert_eq!((revision(&store).await, records(&store).await), (2, 2));
        assert!(store.verify(Vec::new()).await.unwrap().findings.is_empty());
    }

    async fn what_nodes_find_of_a_server_at_once_is_all_there(database: TestDatabase) {
        let (one, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        let github = server("github");
        write(&one, async |tx| tx.add_server(&github).await).await.unwrap();
        let find = async |store: &Store, name: &str| {
            write(store, async |tx| {
                tx.lock_server(&github).await?;
                let mut tools = tx.tools(github.id).await?;
                tools.push(tool(&github, name));
                tx.put_tools(github.id, &tools).await
            })
            .await
        };
        for number in 0..5 {
            let (left, right) = (format!("left{number}"), format!("right{number}"));
            let found = futures_util::join!(find(&one, &left), find(&other, &right));
            assert!(found.0.is_ok() && found.1.is_ok(), "{found:?}");
        }
        assert_eq!(one.tools(github.id).await.unwrap().len(), 10, "one overwrote the other");
    }

    async fn what_is_set_of_a_tool_outlives_a_list_that_began_before(database: TestDatabase) {
        let (one, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        let (github, look) = (server("github"), tool(&server("github"), "look"));
        write(&one, async |tx| {
            tx.add_server(&github).await?;
            tx.put_tools(github.id, std::slice::from_ref(&look)).await
        })
        .await
        .unwrap();
        let approved = Tool { state: ToolState::Approved, revision: 2, ..look.tool.clone() };
        let (listing, approving) = futures_util::join!(
            write(&one, async |tx| {
                tx.lock_server(&github).await?;
                let known = tx.tools(github.id).await?;
                tx.put_tools(github.id, &known).await
            }),
            write(&other, async |tx| tx.put_tool(&approved).await),
        );
        assert!(listing.is_ok() && approving.is_ok(), "{listing:?} {approving:?}");
        assert_eq!(one.tools(github.id).await.unwrap()[0].tool.state, ToolState::Approved);
    }

    async fn a_list_of_a_server_that_changed_is_stale(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let github = server("github");
        let newer = Server { revision: 2, ..github.clone() };
        write(&store, async |tx| tx.add_server(&github).await).await.unwrap();
        assert_eq!(store.write().await.unwrap().lock_server(&github).await.unwrap(), None);
        write(&store, async |tx| tx.put_tools(github.id, &[]).await).await.unwrap();
        let listed = store.write().await.unwrap().lock_server(&github).await.unwrap();
        assert_eq!(listed, Some(database.clock().now()));
        write(&store, async |tx| tx.put_server(&newer).await).await.unwrap();
        let stale = store.write().await.unwrap().lock_server(&github).await;
        assert!(matches!(stale, Err(StoreError::Stale { .. })), "{stale:?}");
        write(&store, async |tx| tx.remove_server(&newer).await).await.unwrap();
        let gone = store.write().await.unwrap().lock_server(&newer).await;
        assert!(matches!(gone, Err(StoreError::Stale { .. })), "{gone:?}");
    }

    async fn a_stale_change_writes_nothing(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (alice, github, staff) = (user("alice"), server("github"), group("staff"));
        let (laptop, look) = (key("laptop", &alice), tool(&github, "look"));
        let (member, allow) = (membership(&staff, &alice), grant("g", &staff, &github));
        let (token, site) = (sealed("TOKEN", Some(&alice), &github), sealed("SITE", None, &github));
        write(&store, async |tx| {
            tx.add_user(&alice).await?;
            tx.add_server(&github).await?;
            tx.add_group(&staff).await?;
            tx.put_tools(github.id, std::slice::from_ref(&look)).await?;
            tx.put_shared_value(&site).await?;
            tx.put_membership(&member).await?;
            tx.add_grant(&allow).await?;
            tx.act_for(alice.id).await?;
            tx.add_key(&laptop).await?;
            tx.put_credential(alice.id, &token).await
        })
        .await
        .unwrap();
        // Each is based on revision 0 or 2; the rows have 1, the membership 2 and the group 3.
        for revision in [1, 3] {
            let mut other = Tool { revision: 2, ..look.tool.clone() };
            other.digest = ToolDigest::of(b"another definition");
            let (base, after) = (revision - 1, revision + 1);
            let results = [
                write(&store, async |tx| tx.put_user(&User { revision, email: None, ..alice.clone() }).await).await,
                write(&store, async |tx| tx.put_server(&Server { revision, ..github.clone() }).await).await,
                write(&store, async |tx| tx.put_tool(&other).await).await,
                write(&store, async |tx| tx.put_tool(&Tool { revision, ..look.tool.clone() }).await).await,
                write(&store, async |tx| {
                    tx.put_membership(&Membership { revision: base * 3, ..member.clone() }).await
                })
                .await,
                write(&store, async |tx| {
                    tx.remove_membership(&Membership { revision, ..member.clone() }).await
                })
                .await,
                write(&store, async |tx| {
                    tx.remove_grant(&Grant { revision: base, ..allow.clone() }).await
                })
                .await,
                write(&store, async |tx| {
                    tx.remove_group(&Group { revision: after, ..staff.clone() }).await
                })
                .await,
                write(&store, async |tx| {
                    tx.put_shared_value(&SealedValue { revision, ..site.clone() }).await
                })
                .await,
                write(&store, async |tx| {
                    tx.act_for(alice.id).await?;
                    tx.put_credential(alice.id, &SealedValue { revision, ..token.clone() })
                        .await
                })
                .await,
                write(&store, async |tx| {
                    tx.act_for(alice.id).await?;
                    tx.remove_credential(alice.id, &SealedValue { revision: base, ..token.clone() }).await
                })
                .await,
                write(&store, async |tx| {
                    tx.act_for(alice.id).await?;
                    tx.put_key(&HubKey { revision, ..laptop.clone() }).await
                })
                .await,
            ];
            for (place, result) in results.into_iter().enumerate() {
                assert!(matches!(result, Err(StoreError::Stale { .. })), "{place} at {revision}: {result:?}");
            }
        }
        let newer = Server { revision: 2, ..github.clone() };
        let result = write(&store, async |tx| tx.remove_server(&newer).await).await;
        assert!(matches!(result, Err(StoreError::Stale { .. })), "{result:?}");
        assert_eq!((revision(&store).await, records(&store).await), (1, 1));
        let world = store.load().await.unwrap().world.unwrap();
        assert_eq!(world.user(alice.id), Some(&alice));
        assert_eq!(store.credentials(alice.id, github.id).await.unwrap(), [token]);
    }

    async fn what_was_removed_is_not_changed_back_into_being(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (alice, github, staff) = (user("alice"), server("github"), group("staff"));
        let (token, site) = (sealed("TOKEN", Some(&alice), &github), sealed("SITE", None, &github));
        write(&store, async |tx| {
            tx.add_user(&alice).await?;
            tx.add_group(&staff).await?;
            tx.add_server(&github).await
        })
        .await
        .unwrap();
        let results = [
            write(&store, async |tx| tx.put_shared_value(&SealedValue { revision: 2, ..site.clone() }).await).await,
            write(&store, async |tx| {
                tx.act_for(alice.id).await?;
                tx.put_credential(alice.id, &SealedValue { revision: 2, ..token.clone() }).await
            })
            .await,
            write(&store, async |tx| {
                tx.put_membership(&Membership { revision: 1, ..membership(&staff, &alice) }).await
            })
            .await,
        ];
        for (place, result) in results.into_iter().enumerate() {
            assert!(matches!(result, Err(StoreError::Stale { .. })), "{place}: {result:?}");
        }
        assert!(store.credentials(alice.id, github.id).await.unwrap().is_empty());
        assert!(store.shared_values(github.id).await.unwrap().is_empty());
        assert_eq!(store.load().await.unwrap().world.unwrap().members(staff.id).count(), 0);
    }

    async fn who_comes_back_into_a_group_has_a_revision_of_her_own(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (alice, staff) = (user("alice"), group("staff"));
        let member = |revision| Membership { revision, ..membership(&staff, &alice) };
        write(&store, async |tx| {
            tx.add_user(&alice).await?;
            tx.add_group(&staff).await?;
            tx.put_membership(&member(0)).await?;
            tx.remove_membership(&member(2)).await?;
            tx.put_membership(&member(0)).await
        })
        .await
        .unwrap();
        let stale = write(&store, async |tx| tx.remove_membership(&member(2)).await).await;
        assert!(matches!(stale, Err(StoreError::Stale { .. })), "{stale:?}");
        write(&store, async |tx| tx.remove_membership(&member(4)).await).await.unwrap();
    }

    async fn a_taken_name_is_refused_and_nothing_written(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        write(&store, async |tx| {
            tx.add_user(&user("alice")).await?;
            tx.add_group(&group("tools")).await?;
            tx.add_server(&server("github")).await
        })
        .await
        .unwrap();
        let fresh = |name: &str| {
            let id = bytes("fresh");
            let (mut user, mut group, mut server) = (user("x"), group("x"), server("x"));
            (user.id, user.name) = (UserId::from_bytes(id), name.parse().unwrap());
            (group.id, group.name) = (GroupId::from_bytes(id), name.parse().unwrap());
            (server.id, server.name) = (ServerId::from_bytes(id), name.parse().unwrap());
            (user, group, server)
        };
        let results = [
            ("alice", write(&store, async |tx| tx.add_user(&fresh("alice").0).await).await),
            ("tools", write(&store, async |tx| tx.add_group(&fresh("tools").1).await).await),
            ("github", write(&store, async |tx| tx.add_group(&fresh("github").1).await).await),
            ("tools", write(&store, async |tx| tx.add_server(&fresh("tools").2).await).await),
            ("github", write(&store, async |tx| tx.add_server(&fresh("github").2).await).await),
        ];
        for (expected, result) in results {
            let Err(StoreError::Taken { name }) = result else { panic!("{expected}: {result:?}") };
            assert_eq!(name, expected);
        }
        assert_eq!((revision(&store).await, records(&store).await), (1, 1));
    }

    async fn what_does_not_exist_can_not_be_taken_away(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (alice, staff, github) = (user("alice"), group("staff"), server("github"));
        let results = [
            write(&store, async |tx| tx.remove_membership(&membership(&staff, &alice)).await).await,
            write(&store, async |tx| tx.remove_grant(&grant("g", &staff, &github)).await).await,
            write(&store, async |tx| tx.remove_group(&staff).await).await,
        ];
        for result in results {
            let refused = matches!(result, Err(StoreError::Missing { .. } | StoreError::Stale { .. }));
            assert!(refused, "{result:?}");
        }
        let result = write(&store, async |tx| tx.put_membership(&membership(&staff, &alice)).await).await;
        assert!(result.is_err(), "nobody is in a group that doesn't exist");
        assert_eq!(records(&store).await, 0);
    }
}
