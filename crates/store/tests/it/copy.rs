//! Copies: whole, of one moment, and the same on either database.

use mcphub_domain::{ChainId, Event, InstallId, WrapKeyId};
use mcphub_store::copy::{Import, layout};
use mcphub_store::testing::TestDatabase;
use mcphub_store::{Process, Store, StoreError};

use crate::build::{bytes, entry, grant, group, key, membership, note, sealed, server, tool, user, write};
use crate::raw::Raw;

/// Fills a store with something of everything.
async fn fill(database: &TestDatabase) -> Store {
    let store = database.open(Process::Command).await;
    store.install(InstallId::random(database.entropy())).await.unwrap();
    store.sealing_key(WrapKeyId::from_bytes([1; 16])).await.unwrap();
    store.vault_secret("pepper", &[0, 1, 254]).await.unwrap();
    let (alice, bob, staff, github) = (user("alice"), user("bob"), group("staff"), server("github"));
    write(&store, async |tx| {
        tx.add_user(&alice).await?;
        tx.add_user(&bob).await?;
        tx.add_group(&staff).await?;
        tx.add_server(&github).await?;
        tx.put_tools(github.id, &[tool(&github, "look"), tool(&github, "touch")]).await?;
        tx.put_membership(&membership(&staff, &alice)).await?;
        tx.add_grant(&grant("all", &staff, &github)).await?;
        tx.put_shared_value(&sealed("SITE", None, &github)).await
    })
    .await
    .unwrap();
    for owner in [&alice, &bob] {
        store.person_key(owner.id, &[9; 40]).await.unwrap();
        write(&store, async |tx| {
            tx.act_for(owner.id).await?;
            tx.add_key(&key(owner.name.as_str(), owner)).await?;
            let mut value = sealed("TOKEN", Some(owner), &github);
            value.id = mcphub_domain::CredentialId::from_bytes(bytes(owner.name.as_str()));
            tx.put_credential(owner.id, &value).await
        })
        .await
        .unwrap();
    }
    for number in 0..30 {
        store.audit().durable(note(&format!("é \"{number}\""))).await.unwrap();
    }
    store
}

/// Reads a copy as its lines, each with its table.
async fn lines(store: &Store) -> Vec<(&'static str, String)> {
    let ended = store.end().await.unwrap();
    let mut export = ended.export().await.unwrap();
    let mut lines = Vec::new();
    while let Some(page) = export.page().await.unwrap() {
        lines.extend(page.rows.into_iter().map(|row| (page.table, row)));
    }
    drop(export);
    ended.close().await;
    lines
}

async fn import(database: &TestDatabase, lines: &[(&'static str, String)]) -> Result<(), StoreError> {
    let chain = ChainId::from_bytes([7; 16]);
    let mut import = Import::begin(database.place(), chain, database.clock().clock()).await?;
    for (table, line) in lines {
        import.row(table, line).await?;
    }
    assert_eq!(import.verify(Vec::new()).await?.findings, []);
    import.commit(entry(Event::VaultUnsealed)).await
}

/// Copies from one database to another, and asks whether both hold the same.
async fn copied(from: TestDatabase, to: TestDatabase) {
    let before = lines(&fill(&from).await).await;
    assert!(before.iter().any(|(table, _)| *table == "credentials"));
    import(&to, &before).await.unwrap();
    let store = to.open(Process::Serve).await;
    assert_eq!(store.verify(Vec::new()).await.unwrap().findings, []);
    let alice = user("alice");
    assert_eq!(store.credentials(alice.id, server("github").id).await.unwrap().len(), 1);
    assert_eq!(store.load().await.unwrap().world.unwrap().users().count(), 2);
    let after = lines(&store).await;
    let (kept, new): (Vec<_>, Vec<_>) = after.into_iter().partition(|line| before.contains(line));
    assert_eq!(kept, before);
    // What names the new chain, the record of the copy, and the process that wrote it.
    assert!(
        new.iter().all(|(table, _)| ["audit_segments", "audit_named", "nodes"].contains(table)),
        "{new:?}"
    );
    drop(store);
    let again = import(&to, &before).await;
    assert!(matches!(again, Err(StoreError::Settings(_))), "it holds data: {again:?}");
}

#[tokio::test]
async fn either_database_is_filled_from_either() {
    copied(TestDatabase::sqlite(), TestDatabase::sqlite()).await;
    copied(TestDatabase::sqlite(), TestDatabase::postgres().await).await;
    copied(TestDatabase::postgres().await, TestDatabase::sqlite()).await;
    copied(TestDatabase::postgres().await, TestDatabase::postgres().await).await;
}

both! {
    async fn a_copy_has_every_table_and_column(database: TestDatabase) {
        database.open(Process::Command).await.close().await.unwrap();
        let mut raw = Raw::open(&database).await;
        let sql = match database.admin_url() {
            Some(_) => "SELECT table_name || '.' || column_name FROM information_schema.columns
                         WHERE table_schema = 'public' AND is_generated = 'NEVER'",
            None => "SELECT t.name || '.' || c.name FROM sqlite_master t, pragma_table_xinfo(t.name) c
                      WHERE t.type = 'table' AND c.hidden = 0",
        };
        let mut expected = raw.texts(sql).await;
        expected.retain(|name| !["schema_version.", "audit_index.", "audit_indexed."].iter().any(|left| name.starts_with(left)));
        expected.sort();
        let mut found: Vec<String> = layout()
            .flat_map(|(table, columns)| columns.into_iter().map(move |column| format!("{table}.{column}")))
            .collect();
        found.sort();
        assert_eq!(found, expected, "a new table has its place in store/src/copy/tables.rs");
    }

    async fn a_broken_copy_leaves_nothing(database: TestDatabase) {
        let whole = lines(&fill(&TestDatabase::sqlite()).await).await;
        let broken = |place: usize, line: &str| {
            let mut lines = whole.clone();
            lines[place].1 = line.to_owned();
            lines
        };
        for line in ["", "[]", "{}", "[1]", "[\"a\",\"b\",3,4,5,6,7,8,9,10]", "[null,null,null]"] {
            let error = import(&database, &broken(whole.len() - 1, line)).await.unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{line}: {error}");
        }
        let unknown = [("schema_version", "[99]".to_owned())];
        assert!(import(&database, &unknown).await.is_err());
        import(&database, &whole).await.unwrap();
    }
}
