//! What the store promises, on both databases.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

/// Makes of each scenario two tests: one on SQLite, one on PostgreSQL.
macro_rules! both {
    ($($(#[$meta:meta])* async fn $name:ident($database:ident: TestDatabase) $body:block)+) => {$(
        $(#[$meta])*
        async fn $name($database: mcphub_store::testing::TestDatabase) $body

        mod $name {
            use mcphub_store::testing::TestDatabase;

            #[tokio::test]
            async fn sqlite() {
                super::$name(TestDatabase::sqlite()).await;
            }

            #[tokio::test]
            async fn postgres() {
                super::$name(TestDatabase::postgres().await).await;
            }
        }
    )+};
}

mod build;
mod chains;
mod copy;
mod entities;
mod forge;
mod own_data;
mod privileges;
mod queue;
mod raw;
mod row_security;
mod schema;
mod search;
mod snapshot;
mod tampering;
mod tampering_at_random;
mod tidy;
mod vault_keys;
mod writes;
