//! Opening: schemas, the lock, migrations.

use mcphub_domain::{Entropy, InstallId};
use mcphub_store::prepare::prepare;
use mcphub_store::testing::TestDatabase;
use mcphub_store::{Process, StoreError};

use crate::raw::Raw;

both! {
    async fn preparing_and_opening_again_changes_nothing(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let id = store.install(InstallId::random(database.entropy())).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        if let Some((cluster, name)) = database.cluster() {
            let again = prepare(cluster, name, database.roles().unwrap(), database.entropy()).await.unwrap();
            assert_eq!(again.app.password(), None, "a login keeps its password");
        }
        let store = database.open(Process::Serve).await;
        assert_eq!(store.install(InstallId::random(database.entropy())).await.unwrap(), id);
        let mut raw = Raw::open(&database).await;
        assert_eq!(raw.number("SELECT COUNT(*) FROM schema_version").await, 4);
        assert_eq!(raw.number("SELECT MAX(version) FROM schema_version").await, 4);
    }

    async fn a_newer_schema_is_refused(database: TestDatabase) {
        database.open(Process::Serve).await.close().await.unwrap();
        Raw::open(&database).await.run("INSERT INTO schema_version (version) VALUES (99)").await.unwrap();
        let error = database.try_open(Process::Serve).await.err().unwrap();
        assert!(matches!(error, StoreError::NewerSchema { found: 99, known: 4 }), "{error}");
        assert_eq!(
            error.to_string(),
            "the database has schema 99, this version knows 4: start the newer version, or restore a backup"
        );
    }

    async fn a_data_directory_has_one_serve(database: TestDatabase) {
        let first = database.open(Process::Serve).await;
        let error = database.try_open(Process::Serve).await.err().unwrap();
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        let command = database.open(Process::Command).await;
        command.close().await.unwrap();
        first.close().await.unwrap();
        drop(first);
        database.open(Process::Serve).await;
    }

    async fn an_installation_has_one_id(database: TestDatabase) {
        let (one, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        let entropy = Entropy::fixed(5);
        let (first, second) = futures_util::join!(
            one.install(InstallId::random(&entropy)),
            other.install(InstallId::random(&entropy))
        );
        assert_eq!(first.unwrap(), second.unwrap());
        let second = "INSERT INTO install (only_row, id, created_at) VALUES (2, 'x', 0)";
        assert!(Raw::open(&database).await.run(second).await.is_err(), "a second row has no place");
    }

    async fn a_secret_of_the_hub_is_made_once(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        assert!(!store.has_secrets().await.unwrap());
        assert_eq!(store.vault_secret("pepper", b"first").await.unwrap(), b"first");
        assert_eq!(store.vault_secret("pepper", b"second").await.unwrap(), b"first");
        assert!(store.has_secrets().await.unwrap());
        store.install(InstallId::random(database.entropy())).await.unwrap();
        assert_eq!(store.signer().await.unwrap(), None);
        store.set_signer(&[1; 32]).await.unwrap();
        store.set_signer(&[2; 32]).await.unwrap();
        assert_eq!(store.signer().await.unwrap(), Some([1; 32]));
    }
}

#[tokio::test]
async fn an_unprepared_postgres_database_is_refused() {
    let database = TestDatabase::unprepared_postgres();
    let (cluster, name) = database.cluster().unwrap();
    Raw::login(cluster).await.run(&format!("CREATE DATABASE {name}")).await.unwrap();
    let error = database.try_open(Process::Serve).await.err().unwrap();
    assert!(matches!(error, StoreError::OlderSchema { found: 0, needed: 4 }), "{error}");
    assert!(error.to_string().contains("mcphub database prepare"), "{error}");
}
