//! Everything of the world comes back as it was stored.

use mcphub_domain::server::ServerState;
use mcphub_domain::user::{Auditor, UserState};
use mcphub_domain::{Group, HubKey, Role, Timestamp, Tool, ToolState};
use mcphub_policy::{Endpoint, World};
use mcphub_store::{Process, Store, StoreError};

use crate::build::{grant, group, key, membership, sealed, server, tool, user, write};
use crate::raw::Raw;

async fn world(store: &Store) -> World {
    store.load().await.unwrap().world.unwrap()
}

both! {
    async fn a_person_comes_back(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let mut alice = user("alice");
        write(&store, async |tx| tx.add_user(&alice).await).await.unwrap();
        assert_eq!(world(&store).await.user_named("alice"), Some(&alice));
        alice.email = None;
        (alice.role, alice.auditor, alice.state) = (Role::Viewer, Auditor::No, UserState::Disabled);
        alice.revision = 2;
        write(&store, async |tx| tx.put_user(&alice).await).await.unwrap();
        assert_eq!(world(&store).await.user(alice.id), Some(&alice));
    }

    async fn a_group_comes_back_with_members_and_grants(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (alice, staff, github) = (user("alice"), group("staff"), server("github"));
        let (mut member, grant) = (membership(&staff, &alice), grant("g", &staff, &github));
        write(&store, async |tx| {
            tx.add_user(&alice).await?;
            tx.add_group(&staff).await?;
            tx.add_server(&github).await?;
            tx.put_membership(&member).await?;
            tx.add_grant(&grant).await
        })
        .await
        .unwrap();
        let loaded = world(&store).await;
        let changed = Group { revision: 3, ..staff.clone() };
        assert_eq!(loaded.group_named("staff"), Some(&changed), "both changes count");
        member.revision = 2;
        assert_eq!(loaded.members(staff.id).collect::<Vec<_>>(), [&member]);
        assert_eq!(loaded.grants(staff.id).collect::<Vec<_>>(), [&grant]);
        member.expires_at = None;
        write(&store, async |tx| tx.put_membership(&member).await).await.unwrap();
        member.revision = 4;
        assert_eq!(world(&store).await.members(staff.id).collect::<Vec<_>>(), [&member]);
        write(&store, async |tx| {
            tx.remove_grant(&grant).await?;
            tx.remove_membership(&member).await
        })
        .await
        .unwrap();
        let loaded = world(&store).await;
        assert_eq!((loaded.members(staff.id).count(), loaded.grants(staff.id).count()), (0, 0));
    }

    async fn a_removed_group_takes_all_it_gave_along_and_frees_its_name(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (alice, mut staff, github) = (user("alice"), group("staff"), server("github"));
        write(&store, async |tx| {
            tx.add_user(&alice).await?;
            tx.add_group(&staff).await?;
            tx.add_server(&github).await?;
            tx.put_membership(&membership(&staff, &alice)).await?;
            tx.add_grant(&grant("g", &staff, &github)).await
        })
        .await
        .unwrap();
        staff.revision = 3;
        write(&store, async |tx| tx.remove_group(&staff).await).await.unwrap();
        let loaded = world(&store).await;
        assert_eq!((loaded.groups().count(), loaded.memberships(alice.id).count()), (0, 0));
        let heir = server("staff");
        write(&store, async |tx| tx.add_server(&heir).await).await.unwrap();
        assert_eq!(world(&store).await.path("staff"), Some(Endpoint::Server(heir.id)));
        let error = write(&store, async |tx| tx.remove_group(&staff).await).await.unwrap_err();
        assert!(matches!(error, StoreError::Stale { .. }), "{error}");
    }

    async fn a_server_comes_back_with_its_tools(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let mut github = server("github");
        let tools = [tool(&github, "look"), tool(&github, "name with \u{e9}, \" and spaces")];
        assert_eq!(store.listed_at(github.id).await.unwrap(), None);
        write(&store, async |tx| {
            tx.add_server(&github).await?;
            tx.put_tools(github.id, &tools).await
        })
        .await
        .unwrap();
        let loaded = world(&store).await;
        let entry = loaded.server_named("github").unwrap();
        assert_eq!(entry.server(), &github);
        assert_eq!(entry.tools().collect::<Vec<_>>(), [&tools[0].tool, &tools[1].tool]);
        assert_eq!(store.listed_at(github.id).await.unwrap(), Some(database.clock().now()));
        let mut stored = store.tools(github.id).await.unwrap();
        stored.sort_by(|one, other| one.tool.name.cmp(&other.tool.name));
        assert_eq!(stored[0].definition, tools[0].definition);

        let approved = Tool { state: ToolState::Approved, revision: 2, ..tools[0].tool.clone() };
        (github.state, github.revision) = (ServerState::Disabled, 2);
        write(&store, async |tx| {
            tx.put_tool(&approved).await?;
            tx.put_server(&github).await
        })
        .await
        .unwrap();
        let loaded = world(&store).await;
        let entry = loaded.server(github.id).unwrap();
        assert_eq!((entry.server(), entry.tool("look")), (&github, Some(&approved)));
        write(&store, async |tx| tx.remove_server(&github).await).await.unwrap();
        assert_eq!(world(&store).await.servers().count(), 0);
        assert!(store.tools(github.id).await.unwrap().is_empty());
    }

    async fn a_removed_server_takes_all_that_is_about_it_along(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (bob, staff, github) = (user("bob"), group("staff"), server("github"));
        write(&store, async |tx| {
            tx.add_user(&bob).await?;
            tx.add_group(&staff).await?;
            tx.add_server(&github).await?;
            tx.put_tools(github.id, &[tool(&github, "look")]).await?;
            tx.add_grant(&grant("g", &staff, &github)).await?;
            tx.put_shared_value(&sealed("SITE", None, &github)).await?;
            tx.act_for(bob.id).await?;
            tx.put_credential(bob.id, &sealed("TOKEN", Some(&bob), &github)).await
        })
        .await
        .unwrap();
        let before = world(&store).await;
        write(&store, async |tx| tx.remove_server(&github).await).await.unwrap();
        for table in ["tools", "grants", "shared_values", "credentials", "servers"] {
            let count = Raw::open(&database).await.number(&format!("SELECT COUNT(*) FROM {table}")).await;
            assert_eq!(count, 0, "{table}");
        }
        let after = store.refresh(&before).await.unwrap().world.unwrap();
        assert_eq!((after.grants(staff.id).count(), after.path("github")), (0, None));
    }

    async fn a_key_comes_back(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let alice = user("alice");
        let laptop = key("laptop", &alice);
        write(&store, async |tx| {
            tx.add_user(&alice).await?;
            tx.act_for(alice.id).await?;
            tx.add_key(&laptop).await
        })
        .await
        .unwrap();
        assert_eq!(world(&store).await.key(laptop.id), Some(&laptop));
        let time = |micros| Some(Timestamp::from_micros(micros));
        let revoked = HubKey { revoked_at: time(5), exposed_at: time(6), revision: 2, ..laptop };
        write(&store, async |tx| {
            tx.act_for(alice.id).await?;
            tx.put_key(&revoked).await
        })
        .await
        .unwrap();
        assert_eq!(world(&store).await.keys_of(alice.id).collect::<Vec<_>>(), [&revoked]);
    }
}
